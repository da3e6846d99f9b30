package services

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

const rotateProject = `services:
  api:
    image: escrowctl-sandbox/platform:latest
    command: ["api"]
    stop_grace_period: 1s
    environment: {API_KEYS: "${API_KEYS}"}
    ports: ["127.0.0.1:APIPORT:4000"]
    labels: ["${TEST_LABEL}"]
`

const (
	stormOldKey = "first-api-key-0ld"
	rotateEnv   = "# the platform's keys\nAPI_KEYS='" + stormOldKey + "' # of the web client\nOTHER=\"un touched\"\n"
)

// rotation is a host from which the keys of a real API are rotated. Its .env lies
// on a small filesystem of its own.
type rotation struct {
	*bed
	project *testenv.Project
	wire    *kit.DockerWire
	url     string
	envDir  string
	handed  string
	stages  map[string]string // copies of what lies there in each stage, by name
	fresh   string            // the new key
}

// The stages from which a cell begins.
const (
	stageNone     = "none" // the old key
	stagePlanned  = "planned"
	stageNotified = "notified"
	stageOverlap  = "overlap" // both
)

func newRotation(t *testing.T, w *kit.World) *rotation {
	t.Helper()
	engine := testenv.Docker(t)
	testenv.PlatformImage(t)
	port := testenv.FreePort(t)
	r := &rotation{wire: kit.NewDockerWire(t), url: fmt.Sprintf("http://127.0.0.1:%d", port), stages: map[string]string{}}
	r.bed = newBed(t, w, "ESCROWCTL_API_URL="+r.url, "ESCROWCTL_KEYS_TIMEOUT=1m", testenv.ComposePatience)
	r.project = engine.ComposeProject(t, map[string]string{"docker-compose.yml": strings.ReplaceAll(rotateProject, "APIPORT", fmt.Sprint(port)), ".env": rotateEnv})
	r.envDir, r.handed = filepath.Join(r.Dir, "env"), filepath.Join(r.Dir, "handed")
	kit.Tmpfs(t, r.envDir, "size=64k,nr_inodes=12,mode=700")
	write0(t, r.envFile(), rotateEnv)
	r.Env = append(r.Env, "COMPOSE_PROJECT_NAME="+r.project.Name, "ESCROWCTL_COMPOSE_ENV_FILE="+r.envFile(), "DOCKER_HOST="+r.wire.Host)
	if err := os.MkdirAll(r.State, 0o700); err != nil {
		t.Fatal(err)
	}
	r.keep(t, stageNone)
	r.must(t, r.start()...)
	r.keep(t, stagePlanned)
	r.must(t, "rotate-keys", "notify", "API_KEYS")
	r.keep(t, stageNotified)
	key, err := os.ReadFile(filepath.Join(r.handed, "API_KEYS-1.key"))
	if err != nil {
		t.Fatal(err)
	}
	r.fresh = strings.TrimSpace(string(key))
	return r
}

func (r *rotation) envFile() string { return filepath.Join(r.envDir, ".env") }

func (r *rotation) start() []string {
	return []string{"rotate-keys", "start", "API_KEYS", "--out", r.handed}
}

func (r *rotation) must(t *testing.T, args ...string) {
	t.Helper()
	if res := r.Run(t, args...); res.Code != 0 {
		t.Fatalf("%q without a fault: exit %d: %s%s", args, res.Code, res.Stdout, res.Stderr)
	}
}

// keep copies what a stage is made of; return brings it back.
func (r *rotation) keep(t *testing.T, stage string) {
	t.Helper()
	r.stages[stage] = filepath.Join(r.Dir, "stage-"+stage)
	for _, dir := range []string{r.envDir, r.State} {
		copyTree(t, dir, filepath.Join(r.stages[stage], filepath.Base(dir)))
	}
}

func (r *rotation) comeBack(t *testing.T, stage string) {
	t.Helper()
	for _, dir := range []string{r.envDir, r.State} {
		empty(t, dir)
		copyTree(t, filepath.Join(r.stages[stage], filepath.Base(dir)), dir)
	}
	_ = os.RemoveAll(r.handed)
	fresh := map[bool]int{true: 200, false: 401}[stage == stageOverlap]
	if r.asks(r.fresh) != fresh || r.asks(stormOldKey) != 200 {
		if _, err := r.project.Run("--env-file", r.envFile(), "up", "-d"); err != nil {
			t.Fatal(err)
		}
		r.answers(t, 200, fresh)
	}
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func empty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
}

// asks is the API's answer to a key.
func (r *rotation) asks(key string) int {
	return testenv.Answer(r.url+"/api/trades", key, 10*time.Second)
}

// answers waits until the API answers so to the old key and to the new one.
func (r *rotation) answers(t *testing.T, old, fresh int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if r.asks(stormOldKey) == old && r.asks(r.fresh) == fresh {
			return
		}
	}
	t.Errorf("the old key is answered with %d, the new one with %d, want %d and %d", r.asks(stormOldKey), r.asks(r.fresh), old, fresh)
}

