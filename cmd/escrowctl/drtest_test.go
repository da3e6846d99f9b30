package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// drSandbox is a database with the platform's tables, a backup of it, and what
// dr-test needs.
type drSandbox struct {
	*sandbox
	sink   *testenv.Sink
	backup string // path of the newest local one
	tmp    string // of the local engine
	image  string // "" where there is no Docker
}

const drSchema = `
CREATE ROLE reader;
CREATE EXTENSION pg_stat_statements;
CREATE TABLE users (id bigserial PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE trades (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), seller bigint REFERENCES users, amount numeric, status varchar(12) CHECK (status IN ('open', 'done')), created_at timestamptz NOT NULL, meta jsonb);
CREATE TABLE events (id bigserial PRIMARY KEY, payload jsonb, at timestamptz);
CREATE INDEX ON events (at);
CREATE VIEW done AS SELECT * FROM trades WHERE status IN ('done');
CREATE MATERIALIZED VIEW sums AS SELECT seller, sum(amount) FROM trades GROUP BY 1;
GRANT SELECT ON trades TO reader;
INSERT INTO users (name) SELECT 'user ' || g FROM generate_series(1, 200) g;
INSERT INTO trades (seller, amount, status, created_at, meta) SELECT 1 + g % 200, g, (ARRAY['open', 'done'])[1 + g % 2], now() - g * interval '1 s', jsonb_build_object('n', g, 'memo', md5(g::text)) FROM generate_series(1, 3000) g;
INSERT INTO events (payload, at) SELECT jsonb_build_object('n', g, 'hash', md5(g::text)), now() FROM generate_series(1, 5000) g;
REFRESH MATERIALIZED VIEW sums;
`

func newDRSandbox(t *testing.T) *drSandbox {
	t.Helper()
	s := &drSandbox{sandbox: newSandbox(t), sink: testenv.NewSink(t), tmp: testenv.ShortDir(t, 0o755)}
	s.env = append(s.env, "TMPDIR="+s.tmp, "API_BASE_URL="+s.sink.URL, "BACKUP_ALERT_WEBHOOK="+s.sink.WebhookURL(), "ESCROWCTL_REPORT_API_METRICS=on",
		"ESCROWCTL_REPORT_TEXTFILE_DIR="+t.TempDir())
	s.pg.Psql(t, "app", drSchema)
	if code, out, errs := s.run(t, "backup"); code != 0 {
		t.Fatalf("backup: exit %d: %s%s", code, out, errs)
	}
	files, _ := filepath.Glob(filepath.Join(s.dir, "*.sql.gz"))
	s.backup = files[len(files)-1]
	if exec.Command("docker", "image", "inspect", "escrowctl-sandbox/postgres:15").Run() == nil {
		s.image = testenv.PostgresImage(t)
		s.env = append(s.env, "ESCROWCTL_DR_TEST_IMAGE="+s.image)
	}
	return s
}

// docker says that a test needs the Docker engine.
func (s *drSandbox) docker(t *testing.T) {
	t.Helper()
	testenv.PostgresImage(t)
}

// plain writes a dump as the old script made them and returns its path.
func (s *drSandbox) plain(t *testing.T, sql string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stellar_escrow_20250101T020000Z.sql.gz")
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(sql)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

type drResult struct {
	Status  string `json:"status"`
	Verdict string `json:"verdict"`
	Engine  string `json:"engine"`
	Kind    string `json:"kind"`
	Where   string `json:"where"`
	Rows    int64  `json:"rows"`
	Psql    string `json:"psql"`
	Checks  []struct {
		ID      string   `json:"id"`
		Status  string   `json:"status"`
		Summary string   `json:"summary"`
		Detail  []string `json:"detail"`
	} `json:"checks"`
	Counts map[string]int64 `json:"counts"`
	Notes  []string         `json:"notes"`
	log    string
}

// check returns the status and summary of a check, "" if it was not made.
func (r drResult) check(id string) (status, summary string) {
	for _, c := range r.Checks {
		if c.ID == id {
			return c.Status, strings.Join(append([]string{c.Summary}, c.Detail...), "; ")
		}
	}
	return "", ""
}

// drTest runs a test and wants its exit code.
func (s *drSandbox) drTest(t *testing.T, want int, args ...string) drResult {
	t.Helper()
	code, out, errs := s.run(t, append([]string{"dr-test", "--json"}, args...)...)
	var r drResult
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != want {
		t.Fatalf("dr-test %v: exit %d, want %d: %v\n%s%s", args, code, want, err, out, errs)
	}
	r.log = errs
	s.nothingLeft(t)
	return r
}

// nothingLeft looks for directories, processes and containers.
func (s *drSandbox) nothingLeft(t *testing.T) {
	t.Helper()
	if left, _ := filepath.Glob(filepath.Join(s.tmp, "*")); len(left) > 0 {
		t.Errorf("left in the temporary directory: %v", left)
	}
	for _, link := range must(filepath.Glob("/proc/[0-9]*/cwd")) {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, s.tmp+"/") {
			t.Errorf("a process is left in %s", target)
		}
	}
}

