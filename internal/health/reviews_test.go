package health

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
)

func TestReviews(t *testing.T) {
	now := time.Date(2026, 3, 3, 12, 0, 0, 0, time.UTC)
	open := Review{ID: "INC-1", Priority: "P1", Opened: now.Add(-24 * time.Hour), Due: now.Add(24 * time.Hour), Left: 3, Check: "escrowctl incident check INC-1"}
	with := func(r Review, f func(*Review)) Review { f(&r); return r }
	closed := with(open, func(r *Review) { r.Closed, r.Left = true, 0 })
	for _, tt := range []struct {
		name   string
		list   []Review
		err    error
		status check.Status
		says   string
		part   string // the first; "" for none
		action string
	}{
		{"none", nil, nil, check.OK, "none open", "", ""},
		{"closed", []Review{closed}, nil, check.OK, "0 open, 1 closed", "", ""},
		{"not asked for", []Review{with(open, func(r *Review) { r.Due = time.Time{} })}, nil, check.OK, "1 open", "", ""},
		{"open", []Review{closed, open}, nil, check.Warning, "INC-1 is open, due 2026-03-04 12:00 UTC: its check has 3 findings (1 open, 1 closed", "INC-1", "escrowctl incident check INC-1"},
		{"overdue", []Review{with(open, func(r *Review) { r.Due = now.Add(-3 * time.Hour) })}, nil, check.Critical, "INC-1 was due 3.0 h ago", "INC-1", "incident check"},
		{"whole", []Review{with(open, func(r *Review) { r.Left, r.Check = 0, "escrowctl incident close INC-1" })}, nil, check.Warning, "whole, to be closed", "INC-1", "incident close INC-1"},
		{"an action", []Review{with(closed, func(r *Review) { r.Actions, r.Overdue, r.Since = 2, []string{"alert (Ada)"}, now.Add(-time.Hour) })}, nil, check.Warning, "overdue corrective actions of review INC-1: 1: alert (Ada)", "INC-1:actions", "incident check"},
		{"unreadable", []Review{with(open, func(r *Review) { r.Problem = "no such \x1b file" })}, nil, check.Unknown, "its document cannot be read: no such", "INC-1", "incident check"},
		{"unreadable, not asked for", []Review{with(open, func(r *Review) { r.Due, r.Problem = time.Time{}, "gone" })}, nil, check.Unknown, "INC-1 is open: its document cannot be read: gone", "INC-1", "incident check"},
		{"unreadable, overdue", []Review{with(open, func(r *Review) { r.Due, r.Problem = now.Add(-time.Hour), "gone" })}, nil, check.Critical, "gone", "INC-1", "incident check"},
		{"unreadable, closed", []Review{with(closed, func(r *Review) { r.Problem = "gone" })}, nil, check.OK, "1 closed", "", ""},
		{"unreadable, closed, actions left", []Review{with(closed, func(r *Review) { r.Problem, r.Actions = "gone", 2 })}, nil, check.Unknown, "whether 2 actions are done is not known", "INC-1", "incident check"},
		{"records", nil, errors.New("reviews.json is damaged"), check.Unknown, "reviews.json is damaged", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := look(t, Reviews(ReviewsOptions{List: func() ([]Review, error) { return tt.list, tt.err }, Now: func() time.Time { return now }}))
			e := Evaluate([]check.Result{r}, nil, nil, now).Entries[0]
			if e.Status != tt.status || !strings.Contains(e.Summary, tt.says) || strings.Contains(e.Summary, "\x1b") {
				t.Errorf("got %s: %s", e.Status, e.Summary)
			}
			if (len(e.Parts) > 0) != (tt.part != "") {
				t.Fatalf("parts: %+v", e.Parts)
			}
			if tt.part == "" {
				return
			}
			p := e.Parts[0]
			if p.ID != tt.part || !strings.Contains(p.Action, tt.action) || len(p.Runbooks) == 0 {
				t.Errorf("%+v", p)
			}
			if tt.part == "INC-1" && !tt.list[len(tt.list)-1].Closed && (p.Priority != "P1" || !p.Deadline.Equal(tt.list[len(tt.list)-1].Due)) {
				t.Errorf("%s by %s", p.Priority, p.Deadline)
			}
		})
	}
}
