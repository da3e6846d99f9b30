package testenv

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func TestPostgres(t *testing.T) {
	t.Parallel()
	pg := Postgres(t, PGSetting("cluster_name", "it's set"))
	if got := pg.Psql(t, "postgres", "SHOW cluster_name"); got != "it's set" {
		t.Errorf("setting: got %q", got)
	}
	name := `mixed "Case"`
	pg.CreateDB(t, name)
	pg.Psql(t, name, "CREATE TABLE kept AS SELECT 1 AS n")

	for _, end := range []func(testing.TB){pg.Kill, pg.Stop} {
		end(t)
		if _, err := psqlURL(pg, pg.SocketURL(name)); err == nil {
			t.Fatal("the server answers after its end")
		}
		pg.Start(t)
		if got := pg.Psql(t, name, "SELECT n FROM kept"); got != "1" {
			t.Errorf("after a start: got %q", got)
		}
	}

	if out, err := psqlURL(pg, pg.URL(name)); err != nil {
		t.Errorf("over TCP: %v: %s", err, out)
	}
	if out, err := psqlURL(pg, pg.SocketURL(name)); err != nil {
		t.Errorf("over the socket: %v: %s", err, out)
	}
	if out, err := psqlURL(pg, pg.URLAs("postgres", "wrong", name)); err == nil {
		t.Errorf("a wrong password is taken over TCP: %s", out)
	}
}

func psqlURL(pg *PG, url string) ([]byte, error) {
	cmd := exec.Command(filepath.Join(pg.BinDir, "psql"), "-X", "-w", "-c", "SELECT 1", url)
	return cmd.CombinedOutput()
}

// TestPostgresLeavesNothing ends a server in each way and looks for its
// processes, its directory and its shared memory.
func TestPostgresLeavesNothing(t *testing.T) {
	t.Parallel()
	ends := map[string]func(*PG, testing.TB){
		"running": func(*PG, testing.TB) {},
		"stopped": (*PG).Stop,
		"killed":  (*PG).Kill,
		"twice":   func(pg *PG, t testing.TB) { pg.Kill(t); pg.Start(t); pg.Kill(t) },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var root, data string
			var segment string
			ok := t.Run("server", func(t *testing.T) {
				pg := Postgres(t)
				root, data = pg.dir, pg.DataDir
				if len(processesIn(data)) == 0 {
					t.Error("no process works in the data directory: the search for leftovers would find nothing")
				}
				segment = sharedMemory(t, data)
				end(pg, t)
			})
			if !ok {
				return
			}
			if pids := processesIn(data); len(pids) > 0 {
				t.Errorf("processes left: %v", pids)
			}
			assertGone(t, root)
			if slices.Contains(sharedMemoryIDs(t), segment) {
				t.Errorf("shared memory segment %s left", segment)
			}
		})
	}
}

func sharedMemory(t *testing.T, dataDir string) string {
	t.Helper()
	lines := strings.Split(readFile(t, filepath.Join(dataDir, "postmaster.pid")), "\n")
	id := strings.Fields(lines[6])[1]
	if !slices.Contains(sharedMemoryIDs(t), id) {
		t.Fatalf("segment %s of a running server is not listed", id)
	}
	return id
}

func sharedMemoryIDs(t *testing.T) []string {
	t.Helper()
	var ids []string
	for line := range strings.Lines(readFile(t, "/proc/sysvipc/shm")) {
		if fields := strings.Fields(line); len(fields) > 1 {
			ids = append(ids, fields[1])
		}
	}
	return ids
}

func assertGone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left (%v)", path, err)
	}
}

