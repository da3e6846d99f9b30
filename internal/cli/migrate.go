package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

func (a *App) migrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "migrate", Short: "take the place of the old shell scripts", GroupID: "setup", Args: noArgs,
		Long: "Reads what the old scripts are run with, writes the configuration and the rows\n" +
			"that take their place, and compares what both make.",
		Example: "  escrowctl migrate scripts --dry-run\n  escrowctl migrate compare",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.migrateScriptsCommand(), a.migrateCompareCommand())
	return cmd
}

// migrateFlags are the flags of migrate scripts.
type migrateFlags struct {
	crontab string
	target  string
	program string
	dryRun  bool
	yes     bool
	night   bool // side by side
}

func (a *App) migrateScriptsCommand() *cobra.Command {
	var f migrateFlags
	cmd := &cobra.Command{
		Use: "scripts", Short: "write the configuration and rows that replace the scripts", Args: noArgs,
		Long: "Finds the crontab rows that call the old scripts, follows them into the scripts\n" +
			"and the .env files that they read, and writes escrowctl.yaml and new rows, at\n" +
			"the old rows' times and to their logs. Old rows become comments. Secrets stay\n" +
			"where they are: the file names the .env. What is not carried over is named with\n" +
			"its line. The difference is shown first; nothing is changed before you agree." +
			exitStatus("0  done, or nothing to do", "1  done, or shown, and something is left for you to look at", "2  it could not be written",
				"3  escrowctl would not see a setting as the scripts do: nothing is changed"),
		Example: "  escrowctl migrate scripts --dry-run\n  sudo escrowctl migrate scripts --side-by-side\n  sudo escrowctl migrate scripts --yes",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.migrateScripts(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.crontab, "crontab", "", "read and change this `file` in place of the host's\ncrontabs")
	fl.StringVar(&f.target, "write", config.SystemFile, "the configuration `file` to write\n")
	fl.StringVar(&f.program, "program", "", "`path` of escrowctl in the rows (default this one)")
	fl.BoolVar(&f.dryRun, "dry-run", false, "show the difference, change nothing")
	fl.BoolVar(&f.yes, "yes", false, "do not ask")
	fl.BoolVar(&f.night, "side-by-side", false, "replace only the backup's row, by one that runs\nboth and compares, until this is run without it")
	return cmd
}

func (a *App) migrateScripts(ctx context.Context, f migrateFlags) error {
	p, err := a.planMigration(ctx, f)
	if err != nil {
		return err
	}
	if err := a.showMigration(p, f); err != nil {
		return err
	}
	if len(p.conflicts) > 0 {
		return &told{check.Unknown}
	}
	if p.changes() && !f.dryRun {
		if !f.yes {
			if err := a.confirm("Change this? Type yes: ", "yes"); err != nil {
				return err
			}
		}
		if err := a.applyMigration(ctx, p); err != nil {
			return err
		}
	}
	if len(p.left) > 0 {
		return &told{check.Warning}
	}
	return nil
}

// applyMigration writes the file before the rows that need it, and the new rows
// before the old ones elsewhere end. It can be run again from any point.
func (a *App) applyMigration(ctx context.Context, p *migration) error {
	if p.config != "" {
		if err := p.writeConfig(); err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
	}
	for _, c := range p.crontabs {
		if c.before == c.after {
			continue
		}
		if now, err := c.read(); err != nil || now != c.before {
			return errors.Join(err, fmt.Errorf("%s was changed while it was read: run this again", c.name))
		}
		if err := c.write(c.after); err != nil {
			return err
		}
	}
	a.flags.config = p.target
	if a.rememberCron(p.jobs) != nil {
		a.io.Debug("when the rows were installed is not remembered")
	}
	a.journalAlone(ctx, operation("migrate scripts", fmt.Sprintf("%s written, %s replaced", p.target, ui.Plural(len(p.old), "row of the old scripts", "rows of the old scripts"))))
	return a.cronSay("ok  %s, %s", p.target, ui.Plural(len(p.rows), "row", "rows"))
}

// writeConfig writes the configuration, in place of one that sets nothing.
func (p *migration) writeConfig() error {
	if now, _ := standing(p.target); now != p.before {
		return fmt.Errorf("%s was changed while it was read: run this again", p.target)
	}
	if err := os.MkdirAll(filepath.Dir(p.target), 0o755); err != nil {
		return err
	}
	// It holds no secret, and every user that runs a row must read it: the mode
	// of what stood there does not count.
	f, err := renameio.NewPendingFile(p.target, renameio.WithStaticPermissions(0o644))
	if err != nil {
		return err
	}
	defer func() { _ = f.Cleanup() }()
	if _, err := f.WriteString(p.config); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}
