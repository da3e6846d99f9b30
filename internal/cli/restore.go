package cli

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/backup"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/postgres"
	"github.com/stellarescrow/escrowctl/internal/report"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

type restoreFlags struct {
	where
	to        string
	tables    []string
	jobs      int
	clean     bool
	yes       bool
	swap      bool
	terminate bool
	noRoles   bool
	dryRun    bool
	identity  string
}

func (a *App) restoreCommand() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use: "restore [BACKUP] --to DATABASE", Short: "restore a backup into a database", Args: atMost(1),
		Long: "Verifies the backup, then loads it in parallel by its index, and compares the\n" +
			"rows and the schema restored with the manifest. The first error ends it and\n" +
			"is shown with its table and line. A database that holds tables is refused.\n\n" +
			"BACKUP is a name or time of 'backup list', a file, an s3:// URI, or latest.\n" +
			"DATABASE is the name of a database on DATABASE_URL's server (made if it does\n" +
			"not exist), a postgres:// URL, or env:NAME for a URL in a variable, which keeps\n" +
			"its password out of the process list." +
			exitStatus("0  restored, every row counted", "1  restored, but with --swap not all settings of the old database", "2  failed; the message says what the target holds now", "3  misuse, or nothing could be found out"),
		Example: "  escrowctl backup restore latest --to scratch\n" +
			"  escrowctl backup restore latest --to scratch --table trades --s3\n" +
			"  escrowctl backup restore 20260101T020000Z --to stellar_escrow --swap\n" +
			"  escrowctl backup restore latest --to env:RESTORE_URL",
		RunE: func(cmd *cobra.Command, args []string) error {
			what := "latest"
			if len(args) == 1 {
				what = args[0]
			}
			return a.restore(cmd.Context(), what, f)
		},
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.to, "to", "", "target `database`: a name, a URL, or env:NAME")
	fl.StringArrayVar(&f.tables, "table", nil, "only this `table` (repeatable), with its indexes")
	fl.IntVar(&f.jobs, "jobs", 0, "tables to load at once (default one a core)")
	fl.BoolVar(&f.clean, "clean", false, "delete everything in the target first; needs --yes")
	fl.BoolVar(&f.yes, "yes", false, "confirm --clean")
	fl.BoolVar(&f.swap, "swap", false, "restore beside the target, then exchange the two names")
	fl.BoolVar(&f.terminate, "terminate", false, "with --swap: end the sessions that use the target")
	fl.BoolVar(&f.noRoles, "no-roles", false, "do not create the backup's roles that are missing")
	fl.BoolVar(&f.dryRun, "dry-run", false, "say what would be restored, and do nothing")
	fl.StringVar(&f.identity, "identity", "", "age identity `file`, for an encrypted backup")
	return cmd
}

func (f restoreFlags) check() error {
	switch {
	case f.to == "":
		return &misuse{"restore where to? add --to with a database's name (--to scratch) or a postgres:// URL"}
	case f.clean && !f.yes:
		return &misuse{"--clean deletes everything in the target database: add --yes if that is what you want"}
	case f.swap && (f.clean || f.tables != nil):
		return &misuse{"--swap restores a whole backup beside the target: leave --clean and --table out"}
	case f.terminate && !f.swap:
		return &misuse{"--terminate belongs to --swap"}
	case f.jobs < 0:
		return &misuse{fmt.Sprintf("--jobs %d: a number from 1, or 0 for one a core", f.jobs)}
	}
	return nil
}

