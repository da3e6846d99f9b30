package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/journal"
	"github.com/stellarescrow/escrowctl/internal/keys"
	"github.com/stellarescrow/escrowctl/internal/report"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

func (a *App) rotateStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "where every rotation stands, and what comes next", Args: noArgs,
		Example: "  escrowctl rotate-keys status\n  escrowctl rotate-keys status --json",
		RunE:    func(*cobra.Command, []string) error { return a.rotationStatus() },
	}
}

// rotationStatus reads the state directory only: it works with the platform
// down.
func (a *App) rotationStatus() error {
	d, err := a.open(looks)
	if err != nil {
		return err
	}
	defer d.close()
	type row struct {
		keys.Rotation
		Next string `json:"next,omitempty"`
	}
	rows := []row{}
	for _, name := range append(append(keyLists(), passwords()...), keys.CredentialsName) {
		r := &keys.Rotator{Secret: name, Docs: d.state}
		rot, found, err := r.Current()
		if err != nil {
			return err
		}
		if found {
			rows = append(rows, row{rot, nextStep(rot, a.io.Now())})
		}
	}
	if a.asJSON() {
		return a.io.JSON(ui.Document("rotations", rows))
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(a.io.Out, "no rotation has been begun here: escrowctl rotate-keys start API_KEYS\nwhat is due: escrowctl rotate-keys due")
		return err
	}
	for _, r := range rows {
		_, _ = fmt.Fprintf(a.io.Out, "%s  %s\n", r.Secret, r.Stage)
		for _, s := range r.Steps {
			_, _ = fmt.Fprintf(a.io.Out, "  %s  %-11s %s%s\n", s.At.Format("2006-01-02 15:04 MST"), s.Stage, ui.Clean(s.By), ui.Clean(reason(s.Why)))
		}
		_, _ = fmt.Fprintf(a.io.Out, "  old   %s\n  new   %s\n", strings.Join(r.Old, " "), strings.Join(r.New, " "))
		if r.Next != "" {
			_, _ = fmt.Fprintf(a.io.Out, "  next  %s\n", r.Next)
		}
	}
	return nil
}

func reason(why string) string {
	if why == "" {
		return ""
	}
	return "  (" + why + ")"
}

func (a *App) rotateDueCommand() *cobra.Command {
	var ics string
	cmd := &cobra.Command{
		Use: "due", Short: "when each secret is due, as table or calendar", Args: noArgs,
		Long: "Lists every secret of the runbook with its last rotation as far as it is known\n" +
			"here, and the day by which the next is due. With report.textfile_dir or a\n" +
			"Pushgateway the due dates become metrics." +
			exitStatus("0  nothing is overdue", "1  something is overdue", "3  of a secret that has a frequency no rotation is known"),
		Example: "  escrowctl rotate-keys due\n  escrowctl rotate-keys due --ics /srv/calendar/rotations.ics",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.rotateDue(cmd.Context(), ics) },
	}
	cmd.Flags().StringVar(&ics, "ics", "", "also write the due dates as a calendar `file`")
	return cmd
}

func (a *App) rotateDue(ctx context.Context, ics string) error {
	d, err := a.open(looks)
	if err != nil {
		return err
	}
	defer d.close()
	last, err := keys.Last(d.state)
	if err != nil {
		return err
	}
	now := a.io.Now()
	due := keys.Due(now, last)
	if ics != "" {
		if err := writeCalendar(ics, keys.Calendar(now, due)); err != nil {
			return err
		}
	}
	status := check.OK
	for _, one := range due {
		status = check.Worst(status, dueStatus(one))
	}
	if err := a.showDue(due); err != nil {
		return err
	}
	a.sendDue(ctx, d, due, status)
	if status != check.OK {
		return &told{status}
	}
	return nil
}

// writeCalendar replaces the calendar as a whole.
func writeCalendar(path string, text []byte) error {
	// It is for everybody to read, and may lie where others can write.
	if err := renameio.WriteFile(path, text, 0o644, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o644)); err != nil {
		return fmt.Errorf("--ics: %w", err)
	}
	return nil
}

func dueStatus(d keys.Deadline) check.Status {
	switch {
	case d.Overdue():
		return check.Warning
	case d.Every > 0 && !d.Known():
		return check.Unknown
	}
	return check.OK
}

