package services

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// bed is a host on which the commands that watch and tend the platform run. All
// that they report comes to its sink and its textfiles.
type bed struct {
	*kit.Host
	sink      *testenv.Sink
	textfiles string
}

// newBed sets a host up in a world; env is added to what every run has.
func newBed(t *testing.T, w *kit.World, env ...string) *bed {
	t.Helper()
	b := &bed{Host: w.Host(t), sink: testenv.NewSink(t)}
	b.textfiles = filepath.Join(b.Dir, "textfiles")
	if err := os.Mkdir(b.textfiles, 0o755); err != nil {
		t.Fatal(err)
	}
	b.Env = append(b.Env, "BACKUP_ALERT_WEBHOOK="+b.sink.WebhookURL(), "API_BASE_URL="+b.sink.URL, "ESCROWCTL_REPORT_API_METRICS=on",
		"ESCROWCTL_REPORT_TEXTFILE_DIR="+b.textfiles, "ESCROWCTL_REPORT_TIMEOUT=2s", "DOCKER_HOST=unix:///nonexistent/docker.sock", "REDIS_URL=")
	b.Env = append(b.Env, env...)
	return b
}

// trial is one command under one fault, and what is demanded of it.
type trial struct {
	group, fault string
	call         kit.Call
	codes        []int         // one of them
	says         []string      // in what it prints: cause and remedy
	within       time.Duration // 0: 30 s
	slow         bool          // only with STORM=full
	leaves       bool          // what the next run is to clear up
	next         []string      // the next run's arguments, if others than the matrix's clean call
	// make makes the fault, beside what call.Env does, and returns what ends it.
	make func(t *testing.T, b *bed) (undo func())
	// during acts in the midst of the run.
	during func(t *testing.T, b *bed, run *kit.Running)
	// after looks at what the run came to, before the fault ends, and then at what
	// the next one did.
	after func(t *testing.T, b *bed, res kit.Result)
	then  func(t *testing.T, b *bed, next kit.Result)
}

// lastSuccess is when the metrics of a job say that it last succeeded, the zero
// time if they know of none.
func (b *bed) lastSuccess(t *testing.T, job string) time.Time {
	t.Helper()
	name := "escrowctl_" + strings.ReplaceAll(job, "-", "_")
	text, _ := os.ReadFile(filepath.Join(b.textfiles, name+".prom")) // there may be none yet
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+"_last_success_timestamp_seconds "); ok {
			seconds, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Errorf("the metrics of %s: %v", job, err)
			}
			return time.Unix(int64(seconds), 0)
		}
	}
	return time.Time{}
}

// matrix runs the cells of a command one after the other. job is its name in the
// metrics; clean is the call that must be well once a fault is gone, and ends
// with 0, or with 1 for warnings that are the bed's.
func (b *bed) matrix(t *testing.T, job string, clean kit.Call, cells []trial) {
	t.Helper()
	for _, c := range cells {
		t.Run(strings.ReplaceAll(c.group+" "+c.fault, " ", "_"), func(t *testing.T) {
			if c.slow && !kit.Full() {
				t.Skip("only with STORM=full")
			}
			kit.Pause()
			b.trial(t, job, clean, c)
		})
	}
}

func (b *bed) trial(t *testing.T, job string, clean kit.Call, c trial) {
	t.Helper()
	if c.within == 0 {
		c.within = 30 * time.Second
	}
	undo := func() {}
	if c.make != nil {
		undo = c.make(t, b)
	}
	c.call.Limit = c.within + 30*time.Second // to be told, too, where it hangs
	res := kit.Result{Args: c.call.Args, Code: -1}
	defer func() { storm.Report.Record(t, c.group, c.fault, res) }() // also where the test gave up
	began := time.Now()
	run := b.Start(t, c.call)
	if c.during != nil {
		c.during(t, b, run)
	}
	res = run.Wait(t)
	b.judge(t, c, res)
	failed := res.Code != 0 && res.Code != 1 && res.Code != 75 && !found(res)
	if last := b.lastSuccess(t, job); failed && c.call.Program == "" && last.After(began) {
		t.Errorf("exit %d, and the metrics tell of a success at %s", res.Code, last)
	}
	if c.after != nil {
		c.after(t, b, res)
	}
	undo()
	if !c.leaves {
		b.NoLeaks(t)
	}
	if c.next != nil {
		clean.Args = c.next
	}
	next := b.Call(t, clean)
	if next.Code != 0 && next.Code != 1 {
		t.Errorf("the next run: exit %d: %s%s", next.Code, next.Stdout, next.Stderr)
	}
	if c.then != nil {
		c.then(t, b, next)
	}
	b.NoLeaks(t)
	if t.Failed() {
		t.Logf("exit %d after %s: %s%s", res.Code, res.Took.Round(time.Millisecond), res.Stdout, res.Stderr)
	}
}

