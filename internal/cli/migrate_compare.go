package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/migrate"
	"github.com/stellarescrow/escrowctl/internal/schedule"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

func (a *App) migrateCompareCommand() *cobra.Command {
	var crontab string
	cmd := &cobra.Command{
		Use: "compare", Short: "back up with the old script and with escrowctl, and compare", Args: noArgs,
		Long: "Backs up, runs the old backup script as its crontab row does, backs up again.\n" +
			"What escrowctl's two backups agree on did not change meanwhile, and the script's\n" +
			"must hold it too: every row of every table, and every statement of the schema.\n" +
			"Tables that changed are held against the rows before and after. All three\n" +
			"backups stay." +
			exitStatus("0  the same", "2  they differ, or one of the backups failed", "3  it could not be told"),
		Example: "  escrowctl migrate compare\n  sudo -u backup escrowctl migrate compare",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.migrateCompare(cmd.Context(), crontab) },
	}
	cmd.Flags().StringVar(&crontab, "crontab", "", "`file` with the script's row (default the host's\ncrontabs)")
	return cmd
}

// oldBackup finds the row of the old backup script, run or kept for comparing.
func (a *App) oldBackup(ctx context.Context, file string) (schedule.Placed, error) {
	crontabs, err := a.readCrontabs(ctx, file)
	if err != nil {
		return schedule.Placed{}, err
	}
	jobs, err := cronJobs(false)
	if err != nil {
		return schedule.Placed{}, err
	}
	zone, err := a.cron.Zone()
	if err != nil {
		return schedule.Placed{}, err
	}
	p := &migration{crontabs: crontabs}
	rows := p.oldRows(jobs, schedule.Host{Zone: zone, Now: a.io.Now(), Command: commandOf, Misspelt: misspelt, Program: a.cron.Program, Writable: a.cron.Writable})[backupJob]
	switch {
	case len(rows) == 0:
		return schedule.Placed{}, &misuse{"no crontab row calls the old backup script: name a file that has one with --crontab"}
	case rows[0].Row.Err != nil:
		return schedule.Placed{}, &misuse{fmt.Sprintf("%s: cron refuses the row: %v", rows[0].Where, rows[0].Row.Err)}
	case rows[0].User != a.cron.User():
		return schedule.Placed{}, &misuse{fmt.Sprintf("%s runs as %s: sudo -u %s escrowctl migrate compare", rows[0].Where, rows[0].User, rows[0].User)}
	}
	return rows[0], nil
}

