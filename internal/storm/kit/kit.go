// Package kit is what the storm is made with: escrowctl's binary, a world for it
// to run in, a check of what it leaves, and a judge of backups that shares no
// code with it.
//
// Only tests may import this package.
package kit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Storm is one test process's: make it in a variable, and call Main in TestMain.
type Storm struct {
	Report Report

	mu    sync.Mutex
	dir   string            // of what was built
	built map[string]string // paths by package
}

// New returns a storm whose figures go to the section of that name.
func New(area string) *Storm { return &Storm{Report: Report{Area: area}} }

// Full says whether all is to be run, rather than a representative part.
func Full() bool { return os.Getenv("STORM") == "full" }

// Pick returns many in a full run, and few in another.
func Pick(few, many int) int {
	if Full() {
		return many
	}
	return few
}

// Pause waits while the file exists that $STORM_PAUSE names, so that hours of
// storm leave the machine alone while something is measured on it.
func Pause() {
	file := os.Getenv("STORM_PAUSE")
	for file != "" {
		if _, err := os.Stat(file); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// Main runs the tests, writes the report and returns the exit code.
func (s *Storm) Main(m *testing.M) int {
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if signal.Ignored(sig) { // in the background or under nohup, and what is attacked would inherit it
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
	code := m.Run()
	err := s.Report.write(os.Getenv("STORM_REPORT"), os.Getenv("STORM_PAGE"))
	if s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "storm:", err)
		return max(code, 1)
	}
	return code
}

// Binary builds escrowctl, once, and returns its path; or that of the binary to
// attack instead, $STORM_ESCROWCTL.
func (s *Storm) Binary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("STORM_ESCROWCTL"); path != "" {
		return path
	}
	return s.Build(t, "cmd/escrowctl")
}

// Build builds a command of this module, once, and returns its path. Every user
// may run it.
func (s *Storm) Build(t testing.TB, pkg string) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if path, ok := s.built[pkg]; ok {
		return path
	}
	path := filepath.Join(s.tempDir(t), filepath.Base(pkg))
	cmd := exec.Command("go", "build", "-o", path, "github.com/stellarescrow/escrowctl/"+pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("storm: go build %s: %v: %s", pkg, err, out)
	}
	if s.built == nil {
		s.built = map[string]string{}
	}
	s.built[pkg] = path
	return path
}

// tempDir is where the binaries go that Main removes.
func (s *Storm) tempDir(t testing.TB) string {
	t.Helper()
	if s.dir != "" {
		return s.dir
	}
	dir, err := os.MkdirTemp("", "escrowctl-storm-bin-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatalf("storm: %v", err)
	}
	s.dir = dir
	return dir
}