func (a *App) restore(ctx context.Context, what string, f restoreFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	d, err := a.open(changes)
	if err != nil {
		return err
	}
	defer d.close()
	ids, err := d.identities(f.identity)
	if err != nil {
		return err
	}
	target, err := d.restoreTarget(f.to)
	if err != nil {
		return err
	}
	if f.dryRun {
		at, err := d.locate(ctx, what, f.where)
		if err != nil {
			return err
		}
		return a.showWouldRestore(at, target, f)
	}
	return a.job(ctx, d, restoreJob, func(ctx context.Context) (Outcome, error) {
		at, err := d.locate(ctx, what, f.where)
		if err != nil {
			return Outcome{}, err
		}
		reach, err := d.reachable(ctx, target)
		if err != nil {
			return Outcome{}, err
		}
		checking, loading := a.io.Progress("verifying"), a.io.Progress("loading")
		res, err := backup.Restore(ctx, backup.RestoreOptions{
			Store: at.store, Name: at.name, Naming: d.naming(), Identities: ids, Connect: connector(reach), Database: target.Database(),
			Tables: slices.Clone(f.tables), Jobs: f.jobs, Clean: f.clean, Swap: f.swap, Terminate: f.terminate, NoRoles: f.noRoles, Now: a.io.Now, Log: a.io.Log,
			Verified: func(rep *backup.Report) {
				checking.Done()
				if rep.Verdict != backup.Pass {
					d.remember(at, rep, "restore", a.io.Now())
				}
				a.io.Log("verified %s: %s, %s rows in %s", at.name, rep.Verdict, ui.Count(rep.Rows), ui.Duration(rep.Duration))
				loading = a.io.Progress("loading")
			},
			Checking: func(done, total int64) { checking.Set(done, total, ui.Bytes) },
			Loading:  func(rows, of int64) { loading.Set(rows, of, ui.Count) },
		})
		checking.Done()
		loading.Done()
		if err != nil {
			return Outcome{}, err
		}
		if f.tables == nil && res.Check.Verdict == backup.Pass {
			// Before the load only its bytes were looked at.
			d.remember(at, res.Check, "restore", a.io.Now())
		}
		return a.restored(at, target, res)
	})
}

// showWouldRestore says what a restore would do.
func (a *App) showWouldRestore(at located, target *postgres.Target, f restoreFlags) error {
	if a.asJSON() {
		return a.io.JSON(struct {
			SchemaVersion int      `json:"schema_version"`
			DryRun        bool     `json:"dry_run"`
			Name          string   `json:"name"`
			Where         string   `json:"where"`
			Target        string   `json:"target"`
			Tables        []string `json:"tables,omitempty"` // none: all
			Clean         bool     `json:"clean"`
			Swap          bool     `json:"swap"`
		}{1, true, at.name, at.store.Location(), target.Display(), f.tables, f.clean, f.swap})
	}
	_, err := fmt.Fprintf(a.io.Out, "would verify %s in %s and restore it into %s\n", ui.Clean(at.name), ui.Clean(at.store.Location()), ui.Clean(target.Display()))
	return err
}

// restoreTarget reads --to.
func (d *deps) restoreTarget(to string) (*postgres.Target, error) {
	if name, ok := strings.CutPrefix(to, "env:"); ok {
		if v := d.app.variable(name); v != "" {
			d.scrubber = d.cfg.Scrubber(v)
			return parseTarget("--to env:"+name, v)
		}
		return nil, &misuse{fmt.Sprintf("--to env:%s: that variable is not set", name)}
	}
	if strings.Contains(to, "://") || strings.Contains(to, "=") {
		d.scrubber = d.cfg.Scrubber(to)
		if u, err := url.Parse(to); err == nil && u.User != nil {
			if _, has := u.User.Password(); has {
				d.app.io.Warn("the password in --to is visible to every user of this host in ps: use --to env:NAME")
			}
		}
		return parseTarget("--to", to)
	}
	if d.cfg.Database.URL.IsZero() {
		return nil, &misuse{fmt.Sprintf("--to %s: a database's name needs a server: set DATABASE_URL, or give a postgres:// URL", to)}
	}
	t, err := parseTarget("database.url", d.cfg.Database.URL.Reveal())
	if err != nil {
		return nil, err
	}
	return t.With(to), nil
}

func parseTarget(origin, raw string) (*postgres.Target, error) {
	t, err := postgres.Parse(raw)
	if err != nil {
		return nil, &misuse{fmt.Sprintf("%s: %v", origin, err)}
	}
	return t, nil
}

func connector(t *postgres.Target) backup.Connector {
	return func(ctx context.Context, database string) (*pgconn.PgConn, error) {
		conn, err := postgres.Connect(ctx, t.With(database), "escrowctl restore")
		if err != nil {
			return nil, err
		}
		return conn.PgConn(), nil
	}
}

