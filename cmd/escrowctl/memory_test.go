package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// The most that escrowctl may have in memory at once, in MiB: docs/scale.md says
// 150, and a test binary is some MiB larger. The data are larger than that, so
// whatever keeps them fails.
const (
	memoryLimit = 150
	memoryData  = 180
)

// memoryDB has rows that compress to a twentieth, and such that do not but for
// their digits, in several tables, one of them larger than all others.
const memoryDB = `
CREATE TABLE trades (id int PRIMARY KEY, body bytea);
ALTER TABLE trades ALTER body SET STORAGE EXTERNAL;
INSERT INTO trades SELECT g, (SELECT string_agg(sha512((g * 16 + i)::text::bytea), '') FROM generate_series(1, 16) i) FROM generate_series(1, 28000) g;
CREATE TABLE events (id int, payload jsonb);
INSERT INTO events SELECT g, jsonb_build_object('type', 'contract', 'contract', 'escrow', 'memo', repeat('event of the platform ', 18), 'n', g) FROM generate_series(1, 250000) g;
CREATE TABLE users (id int PRIMARY KEY, body bytea);
INSERT INTO users SELECT id, body FROM trades WHERE id <= 8000;
CREATE INDEX ON events (id);
`

// TestMemory: whatever is done with a backup, memory does not grow with it.
func TestMemory(t *testing.T) {
	testenv.Long(t, "bench/run.sh measures the same")
	s := newDRSandbox(t)
	s.pg.Psql(t, "app", "DROP TABLE trades, events, users CASCADE;"+memoryDB)
	// As many cores as the limit is said for.
	s.env = append(s.env, "GOMAXPROCS=2", "ESCROWCTL_BACKUP_SHRINK_WARN_RATIO=0")
	s.measured(t, "backup")
	files, _ := filepath.Glob(filepath.Join(s.dir, "*.sql.gz"))
	out, err := exec.Command("bash", "-c", `gunzip -c "$0" | wc -c`, files[len(files)-1]).Output()
	if n, _ := strconv.Atoi(strings.TrimSpace(string(out))); err != nil || n < memoryData<<20 {
		t.Fatalf("the dump has %d bytes, too few to show anything: %v", n, err)
	}
	s.measured(t, "backup", "verify", "latest", "--deep", "--s3")
	s.measured(t, "backup", "restore", "latest", "--local", "--to", "memory_local")
	s.measured(t, "backup", "restore", "latest", "--s3", "--to", "memory_s3")
	s.measured(t, "dr-test", "latest", "--from", "s3")
	// As the old script made it: one stream, no manifest.
	plain := filepath.Join(t.TempDir(), filepath.Base(files[len(files)-1]))
	if out, err := exec.Command("bash", "-c", `gunzip -c "$0" | gzip -1 >"$1"`, files[len(files)-1], plain).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.env = append(s.env, "BACKUP_DIR="+filepath.Dir(plain))
	s.measured(t, "backup", "restore", "latest", "--local", "--to", "memory_plain")
}

// measured runs escrowctl and holds its peak of memory against the limit.
func (s *drSandbox) measured(t *testing.T, args ...string) {
	t.Helper()
	cmd := s.command(args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	peak, looks := 0, 0
	for {
		select {
		case <-ended:
			if code := cmd.ProcessState.ExitCode(); code > 1 {
				t.Fatalf("%v: exit %d\n%s", args, code, &out)
			}
			t.Logf("%v: %d MiB at most", args, peak)
			if looks == 0 || peak == 0 {
				t.Errorf("%v: its memory was not seen", args)
			}
			if peak > memoryLimit {
				t.Errorf("%v: %d MiB of memory, at most %d are wanted", args, peak, memoryLimit)
			}
			return
		case <-time.After(10 * time.Millisecond):
			// The mark never falls, so what was seen last is the peak but for the
			// last moment, when nothing is read any more.
			if mib, err := highWater(cmd.Process.Pid); err == nil {
				peak, looks = max(peak, mib), looks+1
			}
		}
	}
}

// highWater is the most memory that a process has had, in MiB.
func highWater(pid int) (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")))
			return n >> 10, err
		}
	}
	return 0, os.ErrNotExist
}