// versions are what .env may hold, to the byte: the old key, both, the new one.
func (r *rotation) versions() []string {
	return []string{rotateEnv, strings.Replace(rotateEnv, stormOldKey, stormOldKey+","+r.fresh, 1), strings.Replace(rotateEnv, stormOldKey, r.fresh, 1)}
}

// whole demands of .env that it is one of these versions, and that nothing lies
// beside it but the rotation's own two files.
func (r *rotation) whole(t *testing.T, versions ...string) {
	t.Helper()
	got, err := os.ReadFile(r.envFile())
	if err != nil || !slices.Contains(versions, string(got)) {
		t.Errorf(".env is not whole: %v: %q", err, got)
	}
	entries, _ := os.ReadDir(r.envDir)
	for _, e := range entries {
		if name := e.Name(); name != ".env" && name != ".env.escrowctl-API_KEYS.bak" && name != ".env.escrowctl-API_KEYS.new" && name != filler {
			t.Errorf("left beside .env: %s", name)
		}
	}
}

// from makes a cell of a stage: it begins there, .env is whole after it, and the
// next run does what this one could not. Where that recreates the service it is
// only rehearsed in a short run, and the next cell finds all as it was.
func (r *rotation) from(stage string, c trial) trial {
	makeIt, after := c.make, c.after
	c.make = func(t *testing.T, b *bed) func() {
		r.comeBack(t, stage)
		if makeIt == nil {
			return func() {}
		}
		return makeIt(t, b)
	}
	c.after = func(t *testing.T, b *bed, res kit.Result) {
		t.Helper()
		r.whole(t, r.versions()...)
		if res.Code == 3 {
			r.whole(t, r.versions()[map[string]int{stageOverlap: 1}[stage]]) // nothing was changed
		}
		if after != nil {
			after(t, b, res)
		}
	}
	if c.next == nil {
		c.next = c.call.Args
	}
	switch act := c.next[1]; {
	case act == "activate" && !kit.Full() && !c.leaves:
		c.next = append(slices.Clone(c.next), "--dry-run")
	case act == "activate":
		c.then = func(t *testing.T, _ *bed, _ kit.Result) { r.whole(t, r.versions()[1]); r.answers(t, 200, 200) }
	case act == "retire":
		c.then = func(t *testing.T, _ *bed, _ kit.Result) { r.whole(t, r.versions()[2]); r.answers(t, 401, 200) }
	}
	return c
}

// stormRotateKeys has the steps of a rotation lose the engine, the API, the
// webhook and the disks, and be ended in the midst of a recreate.
func stormRotateKeys(t *testing.T, w *kit.World) {
	r := newRotation(t, w)
	activate, notify := []string{"rotate-keys", "activate", "API_KEYS"}, []string{"rotate-keys", "notify", "API_KEYS"}
	var trials []trial
	add := func(stage string, all ...trial) {
		for _, c := range all {
			trials = append(trials, r.from(stage, c))
		}
	}
	add(stageNone, r.envFaults(r.start(), 2)...)
	add(stageNone, stateFaults(r.start(), 3, true)...)
	for _, c := range webhookTrials(t, trial{call: kit.Call{Args: notify}, codes: []int{2}, within: 20 * time.Second}) {
		c.says = []string{"webhook"}
		if c.fault == "huge answer" {
			c.codes, c.says, c.next = []int{0}, nil, []string{"rotate-keys", "status"}
		}
		c.slow = c.fault != "hanging"
		add(stagePlanned, c)
	}
	add(stageNotified, r.dockerFaults(activate)...)
	add(stageNotified, r.envFaults(activate, 2)...)
	add(stageNotified, stateFaults(activate, 3, true)...)
	for _, illness := range append([]string{"dead"}, kit.Illnesses()...) {
		s := kit.NewIllHTTP(t, illness)
		add(stageNotified, trial{
			group: "API", fault: illness, call: kit.Call{Args: activate, Env: named("ESCROWCTL_API_URL", s.URL)}, codes: []int{3}, says: []string{"before any change"},
			after: untouched(s), slow: illness != "500",
		})
	}
	add(stageNotified, r.midRecreate(kit.Call{Args: activate})...)
	add(stageNotified,
		trial{group: "clock", fault: "stepped ahead by 40 days", call: atClock(t, 960*time.Hour, kit.Call{Args: activate}), codes: []int{0}, next: []string{"rotate-keys", "status"}, slow: true},
		trial{group: "clock", fault: "stepped back by 40 days", call: atClock(t, -960*time.Hour, kit.Call{Args: activate}), codes: []int{0}, next: []string{"rotate-keys", "status"}, slow: true},
	)
	r.matrix(t, rotateJob, kit.Call{}, trials)
	if kit.Full() {
		r.retire(t)
	}
}

const rotateJob = "rotate-keys"

