package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

func (a *App) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "show and check the configuration", GroupID: "setup", Args: noArgs,
		Example: "  escrowctl config show\n  escrowctl config check",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "show", Short: "print every value and where it came from, secrets redacted", Args: noArgs,
			Long: "Prints every value that is in effect, its secrets redacted, and where it came\n" +
				"from: default, file with line, environment variable or flag." +
				exitStatus("0  printed", "3  the configuration has faults; what could be read is printed"),
			Example: "  escrowctl config show\n  S3_BUCKET=s3://other escrowctl config show --json",
			RunE:    func(*cobra.Command, []string) error { return a.configShow() },
		},
		&cobra.Command{
			Use: "check", Short: "check every value and name all faults at once", Args: noArgs,
			Long:    "Checks the file, the environment and every value." + exitStatus("0  sound", "1  sound, with warnings", "3  faults, each named"),
			Example: "  escrowctl config check\n  escrowctl config check --config ./escrowctl.yaml",
			RunE:    func(*cobra.Command, []string) error { return a.configCheck() },
		},
	)
	return cmd
}

// load loads the configuration. From then on its secrets are kept out of what
// goes to stderr.
func (a *App) load() (*config.Loaded, error) {
	cfg, err := config.Load(config.Options{Path: a.flags.config, Environ: a.environ})
	a.io.Scrub = cfg.Scrubber().Scrub // cfg is there with an error too
	return cfg, err
}

func (a *App) configShow() error {
	cfg, faults := a.load()
	for _, w := range cfg.Warnings {
		a.io.Warn("%s", w)
	}
	if a.asJSON() {
		if faults != nil {
			return faults
		}
		return a.io.JSON(struct {
			SchemaVersion int            `json:"schema_version"`
			File          string         `json:"file"`
			Warnings      []string       `json:"warnings,omitempty"`
			Values        []config.Entry `json:"values"`
		}{1, cfg.File, cfg.Warnings, cfg.Entries()})
	}
	t := ui.NewTable("KEY", "VALUE", "FROM")
	t.Whole[0] = true
	for _, e := range cfg.Entries() {
		t.Row(e.Key, e.Value, e.Origin.String())
	}
	if err := t.Write(a.io, a.io.Out); err != nil {
		return errors.Join(err, faults)
	}
	return faults
}

func (a *App) configCheck() error {
	cfg, err := a.load()
	for _, w := range cfg.Warnings {
		a.io.Warn("%s", w)
	}
	if err != nil {
		return err
	}
	status := check.OK
	if len(cfg.Warnings) > 0 {
		status = check.Warning
	}
	if err := a.showChecked(cfg, status); err != nil {
		return err
	}
	if status != check.OK {
		return &told{status}
	}
	return nil
}

func (a *App) showChecked(cfg *config.Loaded, status check.Status) error {
	if a.asJSON() {
		return a.io.JSON(struct {
			SchemaVersion int          `json:"schema_version"`
			Status        check.Status `json:"status"`
			File          string       `json:"file"`
			Warnings      []string     `json:"warnings,omitempty"`
		}{1, status, cfg.File, cfg.Warnings})
	}
	file := cfg.File
	if file == "" {
		file = "no file, only defaults and the environment"
	}
	verdict := a.io.Paint("ok", "OK") + "  configuration is sound"
	if status != check.OK {
		verdict = a.io.Paint("warning", "WARNING") + "  configuration is usable, " + ui.Plural(len(cfg.Warnings), "warning", "warnings")
	}
	_, err := fmt.Fprintf(a.io.Out, "%s (%s)\n", verdict, ui.Clean(file))
	return err
}
