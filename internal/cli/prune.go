package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/backup"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/store"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

func (a *App) pruneCommand() *cobra.Command {
	var w where
	var dryRun bool
	cmd := &cobra.Command{
		Use: "prune", Short: "delete the backups that retention no longer keeps", Args: noArgs,
		Long: "Deletes old backups by backup.retention (RETENTION_DAYS) here and by\n" +
			"backup.bucket_retention in the bucket. The newest good backup always stays, and\n" +
			"nothing is deleted while there is no good one, or while a loss waits for\n" +
			"'backup ack'. 'escrowctl backup' does this by itself after each success." +
			exitStatus("0  done", "1  held: a loss is not acknowledged", "2  failed"),
		Example: "  escrowctl backup prune --dry-run\n  escrowctl backup prune --local",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.open(changes)
			if err != nil {
				return err
			}
			defer d.close()
			if dryRun {
				_, err := a.prune(cmd.Context(), d, w, dryRun)
				return err
			}
			return a.job(cmd.Context(), d, pruneJob, func(ctx context.Context) (Outcome, error) { return a.prune(ctx, d, w, dryRun) })
		},
	}
	w.add(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be deleted and kept, and why; delete nothing")
	return cmd
}

func (a *App) prune(ctx context.Context, d *deps, w where, dryRun bool) (Outcome, error) {
	h, err := d.held()
	if err != nil {
		return Outcome{}, err
	}
	if len(h.Losses) > 0 && !dryRun {
		return Outcome{Status: check.Warning, Verdict: "held"}, &check.Error{Status: check.Warning,
			Err: fmt.Errorf("nothing is pruned: since %s a loss is not acknowledged (%s): escrowctl backup ack", h.Since.Format("2006-01-02"), h.Losses[0])}
	}
	verified, err := d.verifications()
	if err != nil {
		return Outcome{}, err
	}
	local, remote, err := d.readers(ctx, w)
	if err != nil {
		return Outcome{}, err
	}
	total := 0
	for _, side := range []struct {
		r    store.Reader
		keep backup.Retention
	}{{local, backup.Retention(d.cfg.Backup.Retention)}, {remote, backup.Retention(d.cfg.Backup.BucketRetention)}} {
		st, ok := side.r.(store.Store)
		if !ok {
			continue
		}
		n, err := a.pruneOne(ctx, d, st, side.keep, verified, dryRun)
		total += n
		if err != nil {
			return Outcome{}, err
		}
	}
	return Outcome{Verdict: ui.Plural(total, "backup", "backups") + " pruned", Figures: map[string]any{"pruned": total, "dry_run": dryRun}}, nil
}

func (a *App) pruneOne(ctx context.Context, d *deps, st store.Store, keep backup.Retention, verified map[string]backup.Verification, dryRun bool) (int, error) {
	plan, err := backup.PlanPrune(ctx, st, d.naming(), keep, verified, a.io.Now())
	if err != nil {
		return 0, err
	}
	if dryRun {
		for _, k := range plan.Keep {
			_, _ = fmt.Fprintf(a.io.Out, "keep    %s  %s\n", ui.Clean(k.Name), k.Reason)
		}
		for _, c := range plan.Delete {
			_, _ = fmt.Fprintf(a.io.Out, "delete  %s  from %s\n", ui.Clean(c.Name), ui.Clean(st.Location()))
		}
		return 0, nil
	}
	gone, err := plan.Apply(ctx, st)
	for _, n := range gone {
		_, _ = fmt.Fprintf(a.io.Out, "deleted %s from %s\n", ui.Clean(n), ui.Clean(st.Location()))
	}
	return len(gone), err
}
