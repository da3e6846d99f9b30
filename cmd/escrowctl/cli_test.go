package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/testenv/s3fault"
)

// set changes one variable of the sandbox's environment.
func (s *sandbox) set(pair string) { s.env = append(s.env, pair) }

// expect runs a command and checks its exit code and that the output holds all
// of want.
func (s *sandbox) expect(t *testing.T, code int, args string, want ...string) string {
	t.Helper()
	got, out, errs := s.run(t, strings.Fields(args)...)
	if got != code {
		t.Errorf("%s: exit %d, want %d\n%s%s", args, got, code, out, errs)
	}
	for _, w := range want {
		if !strings.Contains(out+errs, w) {
			t.Errorf("%s: no %q in\n%s%s", args, w, out, errs)
		}
	}
	return out
}

func TestMisuse(t *testing.T) {
	s := &sandbox{env: []string{"TEST_ESCROWCTL_MAIN=1", "HOME=" + t.TempDir(), "ESCROWCTL_STATE_DIR=" + t.TempDir()}}
	s.expect(t, 0, "--help", "backup")
	s.expect(t, 0, "version", "escrowctl")
	s.expect(t, 3, "backp", `"backup"`)
	s.expect(t, 3, "backup --frobnicate", "frobnicate", "--help")
	s.expect(t, 3, "backup list extra", "extra")
	s.expect(t, 3, "backup", "DATABASE_URL")
	s.expect(t, 3, "backup restore latest", "--to")
	s.expect(t, 3, "backup restore latest --to x --clean", "--yes")
	s.expect(t, 3, "backup restore latest --to env:NOT_SET", "NOT_SET")
	s.set("S3_BUCKET=stellarescrow-backups")
	s.set("RETENTION_DAYS=soon")
	s.expect(t, 3, "config check", "s3://stellarescrow-backups", "RETENTION_DAYS", "soon")
}