// found says whether a run that ended with 2 did all its work: it found
// something critical, which is a success of the work.
func found(res kit.Result) bool {
	return res.Code == 2 && strings.Contains(res.Stderr, "critical: ")
}

func (b *bed) judge(t *testing.T, c trial, res kit.Result) {
	t.Helper()
	if !slices.Contains(c.codes, res.Code) {
		t.Errorf("exit %d, want one of %v", res.Code, c.codes)
	}
	if res.Took > c.within {
		t.Errorf("took %s, at most %s", res.Took.Round(time.Millisecond), c.within)
	}
	all := res.Stdout + res.Stderr
	for _, want := range c.says {
		if !strings.Contains(all, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	for _, bad := range []string{"panic:", "goroutine ", b.PG.Password, b.S3.SecretKey, "s3cretW3bh00k", "<nil>", "%!"} {
		if strings.Contains(all, bad) {
			t.Errorf("it says %q", bad)
		}
	}
}

// failures are the texts at the webhook that tell of a failure, from the nth on.
func (b *bed) failures(t *testing.T, from int) []string {
	t.Helper()
	return slices.DeleteFunc(b.sink.Texts(t)[from:], func(text string) bool { return !strings.HasPrefix(text, "FAILED on ") })
}

// wantsTold is an after that demands a message for people.
func wantsTold(says string) func(*testing.T, *bed, kit.Result) {
	return func(t *testing.T, b *bed, _ kit.Result) {
		t.Helper()
		texts := b.failures(t, 0)
		if len(texts) == 0 || !strings.Contains(texts[len(texts)-1], says) {
			t.Errorf("nobody is told of %q: %q", says, texts)
		}
	}
}

// badDisks are the ways in which a directory cannot be written, each with what
// is to be said of it.
func badDisks() []badDisk {
	return []badDisk{
		{"disk full", "no space left on device", func(t *testing.T, dir string) func() {
			undo := kit.Tmpfs(t, dir, "size=64k,mode=755")
			_ = os.WriteFile(filepath.Join(dir, "fill"), make([]byte, 1<<20), 0o600) // as much as there is room for
			return undo
		}},
		{"no inodes", "no space left on device", func(t *testing.T, dir string) func() {
			undo := kit.Tmpfs(t, dir, "size=1m,nr_inodes=3,mode=755")
			for i := range 10 {
				_ = os.WriteFile(filepath.Join(dir, "fill"+strconv.Itoa(i)), nil, 0o600) // until there are none
			}
			return undo
		}},
		{"read-only", "read-only file system", func(t *testing.T, dir string) func() {
			undo := kit.Tmpfs(t, dir, "size=1m,mode=755")
			if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
			return undo
		}},
	}
}

type badDisk struct {
	name, says string
	make       func(t *testing.T, dir string) (undo func())
}

// stateFaults are the cells of a command whose state directory cannot be
// written. code is how it ends, with a message for people if tell is set.
func stateFaults(args []string, code int, tell bool) []trial {
	var out []trial
	for i, d := range badDisks() {
		c := trial{
			group: "state directory", fault: d.name, call: kit.Call{Args: args}, codes: []int{code}, says: []string{d.says, "state"},
			make: func(t *testing.T, b *bed) func() { return d.make(t, b.State) }, slow: i > 0,
		}
		if tell {
			c.after = wantsTold(d.says)
		}
		out = append(out, c)
	}
	return out
}

// signalFaults are the cells of a command that is ended in its midst: during
// returns once it is there.
func signalFaults(args []string, env []string, there func(t *testing.T, b *bed, run *kit.Running)) []trial {
	var out []trial
	for _, s := range []struct {
		sig  syscall.Signal
		name string
		code int
	}{{syscall.SIGINT, "SIGINT", 130}, {syscall.SIGTERM, "SIGTERM", 143}, {syscall.SIGHUP, "SIGHUP", 129}, {syscall.SIGKILL, "SIGKILL", -1}} {
		c := trial{
			group: "signals", fault: s.name, call: kit.Call{Args: args, Env: env}, codes: []int{s.code}, slow: s.sig != syscall.SIGTERM && s.sig != syscall.SIGKILL,
			during: func(t *testing.T, b *bed, run *kit.Running) {
				there(t, b, run)
				run.Signal(s.sig)
			},
		}
		if s.code > 0 {
			c.says = []string{"interrupted by " + s.name}
		}
		out = append(out, c)
	}
	return out
}

// runsOf are the last two lines of a job's records.
func runsOf(t *testing.T, b *bed, job string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(b.State, "runs", job+".jsonl"))
	if err != nil {
		t.Errorf("the records of %s: %v", job, err)
		return nil
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[max(0, len(lines)-2):]
}

// named returns name=value pairs.
func named(pairs ...string) []string {
	var out []string
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, fmt.Sprintf("%s=%s", pairs[i], pairs[i+1]))
	}
	return out
}

// write0 writes a file that all may read.
func write0(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
