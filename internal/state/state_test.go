package state

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestDocuments(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	type doc struct{ A, B string }
	var got doc
	if found, err := s.Load("ack", &got); found || err != nil {
		t.Fatalf("nothing there: %v, %v", found, err)
	}
	must(t, s.Save("ack", doc{"x", strings.Repeat("y", 10_000)}))
	want := doc{"z", "ü"}
	must(t, s.Save("ack", want))
	if found, err := s.Load("ack", &got); !found || err != nil || got != want {
		t.Errorf("%v, %v, %+v", found, err, got)
	}
	if err := s.Save("ack", func() {}); err == nil {
		t.Error("a function was saved")
	}
	if found, err := s.Load("ack", &got); !found || err != nil || got != want {
		t.Errorf("a failed save cost the document: %v, %v, %+v", found, err, got)
	}
	path := filepath.Join(s.Dir(), "documents/ack.json")
	must(t, os.WriteFile(path, []byte(`{"A":`), 0o600))
	if _, err := s.Load("ack", &got); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("damaged: %v", err)
	}
}

func TestReadOnlyOptionNeedsNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	s := open(t, dir, Options{ReadOnly: true})
	if r, err := s.Runs("backup", 0); err != nil || len(r) != 0 {
		t.Errorf("runs: %v, %v", r, err)
	}
	if j, err := s.Jobs(); err != nil || len(j) != 0 {
		t.Errorf("jobs: %v, %v", j, err)
	}
	var v any
	if found, err := s.Load("ack", &v); found || err != nil {
		t.Errorf("document: %v, %v", found, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
}

func TestNoDirectory(t *testing.T) {
	if _, err := Open("", Options{}); err == nil || !strings.Contains(err.Error(), "ESCROWCTL_STATE_DIR") {
		t.Errorf("no name: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	for _, dir := range []string{file, filepath.Join(file, "sub")} {
		if _, err := Open(dir, Options{}); !errors.Is(err, syscall.ENOTDIR) || !strings.Contains(err.Error(), "no directory") {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// needRoot skips, loudly, what only root can set up.
func needRoot(t *testing.T, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("SKIPPED, not proven here: %s: run the tests as root", what)
	}
}

// mount makes a small filesystem of its own.
func mount(t *testing.T, size string) string {
	t.Helper()
	needRoot(t, "a filesystem of its own")
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("SKIPPED, not proven here: a filesystem of its own: mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("umount %s: %v", dir, err)
		}
	})
	return dir
}

func TestReadOnlyFilesystem(t *testing.T) {
	dir := mount(t, "1m")
	s := open(t, dir, Options{})
	want := finish(t, s, "backup", "ok", nil)
	must(t, s.Save("ack", "old"))
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))

	_, openErr := Open(dir, Options{})
	_, beginErr := s.Begin("backup")
	_, lockErr := s.Lock("other")
	for name, err := range map[string]error{"open": openErr, "begin": beginErr, "lock": lockErr, "save": s.Save("ack", "new")} {
		if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "read-only filesystem: remount it, or set state.dir") {
			t.Errorf("%s: %v", name, err)
		}
	}
	look := open(t, dir, Options{ReadOnly: true})
	if got := runs(t, look, "backup"); len(got) != 1 || got[0].ID != want.ID {
		t.Errorf("reading: %+v", got)
	}
}

// Whatever the full disk refuses, what was recorded before stays, and with room
// again all goes on.
func TestFullFilesystem(t *testing.T) {
	dir := mount(t, "64k")
	s := open(t, dir, Options{})
	must(t, s.Save("ack", "old"))
	ballast := filepath.Join(dir, "ballast")

	recorded, err := untilFull(s)
	if len(recorded) < 10 {
		t.Fatalf("only %d recorded", len(recorded))
	}
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "free some, or set state.dir") {
		t.Errorf("recording: %v", err)
	}
	fill(t, ballast)
	if err := s.Save("ack", strings.Repeat("new", 10_000)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("saving: %v", err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("opening: %v", err)
	}
	got := runs(t, s, "backup")
	slices.Reverse(got)
	for i, id := range recorded {
		if i >= len(got) || got[i].ID != id {
			t.Fatalf("run %d of %d (%s) is lost: %d are left", i, len(recorded), id, len(got))
		}
	}
	var ack string
	if found, err := s.Load("ack", &ack); !found || err != nil || ack != "old" {
		t.Errorf("document: %v, %v, %.20q", found, err, ack)
	}
	wholeLines(t, dir)
	noTemps(t, dir)

	must(t, os.Remove(ballast))
	last := finish(t, s, "backup", "ok", nil)
	if got := runs(t, s, "backup"); got[0].ID != last.ID || len(got) != len(recorded)+1 {
		t.Errorf("with room again: %d runs, newest %+v", len(got), got[0])
	}
}

// Room for one more line, but not for the compaction that it makes due: the line
// counts, and compaction waits for better days.
func TestCompactionOnFullFilesystem(t *testing.T) {
	const keep, page = 5, 4096
	dir := mount(t, "64k")
	s := open(t, dir, Options{KeepRuns: keep})
	for range 7 {
		finish(t, s, "backup", "ok", nil)
	}
	path := filepath.Join(dir, "runs/backup.jsonl")
	body, err := os.ReadFile(path)
	must(t, err)
	body = append(body, strings.Repeat(" ", page-len(body)%page)+"\n"...) // line 15, into a new page
	must(t, os.WriteFile(path, body, 0o600))
	fill(t, filepath.Join(dir, "ballast"))

	a, err := s.Begin("backup")
	must(t, err)
	after, err := os.ReadFile(path)
	must(t, err)
	if len(after) <= len(body) {
		t.Fatal("it was compacted, nothing is shown")
	}
	if got := runs(t, s, "backup"); len(got) != keep || got[0].ID != a.ID() {
		t.Errorf("%d runs, newest %+v", len(got), got[0])
	}
	wholeLines(t, dir)
	noTemps(t, dir)

	must(t, os.Remove(filepath.Join(dir, "ballast")))
	must(t, a.Finish("ok", 0, nil, nil))
	after, err = os.ReadFile(path)
	must(t, err)
	if got := runs(t, s, "backup"); len(after) >= len(body) || len(got) != keep || got[0].ID != a.ID() {
		t.Errorf("with room again: %d bytes, %d runs, newest %+v", len(after), len(got), got[0])
	}
}

