package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// soon is when what happens at once has happened, on a busy machine too.
const soon = 2 * time.Minute

// bare is escrowctl with nothing but what env names.
func bare(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append([]string{"TEST_ESCROWCTL_MAIN=1", "HOME=" + cmd.Dir, "ESCROWCTL_STATE_DIR=" + filepath.Join(cmd.Dir, "state"),
		"BACKUP_DIR=" + filepath.Join(cmd.Dir, "backups"), "ESCROWCTL_DUMP_VIA=host", "ESCROWCTL_REPORT_API_METRICS=off"}, env...)
	return cmd
}

// stuck starts a backup of a database that takes the connection and never
// answers, and returns once it waits for it.
func stuck(t *testing.T, wrap []string, env ...string) (cmd *exec.Cmd, stderr *bytes.Buffer) {
	t.Helper()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	connected := make(chan struct{}, 16)
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			connected <- struct{}{}
		}
	}()
	cmd = bare(t, append(env, "DATABASE_URL=postgres://u@"+server.Addr().String()+"/x?sslmode=disable"), "backup")
	if wrap != nil {
		if cmd.Path, err = exec.LookPath(wrap[0]); err != nil {
			t.Fatal(err)
		}
		cmd.Args = append(append(wrap, os.Args[0]), cmd.Args[1:]...)
	}
	stderr = new(bytes.Buffer)
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	select {
	case <-connected:
	case <-time.After(soon):
		t.Fatalf("no connection: %s", stderr)
	}
	return cmd, stderr
}

// ended waits for the process and returns its exit code, -1 if a signal killed
// it.
func ended(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	timer := time.AfterFunc(soon, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait() // the state says it
	return cmd.ProcessState.ExitCode()
}

func send(t *testing.T, cmd *exec.Cmd, sig syscall.Signal) {
	t.Helper()
	if err := cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

func TestSignalsEndARun(t *testing.T) {
	for _, tt := range []struct {
		sig  syscall.Signal
		name string
		code int
	}{{syscall.SIGINT, "SIGINT", 130}, {syscall.SIGTERM, "SIGTERM", 143}, {syscall.SIGHUP, "SIGHUP", 129}} {
		t.Run(tt.name, func(t *testing.T) {
			if signal.Ignored(tt.sig) {
				t.Skipf("SKIPPED: %s is ignored here (nohup), and so it is by what the test starts", tt.name)
			}
			cmd, stderr := stuck(t, nil)
			send(t, cmd, tt.sig)
			if code := ended(t, cmd); code != tt.code || !strings.HasSuffix(stderr.String(), "interrupted by "+tt.name+"\n") {
				t.Errorf("exit %d, want %d: %s", code, tt.code, stderr)
			}
		})
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	sink := testenv.NewSink(t)
	sink.SetDelay("", time.Hour)
	cmd, stderr := stuck(t, nil, "BACKUP_ALERT_WEBHOOK="+sink.WebhookURL(), "ESCROWCTL_REPORT_TIMEOUT=1m")
	send(t, cmd, syscall.SIGTERM)
	for deadline := time.Now().Add(soon); len(sink.Requests()) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not clean up: %s", stderr)
		}
	}
	send(t, cmd, syscall.SIGINT)
	// One that waits for its report to be taken says so.
	if code := ended(t, cmd); code != 143 || strings.Contains(stderr.String(), "webhook") {
		t.Errorf("exit %d, want 143: %s", code, stderr)
	}
}

// TestNohup: who started it wants it to outlive the terminal.
func TestNohup(t *testing.T) {
	cmd, stderr := stuck(t, []string{"sh", "-c", `trap '' HUP; exec "$0" "$@"`})
	send(t, cmd, syscall.SIGHUP)
	time.Sleep(300 * time.Millisecond)
	send(t, cmd, syscall.SIGTERM)
	if code := ended(t, cmd); code != 143 {
		t.Errorf("exit %d, want 143: SIGHUP ended it: %s", code, stderr)
	}
}

// broken returns the writing end of a pipe that nobody reads.
func broken(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestNobodyReads(t *testing.T) {
	t.Run("the log", func(t *testing.T) {
		cmd := bare(t, []string{"RETENTION_DAYS=soon"}, "config", "check", "--json") // writes to stderr, then to stdout
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, broken(t)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if code := ended(t, cmd); code != 3 || !strings.Contains(out.String(), `"exit_code": 3`) {
			t.Errorf("exit %d: %s", code, &out)
		}
	})
	t.Run("the result", func(t *testing.T) {
		cmd := bare(t, nil, "runbook", "alerts")
		var errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = broken(t), &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if code := ended(t, cmd); code != 141 || errs.Len() > 0 {
			t.Errorf("exit %d: %s", code, &errs)
		}
	})
}

// TestStartsLight holds package initialisation down. It counts processor time,
// which a busy machine does not stretch.
func TestStartsLight(t *testing.T) {
	best := time.Hour
	for range 10 {
		cmd := bare(t, nil, "--help")
		cmd.Stdout = io.Discard
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		best = min(best, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	}
	t.Logf("--help takes %s of processor time", best)
	if best > 200*time.Millisecond {
		t.Errorf("--help takes %s of processor time", best)
	}
}
