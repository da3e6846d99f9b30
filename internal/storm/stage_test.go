package storm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

var storm = kit.New("data")

func TestMain(m *testing.M) { os.Exit(storm.Main(m)) }

// cell is one command under one fault.
type cell struct {
	group, fault string
	cmd          string

	before func(*stage)                 // brings the fault about, or sets up when it comes
	at     func(*stage) <-chan struct{} // the moment in the midst of the run...
	act    func(*stage, *kit.Running)   // ...when this is done

	code  []int         // what it may end with
	says  []string      // on stdout or stderr: the cause and the remedy
	limit time.Duration // within which it ends; 0 is a minute
}

// stage is a host with two good backups, here and in a bucket of its own.
type stage struct {
	*kit.Host
	t     *testing.T
	print kit.Print // of the database, which nobody changes
	old   []string  // names of the two
	undo  []func()
}

// theatre is what the stages of a test share.
type theatre struct {
	*kit.World
	print kit.Print
	first *kit.Host // whose two backups each stage begins with
	old   []string
}

func newTheatre(t *testing.T) *theatre {
	t.Helper()
	w := storm.World(t, testenv.PGSetting("max_connections", "30"))
	th := &theatre{World: w, print: w.Print(t, kit.DB), first: w.Host(t)}
	for range 2 {
		nextSecond()
		if res := th.first.Run(t, "backup"); res.Code != 0 {
			t.Fatalf("without a fault: exit %d: %s", res.Code, res.Stderr)
		}
	}
	th.old = th.first.Sound(t, kit.Same(th.print))
	if len(th.old) != 2 {
		t.Fatalf("without a fault: %v", th.old)
	}
	return th
}

// nextSecond waits for it: names of backups have whole seconds.
func nextSecond() { time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) }

func (th *theatre) stage(t *testing.T) *stage {
	t.Helper()
	from := filepath.Dir(th.first.Object("x"))
	world := *th.World
	world.Bucket = world.S3.Bucket(t)
	s := &stage{Host: world.Host(t), t: t, print: th.print, old: slices.Clone(th.old)}
	copyAll(t, th.first.Backups, s.Backups)
	copyAll(t, from, filepath.Dir(s.Object("x")))
	return s
}

func copyAll(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
}

// later puts off what ends the fault.
func (s *stage) later(f func()) { s.undo = append(s.undo, f) }

// clear ends every fault.
func (s *stage) clear() {
	s.Faults.Clear()
	s.Wire.Clear()
	for _, f := range slices.Backward(s.undo) {
		f()
	}
	s.undo = nil
}

// command is one of the commands that are attacked.
type command struct {
	args  []string
	done  func(*stage, kit.Result) // what is demanded of a run that ended well
	again []string                 // the next run's arguments, if others
}

const copyDB = "copy"

func commands() map[string]command {
	return map[string]command{
		"backup": {args: []string{"backup"}, done: func(s *stage, _ kit.Result) {
			if n := len(s.List(s.t)); n < 3 {
				s.t.Errorf("after a good run: %d backups", n)
			}
		}},
		"restore": {
			args: []string{"backup", "restore", "latest", "--s3", "--to", copyDB}, again: []string{"backup", "restore", "latest", "--s3", "--to", copyDB, "--clean", "--yes"},
			done: func(s *stage, _ kit.Result) {
				if diffs := s.print.Differences(s.Print(s.t, copyDB)); len(diffs) > 0 {
					s.t.Errorf("restored with exit 0: %v", diffs)
				}
			},
		},
	}
}

// play runs a cell and demands what every cell has to meet.
func (th *theatre) play(t *testing.T, c cell) {
	s := th.stage(t)
	defer s.clear() // of a test that ends early
	cmd := commands()[c.cmd]
	res := s.attack(c, cmd)
	s.ended(c, res)
	s.clear()
	s.NoLeaks(t, copyDB)
	s.sound()
	s.cleanNext(cmd)
	s.PG.Psql(t, "postgres", "DROP DATABASE IF EXISTS "+copyDB)
	storm.Report.Record(t, c.group, c.fault, res)
}

// attack runs the command under the fault.
func (s *stage) attack(c cell, cmd command) kit.Result {
	if c.before != nil {
		c.before(s)
	}
	var moment <-chan struct{}
	if c.at != nil {
		moment = c.at(s)
	}
	if c.limit == 0 {
		c.limit = time.Minute
	}
	nextSecond()
	run := s.Start(s.t, kit.Call{Args: cmd.args, Limit: c.limit})
	if moment != nil {
		run.Until(s.t, "the moment of the fault", moment)
	}
	if c.act != nil {
		c.act(s, run)
	}
	return run.Wait(s.t)
}

// ended compares exit code and message with what is demanded.
func (s *stage) ended(c cell, res kit.Result) {
	s.t.Logf("exit %d in %.1f s: %s", res.Code, res.Took.Seconds(), strings.TrimSpace(res.Stderr))
	if !slices.Contains(c.code, res.Code) {
		s.t.Errorf("exit %d, want %v: %s%s", res.Code, c.code, res.Stdout, res.Stderr)
	}
	for _, want := range c.says {
		if !strings.Contains(res.Stdout+res.Stderr, want) {
			s.t.Errorf("it does not say %q: %s%s", want, res.Stdout, res.Stderr)
		}
	}
}

// sound demands that nothing is lost, and that what is listed as good is.
func (s *stage) sound() {
	good := s.Sound(s.t, kit.Same(s.print))
	for _, name := range s.old {
		if !slices.Contains(good, name) {
			s.t.Errorf("%s was good before and is not listed as good: %v", name, s.List(s.t))
		}
	}
}

// cleanNext demands that the next run, without a fault, does all that is to be
// done, and leaves nothing.
func (s *stage) cleanNext(cmd command) {
	args := cmd.args
	if cmd.again != nil {
		args = cmd.again
	}
	nextSecond()
	res := s.Run(s.t, args...)
	if res.Code != 0 {
		s.t.Errorf("the next run, without a fault: exit %d: %s%s", res.Code, res.Stdout, res.Stderr)
	}
	cmd.done(s, res)
	s.NoLeaks(s.t, copyDB)
	s.sound()
}

// playAll runs the cells.
func playAll(t *testing.T, th *theatre, cells []cell) {
	for _, c := range cells {
		t.Run(fmt.Sprintf("%s/%s/%s", c.group, c.fault, c.cmd), func(t *testing.T) { th.play(t, c) })
	}
}

// held makes the moment when a dump has brought n bytes, or a restore sent them.
func dumped(n int64) func(*stage) <-chan struct{} {
	return func(s *stage) <-chan struct{} { return s.Wire.HoldDown(n).Reached() }
}

func loaded(n int64) func(*stage) <-chan struct{} {
	return func(s *stage) <-chan struct{} { return s.Wire.HoldUp(n).Reached() }
}