func must(list []string, err error) []string {
	if err != nil {
		panic(err)
	}
	return list
}

func TestDRTestSources(t *testing.T) {
	t.Parallel()
	s := newDRSandbox(t)
	dump, err := exec.Command(s.pg.Tool("pg_dump"), "-d", s.pg.URL("app")).Output()
	if err != nil {
		t.Fatal(err)
	}
	old := s.plain(t, string(dump))
	for _, engine := range []string{"docker", "local"} {
		if engine == "docker" && s.image == "" {
			s.docker(t)
		}
		for _, tt := range []struct{ what, from, kind string }{
			{"latest", "s3", "indexed"}, {"latest", "local", "indexed"}, {s.backup, "", "indexed"},
			{"s3://" + s.bucket + "/" + filepath.Base(s.backup), "", "indexed"}, {old, "", "plain"},
		} {
			t.Run(engine+" "+tt.kind+" "+tt.from, func(t *testing.T) {
				args := []string{tt.what, "--engine", engine}
				if tt.from != "" {
					args = append(args, "--from", tt.from)
				}
				r := s.drTest(t, 0, args...)
				if r.Verdict != "pass" || r.Engine != engine || r.Kind != tt.kind || r.Rows != 8200 || r.Counts["trades"] != 3000 || r.Counts["events"] != 5000 {
					t.Errorf("%+v", r)
				}
				if strings.HasPrefix(r.Where, "s3://") != (tt.from == "s3" || strings.HasPrefix(tt.what, "s3://")) {
					t.Errorf("read from %s", r.Where)
				}
				for _, id := range []string{"restore", "integrity", "min-tables", "tables", "rows", "rto"} {
					if status, summary := r.check(id); status != "ok" {
						t.Errorf("%s: %s %s", id, status, summary)
					}
				}
			})
		}
	}
}

