// Package migrate reads what the old shell scripts are run with: the crontab
// rows that call them, the variables set there, in .env files and in the scripts
// themselves, and what the scripts do that escrowctl does not. It runs nothing
// and changes nothing. Its other half compares dumps.
package migrate

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// Place is a line of a file.
type Place struct {
	File string
	Line int // from 1
}

func (p Place) String() string { return fmt.Sprintf("%s, line %d", p.File, p.Line) }

// Kind is where a variable is set.
type Kind uint8

// The kinds, by the weight that they leave escrowctl to see them with.
const (
	InScript  Kind = iota // in a script, which escrowctl does not read
	InEnvFile             // in a file that a script or row reads
	InCrontab             // above the rows of a crontab, where new rows see it too
)

// Variable is a variable that an old script sees.
type Variable struct {
	Name  string
	Value string // may be a secret
	Place Place
	Kind  Kind
	// Derived says that the value is put together from other variables, or is a
	// default that the script has.
	Derived bool
}

// Left is something that is not carried over by itself.
type Left struct {
	Place Place
	Text  string // what it is
	Way   string // the way out
}

func (l Left) String() string { return fmt.Sprintf("%s: %s: %s", l.Place, l.Text, l.Way) }

// Row is a crontab row that calls an old script.
type Row struct {
	Place   Place
	User    string
	Command string
	// Script is the base name of the script.
	Script string
	// Env are the variables set above the row in its crontab, with their lines.
	Env map[string]Variable
}

// Found is what the old scripts are run with.
type Found struct {
	Variables map[string]Variable
	EnvFiles  []string // in the order in which they are read
	Scripts   []string // paths
	Dirs      []string // that a row or script changes to, the scripts' parents
	Left      []Left
}

// Files gives the text of a file of the host; the error is fs.ErrNotExist where
// there is none.
type Files func(name string) (string, error)

// Read follows each row into its script and the files that it reads. known says
// of which variables the values matter.
func Read(rows []Row, files Files, known func(name string) bool) Found {
	f := Found{Variables: map[string]Variable{}}
	for _, row := range rows {
		r := &reader{files: files, known: known, vars: maps.Clone(row.Env), row: row}
		if r.vars == nil {
			r.vars = map[string]Variable{}
		}
		r.text(row.Command, row.Place, InScript)
		if r.script == "" {
			r.left(row.Place, "the script that it calls is not on this host", "look there for settings of its own, and set them by hand")
		}
		r.project()
		f.merge(r)
	}
	slices.SortFunc(f.Left, func(a, b Left) int {
		return cmp.Or(strings.Compare(a.Place.File, b.Place.File), cmp.Compare(a.Place.Line, b.Place.Line))
	})
	f.Left = slices.Compact(f.Left)
	return f
}

// merge adds what one row was found to run with.
func (f *Found) merge(r *reader) {
	for name, v := range r.vars {
		if !r.known(name) {
			continue
		}
		first, twice := f.Variables[name]
		if twice && first.Value != v.Value {
			r.left(v.Place, fmt.Sprintf("%s differs from that of %s", name, first.Place), "the first is taken: set both alike")
			continue
		}
		if !twice || first.Derived && !v.Derived {
			f.Variables[name] = v
		}
	}
	add := func(to *[]string, names []string) {
		for _, n := range names {
			if !slices.Contains(*to, n) {
				*to = append(*to, n)
			}
		}
	}
	add(&f.EnvFiles, r.envFiles)
	add(&f.Dirs, r.dirs)
	if r.script != "" {
		add(&f.Scripts, []string{r.script})
	}
	f.Left = append(f.Left, r.lefts...)
}

// project reads the .env of the compose project in one of the directories: what
// scripts and rows do not set themselves is mostly there.
func (r *reader) project() {
	for _, dir := range r.dirs {
		name := filepath.Join(dir, ".env")
		text, err := r.files(name)
		if err != nil || slices.Contains(r.envFiles, name) {
			continue
		}
		r.envFiles = append(r.envFiles, name)
		r.dotenv(name, text, true)
	}
}
