package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/schedule"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

func (a *App) cronCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "cron", Short: "show, check and install the platform's crontab rows", GroupID: "setup", Args: noArgs,
		Long: "Shows what the crontabs of this host run and when, finds rows that cannot work,\n" +
			"and installs the runbook's. It reads crontabs as Debian's cron does.",
		Example: "  escrowctl cron list\n  escrowctl cron check\n  escrowctl cron install --dry-run",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.cronListCommand(), a.cronCheckCommand(), a.cronInstallCommand(), a.cronRemoveCommand())
	return cmd
}

func (a *App) cronListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "show each scheduled job with its last and next run", Args: noArgs,
		Long: "Lists the jobs of the runbook's schedule, and every other row that calls\n" +
			"escrowctl, with the last recorded run and the next time it is due. Times are\n" +
			"UTC; the rows' own are in the host's zone." +
			exitStatus("0  listed", "2  the crontabs could not be read"),
		Example: "  escrowctl cron list\n  escrowctl cron list --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withCron(cmd.Context(), a.cronList)
		},
	}
}

func (a *App) cronCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "find rows that are missing, wrong or run twice", Args: noArgs,
		Long: "Reads every crontab that you may read (as root those of all users) and finds:\n" +
			"jobs without a row, rows that are misspelt, that cron refuses, that hold a %\n" +
			"without a backslash, whose program or log cannot be used, that run beside an\n" +
			"old script or another row, and times that are not the runbook's." +
			exitStatus("0  nothing wrong", "1  warnings", "2  the backup's row is missing or cannot work", "3  a crontab could not be read"),
		Example: "  escrowctl cron check\n  escrowctl cron check -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withCron(cmd.Context(), a.cronCheck)
		},
	}
}

func (a *App) withCron(ctx context.Context, show func(*deps, *cronView) error) error {
	d, err := a.open(looks)
	if err != nil {
		return err
	}
	defer d.close()
	v, err := d.inspectCron(ctx)
	if err != nil {
		return &check.Error{Status: check.Unknown, Err: err}
	}
	return show(d, v)
}

// cronItem is a row of the list.
type cronItem struct {
	Job     string     `json:"job"`
	Command string     `json:"command"`
	Cron    string     `json:"cron,omitempty"`
	Zone    string     `json:"zone,omitempty"`
	Where   string     `json:"where,omitempty"`
	Last    *time.Time `json:"last_started,omitempty"`
	Outcome string     `json:"last_outcome,omitempty"`
	Took    *float64   `json:"last_duration_seconds,omitempty"`
	Next    *time.Time `json:"next,omitempty"`
}

func (a *App) cronList(d *deps, v *cronView) error {
	var items []cronItem
	for _, j := range v.Jobs {
		last, err := d.scheduledRuns(j.Job, 1)
		if err != nil {
			return err
		}
		rows := append(j.Rows, j.Scripts...)
		if len(rows) == 0 {
			rows = []schedule.Placed{{}}
		}
		for _, p := range rows {
			it := cronRow(p, v)
			it.Job = j.Name
			if p.Where == "" {
				it.Command = j.Command
			}
			if len(last) > 0 {
				r := last[0]
				it.Last, it.Outcome = &r.Start, r.Outcome
				if !r.End.IsZero() {
					took := r.End.Sub(r.Start).Seconds()
					it.Took = &took
				}
			}
			items = append(items, it)
		}
	}
	for _, p := range v.Others {
		it := cronRow(p, v)
		it.Job = p.Command
		items = append(items, it)
	}
	if a.asJSON() {
		return errors.Join(a.io.JSON(ui.Document("rows", items)), v.unread)
	}
	return errors.Join(a.showCron(items, v), v.unread)
}

