package state

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/stellarescrow/escrowctl/internal/nofollow"
)

// appendWait bounds the wait for other writers of the same journal, each of
// which needs one write and one fsync.
const appendWait = 10 * time.Second

// journal is a file of run records, one JSON object a line. Readers take no
// lock: they see whole lines and perhaps the beginning of one, which they skip.
type journal struct {
	path string
	keep int // runs
}

// entry is a run's latest line.
type entry struct {
	id   string
	line []byte
}

// append adds a line under the journal's lock and sees it on the disk.
func (j journal) append(line []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), appendWait)
	defer cancel()
	lock := flock.New(filepath.Join(filepath.Dir(j.path), "."+filepath.Base(j.path)+".lock"),
		flock.SetFlag(os.O_CREATE|os.O_RDONLY|nofollow.Flags), flock.SetPermissions(0o600))
	if _, err := lock.TryLockContext(ctx, 5*time.Millisecond); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("another process has been writing %s for %s", j.path, appendWait)
		}
		return err
	}
	defer func() { _ = lock.Unlock() }()
	if err := appendLine(j.path, line); err != nil {
		return err
	}
	// The record is safe. Compaction is housekeeping: when it fails, on a full
	// disk say, the journal stays as it was and the next append tries again.
	_ = j.compact()
	return nil
}

// appendLine adds one line, or leaves the file as it was. A torn line that a
// crash left is ended first, so that it spoils no other.
func appendLine(path string, line []byte) error {
	f, err := nofollow.Open(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	out := append(bytes.Clone(line), '\n')
	if size > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, size-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			out = append([]byte{'\n'}, out...)
		}
	}
	if _, err := f.Write(out); err != nil {
		return errors.Join(err, f.Truncate(size)) // a full disk must not leave half a line
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if size == 0 {
		return syncDir(filepath.Dir(path))
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}

// compact keeps the latest line of each of the last runs. It waits until the
// file holds three lines a kept run, which a run's two lines reach after as many
// runs again as are kept.
func (j journal) compact() error {
	body, err := nofollow.Read(j.path)
	if err != nil || bytes.Count(body, []byte{'\n'}) <= 3*j.keep {
		return err
	}
	entries := latest(body)
	if len(entries) > j.keep {
		entries = entries[len(entries)-j.keep:]
	}
	var out bytes.Buffer
	for _, e := range entries {
		out.Write(e.line)
		out.WriteByte('\n')
	}
	return replaceFile(j.path, out.Bytes())
}

// read returns the runs in the order they began, the last j.keep of them.
func (j journal) read() ([]entry, error) {
	body, err := nofollow.Read(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries := latest(body)
	if len(entries) > j.keep {
		entries = entries[len(entries)-j.keep:]
	}
	return entries, nil
}

// latest returns each run's last line, in the order of their first. What is no
// record, a line torn by a crash, is left out.
func latest(body []byte) []entry {
	at := map[string]int{}
	var entries []entry
	for line := range bytes.Lines(body) {
		line = bytes.TrimSuffix(line, []byte{'\n'})
		var r struct {
			ID string `json:"id"`
		}
		if json.Unmarshal(line, &r) != nil || r.ID == "" {
			continue
		}
		if i, ok := at[r.ID]; ok {
			entries[i].line = line
			continue
		}
		at[r.ID] = len(entries)
		entries = append(entries, entry{id: r.ID, line: line})
	}
	return entries
}
