package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/store"
)

func TestDirModes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0)) // the modes must not depend on it
	root := filepath.Join(t.TempDir(), "a", "b")
	d := store.NewDir(root)
	must(t, d.Put(t.Context(), "x", []byte("secret")))
	_, err := d.Upload(t.Context(), "y", file(t, []byte("secret")))
	must(t, err)
	for path, want := range map[string]os.FileMode{
		filepath.Dir(root): 0o700 | os.ModeDir, root: 0o700 | os.ModeDir, d.Path("x"): 0o600, d.Path("y"): 0o600,
	} {
		info, err := os.Lstat(path)
		must(t, err)
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
	}
}

// TestDirOnlyFiles: links, directories and pipes are neither listed nor read,
// and none is replaced.
func TestDirOnlyFiles(t *testing.T) {
	root := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, []byte("not a backup"), 0o600))
	must(t, os.Symlink(outside, filepath.Join(root, "link")))
	must(t, os.Symlink(filepath.Join(root, "gone"), filepath.Join(root, "dangling")))
	must(t, os.Mkdir(filepath.Join(root, "dir"), 0o700))
	must(t, syscall.Mkfifo(filepath.Join(root, "fifo"), 0o600))
	d := store.NewDir(root)
	if got := names(t, d); len(got) != 0 {
		t.Errorf("List: %v", got)
	}
	for _, name := range []string{"link", "dangling", "dir", "fifo"} {
		if _, err := d.Stat(t.Context(), name); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("Stat(%s): %v", name, err)
		}
		if rc, err := d.Open(t.Context(), name, 0, -1); !errors.Is(err, store.ErrNotExist) {
			if err == nil {
				rc.Close()
			}
			t.Errorf("Open(%s): %v", name, err)
		}
		if err := d.Put(t.Context(), name, []byte("x")); !errors.Is(err, store.ErrExist) {
			t.Errorf("Put(%s): %v", name, err)
		}
	}
	if b, err := os.ReadFile(outside); err != nil || string(b) != "not a backup" {
		t.Errorf("the file outside now holds %q, %v", b, err)
	}
}

func TestDirSweep(t *testing.T) {
	d := store.NewDir(t.TempDir())
	old := time.Now().Add(-48 * time.Hour)
	begin := func(name string, at time.Time) string {
		temp, err := d.Create(name)
		must(t, err)
		must(t, temp.Close())
		must(t, os.Chtimes(temp.Name(), at, at))
		return filepath.Base(temp.Name())
	}
	mine, probe := begin("ours-1.sql.gz", old), begin(store.ProbeName, old)
	young, others := begin("ours-2.sql.gz", time.Now()), begin("theirs", old)
	must(t, os.WriteFile(d.Path(".escrowctl-tmp-"), nil, 0o600)) // no name in it
	must(t, os.Chtimes(d.Path(".escrowctl-tmp-"), old, old))
	must(t, d.Put(t.Context(), "ours-3.sql.gz", nil))
	must(t, os.Chtimes(d.Path("ours-3.sql.gz"), old, old))

	if got := names(t, d); !slices.Equal(got, []string{"ours-3.sql.gz"}) {
		t.Errorf("unfinished files are listed: %v", got)
	}
	owns := func(name string) bool { return strings.HasPrefix(name, "ours-") }
	got, err := d.Sweep(t.Context(), time.Now().Add(-24*time.Hour), owns)
	must(t, err)
	want := []string{mine, probe}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("swept %v, want %v", got, want)
	}
	for _, name := range []string{young, others, "ours-3.sql.gz"} {
		if _, err := os.Lstat(d.Path(name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTempCommit(t *testing.T) {
	d := store.NewDir(t.TempDir())
	first, err := d.Create("x")
	must(t, err)
	defer first.Discard()
	second, err := d.Create("x")
	must(t, err)
	_, err = first.WriteString("first")
	must(t, err)
	must(t, first.Commit())
	if err := second.Commit(); !errors.Is(err, store.ErrExist) {
		t.Errorf("second Commit of a name: %v", err)
	}
	second.Discard()
	first.Discard() // after Commit it only closes
	if got := read(t, d, "x", 0, -1); string(got) != "first" {
		t.Errorf("it holds %q", got)
	}
	if entries, _ := os.ReadDir(d.Location()); len(entries) != 1 {
		t.Errorf("files left: %v", entries)
	}
}

func TestDirErrors(t *testing.T) {
	blocked := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(blocked, nil, 0o600))
	for _, path := range []string{blocked, filepath.Join(blocked, "below")} {
		err := store.NewDir(path).CheckWritable(t.Context())
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("CheckWritable of %s: %v", path, err)
		}
	}
	if os.Getuid() == 0 {
		return // root may write anywhere
	}
	locked := t.TempDir()
	must(t, os.Chmod(locked, 0o500))
	if err := store.NewDir(locked).CheckWritable(t.Context()); err == nil || !strings.Contains(err.Error(), "give it to the user") {
		t.Errorf("CheckWritable of a directory without rights: %v", err)
	}
}

// TestDirFull: a disk that fills up leaves no object and says so.
func TestDirFull(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here")
	}
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	must(t, err)
	defer full.Close()
	g := store.NewGrowing(full)
	if _, err := g.Write([]byte("x")); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("write to a full disk: %v", err)
	}
	if g.Size() != 0 {
		t.Errorf("the file grew to %d bytes that are not on the disk", g.Size())
	}
	g.Finish(syscall.ENOSPC)
	g.Finish(nil) // the first word counts
	d := store.NewDir(t.TempDir())
	if _, err := d.Upload(t.Context(), "x", g); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Upload: %v", err)
	}
	if entries, _ := os.ReadDir(d.Location()); len(entries) != 0 {
		t.Errorf("files left: %v", entries)
	}
}
