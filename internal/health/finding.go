package health

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// Limits returns the limits of a figure by its ID in the runbook, as the
// configuration has them. nil means the runbook's own.
type Limits func(id string) (runbook.Threshold, bool)

func (l Limits) of(id string) runbook.Threshold {
	if l != nil {
		if t, ok := l(id); ok {
			return t
		}
	}
	t, _ := runbook.ThresholdFor(id)
	return t
}

// finding is one thing that is not as it should be.
type finding struct {
	status   check.Status
	text     string
	action   string
	alert    string   // row of the runbook's alerts, if one applies
	runbooks []string // where to read on, if not where the row says
	since    time.Time
}

// findings gathers what a check with several figures saw, good and bad.
type findings struct {
	limits  Limits
	facts   []string // said when all is well
	notes   []string // further lines, whether or not
	bad     []finding
	figures []check.Figure
}

func (f *findings) fact(format string, args ...any) {
	f.facts = append(f.facts, fmt.Sprintf(format, args...))
}

func (f *findings) note(format string, args ...any) {
	f.notes = append(f.notes, fmt.Sprintf(format, args...))
}

func (f *findings) add(x finding) { f.bad = append(f.bad, x) }

// unknown adds what could not be found out.
func (f *findings) unknown(action, format string, args ...any) {
	f.add(finding{status: check.Unknown, text: fmt.Sprintf(format, args...), action: action})
}

// figure keeps a measured value that has no limits.
func (f *findings) figure(name, unit string, value float64) {
	f.figures = append(f.figures, check.Figure{Name: name, Unit: unit, Value: value})
}

// judge keeps a measured value with its limits and adds x if it is past one of
// them, with the status that belongs to it. It says whether it is.
func (f *findings) judge(name, id string, value float64, x finding) bool {
	t := f.limits.of(id)
	warning, critical := t.Warning, t.Critical
	f.figures = append(f.figures, check.Figure{Name: name, Unit: t.Unit, Value: value, Warning: &warning, Critical: &critical})
	level, ok := t.Judge(value)
	switch {
	case !ok:
		x.status = check.Unknown
		x.text = name + " is not a number"
	case level == runbook.Within:
		return false
	case level == runbook.Critical:
		x.status = check.Critical
		x.text += ", limit " + inUnit(t.Unit, critical)
	default:
		// A warning is not yet what the runbook's alert is about.
		x.status, x.alert = check.Warning, ""
		x.text += ", warning from " + inUnit(t.Unit, warning)
	}
	f.add(x)
	return true
}

// result puts it all together, the gravest first.
func (f *findings) result(id string) check.Result {
	r := check.Result{ID: id, Status: check.OK, Figures: f.figures}
	facts := strings.Join(f.facts, ", ")
	if len(f.bad) == 0 {
		r.Summary = facts
		if facts == "" { // nothing was seen, so nothing is good
			r.Status, r.Summary = check.Unknown, "nothing could be looked at"
		}
		r.Detail = f.notes
		return r
	}
	slices.SortStableFunc(f.bad, func(a, b finding) int { return int(b.status) - int(a.status) })
	first := f.bad[0]
	r.Status, r.Summary, r.Action = first.status, first.text, first.action
	r.Alert, r.Runbooks, r.Since = first.alert, first.runbooks, first.since
	for _, x := range f.bad[1:] {
		line := x.status.String() + ": " + x.text
		if x.action != "" {
			line += ": " + x.action
		}
		r.Detail = append(r.Detail, line)
	}
	if facts != "" {
		r.Detail = append(r.Detail, "otherwise: "+facts)
	}
	r.Detail = append(r.Detail, f.notes...)
	return r
}
