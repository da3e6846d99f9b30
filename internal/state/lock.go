package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/stellarescrow/escrowctl/internal/nofollow"
)

// ErrLocked says that another run holds the lock.
var ErrLocked = errors.New("another run is in progress")

// LockedError says who holds a lock. PID is 0 if the holder could not be learnt.
type LockedError struct {
	Name    string
	PID     int
	Since   time.Time
	Command string
	Host    string
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("state: lock %s: %v: try again when it has ended", e.Name, ErrLocked)
	}
	return fmt.Sprintf("state: lock %s: %v: %s, process %d on %s, since %s: try again when it has ended",
		e.Name, ErrLocked, e.Command, e.PID, e.Host, e.Since.UTC().Format(time.RFC3339))
}

func (e *LockedError) Unwrap() error { return ErrLocked }

// Lock is held until Unlock or the end of the process, however that ends: the
// kernel frees it. Child processes do not inherit it.
type Lock struct {
	f    *flock.Flock
	path string
}

// holder is what a lock file holds while it is locked. Afterwards it is empty,
// or stale if the holder was killed.
type holder struct {
	Process
	Host    string    `json:"host"`
	Since   time.Time `json:"since"`
	Command string    `json:"command"`
}

// Lock takes the lock name on this host, or returns a *LockedError at once.
func (s *Store) Lock(name string) (*Lock, error) {
	path, err := s.path(locksDir, name, ".lock")
	if err != nil {
		return nil, err
	}
	f := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDONLY|nofollow.Flags), flock.SetPermissions(0o600))
	got, err := f.TryLock()
	if err != nil {
		return nil, s.fault("lock "+name, err)
	}
	if !got {
		return nil, s.lockedError(name, path)
	}
	h := holder{Process: s.table.self(), Host: s.host, Since: s.now().UTC(), Command: s.command}
	if b, err := json.Marshal(h); err == nil {
		// The lock holds without it, even on a full disk; only the message of
		// others would name nobody.
		_ = nofollow.Overwrite(path, append(b, '\n'))
	}
	return &Lock{f: f, path: path}, nil
}

// Unlock gives the lock up. The file stays: removing it would let two hold the
// lock, one on the old file and one on the new.
func (l *Lock) Unlock() error {
	if l.f.Locked() {
		_ = nofollow.Overwrite(l.path, nil)
	}
	if err := l.f.Unlock(); err != nil {
		return fmt.Errorf("state: unlock %s: %w", l.path, err)
	}
	return nil
}

// lockedError learns who holds the lock. Between taking it and writing down who
// took it is a moment, in which the file is empty or names a dead holder before.
func (s *Store) lockedError(name, path string) error {
	const looks, pause = 10, 10 * time.Millisecond
	for range looks {
		var h holder
		body, err := nofollow.Read(path)
		if err == nil && json.Unmarshal(body, &h) == nil && s.table.judge(h.Process, s.sameHost(h.Host)) != dead {
			return &LockedError{Name: name, PID: h.PID, Since: h.Since, Command: h.Command, Host: h.Host}
		}
		time.Sleep(pause)
	}
	return &LockedError{Name: name}
}

func (s *Store) sameHost(host string) bool { return strings.EqualFold(host, s.host) }
