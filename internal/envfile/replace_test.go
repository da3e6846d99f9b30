package envfile

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func setKeys(value string) func(*File) (*File, error) {
	return func(f *File) (*File, error) { return f.With("API_KEYS", value) }
}

func write0(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func contents(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestApplyKeeps: mode, owner and symbolic link.
func TestApplyKeeps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real.env"), filepath.Join(dir, ".env")
	write0(t, real, "API_KEYS=a\n", 0o640)
	if os.Geteuid() == 0 {
		if err := os.Chown(real, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("real.env", link); err != nil {
		t.Fatal(err)
	}
	if err := (Editor{}).Apply(t.Context(), link, setKeys("b")); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(link); err != nil || to != "real.env" {
		t.Errorf("the link is %q, %v", to, err)
	}
	info, err := os.Stat(real)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if st := info.Sys().(*syscall.Stat_t); os.Geteuid() == 0 && (st.Uid != 65534 || st.Gid != 65534) {
		t.Errorf("owner %d:%d", st.Uid, st.Gid)
	}
	if got := contents(t, real); got != "API_KEYS=b\n" {
		t.Errorf("it holds %q", got)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*tmp*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, ".env")
	write0(t, path, "API_KEYS=a\n", 0o600)
	// Somebody writes the file while it is being edited.
	w := Editor{Step: func(step string) {
		if step == "sync" {
			write0(t, path, "API_KEYS=theirs\n", 0o600)
		}
	}}
	if err := w.Apply(t.Context(), path, setKeys("b")); err == nil || !strings.Contains(err.Error(), "changed by somebody else") {
		t.Errorf("error %v", err)
	}
	if got := contents(t, path); got != "API_KEYS=theirs\n" {
		t.Errorf("it holds %q", got)
	}
	if err := os.Link(path, filepath.Join(dir, "other")); err != nil {
		t.Fatal(err)
	}
	if err := (Editor{}).Apply(t.Context(), path, setKeys("b")); err == nil || !strings.Contains(err.Error(), "2 names (hard links)") {
		t.Errorf("error %v", err)
	}
}

func TestBackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, copied := filepath.Join(dir, ".env"), filepath.Join(dir, ".env.bak")
	write0(t, path, "API_KEYS=a\n", 0o644)
	for range 2 { // again is no error
		if err := (Editor{}).Copy(path, copied); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(copied); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	write0(t, path, "API_KEYS=b\n", 0o644)
	if err := (Editor{}).Copy(path, copied); err == nil {
		t.Error("the backup was overwritten")
	}
	if got := contents(t, copied); got != "API_KEYS=a\n" {
		t.Errorf("the backup holds %q", got)
	}
}

// TestTogether: writers take turns and none is lost.
func TestTogether(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), ".env")
	write0(t, path, "API_KEYS=x\n", 0o600)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			err := (Editor{}).Apply(t.Context(), path, func(f *File) (*File, error) {
				v, err := f.Get("API_KEYS")
				if err != nil {
					return nil, err
				}
				return f.With("API_KEYS", fmt.Sprintf("%s,%d", v, i))
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := strings.Count(contents(t, path), ","); got != 20 {
		t.Errorf("%d of 20 edits are there: %s", got, contents(t, path))
	}
}

const killAt = "TEST_ENVFILE_KILL_AT"

// TestMain is also the process that is killed.
func TestMain(m *testing.M) {
	if at := os.Getenv(killAt); at != "" {
		w := Editor{Step: func(step string) {
			if step == at {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		}}
		if err := w.Apply(context.Background(), os.Args[len(os.Args)-1], setKeys("new")); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

// TestKilled ends the process before every system call that changes something:
// the file is the old one or the new one, and the next edit goes through.
func TestKilled(t *testing.T) {
	t.Parallel()
	var steps []string
	probe := filepath.Join(t.TempDir(), ".env")
	write0(t, probe, "API_KEYS=old\n", 0o600)
	if err := (Editor{Step: func(s string) { steps = append(steps, s) }}).Apply(t.Context(), probe, setKeys("new")); err != nil {
		t.Fatal(err)
	}
	if len(steps) < 6 {
		t.Fatalf("only the steps %q", steps)
	}
	for _, step := range steps {
		path := filepath.Join(t.TempDir(), ".env")
		write0(t, path, "A=1\nAPI_KEYS=old\n", 0o640)
		cmd := exec.Command(os.Args[0], path)
		cmd.Env = append(os.Environ(), killAt+"="+step)
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("%s: not killed: %v %s", step, err, out)
		}
		want := "A=1\nAPI_KEYS=old\n"
		if step == "sync directory" {
			want = "A=1\nAPI_KEYS=new\n"
		}
		if got := contents(t, path); got != want {
			t.Errorf("killed before %q: it holds %q", step, got)
		}
		if err := (Editor{}).Apply(t.Context(), path, setKeys("newer")); err != nil {
			t.Errorf("after %q: %v", step, err)
		}
		Sweep(path)
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*tmp*")); len(left) > 0 {
			t.Errorf("after %q: left %q", step, left)
		}
	}
}