func (a *App) migrateCompare(ctx context.Context, crontab string) error {
	row, err := a.oldBackup(ctx, crontab)
	if err != nil {
		return err
	}
	d, err := a.open(looks)
	if err != nil {
		return err
	}
	defer d.close()
	dir := d.cfg.Backup.Dir
	before, err := a.backUpOnce(ctx)
	if err != nil {
		return err
	}
	// Names have the second: none may be taken twice.
	if err := pause(ctx, 1100*time.Millisecond); err != nil {
		return err
	}
	old, took, err := a.runOldScript(ctx, row, dir)
	if err != nil {
		return d.scrub(err)
	}
	if err := pause(ctx, 1100*time.Millisecond); err != nil {
		return err
	}
	after, err := a.backUpOnce(ctx)
	if err != nil {
		return err
	}
	c, err := compareFiles(ctx, before.file, old, after.file)
	if err != nil {
		return err
	}
	return a.showComparison(c, before.took, took, old)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

type backedUp struct {
	file string
	took time.Duration
}

// backUpOnce runs escrowctl backup as a process of its own, as cron does.
func (a *App) backUpOnce(ctx context.Context) (backedUp, error) {
	self, err := os.Executable()
	if err != nil {
		return backedUp{}, err
	}
	args := []string{"backup"}
	if a.flags.config != "" {
		args = append([]string{"--config", a.flags.config}, args...)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = a.environ
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, a.io.Err
	start := a.io.Now()
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != check.Warning.ExitCode()) {
		return backedUp{}, fmt.Errorf("escrowctl backup: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	file, ok := strings.CutPrefix(lines[len(lines)-1], "BACKUP_LOCATION=")
	if !ok {
		return backedUp{}, errors.New("escrowctl backup named no file")
	}
	return backedUp{file, a.io.Now().Sub(start)}, nil
}

// runOldScript runs the old row's command as cron would, and returns the file
// that it made.
func (a *App) runOldScript(ctx context.Context, row schedule.Placed, dir string) (string, time.Duration, error) {
	had, err := dumpsIn(dir)
	if err != nil {
		return "", 0, err
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", row.Row.Command)
	cmd.Env = cronEnv(a.environ, row.Row.Env)
	cmd.Stdin = strings.NewReader(row.Row.Input)
	cmd.Stdout, cmd.Stderr = a.io.Err, a.io.Err
	// The script's pg_dump and gzip end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	a.io.Log("running %s (%s)", row.Command, row.Where)
	start := a.io.Now()
	if err := cmd.Run(); err != nil {
		return "", 0, fmt.Errorf("the old script (%s): %w: see its log %s", row.Where, err, row.Log)
	}
	took := a.io.Now().Sub(start)
	has, err := dumpsIn(dir)
	if err != nil {
		return "", 0, err
	}
	made := slices.DeleteFunc(has, func(name string) bool { return slices.Contains(had, name) })
	if len(made) != 1 {
		return "", 0, &check.Error{Status: check.Unknown, Err: fmt.Errorf("the old script ended well and left %d new .sql.gz files in %s, not one: does it write elsewhere? set backup.dir", len(made), dir)}
	}
	return filepath.Join(dir, made[0]), took, nil
}

func dumpsIn(dir string) ([]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.sql*"))
	var out []string
	for _, n := range names {
		if ext := filepath.Ext(n); ext == ".gz" || ext == ".sql" || ext == ".zst" {
			out = append(out, filepath.Base(n))
		}
	}
	return out, err
}

// cronEnv is what cron gives a row.
func cronEnv(environ []string, row map[string]string) []string {
	env := []string{"PATH=/usr/bin:/bin", "SHELL=/bin/sh"}
	for _, e := range environ {
		if name, _, _ := strings.Cut(e, "="); slices.Contains([]string{"HOME", "LOGNAME", "USER"}, name) {
			env = append(env, e)
		}
	}
	for name, value := range row {
		env = append(env, name+"="+value)
	}
	return env
}

func compareFiles(ctx context.Context, before, old, after string) (migrate.Comparison, error) {
	var dumps [3]*migrate.Dump
	for i, name := range []string{before, old, after} {
		f, err := os.Open(name)
		if err != nil {
			return migrate.Comparison{}, err
		}
		dumps[i], err = migrate.Digest(ctx, f)
		_ = f.Close()
		if err != nil {
			return migrate.Comparison{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return migrate.Compare(dumps[0], dumps[1], dumps[2]), nil
}

// most is how many lines of a kind are shown.
const most = 20

func (a *App) showComparison(c migrate.Comparison, ours, theirs time.Duration, file string) error {
	status := map[migrate.Outcome]check.Status{migrate.Same: check.OK, migrate.Unproven: check.Unknown, migrate.Differs: check.Critical}[c.Outcome]
	if a.asJSON() {
		if err := a.io.JSON(struct {
			SchemaVersion int          `json:"schema_version"`
			Status        check.Status `json:"status"`
			File          string       `json:"script_file"`
			Ours          float64      `json:"escrowctl_seconds"`
			Theirs        float64      `json:"script_seconds"`
			Equal         []string     `json:"equal"`
			Moved         []string     `json:"changed_meanwhile"`
			Faults        []string     `json:"differences"`
			Unsure        []string     `json:"not_told"`
		}{1, status, file, ours.Seconds(), theirs.Seconds(), append([]string{}, c.Equal...), append([]string{}, c.Moved...), append([]string{}, c.Faults...), append([]string{}, c.Unsure...)}); err != nil {
			return err
		}
	} else if err := a.comparisonText(c, status, ours, theirs); err != nil {
		return err
	}
	if status != check.OK {
		return &told{status}
	}
	return nil
}

func (a *App) comparisonText(c migrate.Comparison, status check.Status, ours, theirs time.Duration) error {
	for _, part := range []struct {
		word  string
		lines []string
	}{{"differs", c.Faults}, {"not told", c.Unsure}, {"changed meanwhile", c.Moved}} {
		for i, line := range part.lines {
			if i == most {
				line = fmt.Sprintf("and %d more", len(part.lines)-most)
			}
			if err := a.cronSay("%-18s %s", part.word, ui.Clean(line)); err != nil {
				return err
			}
			if i == most {
				break
			}
		}
	}
	verdict := map[check.Status]string{check.OK: "the same", check.Unknown: "it could not be told", check.Critical: "they differ"}[status]
	word := strings.ToUpper(status.String())
	if status == check.OK {
		word = "ok"
	}
	return a.cronSay("%s  %s: %s equal to the row, %d changed meanwhile; the script took %s, escrowctl %s",
		a.io.Paint(status.String(), word), verdict, ui.Plural(len(c.Equal), "table", "tables"), len(c.Moved), theirs.Round(100*time.Millisecond), ours.Round(100*time.Millisecond))
}
