package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// runbookTable is one table of the runbook, for printing.
type runbookTable struct {
	name, short string
	data        func() any
	rows        func(*ui.Table)
	head        []string
}

func runbookTables() []runbookTable {
	return []runbookTable{
		{"alerts", "alerts with priority, SLA and runbook", func() any { return runbook.Alerts() }, func(t *ui.Table) {
			for _, r := range runbook.Alerts() {
				t.Row(r.Name, r.Priority.String(), ui.Age(r.SLA), strings.Join(r.Runbooks, " "))
			}
		}, []string{"ALERT", "PRIORITY", "SLA", "RUNBOOK"}},
		{"thresholds", "limits for warning and critical", func() any { return runbook.Thresholds() }, func(t *ui.Table) {
			for _, r := range runbook.Thresholds() {
				t.Row(r.ID, fmt.Sprint(r.Warning), fmt.Sprint(r.Critical), r.Unit)
			}
		}, []string{"FIGURE", "WARNING", "CRITICAL", "UNIT"}},
		{"secrets", "secrets and how often they rotate", func() any { return runbook.Secrets() }, func(t *ui.Table) {
			for _, r := range runbook.Secrets() {
				t.Row(r.Name, r.Frequency)
			}
		}, []string{"SECRET", "ROTATE"}},
		{"schedule", "what cron runs", func() any { return runbook.Schedule() }, func(t *ui.Table) {
			for _, r := range runbook.Schedule() {
				t.Row(r.Name, r.Spec, r.Log)
			}
		}, []string{"TASK", "CRON (UTC)", "LOG"}},
		{"changes", "who approves what", func() any { return runbook.Changes() }, func(t *ui.Table) {
			for _, r := range runbook.Changes() {
				t.Row(r.Name, r.Approval)
			}
		}, []string{"CHANGE", "APPROVED BY"}},
	}
}

func (a *App) runbookCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "runbook", Short: "print the runbook's tables, as escrowctl applies them", GroupID: "setup", Args: noArgs,
		Example: "  escrowctl runbook alerts\n  escrowctl runbook thresholds --json",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, table := range runbookTables() {
		cmd.AddCommand(&cobra.Command{
			Use: table.name, Short: table.short, Args: noArgs, Example: "  escrowctl runbook " + table.name,
			RunE: func(*cobra.Command, []string) error {
				if a.asJSON() {
					return a.io.JSON(ui.Document(table.name, table.data()))
				}
				t := ui.NewTable(table.head...)
				table.rows(t)
				return t.Write(a.io, a.io.Out)
			},
		})
	}
	return cmd
}
