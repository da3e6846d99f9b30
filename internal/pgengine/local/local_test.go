package local

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/pgengine"
	"github.com/stellarescrow/escrowctl/internal/storm/kit"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// open is an engine whose clock the test sets, in a directory that another user
// gets through.
func open(t *testing.T, clock *time.Time) *Engine {
	t.Helper()
	bins := Binaries()
	testenv.Need(t, len(bins) > 0, "PostgreSQL's server", "make deps")
	return &Engine{Dir: testenv.ShortDir(t, 0o755), Bins: bins, Now: func() time.Time { return *clock }}
}

func start(t *testing.T, e *Engine, s pgengine.Spec) *instance {
	t.Helper()
	s.Log = t.Logf
	in, err := e.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	own := in.(*instance)
	t.Cleanup(func() {
		if err := own.destroy(); err != nil {
			t.Error(err)
		}
	})
	return own
}

// answers says whether the server is as it was.
func (in *instance) answers(t *testing.T) bool {
	t.Helper()
	conn, err := in.Connect(t.Context(), "postgres")
	if err != nil {
		return false
	}
	_ = conn.Close(t.Context())
	return true
}

// nothingOf looks for what a server could leave behind.
func nothingOf(t *testing.T, in *instance, segment int) {
	t.Helper()
	if _, err := os.Stat(in.dir); err == nil {
		t.Errorf("%s is left", in.dir)
	}
	if pids := processesIn(filepath.Join(in.dir, dataDir)); len(pids) > 0 {
		t.Errorf("processes %v are left", pids)
	}
	if segments(t)[segment] {
		t.Errorf("the shared memory %d is left", segment)
	}
}

// segments are the System V segments of shared memory that there are.
func segments(t *testing.T) map[int]bool {
	t.Helper()
	text, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		t.Fatal(err)
	}
	there := map[int]bool{}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 {
			if id, err := strconv.Atoi(fields[1]); err == nil {
				there[id] = true
			}
		}
	}
	return there
}

// TestNoInodes: a directory with room in which nothing can be made says what to do.
func TestNoInodes(t *testing.T) {
	now := time.Now()
	e := open(t, &now)
	e.Dir = filepath.Join(e.Dir, "full")
	kit.Tmpfs(t, e.Dir, "size=1g,nr_inodes=1,mode=755")
	_, err := e.Start(t.Context(), pgengine.Spec{SQL: 1 << 20, Owner: "o", Expires: now.Add(time.Hour), Log: t.Logf})
	if err == nil || !strings.Contains(err.Error(), "no space left on device: set TMPDIR") {
		t.Errorf("%v", err)
	}
}

// TestReap: what goes is what has lost its owner, and what was kept when its time
// is up; not before, and nothing that is no server of ours.
func TestReap(t *testing.T) {
	t.Parallel()
	now := time.Now()
	e := open(t, &now)
	run := start(t, e, pgengine.Spec{Owner: "run", Expires: now.Add(time.Hour)})
	kept := start(t, e, pgengine.Spec{Owner: "kept", Expires: now.Add(2 * time.Hour), Keep: true})
	memory := map[*instance]int{run: sharedMemory(filepath.Join(run.dir, dataDir)), kept: sharedMemory(filepath.Join(kept.dir, dataDir))}
	for _, segment := range memory {
		if !segments(t)[segment] {
			t.Fatalf("the shared memory %d of a running server is not found", segment)
		}
	}
	if err := kept.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"escrowctl-dr-test-0-keep-x", "escrowctl-dr-test-0-keep-x-y-z", "other-0-keep-x-y"} {
		if err := os.Mkdir(filepath.Join(e.Dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	nobody, everybody := func(string, bool) bool { return false }, func(string, bool) bool { return true }
	reap := func(dead func(string, bool) bool, want ...*instance) {
		t.Helper()
		gone, err := e.Reap(dead)
		if err != nil || len(gone) != len(want) {
			t.Fatalf("removed %q, %v", gone, err)
		}
		for _, in := range want {
			nothingOf(t, in, memory[in])
		}
	}
	reap(nobody)
	if !run.answers(t) || !kept.answers(t) {
		t.Fatal("a server in use was ended")
	}
	now = now.Add(59 * time.Minute)
	reap(everybody, run)
	now = now.Add(time.Hour)
	reap(everybody)
	if !kept.answers(t) {
		t.Fatal("a kept server was ended before its time")
	}
	now = now.Add(time.Minute)
	reap(nobody, kept)
	if left, _ := os.ReadDir(e.Dir); len(left) != 3 {
		t.Errorf("of three directories that are not ours there are left %v", left)
	}
}
