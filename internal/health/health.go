// Package health is the shift check: what is wrong with the platform, since
// when, how long there is to respond and what to do next.
//
// Each check lives in a file of its own, as a constructor of a check.Probe from
// an Options with the little it needs of others. What holds for all of them:
//
//   - OK is said only of what was seen to be well. A source that is silent,
//     absent, not configured or makes no sense is Unknown, with the reason.
//   - What can be wrong apart, a container, an alert, a filesystem, is a part
//     with an ID of its own, so that it can be acknowledged apart. Where a check
//     has parts, all that makes it worse than OK is one of them.
//   - Alert names the row of the runbook's table of alerts that applies; from it
//     Evaluate fills priority, deadline and runbooks.
//   - Action is the next command to type.
//   - A result holds no secret: fingerprints only.
package health

import (
	"cmp"
	"slices"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// Entry is a result in its place among earlier checks.
type Entry struct {
	check.Result
	// Counts is the status as far as nobody has acknowledged it: what counts
	// towards the exit code.
	Counts check.Status `json:"counts_as"`
	// FirstSeen is when an unbroken row of checks first saw it not ok; zero if
	// it is ok.
	FirstSeen time.Time `json:"first_seen,omitzero"`
	Change    Change    `json:"change,omitempty"`
	Ack       *Ack      `json:"acknowledged,omitempty"`
	Parts     []Entry   `json:"parts,omitempty"` // in the place of Result's
}

// Broken says whether there is something to look at.
func (e *Entry) Broken() bool { return e.Status != check.OK }

// BrokenParts returns the parts that are not ok.
func (e *Entry) BrokenParts() []Entry {
	return slices.DeleteFunc(slices.Clone(e.Parts), func(p Entry) bool { return !p.Broken() })
}

// Change is what became of a problem since the shift before.
type Change string

// The changes; an Entry that was ok and is has none.
const (
	New   Change = "new"   // was ok, or was not there
	Worse Change = "worse" // was broken, and is graver now
	Still Change = "still"
)

// Cleared is a problem of the shift before that is gone.
type Cleared struct {
	Key       string       `json:"id"` // of the check, or check/part
	Status    check.Status `json:"status"`
	Summary   string       `json:"summary"`
	FirstSeen time.Time    `json:"first_seen"`
}

// Off is a check that was not made, and who said so.
type Off struct {
	ID  string `json:"id"`
	Why string `json:"why"` // the flag or key
}

// Report is a whole shift check.
type Report struct {
	At       time.Time
	Duration time.Duration
	// Status is the worst of what counts.
	Status  check.Status
	Entries []Entry // worst first
	Off     []Off
	// LastAt is when the check was made that this one is compared with, and
	// LastBy who made it, if a person did; zero if there is none.
	LastAt  time.Time
	LastBy  string
	Cleared []Cleared
}

// Evaluate makes a report of the results: it fills in priorities, deadlines and
// runbooks, compares with memory, and applies the acknowledgements. Handover is
// brought up to date; nil is an empty one.
func Evaluate(results []check.Result, off []Off, memory *Handover, now time.Time) Report {
	if memory == nil {
		memory = new(Handover)
	}
	memory.expire(now)
	rep := Report{At: now, Off: off}
	if b := memory.baseline(); b != nil {
		rep.LastAt, rep.LastBy = b.At, b.By
	}
	var ran []string
	for _, r := range results {
		e := memory.entry(r.ID, r, now)
		ran = append(ran, r.ID)
		rep.Entries = append(rep.Entries, e)
		rep.Status = check.Worst(rep.Status, e.Counts)
	}
	if len(results) == 0 {
		rep.Status = check.Unknown // nothing was looked at
	}
	rep.Cleared = memory.replace(ran, rep.Entries, now)
	sortEntries(rep.Entries)
	return rep
}

// Plain makes a report of results that stand for themselves: nothing is compared
// with earlier ones, and nothing has a priority or a time to respond.
func Plain(results []check.Result, off []Off, now time.Time) Report {
	rep := Report{At: now, Off: off, Status: check.WorstOf(results)}
	for _, r := range results {
		rep.Entries = append(rep.Entries, plainEntry(r))
	}
	sortEntries(rep.Entries)
	return rep
}

func plainEntry(r check.Result) Entry {
	e := Entry{Counts: r.Status}
	for _, p := range r.Parts {
		e.Parts = append(e.Parts, plainEntry(p))
	}
	r.Parts, r.Priority, r.Deadline = nil, "", time.Time{}
	e.Result = r
	return e
}

// sortEntries puts what counts most first; equals keep their order.
func sortEntries(entries []Entry) {
	for i := range entries {
		sortEntries(entries[i].Parts)
	}
	slices.SortStableFunc(entries, func(a, b Entry) int {
		return cmp.Or(
			cmp.Compare(b.Counts, a.Counts),
			cmp.Compare(b.Status, a.Status),
			cmp.Compare(urgency(a.Result), urgency(b.Result)),
			compareDeadlines(a.Deadline, b.Deadline),
		)
	})
}

// urgency orders by priority, what has none last.
func urgency(r check.Result) string { return cmp.Or(r.Priority, "P9") }

func compareDeadlines(a, b time.Time) int {
	switch {
	case a.IsZero() && b.IsZero():
		return 0
	case a.IsZero():
		return 1
	case b.IsZero():
		return -1
	}
	return a.Compare(b)
}

// complete fills in what the runbook says of a result's alert. firstSeen stands
// in for a beginning that is not known.
func complete(r *check.Result, firstSeen time.Time) {
	if r.Status == check.OK {
		return
	}
	since := firstSeen
	if !r.Since.IsZero() {
		since = r.Since
	}
	a, ok := runbook.AlertNamed(r.Alert)
	if !ok {
		if r.Priority == runbook.P4.String() && r.Deadline.IsZero() {
			r.Deadline = runbook.P4.Deadline(since)
		}
		return
	}
	if r.Priority == "" {
		r.Priority = a.Priority.String()
	}
	if r.Deadline.IsZero() {
		r.Deadline = since.Add(a.SLA)
	}
	if len(r.Runbooks) == 0 {
		r.Runbooks = a.Runbooks
	}
}

// inherit gives a check that says nothing of its urgency the most urgent of its
// parts'.
func (e *Entry) inherit() {
	if e.Priority != "" || !e.Broken() {
		return
	}
	for _, p := range e.Parts {
		if p.Priority == "" || !p.Broken() {
			continue
		}
		c := cmp.Compare(p.Priority, urgency(e.Result))
		if c < 0 || c == 0 && compareDeadlines(p.Deadline, e.Deadline) < 0 {
			e.Priority, e.Deadline, e.Runbooks = p.Priority, p.Deadline, p.Runbooks
			e.Alert = cmp.Or(e.Alert, p.Alert)
		}
	}
}