func TestDRTestFails(t *testing.T) {
	t.Parallel()
	s := newDRSandbox(t)
	dump, err := exec.Command(s.pg.Tool("pg_dump"), "-d", s.pg.URL("app")).Output()
	if err != nil {
		t.Fatal(err)
	}
	sql := string(dump)
	lines := strings.SplitAfter(sql, "\n")
	half := strings.Join(lines[:len(lines)/2], "")
	manifest, err := os.ReadFile(s.backup + ".json")
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(s.backup)
	if err != nil {
		t.Fatal(err)
	}
	flipped := slices.Clone(whole)
	flipped[len(flipped)/2] ^= 4
	withManifest := func(body []byte) string {
		path := filepath.Join(t.TempDir(), filepath.Base(s.backup))
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+".json", manifest, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	raw := func(body string) string {
		path := filepath.Join(t.TempDir(), "stellar_escrow_20250101T020000Z.sql.gz")
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct {
		name, file, check, says string
		env                     []string
	}{
		{"flipped bit", withManifest(flipped), "integrity", "its SHA-256 is not the index's", nil},
		{"truncated", withManifest(whole[:len(whole)*2/3]), "integrity", "the file ends at byte", nil},
		{"plain, truncated", s.plain(t, half), "integrity", "truncated", nil},
		{"plain, flipped bit", flipPlain(t, s.plain(t, sql)), "integrity", "damaged", nil},
		{"empty", raw(""), "integrity", "the file is empty", nil},
		{"empty gzip", s.plain(t, ""), "integrity", "there is no SQL in it", nil},
		{"HTML", raw("<!DOCTYPE html><title>403</title>"), "integrity", "neither gzip nor zstd nor SQL", nil},
		{"a statement fails", s.plain(t, strings.Replace(sql, "CREATE INDEX ", "CREATE INDEX nowhere ON public.nothing (x);\nCREATE INDEX ", 1)), "restore", `relation "public.nothing" does not exist`, nil},
		{"a row fails", s.plain(t, strings.Replace(sql, "\topen\t", "\tstolen\t", 1)), "restore", "trades_status_check", nil},
		{"meta-command", s.plain(t, strings.Replace(sql, "SET statement_timeout", "\\! touch /tmp/escrowctl-hostile\nSET statement_timeout", 1)), "restore", "psql meta-command", nil},
		{"missing extension", s.plain(t, strings.Replace(sql, "SET statement_timeout = 0;", "SET statement_timeout = 0;\nCREATE EXTENSION postgis;", 1)), "restore", "no extension postgis", nil},
		{"newer major", s.plain(t, strings.Replace(sql, "-- Dumped from database version 15", "-- Dumped from database version 99", 1)), "server", "PostgreSQL 99", nil},
		{"table not there", s.backup, "tables", "there is no table escrows: it has events, trades, users", []string{"ESCROWCTL_DR_TEST_TABLES=escrows"}},
		{"assertion", s.backup, "assertions", "two is two: it is 1, expected 2", []string{`ESCROWCTL_DR_TEST_ASSERTIONS=[{"name":"two is two","query":"SELECT 1","expect":"2"}]`}},
		{"other database", s.backup, "database", "of database app, not of other", []string{"DATABASE_URL=" + s.pg.URL("other")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			one := *s
			inner := *s.sandbox
			inner.env = append(slices.Clone(s.env), tt.env...)
			one.sandbox = &inner
			r := one.drTest(t, 2, tt.file, "--engine", "local")
			status, summary := r.check(tt.check)
			if r.Verdict != "fail" || status != "critical" || !strings.Contains(summary, tt.says) {
				t.Errorf("verdict %s, %s: %s: %s, want %q", r.Verdict, tt.check, status, summary, tt.says)
			}
		})
	}
	if _, err := os.Stat("/tmp/escrowctl-hostile"); err == nil {
		t.Error("the hostile dump ran a command on this host")
	}
}

func flipPlain(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDRTestCouldNot(t *testing.T) {
	t.Parallel()
	s := newDRSandbox(t)
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		says string
	}{
		{"no such image", []string{"ESCROWCTL_DR_TEST_IMAGE=127.0.0.1:1/none:1"}, []string{"--engine", "docker"}, "127.0.0.1:1/none:1"},
		{"no daemon", nil, []string{"--engine", "docker"}, "docker engine"},
		{"no backup", []string{"BACKUP_DIR=" + t.TempDir()}, []string{"--engine", "local", "--from", "local"}, "no backups"},
		{"no bucket", []string{"AWS_ENDPOINT_URL_S3=http://127.0.0.1:1", "AWS_MAX_ATTEMPTS=1"}, []string{"--engine", "local"}, "127.0.0.1:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "no such image" && s.image == "" {
				s.docker(t)
			}
			cmd := s.command(append([]string{"dr-test"}, tt.args...)...)
			cmd.Env = append(slices.Clone(s.env), tt.env...)
			if tt.name == "no daemon" {
				cmd.Env = append(cmd.Env, "DOCKER_HOST=unix:///nowhere.sock")
			}
			out, _ := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(string(out), tt.says) {
				t.Errorf("exit %d: %s", code, out)
			}
			events := s.sink.Metrics(t)
			if e := events[len(events)-1]; e["status"] != "fail" || e["verdict"] != "could not verify" {
				t.Errorf("%v", e)
			}
			s.nothingLeft(t)
		})
	}
}

// TestDRTestWithoutDocker: where no engine is named and no daemon answers, it is
// this host's own PostgreSQL, and that is said. A daemon that was named is not
// replaced.
func TestDRTestWithoutDocker(t *testing.T) {
	t.Parallel()
	s := newDRSandbox(t)
	for name, host := range map[string]string{"no socket": "unix:///nowhere.sock", "refused": "tcp://127.0.0.1:1", "silent": "tcp://" + testenv.Silent(t)} {
		s.env = append(s.env, "DOCKER_HOST="+host)
		r := s.drTest(t, 0)
		if r.Verdict != "pass" || r.Engine != "local" || r.Rows != 8200 || !strings.Contains(r.log, "no Docker engine answers: using this host's own PostgreSQL") {
			t.Errorf("%s: %+v", name, r)
		}
		if code, out, errs := s.run(t, "dr-test", "--engine", "docker"); code != 3 || strings.Contains(out+errs, "PASS") {
			t.Errorf("%s, --engine docker: exit %d: %s%s", name, code, out, errs)
		}
	}
}

