package year

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

const (
	database = "app"
	// runMark is in the environment of whatever a run starts.
	runMark = "STORM_RUN"
	// room is that of the filesystem for backups: enough for those that
	// retention keeps, and no more than a few besides.
	room = 128 << 20
)

// stage is a platform with everything that the commands of a year need.
type stage struct {
	pg      *testenv.PG
	s3      *testenv.S3Server
	sink    *testenv.Sink
	project *testenv.Project
	ca      *kit.CA
	site    *kit.Site

	toS3, toCA, toDocker *proxy

	root   string // everything else lies below it
	bucket string
	env    []string
	mark   string
	api    string
	first  time.Time // midnight of night 0
	usual  map[string]time.Duration
	pids   map[int]bool // of all runs
}

func (s *stage) path(parts ...string) string {
	return filepath.Join(append([]string{s.root}, parts...)...)
}

const apiCompose = `services:
  api:
    image: escrowctl-sandbox/platform:latest
    command: ["api"]
    stop_grace_period: 1s
    environment: {API_KEYS: "${API_KEYS}", ADMIN_KEYS: "${ADMIN_KEYS}"}
    ports: ["127.0.0.1:APIPORT:4000"]
    labels: ["${TEST_LABEL}"]
`

// configText has wide limits: a busy machine is no fault.
const configText = `env: production
dump: {via: host}
s3: {storage_class: "", part_size: 5MiB}
backup:
  retention: {days: 7}
  bucket_retention: {days: 10, weekly: 4, monthly: 6}
report: {api_metrics: on, timeout: 30s}
dr_test: {engine: local, rpo: 26h}
shift_check: {timeout: 1m}
perf: {sources: [database, statements, disk]}
certs: {timeout: 10m}
keys: {timeout: 5m}
`

func newStage(t *testing.T) *stage {
	t.Helper()
	docker := testenv.Docker(t)
	testenv.PlatformImage(t)
	root := testenv.ShortDir(t, 0o700) // sockets lie in it
	s := &stage{root: root, mark: filepath.Base(root), sink: testenv.NewSink(t), usual: map[string]time.Duration{}, pids: map[int]bool{}}
	s.first = time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
	s.directories(t)
	s.pg = testenv.Postgres(t, testenv.PGSetting("shared_preload_libraries", "pg_stat_statements"))
	s.pg.CreateDB(t, database)
	s.pg.Psql(t, database, schemaSQL)
	s.s3 = testenv.S3(t)
	s.bucket = s.s3.Bucket(t)
	s.toS3 = newProxy(t, "tcp", fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t)), "tcp", strings.TrimPrefix(s.s3.Endpoint, "http://"))
	s.toDocker = newProxy(t, "unix", s.path("docker.sock"), "unix", "/var/run/docker.sock")
	s.ca = kit.NewCA(t, s.root)
	s.toCA = newProxy(t, "tcp", fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t)), "tcp", s.ca.Addr)
	s.site = kit.NewSite(t, s.root, s.ca, s.toCA.addr)
	port := testenv.FreePort(t)
	s.api = fmt.Sprintf("http://127.0.0.1:%d", port)
	s.project = docker.ComposeProject(t, map[string]string{
		"docker-compose.yml": strings.ReplaceAll(apiCompose, "APIPORT", fmt.Sprint(port)),
		".env":               "# the platform's keys\nAPI_KEYS=first-api-key\nADMIN_KEYS='first-admin-key' # of two people\nOTHER=\"un touched\"\n",
	})
	s.environment()
	return s
}

