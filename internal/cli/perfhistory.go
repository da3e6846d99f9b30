package cli

import (
	"fmt"
	"io"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/perf"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

func (a *App) perfHistoryCommand() *cobra.Command {
	last := 20
	cmd := &cobra.Command{
		Use: "history", Short: "the figures of the analyses that are kept", Args: noArgs,
		Example: "  escrowctl perf history\n  escrowctl perf history --last 0 --json",
		RunE: func(*cobra.Command, []string) error {
			if last < 0 {
				return &misuse{fmt.Sprintf("--last %d: write a number from 0 (all)", last)}
			}
			d, err := a.open(looks)
			if err != nil {
				return err
			}
			defer d.close()
			points, err := d.perfArchive().History(last, d.cfg.Perf.Indexer)
			if err != nil {
				return err
			}
			return a.showHistory(points)
		},
	}
	cmd.Flags().IntVar(&last, "last", last, "how `many`; 0 for all")
	return cmd
}

func (a *App) showHistory(points []perf.Point) error {
	if a.asJSON() {
		return a.io.JSON(ui.Document("snapshots", points))
	}
	if len(points) == 0 {
		_, err := fmt.Fprintln(a.io.Out, "no analysis yet: escrowctl perf analyze")
		return err
	}
	t := ui.NewTable("SNAPSHOT", "SIZE", "CONN", "CACHE", "QUERY", "REDIS", "TTFB", "INDEXER")
	t.Right = map[int]bool{1: true, 2: true, 3: true, 4: true, 5: true, 6: true, 7: true}
	size := func(v float64) string { return ui.Bytes(int64(v)) }
	ratio := func(v float64) string { return fmt.Sprintf("%.1f%%", 100*v) }
	for _, p := range points {
		t.Row(p.ID, pointText(p.SizeBytes, size), pointText(p.Connections, func(v float64) string { return fmt.Sprintf("%.0f", v) }),
			pointText(p.CacheHit, ratio), pointText(p.QueryMean, perfTime), pointText(p.RedisHit, ratio), pointText(p.TTFB, perfTime), pointText(p.Indexer, size))
	}
	return t.Write(a.io, a.io.Out)
}

func pointText(v *float64, text func(float64) string) string {
	if v == nil {
		return "-"
	}
	return text(*v)
}

func (a *App) perfCompareCommand() *cobra.Command {
	var markdown bool
	cmd := &cobra.Command{
		Use: "compare A B", Short: "analyze one kept snapshot against another", Args: exactly(2, "two snapshots of 'escrowctl perf history'"),
		Long:    "Analyzes snapshot B as if A had been the one before: what changed in between.",
		Example: "  escrowctl perf compare 20260104T030000Z 20260111T030000Z",
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			d, err := a.open(looks)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			defer d.close()
			ids, _ := d.perfArchive().IDs() // no completion is no loss
			return ids, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := a.open(looks)
			if err != nil {
				return err
			}
			defer d.close()
			var snaps [2]*perf.Snapshot
			for i, id := range args {
				if snaps[i], err = d.perfArchive().Load(id); err != nil {
					return &misuse{fmt.Sprintf("%v: 'escrowctl perf history' lists them", err)}
				}
			}
			if !snaps[0].TakenAt.Before(snaps[1].TakenAt) {
				return &misuse{"compare: the older snapshot comes first"}
			}
			return a.showPerf(perf.Analyse(snaps[1], snaps[0], d.perfOptions(0)), markdown)
		},
	}
	cmd.Flags().BoolVar(&markdown, "markdown", false, "print it as Markdown")
	return cmd
}

// exactly demands n arguments.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return &misuse{fmt.Sprintf("%s takes %s, got %d: see '%s --help'", ownPath(cmd), what, len(args), cmd.CommandPath())}
		}
		return nil
	}
}

// writePage writes the report as a page, whole or not at all.
func (d *deps) writePage(file string, r *perf.Report, write func(io.Writer, *perf.Report, []perf.Point) error) error {
	points, err := d.perfArchive().History(0, d.cfg.Perf.Indexer)
	if err != nil {
		return err
	}
	f, err := renameio.NewPendingFile(file, renameio.WithPermissions(0o600))
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	defer func() { _ = f.Cleanup() }()
	if err := write(f, r, points); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}
