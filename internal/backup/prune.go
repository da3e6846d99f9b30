package backup

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stellarescrow/escrowctl/internal/store"
)

// Retention says what to keep. The zero value keeps everything.
type Retention struct {
	Days    int // everything younger
	Daily   int // the newest of each of the last so many days that have one
	Weekly  int // likewise, ISO weeks
	Monthly int
}

func (r Retention) zero() bool { return r == Retention{} }

// unfinishedAge is how old an unfinished backup must be before it is pruned:
// older than any run may take.
const unfinishedAge = 24 * time.Hour

// Plan is what a prune would do.
type Plan struct {
	Keep   []Kept
	Delete []Copy
}

// Kept is a backup that stays, and why.
type Kept struct {
	Copy
	Reason string
}

// PlanPrune decides what retention removes from a store. Only good backups
// count towards what is kept, so that days of bad ones evict nothing; the
// newest good one always stays, and so does everything while there is none.
func PlanPrune(ctx context.Context, r store.Reader, n Naming, keep Retention, verified Verifications, now time.Time) (Plan, error) {
	copies, err := Copies(ctx, r, n)
	if err != nil {
		return Plan{}, err
	}
	verified.Mark(r.Location(), copies)
	return plan(copies, keep, now), nil
}

// plan decides over copies, oldest first.
func plan(copies []Copy, keep Retention, now time.Time) Plan {
	copies = slices.Clone(copies)
	slices.Reverse(copies) // newest first
	var p Plan
	buckets := newBuckets(keep)
	newest := -1
	for i, c := range copies {
		if trusted(c) {
			newest = i
			break
		}
	}
	for i, c := range copies {
		reason := ""
		switch {
		case c.Kind == Unfinished && newest >= 0 && now.Sub(c.Time) > unfinishedAge:
			// Nobody will finish it.
		case c.Kind == Unfinished:
			reason = "its run may still be at it"
		case keep.zero():
			reason = "no retention is set"
		case newest < 0 || i < newest:
			reason = "no good backup is newer"
		case i == newest:
			reason = "newest good backup"
			buckets.take(c)
		case keep.Days > 0 && now.Sub(c.Time) < time.Duration(keep.Days)*24*time.Hour:
			reason = fmt.Sprintf("younger than %d days", keep.Days)
			if trusted(c) {
				buckets.take(c)
			}
		case trusted(c) || c.Kind == Plain:
			reason = buckets.take(c)
		}
		if reason != "" {
			p.Keep = append(p.Keep, Kept{c, reason})
		} else {
			p.Delete = append(p.Delete, c)
		}
	}
	return p
}

// trusted says that a copy counts towards what is kept. For a plain one only a
// check speaks.
func trusted(c Copy) bool {
	if c.Kind == Plain {
		return c.Verified != nil && c.Verified.Verdict == Pass
	}
	return c.Sound()
}

// buckets fills the days, weeks and months that keep one backup each.
type buckets struct {
	left map[string]int
	seen map[string]bool
}

func newBuckets(r Retention) *buckets {
	return &buckets{left: map[string]int{"daily": r.Daily, "weekly": r.Weekly, "monthly": r.Monthly}, seen: map[string]bool{}}
}

// take returns the rule that keeps c, or "".
func (b *buckets) take(c Copy) string {
	year, week := c.Time.ISOWeek()
	reason := ""
	for _, slot := range []struct{ rule, key string }{
		{"daily", c.Time.Format("2006-01-02")}, {"weekly", fmt.Sprintf("%d-W%02d", year, week)}, {"monthly", c.Time.Format("2006-01")},
	} {
		key := slot.rule + slot.key
		if b.left[slot.rule] > 0 && !b.seen[key] {
			b.left[slot.rule]--
			b.seen[key] = true
			reason = slot.rule + " " + slot.key
		}
	}
	return reason
}

// Apply deletes what the plan says and returns the names of what is gone. The
// manifest goes first, so that no list ever calls the rest of a deleted backup
// good, and the dump last: what is left of one by a run that was killed has its
// name, and goes with the next prune.
func (p Plan) Apply(ctx context.Context, s store.Store) ([]string, error) {
	var gone []string
	for _, c := range p.Delete {
		if err := s.Delete(ctx, ManifestName(c.Name)); err != nil {
			return gone, err
		}
		if c.globals != "" {
			if err := s.Delete(ctx, c.globals); err != nil {
				return gone, err
			}
		}
		if err := s.Delete(ctx, c.Name); err != nil {
			return gone, err
		}
		gone = append(gone, c.Name)
	}
	return gone, nil
}