// directories makes those of the host. What is to be filled up is a filesystem
// of its own.
func (s *stage) directories(t *testing.T) {
	t.Helper()
	for _, name := range []string{"backups", "state", "tmp", "metrics", "home", "handed"} {
		if err := os.Mkdir(s.path(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// The server of a recovery test runs as another user, who must get through.
	for _, dir := range []string{s.root, s.path("tmp")} {
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Need(t, os.Geteuid() == 0, "root", "mounting a tmpfs is root's")
	for name, size := range map[string]int{"backups": room, "state": 16 << 20} {
		if err := syscall.Mount("tmpfs", s.path(name), "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)); err != nil {
			testenv.Need(t, false, "a tmpfs", err.Error())
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(s.path(name), syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	if err := os.WriteFile(s.path("escrowctl.yaml"), []byte(configText), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *stage) environment() {
	s.env = append(s.s3.Env(), "AWS_ENDPOINT_URL_S3=http://"+s.toS3.addr, "PATH="+s.site.Bin+":"+os.Getenv("PATH"), "HOME="+s.path("home"), "TMPDIR="+s.path("tmp"),
		runMark+"="+s.mark, "ESCROWCTL_CONFIG="+s.path("escrowctl.yaml"), "DATABASE_URL="+s.pg.URL(database), "S3_BUCKET=s3://"+s.bucket, "BACKUP_DIR="+s.path("backups"),
		"ESCROWCTL_STATE_DIR="+s.path("state"), "ESCROWCTL_REPORT_TEXTFILE_DIR="+s.path("metrics"), "API_BASE_URL="+s.sink.URL, "BACKUP_ALERT_WEBHOOK="+s.sink.WebhookURL(),
		"COMPOSE_PROJECT_NAME="+s.project.Name, "ESCROWCTL_COMPOSE_ENV_FILE="+s.project.EnvFile(), "ESCROWCTL_COMPOSE_DOCKER_HOST=unix://"+s.toDocker.addr,
		"ESCROWCTL_API_URL="+s.api)
	s.env = append(s.env, s.site.Env(s.ca)...)
}

// result is how a run ended.
type result struct {
	code        int // -1 if a signal killed it
	out, errs   string
	took        time.Duration
	rss         int64 // bytes, at most
	struck      bool  // the fault came while it ran
	second      int   // exit code of a run beside it, of faultTwice
	signalled   time.Time
	afterSignal time.Duration
}

// words are all that the run said.
func (r result) words() string { return r.out + r.errs }

// runLimit is longer than any run may take, on a busy machine too.
const runLimit = 8 * time.Minute

// command is escrowctl at a time.
func (s *stage) command(at time.Time, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Dir = s.root
	cmd.Env = append(s.env, clockVariable+"="+at.Format(time.RFC3339))
	// A recovery test under a moved clock must not look for what is old on an
	// engine that others use.
	if args[0] == "dr-test" {
		cmd.Env = append(cmd.Env, "ESCROWCTL_COMPOSE_DOCKER_HOST=unix://"+s.path("none.sock"), "DOCKER_HOST=unix://"+s.path("none.sock"))
	}
	return cmd
}

// execute runs a command to its end, with the fault that strikes it.
func (s *stage) execute(t *testing.T, at time.Time, args []string, strike *strike) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := s.command(at, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	// What a killed run leaves running must not keep us waiting for its output.
	cmd.WaitDelay = time.Second
	if strike == nil {
		strike = &noStrike
	}
	cmd.Env = append(cmd.Env, strike.env...)
	strike.before(t)
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.pids[cmd.Process.Pid] = true
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // the state says it
	r := result{}
	select {
	case <-ended:
	case <-time.After(strike.after):
		r.struck = true
		r.signalled = time.Now()
		strike.during(t, cmd.Process)
	}
	select {
	case <-ended:
	case <-time.After(runLimit):
		_ = cmd.Process.Signal(syscall.SIGQUIT) // tells where it hangs
		time.Sleep(2 * time.Second)
		_ = cmd.Process.Kill()
		<-ended
		t.Errorf("%s did not end within %s", strings.Join(args, " "), runLimit)
	}
	r.took = time.Since(start)
	r.afterSignal = time.Since(r.signalled)
	r.second = strike.heal(t)
	r.code, r.out, r.errs = cmd.ProcessState.ExitCode(), out.String(), errs.String()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.rss = usage.Maxrss << 10
	}
	return r
}

// fill takes all the room of a filesystem but so many bytes.
func (s *stage) fill(t *testing.T, name string, left int64) {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(s.path(name), &st); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(s.path(name, ".storm-filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = syscall.Fallocate(int(f.Fd()), 0, 0, max(1, int64(st.Bavail)*st.Bsize-left))
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

func (s *stage) drain(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(s.path(name, ".storm-filler")); err != nil {
		t.Error(err)
	}
}

// age makes the files of the state directory a day older, as they would be.
func (s *stage) age(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"state", "metrics", "tmp"} {
		_ = filepath.WalkDir(s.path(dir), func(path string, entry os.DirEntry, err error) error {
			if err != nil {
				return nil //nolint:nilerr // gone meanwhile
			}
			if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
				older := info.ModTime().Add(-24 * time.Hour)
				_ = os.Chtimes(path, older, older)
			}
			return nil
		})
	}
}
