package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/perf"
	"github.com/stellarescrow/escrowctl/internal/postgres"
	"github.com/stellarescrow/escrowctl/internal/report"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

const maintainJob = "perf-maintain"

type maintainFlags struct {
	all, reindex, enable, dry bool
	within, lockTimeout       time.Duration
}

func (a *App) perfMaintainCommand() *cobra.Command {
	var f maintainFlags
	cmd := &cobra.Command{
		Use: "maintain", Short: "vacuum and analyze what needs it, rebuild indexes", Args: noArgs,
		Long: "Runs VACUUM (ANALYZE) on the tables that need it, one at a time, and proves by\n" +
			"the server's own counters that it was done. What autovacuum is at, or somebody\n" +
			"holds a lock on, is left alone. Reads and writes go on meanwhile." +
			exitStatus("0  done, or nothing to do", "1  something was left alone or is not clean yet", "2  something failed"),
		Example: "  escrowctl perf maintain --dry-run\n  escrowctl perf maintain --within 2h\n  escrowctl perf maintain --reindex\n  escrowctl perf maintain --enable-statements",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.open(changes)
			if err != nil {
				return err
			}
			defer d.close()
			if f.dry {
				return a.planMaintenance(cmd.Context(), d, f)
			}
			return a.job(cmd.Context(), d, maintainJob, func(ctx context.Context) (Outcome, error) { return a.maintain(ctx, d, f) })
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.all, "all", false, "every table, needed or not")
	flags.BoolVar(&f.reindex, "reindex", false, "also rebuild invalid and bloated indexes")
	flags.BoolVar(&f.enable, "enable-statements", false, "only create pg_stat_statements in the database")
	flags.BoolVar(&f.dry, "dry-run", false, "only say what would be done")
	flags.DurationVar(&f.within, "within", 0, "begin nothing after this `time` (2h)")
	flags.DurationVar(&f.lockTimeout, "lock-timeout", 5*time.Second, "how `long` to wait for a lock on a table")
	cmd.MarkFlagsMutuallyExclusive("enable-statements", "all")
	cmd.MarkFlagsMutuallyExclusive("enable-statements", "reindex")
	return cmd
}

// perfWorker runs statements outside of transactions.
type perfWorker struct{ conn *pgx.Conn }

// Exec implements perf.Worker.
func (w *perfWorker) Exec(ctx context.Context, sql string) error {
	_, err := w.conn.Exec(ctx, sql)
	return err
}

// maintenance is the pair of sessions: one that works, one that looks.
type maintenance struct {
	worker *perfWorker
	look   *postgres.ReadOnly
	close  func()
}

func (d *deps) maintenance(ctx context.Context, lockTimeout time.Duration) (*maintenance, error) {
	sources := &perfSources{deps: d}
	look, target, _, err := sources.connect(ctx)
	if err != nil {
		return nil, err
	}
	work, err := sources.again(ctx, target)
	if err == nil {
		_, err = work.Exec(ctx, fmt.Sprintf("SET lock_timeout = %d; SET statement_timeout = 0", lockTimeout.Milliseconds()))
	}
	if err != nil {
		_ = look.Close(ctx)
		return nil, err
	}
	return &maintenance{&perfWorker{work}, postgres.NewReadOnly(look), func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = work.Close(ctx)
		_ = look.Close(ctx)
	}}, nil
}

func (f maintainFlags) options() perf.MaintainOptions {
	return perf.MaintainOptions{All: f.all, Reindex: f.reindex, Limits: perf.DefaultLimits()}
}

// planMaintenance says what would be done.
func (a *App) planMaintenance(ctx context.Context, d *deps, f maintainFlags) error {
	m, err := d.maintenance(ctx, f.lockTimeout)
	if err != nil {
		return d.scrub(err)
	}
	defer m.close()
	if f.enable {
		e, err := perf.EnableStatements(ctx, m.worker, m.look, a.io.Now, true)
		if err != nil {
			return err
		}
		return a.showEnabled(e, true)
	}
	db, err := perf.LoadForMaintenance(ctx, m.look, a.io.Now)
	if err != nil {
		return err
	}
	tasks := perf.PlanMaintenance(db, f.options())
	if a.asJSON() {
		return a.io.JSON(struct {
			SchemaVersion int         `json:"schema_version"`
			DryRun        bool        `json:"dry_run"`
			Tasks         []perf.Task `json:"tasks"`
		}{1, true, tasks})
	}
	if len(tasks) == 0 {
		_, err := fmt.Fprintln(a.io.Out, "nothing needs maintenance")
		return err
	}
	for _, t := range tasks {
		if _, err := fmt.Fprintf(a.io.Out, "%s;\n    -- %s, %s\n", ui.Clean(t.SQL), t.Reason, ui.Bytes(t.Bytes)); err != nil {
			return err
		}
	}
	return nil
}