func TestDRTestReports(t *testing.T) {
	t.Parallel()
	s := newDRSandbox(t)
	junit, summary := filepath.Join(t.TempDir(), "j.xml"), filepath.Join(t.TempDir(), "summary.md")
	s.env = append(s.env, "GITHUB_STEP_SUMMARY="+summary)
	last := func() (map[string]any, string) {
		t.Helper()
		events, texts := s.sink.Metrics(t), s.sink.Texts(t)
		return events[len(events)-1], texts[len(texts)-1]
	}
	s.drTest(t, 0, "--engine", "local", "--junit", junit)
	event, text := last()
	for key, want := range map[string]any{"source": "dr_test", "type": "recovery_test", "status": "pass", "trades": 3000.0, "events": 5000.0} {
		if event[key] != want {
			t.Errorf("%s is %v, want %v", key, event[key], want)
		}
	}
	if ts, ok := event["ts"].(float64); !ok || ts < 1.7e9 {
		t.Errorf("ts is %v", event["ts"])
	}
	if !strings.Contains(text, ": pass: 8,200 rows of 3 tables") {
		t.Errorf("webhook: %s", text)
	}
	prom, _ := os.ReadFile(filepath.Join(envOf(s.env, "ESCROWCTL_REPORT_TEXTFILE_DIR"), "escrowctl_dr_test.prom"))
	for _, want := range []string{"escrowctl_dr_test_rows 8200", "escrowctl_dr_test_restore_seconds ", "escrowctl_dr_test_exit_code 0"} {
		if !strings.Contains(string(prom), want) {
			t.Errorf("the textfile lacks %s:\n%s", want, prom)
		}
	}
	s.env = append(s.env, "ESCROWCTL_DR_TEST_MIN_TABLES=99")
	s.drTest(t, 2, "--engine", "local", "--junit", junit)
	event, text = last()
	if event["status"] != "fail" || event["trades"] != 3000.0 || !strings.Contains(text, "min-tables: 3 tables, at least 99 wanted") {
		t.Errorf("%v, %s", event, text)
	}
	xml, _ := os.ReadFile(junit)
	if !strings.Contains(string(xml), `failures="1"`) || !strings.Contains(string(xml), `<failure message="3 tables, at least 99 wanted"`) {
		t.Errorf("JUnit:\n%s", xml)
	}
	md, _ := os.ReadFile(summary)
	if !strings.Contains(string(md), "## Recovery test: pass") || !strings.Contains(string(md), "| critical | min-tables | 3 tables, at least 99 wanted") {
		t.Errorf("summary:\n%s", md)
	}
	code, out, errs := s.run(t, "dr-test", "history", "--json")
	var h struct {
		Tests []struct {
			Verdict string  `json:"verdict"`
			Restore float64 `json:"restore_seconds"`
			Size    int64   `json:"size_bytes"`
			Rows    int64   `json:"rows"`
		} `json:"tests"`
	}
	if err := json.Unmarshal([]byte(out), &h); err != nil || code != 0 || len(h.Tests) != 2 || h.Tests[0].Verdict != "pass" || h.Tests[1].Verdict != "fail" ||
		h.Tests[0].Restore <= 0 || h.Tests[0].Size <= 0 || h.Tests[0].Rows != 8200 {
		t.Errorf("history: exit %d: %v: %s%s", code, err, out, errs)
	}
}

func envOf(env []string, name string) string {
	for _, pair := range slices.Backward(env) {
		if v, ok := strings.CutPrefix(pair, name+"="); ok {
			return v
		}
	}
	panic(fmt.Sprintf("no %s", name))
}

// TestDRTestEncrypted streams age-encrypted and zstd backups from the bucket.
func TestDRTestEncrypted(t *testing.T) {
	t.Parallel()
	s := newDRSandbox(t)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key.txt")
	if err := os.WriteFile(key, []byte(id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.env = append(s.env, "ESCROWCTL_BACKUP_RECIPIENTS="+id.Recipient().String(), "ESCROWCTL_BACKUP_COMPRESSION=zstd")
	time.Sleep(time.Second) // names go by the second
	if code, out, errs := s.run(t, "backup"); code > 1 {
		t.Fatalf("backup: exit %d: %s%s", code, out, errs)
	}
	if code, out, errs := s.run(t, "dr-test", "--engine", "local"); code != 3 || !strings.Contains(out+errs, "the backup is encrypted") {
		t.Errorf("without an identity: exit %d: %s%s", code, out, errs)
	}
	r := s.drTest(t, 0, "--engine", "local", "--identity", key)
	if r.Kind != "indexed" || r.Rows != 8200 || !strings.HasPrefix(r.Where, "s3://") {
		t.Errorf("%+v", r)
	}
	if status, summary := r.check("schema"); status != "ok" {
		t.Errorf("schema: %s %s", status, summary)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, []byte(other.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.drTest(t, 3, "--engine", "local", "--identity", key)
}
