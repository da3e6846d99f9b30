package testenv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Ports are taken from below the kernel's ephemeral range (32768 and up), where
// no outgoing connection can take one between our look and the server's bind.
const (
	firstPort = 15000
	lastPort  = 32000
)

// startLimit is how long a server may take to answer, and stopLimit to end.
// Generous: the machine may be building something else at the same time.
const (
	startLimit = 3 * time.Minute
	stopLimit  = time.Minute
)

// account is the user a server runs as; nil means our own.
type account = syscall.Credential

// process is one running server.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has been waited for
	log  string        // path of its output
}

// freePort returns a port of 127.0.0.1 that nothing listens on, and that no other
// test takes until the end of this one: not before the server has bound it, and
// not while it is stopped.
func freePort(t testing.TB) (int, error) {
	t.Helper()
	var last error
	for range 200 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if last = reserve(t, port); last != nil {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			last = err
			continue
		}
		return port, l.Close()
	}
	return 0, fmt.Errorf("no free port between %d and %d: %w", firstPort, lastPort, last)
}

// reserve takes a port's name among the abstract Unix sockets, which every test
// process of this machine sees and the kernel frees when the process ends.
func reserve(t testing.TB, port int) error {
	t.Helper()
	l, err := net.Listen("unix", fmt.Sprintf("@escrowctl-test-port-%d", port))
	if err != nil {
		return fmt.Errorf("port %d is another test's: %w", port, err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return nil
}

// onFreePort calls start with a free port, and again with another when start
// failed because someone else took it meanwhile.
func onFreePort(t testing.TB, start func(port int) error) int {
	t.Helper()
	for attempt := 1; ; attempt++ {
		port, err := freePort(t)
		if err == nil {
			err = start(port)
		}
		if err == nil {
			return port
		}
		if attempt == 5 || !strings.Contains(strings.ToLower(err.Error()), "address already in use") {
			t.Fatalf("testenv: %v", err)
		}
	}
}

// tempDir makes a directory for a server, owned by its account, with a short
// path: t.TempDir's is closed to other users and too long for a socket.
func tempDir(t testing.TB, kind string, owner *account) string {
	t.Helper()
	parent := os.TempDir()
	if len(parent) > 40 {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "escrowctl-"+kind+"-")
	if err != nil {
		t.Fatalf("testenv: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("testenv: removing what %s left: %v", kind, err)
		}
	})
	if owner != nil {
		if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatalf("testenv: %v", err)
		}
	}
	return dir
}

// launch starts cmd with its output in dir/name.log, in a session of its own so
// that Ctrl-C reaches the test first and its clean-up stops the server in order.
func launch(cmd *exec.Cmd, dir, name string, as *account) (*process, error) {
	log := filepath.Join(dir, name+".log")
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: as}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{}), log: log}
	go func() {
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
		close(p.done)
	}()
	return p, nil
}

// ready waits until probe succeeds. It fails early, with the end of the
// server's output, when the server ends instead.
func (p *process) ready(probe func() error) error {
	limit := time.Now().Add(startLimit)
	for {
		err := probe()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended at once (%s); its output ends:\n%s", p.cmd.Path, p.cmd.ProcessState, tail(p.log))
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(limit) {
			p.stop(syscall.SIGKILL)
			return fmt.Errorf("%s does not answer after %s: %w; its output ends:\n%s", p.cmd.Path, startLimit, err, tail(p.log))
		}
	}
}

// stop sends the signal and waits; after stopLimit it kills.
func (p *process) stop(sig syscall.Signal) {
	if err := p.cmd.Process.Signal(sig); errors.Is(err, os.ErrProcessDone) {
		<-p.done
		return
	}
	select {
	case <-p.done:
	case <-time.After(stopLimit):
		_ = p.cmd.Process.Kill() // fails only when it has just ended
		<-p.done
	}
}

func tail(path string) string {
	const most = 2 << 10
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return string(text)
}
