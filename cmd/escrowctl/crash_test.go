package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// TestMain lets the test binary be escrowctl, so that tests run the real main.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_ESCROWCTL_MAIN") != "" {
		main()
	}
	os.Exit(m.Run())
}

// sandbox is a database, a bucket and the environment that leads to them.
type sandbox struct {
	pg     *testenv.PG
	s3     *testenv.S3Server
	bucket string
	dir    string // backups
	env    []string
}

func newSandbox(t *testing.T) *sandbox {
	t.Helper()
	s := &sandbox{pg: testenv.Postgres(t), s3: testenv.S3(t), dir: filepath.Join(t.TempDir(), "backups")}
	s.bucket = s.s3.Bucket(t)
	config := filepath.Join(t.TempDir(), "escrowctl.yaml")
	if err := os.WriteFile(config, []byte("env: staging\ndump: {via: host}\ns3: {storage_class: \"\"}\nreport: {api_metrics: off}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.env = append(s.s3.Env(), "TEST_ESCROWCTL_MAIN=1", "ESCROWCTL_CONFIG="+config, "DATABASE_URL="+s.pg.URL("app"), "S3_BUCKET=s3://"+s.bucket,
		"BACKUP_DIR="+s.dir, "ESCROWCTL_STATE_DIR="+filepath.Join(t.TempDir(), "state"), "PATH="+os.Getenv("PATH"), "HOME="+t.TempDir())
	s.pg.CreateDB(t, "app")
	return s
}

func (s *sandbox) command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = s.env
	return cmd
}

// run runs escrowctl and returns its exit code and output.
func (s *sandbox) run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := s.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

type listed struct {
	Backups []struct {
		Name string `json:"name"`
		Kind string `json:"kind"`
		Good bool   `json:"good"`
	} `json:"backups"`
}

// TestCrash kills backups at random moments. None may leave anything that
// counts as good and is not, and the next run clears up.
func TestCrash(t *testing.T) {
	kills := 200
	if testing.Short() {
		kills = 30
	}
	s := newSandbox(t)
	// Hard to compress, so that an upload has several parts.
	s.env = append(s.env, "ESCROWCTL_S3_PART_SIZE=5MiB")
	s.pg.Psql(t, "app", "CREATE TABLE trades (id int PRIMARY KEY, v text); "+
		"INSERT INTO trades SELECT g, (SELECT string_agg(md5((g * 100 + i)::text), '') FROM generate_series(1, 12) i) FROM generate_series(1, 60000) g")
	start := time.Now()
	if code, out, errs := s.run(t, "backup"); code != 0 {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	whole := time.Since(start)
	first := newest(t, s.good(t, "--local"))
	checked := map[string]bool{}
	seed := uint64(time.Now().UnixNano())
	t.Logf("a backup takes %s, seed %d", whole, seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range kills {
		cmd := s.command("backup")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rng.Int64N(int64(whole * 11 / 10))))
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
		s.noFalseGood(t, checked)
		if i%20 == 19 {
			s.cleanRun(t)
		}
	}
	s.cleanRun(t)
	if code, out, errs := s.run(t, "backup", "verify", first, "--deep"); code != 0 {
		t.Errorf("the first backup does not verify any more: exit %d: %s%s", code, out, errs)
	}
	if len(checked) < kills/20 {
		t.Errorf("only %d backups came about", len(checked))
	}
}

func (s *sandbox) good(t *testing.T, where string) []string {
	t.Helper()
	code, out, errs := s.run(t, "backup", "list", where, "--json")
	var l listed
	if err := json.Unmarshal([]byte(out), &l); err != nil || code > 1 {
		t.Fatalf("list: exit %d: %s%s", code, out, errs)
	}
	var names []string
	for _, b := range l.Backups {
		if b.Good {
			names = append(names, b.Name)
		}
	}
	return names
}

func newest(t *testing.T, names []string) string {
	t.Helper()
	if len(names) == 0 {
		t.Fatal("no good backup")
	}
	return names[len(names)-1]
}

// noFalseGood verifies whatever is listed as good and was not looked at yet,
// and that every file with a final name is a whole gzip file with its end mark.
func (s *sandbox) noFalseGood(t *testing.T, checked map[string]bool) {
	t.Helper()
	for _, where := range []string{"--local", "--s3"} {
		for _, name := range s.good(t, where) {
			if checked[where+name] {
				continue
			}
			checked[where+name] = true
			if code, out, errs := s.run(t, "backup", "verify", where, name); code != 0 {
				t.Fatalf("%s is listed as good in %s: verify exits %d: %s%s", name, where, code, out, errs)
			}
		}
	}
	files, _ := filepath.Glob(filepath.Join(s.dir, "*.sql.gz"))
	for _, f := range files {
		if checked[f] {
			continue
		}
		checked[f] = true
		if text := gunzip(t, f); !strings.Contains(text[max(0, len(text)-200):], "-- PostgreSQL database dump complete") {
			t.Fatalf("%s has its final name and is not whole", f)
		}
	}
}

func gunzip(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return string(text)
}

// cleanRun lets a backup come to its end, after which nothing of the killed
// ones is left.
func (s *sandbox) cleanRun(t *testing.T) {
	t.Helper()
	time.Sleep(time.Second) // names go by the second
	if code, out, errs := s.run(t, "backup"); code > 1 {
		t.Fatalf("after kills: exit %d: %s%s", code, out, errs)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	up, err := s.s3.Client().ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String(s.bucket)})
	if err != nil || len(up.Uploads) > 0 {
		t.Errorf("unfinished uploads: %d, %v", len(up.Uploads), err)
	}
	for end := time.Now().Add(soon); ; time.Sleep(50 * time.Millisecond) { // the last one may just be ending
		n := s.pg.Psql(t, "postgres", "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ 'pg_dump|escrowctl'")
		if n == "0" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s sessions are left", n)
		}
	}
}