func (a *App) maintain(ctx context.Context, d *deps, f maintainFlags) (Outcome, error) {
	m, err := d.maintenance(ctx, f.lockTimeout)
	if err != nil {
		return Outcome{}, err
	}
	defer m.close()
	if f.enable {
		e, err := perf.EnableStatements(ctx, m.worker, m.look, a.io.Now, false)
		if err != nil {
			return Outcome{}, err
		}
		out := Outcome{Verdict: "pg_stat_statements " + e.Version + " is there"}
		if e.Created {
			out.Verdict = "pg_stat_statements " + e.Version + " was created"
			out.Figures = map[string]any{"tasks": 1}
		}
		return out, a.showEnabled(e, false)
	}
	db, err := perf.LoadForMaintenance(ctx, m.look, a.io.Now)
	if err != nil {
		return Outcome{}, err
	}
	run := perf.Maintenance{Worker: m.worker, Look: m.look, Now: time.Now}
	if f.within > 0 {
		run.Until = time.Now().Add(f.within)
	}
	var shown *ui.Progress
	var of string
	run.Progress = func(t perf.Task, done, total int64) {
		if of != t.Object {
			if shown != nil {
				shown.Done()
			}
			shown, of = a.io.Progress(t.Kind+" "+t.Object), t.Object
		}
		shown.Set(done, total, func(n int64) string { return ui.Bytes(n * 8192) })
	}
	done := run.Run(ctx, perf.PlanMaintenance(db, f.options()))
	if shown != nil {
		shown.Done()
	}
	if err := a.showDone(done); err != nil {
		return Outcome{}, err
	}
	return maintainOutcome(done), nil
}

func maintainOutcome(done []perf.Done) Outcome {
	status := check.OK
	var good, dead, bytes int64
	first := ""
	for _, t := range done {
		status = check.Worst(status, t.Status)
		if t.Status == check.OK {
			good++
		} else if first == "" {
			first = fmt.Sprintf("; %s: %s", t.Object, t.Problem)
		}
		dead += t.DeadRows - t.DeadRowsAfter
		bytes += t.Bytes - t.BytesAfter
	}
	verdict := fmt.Sprintf("%d of %d done, %s dead rows fewer, %s given back%s", good, len(done), ui.Count(dead), ui.Bytes(max(0, bytes)), first)
	if len(done) == 0 {
		verdict = "nothing needs maintenance"
	}
	return Outcome{
		Status: status, Verdict: verdict,
		Figures: map[string]any{"tasks": len(done), "done": good, "dead_rows_removed": dead, "bytes_given_back": max(0, bytes)},
		Report: report.Report{Gauges: []report.Gauge{
			{Name: "tasks", Value: float64(len(done))},
			{Name: "dead_rows_removed", Value: float64(dead)},
		}},
	}
}

func (a *App) showDone(done []perf.Done) error {
	if a.asJSON() {
		return a.io.JSON(struct {
			SchemaVersion int         `json:"schema_version"`
			DryRun        bool        `json:"dry_run"`
			Tasks         []perf.Done `json:"tasks"`
		}{1, false, done})
	}
	if len(done) == 0 {
		_, err := fmt.Fprintln(a.io.Out, "nothing needs maintenance")
		return err
	}
	t := ui.NewTable("STATUS", "WHAT", "OBJECT", "TOOK", "DEAD ROWS", "SIZE")
	t.Status = 0
	t.Right = map[int]bool{3: true}
	for _, d := range done {
		dead := "-"
		if d.Kind == perf.KindVacuum {
			dead = ui.Count(d.DeadRows) + " > " + ui.Count(d.DeadRowsAfter)
		}
		t.Row(strings.ToUpper(d.Status.String()), d.Kind, d.Object, perfTime(d.Seconds), dead, ui.Bytes(d.Bytes)+" > "+ui.Bytes(d.BytesAfter))
	}
	if err := t.Write(a.io, a.io.Out); err != nil {
		return err
	}
	for _, d := range done {
		if d.Problem != "" {
			a.io.Warn("%s: %s", d.Object, d.Problem)
		}
	}
	return nil
}

func (a *App) showEnabled(e perf.Enabled, dry bool) error {
	if a.asJSON() {
		return a.io.JSON(struct {
			SchemaVersion int  `json:"schema_version"`
			DryRun        bool `json:"dry_run"`
			perf.Enabled
		}{1, dry, e})
	}
	text := fmt.Sprintf("pg_stat_statements %s is there already", e.Version)
	switch {
	case e.Created && dry:
		text = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements;\n    -- version " + e.Version
	case e.Created:
		text = fmt.Sprintf("OK  pg_stat_statements %s is created, and counts", e.Version)
	}
	_, err := fmt.Fprintln(a.io.Out, text)
	return err
}
