package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/stellarescrow/escrowctl/internal/backup"
	"github.com/stellarescrow/escrowctl/internal/store"
)

// located is a backup and the store to read it from.
type located struct {
	store store.Reader
	name  string
	home  string // "local", "s3" or "file"
}

// locate finds what a person named: latest, a name, a file, an s3:// URI.
func (d *deps) locate(ctx context.Context, what string, w where) (located, error) {
	switch {
	case strings.HasPrefix(what, "s3://"), strings.HasPrefix(what, "file://"):
		i := strings.LastIndexByte(what, '/')
		addr, err := store.Parse(what[:i])
		if err != nil {
			return located{}, &misuse{err.Error()}
		}
		st, err := d.storeAt(ctx, addr)
		return located{st, what[i+1:], "s3"}, err
	case strings.ContainsRune(what, filepath.Separator) || isFile(what):
		abs, err := filepath.Abs(what)
		if err != nil {
			return located{}, err
		}
		return located{store.NewDir(filepath.Dir(abs)), filepath.Base(abs), "file"}, nil
	}
	entries, listErr := d.entries(ctx, w)
	local, remote, err := d.readers(ctx, w)
	if err != nil {
		return located{}, err
	}
	e, err := pick(entries, what)
	if err != nil {
		return located{}, errors.Join(listErr, err)
	}
	if listErr != nil {
		d.app.io.Warn("not all backups could be listed: %v", listErr)
	}
	if c := e.Best(); c == e.Local {
		return located{local, e.Name, "local"}, nil
	}
	return located{remote, e.Name, "s3"}, nil
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// pick finds an entry by name, by its time, or as the newest.
func pick(entries []backup.Entry, what string) (backup.Entry, error) {
	if len(entries) == 0 {
		return backup.Entry{}, fmt.Errorf("%w: take one with: escrowctl backup", errNoBackups)
	}
	if what == "latest" {
		// A damaged or unfinished one is never the latest.
		for i := len(entries) - 1; i >= 0; i-- {
			if k := entries[i].Best().Kind; k == backup.Indexed || k == backup.Plain {
				return entries[i], nil
			}
		}
		return backup.Entry{}, fmt.Errorf("%w that are finished: see escrowctl backup list", errNoBackups)
	}
	for _, e := range entries {
		if e.Name == what || e.Time.Format(backup.TimeLayout) == what {
			return e, nil
		}
	}
	return backup.Entry{}, &misuse{fmt.Sprintf("no backup %q: name one of escrowctl backup list, its time (%s), a file, an s3:// URI, or latest", what, entries[len(entries)-1].Time.Format(backup.TimeLayout))}
}
