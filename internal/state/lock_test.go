package state

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestLockExcludes(t *testing.T) {
	since := time.Date(2026, 1, 1, 2, 0, 0, 0, time.UTC)
	s := open(t, t.TempDir(), Options{Host: "db1", Command: "escrowctl backup", Now: func() time.Time { return since }})
	l, err := s.Lock("backup")
	must(t, err)
	if other, err := s.Lock("dr-test"); err != nil {
		t.Errorf("another name: %v", err)
	} else {
		must(t, other.Unlock())
	}
	_, err = s.Lock("backup")
	var locked *LockedError
	if !errors.Is(err, ErrLocked) || !errors.As(err, &locked) {
		t.Fatalf("taken twice: %v", err)
	}
	want := LockedError{Name: "backup", PID: os.Getpid(), Since: since, Command: "escrowctl backup", Host: "db1"}
	if *locked != want {
		t.Errorf("got %+v, want %+v", *locked, want)
	}
	for _, part := range []string{"escrowctl backup", strconv.Itoa(os.Getpid()), "db1", "2026-01-01T02:00:00Z"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %s", err, part)
		}
	}
	must(t, l.Unlock())
	must(t, l.Unlock()) // a deferred second one does no harm
	again, err := s.Lock("backup")
	must(t, err)
	must(t, again.Unlock())
}

// A second Unlock must not wipe out the next holder's name.
func TestLateUnlock(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	first, err := s.Lock("backup")
	must(t, err)
	must(t, first.Unlock())
	second, err := s.Lock("backup")
	must(t, err)
	must(t, first.Unlock())
	var locked *LockedError
	if _, err := s.Lock("backup"); !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("got %v", err)
	}
	must(t, second.Unlock())
}

func TestLockOfAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	kid := start(t, "lock", dir)
	var locked *LockedError
	if _, err := s.Lock("backup"); !errors.As(err, &locked) || locked.PID != kid.Process.Pid || locked.Command != "escrowctl backup" {
		t.Fatalf("got %v, want it held by %d", err, kid.Process.Pid)
	}
	kid.kill()
	l, err := s.Lock("backup") // at once, without a retry
	must(t, err)
	must(t, l.Unlock())
}

// The holder's own child, a pg_dump say, may outlive it for a moment; it must
// not keep the lock.
func TestLockIsNotInherited(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	kid := start(t, "lock-with-child", dir)
	grandchild, err := strconv.Atoi(strings.TrimPrefix(kid.lines[0], "child "))
	must(t, err)
	t.Cleanup(func() { _ = syscall.Kill(grandchild, syscall.SIGKILL) })
	kid.kill()
	if err := syscall.Kill(grandchild, 0); err != nil {
		t.Fatalf("the grandchild is gone, nothing is shown: %v", err)
	}
	l, err := s.Lock("backup")
	must(t, err)
	must(t, l.Unlock())
}

// Between taking the lock and writing down the holder, the file names the last
// one, which may have been killed. Nobody is better than the wrong one.
func TestStaleHolderIsNotNamed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	kid := start(t, "lock", dir)
	path, err := s.path(locksDir, "backup", ".lock")
	must(t, err)
	stale, err := os.ReadFile(path)
	must(t, err)
	kid.kill()
	l, err := s.Lock("backup")
	must(t, err)
	defer func() { must(t, l.Unlock()) }()
	must(t, os.WriteFile(path, stale, 0o600))
	var locked *LockedError
	if _, err := s.Lock("backup"); !errors.As(err, &locked) || locked.PID != 0 {
		t.Errorf("names the dead holder: %v", err)
	}
}
