package cli

import (
	"github.com/stellarescrow/escrowctl/internal/drtest"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// writeJUnit writes the checks of a test for a CI server.
func writeJUnit(path string, rep *drtest.Report) error {
	var cases []ui.Case
	for _, c := range rep.Checks {
		detail := c.Detail
		if c.Action != "" {
			detail = append(append([]string(nil), detail...), "next: "+c.Action)
		}
		cases = append(cases, ui.Case{Name: c.ID, Status: c.Status.String(), Text: c.Summary, Detail: detail})
	}
	return ui.WriteJUnit(path, "escrowctl dr-test", rep.Duration, cases)
}
