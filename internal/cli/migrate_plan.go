package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/migrate"
	"github.com/stellarescrow/escrowctl/internal/schedule"
)

// migration is what is to be done.
type migration struct {
	found    migrate.Found
	old      []schedule.Placed // rows that call the scripts
	rows     []string          // the new ones
	jobs     []schedule.Job
	crontabs []*crontabEdit
	into     *crontabEdit // where the new rows go
	target   string       // the configuration file
	config   string       // what is written there; "" leaves it as it is
	before   string       // what stands there
	there    bool         // and is kept
	left     []string     // what is not carried over
	// conflicts are why nothing can be changed.
	conflicts []string
	notes     []string
	scrub     func(string) string
}

func (p *migration) changes() bool {
	return p.config != "" || slices.ContainsFunc(p.crontabs, func(c *crontabEdit) bool { return c.before != c.after })
}

// crontabEdit is a crontab with what becomes of it.
type crontabEdit struct {
	crontabFile
	system        bool
	before, after string
	source        schedule.Source
}

// rowAside begins an old row that migrate compare runs.
const rowAside = "# side by side with escrowctl: "

// rowReplaced begins an old row that escrowctl took the place of.
const rowReplaced = "# replaced by escrowctl: "

// awake makes rows that are kept for comparing rows again.
func awake(crontab string) string {
	return strings.ReplaceAll("\n"+crontab, "\n"+rowAside, "\n")[1:]
}

// readCrontabs reads those of the host, or the one that is named.
func (a *App) readCrontabs(ctx context.Context, file string) ([]*crontabEdit, error) {
	var out []*crontabEdit
	if file != "" {
		file, err := filepath.Abs(file)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(file); err != nil {
			return nil, &misuse{fmt.Sprintf("--crontab: %v", err)}
		}
		system := file == "/etc/crontab" || filepath.Dir(file) == "/etc/cron.d"
		out = append(out, &crontabEdit{crontabFile: crontabFile{
			file, func() (string, error) { return a.cron.ReadFile(file) },
			func(text string) error {
				return renameio.WriteFile(file, []byte(text), 0o600, renameio.WithExistingPermissions())
			},
		}, system: system})
	} else {
		sources, err := a.cron.Sources(ctx)
		if err != nil {
			return nil, &check.Error{Status: check.Unknown, Err: err}
		}
		for _, s := range sources {
			c := a.crontabAt(ctx, cronPlace{user: s.User})
			system := s.User == ""
			if system {
				name := s.Name
				c = crontabFile{name, func() (string, error) { return a.cron.ReadFile(name) }, func(text string) error { return a.cron.WriteFile(name, text) }}
			}
			out = append(out, &crontabEdit{crontabFile: c, system: system, source: s})
		}
	}
	for _, c := range out {
		text, err := c.read()
		if err != nil {
			return nil, err
		}
		user := c.source.User
		if user == "" && !c.system {
			user = a.cron.User()
		}
		c.before, c.after = text, text
		c.source = schedule.Source{Name: c.name, User: user, Crontab: schedule.Parse(awake(text), schedule.Format{System: c.system, Zones: a.cron.Zones()})}
	}
	return out, nil
}

// oldRows finds the rows that call the scripts, by job.
func (p *migration) oldRows(jobs []schedule.Job, h schedule.Host) map[string][]schedule.Placed {
	var sources []schedule.Source
	for _, c := range p.crontabs {
		sources = append(sources, c.source)
	}
	out := map[string][]schedule.Placed{}
	for _, j := range schedule.Inspect(sources, jobs, h).Jobs {
		for _, row := range j.Scripts {
			out[j.Name] = append(out[j.Name], row)
			p.old = append(p.old, row)
			if row.Row.Err != nil {
				p.left = append(p.left, fmt.Sprintf("%s: cron refuses the row: %v: it is left as it is", row.Where, row.Row.Err))
			}
		}
	}
	return out
}

// editOf is the crontab that a row stands in.
func (p *migration) editOf(row schedule.Placed) *crontabEdit {
	for _, c := range p.crontabs {
		if strings.HasPrefix(row.Where, c.name+", line ") {
			return c
		}
	}
	return p.crontabs[0]
}

// planMigration works out what is to be done, and whether it can be.
func (a *App) planMigration(ctx context.Context, f migrateFlags) (*migration, error) {
	zone, err := a.cron.Zone()
	if err != nil {
		return nil, &check.Error{Status: check.Unknown, Err: err}
	}
	p := &migration{scrub: func(s string) string { return s }}
	if p.target, err = filepath.Abs(f.target); err != nil {
		return nil, err
	}
	if p.crontabs, err = a.readCrontabs(ctx, f.crontab); err != nil {
		return nil, err
	}
	jobs, err := cronJobs(true)
	if err != nil {
		return nil, err
	}
	host := schedule.Host{Zone: zone, Now: a.io.Now(), Command: commandOf, Misspelt: misspelt, Program: a.cron.Program, Writable: a.cron.Writable}
	old := p.oldRows(jobs, host)
	if len(p.old) == 0 {
		return p, nil
	}
	first := p.old[0]
	if backups := old[backupJob]; len(backups) > 0 {
		first = backups[0]
	}
	p.into = p.editOf(first)
	p.read(readText)
	bucket, err := a.planConfig(p)
	if err != nil {
		return nil, err
	}
	if jobs, err = cronJobs(bucket); err != nil {
		return nil, err
	}
	return p, a.planRows(p, f, jobs, old, host)
}

// readText reads a script or a .env file.
func readText(name string) (string, error) {
	b, err := os.ReadFile(name)
	return string(b), err
}

