package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/health"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

type doctorFlags struct {
	only, skip  []string
	writeBucket bool
}

func (a *App) doctorCommand() *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use: "doctor", Short: "check the installation itself, and name each fix", GroupID: "setup", Args: noArgs,
		Long: "Checks that escrowctl can do its work here: the configuration, owners and rights\n" +
			"of its files, the versions of pg_dump, Docker and Compose, the crontab rows, the\n" +
			"clock, the disks, and that everything configured can be reached with these\n" +
			"settings. It changes nothing; --write-bucket writes, reads and deletes one\n" +
			"object. What is not configured is told as off. Run it as the user that the\n" +
			"platform's jobs run as." +
			exitStatus("0  all of it works", "1  warning", "2  critical: something configured does not work", "3  unknown, misuse or wrong configuration"),
		Example: "  escrowctl doctor\n  escrowctl doctor --write-bucket\n  escrowctl doctor --only bucket,pg_dump --json",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context(), f) },
	}
	a.selection(cmd, &f.only, &f.skip, idsOf(doctorProbes(f)))
	cmd.Flags().BoolVar(&f.writeBucket, "write-bucket", false, "also write, read and delete an object in the bucket")
	return cmd
}

func (a *App) doctor(ctx context.Context, f doctorFlags) error {
	begun := a.io.Now()
	results, off, err := a.examine(ctx, f)
	if err = interruption(ctx, err); err != nil {
		return err
	}
	rep := health.Plain(results, off, a.io.Now())
	rep.Duration = rep.At.Sub(begun)
	if err := a.showDoctor(rep); err != nil {
		return err
	}
	if rep.Status != check.OK {
		return &told{rep.Status}
	}
	return nil
}

// examine makes the checks. Where the configuration has faults they are the one
// result: what else could be looked at would not be what is meant.
func (a *App) examine(ctx context.Context, f doctorFlags) ([]check.Result, []health.Off, error) {
	cfg, err := a.load()
	if faulty := (*config.Error)(nil); errors.As(err, &faulty) {
		var off []health.Off
		for _, id := range idsOf(doctorProbes(f))[1:] {
			off = append(off, health.Off{ID: id, Why: "the configuration has faults"})
		}
		return []check.Result{configFaults(faulty)}, off, nil
	}
	if err != nil {
		return nil, nil, err
	}
	d, err := a.openWith(cfg, looks)
	if err != nil {
		return nil, nil, err
	}
	defer d.close()
	made, off, err := d.pick(doctorProbes(f), f.only, f.skip)
	if err != nil {
		return nil, nil, err
	}
	probes := make([]check.Probe, len(made))
	for i, p := range made {
		probes[i] = p.build(d)
	}
	results := check.Run(ctx, probes)
	for i := range results {
		d.scrubResult(&results[i])
	}
	return results, off, nil
}

// configID is the ID of the check of the configuration, the first of all.
const configID = "config"

func configFaults(faulty *config.Error) check.Result {
	r := check.Result{ID: configID, Status: check.Unknown, Action: "correct it, then: escrowctl config check",
		Summary: ui.Plural(len(faulty.Faults), "fault", "faults") + ": nothing that needs a setting runs"}
	for _, fault := range faulty.Faults {
		r.Detail = append(r.Detail, fault.String())
	}
	return r
}

// configProbe judges a configuration without faults.
func (d *deps) configProbe() check.Probe {
	return check.Probe{ID: configID, Run: func(context.Context) check.Result {
		file := d.cfg.File
		if file == "" {
			file = "no file, only defaults and the environment"
		}
		if len(d.cfg.Warnings) == 0 {
			return check.Result{ID: configID, Summary: "sound: " + file}
		}
		return check.Result{ID: configID, Status: check.Warning, Action: "correct it, then: escrowctl config check",
			Summary: ui.Plural(len(d.cfg.Warnings), "warning", "warnings") + ": " + file, Detail: d.cfg.Warnings}
	}}
}

func (a *App) showDoctor(rep health.Report) error {
	if a.asJSON() {
		return a.io.JSON(struct {
			SchemaVersion int            `json:"schema_version"`
			At            time.Time      `json:"at"`
			Duration      float64        `json:"duration_seconds"`
			Status        check.Status   `json:"status"`
			ExitCode      int            `json:"exit_code"`
			Verdict       string         `json:"verdict"`
			Checks        []health.Entry `json:"checks"`
			Off           []health.Off   `json:"off"`
		}{1, rep.At.UTC(), rep.Duration.Seconds(), rep.Status, rep.Status.ExitCode(), shiftVerdict(rep), rep.Entries, append([]health.Off{}, rep.Off...)})
	}
	text := newShiftText(a.io, rep)
	text.act = "fix"
	_, err := io.WriteString(a.io.Out, text.text())
	return err
}

// unset says that a check is off because a setting has no value.
func unset(key string, empty bool) string {
	if !empty {
		return ""
	}
	return "not configured: " + key
}

// grave is how bad it is that what a setting names cannot be reached: something
// that nobody set is less than what somebody did.
func (d *deps) grave(key string) check.Status {
	if d.cfg.Origin(key).Kind == config.FromDefault {
		return check.Warning
	}
	return check.Critical
}

// nameIt is the way out where a service cannot be reached.
func (d *deps) nameIt(key, service string) string {
	if d.cfg.Origin(key).Kind == config.FromDefault {
		return fmt.Sprintf("set %s to where it is (this is the default)%s", key, orOffWord(key))
	}
	return fmt.Sprintf("docker compose up -d %s, or correct %s (%s)%s", service, key, d.cfg.Origin(key), orOffWord(key))
}

func orOffWord(key string) string {
	if strings.HasPrefix(key, "api.") || strings.HasPrefix(key, "alertmanager.") {
		return ", or " + key + ": off"
	}
	return ""
}
