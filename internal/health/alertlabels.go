package health

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// urgent is how urgent an alert is, and who says so.
type urgent struct {
	row    runbook.Alert // its Name is empty if it is not from the runbook's table
	known  bool          // there is a priority
	faults string        // of the labels; empty if there are none
}

// runbookRef is a numbered runbook or a section of the page.
var runbookRef = regexp.MustCompile(`^(RB-\d{3}|\d{1,2}(\.\d{1,2})?)$`)

// urgencyOf is the runbook's row of an alert's name. One that has none is as
// urgent as its rule says by its labels: priority or severity (P1 to P4), sla
// (15m, 4h) and runbook (RB-004, 2.1, or several with commas). Of a row with
// several runbooks the label picks those that apply.
func urgencyOf(labels map[string]string) urgent {
	refs := slices.DeleteFunc(strings.FieldsFunc(labels["runbook"], func(r rune) bool { return r == ',' || r == ' ' }),
		func(ref string) bool { return !runbookRef.MatchString(ref) })
	if row, ok := runbook.AlertNamed(labels["alertname"]); ok {
		among := func(ref string) bool { return slices.Contains(row.Runbooks, ref) }
		if refs = slices.DeleteFunc(refs, func(ref string) bool { return !among(ref) }); len(refs) > 0 {
			row.Runbooks = refs
		}
		return urgent{row: row, known: true}
	}
	u := urgent{row: runbook.Alert{Runbooks: refs}}
	for _, label := range []string{"priority", "severity"} {
		u.known = u.known || u.row.Priority.UnmarshalText([]byte(strings.ToUpper(labels[label]))) == nil
	}
	if p := labels["priority"]; !u.known && p != "" && p != "none" {
		u.faults = fmt.Sprintf("its label priority is %q, not P1 to P4", clean(p))
	}
	if sla := labels["sla"]; u.known && sla != "" {
		span, err := time.ParseDuration(sla)
		if err != nil || span <= 0 {
			u.faults = fmt.Sprintf("its label sla is %q, not a time like 4h", clean(sla))
		} else {
			u.row.SLA = span
		}
	}
	return u
}

// deadline is by when to respond to what began at a time.
func (u urgent) deadline(since time.Time) time.Time {
	switch {
	case !u.known || since.IsZero():
		return time.Time{}
	case u.row.SLA > 0:
		return since.Add(u.row.SLA)
	}
	return u.row.Priority.Deadline(since)
}

// apply gives an active alert's part its status and what is known of it.
func (u urgent) apply(p *check.Result, severity string) {
	switch {
	case !u.known:
		p.Status = check.Warning
		if severity == "critical" {
			p.Status = check.Critical
		}
		p.Summary += fmt.Sprintf(" (unmapped: no row of the runbook, severity %s)", cmp.Or(clean(severity), "not given"))
	case u.row.Priority > runbook.P2:
		p.Status = check.Warning
	default:
		p.Status = check.Critical
	}
	if u.known && u.row.SLA == 0 {
		p.Summary += fmt.Sprintf(" (unmapped: no row of the runbook, %s by its label)", u.row.Priority)
	}
	if u.faults != "" {
		p.Summary += " (" + u.faults + ")"
	}
	if u.row.Name != "" {
		p.Alert = u.row.Name
	}
	u.tell(p)
	p.Deadline = u.deadline(p.Since)
}

// tell gives a part the priority and the runbooks.
func (u urgent) tell(p *check.Result) {
	if u.known {
		p.Priority, p.Runbooks = u.row.Priority.String(), u.row.Runbooks
	}
}