// read follows the old rows.
func (p *migration) read(files migrate.Files) {
	var rows []migrate.Row
	for _, o := range p.old {
		if o.Row.Err == nil {
			c := p.editOf(o)
			rows = append(rows, migrate.Row{Place: migrate.Place{File: c.name, Line: o.Row.Line}, User: o.User, Command: o.Row.Command, Script: o.Command, Env: crontabEnv(c, o.Row.Env)})
		}
	}
	known := config.Variables()
	p.found = migrate.Read(rows, files, func(name string) bool {
		_, ok := known[name]
		return ok || strings.HasPrefix(name, "AWS_")
	})
	for _, l := range p.found.Left {
		p.left = append(p.left, l.String())
	}
}

// crontabEnv are the variables of a crontab, with their lines.
func crontabEnv(c *crontabEdit, env map[string]string) map[string]migrate.Variable {
	out := map[string]migrate.Variable{}
	lines := strings.Split(c.before, "\n")
	for name, value := range env {
		v := migrate.Variable{Name: name, Value: value, Kind: migrate.InCrontab, Place: migrate.Place{File: c.name, Line: 1}}
		for i, line := range lines {
			if strings.HasPrefix(strings.TrimLeft(line, " \t\"'"), name) {
				v.Place.Line = i + 1
			}
		}
		out[name] = v
	}
	return out
}

// planRows writes the new rows and makes comments of the old ones.
func (a *App) planRows(p *migration, f migrateFlags, jobs []schedule.Job, old map[string][]schedule.Placed, host schedule.Host) error {
	program, err := cronInstall{program: f.program}.programPath()
	if err != nil {
		return err
	}
	place := schedule.Placement{Program: program, Zone: host.Zone, Now: host.Now}
	if p.target != config.SystemFile {
		place.Args = []string{"--config", p.target}
	}
	if f.night {
		return a.planNight(p, place, old[backupJob], f.crontab)
	}
	for _, j := range jobs {
		if j.Available {
			p.rowsFor(j, place, old[j.Name])
		}
	}
	for _, row := range p.old {
		if row.Row.Err == nil {
			p.comment(row, rowReplaced)
		}
	}
	return p.install()
}

// rowsFor writes a job's rows: at the times of the old ones, if it has any.
func (p *migration) rowsFor(j schedule.Job, place schedule.Placement, old []schedule.Placed) {
	user := p.owner(place, nil)
	sound := slices.DeleteFunc(slices.Clone(old), func(r schedule.Placed) bool { return r.Row.Err != nil })
	if len(sound) == 0 {
		place.User = user
		row, note := schedule.RowFor(j, place)
		p.rows, p.jobs = append(p.rows, row), append(p.jobs, j)
		p.notes = append(p.notes, fmt.Sprintf("%s: no script did it: it is new, at the runbook's time", j.Name))
		if note != "" {
			p.notes = append(p.notes, note)
		}
		return
	}
	for _, o := range sound {
		place.User = p.owner(place, &o)
		if o.Log != "" {
			j.Log = o.Log
		}
		local, _ := schedule.LocalSpec(j, place.Zone, place.Now)
		if local.String() != o.Row.Spec.String() {
			p.notes = append(p.notes, fmt.Sprintf("%s: the old row's time is kept, %s, where the runbook has %s: a later 'escrowctl cron install' writes the runbook's", j.Name, o.Row.Spec, local))
		}
		if !p.into.system && o.User != p.into.source.User {
			p.left = append(p.left, fmt.Sprintf("%s: it ran as %s, the new row runs as %s: see that it may do the same", o.Where, o.User, p.into.source.User))
		}
		p.rows, p.jobs = append(p.rows, schedule.RowAt(o.Row.Spec, j, place)), append(p.jobs, j)
	}
}

// owner is whom a row of a system crontab runs as.
func (p *migration) owner(_ schedule.Placement, o *schedule.Placed) string {
	switch {
	case !p.into.system:
		return ""
	case o != nil && o.User != "":
		return o.User
	}
	return p.old[0].User
}

// planNight replaces the backup's row by one that runs both.
func (a *App) planNight(p *migration, place schedule.Placement, backups []schedule.Placed, crontab string) error {
	if len(backups) == 0 || backups[0].Row.Err != nil {
		return &misuse{"--side-by-side: no row calls the old backup script"}
	}
	place.User = p.owner(place, &backups[0])
	j := schedule.Job{Name: backupJob, Command: "migrate compare", Log: backups[0].Log}
	if crontab != "" {
		j.Args = []string{"--crontab", p.into.name}
	}
	if j.Log == "" {
		j.Log = "/var/log/stellar-backup.log"
	}
	p.rows = []string{schedule.RowAt(backups[0].Row.Spec, j, place)}
	p.comment(backups[0], rowAside)
	return p.install()
}

// comment makes a comment of an old row, whose line stays where it is.
func (p *migration) comment(row schedule.Placed, mark string) {
	c := p.editOf(row)
	lines := strings.SplitAfter(c.after, "\n")
	line := &lines[row.Row.Line-1]
	*line = mark + strings.TrimPrefix(*line, rowAside)
	c.after = strings.Join(lines, "")
}

func (p *migration) install() error {
	text, err := schedule.InstallBlock(p.into.after, p.rows)
	if err != nil {
		return fmt.Errorf("%s: %w", p.into.name, err)
	}
	p.into.after = text
	// The crontab that gets the new rows first: no night without a backup.
	slices.SortStableFunc(p.crontabs, func(a, b *crontabEdit) int {
		switch {
		case a == p.into && b != p.into:
			return -1
		case b == p.into && a != p.into:
			return 1
		}
		return 0
	})
	return nil
}

// exists says whether a file is there.
func exists(name string) bool {
	_, err := os.Stat(name)
	return !errors.Is(err, fs.ErrNotExist)
}
