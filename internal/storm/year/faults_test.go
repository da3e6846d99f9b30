package year

import (
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"
)

// The faults.
const (
	faultKill      = "SIGKILL"
	faultTerm      = "SIGTERM"
	faultInt       = "SIGINT"
	faultS3Refused = "S3 refused"
	faultS3Busy    = "S3 503"
	faultS3Reset   = "S3 reset"
	faultPGRestart = "PostgreSQL restarted"
	faultPGCrash   = "PostgreSQL crashed"
	faultDiskFull  = "backup disk full"
	faultStateFull = "state disk full"
	faultMetrics   = "metrics endpoint dead"
	faultWebhook   = "webhook hangs"
	faultDocker    = "Docker dead"
	faultCA        = "CA dead"
	faultTwice     = "two at once"
)

// strike is a fault made ready for a run: before comes first, during after the
// given time if the run still runs, and heal when it has ended.
type strike struct {
	env    []string
	after  time.Duration
	before func(t *testing.T)
	during func(t *testing.T, p *os.Process)
	heal   func(t *testing.T) int
}

func nothing(*testing.T)                {}
func nothingTo(*testing.T, *os.Process) {}
func healed(*testing.T) int             { return 0 }
func sending(sig syscall.Signal) func(*testing.T, *os.Process) {
	return func(_ *testing.T, p *os.Process) { _ = p.Signal(sig) }
}

var noStrike = strike{after: time.Hour, before: nothing, during: nothingTo, heal: healed}

// strike makes the fault of a run ready.
func (s *stage) strike(t *testing.T, r run, at time.Time, args []string) *strike {
	t.Helper()
	if r.fault == "" {
		return nil
	}
	usual := s.usual[r.command]
	if usual == 0 {
		usual = 2 * time.Second
	}
	k := noStrike
	k.after = time.Duration(r.when * float64(usual))
	during := func(do func()) func(*testing.T, *os.Process) { return func(*testing.T, *os.Process) { do() } }
	reopen := func(p *proxy) func(*testing.T) int {
		return func(t *testing.T) int {
			if err := p.open(); err != nil {
				t.Fatal(err)
			}
			return 0
		}
	}
	switch r.fault {
	case faultKill:
		k.during = sending(syscall.SIGKILL)
	case faultTerm:
		k.during = sending(syscall.SIGTERM)
	case faultInt:
		k.during = sending(syscall.SIGINT)
	case faultS3Refused:
		k.during, k.heal = during(s.toS3.refuse), reopen(s.toS3)
	case faultS3Busy:
		k.during, k.heal = during(s.toS3.slowDown), reopen(s.toS3)
	case faultS3Reset:
		k.during = during(s.toS3.reset)
	case faultDocker:
		k.during, k.heal = during(s.toDocker.refuse), reopen(s.toDocker)
	case faultCA:
		k.during, k.heal = during(s.toCA.refuse), reopen(s.toCA)
	case faultPGRestart:
		k.during = func(t *testing.T, _ *os.Process) { s.pg.Stop(t); s.pg.Start(t) }
	case faultPGCrash:
		k.during = func(t *testing.T, _ *os.Process) { s.pg.Kill(t); s.pg.Start(t) }
	case faultDiskFull:
		s.full(&k, "backups", int64(r.when*8e6))
	case faultStateFull:
		s.full(&k, "state", 0)
	case faultMetrics:
		s.answer(&k, "/api/metrics", func(path string, on bool) {
			s.sink.SetStatus(path, map[bool]int{true: http.StatusInternalServerError, false: http.StatusOK}[on])
		})
	case faultWebhook:
		s.answer(&k, "webhook", func(path string, on bool) {
			s.sink.SetDelay(path, map[bool]time.Duration{true: time.Minute}[on])
		})
	case faultTwice:
		s.twice(t, &k, at, args)
	default:
		t.Fatalf("no such fault: %s", r.fault)
	}
	return &k
}

// full fills a filesystem up, from the beginning of the run.
func (s *stage) full(k *strike, name string, left int64) {
	k.after = 0 // it counts as struck
	k.before = func(t *testing.T) { s.fill(t, name, left) }
	k.heal = func(t *testing.T) int { s.drain(t, name); return 0 }
}

func (s *stage) answer(k *strike, path string, set func(path string, on bool)) {
	k.after = 0
	k.env = []string{"ESCROWCTL_REPORT_TIMEOUT=2s"}
	k.before = func(*testing.T) { set(path, true) }
	k.heal = func(*testing.T) int { set(path, false); return 0 }
}

// twice runs the same command beside it.
func (s *stage) twice(t *testing.T, k *strike, at time.Time, args []string) {
	t.Helper()
	second := s.command(at, args...)
	second.WaitDelay = time.Second
	k.during = func(t *testing.T, _ *os.Process) {
		if err := second.Start(); err != nil {
			t.Fatal(err)
		}
		s.pids[second.Process.Pid] = true
	}
	k.heal = func(*testing.T) int {
		if second.Process == nil {
			return 0 // the first was faster
		}
		_ = second.Wait()
		return second.ProcessState.ExitCode()
	}
}
