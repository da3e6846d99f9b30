package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

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
		Example: "  escrowctl backup prune --dry-run\n  escrowctl backup prune --local --json",
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
	done := pruned{DryRun: dryRun, Delete: []pruneItem{}, Keep: []pruneItem{}}
	for _, side := range []struct {
		r    store.Reader
		keep backup.Retention
	}{{local, backup.Retention(d.cfg.Backup.Retention)}, {remote, backup.Retention(d.cfg.Backup.BucketRetention)}} {
		st, ok := side.r.(store.Store)
		if !ok {
			continue
		}
		if err := done.prune(ctx, d, st, side.keep, verified); err != nil {
			return Outcome{}, errors.Join(a.showPruned(done), err)
		}
	}
	return Outcome{
		Verdict: ui.Plural(len(done.Delete), "backup", "backups") + " pruned",
		Figures: map[string]any{"pruned": len(done.Delete), "dry_run": dryRun},
	}, a.showPruned(done)
}

// pruned is what a prune did, or would do.
type pruned struct {
	SchemaVersion int         `json:"schema_version"`
	DryRun        bool        `json:"dry_run"`
	Delete        []pruneItem `json:"delete"` // what is gone, or would go
	Keep          []pruneItem `json:"keep"`
}

type pruneItem struct {
	Name     string `json:"name"`
	Location string `json:"location"`
	Reason   string `json:"reason,omitempty"` // why it stays
}

// prune applies retention to one store. After an error Delete holds what is
// gone nevertheless.
func (p *pruned) prune(ctx context.Context, d *deps, st store.Store, keep backup.Retention, verified backup.Verifications) error {
	plan, err := backup.PlanPrune(ctx, st, d.naming(), keep, verified, d.app.io.Now())
	if err != nil {
		return err
	}
	for _, k := range plan.Keep {
		p.Keep = append(p.Keep, pruneItem{k.Name, st.Location(), k.Reason})
	}
	var gone []string
	if p.DryRun {
		for _, c := range plan.Delete {
			gone = append(gone, c.Name)
		}
	} else {
		gone, err = plan.Apply(ctx, st)
	}
	for _, name := range gone {
		p.Delete = append(p.Delete, pruneItem{Name: name, Location: st.Location()})
	}
	return err
}

func (a *App) showPruned(p pruned) error {
	if a.asJSON() {
		p.SchemaVersion = 1
		return a.io.JSON(p)
	}
	var b strings.Builder
	if p.DryRun {
		for _, k := range p.Keep {
			fmt.Fprintf(&b, "keep    %s  %s\n", ui.Clean(k.Name), k.Reason)
		}
	}
	verb := map[bool]string{true: "delete ", false: "deleted"}[p.DryRun]
	for _, g := range p.Delete {
		fmt.Fprintf(&b, "%s %s  from %s\n", verb, ui.Clean(g.Name), ui.Clean(g.Location))
	}
	_, err := io.WriteString(a.io.Out, b.String())
	return err
}
