package perf

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/stellarescrow/escrowctl/internal/nofollow"
)

// Archive keeps snapshots in a directory, one compressed file each.
type Archive struct {
	Dir string
	// Limits of what is kept: every snapshot of the last Recent, then one a day
	// for Days, then one a week for Weeks.
	Recent time.Duration
	Days   int
	Weeks  int
}

const (
	idForm   = "20060102T150405Z"
	fileTail = ".json.gz"
)

// ID names the snapshot: its time in UTC.
func (s *Snapshot) ID() string { return s.TakenAt.UTC().Format(idForm) }

// Save keeps a snapshot. What was there under its name is replaced as a whole.
func (a Archive) Save(s *Snapshot) error {
	if err := os.MkdirAll(a.Dir, 0o700); err != nil {
		return fmt.Errorf("keep the snapshot: %w", err)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := json.NewEncoder(z).Encode(s); err != nil {
		return fmt.Errorf("keep the snapshot: %w", err)
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("keep the snapshot: %w", err)
	}
	path := filepath.Join(a.Dir, s.ID()+fileTail)
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(a.Dir), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return fmt.Errorf("keep the snapshot: %w", err)
	}
	defer func() { _ = f.Cleanup() }()
	if _, err := f.Write(b.Bytes()); err != nil {
		return fmt.Errorf("keep the snapshot: %w", err)
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("keep the snapshot: %w", err)
	}
	return nil
}

// IDs lists the snapshots that are kept, oldest first.
func (a Archive) IDs() ([]string, error) {
	entries, err := os.ReadDir(a.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the snapshots: %w", err)
	}
	var ids []string
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), fileTail)
		if _, err := time.Parse(idForm, id); ok && err == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// Load reads a snapshot.
func (a Archive) Load(id string) (*Snapshot, error) {
	if _, err := time.Parse(idForm, id); err != nil {
		return nil, fmt.Errorf("%q is no snapshot's name: %s", id, idForm)
	}
	path := filepath.Join(a.Dir, id+fileTail)
	f, err := nofollow.Open(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("read a snapshot: %w", err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("read a snapshot: %s is damaged: %w: delete it to go on without it", path, err)
	}
	s := new(Snapshot)
	if err := json.NewDecoder(z).Decode(s); err != nil {
		return nil, fmt.Errorf("read a snapshot: %s is damaged: %w: delete it to go on without it", path, err)
	}
	return s, nil
}

// Prune deletes the snapshots that the limits do not keep, and returns their
// names. The newest always stays.
func (a Archive) Prune(now time.Time) ([]string, error) {
	ids, err := a.IDs()
	if err != nil {
		return nil, err
	}
	a.sweep(now)
	var gone []string
	for _, id := range a.dispensable(ids, now) {
		if err := os.Remove(filepath.Join(a.Dir, id+fileTail)); err != nil {
			return gone, fmt.Errorf("delete an old snapshot: %w", err)
		}
		gone = append(gone, id)
	}
	return gone, nil
}

// staleTemp is the age at which what a killed Save has left goes.
const staleTemp = time.Hour

// sweep removes the temporary files of killed Saves.
func (a Archive) sweep(now time.Time) {
	temps, _ := filepath.Glob(filepath.Join(a.Dir, ".*"+fileTail+"*")) // the pattern is sound
	for _, path := range temps {
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && now.Sub(info.ModTime()) > staleTemp {
			_ = os.Remove(path)
		}
	}
}

// dispensable returns which of ids, oldest first, can go. Of a day or week the
// newest is kept.
func (a Archive) dispensable(ids []string, now time.Time) []string {
	var gone []string
	days, weeks := map[string]bool{}, map[string]bool{}
	for i := len(ids) - 1; i >= 0; i-- {
		at, _ := time.Parse(idForm, ids[i]) // IDs checked it
		age := now.Sub(at)
		year, week := at.ISOWeek()
		day, weekName := at.Format("20060102"), fmt.Sprintf("%d-%d", year, week)
		keep := i == len(ids)-1 || age <= a.Recent ||
			age <= time.Duration(a.Days)*24*time.Hour && !days[day] ||
			age <= time.Duration(a.Weeks)*7*24*time.Hour && !weeks[weekName]
		if keep {
			days[day], weeks[weekName] = true, true
			continue
		}
		gone = append(gone, ids[i])
	}
	return gone
}

// Before returns the newest snapshot taken at or before a time, "" if there is
// none.
func (a Archive) Before(at time.Time) (string, error) {
	ids, err := a.IDs()
	if err != nil {
		return "", err
	}
	limit := at.UTC().Format(idForm)
	for i := len(ids) - 1; i >= 0; i-- {
		if ids[i] <= limit {
			return ids[i], nil
		}
	}
	return "", nil
}

// Trim leaves out of a snapshot what the next analysis does not need: the texts
// of all statements but those that a report shows.
func (s *Snapshot) Trim(shown *Queries) {
	if s.Database == nil || s.Database.Statements == nil || shown == nil {
		return
	}
	keep := map[string]bool{}
	for _, list := range [][]Query{shown.ByMean, shown.ByTotal, shown.ByCalls, shown.ByIO, shown.New, shown.Regressed} {
		for _, q := range list {
			keep[q.ID] = true
		}
	}
	list := s.Database.Statements.List
	for i := range list {
		if !keep[fmt.Sprint(list[i].ID)] {
			list[i].Text = ""
		}
	}
}