func TestS3(t *testing.T) {
	t.Parallel()
	s := S3(t)
	bucket, other := s.Bucket(t), s.Bucket(t)
	if bucket == other {
		t.Fatalf("two buckets with one name: %s", bucket)
	}
	put := &s3.PutObjectInput{Bucket: &bucket, Key: aws.String("a"), Body: strings.NewReader("text"), IfNoneMatch: aws.String("*")}
	if _, err := s.Client().PutObject(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	put.Body = strings.NewReader("text")
	if _, err := s.Client().PutObject(t.Context(), put); err == nil {
		t.Error("the server overwrites in spite of If-None-Match: *")
	}
	if got := readFile(t, filepath.Join(s.Root, bucket, "a")); got != "text" {
		t.Errorf("object on disk: %q", got)
	}
	s.Stop(t)
	if _, err := s.Client().ListBuckets(t.Context(), nil, func(o *s3.Options) { o.RetryMaxAttempts = 1 }); err == nil {
		t.Error("the server answers after its end")
	}
	s.Start(t)
	list, err := s.Client().ListBuckets(t.Context(), nil)
	if err != nil || len(list.Buckets) != 2 {
		t.Errorf("after a start: %v, %v", list, err)
	}
}

func TestRedis(t *testing.T) {
	t.Parallel()
	r := Redis(t, "maxmemory 64mb")
	client := r.Client()
	defer client.Close()
	got, err := client.ConfigGet(t.Context(), "maxmemory").Result()
	if err != nil || got["maxmemory"] != "67108864" {
		t.Errorf("maxmemory: %v, %v", got, err)
	}
}

func TestSink(t *testing.T) {
	t.Parallel()
	s := NewSink(t)
	post := func(url string) int {
		t.Helper()
		resp, err := http.Post(url, "application/json", strings.NewReader(`{"text":"hello"}`))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	s.SetStatus("/api/metrics", http.StatusNotFound)
	s.SetDelay("webhook", 10*time.Millisecond)
	if got := post(s.URL + "/api/metrics"); got != 404 {
		t.Errorf("/api/metrics: %d", got)
	}
	if got := post(s.WebhookURL()); got != 200 {
		t.Errorf("webhook: %d", got)
	}
	if got := s.Metrics(t); len(got) != 1 || got[0]["text"] != "hello" {
		t.Errorf("metrics: %v", got)
	}
	if got := s.Texts(t); !slices.Equal(got, []string{"hello"}) {
		t.Errorf("texts: %v", got)
	}
	if n := len(s.Requests()); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestDocker(t *testing.T) {
	t.Parallel()
	var run, id string
	ok := t.Run("server", func(t *testing.T) {
		d := Docker(t)
		run = d.Run
		pg := d.Postgres(t)
		id = pg.ID
		if got := pg.Psql(t, pg.Database, "SELECT current_user"); got != "indexer" {
			t.Errorf("role %q", got)
		}
		if got := containers(t, run); got == "" {
			t.Error("the label does not find the container: the search for leftovers would find nothing")
		}
	})
	if !ok || run == "" {
		return // failed or skipped, which the subtest tells
	}
	if got := containers(t, run); got != "" {
		t.Errorf("containers left: %s (made %s)", got, id)
	}
}

func containers(t *testing.T, run string) string {
	t.Helper()
	out, err := exec.Command("docker", "ps", "-aq", "--filter", "label="+runLabel+"="+run).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// keptProject has services whose image names a volume of its own: one with a
// volume in its place, and one that gets one without a name.
const keptProject = `services:
  named:
    image: IMAGE
    entrypoint: ["sleep", "1000000"]
    stop_grace_period: 1s
    volumes: ["data:/var/lib/postgresql/data"]
    labels: ["${TEST_LABEL}"]
  nameless:
    image: IMAGE
    entrypoint: ["sleep", "1000000"]
    stop_grace_period: 1s
    environment: {TURN: "${TURN}"}
    labels: ["${TEST_LABEL}"]
volumes:
  data:
`

// newKeptProject brings it up and has Compose make a container anew. It returns the
// volumes without a name, whether handed on to the new one or left behind.
func newKeptProject(t *testing.T) (*Project, []string) {
	t.Helper()
	d := Docker(t)
	file := strings.ReplaceAll(keptProject, "IMAGE", PostgresImage(t))
	p := d.ComposeProject(t, map[string]string{"docker-compose.yml": file, ".env": "TURN=1\n"})
	before := p.anonymous(t)
	if err := os.WriteFile(p.EnvFile(), []byte("TURN=2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run("up", "-d"); err != nil {
		t.Fatal(err)
	}
	after := p.anonymous(t)
	if len(before) != 1 || len(after) != 1 {
		t.Fatalf("volumes without a name: %q, then %q: one is expected", before, after)
	}
	return p, slices.Compact(append(before, after...))
}

func TestProjectLeavesNothing(t *testing.T) {
	t.Parallel()
	var s started
	ok := t.Run("project", func(t *testing.T) {
		p, volumes := newKeptProject(t)
		s.Run, s.Volumes = p.docker.Run, volumes
		if left := leftOf(t, s); len(left) != 4+len(volumes) {
			t.Errorf("the search finds %q, of two containers, a network, a volume with a name and %d without", left, len(volumes))
		}
	})
	if !ok || s.Run == "" {
		return // failed or skipped, which the subtest tells
	}
	if left := leftOf(t, s); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// started is what the child of TestKilledTestLeavesNothing tells its parent.
type started struct {
	PIDs []int
	Dirs []string
	Run  string // label of its containers, if there is an engine
	// Volumes are those without a name that its containers have.
	Volumes []string
}

const childEnv = "ESCROWCTL_TESTENV_CHILD"

// TestChild is no test: it is the process that TestKilledTestLeavesNothing
// kills.
func TestChild(t *testing.T) {
	if os.Getenv(childEnv) == "" {
		t.Skip("runs as the child of TestKilledTestLeavesNothing only")
	}
	pg, store, cache := Postgres(t), S3(t), Redis(t)
	s := started{
		PIDs: append(processesIn(pg.DataDir), store.process.cmd.Process.Pid, cache.process.cmd.Process.Pid),
		Dirs: []string{pg.dir, store.dir, cache.dir},
	}
	if exec.Command("docker", "version").Run() == nil {
		p, volumes := newKeptProject(t)
		p.docker.Start(t, Container{Image: PostgresImage(t), Network: p.docker.Network(t), Volumes: map[string]string{p.docker.Volume(t): "/data"}, Cmd: []string{"sleep", "1000000"}})
		s.Run, s.Volumes = p.docker.Run, volumes
	}
	if err := json.NewEncoder(os.Stderr).Encode(s); err != nil {
		t.Fatal(err)
	}
	select {}
}

// TestKilledTestLeavesNothing kills a test process outright while its servers
// run, and waits for the watchdogs to clean up after it.
func TestKilledTestLeavesNothing(t *testing.T) {
	t.Parallel()
	Tool(t, "versitygw") // here, where a skip is seen
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	var out bytes.Buffer
	cmd.Stdout = &out
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var s started
	decodeErr := json.NewDecoder(stderr).Decode(&s)
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait()
	if decodeErr != nil {
		t.Fatalf("the child told nothing: %v\n%s", decodeErr, out.String())
	}
	if len(s.PIDs) < 5 {
		t.Fatalf("processes of the child: %v, expected PostgreSQL's, S3 and Redis", s.PIDs)
	}

	var left []string
	for deadline := time.Now().Add(startLimit); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if left = leftOf(t, s); len(left) == 0 {
			return
		}
	}
	t.Errorf("left of a killed test: %v", left)
}

func leftOf(t *testing.T, s started) []string {
	t.Helper()
	var left []string
	for _, pid := range s.PIDs {
		if syscall.Kill(pid, 0) == nil {
			left = append(left, fmt.Sprint("process ", pid))
		}
	}
	for _, dir := range s.Dirs {
		if _, err := os.Stat(dir); err == nil {
			left = append(left, dir)
		}
	}
	if s.Run == "" {
		return left
	}
	for _, label := range []string{runLabel + "=" + s.Run, "com.docker.compose.project=escrowctl-test-" + s.Run} {
		for kind, list := range map[string][]string{"container": {"ps", "-aq"}, "network": {"network", "ls", "-q"}, "volume": {"volume", "ls", "-q"}} {
			out, err := exec.Command("docker", append(list, "--filter", "label="+label)...).Output()
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range strings.Fields(string(out)) {
				left = append(left, kind+" "+id)
			}
		}
	}
	for _, name := range s.Volumes {
		if exec.Command("docker", "volume", "inspect", name).Run() == nil {
			left = append(left, "volume "+name)
		}
	}
	slices.Sort(left)
	return slices.Compact(left)
}

func TestToolVersion(t *testing.T) {
	t.Parallel()
	const list = "# tools\nfoo example.org/foo v1.2.3\n"
	if got, err := toolVersion(list, "foo"); err != nil || got != "v1.2.3" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := toolVersion(list, "bar"); err == nil {
		t.Error("a tool that is not listed has a version")
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