func cronRow(p schedule.Placed, v *cronView) cronItem {
	it := cronItem{Command: p.Command, Where: p.Where}
	if p.Where == "" {
		return it
	}
	zone := p.Row.Location(v.host.Zone)
	it.Cron, it.Zone = p.Row.Spec.String(), zone.String()
	if p.Row.Err == nil && !p.Broken {
		if next := p.Row.Spec.Next(v.host.Now, zone).UTC(); !next.IsZero() {
			it.Next = &next
		}
	}
	return it
}

func (a *App) showCron(items []cronItem, v *cronView) error {
	now := a.io.Now()
	t := ui.NewTable("JOB", "CRON ("+v.host.Zone.String()+")", "LAST RUN", "NEXT (UTC)", "FROM")
	t.Whole[0], t.Whole[1], t.Whole[3] = true, true, true
	for _, it := range items {
		last, next, cron, where := "never", "-", it.Cron, it.Where
		if it.Last != nil {
			last = it.Outcome + " " + ui.Age(now.Sub(*it.Last)) + " ago"
		}
		if it.Next != nil {
			next = it.Next.Format("2006-01-02 15:04")
		}
		if where == "" {
			cron, where = "-", "no crontab"
		}
		t.Row(it.Job, cron, last, next, where)
	}
	if err := t.Write(a.io, a.io.Out); err != nil {
		return err
	}
	faults := 0
	for _, f := range v.Findings {
		if f.Status != check.OK {
			faults++
		}
	}
	if faults > 0 {
		_, err := fmt.Fprintf(a.io.Out, "\n%s: escrowctl cron check\n", ui.Plural(faults, "fault", "faults"))
		return err
	}
	return nil
}

// cronFindings adds to the crontabs' findings what the host lacks.
func (v *cronView) cronFindings() []schedule.Finding {
	found := v.Findings
	if v.daemon == "" {
		found = append([]schedule.Finding{{
			Status: check.Critical, Code: "no_daemon", Text: "no cron daemon runs on this host, so no row does",
			Action: "systemctl enable --now cron",
		}}, found...)
	}
	return found
}

func (a *App) cronCheck(_ *deps, v *cronView) error {
	found := v.cronFindings()
	status := check.OK
	for _, f := range found {
		status = check.Worst(status, f.Status)
	}
	if v.unread != nil {
		status = check.Worst(status, check.Unknown)
	}
	if err := a.showFindings(found, v, status); err != nil {
		return err
	}
	if v.unread != nil {
		return &check.Error{Status: status, Err: v.unread}
	}
	if status != check.OK {
		return &told{status}
	}
	return nil
}

func (a *App) showFindings(found []schedule.Finding, v *cronView, status check.Status) error {
	if a.asJSON() {
		return a.io.JSON(struct {
			SchemaVersion int                `json:"schema_version"`
			Status        check.Status       `json:"status"`
			Zone          string             `json:"zone"`
			Daemon        string             `json:"daemon,omitempty"`
			Findings      []schedule.Finding `json:"findings"`
		}{1, status, v.host.Zone.String(), v.daemon, append([]schedule.Finding{}, found...)})
	}
	for _, f := range found {
		word := f.Status.String()
		if f.Status == check.OK {
			word = "note"
		}
		line := f.Text
		if f.Job != "" {
			line = f.Job + ": " + line
		}
		if _, err := fmt.Fprintf(a.io.Out, "%s  %s\n", a.io.Paint(word, fmt.Sprintf("%-8s", word)), ui.Clean(line)); err != nil {
			return err
		}
		for _, more := range []struct{ label, text string }{{"in  ", f.Where}, {"do  ", f.Action}} {
			if more.text != "" {
				if _, err := fmt.Fprintf(a.io.Out, "          %s%s\n", more.label, ui.Clean(more.text)); err != nil {
					return err
				}
			}
		}
	}
	if status == check.OK {
		rows := 0
		for _, j := range v.Jobs {
			rows += len(j.Rows)
		}
		_, err := fmt.Fprintf(a.io.Out, "%s  %s of the schedule, nothing wrong\n", a.io.Paint("ok", "ok"), ui.Plural(rows, "row", "rows"))
		return err
	}
	return nil
}
