package testenv

import (
	_ "embed"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"testing"
)

//go:embed watchdog.sh
var watchdogScript string

// watchdog is a small shell process that outlives this one and removes what a
// server leaves if this process dies without running its clean-up. A pipe is
// the lifeline: the kernel closes our end whatever kills us, which Pdeathsig
// (bound to one thread, and unable to remove a directory) does not give.
type watchdog struct {
	cmd *exec.Cmd

	mu   sync.Mutex
	pipe io.WriteCloser
}

// newWatchdog starts one that removes dir ("" for none). Its release runs at
// the end of the test, after the clean-ups registered later than this call.
func newWatchdog(t testing.TB, dir string) *watchdog {
	t.Helper()
	cmd := exec.Command("sh", "-c", watchdogScript)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		t.Fatalf("testenv: watchdog: %v", err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("testenv: starting the watchdog: %v", err)
	}
	w := &watchdog{cmd: cmd, pipe: pipe}
	t.Cleanup(func() { w.release(t) })
	if dir != "" {
		w.tell(t, "dir %s", dir)
	}
	return w
}

// tell hands the watchdog one line of the protocol in watchdog.sh.
func (w *watchdog) tell(t testing.TB, format string, args ...any) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := fmt.Fprintf(w.pipe, format+"\n", args...); err != nil {
		t.Errorf("testenv: the watchdog is gone: %v", err)
	}
}

func (w *watchdog) release(t testing.TB) {
	w.tell(t, "done")
	w.pipe.Close()
	if err := w.cmd.Wait(); err != nil {
		t.Errorf("testenv: watchdog: %v", err)
	}
}