func (a *App) restored(at located, target *postgres.Target, res *backup.Restored) (Outcome, error) {
	trades := int64(-1)
	for _, t := range res.Rows {
		if t.Table == "public.trades" {
			trades = t.Rows
		}
	}
	event := map[string]any{"source": "recovery", "type": "restore_complete", "backup": at.name, "ts": a.io.Now().Unix(), "rows": res.Total}
	if trades >= 0 {
		event["trades"] = trades
	}
	verdict := fmt.Sprintf("%s restored into %s: %s rows of %s in %s", at.name, target.Display(), ui.Count(res.Total), ui.Plural(len(res.Rows), "table", "tables"), ui.Duration(res.Duration))
	for _, w := range res.Warnings {
		a.io.Warn("%s", w)
	}
	out := Outcome{
		Status: restoreStatus(res), Verdict: verdict,
		Figures: map[string]any{"name": at.name, "target": target.Display(), "rows": res.Total, "tables": len(res.Rows), "spared_bytes": res.Spared, "old_name": res.OldName},
		Report: report.Report{
			Event: event, Text: "restore: " + verdict,
			Gauges: []report.Gauge{{Name: "rows", Value: float64(res.Total)}},
		},
	}
	return out, a.showRestored(at, target, res)
}

// restoreStatus is a warning where the restored database lacks something.
func restoreStatus(res *backup.Restored) check.Status {
	if len(res.Warnings) > 0 {
		return check.Warning
	}
	return check.OK
}

func (a *App) showRestored(at located, target *postgres.Target, res *backup.Restored) error {
	if a.asJSON() {
		type row struct {
			Table string `json:"table"`
			Rows  int64  `json:"rows"`
		}
		rows := make([]row, 0, len(res.Rows))
		for _, r := range res.Rows {
			rows = append(rows, row{r.Table, r.Rows})
		}
		return a.io.JSON(struct {
			SchemaVersion int          `json:"schema_version"`
			Status        check.Status `json:"status"`
			Name          string       `json:"name"`
			Target        string       `json:"target"`
			OldName       string       `json:"old_name,omitempty"`
			Warnings      []string     `json:"warnings,omitempty"`
			Rows          int64        `json:"rows"`
			Tables        []row        `json:"tables"`
			Roles         []string     `json:"roles_created,omitempty"`
			SchemaObjects int          `json:"schema_objects_compared"`
			Fetched       int64        `json:"fetched_bytes"`
			Spared        int64        `json:"spared_bytes"`
			Schema        float64      `json:"schema_seconds"`
			Load          float64      `json:"load_seconds"`
			Index         float64      `json:"index_seconds"`
			Duration      float64      `json:"duration_seconds"`
		}{1, restoreStatus(res), at.name, target.Display(), res.OldName, res.Warnings, res.Total, rows, res.Created, res.SchemaObjects, res.Fetched, res.Spared,
			res.Load.Schema.Seconds(), res.Load.Load.Seconds(), res.Load.Index.Seconds(), res.Duration.Seconds()})
	}
	t := ui.NewTable("TABLE", "ROWS", "MANIFEST")
	t.Right = map[int]bool{1: true, 2: true}
	for _, r := range res.Rows {
		t.Row(r.Table, ui.Count(r.Rows), ui.Count(r.Want))
	}
	if err := t.Write(a.io, a.io.Out); err != nil {
		return err
	}
	lines := []string{fmt.Sprintf("\n%s  %s rows of %s restored into %s in %s (verify %s, schema %s, load %s, index %s)", a.io.Paint(restoreStatus(res).String(), strings.ToUpper(restoreStatus(res).String())), ui.Count(res.Total),
		ui.Plural(len(res.Rows), "table", "tables"), ui.Clean(target.Display()), ui.Duration(res.Duration), ui.Duration(res.Check.Duration),
		ui.Duration(res.Load.Schema), ui.Duration(res.Load.Load), ui.Duration(res.Load.Index))}
	if res.SchemaObjects > 0 {
		lines = append(lines, fmt.Sprintf("its schema is the one that was backed up: %s compared", ui.Plural(res.SchemaObjects, "object", "objects")))
	}
	if res.Spared > 0 {
		lines = append(lines, fmt.Sprintf("fetched %s to load, spared %s", ui.Bytes(res.Fetched), ui.Bytes(res.Spared)))
	}
	if res.OldName != "" {
		lines = append(lines, ui.Clean("the old database is kept as "+res.OldName+": restart the services that use "+target.Database()))
	}
	_, err := fmt.Fprintln(a.io.Out, strings.Join(lines, "\n"))
	return err
}
