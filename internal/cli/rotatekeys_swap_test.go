package cli

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

const (
	oldPassword = "0ld-p4ss-m4rk3r"
	oldRedis    = "0ld-r3dis-m4rk3r"
)

const storesProject = `services:
  postgres:
    image: escrowctl-sandbox/postgres:15
    environment: {POSTGRES_USER: indexer, POSTGRES_PASSWORD: "${POSTGRES_PASSWORD}", POSTGRES_DB: stellar_escrow}
    command: ["postgres", "-c", "log_statement=all"]
    volumes: ["data:/var/lib/postgresql/data"]
    labels: ["${TEST_LABEL}"]
    healthcheck:
      test: ["CMD", "pg_isready", "-q", "-h", "127.0.0.1"]
      interval: 1s
      retries: 60
  redis:
    image: escrowctl-sandbox/redis:7
    command: ["redis-server", "--bind", "0.0.0.0", "--requirepass", "${REDIS_PASSWORD}"]
    labels: ["${TEST_LABEL}"]
  worker:
    image: escrowctl-sandbox/postgres:15
    entrypoint: ["sleep", "3600"]
    stop_grace_period: 1s
    environment: {DATABASE_URL: "${DATABASE_URL}", CACHE: "redis://:${REDIS_PASSWORD}@redis:6379"}
    labels: ["${TEST_LABEL}"]
volumes:
  data:
`

type storesBed struct {
	*rotationBed
}

func newStoresBed(t *testing.T) *storesBed {
	t.Helper()
	docker := testenv.Docker(t)
	testenv.PostgresImage(t)
	b := &rotationBed{state: filepath.Join(t.TempDir(), "state"), sink: testenv.NewSink(t)}
	b.project = docker.ComposeProject(t, map[string]string{
		"docker-compose.yml": storesProject,
		".env": "POSTGRES_PASSWORD=" + oldPassword + "\nREDIS_PASSWORD='" + oldRedis + "' # cache\n" +
			"DATABASE_URL=\"postgres://indexer:" + oldPassword + "@postgres:5432/stellar_escrow?sslmode=disable\"",
	})
	b.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "ESCROWCTL_STATE_DIR=" + b.state, "COMPOSE_PROJECT_NAME=" + b.project.Name,
		"ESCROWCTL_COMPOSE_ENV_FILE=" + b.project.EnvFile(), "ESCROWCTL_REPORT_API_METRICS=off", "ESCROWCTL_KEYS_TIMEOUT=60s", testenv.ComposePatience,
	}
	s := &storesBed{b}
	limit := time.Now().Add(patience)
	for s.query() != nil {
		if time.Now().After(limit) {
			t.Fatalf("the database does not come up: %v", s.query())
		}
		time.Sleep(200 * time.Millisecond)
	}
	return s
}

// query is what the worker does, with what it was made with.
func (s *storesBed) query() error {
	return s.exec("worker", "sh", "-c", `psql -X -q "$DATABASE_URL" -c "select 1"`)
}

func (s *storesBed) exec(service string, cmd ...string) error {
	id, err := exec.Command("docker", "ps", "-q", "--filter", "label=com.docker.compose.project="+s.project.Name, "--filter", "label=com.docker.compose.service="+service).Output()
	if err != nil || len(bytes.TrimSpace(id)) == 0 {
		return fmt.Errorf("no container of %s: %w", service, err)
	}
	out, err := exec.Command("docker", append([]string{"exec", string(bytes.TrimSpace(id))}, cmd...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// value reads a variable of the project's .env.
func (s *storesBed) value(t *testing.T, name string) string {
	t.Helper()
	for line := range strings.Lines(read(t, s.project.EnvFile())) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			v, _, _ = strings.Cut(v, " #")
			return strings.Trim(v, `'"`)
		}
	}
	t.Fatalf("no %s in .env", name)
	return ""
}

func (s *storesBed) redis(password string) error {
	return s.exec("redis", "sh", "-c", "REDISCLI_AUTH="+password+" redis-cli -h $(hostname -i) ping | grep -q PONG")
}

// load does something over and over, and counts how it went.
type load struct {
	good, bad atomic.Int64
	longest   time.Duration // between two successes
	stop      chan struct{}
	done      sync.WaitGroup
}

func startLoad(do func() error) *load {
	l := &load{stop: make(chan struct{})}
	l.done.Go(func() {
		last := time.Now()
		for {
			select {
			case <-l.stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if do() != nil {
				l.bad.Add(1)
				continue
			}
			l.good.Add(1)
			l.longest = max(l.longest, time.Since(last))
			last = time.Now()
		}
	})
	return l
}

// end waits for a last success.
func (l *load) end(t *testing.T) {
	t.Helper()
	before := l.good.Load()
	for limit := time.Now().Add(patience); l.good.Load() == before && time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
	}
	close(l.stop)
	l.done.Wait()
}

// ping is what the worker does with Redis, with what it was made with.
func (s *storesBed) ping() error {
	return s.exec("worker", "sh", "-c", `pw=${CACHE#*//:}; REDISCLI_AUTH=${pw%@*} redis-cli -h redis ping | grep -q PONG`)
}

// runbookOrder does what the page says: .env first, then restart. The database
// keeps its password and who is made anew is shut out, and escrowctl begins
// nothing on that.
func (s *storesBed) runbookOrder(t *testing.T, original string) {
	t.Helper()
	edit := func(text string) {
		if err := os.WriteFile(s.project.EnvFile(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"restart", "-t", "2", "postgres"}, {"up", "-d", "--no-deps", "worker"}} {
			if out, err := s.project.Run(args...); err != nil {
				t.Fatal(out, err)
			}
		}
	}
	wrong := strings.ReplaceAll(original, oldPassword, "by-the-page")
	edit(wrong)
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(250 * time.Millisecond) { // it is starting
		if err = s.query(); err == nil || strings.Contains(err.Error(), "password authentication failed") {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "password authentication failed") {
		t.Errorf("the page's order: the worker's query: %v: the trap is gone", err)
	}
	if out := s.must(t, 3, "rotate-keys", "POSTGRES_PASSWORD"); !strings.Contains(out, "does not log in") || !strings.Contains(out, "nothing is changed") {
		t.Errorf("it says %s", out)
	}
	if read(t, s.project.EnvFile()) != wrong {
		t.Error(".env changed")
	}
	edit(original)
	for limit := time.Now().Add(patience); s.query() != nil; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal(s.query())
		}
	}
}

