package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/incident"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

func (a *App) incidentCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check FILE...", Short: "find what a review lacks",
		Long: "Finds sections that are missing or empty, what is still to be written, actions\n" +
			"without an owner or a date, dates that cannot be, and what is overdue. A file\n" +
			"may also be named by the review's ID." +
			exitStatus("0  whole", "1  something is left to write, or an action is overdue", "2  the review is overdue, or a date cannot be", "3  no review, or it cannot be read"),
		Example: "  escrowctl incident check reviews/INC-20261124T183412Z.md\n  escrowctl incident check INC-20261124T183412Z --json",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &misuse{"incident check: of which review? give its file or ID: see 'escrowctl incident list'"}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return a.incidentCheck(args) },
	}
}

// checkedReview is a review with what was found.
type checkedReview struct {
	File     string             `json:"file"`
	ID       string             `json:"id,omitempty"`
	Priority string             `json:"priority,omitempty"`
	Due      time.Time          `json:"due_at,omitzero"`
	Closed   bool               `json:"closed"`
	Status   check.Status       `json:"status"`
	Error    string             `json:"error,omitempty"`
	Findings []incident.Finding `json:"findings"`
}

func (a *App) incidentCheck(words []string) error {
	d, err := a.open(looks)
	if err != nil {
		return err
	}
	defer d.close()
	scrub := d.textScrubber()
	status := check.OK
	rows := []checkedReview{}
	for _, word := range words {
		row := d.checkReview(word)
		for i := range row.Findings {
			row.Findings[i].What = scrub(row.Findings[i].What)
		}
		row.Error = scrub(row.Error)
		status = check.Worst(status, row.Status)
		rows = append(rows, row)
	}
	if a.asJSON() {
		err = a.io.JSON(ui.Document("reviews", rows))
	} else {
		err = a.showReviewed(rows)
	}
	if err == nil && status != check.OK {
		return &told{status}
	}
	return err
}

// checkReview checks one review, named by file or ID.
func (d *deps) checkReview(word string) checkedReview {
	row := checkedReview{File: word, Status: check.Unknown, Findings: []incident.Finding{}}
	r, err := d.reviewNamed(word)
	if err != nil {
		row.Error = err.Error()
		return row
	}
	// A document without an ID is checked too: it is one more finding.
	s := incident.Stand(r, d.reviewsDir(), d.app.io.Now())
	if s.Problem != nil {
		row.Error = s.Problem.Error()
		return row
	}
	row.File, row.ID, row.Due, row.Closed, row.Status = s.File, s.ID, s.Due, !s.Open(), s.Verdict.Status()
	if s.Priority != 0 {
		row.Priority = s.Priority.String()
	}
	row.Findings = append(row.Findings, s.Verdict.Findings...)
	return row
}

func (a *App) showReviewed(rows []checkedReview) error {
	var b strings.Builder
	for _, r := range rows {
		verdict := "whole"
		switch {
		case r.Error != "":
			verdict = r.Error
		case len(r.Findings) > 0:
			verdict = ui.Plural(len(r.Findings), "finding", "findings")
		}
		if !r.Due.IsZero() && !r.Closed {
			verdict += "; the review is due " + incident.Stamp(r.Due) + ", " + inFuture(r.Due.Sub(a.io.Now()))
		}
		fmt.Fprintf(&b, "%s  %s: %s\n", a.io.Paint(r.Status.String(), strings.ToUpper(r.Status.String())), ui.Clean(r.File), ui.Clean(verdict))
		for _, f := range r.Findings {
			where := "-"
			if f.Line > 0 {
				where = fmt.Sprint(f.Line)
			}
			fmt.Fprintf(&b, "  line %-4s %s\n", where, ui.Clean(f.What))
		}
	}
	_, err := fmt.Fprint(a.io.Out, b.String())
	return err
}
