package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/backup"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/drtest"
	"github.com/stellarescrow/escrowctl/internal/pgengine"
	"github.com/stellarescrow/escrowctl/internal/state"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

const (
	drTestJob    = "dr-test"
	drTestSource = "dr_test"
)

type drTestFlags struct {
	from     string
	engine   string
	image    string
	jobs     int
	timeout  time.Duration
	keep     bool
	identity string
	junit    string
	reap     bool
	dryRun   bool
}

func (a *App) drTestCommand() *cobra.Command {
	var f drTestFlags
	cmd := &cobra.Command{
		Use: "dr-test [BACKUP]", Short: "prove by restoring that a backup would save us", GroupID: "ops", Args: atMost(1),
		Long: "Restores a backup into a PostgreSQL server that nobody else can reach, compares\n" +
			"what came back with what was backed up, and removes the server: tables, the rows\n" +
			"of every table, your own assertions, the age of the backup against the RPO and\n" +
			"the time of the restore against the RTO.\n\n" +
			"BACKUP is a name or time of 'backup list', a file, an s3:// URI, or latest: the\n" +
			"newest in the bucket if there is one, else the newest here.\n\n" +
			"The server runs in a container without a network (--engine docker), or from this\n" +
			"host's own PostgreSQL on a unix socket (--engine local). A backup in the bucket\n" +
			"is streamed into it; no copy touches the disk." +
			exitStatus("0  pass", "1  pass, with something to look at", "2  fail", "3  could not verify"),
		Example: "  escrowctl dr-test\n" +
			"  escrowctl dr-test ./stellar_escrow_20260101T020000Z.sql.gz\n" +
			"  escrowctl dr-test latest --from local --engine local\n" +
			"  escrowctl dr-test --image postgres:15-alpine --junit dr-test.xml\n" +
			"  escrowctl dr-test --keep\n" +
			"  escrowctl dr-test history",
		RunE: func(cmd *cobra.Command, args []string) error {
			what := "latest"
			if len(args) == 1 {
				what = args[0]
			}
			return a.drTest(cmd.Context(), what, f, cmd.Flags().Changed("timeout"))
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.from, "from", "", "where `latest` is looked for: local or s3\n(default the bucket, if there is one)")
	fl.StringVar(&f.engine, "engine", "", "what runs the `server`: auto, docker or local\n(default dr_test.engine)")
	fl.StringVar(&f.image, "image", "", "container `image` (default dr_test.image, or\npostgres:MAJOR)")
	fl.IntVar(&f.jobs, "jobs", 0, "tables to load at once (default one a core)")
	fl.DurationVar(&f.timeout, "timeout", 0, "time limit (default dr_test.timeout)")
	fl.BoolVar(&f.keep, "keep", false, "leave the server for dr_test.keep_for, and say\nhow to connect")
	fl.StringVar(&f.identity, "identity", "", "age identity `file`, for an encrypted backup")
	fl.StringVar(&f.junit, "junit", "", "also write the checks to a `file` as JUnit XML")
	fl.BoolVar(&f.reap, "reap", false, "only remove what killed and kept tests left")
	fl.BoolVar(&f.dryRun, "dry-run", false, "say what would be tested, and do nothing")
	for name, words := range map[string][]string{"from": {"local", "s3"}, "engine": {config.Auto, config.EngineDocker, config.EngineLocal}} {
		a.completeWords(cmd, name, words...)
	}
	cmd.AddCommand(a.drTestHistoryCommand())
	return cmd
}

// settle checks the flags and fills in what was not given.
func (f *drTestFlags) settle(c config.DRTest, timeoutGiven bool) error {
	switch {
	case f.from != "" && f.from != "local" && f.from != "s3":
		return &misuse{fmt.Sprintf("--from %q: use local or s3", f.from)}
	case f.engine != "" && f.engine != config.Auto && f.engine != config.EngineDocker && f.engine != config.EngineLocal:
		return &misuse{fmt.Sprintf("--engine %q: use auto, docker or local", f.engine)}
	case f.jobs < 0:
		return &misuse{fmt.Sprintf("--jobs %d: a number from 1, or 0 for one a core", f.jobs)}
	case timeoutGiven && f.timeout <= 0:
		return &misuse{fmt.Sprintf("--timeout %s: a duration above 0, for example 30m", f.timeout)}
	case f.keep && f.reap:
		return &misuse{"--keep and --reap exclude each other"}
	case f.image != "" && f.engine == config.EngineLocal:
		return &misuse{"--image belongs to --engine docker"}
	}
	if f.engine == "" {
		f.engine = c.Engine
		if f.image != "" {
			f.engine = config.EngineDocker
		}
	}
	if f.image == "" {
		f.image = c.Image
	}
	if f.jobs == 0 {
		f.jobs = c.Jobs
	}
	if !timeoutGiven {
		f.timeout = c.Timeout
	}
	return nil
}

// where says which stores latest is looked for in.
func (f drTestFlags) where(c config.S3) where {
	if f.from == "local" || f.from == "" && c.Bucket == "" {
		return where{local: true}
	}
	return where{remote: true}
}

func (a *App) drTest(ctx context.Context, what string, f drTestFlags, timeoutGiven bool) error {
	d, err := a.open(changes)
	if err != nil {
		return err
	}
	defer d.close()
	if err := f.settle(d.cfg.DRTest, timeoutGiven); err != nil {
		return err
	}
	if f.reap {
		return a.drTestReap(ctx, d)
	}
	ids, err := d.identities(f.identity)
	if err != nil {
		return err
	}
	if f.dryRun {
		return a.drTestDryRun(ctx, d, what, f)
	}
	return a.job(ctx, d, drTestJob, func(ctx context.Context) (Outcome, error) {
		for _, gone := range d.reap(ctx) {
			a.io.Log("removed what an earlier test left: %s", gone)
		}
		eng, err := d.engine(ctx, f.engine)
		if err != nil {
			return a.drTestUnproven(&check.Error{Status: check.Unknown, Err: err})
		}
		defer eng.close()
		subject := &subject{deps: d, what: what, where: f.where(d.cfg.S3), ids: ids, log: a.io.Log}
		opt, err := d.drTestOptions(f)
		if err != nil {
			return Outcome{}, err
		}
		show := &drTestProgress{io: a.io}
		opt.Engine, opt.Open, opt.Stage, opt.Loading, opt.Spec.Pull = eng, subject.open, show.stage, show.loading, show.pull
		rep, err := drtest.Run(ctx, opt)
		show.done()
		if err != nil {
			return Outcome{}, err
		}
		subject.remember(rep)
		out := a.drTestOutcome(d, rep)
		return out, a.showDRTest(d, f, rep, out)
	})
}

// drTestUnproven reports a test that could not begin.
func (a *App) drTestUnproven(err error) (Outcome, error) {
	return Outcome{Verdict: "could not verify: " + err.Error(), Report: drTestReport(a.io.Now(), nil, 0, err.Error())}, err
}

// drTestOptions gathers what is configured.
func (d *deps) drTestOptions(f drTestFlags) (drtest.Options, error) {
	c := d.cfg.DRTest
	past, err := d.drTestPast()
	if err != nil {
		return drtest.Options{}, err
	}
	var asserts []drtest.Assertion
	for _, q := range c.Assertions {
		asserts = append(asserts, drtest.Assertion(q))
	}
	database := ""
	if !d.cfg.Database.URL.IsZero() {
		if t, err := parseTarget("database.url", d.cfg.Database.URL.Reveal()); err == nil {
			database = t.Database()
		}
	}
	return drtest.Options{
		Run: runName(d.app.io.Now()), Owner: state.Here(), Keep: f.keep, KeepFor: c.KeepFor, Jobs: f.jobs, Limit: f.timeout,
		Spec:      pgengine.Spec{Image: f.image, Storage: pgengine.Storage(c.Storage), Memory: int64(c.Memory), CPUs: float64(c.CPUs)},
		MinTables: c.MinTables, Tables: c.Tables, Database: database, Assertions: asserts, Newest: c.NewestRow, RPO: c.RPO, RTO: c.RTO,
		History: past, Now: d.app.io.Now, Log: d.app.io.Log,
	}, nil
}

func (a *App) drTestReap(ctx context.Context, d *deps) error {
	gone := d.reap(ctx)
	for _, g := range gone {
		_, _ = fmt.Fprintf(a.io.Out, "removed %s\n", ui.Clean(g))
	}
	if len(gone) == 0 {
		_, err := fmt.Fprintln(a.io.Out, "nothing to remove")
		return err
	}
	return nil
}

func (a *App) drTestDryRun(ctx context.Context, d *deps, what string, f drTestFlags) error {
	at, _, err := d.locateNewest(ctx, what, f.where(d.cfg.S3))
	if err != nil {
		return &check.Error{Status: check.Unknown, Err: err}
	}
	eng, err := d.engine(ctx, f.engine)
	if err != nil {
		return &check.Error{Status: check.Unknown, Err: err}
	}
	defer eng.close()
	in := ""
	if eng.Name() == config.EngineDocker {
		in = ", image " + f.image
		if f.image == "" {
			in = ", image postgres of the dump's major version"
		}
	}
	_, err = fmt.Fprintf(a.io.Out, "would restore %s in %s into a throwaway server (engine %s%s), check it, and remove the server\n",
		ui.Clean(at.name), ui.Clean(at.store.Location()), eng.Name(), in)
	return err
}

// drTestProgress shows how far a test is.
type drTestProgress struct {
	io    *ui.IO
	now   *ui.Progress
	pulls *ui.Progress
}

func (p *drTestProgress) stage(name string) {
	p.done()
	p.io.Debug("%s", name)
	if strings.HasPrefix(name, "loading") {
		p.now = p.io.Progress(name)
	}
}

func (p *drTestProgress) loading(rows, of int64) {
	if p.now != nil {
		p.now.Set(rows, of, ui.Count)
	}
}

func (p *drTestProgress) pull(done, total int64) {
	if p.pulls == nil {
		p.pulls = p.io.Progress("pulling the image")
	}
	p.pulls.Set(done, total, ui.Bytes)
}

func (p *drTestProgress) done() {
	for _, q := range []*ui.Progress{p.now, p.pulls} {
		if q != nil {
			q.Done()
		}
	}
	p.pulls = nil
}

// runName names a run: its start and a few letters of chance.
func runName(now time.Time) string {
	return strings.ToLower(now.UTC().Format(backup.TimeLayout) + "-" + randomLetters())
}