// TestPasswords changes both passwords for real, under the load of a worker, and
// then has a service that dies put the old ones back. The page's own steps, before
// it, fail.
func TestPasswords(t *testing.T) {
	t.Parallel()
	s := newStoresBed(t)
	original := read(t, s.project.EnvFile())
	s.runbookOrder(t, original)
	queries, pings := startLoad(s.query), startLoad(s.ping)
	if out := s.must(t, 0, "rotate-keys", "POSTGRES_PASSWORD", "--dry-run"); !strings.Contains(out, "would recreate postgres, worker, in this order") {
		t.Errorf("it says %s", out)
	}
	if read(t, s.project.EnvFile()) != original {
		t.Error(".env changed in a dry run")
	}
	s.must(t, 0, "rotate-keys", "POSTGRES_PASSWORD", "--why", "annual")
	s.must(t, 0, "rotate-keys", "REDIS_PASSWORD")
	queries.end(t)
	pings.end(t)
	for name, l := range map[string]*load{"queries": queries, "pings of Redis": pings} {
		t.Logf("the worker's %s: %d answered, %d failed while services were made anew; longest gap %s", name, l.good.Load(), l.bad.Load(), l.longest)
		if l.good.Load() < 2 {
			t.Errorf("only %d %s were answered", l.good.Load(), name)
		}
	}
	if s.query() != nil || s.ping() != nil {
		t.Errorf("the worker: %v, %v", s.query(), s.ping())
	}
	password, redis := s.value(t, "POSTGRES_PASSWORD"), s.value(t, "REDIS_PASSWORD")
	want := strings.ReplaceAll(strings.ReplaceAll(original, oldPassword, password), oldRedis, redis)
	if len(password) != 64 || len(redis) != 64 || read(t, s.project.EnvFile()) != want {
		t.Error("not only the passwords changed in .env")
	}
	if s.redis(redis) != nil || s.redis(oldRedis) == nil {
		t.Error("redis takes the wrong password")
	}
	logs, err := exec.Command("docker", "ps", "-q", "--filter", "label=com.docker.compose.project="+s.project.Name, "--filter", "label=com.docker.compose.service=postgres").Output()
	if err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command("docker", "logs", string(bytes.TrimSpace(logs))).CombinedOutput()
	if err != nil || strings.Contains(string(said), password) {
		t.Errorf("the password is in the server's log: %v", err)
	}

	// A dead worker: what cannot come up puts the old password back.
	file := filepath.Join(s.project.Dir, "docker-compose.yml")
	compose := read(t, file)
	if err := os.WriteFile(file, []byte(strings.Replace(compose, `["sleep", "3600"]`, `["false"]`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	before := read(t, s.project.EnvFile())
	s.env = append(s.env, "ESCROWCTL_KEYS_TIMEOUT=8s")
	for _, name := range []string{"POSTGRES_PASSWORD", "REDIS_PASSWORD"} {
		code, out, errs := s.run(t, "rotate-keys", name)
		if code != 2 || read(t, s.project.EnvFile()) != before {
			t.Errorf("%s with a dead worker: exit %d, .env as before: %v: %s%s", name, code, read(t, s.project.EnvFile()) == before, out, errs)
		}
	}
	if err := os.WriteFile(file, []byte(compose), 0o600); err != nil {
		t.Fatal(err)
	}
	s.env = append(s.env, "ESCROWCTL_KEYS_TIMEOUT=60s")
	for _, name := range []string{"POSTGRES_PASSWORD", "REDIS_PASSWORD"} {
		s.run(t, "rotate-keys", "rollback", name) // where it could not end for want of the worker
	}
	if out, err := s.project.Run("up", "-d", "worker"); err != nil {
		t.Fatal(out, err)
	}
	for end := time.Now().Add(patience); s.query() != nil || s.redis(redis) != nil; time.Sleep(200 * time.Millisecond) { // they may be starting
		if time.Now().After(end) {
			t.Fatalf("the passwords of .env do not work: %v %v", s.query(), s.redis(redis))
		}
	}
	s.noSecrets(t, oldPassword, oldRedis, password, redis)
}
