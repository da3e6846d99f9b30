package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/incident"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

func (a *App) incidentListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "all reviews, the open ones first", Args: noArgs,
		Long: "Lists the reviews that are recorded here, and the documents in incident.dir of\n" +
			"which nothing is. With report.textfile_dir or a Pushgateway the numbers become\n" +
			"metrics." +
			exitStatus("0  nothing is open or overdue", "1  a review is open, or an action overdue", "2  a review is overdue", "3  a document with something left to do cannot be read"),
		Example: "  escrowctl incident list\n  escrowctl incident list --json",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.incidentList(cmd.Context()) },
	}
}

// listedReview is a review of the list.
type listedReview struct {
	ID       string            `json:"id"`
	Title    string            `json:"title"`
	Priority string            `json:"priority,omitempty"`
	Start    time.Time         `json:"started_at,omitzero"`
	End      time.Time         `json:"ended_at,omitzero"`
	State    string            `json:"state"` // open, overdue or closed
	Due      time.Time         `json:"due_at,omitzero"`
	Left     *int64            `json:"left_seconds,omitempty"`
	Closed   time.Time         `json:"closed_at,omitzero"`
	File     string            `json:"file"`
	Recorded bool              `json:"recorded"`
	Findings int               `json:"findings"`
	Actions  []incident.Action `json:"open_actions"`
	Overdue  int               `json:"overdue_actions"`
	Status   check.Status      `json:"status"`
	Problem  string            `json:"problem,omitempty"`
}

func listed(s incident.Standing, now time.Time) listedReview {
	open, overdue := s.OpenActions(now)
	r := listedReview{
		ID: s.ID, Title: s.Title, Start: s.Start, End: s.End, State: "open", Due: s.Due, Closed: s.Closed, File: s.File, Recorded: s.Recorded,
		Findings: len(s.Verdict.Findings), Actions: append([]incident.Action{}, open...), Overdue: len(overdue), Status: s.Status(now),
	}
	if s.Priority != 0 {
		r.Priority = s.Priority.String()
	}
	switch {
	case !s.Open():
		r.State = "closed"
	case s.Overdue(now):
		r.State = "overdue"
	}
	if s.Open() && !s.Due.IsZero() {
		left := int64(s.Due.Sub(now) / time.Second)
		r.Left = &left
	}
	if s.Problem != nil {
		r.Problem = s.Problem.Error()
	}
	return r
}

func (a *App) incidentList(ctx context.Context) error {
	d, err := a.open(looks)
	if err != nil {
		return err
	}
	defer d.close()
	all, err := d.standings()
	if err != nil {
		return err
	}
	status := check.OK
	rows := []listedReview{}
	for _, s := range all {
		r := listed(s, a.io.Now())
		status = check.Worst(status, r.Status)
		rows = append(rows, r)
	}
	slices.SortStableFunc(rows, func(x, y listedReview) int { // open first, then the latest
		if (x.State == "closed") != (y.State == "closed") {
			return strings.Compare(y.State, x.State)
		}
		return y.Start.Compare(x.Start)
	})
	if a.asJSON() {
		err = a.io.JSON(ui.Document("reviews", rows))
	} else {
		err = a.showReviews(rows)
	}
	d.sendReviews(ctx, all)
	if err == nil && status != check.OK {
		return &told{status}
	}
	return err
}

func (a *App) showReviews(rows []listedReview) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(a.io.Out, "there is no review; after a P1 or P2 incident: escrowctl incident new")
		return err
	}
	t := ui.NewTable("ID", "PRIO", "STATE", "DUE (UTC)", "ACTIONS", "STATUS", "TITLE")
	t.Whole, t.Status = map[int]bool{0: true, 3: true, 4: true}, 5
	for _, r := range rows {
		due := "none"
		if !r.Due.IsZero() {
			due = r.Due.UTC().Format("2006-01-02 15:04")
		}
		actions := fmt.Sprintf("%d open", len(r.Actions))
		if r.Overdue > 0 {
			actions = fmt.Sprintf("%d overdue", r.Overdue)
		}
		t.Row(r.ID, r.Priority, r.State, due, actions, r.Status.String(), r.Title)
	}
	if err := t.Write(a.io, a.io.Out); err != nil {
		return err
	}
	for _, r := range rows {
		if r.Problem != "" {
			a.io.Warn("%s: its document cannot be read: %s", r.ID, r.Problem)
		}
	}
	return nil
}

func (a *App) incidentCloseCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use: "close ID|FILE", Short: "close a review that is whole",
		Long: "Closes a review, if check finds nothing left to write. Being late keeps none\n" +
			"open. Its actions are watched until the document says that they are done. If\n" +
			"the document was moved, close it again by its new file." +
			exitStatus("0  closed", "3  not closed: something is left to write, or there is no such review"),
		Example: "  escrowctl incident close INC-20261124T183412Z\n  escrowctl incident close reviews/INC-20261124T183412Z.md --dry-run",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return &misuse{"incident close: give the ID or the file of one review: see 'escrowctl incident list'"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.incidentClose(cmd.Context(), args[0], dryRun) },
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say whether it would be closed; change nothing")
	return cmd
}

func (a *App) incidentClose(ctx context.Context, word string, dryRun bool) error {
	d, err := a.open(unless(dryRun))
	if err != nil {
		return err
	}
	defer d.close()
	if !dryRun {
		unlock, err := d.lockReviews()
		if err != nil {
			return err
		}
		defer unlock()
	}
	r, err := d.reviewNamed(word)
	if err != nil {
		return err
	}
	s, err := d.stood(r)
	if err != nil {
		return err
	}
	if !s.Verdict.Whole() {
		return &misuse{fmt.Sprintf("%s is not closed: %s: %s: see 'escrowctl incident check %s'", s.ID, ui.Plural(len(s.Verdict.Findings), "finding", "findings"), s.Verdict.Findings[0].What, s.File)}
	}
	if dryRun {
		_, err := fmt.Fprintf(a.io.Out, "would close %s (%s)\n", ui.Clean(s.ID), ui.Clean(s.File))
		return err
	}
	return d.closeReview(ctx, s)
}

// closeReview records that a review is closed, or if it was, where it is now and
// how it stands with its actions.
func (d *deps) closeReview(ctx context.Context, s incident.Standing) error {
	now := d.app.io.Now().UTC()
	text := fmt.Sprintf("review %s (%s) closed", s.ID, s.Priority)
	switch {
	case !s.Open():
		text = fmt.Sprintf("review %s was closed before; recorded anew", s.ID)
	case s.Overdue(now):
		text += fmt.Sprintf(", %s late", ui.Age(now.Sub(s.Due)))
	}
	rec := s.Record
	rec.Actions = s.Verdict.Actions
	if rec.Open() {
		rec.Closed, rec.ClosedBy = now, who()
	}
	if err := incident.Keep(d.state, rec); err != nil {
		return err
	}
	d.journal(ctx, operation("incident close", text))
	if all, err := d.standings(); err == nil {
		d.sendReviews(ctx, all)
	}
	if d.app.asJSON() {
		return d.app.io.JSON(ui.Document("review", rec))
	}
	open, _ := s.OpenActions(now)
	_, err := fmt.Fprintf(d.app.io.Out, "%s  %s; %s left to do\n", d.app.io.Paint("ok", "CLOSED"), ui.Clean(text), ui.Plural(len(open), "action is", "actions are"))
	return err
}
