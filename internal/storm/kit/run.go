package kit

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Call is one run of escrowctl.
type Call struct {
	Args  []string
	Env   []string            // added to the host's
	Limit time.Duration       // after which it is killed and the test fails; 0 for two minutes
	As    *syscall.Credential // nil for the test's own user
	Wrap  []string            // a command that runs escrowctl, such as unshare
	Stdin string
	// Program runs in escrowctl's place; "" for escrowctl.
	Program string
}

// Result is how a run ended.
type Result struct {
	Args           []string
	Code           int            // -1 if a signal killed it
	Signal         syscall.Signal // that killed it, or 0
	Stdout, Stderr string
	Took           time.Duration
	// PeakRSS is the most memory it held, in bytes. It is an upper bound: what
	// the test process held when it forked counts too.
	PeakRSS int64
}

// Running is a run that has not ended yet.
type Running struct {
	PID int

	host        *Host
	call        Call
	cmd         *exec.Cmd
	began       time.Time
	out, errs   bytes.Buffer
	limit       *time.Timer
	overstepped chan struct{}
	ended       chan struct{}
	err         error
}

// Run runs escrowctl to its end.
func (h *Host) Run(t testing.TB, args ...string) Result {
	t.Helper()
	return h.Call(t, Call{Args: args})
}

// Call does the same with all that can be set.
func (h *Host) Call(t testing.TB, c Call) Result {
	t.Helper()
	return h.Start(t, c).Wait(t)
}

// Start starts escrowctl, in a process group of its own.
func (h *Host) Start(t testing.TB, c Call) *Running {
	t.Helper()
	if c.Limit == 0 {
		c.Limit = 2 * time.Minute
	}
	if c.Program == "" {
		c.Program = h.storm.Binary(t)
	}
	line := append(append(append([]string(nil), c.Wrap...), c.Program), c.Args...)
	r := &Running{host: h, call: c, cmd: exec.Command(line[0], line[1:]...), overstepped: make(chan struct{}), ended: make(chan struct{})}
	r.cmd.Dir = h.Dir
	r.cmd.Env = append(append([]string(nil), h.Env...), c.Env...)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: c.As}
	if c.Stdin != "" {
		r.cmd.Stdin = strings.NewReader(c.Stdin)
	}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.errs
	r.cmd.WaitDelay = 10 * time.Second // a child that lives on keeps stderr open
	r.began = time.Now()
	if err := r.cmd.Start(); err != nil {
		t.Fatalf("storm: %v", err)
	}
	r.PID = r.cmd.Process.Pid
	h.pids = append(h.pids, r.PID)
	r.limit = time.AfterFunc(c.Limit, func() {
		close(r.overstepped)
		_ = syscall.Kill(-r.PID, syscall.SIGKILL)
	})
	go func() {
		r.err = r.cmd.Wait()
		close(r.ended)
	}()
	return r
}

// Signal sends a signal to escrowctl alone, as kill does.
func (r *Running) Signal(sig syscall.Signal) { _ = r.cmd.Process.Signal(sig) }

// SignalGroup sends a signal to escrowctl and its children, as a terminal does.
func (r *Running) SignalGroup(sig syscall.Signal) { _ = syscall.Kill(-r.PID, sig) }

// Ended is closed when the run has ended.
func (r *Running) Ended() <-chan struct{} { return r.ended }

// Until waits for something to happen in the midst of the run. It fails the
// test if the run ends before, or if it takes longer than the run may.
func (r *Running) Until(t testing.TB, what string, happened <-chan struct{}) {
	t.Helper()
	select {
	case <-happened:
	case <-r.ended:
		res := r.Wait(t)
		t.Fatalf("%s: ended before %s: exit %d: %s%s", strings.Join(r.call.Args, " "), what, res.Code, res.Stdout, res.Stderr)
	}
}

// Wait waits for the end.
func (r *Running) Wait(t testing.TB) Result {
	t.Helper()
	<-r.ended
	r.limit.Stop()
	state := r.cmd.ProcessState
	res := Result{Args: r.call.Args, Code: state.ExitCode(), Stdout: r.out.String(), Stderr: r.errs.String(), Took: time.Since(r.began)}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		res.Signal = status.Signal()
	}
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		res.PeakRSS = usage.Maxrss << 10
	}
	select {
	case <-r.overstepped:
		t.Errorf("%s: no end within %s: %s%s", strings.Join(res.Args, " "), r.call.Limit, res.Stdout, res.Stderr)
	default:
	}
	if errors.Is(r.err, exec.ErrWaitDelay) {
		t.Errorf("%s: a child outlives it and holds its output", strings.Join(res.Args, " "))
	}
	return res
}