// retire is the last step, which is allowed nine days later.
func (r *rotation) retire(t *testing.T) {
	r.comeBack(t, stageNotified)
	r.must(t, "rotate-keys", "activate", "API_KEYS")
	r.keep(t, stageOverlap)
	retire := []string{"rotate-keys", "retire", "API_KEYS"}
	later := atClock(t, 9*24*time.Hour, kit.Call{Args: retire})
	trials := []trial{
		{group: "clock", fault: "stepped back by 9 days", call: kit.Call{Args: retire}, codes: []int{3}, says: []string{"not yet", "hold until"}},
		{group: "Docker", fault: "stopped", call: kit.Call{Args: retire, Program: later.Program, Env: append(slices.Clone(later.Env), "DOCKER_HOST=unix:///nonexistent/docker.sock")}, codes: []int{2, 3}, says: []string{"no such socket", "systemctl start docker"}},
	}
	for _, c := range r.midRecreate(later) {
		if c.fault == "SIGKILL" || c.group == "two at once" { // clocked handles no other signal
			trials = append(trials, c)
		}
	}
	for i := range trials {
		trials[i] = r.from(stageOverlap, trials[i])
	}
	r.matrix(t, rotateJob, later, trials)
}

// dockerFaults are those of the engine, and of the container that is made.
func (r *rotation) dockerFaults(args []string) []trial {
	call := kit.Call{Args: args}
	killed := func(t *testing.T, _ *bed, run *kit.Running) {
		t.Helper()
		for r.asks(r.fresh) != 200 { // made anew, and about to be proven
			select {
			case <-run.Ended():
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
		_, _ = r.project.Run("kill")
	}
	return []trial{
		{group: "Docker", fault: "stopped", call: kit.Call{Args: args, Env: named("DOCKER_HOST", "unix:///nonexistent/docker.sock")}, codes: []int{2, 3}, says: []string{"no such socket", "systemctl start docker"}},
		{group: "Docker", fault: "silent", call: call, make: hanging(r.wire, ".", 0), codes: []int{2, 3}, says: []string{"does not answer", "journalctl -u docker"}, within: 70 * time.Second, slow: true},
		{group: "Docker", fault: "slow", call: call, make: func(*testing.T, *bed) func() { r.wire.Slow(100 * time.Millisecond); return r.wire.Clear }, codes: []int{0}, within: 3 * time.Minute, next: []string{"rotate-keys", "status"}, slow: true},
		{group: "container", fault: "killed before the proof", call: call, during: killed, codes: []int{0, 2}, within: 3 * time.Minute, next: []string{"rotate-keys", "status"}, slow: true},
	}
}

const filler = "filler"

// envFaults are those of the filesystem on which .env lies.
func (r *rotation) envFaults(args []string, code int) []trial {
	full := func(t *testing.T, _ *bed) func() {
		t.Helper()
		path := filepath.Join(r.envDir, filler)
		_ = os.WriteFile(path, make([]byte, 1<<20), 0o600) // as much as there is room for
		return func() { _ = os.Remove(path) }
	}
	remount := func(t *testing.T, flags uintptr) {
		t.Helper()
		if err := syscall.Mount("tmpfs", r.envDir, "tmpfs", syscall.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	readOnly := func(t *testing.T, _ *bed) func() {
		t.Helper()
		remount(t, syscall.MS_RDONLY)
		return func() { remount(t, 0) }
	}
	call := kit.Call{Args: args}
	return []trial{
		{group: ".env's disk", fault: "full", call: call, make: full, codes: []int{code}, says: []string{"no space left on device", ".env"}},
		{group: ".env's disk", fault: "read-only", call: call, make: readOnly, codes: []int{code}, says: []string{"read-only file system", ".env"}, slow: true},
	}
}

// midRecreate are the cells that are ended, or met, while Compose makes the
// service anew.
func (r *rotation) midRecreate(call kit.Call) []trial {
	var held *kit.DockerRule
	hold := func(*testing.T, *bed) func() {
		held = r.wire.Hold(`POST \S*/containers/create`)
		return r.wire.Clear
	}
	there := func(t *testing.T, _ *bed, run *kit.Running) { run.Until(t, "the service is made anew", held.Reached()) }
	out := signalFaults(nil, nil, there)
	for i, c := range out {
		signal := c.during
		out[i].call = call
		out[i].group, out[i].make, out[i].within = "signals in the recreate", hold, 3*time.Minute
		out[i].during = func(t *testing.T, b *bed, run *kit.Running) { signal(t, b, run); r.wire.Clear() }
		out[i].slow, out[i].leaves = true, c.fault == "SIGKILL" // TestKilledInCompose has the most frequent
	}
	return append(out, trial{
		group: "two at once", fault: "on one host", call: call, make: hold, codes: []int{0}, within: 3 * time.Minute, next: []string{"rotate-keys", "status"}, slow: true,
		during: func(t *testing.T, b *bed, run *kit.Running) {
			there(t, b, run)
			secondRefused(t, b, call)
			r.wire.Clear()
		},
	})
}
