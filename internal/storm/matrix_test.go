package storm

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// fault is something that goes wrong, and what the commands that meet it are to
// come to.
type fault struct {
	group, name string

	before func(*stage)                 // brings the fault about, or sets up when it comes
	at     func(*stage) <-chan struct{} // the moment in the midst of the run...
	act    func(*stage, *kit.Running)   // ...when this is done
	after  func(*stage, kit.Result)     // looks at more, before the fault ends

	says   []string      // by all that do not end with 0, on stdout or stderr: the cause and the remedy
	limit  time.Duration // within which it ends; 0 is a minute
	leaves bool          // what the next run is to clear up
	on     []cell
}

// cell is one command under the fault.
type cell struct {
	cmd   string
	codes []int // one of which it ends with
	says  []string
	quick bool // also in a run that is not full
}

func on(cmd string, code int, says ...string) cell {
	return cell{cmd: cmd, codes: []int{code}, says: says}
}

// soon has `make test` run it too.
func (c cell) soon() cell {
	c.quick = true
	return c
}

// command is one of the commands that are attacked.
type command struct {
	args  []string
	ready func(*stage)             // what it needs to have something to do
	done  func(*stage, kit.Result) // what is demanded of a run that ended well
	again []string                 // more arguments of the next run
}

const copyDB = "copy"

func commands() map[string]command {
	shows := func(want string) func(*stage, kit.Result) {
		return func(s *stage, res kit.Result) {
			if !strings.Contains(res.Stdout, want) {
				s.t.Errorf("it ended well and does not say %q: %s%s", want, res.Stdout, res.Stderr)
			}
		}
	}
	return map[string]command{
		"backup":      {args: []string{"backup"}, done: func(s *stage, _ kit.Result) { s.has("--local", 3); s.has("--s3", 3) }},
		"upload":      {args: []string{"backup", "upload"}, ready: unsent, done: func(s *stage, _ kit.Result) { s.has("--s3", 2) }},
		"verify":      {args: []string{"backup", "verify", "latest", "--local"}, done: shows("PASS")},
		"verify --s3": {args: []string{"backup", "verify", "latest", "--s3"}, done: shows("PASS")},
		"restore":     {args: []string{"backup", "restore", "latest", "--s3", "--to", copyDB}, again: []string{"--clean", "--yes"}, done: restored},
		"dr-test":     {args: []string{"dr-test", "--engine", "local"}, done: shows("PASS")},
		inContainer:   {args: []string{"dr-test", "--engine", "docker"}, ready: withImage, done: shows("PASS")},
	}
}

// has demands that so many backups are listed as good in a place, at the least.
func (s *stage) has(where string, want int) {
	s.t.Helper()
	n := 0
	for _, b := range s.List(s.t, where) {
		if b.Good {
			n++
		}
	}
	if n < want {
		s.t.Errorf("after a good run: %d good backups with %s, want %d", n, where, want)
	}
}

// unsent takes the newest backup from the bucket.
func unsent(s *stage) {
	name := s.newest()
	for _, file := range []string{name, name + ".json", strings.TrimSuffix(name, ".sql.gz") + ".globals.sql"} {
		if err := os.Remove(s.Object(file)); err != nil {
			s.t.Fatal(err)
		}
	}
}

func restored(s *stage, _ kit.Result) {
	if diffs := s.print.Differences(s.Print(s.t, copyDB)); len(diffs) > 0 {
		s.t.Errorf("restored with exit 0: %v", diffs)
	}
}

// TestMatrix: every command under every fault.
func TestMatrix(t *testing.T) {
	th := newTheatre(t)
	for _, f := range slices.Concat(postgresFaults(), bucketFaults(), dockerFaults(), diskFaults(), reportFaults(), signalFaults(), clockFaults(), twoAtOnce()) {
		for _, c := range f.on {
			if c.quick || kit.Full() {
				t.Run(strings.ReplaceAll(f.group+"/"+f.name+"/"+c.cmd, " ", "_"), func(t *testing.T) { th.play(t, f, c) })
			}
		}
	}
}

// play runs a cell and demands what every cell has to meet.
func (th *theatre) play(t *testing.T, f fault, c cell) {
	kit.Pause()
	s := th.stage(t)
	defer s.clear() // of a test that ends early
	cmd, known := commands()[c.cmd]
	if !known {
		t.Fatalf("no command %q", c.cmd)
	}
	if cmd.ready != nil {
		cmd.ready(s)
	}
	res := kit.Result{Args: cmd.args, Code: -1}
	defer func() { storm.Report.Record(t, f.group, f.name, res) }() // also where the test gave up
	res = s.attack(f, cmd)
	s.ended(f, c, res)
	if f.after != nil {
		f.after(s, res)
	}
	s.clear()
	if !f.leaves {
		s.NoLeaks(t, copyDB)
	}
	s.sound()
	if res.Code == 0 {
		cmd.done(s, res)
	}
	s.cleanNext(cmd)
	s.PG.Psql(t, "postgres", "DROP DATABASE IF EXISTS "+copyDB)
}

// attack runs the command under the fault.
func (s *stage) attack(f fault, cmd command) kit.Result {
	if f.before != nil {
		f.before(s)
	}
	var moment <-chan struct{}
	if f.at != nil {
		moment = f.at(s)
	}
	call := s.call
	call.Args, call.Limit = cmd.args, f.limit
	if call.Limit == 0 {
		call.Limit = time.Minute
	}
	testenv.NextSecond()
	run := s.Start(s.t, call)
	if moment != nil {
		run.Until(s.t, "the moment of the fault", moment)
	}
	if f.act != nil {
		f.act(s, run)
	}
	return run.Wait(s.t)
}

// ended compares exit code and message with what is demanded.
func (s *stage) ended(f fault, c cell, res kit.Result) {
	all := res.Stdout + res.Stderr
	s.t.Logf("exit %d in %.1f s: %s", res.Code, res.Took.Seconds(), strings.TrimSpace(res.Stderr))
	if !slices.Contains(c.codes, res.Code) {
		s.t.Errorf("exit %d, want %v: %s", res.Code, c.codes, all)
	}
	for _, rule := range s.armed {
		if s.Faults.Fired(rule) == 0 {
			s.t.Error("the fault did not come about")
		}
	}
	says := c.says
	if res.Code != 0 {
		says = slices.Concat(f.says, c.says)
	}
	for _, want := range says {
		if !strings.Contains(all, want) {
			s.t.Errorf("it does not say %q: %s", want, all)
		}
	}
	for _, bad := range []string{"panic:", "goroutine ", "<nil>", "%!", s.PG.Password, s.S3.SecretKey} {
		if strings.Contains(all, bad) {
			s.t.Errorf("it says %q: %s", bad, all)
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
	testenv.NextSecond()
	res := s.Run(s.t, slices.Concat(cmd.args, cmd.again)...)
	if res.Code != 0 {
		s.t.Errorf("the next run, without a fault: exit %d: %s%s", res.Code, res.Stdout, res.Stderr)
	}
	cmd.done(s, res)
	s.NoLeaks(s.t, copyDB)
	s.sound()
}
