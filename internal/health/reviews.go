package health

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
)

// ReviewsID is the ID of the check of post-incident reviews.
const ReviewsID = "reviews"

// Review is a post-incident review as far as the check looks at it.
type Review struct {
	ID       string
	Priority string // P1 to P4; "" if it is not known
	Opened   time.Time
	// Due is by when it must be closed; zero where the runbook wants no review.
	Due    time.Time
	Closed bool
	Left   int    // findings of its own check
	Check  string // the command that shows them
	// Overdue are the corrective actions past their day, and Since the first of
	// these days.
	Overdue []string
	Since   time.Time
	Actions int // not done, overdue or not
	// Problem says why its document cannot be read; "" if it was.
	Problem string
}

// ReviewsOptions say which reviews there are.
type ReviewsOptions struct {
	List  func() ([]Review, error)
	Limit time.Duration
	Now   func() time.Time
}

// Reviews checks that the reviews of section 6.2 are written in time and their
// actions done. An open one is a warning until it is due, then critical; an
// action past its day is a warning.
func Reviews(opt ReviewsOptions) check.Probe {
	return check.Probe{ID: ReviewsID, Limit: orLimit(opt.Limit), Run: (&reviewsCheck{opt}).run}
}

type reviewsCheck struct{ ReviewsOptions }

func (x *reviewsCheck) run(context.Context) check.Result {
	r := check.Result{ID: ReviewsID}
	list, err := x.List()
	if err != nil {
		r.Status, r.Summary, r.Runbooks = check.Unknown, "the records of reviews: "+oneLine(err), []string{"6.2"}
		return r
	}
	var open, late, actions, overdue int
	for _, v := range list {
		actions, overdue = actions+v.Actions, overdue+len(v.Overdue)
		if !v.Closed {
			open++
		}
		if x.late(v) {
			late++
		}
		r.Parts = append(r.Parts, x.parts(v)...)
	}
	r.Status = check.Worst(check.OK, check.WorstOf(append(r.Parts, check.Result{})))
	for _, f := range []struct {
		name  string
		value int
	}{{"open", open}, {"overdue", late}, {"actions_open", actions}, {"actions_overdue", overdue}} {
		r.Figures = append(r.Figures, check.Figure{Name: f.name, Unit: "count", Value: float64(f.value)})
	}
	r.Summary = fmt.Sprintf("%d open, %d closed; %d actions to do", open, len(list)-open, actions)
	if len(list) == 0 {
		r.Summary = "none open"
	}
	if worst := gravest(r.Parts); worst != nil {
		r.Summary = worst.Summary + " (" + r.Summary + ")"
	}
	return r
}

// gravest is the worst part; nil if all are ok.
func gravest(parts []check.Result) *check.Result {
	var worst *check.Result
	for i := range parts {
		if parts[i].Status != check.OK && (worst == nil || parts[i].Status > worst.Status) {
			worst = &parts[i]
		}
	}
	return worst
}

func (x *reviewsCheck) late(v Review) bool {
	return !v.Closed && !v.Due.IsZero() && x.Now().After(v.Due)
}

// parts are the review and, apart, its actions: each can be acknowledged alone.
func (x *reviewsCheck) parts(v Review) []check.Result {
	var out []check.Result
	if p := x.part(v); p.Status != check.OK {
		out = append(out, p)
	}
	if len(v.Overdue) > 0 {
		out = append(out, check.Result{
			ID: v.ID + ":actions", Status: check.Warning, Since: v.Since, Action: v.Check, Runbooks: []string{"6.2"},
			Summary: fmt.Sprintf("overdue corrective actions of review %s: %d: %s", v.ID, len(v.Overdue), clean(strings.Join(v.Overdue, "; "))),
		})
	}
	return out
}

// part is the review itself.
func (x *reviewsCheck) part(v Review) check.Result {
	p := check.Result{ID: v.ID, Action: v.Check, Runbooks: []string{"6.2"}, Summary: "review " + v.ID}
	if !v.Closed {
		p.Priority, p.Deadline, p.Since = v.Priority, v.Due, v.Opened
	}
	switch {
	case x.late(v):
		p.Status, p.Since = check.Critical, v.Due
		p.Summary += " was due " + span(x.Now().Sub(v.Due)) + " ago"
	case !v.Closed && !v.Due.IsZero():
		p.Status = check.Warning
		p.Summary += " is open, due " + clock(v.Due) + " UTC"
	case !v.Closed:
		p.Summary += " is open"
	default:
		p.Summary += " is closed"
	}
	switch {
	case v.Problem != "" && (!v.Closed || v.Actions > 0):
		p.Status = check.Worst(p.Status, check.Unknown)
		p.Summary += ": its document cannot be read: " + clean(v.Problem)
		if v.Actions > 0 {
			p.Summary += fmt.Sprintf("; whether %d actions are done is not known", v.Actions)
		}
	case v.Left > 0:
		p.Summary += fmt.Sprintf(": its check has %d findings", v.Left)
	case !v.Closed:
		p.Summary += ": whole, to be closed"
	}
	return p
}
