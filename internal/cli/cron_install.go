package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/schedule"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// cronPlace are the flags that choose a crontab.
type cronPlace struct {
	user   string
	system bool
	dryRun bool
}

func (p *cronPlace) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.user, "user", "", "whose crontab, or whom the rows of --system\nrun as (default you)")
	cmd.Flags().BoolVar(&p.system, "system", false, "/etc/cron.d/escrowctl, not a user's crontab")
	cmd.Flags().BoolVar(&p.dryRun, "dry-run", false, "show the difference, change nothing")
}

// cronInstall are the flags of cron install.
type cronInstall struct {
	cronPlace
	program string
	logDir  string
}

func (a *App) cronInstallCommand() *cobra.Command {
	var f cronInstall
	cmd := &cobra.Command{
		Use: "install", Short: "install the runbook's rows, leaving all others alone", Args: noArgs,
		Long: "Writes a row for each job of the runbook's schedule that this escrowctl can do,\n" +
			"between two markers in your crontab; what stands there from before is replaced,\n" +
			"every other line stays as it is, to the byte. The rows hold absolute paths, and\n" +
			"times in the host's zone that are the runbook's in UTC. Rows of old scripts are\n" +
			"named, and left for you to remove." +
			exitStatus("0  installed, or there already", "1  installed, but see the warnings", "2  it could not be"),
		Example: "  escrowctl cron install --dry-run\n  escrowctl cron install\n  sudo escrowctl cron install --system --user backup",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.cronInstall(cmd.Context(), f)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.program, "program", "", "`path` of escrowctl in the rows (default this one)")
	cmd.Flags().StringVar(&f.logDir, "log-dir", "", "`directory` of the logs (default /var/log)")
	return cmd
}

func (a *App) cronRemoveCommand() *cobra.Command {
	var p cronPlace
	cmd := &cobra.Command{
		Use: "remove", Short: "remove the rows that install wrote", Args: noArgs,
		Long: "Takes out the lines between the markers, and the markers. Every other line\n" +
			"stays as it is." + exitStatus("0  removed", "1  there was nothing to remove", "2  it could not be"),
		Example: "  escrowctl cron remove --dry-run\n  sudo escrowctl cron remove --system",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.cronRemove(cmd.Context(), p)
		},
	}
	p.add(cmd)
	return cmd
}

// crontabFile is a crontab that can be changed.
type crontabFile struct {
	name  string
	read  func() (string, error)
	write func(text string) error
}

func (a *App) crontabAt(ctx context.Context, p cronPlace) crontabFile {
	h := a.cron
	if p.system {
		name := h.SystemFile()
		return crontabFile{name, func() (string, error) { return h.ReadFile(name) }, func(text string) error { return h.WriteFile(name, text) }}
	}
	name := p.user
	if name == "" {
		name = h.User()
	}
	return crontabFile{
		"crontab of " + name,
		func() (string, error) { return h.Read(ctx, p.user) },
		func(text string) error { return h.Write(ctx, p.user, text) },
	}
}

// change writes what edit makes of the crontab, or shows the difference.
func (a *App) changeCrontab(c crontabFile, dryRun bool, edit func(string) (string, error)) (changed bool, err error) {
	before, err := c.read()
	if err != nil {
		return false, err
	}
	after, err := edit(before)
	if err != nil {
		return false, fmt.Errorf("%s: %w", c.name, err)
	}
	if before == after {
		return false, nil
	}
	if dryRun {
		_, err := fmt.Fprint(a.io.Out, ui.CleanLines(schedule.Diff(c.name, c.name+" (new)", before, after)))
		return true, err
	}
	// Whoever edited it meanwhile must not lose that.
	if now, err := c.read(); err != nil || now != before {
		return false, errors.Join(err, fmt.Errorf("%s was changed while it was read: run this again", c.name))
	}
	return true, c.write(after)
}

func (a *App) cronInstall(ctx context.Context, f cronInstall) error {
	d, err := a.open(looks)
	if err != nil {
		return err
	}
	defer d.close()
	rows, jobs, notes, err := d.cronRows(f)
	if err != nil {
		return err
	}
	c := a.crontabAt(ctx, f.cronPlace)
	changed, err := a.changeCrontab(c, f.dryRun, func(text string) (string, error) { return schedule.InstallBlock(text, rows) })
	if err != nil {
		return err
	}
	for _, n := range notes {
		a.io.Line("note: %s", n)
	}
	switch {
	case !changed:
		err = a.cronSay("ok  the rows are in the %s already", c.name)
	case f.dryRun:
		err = a.cronSay("dry run: nothing is changed")
	default:
		if a.rememberCron(jobs) != nil {
			a.io.Debug("when the rows were installed is not remembered")
		}
		d.journal(ctx, operation("cron install", ui.Plural(len(rows), "row", "rows")+" in the "+c.name))
		err = a.cronSay("ok  %s in the %s", ui.Plural(len(rows), "row", "rows"), c.name)
	}
	if err != nil {
		return err
	}
	if !d.warnCron(ctx, f) {
		return nil
	}
	return &told{check.Warning}
}

func (a *App) cronSay(format string, args ...any) error {
	_, err := fmt.Fprintf(a.io.Out, format+"\n", args...)
	return err
}

