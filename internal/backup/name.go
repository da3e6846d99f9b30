// Package backup takes, lists, verifies, prunes and restores backups. It knows
// no command line, no cloud and no container engine: what it needs of them
// comes in through small interfaces.
package backup

import (
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/sqldump"
)

// TimeLayout is the time in a backup's name, always UTC.
const TimeLayout = "20060102T150405Z"

const (
	manifestSuffix = ".json"
	globalsSuffix  = ".globals.sql"
	ageSuffix      = ".age"
)

// Naming makes and reads the names of one database's backups:
// BASE_20060102T150405Z.sql.gz, with its manifest and roles beside it.
type Naming struct{ Base string }

// File is what the name of a dump says.
type File struct {
	Name      string
	Time      time.Time
	Codec     sqldump.Codec
	Encrypted bool
}

// File returns the name of a dump taken at t.
func (n Naming) File(t time.Time, codec sqldump.Codec, encrypted bool) string {
	name := n.Base + "_" + t.UTC().Format(TimeLayout) + codec.Extension()
	if encrypted {
		name += ageSuffix
	}
	return name
}

// Parse reads a dump's name; ok is false for anything that is not ours.
func (n Naming) Parse(name string) (f File, ok bool) {
	rest, ok := strings.CutPrefix(name, n.Base+"_")
	if !ok || len(rest) < len(TimeLayout) {
		return File{}, false
	}
	t, err := time.Parse(TimeLayout, rest[:len(TimeLayout)])
	if err != nil {
		return File{}, false
	}
	f = File{Name: name, Time: t}
	ext, encrypted := strings.CutSuffix(rest[len(TimeLayout):], ageSuffix)
	f.Encrypted = encrypted
	for _, c := range []sqldump.Codec{sqldump.Gzip, sqldump.Zstd} {
		if ext == c.Extension() {
			f.Codec = c
			return f, true
		}
	}
	return File{}, false
}

// Owns reports whether an object of that name, or its unfinished upload, is
// one of ours: a dump, its manifest or its roles.
func (n Naming) Owns(name string) bool {
	if _, ok := n.Parse(name); ok {
		return true
	}
	if dump, ok := strings.CutSuffix(name, manifestSuffix); ok {
		_, ok := n.Parse(dump)
		return ok
	}
	base, _ := strings.CutSuffix(name, ageSuffix)
	if stem, ok := strings.CutSuffix(base, globalsSuffix); ok {
		_, ok := n.Parse(stem + sqldump.Gzip.Extension())
		return ok
	}
	return false
}

// ManifestName returns the name of a dump's manifest.
func ManifestName(dump string) string { return dump + manifestSuffix }

// globalsName returns the name of the roles kept beside a dump. It does not end
// like a dump's, so that `ls *.sql.gz | tail -1` never finds it.
func (n Naming) globalsName(f File) string {
	name := n.Base + "_" + f.Time.Format(TimeLayout) + globalsSuffix
	if f.Encrypted {
		name += ageSuffix
	}
	return name
}
