package cli

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/health"
	"github.com/stellarescrow/escrowctl/internal/incident"
	"github.com/stellarescrow/escrowctl/internal/report"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

const incidentJob = "incident"

func (a *App) incidentCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "incident", Short: "post-incident reviews: begun, checked, and not forgotten", GroupID: "ops", Args: noArgs,
		Long: "Keeps the post-incident reviews that the runbook wants after every P1 and P2\n" +
			"incident, within 48 hours. new begins the document, its timeline filled in;\n" +
			"check says what it lacks; what is open or overdue shows in shift-check.",
		Example: "  escrowctl incident new --priority P1 --start 14:05\n  escrowctl incident list",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.incidentNewCommand(), a.incidentCheckCommand(), a.incidentListCommand(), a.incidentCloseCommand())
	return cmd
}

// reviewsDir is where reviews are written, and looked for.
func (d *deps) reviewsDir() string {
	if d.cfg.Incident.Dir != "" {
		return d.cfg.Incident.Dir
	}
	return filepath.Join(d.state.Dir(), "reviews")
}

// standings are all reviews as they stand now.
func (d *deps) standings() ([]incident.Standing, error) {
	all, err := incident.Standings(d.state, d.reviewsDir(), d.app.io.Now())
	if err != nil {
		return nil, &check.Error{Status: check.Unknown, Err: err}
	}
	return all, nil
}

// lockReviews keeps others from changing the records of reviews.
func (d *deps) lockReviews() (unlock func(), err error) {
	lock, err := d.state.Lock(incidentJob)
	if err != nil {
		return nil, err
	}
	return func() { _ = lock.Unlock() }, nil
}

// reviewGauges are the metrics of all reviews. The due times let an alert fire
// without a further run.
func reviewGauges(all []incident.Standing, now time.Time) []report.Gauge {
	var open, overdue, unread, actions, late float64
	var due []report.Gauge
	for _, s := range all {
		left, over := s.OpenActions(now)
		actions, late = actions+float64(len(left)), late+float64(len(over))
		if s.Problem != nil && s.Status(now) != check.OK {
			unread++
		}
		if !s.Open() {
			continue
		}
		open++
		if s.Overdue(now) {
			overdue++
		}
		if !s.Due.IsZero() {
			due = append(due, report.Gauge{Name: "review_due_timestamp_seconds", Value: float64(s.Due.Unix()), Labels: map[string]string{"id": s.ID, "priority": s.Priority.String()}})
		}
	}
	return append(due,
		report.Gauge{Name: "reviews_open", Value: open},
		report.Gauge{Name: "reviews_overdue", Value: overdue},
		report.Gauge{Name: "reviews_unreadable", Value: unread},
		report.Gauge{Name: "actions_open", Value: actions},
		report.Gauge{Name: "actions_overdue", Value: late},
	)
}

// sendReviews writes the metrics, if there is where to.
func (d *deps) sendReviews(ctx context.Context, all []incident.Standing) {
	now := d.app.io.Now()
	rep := report.Report{Job: incidentJob, StartedAt: now, EndedAt: now, Success: true, Gauges: reviewGauges(all, now)}
	for _, p := range d.reporter.Send(context.WithoutCancel(ctx), rep) {
		d.app.io.Warn("report not delivered: %v", p)
	}
}

// reviewsProbe is the check of shift-check.
func (d *deps) reviewsProbe() check.Probe {
	return health.Reviews(health.ReviewsOptions{
		List: func() ([]health.Review, error) {
			all, err := d.standings()
			out := make([]health.Review, 0, len(all))
			for _, s := range all {
				out = append(out, checkedStanding(s, d.app.io.Now()))
			}
			return out, err
		},
		Limit: d.cfg.ShiftCheck.Timeout, Now: d.app.io.Now,
	})
}

func checkedStanding(s incident.Standing, now time.Time) health.Review {
	open, overdue := s.OpenActions(now)
	r := health.Review{
		ID: s.ID, Opened: s.Opened, Due: s.Due, Closed: !s.Open(), Left: len(s.Verdict.Findings), Actions: len(open),
		Check: "escrowctl incident check " + s.ID,
	}
	if !s.Recorded {
		r.Check = "escrowctl incident check " + s.File
	}
	if s.Priority != 0 {
		r.Priority = s.Priority.String()
	}
	if s.Open() && s.Problem == nil && s.Verdict.Whole() {
		r.Left, r.Check = 0, strings.Replace(r.Check, " check ", " close ", 1)
	}
	if s.Problem != nil {
		r.Problem = s.Problem.Error()
	}
	for _, a := range overdue {
		r.Overdue = append(r.Overdue, fmt.Sprintf("%s (%s, %s)", a.Text, a.Owner, a.Due.Format(time.DateOnly)))
		if r.Since.IsZero() || a.Due.Before(r.Since) {
			r.Since = a.Due
		}
	}
	return r
}

// reviewNamed finds a review by its ID, or by the file of its document.
func (d *deps) reviewNamed(word string) (incident.Record, error) {
	kept, err := incident.Records(d.state)
	if err != nil {
		return incident.Record{}, &check.Error{Status: check.Unknown, Err: err}
	}
	for _, r := range kept {
		if strings.EqualFold(r.ID, word) {
			return r, nil
		}
	}
	path, err := filepath.Abs(word)
	if err != nil {
		return incident.Record{}, err
	}
	doc, err := incident.Read(path)
	if err != nil {
		return incident.Record{}, &misuse{fmt.Sprintf("%s is neither the ID of a review ('escrowctl incident list') nor a review's file: %v", ui.Clean(word), err)}
	}
	v := incident.Check(doc, d.app.io.Now(), false)
	for _, r := range kept {
		if r.ID == v.ID {
			r.File = path
			return r, nil
		}
	}
	return incident.Record{ID: v.ID, Title: doc.Title, Priority: v.Priority, Start: v.Start, End: v.End, Due: v.Due, File: path}, nil
}

// stood is how it stands with a review whose document must be readable.
func (d *deps) stood(r incident.Record) (incident.Standing, error) {
	s := incident.Stand(r, d.reviewsDir(), d.app.io.Now())
	if s.Problem != nil {
		return s, &check.Error{Status: check.Unknown, Err: fmt.Errorf("review %s: %w", cmp.Or(r.ID, r.File), s.Problem)}
	}
	if r.ID == "" {
		return s, &misuse{fmt.Sprintf("%s has no line \"ID\": write one, such as %s", r.File, incident.NewID(d.app.io.Now(), nil))}
	}
	return s, nil
}
