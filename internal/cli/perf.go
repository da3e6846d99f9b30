package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/perf"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// perfJob is the analysis's name in records, locks and metrics.
const perfJob = "perf"

func (a *App) perfCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "perf", Short: "what is slow, what got slower, and what to do about it", GroupID: "ops", Args: noArgs,
		Example: "  escrowctl perf analyze\n  escrowctl perf maintain --dry-run",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.perfAnalyzeCommand(), a.perfMaintainCommand(), a.perfHistoryCommand(), a.perfCompareCommand())
	return cmd
}

// analyzeFlags are those of perf analyze.
type analyzeFlags struct {
	top    int
	since  string
	failOn string
	skip   []string

	redisKeys, explain, markdown bool
	html                         string
}

func (a *App) perfAnalyzeCommand() *cobra.Command {
	var f analyzeFlags
	cmd := &cobra.Command{
		Use: "analyze", Short: "find slow queries, needless and missing indexes, bloat and more", Args: noArgs,
		Long: "Reads the statistics of database, API, containers and Redis, and says what is\n" +
			"not as it should be, the gravest first, each with its next step. Every run\n" +
			"keeps a snapshot, and the next one judges what happened since. Nothing is\n" +
			"changed: every query is read only, with a time limit." +
			exitStatus("0  nothing found", "1  warnings", "2  critical findings, or the analysis failed", "3  something could not be looked at, misuse or wrong configuration"),
		Example: "  escrowctl perf analyze\n  escrowctl perf analyze --json\n  escrowctl perf analyze --since 7d --fail-on critical",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.failOn != "warning" && f.failOn != "critical" {
				return &misuse{fmt.Sprintf("--fail-on %q: use warning or critical", f.failOn)}
			}
			for _, name := range f.skip {
				if !slices.Contains(perfSourceNames(), name) {
					return &misuse{fmt.Sprintf("--skip %q: there are %s", name, strings.Join(perfSourceNames(), ", "))}
				}
			}
			d, err := a.open(changes)
			if err != nil {
				return err
			}
			defer d.close()
			return a.job(cmd.Context(), d, perfJob, func(ctx context.Context) (Outcome, error) { return a.analyze(ctx, d, f) })
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&f.top, "top", runbook.SlowQueries, "how many `queries` each list shows")
	flags.StringVar(&f.since, "since", "", "compare with a snapshot at least so `old` (7d), or with\none by its name, in place of the last")
	flags.StringVar(&f.failOn, "fail-on", "warning", "exit 0 below this `severity`,\nwarning or critical")
	a.completeWords(cmd, "fail-on", "warning", "critical")
	flags.StringSliceVar(&f.skip, "skip", nil, "leave `sources` out: database, statements, api,\ncontainers, redis, disk")
	a.completeWords(cmd, "skip", perfSourceNames()...)
	flags.StringVar(&f.html, "html", "", "also write the report with plots to this `file`")
	flags.BoolVar(&f.markdown, "markdown", false, "print it as Markdown")
	flags.BoolVar(&f.explain, "explain", false, "also show the plans of the top queries (nothing of\nthem is run)")
	flags.BoolVar(&f.redisKeys, "redis-keys", false, "also look for the biggest keys of Redis (scans it)")
	return cmd
}

// completeWords lets the shell complete a flag's value. Cobra remembers that for as
// long as the process lives, and with it the whole tree of commands: one that is
// only looked up in goes without.
func (a *App) completeWords(cmd *cobra.Command, flag string, words ...string) {
	if a.lookup {
		return
	}
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag was made beside it
	}
}

func (d *deps) perfArchive() perf.Archive {
	return perf.Archive{Dir: filepath.Join(d.state.Dir(), "perf"), Recent: 7 * runbook.Day, Days: 31, Weeks: 104}
}

// analyze takes a snapshot, compares it and shows the report.
func (a *App) analyze(ctx context.Context, d *deps, f analyzeFlags) (Outcome, error) {
	start := a.io.Now()
	archive := d.perfArchive()
	before, err := d.perfBefore(archive, f.since)
	if err != nil {
		return Outcome{}, err
	}
	sources := &perfSources{deps: d, skip: f.skip, redisKeys: f.redisKeys}
	snap := perf.Collect(ctx, a.io.Now, sources.collectors())
	if err := ctx.Err(); err != nil {
		return Outcome{}, err
	}
	report := perf.Analyse(snap, before, d.perfOptions(f.top))
	status := report.Status
	warn := func(err error, what string) {
		if err != nil {
			a.io.Warn("%v%s", d.scrub(err), what)
			status = check.Worst(status, check.Warning)
		}
	}
	if f.explain {
		warn(sources.explain(ctx, report), ": so there are no plans")
	}
	report.TookSeconds = a.io.Now().Sub(start).Seconds()
	d.scrubReport(report)
	warn(d.keep(archive, snap, report), ": the next analysis will have nothing to compare with")
	if f.html != "" {
		warn(d.writePage(f.html, report, perf.WriteHTML), "")
	}
	err = a.showPerf(report, f.markdown)
	if f.failOn == "critical" && status == check.Warning {
		status = check.OK
	}
	return perfOutcome(report, status), err
}

// perfOptions are the limits of an analysis, as configured.
func (d *deps) perfOptions(top int) perf.Options {
	limits := perf.DefaultLimits()
	limits.IndexerService = d.cfg.Perf.Indexer
	return perf.Options{Limits: limits, Top: top, Threshold: d.cfg.Threshold}
}

// keep saves the snapshot and deletes those that are too old.
func (d *deps) keep(archive perf.Archive, snap *perf.Snapshot, report *perf.Report) error {
	snap.Trim(report.Queries)
	if err := archive.Save(snap); err != nil {
		return err
	}
	_, err := archive.Prune(snap.TakenAt)
	return err
}

// perfBefore is the snapshot to compare with; nil if there is none yet.
func (d *deps) perfBefore(archive perf.Archive, since string) (*perf.Snapshot, error) {
	at := d.app.io.Now()
	if since != "" {
		if s, err := archive.Load(since); err == nil {
			return s, nil
		}
		age, err := parseAge(since)
		if err != nil {
			return nil, &misuse{fmt.Sprintf("--since %q: neither an age such as 7d or 12h nor a snapshot of 'escrowctl perf history'", since)}
		}
		at = at.Add(-age)
	}
	id, err := archive.Before(at)
	if err != nil || id == "" {
		return nil, err
	}
	s, err := archive.Load(id)
	if err != nil {
		d.app.io.Warn("%v", err)
		return nil, nil //nolint:nilnil // one damaged snapshot must not stop the analysis
	}
	return s, nil
}

// parseAge reads 7d as well as what time.ParseDuration takes.
func parseAge(text string) (time.Duration, error) {
	var days int
	if n, err := fmt.Sscanf(text+"\n", "%dd\n", &days); err == nil && n == 1 && days >= 0 {
		return time.Duration(days) * runbook.Day, nil
	}
	age, err := time.ParseDuration(text)
	if err == nil && age < 0 {
		err = fmt.Errorf("%s lies in the future", text)
	}
	return age, err
}