// fill takes all the room there is.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	defer func() { _ = f.Close() }()
	for err == nil {
		_, err = f.Write(make([]byte, 512))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

// untilFull records runs until the disk refuses one.
func untilFull(s *Store) (recorded []string, err error) {
	for {
		a, err := s.Begin("backup")
		if err != nil {
			return recorded, err
		}
		recorded = append(recorded, a.ID())
		if err := a.Finish("ok", 0, map[string]any{"text": strings.Repeat("x", 700)}, nil); err != nil {
			return recorded, err
		}
		if len(recorded) > 10_000 {
			return recorded, errors.New("it never filled up")
		}
	}
}

func wholeLines(t *testing.T, dir string) {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(dir, "runs/backup.jsonl"))
	must(t, err)
	if !bytes.HasSuffix(body, []byte("}\n")) {
		t.Errorf("the journal ends in %q", body[len(body)-20:])
	}
}

func noTemps(t *testing.T, dir string) {
	t.Helper()
	for _, sub := range []string{".", runsDir, documentsDir} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		must(t, err)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") && !strings.HasSuffix(e.Name(), ".lock") {
				t.Errorf("left behind: %s", e.Name())
			}
		}
	}
}

// Root would leave files that the owner's own runs cannot write.
func TestForeignDirectoryAsRoot(t *testing.T) {
	needRoot(t, "root in another user's directory")
	dir := t.TempDir()
	must(t, os.Chown(dir, 65534, 65534))
	_, err := Open(dir, Options{})
	if !errors.Is(err, syscall.EPERM) || !strings.Contains(err.Error(), "belongs to ") || !strings.Contains(err.Error(), "run as the owner") {
		t.Errorf("got %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestForeignDirectoryAsUser(t *testing.T) {
	needRoot(t, "an unprivileged user in root's directory")
	// The child must be able to reach its own program.
	bin := readable(t)
	dir := filepath.Join(filepath.Dir(bin), "state")
	must(t, os.Mkdir(dir, 0o755))
	out := openAs(t, bin, dir, 65534)
	if !strings.Contains(out, "permission denied") || !strings.Contains(out, "belongs to root") || !strings.Contains(out, "ESCROWCTL_STATE_DIR") {
		t.Errorf("got %s", out)
	}
	// A volume of a group, as Kubernetes mounts it, is fine.
	must(t, os.Chown(dir, 0, 65534))
	must(t, os.Chmod(dir, 0o770))
	if out := openAs(t, bin, dir, 65534); out != "ready\n" {
		t.Errorf("a group's directory: %s", out)
	}
}

// readable copies the test binary to where every user can run it.
func readable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "escrowctl-state-*")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	body, err := os.ReadFile(os.Args[0])
	must(t, err)
	bin := filepath.Join(dir, "state.test")
	must(t, os.WriteFile(bin, body, 0o755))
	return bin
}

func openAs(t *testing.T, bin, dir string, id uint32) string {
	t.Helper()
	cmd := exec.Command(bin, dir)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), roleVar+"=open")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestNoFollow: a link in place of a file of ours is neither read nor written
// through, a pipe is not waited for, and the error says what to do.
func TestNoFollow(t *testing.T) {
	victim := filepath.Join(t.TempDir(), "victim")
	const text = `{"pid":1,"host":"elsewhere","command":"mine"}`
	for _, kind := range []string{"link", "pipe"} {
		s, err := Open(t.TempDir(), Options{Host: "here"})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(victim, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"locks/backup.lock", "runs/backup.jsonl", "runs/.other.jsonl.lock", "documents/d.json"} {
			path := filepath.Join(s.Dir(), name)
			put := func() error { return os.Symlink(victim, path) }
			if kind == "pipe" {
				put = func() error { return syscall.Mkfifo(path, 0o600) }
			}
			if err := put(); err != nil {
				t.Fatal(err)
			}
		}
		lock, lockErr := s.Lock("backup")
		if lockErr == nil {
			_ = lock.Unlock()
		}
		_, beginErr := s.Begin("backup")
		_, runsErr := s.Runs("backup", 0)
		_, otherErr := s.Begin("other")
		_, loadErr := s.Load("d", new(any))
		for what, err := range map[string]error{"lock": lockErr, "begin": beginErr, "runs": runsErr, "the journal's lock": otherErr, "load": loadErr} {
			mayPass := kind == "pipe" && (what == "lock" || what == "the journal's lock") // it is locked as a file is
			if err == nil && !mayPass || err != nil && !strings.Contains(err.Error(), "look who put it there") {
				t.Errorf("%s, a %s: %v", what, kind, err)
			}
		}
		if err := s.Save("d", "new"); err != nil { // takes its place
			t.Error(err)
		}
		if b, err := os.ReadFile(victim); err != nil || string(b) != text {
			t.Errorf("the victim is changed: %q, %v", b, err)
		}
	}
}
