package schedule

import (
	"slices"
	"time"
)

// Run is a run that was recorded.
type Run struct {
	Start time.Time
	End   time.Time // zero if it runs still, or its end is not known
	// Running says that it has begun and not ended.
	Running bool
	// Outcome is how it ended, in the words of the record.
	Outcome string
}

// State is what became of a time at which a row was due.
type State string

// The states.
const (
	Ran     State = "ran"
	Late    State = "late"    // it ran, but begun long after it was due
	Running State = "running" // it has begun and not ended
	Skipped State = "skipped" // the run before was not done yet
	Pending State = "pending" // due just now
	Missed  State = "missed"
)

// Due is a time at which a row was due and what became of it.
type Due struct {
	At    time.Time
	State State
	Run   *Run          // the run of that time, or for Skipped the one before
	Delay time.Duration // from At to the run's start
}

const (
	// early is by how much a run may begin before it is due: clocks are set.
	early = 30 * time.Second
	// soon is how long after it is due a run may take to be recorded.
	soon = 2 * time.Minute
	// LateAfter is the delay from which on a run counts as late. Cron begins
	// within a second or so; a host that was off, or a person, takes longer.
	LateAfter = 10 * time.Minute
)

// Match says what became of each of the times due, which are in order: each has
// the first run that began from then on and before the next, which is the time
// after the last. runs are in any order.
func Match(due []time.Time, next time.Time, runs []Run, now time.Time) []Due {
	runs = slices.Clone(runs)
	slices.SortStableFunc(runs, func(a, b Run) int { return a.Start.Compare(b.Start) })
	out := make([]Due, 0, len(due))
	for i, at := range due {
		until := next
		if i+1 < len(due) {
			until = due[i+1]
		}
		out = append(out, match(at, until, runs, now))
	}
	return out
}

func match(at, until time.Time, runs []Run, now time.Time) Due {
	d := Due{At: at}
	var before *Run
	for i := range runs {
		r := &runs[i]
		begun := r.Start.Add(early)
		if begun.Before(at) {
			if r.Running || r.End.After(at) {
				before = r
			}
			continue
		}
		if !until.IsZero() && !begun.Before(until) {
			break
		}
		d.Run, d.Delay = r, max(0, r.Start.Sub(at))
		switch {
		case r.Running:
			d.State = Running
		case d.Delay > LateAfter:
			d.State = Late
		default:
			d.State = Ran
		}
		return d
	}
	switch {
	case before != nil:
		d.State, d.Run = Skipped, before
	case now.Sub(at) < soon:
		d.State = Pending
	default:
		d.State = Missed
	}
	return d
}

// Overlap is a run that began while another was not done.
type Overlap struct{ First, Second Run }

// Overlaps returns the runs that went on at the same time, the latest last.
func Overlaps(runs []Run) []Overlap {
	runs = slices.Clone(runs)
	slices.SortStableFunc(runs, func(a, b Run) int { return a.Start.Compare(b.Start) })
	var out []Overlap
	for i, second := range runs {
		for _, first := range runs[:i] {
			if first.Running || first.End.After(second.Start) {
				out = append(out, Overlap{first, second})
			}
		}
	}
	return out
}