// cronRows writes the rows for this host.
func (d *deps) cronRows(f cronInstall) (rows []string, jobs []schedule.Job, notes []string, err error) {
	zone, err := d.app.cron.Zone()
	if err != nil {
		return nil, nil, nil, &check.Error{Status: check.Unknown, Err: err}
	}
	program, err := f.programPath()
	if err != nil {
		return nil, nil, nil, err
	}
	place := schedule.Placement{Program: program, Zone: zone, Now: d.app.io.Now()}
	if place.LogDir, err = absolute(f.logDir); err != nil {
		return nil, nil, nil, err
	}
	if f.system {
		if place.User = f.user; place.User == "" {
			place.User = d.app.cron.User()
		}
	}
	if file := d.cfg.File; file != "" && file != config.SystemFile {
		if file, err = absolute(file); err != nil {
			return nil, nil, nil, err
		}
		place.Args = []string{"--config", file}
	}
	all, err := cronJobs(d.cfg.S3.Bucket != "")
	if err != nil {
		return nil, nil, nil, err
	}
	for _, j := range all {
		if !j.Available {
			notes = append(notes, fmt.Sprintf("%s: this escrowctl has no %q: no row is written, keep the one of %s", j.Name, j.Command, j.Script))
			continue
		}
		row, note := schedule.RowFor(j, place)
		rows, jobs = append(rows, row), append(jobs, j)
		if note != "" {
			notes = append(notes, note)
		}
	}
	return rows, jobs, notes, nil
}

// programPath returns the path that the rows call.
func (f cronInstall) programPath() (string, error) {
	if f.program != "" {
		if !filepath.IsAbs(f.program) || filepath.Base(f.program) != schedule.Program {
			return "", &misuse{fmt.Sprintf("--program %q: cron needs an absolute path, whose last part is %s", f.program, schedule.Program)}
		}
		return f.program, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("where this escrowctl is: %w: name it with --program", err)
	}
	// A link in PATH, such as /usr/local/bin/escrowctl, outlives an update.
	if found, err := exec.LookPath(schedule.Program); err == nil && filepath.IsAbs(found) && sameFile(found, self) {
		return found, nil
	}
	if filepath.Base(self) != schedule.Program {
		return "", &misuse{fmt.Sprintf("this program is called %s: install it as %s, by whose name rows are found again, or use --program", self, schedule.Program)}
	}
	return self, nil
}

func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// cronDoc remembers when which rows were installed: before that nothing was
// due.
const cronDoc = "cron-installed"

type cronInstalled struct {
	Jobs map[string]time.Time `json:"jobs"`
}

func (a *App) rememberCron(jobs []schedule.Job) error {
	d, err := a.open(changes)
	if err != nil {
		return err
	}
	defer d.close()
	var doc cronInstalled
	if _, err := d.state.Load(cronDoc, &doc); err != nil || doc.Jobs == nil {
		doc.Jobs = map[string]time.Time{}
	}
	for _, j := range jobs {
		if _, known := doc.Jobs[j.Name]; !known {
			doc.Jobs[j.Name] = a.io.Now().UTC()
		}
	}
	return d.state.Save(cronDoc, doc)
}

// warnCron tells what would keep the rows from working.
func (d *deps) warnCron(ctx context.Context, f cronInstall) bool {
	warned := false
	warn := func(format string, args ...any) {
		warned = true
		d.app.io.Warn(format, args...)
	}
	if names := d.fromEnvironment(); len(names) > 0 {
		warn("cron's jobs do not have %s of your environment: put the settings into %s, mode 0600, or a profile", strings.Join(names, ", "), config.SystemFile)
	}
	if f.dryRun {
		return warned
	}
	v, err := d.inspectCron(ctx)
	if err != nil {
		warn("%v", err)
		return warned
	}
	for _, found := range v.cronFindings() {
		if found.Status != check.OK {
			warn("%s%s: %s", prefixed(found.Job), found.Text, found.Action)
		}
	}
	return warned
}

func prefixed(job string) string {
	if job == "" {
		return ""
	}
	return job + ": "
}

// fromEnvironment returns the variables that set something now and would not
// under cron.
func (d *deps) fromEnvironment() []string {
	var names []string
	for _, e := range d.cfg.Entries() {
		if e.Origin.Kind == config.FromEnv {
			names = append(names, e.Origin.Name)
		}
	}
	for _, entry := range d.app.environ {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "AWS_") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (a *App) cronRemove(ctx context.Context, p cronPlace) error {
	c := a.crontabAt(ctx, p)
	changed, err := a.changeCrontab(c, p.dryRun, schedule.RemoveBlock)
	switch {
	case errors.Is(err, schedule.ErrNoBlock):
		return &check.Error{Status: check.Warning, Err: fmt.Errorf("nothing to remove: %w", err)}
	case err != nil:
		return err
	case p.dryRun:
		return a.cronSay("dry run: nothing is changed")
	case changed:
		a.forgetCron()
		a.journalAlone(ctx, operation("cron remove", "the rows are removed from the "+c.name))
	}
	return a.cronSay("ok  removed from the %s", c.name)
}

// forgetCron forgets when rows were installed.
func (a *App) forgetCron() {
	d, err := a.open(changes)
	if err != nil {
		return
	}
	defer d.close()
	_ = d.state.Save(cronDoc, cronInstalled{Jobs: map[string]time.Time{}}) // then it stays remembered
}
