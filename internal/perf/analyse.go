package perf

import (
	"fmt"
	"slices"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// Options are how an analysis is made.
type Options struct {
	Limits Limits
	Top    int // rows of each list of queries, tables and so on
	// Threshold returns a row of the runbook with its limits as they are
	// configured; nil: the runbook's own.
	Threshold func(id string) (runbook.Threshold, bool)
}

// DefaultTop is the runbook's number of slow queries (section 4.1).
const DefaultTop = runbook.SlowQueries

// analysis is the making of a report.
type analysis struct {
	now, before *Snapshot // before may be nil
	opt         Options
	out         *Report
	// interval is the time that judged figures are from; 0 if it is not known.
	interval time.Duration
	// suggested keeps an index from being suggested twice.
	suggested map[string]bool
}

// Analyse holds a snapshot against the one before, which may be nil, and
// against the limits.
func Analyse(now, before *Snapshot, opt Options) *Report {
	if opt.Top <= 0 {
		opt.Top = DefaultTop
	}
	if opt.Threshold == nil {
		opt.Threshold = runbook.ThresholdFor
	}
	a := &analysis{now: now, before: before, opt: opt, suggested: map[string]bool{}, out: &Report{
		SchemaVersion: ReportVersion, TakenAt: now.TakenAt, Notes: []string{}, Findings: []Finding{}, Sources: append([]Source{}, now.Sources...),
	}}
	a.compare()
	a.sources()
	if now.Database != nil {
		a.database(now.Database, a.databaseBefore())
	}
	a.api()
	a.containers()
	a.redis()
	a.disks()
	rank(a.out.Findings)
	a.out.Status = check.OK
	for _, f := range a.out.Findings {
		a.out.Status = check.Worst(a.out.Status, f.Status)
	}
	return a.out
}

// compare settles whether there is something to compare with.
func (a *analysis) compare() {
	if a.before == nil {
		a.note("first analysis: nothing to compare with yet, all figures are since the servers' last reset")
		return
	}
	if a.before.SchemaVersion != SnapshotVersion || !a.before.TakenAt.Before(a.now.TakenAt) {
		a.note("the snapshot of %s cannot be compared with: another version, or not older", a.before.TakenAt.Format(time.RFC3339))
		a.before = nil
		return
	}
	since := a.before.TakenAt
	a.out.Since, a.interval = &since, a.now.TakenAt.Sub(since)
	a.out.Interval = a.interval.Seconds()
}

// databaseBefore is the same database in the snapshot before; nil without one.
func (a *analysis) databaseBefore() *Database {
	if a.before == nil || a.before.Database == nil {
		return nil
	}
	now, before := a.now.Database, a.before.Database
	if now.Server.OID != before.Server.OID || now.Server.Database != before.Server.Database {
		a.note("another database than last time (%s): its figures are since the last reset", before.Address)
		return nil
	}
	if now.Server.StartedAt.After(a.before.TakenAt) {
		a.note("PostgreSQL was restarted at %s", now.Server.StartedAt.UTC().Format(time.RFC3339))
	}
	return before
}

// shortInterval is the time below which an interval with too little in it is
// not judged by: whoever looks twice in a row wants to see the same findings.
const shortInterval = time.Hour

func (a *analysis) short() bool { return a.before != nil && a.interval < shortInterval }

func (a *analysis) note(format string, args ...any) {
	a.out.Notes = append(a.out.Notes, fmt.Sprintf(format, args...))
}

func (a *analysis) add(f Finding) {
	if f.Status != check.OK {
		a.out.Findings = append(a.out.Findings, f)
	}
}

// sources makes a line of each that could not be read.
func (a *analysis) sources() {
	for _, s := range a.now.Sources {
		if s.State != Failed && s.State != Partial {
			continue
		}
		f := Finding{Result: check.Result{ID: "source." + s.Name, Status: check.Unknown, Action: s.Remedy}, Object: s.Name, weight: 1}
		f.Summary = fmt.Sprintf("%s could not be read: %s", s.Name, s.Reason)
		if s.State == Partial {
			f.Summary = fmt.Sprintf("%s could be read only in part: %s", s.Name, s.Reason)
		}
		if s.Full {
			limit, _ := runbook.ThresholdFor(runbook.PostgresConnections)
			f.ID, f.Status, f.Alert, f.Action = "server.connections", check.Critical, "", limit.Action
			f.Summary = "no PostgreSQL connection is left, not even for this analysis: " + s.Reason
		}
		a.add(f)
	}
}

// largest returns the first n of a copy of list, ordered by weight.
func largest[T any](list []T, n int, weight func(T) float64) []T {
	out := slices.DeleteFunc(append([]T{}, list...), func(t T) bool { return weight(t) <= 0 })
	slices.SortStableFunc(out, func(a, b T) int {
		switch x, y := weight(a), weight(b); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	return out[:min(n, len(out))]
}

// since is a counter's growth; where it fell it was reset, and is all growth.
func since(now, before int64) int64 {
	if now < before {
		return now
	}
	return now - before
}

func share(part, whole float64) float64 {
	if whole <= 0 {
		return 0
	}
	return part / whole
}

func percent(ratio float64) string { return fmt.Sprintf("%.0f %%", 100*ratio) }

func millis(seconds float64) string {
	switch ms := seconds * 1000; {
	case ms >= 10_000:
		return fmt.Sprintf("%.1f s", seconds)
	case ms >= 100:
		return fmt.Sprintf("%.0f ms", ms)
	case ms >= 1:
		return fmt.Sprintf("%.1f ms", ms)
	default:
		return fmt.Sprintf("%.2f ms", ms)
	}
}