func (a *App) showDue(due []keys.Deadline) error {
	type row struct {
		Secret      string       `json:"secret"`
		Frequency   string       `json:"frequency"`
		LastRotated time.Time    `json:"last_rotated_at,omitzero"`
		Due         time.Time    `json:"due_at,omitzero"`
		Left        *int64       `json:"left_seconds,omitempty"`
		Status      check.Status `json:"status"`
	}
	rows := make([]row, 0, len(due))
	t := ui.NewTable("SECRET", "EVERY", "LAST", "DUE", "LEFT", "STATUS")
	day := func(at time.Time) string {
		if at.IsZero() {
			return "unknown"
		}
		return at.UTC().Format(time.DateOnly)
	}
	for _, d := range due {
		r := row{Secret: d.Secret, Frequency: d.Frequency, LastRotated: d.Last, Due: d.Due, Status: dueStatus(d)}
		left := ""
		if d.Known() {
			seconds := int64(d.Left / time.Second)
			r.Left = &seconds
			left = fmt.Sprintf("%d days", int(d.Left/runbook.Day))
		}
		rows = append(rows, r)
		dueText := day(d.Due)
		if d.Every == 0 {
			dueText = "by policy"
		}
		t.Row(d.Secret, strings.TrimSuffix(d.Frequency, " or on breach"), day(d.Last), dueText, left, r.Status.String())
	}
	if a.asJSON() {
		return a.io.JSON(ui.Document("secrets", rows))
	}
	return t.Write(a.io, a.io.Out)
}

// secretsJob is of metrics only: escrowctl_secrets_...
const secretsJob = "secrets"

// sendDue writes the metrics, if there is where to.
func (a *App) sendDue(ctx context.Context, d *deps, due []keys.Deadline, status check.Status) {
	rep := report.Report{Job: secretsJob, StartedAt: a.io.Now(), EndedAt: a.io.Now(), Success: true, ExitCode: status.ExitCode()}
	for _, one := range due {
		label := map[string]string{"secret": one.Secret}
		if one.Known() {
			// The time, not what is left until then: nobody may write it for long.
			rep.Gauges = append(rep.Gauges, report.Gauge{Name: "due_timestamp_seconds", Value: float64(one.Due.Unix()), Labels: label})
		}
		if one.Every > 0 {
			rep.Gauges = append(rep.Gauges, report.Gauge{Name: "rotation_known", Value: boolValue(one.Known()), Labels: label})
		}
	}
	for _, p := range d.reporter.Send(ctx, rep) {
		a.io.Warn("report not delivered: %v", p)
	}
}

func (a *App) rotateRecordCommand() *cobra.Command {
	var on, why string
	var dryRun bool
	var all []string
	for _, s := range runbook.Secrets() {
		all = append(all, s.Name)
	}
	all = append(all, s3Word)
	args, names := secretArg(all)
	cmd := &cobra.Command{
		Use: "record SECRET", Short: "note a rotation that was done by hand", Args: args, ValidArgs: names,
		Long:    "Notes when a secret was rotated without escrowctl, for due and shift-check, and\nin the journal. S3 stands for the S3 credentials.",
		Example: "  escrowctl rotate-keys record POSTGRES_PASSWORD --on 2026-11-02\n  escrowctl rotate-keys record S3",
		RunE: func(cmd *cobra.Command, args []string) error {
			at := a.io.Now().UTC()
			if on != "" {
				day, err := time.Parse(time.DateOnly, on)
				if err != nil || day.After(at) {
					return &misuse{fmt.Sprintf("--on %q: write the day as 2026-11-02, not in the future", on)}
				}
				at = day
			}
			return a.rotateRecord(cmd.Context(), args[0], at, why, dryRun)
		},
	}
	cmd.Flags().StringVar(&on, "on", "", "the `day` it was rotated, as 2026-11-02 (default today)")
	cmd.Flags().StringVar(&why, "why", "", "the `reason`, for the journal")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be noted; change nothing")
	return cmd
}

func (a *App) rotateRecord(ctx context.Context, name string, at time.Time, why string, dryRun bool) error {
	if name == s3Word {
		name = keys.CredentialsName
	}
	text := fmt.Sprintf("%s was rotated by hand on %s", name, at.Format(time.DateOnly))
	if dryRun {
		_, err := fmt.Fprintln(a.io.Out, "would note: "+text)
		return err
	}
	d, err := a.open(changes)
	if err != nil {
		return err
	}
	defer d.close()
	return a.job(ctx, d, rotateJob, func(ctx context.Context) (Outcome, error) {
		err := keys.Record(d.state, keys.Rotated{Secret: name, At: at, By: who(), How: "by-hand", Why: why})
		if err != nil {
			return Outcome{}, err
		}
		d.journal(ctx, journal.Entry{Type: "config", Command: "rotate-keys record", Summary: text, Why: why, Outcome: "ok"})
		_, _ = fmt.Fprintln(a.io.Out, text)
		return Outcome{Verdict: text}, nil
	})
}
