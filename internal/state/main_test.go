package state

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary is its own child: with this variable set it plays a part
// instead of running tests.
const roleVar = "ESCROWCTL_STATE_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		if err := play(role, os.Args[1:]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// play runs in the child. Its arguments are the state directory and, for
// writers, a name and a count.
func play(role string, args []string) error {
	s, err := Open(args[0], Options{Command: "escrowctl backup", KeepRuns: 1_000})
	if err != nil {
		return err
	}
	switch role {
	case "open":
		fmt.Println("ready")
		return nil
	case "begin": // begins a run and is killed
		if _, err := s.Begin("backup"); err != nil {
			return err
		}
	case "lock", "lock-with-child":
		if _, err := s.Lock("backup"); err != nil {
			return err
		}
		if role == "lock-with-child" {
			c := exec.Command("sleep", "60")
			if err := c.Start(); err != nil {
				return err
			}
			fmt.Println("child", c.Process.Pid)
		}
	case "write":
		if err := writeRuns(s, args[1], args[2]); err != nil {
			return err
		}
	default:
		return errors.New("no such role: " + role)
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin) // until the parent closes it
	return err
}

func writeRuns(s *Store, name, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	for i := range n {
		a, err := s.Begin("backup")
		if err != nil {
			return err
		}
		if err := a.Finish("ok", 0, map[string]any{"writer": name, "i": i}, nil); err != nil {
			return err
		}
	}
	return nil
}

// child is a process playing a role.
type child struct {
	*exec.Cmd
	t      *testing.T
	stdout io.Reader
	lines  []string // what it said before "ready"
	ended  bool
}

// start runs a child and waits for it to say that it is ready.
func start(t *testing.T, role string, args ...string) *child {
	t.Helper()
	c := launch(t, role, args...)
	c.awaitReady()
	return c
}

func launch(t *testing.T, role string, args ...string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	cmd.Stderr = os.Stderr
	_, err := cmd.StdinPipe() // open until the child is reaped
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	c := &child{Cmd: cmd, t: t, stdout: stdout}
	t.Cleanup(c.kill)
	return c
}

func (c *child) awaitReady() {
	c.t.Helper()
	lines := bufio.NewScanner(c.stdout)
	for lines.Scan() {
		if lines.Text() == "ready" {
			return
		}
		c.lines = append(c.lines, lines.Text())
	}
	c.t.Fatalf("child ended early: %s", strings.Join(c.lines, "; "))
}

// kill ends the child with SIGKILL and reaps it.
func (c *child) kill() {
	if c.ended {
		return
	}
	c.ended = true
	_ = c.Process.Kill()
	_ = c.Wait()
}

// killUnreaped leaves a zombie, as a parent that does not wait does.
func (c *child) killUnreaped() {
	c.t.Helper()
	must(c.t, c.Process.Signal(syscall.SIGKILL))
	table := processTable{proc: "/proc"}
	eventually(c.t, "the child to be a zombie", func() bool {
		_, zombie := table.stat(c.Process.Pid)
		return zombie
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1_000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}

func open(t *testing.T, dir string, opt Options) *Store {
	t.Helper()
	s, err := Open(dir, opt)
	must(t, err)
	return s
}

// finish begins and ends a run.
func finish(t *testing.T, s *Store, job, outcome string, figures map[string]any) Run {
	t.Helper()
	a, err := s.Begin(job)
	must(t, err)
	must(t, a.Finish(outcome, 0, figures, nil))
	return a.run
}

func runs(t *testing.T, s *Store, job string) []Run {
	t.Helper()
	r, err := s.Runs(job, 0)
	must(t, err)
	return r
}
