package services

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"golang.org/x/sys/unix"
)

const (
	watchTime  = time.Hour
	watchSpell = 8 // rounds in which all is well, and then as many in which it is not
	// How much more a process may hold at the end than after the first cycles: what
	// the collector leaves lying about between two of its rounds.
	watchSlack = 6 << 20
)

// terminal is one of a test's own. The program's side is a *os.File; what comes
// out of it is counted in screens.
type terminal struct {
	program *os.File
	screens chan int // how many there were, each time there is one more

	mu   sync.Mutex
	last bytes.Buffer // since the last screen began
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		testenv.Need(t, false, "a pseudo-terminal", err.Error())
	}
	t.Cleanup(func() { _ = master.Close() })
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{program: program, screens: make(chan int, 1)}
	go term.read(master)
	return term
}

func (term *terminal) read(master *os.File) {
	defer close(term.screens)
	count := 0
	buf := make([]byte, 64<<10)
	for {
		n, err := master.Read(buf)
		if err != nil {
			return
		}
		term.mu.Lock()
		term.last.Write(buf[:n])
		more := bytes.Count(term.last.Bytes(), []byte("\x1b[2J"))
		if more > 0 {
			rest := bytes.Clone(term.last.Bytes()[bytes.LastIndex(term.last.Bytes(), []byte("\x1b[2J"))+4:])
			term.last.Reset()
			term.last.Write(rest)
		}
		term.mu.Unlock()
		if count += more; more > 0 {
			select { // who reads wants the newest only
			case <-term.screens:
			default:
			}
			term.screens <- count
		}
	}
}

// screen is what stands on it.
func (term *terminal) screen() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.last.String()
}

// holding is what the kernel says that a process holds.
type holding struct {
	round, rss, own, threads, descriptors, children int // rss and own, without files, in bytes
}

func holdingOf(t *testing.T, pid, round int) holding {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	h := holding{round: round}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB")) // others are not looked at
		switch name {
		case "VmRSS":
			h.rss = n << 10
		case "RssAnon":
			h.own = n << 10
		case "Threads":
			h.threads = n
		}
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	h.descriptors = len(fds)
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)) // a kernel may not tell
	h.children = len(strings.Fields(string(children)))
	return h
}

// TestWatchForAnHour has the binary watch for an hour on a terminal, while
// database, bucket and Docker die and return: it holds no more at the end.
func TestWatchForAnHour(t *testing.T) {
	testenv.Long(t, "TestWatchStaysFlat has the heap of some rounds")
	b, _, wire := shiftBed(t)
	cut := func() {
		b.Wire.Shut()
		b.Wire.Cut()
		wire.Hang(".", 0)
		b.S3.Stop(t)
	}
	mend := func() {
		b.Wire.Clear()
		wire.Clear()
		b.S3.Start(t)
	}
	term := newTerminal(t)
	cmd := exec.Command(storm.Binary(t), "shift-check", "--watch", "--every", "10s")
	cmd.Dir, cmd.Env = b.Dir, append(b.Env, "TERM=xterm")
	errs, err := os.Create(filepath.Join(b.Dir, "errors"))
	if err != nil {
		t.Fatal(err)
	}
	defer errs.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.program, term.program, errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	_ = term.program.Close()
	var seen []holding
	over := time.After(watchTime)
	dead, rounds := false, 0
	for running := true; running; {
		select {
		case rounds = <-term.screens:
		case err := <-ended:
			said, _ := os.ReadFile(errs.Name())
			t.Fatalf("it ended after %d rounds: %v: %s", rounds, err, said)
		case <-over:
			over = nil // to the end of this cycle: in the midst of a check it holds more
			continue
		}
		if now := rounds/watchSpell%2 == 1; now != dead {
			if dead = now; dead {
				cut()
			} else {
				seen = append(seen, holdingOf(t, cmd.Process.Pid, rounds)) // at the end of each cycle
				running = over != nil
				mend()
			}
		}
	}
	for _, h := range seen {
		t.Logf("round %d: %.1f MiB, %.1f of its own, %d descriptors, %d threads", h.round, float64(h.rss)/(1<<20), float64(h.own)/(1<<20), h.descriptors, h.threads)
	}
	if len(seen) < 4 {
		t.Fatalf("only %d cycles, %d rounds: too few to show anything\n%s", len(seen), rounds, term.screen())
	}
	first, last := seen[1], seen[len(seen)-1]
	if last.own > first.own+watchSlack || last.descriptors > first.descriptors+4 || last.threads > first.threads+4 || last.children > 0 {
		t.Errorf("it holds %+v, after two cycles %+v", last, first)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil { // SIGINT may be ignored here, as under nohup
		t.Fatal(err)
	}
	if <-ended; cmd.ProcessState.ExitCode() != 143 {
		t.Errorf("exit %d, want 143", cmd.ProcessState.ExitCode())
	}
	storm.Report.Record(t, "endurance", fmt.Sprintf("an hour, %d rounds", rounds), kit.Result{Args: []string{"shift-check"}, Code: cmd.ProcessState.ExitCode(), Took: watchTime})
}
