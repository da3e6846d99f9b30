package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/schedule"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// showMigration prints what is to be done, as JSON or as differences.
func (a *App) showMigration(p *migration, f migrateFlags) error {
	if a.asJSON() {
		return a.migrationJSON(p, f)
	}
	if len(p.old) == 0 {
		return a.cronSay("ok  no crontab calls an old script: there is nothing to migrate")
	}
	for _, s := range p.settings() {
		if err := a.cronSay("%-28s %s", s.Key, s.From); err != nil {
			return err
		}
	}
	if err := a.migrationDiffs(p); err != nil {
		return err
	}
	if p.there {
		a.io.Line("note: %s is there already and stays as it is", p.target)
	}
	for _, n := range p.notes {
		a.io.Line("note: %s", n)
	}
	for _, l := range p.left {
		a.io.Warn("%s", l)
	}
	for _, c := range p.conflicts {
		a.io.Warn("cannot go on: %s", c)
	}
	if len(p.conflicts) > 0 {
		return a.cronSay("%s: nothing is changed", ui.Plural(len(p.conflicts), "conflict", "conflicts"))
	}
	if f.dryRun {
		return a.cronSay("dry run: nothing is changed")
	}
	if !p.changes() {
		return a.cronSay("ok  nothing to change")
	}
	return nil
}

// migrationDiffs shows what would become of each file; nothing where nothing
// can be changed.
func (a *App) migrationDiffs(p *migration) error {
	if len(p.conflicts) > 0 {
		return nil
	}
	if p.config != "" {
		from := "/dev/null"
		if p.before != "" {
			from = p.target
		}
		if _, err := fmt.Fprint(a.io.Out, ui.CleanLines(p.scrub(schedule.Diff(from, p.target, p.before, p.config)))); err != nil {
			return err
		}
	}
	for _, c := range p.crontabs {
		if _, err := fmt.Fprint(a.io.Out, ui.CleanLines(p.scrub(schedule.Diff(c.name, c.name+" (new)", c.before, c.after)))); err != nil {
			return err
		}
	}
	return nil
}

// migrated is a setting that was found.
type migrated struct {
	Key  string `json:"key"`
	From string `json:"from"`
}

// settings are those that the scripts have, with where each is set. Values are
// not among them: some are secrets.
func (p *migration) settings() []migrated {
	var out []migrated
	variables := config.Variables()
	for name, v := range p.found.Variables {
		if v.Value == "" {
			continue
		}
		key := name
		if known, ok := variables[name]; ok {
			key = known.Key
		}
		out = append(out, migrated{key, v.Place.String()})
	}
	slices.SortFunc(out, func(a, b migrated) int { return strings.Compare(a.Key+a.From, b.Key+b.From) })
	return out
}

func (a *App) migrationJSON(p *migration, f migrateFlags) error {
	status := check.OK
	if len(p.left) > 0 {
		status = check.Warning
	}
	if len(p.conflicts) > 0 {
		status = check.Unknown
	}
	some := func(list []string) []string {
		out := []string{}
		for _, s := range list {
			out = append(out, p.scrub(s))
		}
		return out
	}
	return a.io.JSON(struct {
		SchemaVersion int          `json:"schema_version"`
		Status        check.Status `json:"status"`
		DryRun        bool         `json:"dry_run"`
		Changes       bool         `json:"changes"`
		File          string       `json:"file"`
		Configuration string       `json:"configuration,omitempty"`
		Settings      []migrated   `json:"settings"`
		Rows          []string     `json:"rows"`
		Left          []string     `json:"left"`
		Conflicts     []string     `json:"conflicts"`
		Notes         []string     `json:"notes"`
	}{1, status, f.dryRun, p.changes(), p.target, p.scrub(p.config), append([]migrated{}, p.settings()...), some(p.rows), some(p.left), some(p.conflicts), some(p.notes)})
}