func TestDayAtWork(t *testing.T) {
	s := newSandbox(t)
	s.pg.Psql(t, "app", "CREATE TABLE trades (id int PRIMARY KEY, v text); INSERT INTO trades SELECT g, md5(g::text) FROM generate_series(1, 5000) g; CREATE TABLE events (id int); INSERT INTO events VALUES (1)")
	s.expect(t, 1, "backup list", "no backups")
	out := s.expect(t, 0, "backup")
	path, ok := strings.CutPrefix(lastLine(out), "BACKUP_LOCATION=")
	if _, err := os.Stat(path); !ok || err != nil {
		t.Fatalf("last line: %q, %v", lastLine(out), err)
	}
	s.expect(t, 0, "backup verify latest --s3", "PASS", "5,001 rows")
	s.expect(t, 0, "backup list", "indexed", "both", "ok")
	s.expect(t, 0, "backup restore latest --to copy --jobs 2", "5,001")
	s.expect(t, 2, "backup restore latest --to copy", "not empty")
	s.expect(t, 0, "backup restore latest --to copy --clean --yes")
	s.expect(t, 2, "backup restore latest --to other --table nonsense", "public.trades")
	s.expect(t, 0, "backup restore latest --to one --table events --s3", "spared")
	s.expect(t, 3, "backup verify 20200101T000000Z", "20200101T000000Z")

	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), filepath.Base(path))
	manifest, err := os.ReadFile(path + ".json")
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	for name, body := range map[string][]byte{bad: b, bad + ".json": manifest} {
		if err := os.WriteFile(name, body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.expect(t, 2, "backup verify "+bad, "FAIL", "public.trades")

	s.pg.Psql(t, "app", "DELETE FROM trades WHERE id > 10; DROP TABLE events")
	time.Sleep(time.Second)
	s.expect(t, 1, "backup", "public.events", "backup ack")
	s.expect(t, 1, "backup prune", "backup ack")
	s.expect(t, 0, "backup ack --json", `"acknowledged": {`, "public.events")
	s.expect(t, 0, "backup ack --json", `"acknowledged": null`)
	s.expect(t, 0, "backup prune --dry-run", "newest good backup")
	s.expect(t, 0, "backup prune --dry-run --json", `"dry_run": true`, `"delete": []`, `"reason": "newest good backup"`)
	s.expect(t, 0, "backup upload --json", `"sent": []`)
	s.s3.Stop(t)
	s.expect(t, 2, "backup list --json", `"problem": "`, `"backups": [`, filepath.Base(path))
}

// TestTargetSecret: the password of a --to URL is as secret as any.
func TestTargetSecret(t *testing.T) {
	s := newSandbox(t)
	s.pg.Psql(t, "app", "CREATE TABLE trades (id int); INSERT INTO trades VALUES (1)")
	s.expect(t, 0, "backup")
	const secret = "marker-of-the-target"
	// The server's refusal quotes the role, which is the password here.
	code, out, errs := s.run(t, "backup", "restore", "latest", "--to", s.pg.URLAs(secret, secret, "copy"))
	if code != 2 || strings.Contains(out+errs, secret) || !strings.Contains(errs, "password authentication failed") {
		t.Errorf("exit %d, with the secret or without the reason:\n%s%s", code, out, errs)
	}
	for _, e := range s.env {
		if dir, ok := strings.CutPrefix(e, "ESCROWCTL_STATE_DIR="); ok {
			runs, err := os.ReadFile(filepath.Join(dir, "runs", "backup-restore.jsonl"))
			if err != nil || strings.Contains(string(runs), secret) {
				t.Errorf("the secret is in the run's record: %v\n%s", err, runs)
			}
		}
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return lines[len(lines)-1]
}

func TestBucketDown(t *testing.T) {
	s := newSandbox(t)
	s.pg.Psql(t, "app", "CREATE TABLE trades (id int); INSERT INTO trades VALUES (1)")
	s.s3.Stop(t)
	s.expect(t, 2, "backup", "bucket lacks it", "backup upload")
	s.expect(t, 0, "backup verify latest --local", "PASS")
	s.s3.Start(t)
	s.expect(t, 0, "backup upload", "sent stellar_escrow_")
	s.expect(t, 0, "backup verify latest --s3", "PASS")
	s.expect(t, 0, "backup upload", "lacks nothing")
}

// TestBackupOutOfTime: backup.timeout ends a run wherever it is, and is named.
func TestBackupOutOfTime(t *testing.T) {
	s := newSandbox(t)
	s.pg.Psql(t, "app", "CREATE TABLE trades (id int); INSERT INTO trades VALUES (1)")
	proxy := s3fault.New(t, s.s3)
	gate := s3fault.NewGate()
	defer gate.Open()
	proxy.On("Put", 0, -1, gate.Hold)
	s.set("AWS_ENDPOINT_URL_S3=" + proxy.URL)
	s.set("ESCROWCTL_BACKUP_TIMEOUT=3s")
	s.expect(t, 2, "backup", "local backup is whole", "bucket lacks it", "longer than backup.timeout (3s)", "raise it")
	s.expect(t, 0, "backup verify latest --local", "PASS")

	s.set("ESCROWCTL_DUMP_LOCK_TIMEOUT=30m")
	blocker := exec.Command(s.pg.Tool("psql"), "-Xq", "-d", s.pg.SocketURL("app"), "-c", "BEGIN; LOCK TABLE trades; SELECT pg_sleep(3600)")
	if err := blocker.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = blocker.Process.Kill(); _ = blocker.Wait() }()
	s.locks(t, true, "1")
	s.expect(t, 2, "backup", "no backup was taken", "longer than backup.timeout (3s)", "raise it")
}

func TestReportersDown(t *testing.T) {
	s := newSandbox(t)
	sink := testenv.NewSink(t)
	s.pg.Psql(t, "app", "CREATE TABLE trades (id int); INSERT INTO trades VALUES (1)")
	s.set("BACKUP_ALERT_WEBHOOK=" + sink.WebhookURL())
	s.set("ESCROWCTL_REPORT_TIMEOUT=1s")
	sink.SetDelay("", time.Hour)
	start := time.Now()
	s.expect(t, 1, "backup", "webhook")
	if took := time.Since(start); took > 10*time.Minute {
		t.Errorf("a hanging webhook held the backup up for %s", took)
	}
	s.expect(t, 0, "backup list", "indexed")
}

// TestSignals: one run at a time, and a run that is told to stop stops.
func TestSignals(t *testing.T) {
	s := newSandbox(t)
	s.pg.Psql(t, "app", "CREATE TABLE trades (id int, v text); INSERT INTO trades SELECT g, md5(g::text) FROM generate_series(1, 1000) g")
	// A lock on the table keeps pg_dump waiting for as long as the test needs.
	s.set("ESCROWCTL_DUMP_LOCK_TIMEOUT=30m")
	hold := s.pg.Tool("psql")
	blocker := exec.Command(hold, "-Xq", "-d", s.pg.SocketURL("app"), "-c", "BEGIN; LOCK TABLE trades; SELECT pg_sleep(3600)")
	if err := blocker.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = blocker.Process.Kill(); _ = blocker.Wait() }()
	s.locks(t, true, "1")
	for sig, code := range map[syscall.Signal]int{syscall.SIGTERM: 143, syscall.SIGINT: 130} {
		first := s.command("backup")
		var errs bytes.Buffer
		first.Stderr = &errs
		if err := first.Start(); err != nil {
			t.Fatal(err)
		}
		s.locks(t, false, "1")
		s.expect(t, 75, "backup", "another run")
		_ = first.Process.Signal(sig)
		if got := ended(t, first); got != code {
			t.Errorf("%s: exit %d: %s", sig, got, errs.String())
		}
		s.locks(t, false, "0")
		if left, _ := filepath.Glob(filepath.Join(s.dir, "*")); len(left) > 0 {
			t.Errorf("%s left %v", sig, left)
		}
		if left, _ := filepath.Glob(filepath.Join(s.dir, ".*")); len(left) > 0 {
			t.Errorf("%s left %v", sig, left)
		}
	}
}

// locks waits until so many sessions hold, or wait for, a lock on trades.
func (s *sandbox) locks(t *testing.T, granted bool, want string) {
	t.Helper()
	query := fmt.Sprintf("SELECT count(*) FROM pg_locks WHERE relation = 'trades'::regclass AND granted = %v AND mode IN ('AccessExclusiveLock', 'AccessShareLock')", granted)
	for end := time.Now().Add(soon); ; time.Sleep(50 * time.Millisecond) {
		got := s.pg.Psql(t, "app", query)
		if got == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s sessions with a lock on trades (granted: %v), want %s", got, granted, want)
		}
	}
}
