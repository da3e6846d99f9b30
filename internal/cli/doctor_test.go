package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/health"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// examined is what doctor's JSON says.
type examined struct {
	Status   check.Status
	ExitCode int `json:"exit_code"`
	Checks   []shiftResult
	Off      []health.Off
}

func (e examined) named(t *testing.T, id string) shiftResult {
	t.Helper()
	for _, c := range e.Checks {
		if c.ID == id {
			return c
		}
	}
	t.Fatalf("no check %s in %+v", id, e)
	return shiftResult{}
}

func (e examined) off(id string) string {
	for _, o := range e.Off {
		if o.ID == id {
			return o.Why
		}
	}
	return ""
}

// runDoctor runs doctor in an invocation. Every result that is not ok must name
// a fix.
func runDoctor(t *testing.T, inv *invocation, args ...string) examined {
	t.Helper()
	code := inv.run(t, append([]string{"doctor", "--json"}, args...)...)
	var doc examined
	if err := json.Unmarshal(inv.out.Bytes(), &doc); err != nil || code != doc.ExitCode || code != doc.Status.ExitCode() {
		t.Fatalf("exit %d, %v: %s%s", code, err, &inv.out, &inv.errs)
	}
	for _, c := range doc.Checks {
		if c.Summary == "" || (c.Status != check.OK) != (c.Action != "") {
			t.Errorf("%s is %s: %q, fix %q", c.ID, c.Status, c.Summary, c.Action)
		}
	}
	return doc
}

// TestDoctorConfiguration: faults are told as a check, and nothing else is.
func TestDoctorConfiguration(t *testing.T) {
	inv := invoke(t)
	write(t, "escrowctl.yaml", "backup:\n  dirr: /srv\n  level: 12\n")
	doc := runDoctor(t, inv)
	c := doc.named(t, "config")
	if said := strings.Join(c.Detail, "\n"); len(doc.Checks) != 1 || c.Status != check.Unknown || !strings.Contains(said, "unknown key") || !strings.Contains(said, "did you mean backup.dir") || !strings.Contains(said, "12") {
		t.Errorf("%+v", doc)
	}
	if doc.off("bucket") == "" || doc.off("config") != "" {
		t.Errorf("off: %+v", doc.Off)
	}

	inv = invoke(t, "ESCROWCTL_NO_SUCH=1")
	write(t, "escrowctl.yaml", "database: {url: 'postgres://a:hunter2@b/c'}\n")
	if err := os.Chmod("escrowctl.yaml", 0o644); err != nil {
		t.Fatal(err)
	}
	doc = runDoctor(t, inv, "--only", "config")
	c = doc.named(t, "config")
	if said := strings.Join(c.Detail, "\n"); doc.ExitCode != 1 || !strings.Contains(said, "readable by every user") || !strings.Contains(said, "ESCROWCTL_NO_SUCH") || strings.Contains(inv.errs.String(), "warning") {
		t.Errorf("%+v; stderr %s", c, &inv.errs)
	}
	if strings.Contains(inv.out.String(), "hunter2") {
		t.Error("the password is told")
	}
}

// TestDoctorFiles: rights of what it reads and writes, by the configuration.
func TestDoctorFiles(t *testing.T) {
	inv := invoke(t, "ESCROWCTL_BACKUP_DIR=backups", "ESCROWCTL_REPORT_TEXTFILE_DIR=none")
	write(t, ".env", "API_KEYS=hunter2\n")
	write(t, "escrowctl.yaml", "compose: {env_file: .env}\n")
	if err := os.Chmod(".env", 0o644); err != nil {
		t.Fatal(err)
	}
	doc := runDoctor(t, inv, "--only", "files,textfile")
	if c := doc.named(t, "files"); c.Status != check.Warning || !strings.Contains(c.Summary, ".env can be read by every user") || !strings.Contains(c.Action, "chmod o= ") {
		t.Errorf("%+v", c)
	}
	if c := doc.named(t, "textfile"); c.Status != check.Critical || !strings.Contains(c.Summary, "none does not exist") {
		t.Errorf("%+v", c)
	}
}

// TestDoctorCron: what 'cron check' finds is found, with its fix.
func TestDoctorCron(t *testing.T) {
	for name, tt := range map[string]struct {
		crontab string
		env     string
		status  check.Status
		says    string
		fix     string
	}{
		"sound":       {cronRows(t), "", check.OK, "cron runs, 5 rows of the schedule, nothing wrong", ""},
		"none":        {"", "", check.Critical, "no crontab runs escrowctl backup (and 4 more)", "escrowctl cron install"},
		"bad shell":   {"SHELL=/usr/sbin/nologin\n" + cronRows(t), "", check.Critical, "runs no commands", "SHELL=/bin/sh"},
		"bad path":    {"PATH=/opt\n" + strings.ReplaceAll(cronRows(t), "/usr/local/bin/", ""), "", check.Critical, "in none of /opt", "cron install"},
		"environment": {cronRows(t), "S3_BUCKET=s3://x-y-z", check.Warning, "cron's jobs do not have S3_BUCKET", config.SystemFile},
	} {
		t.Run(name, func(t *testing.T) {
			inv := invoke(t)
			// Without a state directory and the like from the environment.
			inv.environ = []string{"HOME=" + t.TempDir(), tt.env}
			cronTree(t, inv, tt.crontab)
			c := runDoctor(t, inv, "--only", "schedule").named(t, "schedule")
			if c.Status != tt.status || !strings.Contains(c.Summary, tt.says) || !strings.Contains(c.Action, tt.fix) {
				t.Errorf("%+v", c)
			}
		})
	}
}

// TestDoctorReaches asks real servers, then with one thing wrong of each.
func TestDoctorReaches(t *testing.T) {
	pg, redis := testenv.Postgres(t), testenv.Redis(t)
	alerts := testenv.Alertmanager(t, "")
	prom := testenv.Prometheus(t, strings.TrimPrefix(alerts.URL, "http://"), "")
	sink := testenv.NewSink(t)
	pg.Psql(t, "postgres", "CREATE ROLE narrow LOGIN PASSWORD 'tight-1'; CREATE TABLE secret_table (x int)")
	base := []string{
		"DATABASE_URL=" + pg.URL("postgres"), "REDIS_URL=" + redis.URL(), "ESCROWCTL_ALERTMANAGER_URL=" + alerts.URL, "ESCROWCTL_PROMETHEUS_URL=" + prom.URL,
		"BACKUP_ALERT_WEBHOOK=" + sink.WebhookURL(), "ESCROWCTL_DUMP_PG_DUMP=" + pg.Tool("pg_dump"), "ESCROWCTL_DUMP_VIA=host", "ESCROWCTL_REDIS_VIA=host",
		"PATH=" + os.Getenv("PATH"),
	}
	only := "database,pg_dump,redis,alertmanager,prometheus,webhook,disk"
	inv := invoke(t, base...)
	inv.io.Now = time.Now
	doc := runDoctor(t, inv, "--only", only)
	for _, c := range doc.Checks {
		if c.Status != check.OK && c.ID != "disk" { // a full disk is this machine's
			t.Errorf("%+v", c)
		}
	}
	if got := doc.named(t, "pg_dump").Summary; !strings.Contains(got, pg.Tool("pg_dump")+" is 15.") || !strings.Contains(got, ", the server 15.") {
		t.Errorf("pg_dump: %s", got)
	}
	if n := len(sink.Requests()); n > 0 {
		t.Errorf("%d requests went to the webhook's host", n)
	}

	old := filepath.Join(t.TempDir(), "pg_dump")
	if err := os.WriteFile(old, []byte("#!/bin/sh\necho 'pg_dump (PostgreSQL) 13.22'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		id, env   string
		status    check.Status
		says, fix string
	}{
		{"database", "DATABASE_URL=" + pg.URLAs("postgres", "wrong-hunter2", "postgres"), check.Critical, "password authentication failed", "database.url"},
		{"database", "DATABASE_URL=" + pg.URLAs("narrow", "tight-1", "postgres"), check.Critical, "narrow may not read 1 of its tables", "GRANT pg_read_all_data TO narrow"},
		{"database", "DATABASE_URL=", check.Critical, "no database is configured", "database.url"},
		{"pg_dump", "ESCROWCTL_DUMP_PG_DUMP=" + old, check.Critical, "is 13.22", "postgresql-client-15"},
		{"pg_dump", "DATABASE_URL=postgres://x@127.0.0.1:9/x", check.Unknown, "the database is not reached", "see database"},
		{"redis", "REDIS_URL=" + strings.Replace(redis.URL(), "redis://:", "redis://:wrong-hunter2", 1), check.Critical, "", "correct redis.url (env REDIS_URL)"},
		{"redis", "REDIS_URL=redis://127.0.0.1:9", check.Critical, "refused", "correct redis.url"},
		{"alertmanager", "ESCROWCTL_ALERTMANAGER_URL=" + prom.URL, check.Critical, "404", "correct alertmanager.url"},
		{"prometheus", "ESCROWCTL_PROMETHEUS_URL=" + alerts.URL, check.Critical, "404", "correct prometheus.url"},
		{"webhook", "BACKUP_ALERT_WEBHOOK=http://127.0.0.1:9/services/hunter2", check.Critical, "127.0.0.1:9 cannot be reached", "report.webhook"},
	} {
		inv := invoke(t, append(base, tt.env)...)
		inv.io.Now = time.Now
		c := runDoctor(t, inv, "--only", tt.id).named(t, tt.id)
		if c.Status != tt.status || !strings.Contains(c.Summary, tt.says) || !strings.Contains(c.Action, tt.fix) {
			t.Errorf("%s: %+v", tt.env, c)
		}
		if strings.Contains(inv.out.String()+inv.errs.String(), "hunter2") {
			t.Errorf("a secret is told: %s%s", &inv.out, &inv.errs)
		}
	}
}

// TestDoctorInContainer finds the pg_dump of a database that publishes no port.
func TestDoctorInContainer(t *testing.T) {
	d := testenv.Docker(t)
	pg := d.Postgres(t)
	env := []string{"COMPOSE_PROJECT_NAME=" + pg.Project, "DATABASE_URL=" + pg.URL(), "PATH=" + os.Getenv("PATH"), "DOCKER_HOST=" + os.Getenv("DOCKER_HOST")}
	inv := invoke(t, env...)
	inv.io.Now = time.Now
	doc := runDoctor(t, inv, "--only", "database,pg_dump,docker,compose,clock")
	if doc.Status != check.OK || !strings.HasPrefix(doc.named(t, "pg_dump").Summary, "postgres:pg_dump is 15.") || !strings.Contains(doc.named(t, "docker").Summary, "project "+pg.Project+" with 1 containers") {
		t.Errorf("%+v", doc)
	}
	inv = invoke(t, append(env, "COMPOSE_PROJECT_NAME=no-such-project")...)
	if c := runDoctor(t, inv, "--only", "docker").named(t, "docker"); c.Status != check.Critical || !strings.Contains(c.Summary, "no project no-such-project") || !strings.Contains(c.Action, "compose.project") {
		t.Errorf("%+v", c)
	}
	inv = invoke(t, append(env, "DOCKER_HOST=unix:///nonexistent.sock")...)
	if c := runDoctor(t, inv, "--only", "docker").named(t, "docker"); c.Status != check.Critical || !strings.Contains(c.Action, "start docker") {
		t.Errorf("%+v", c)
	}
	t.Setenv("PATH", t.TempDir())
	inv = invoke(t, env...)
	if c := runDoctor(t, inv, "--only", "compose").named(t, "compose"); c.Status != check.Warning || !strings.Contains(c.Action, "docker-compose-plugin") {
		t.Errorf("%+v", c)
	}
}

// TestDoctorDRTest: a recovery test has a server to restore into, or doctor says
// what it lacks.
func TestDoctorDRTest(t *testing.T) {
	d := testenv.Docker(t)
	pg := testenv.Postgres(t)
	image := testenv.PostgresImage(t)
	old := d.EmptyImage(t, "ENV PG_MAJOR=14")
	base := []string{"DATABASE_URL=" + pg.URL("postgres"), "PATH=" + os.Getenv("PATH"), "DOCKER_HOST=" + os.Getenv("DOCKER_HOST")}
	for _, tt := range []struct {
		env       []string
		status    check.Status
		says, fix string
	}{
		{[]string{"ESCROWCTL_DR_TEST_IMAGE=" + image}, check.OK, "engine docker, image " + image, ""},
		{[]string{"ESCROWCTL_DR_TEST_IMAGE=127.0.0.1:1/none/postgres:15"}, check.Critical, "127.0.0.1:1/none/postgres:15 is not here, and cannot be pulled", "docker pull"},
		{[]string{"ESCROWCTL_DR_TEST_IMAGE=" + old}, check.Critical, "has PostgreSQL 14, and the dumped server is 15", "docker pull"},
		{[]string{"DATABASE_URL=postgres://x@127.0.0.1:9/x"}, check.Unknown, "not known: the database is not reached", "see database"},
		{[]string{"ESCROWCTL_DR_TEST_ENGINE=local"}, check.OK, "engine local, this host's own PostgreSQL 15", ""},
		{[]string{"ESCROWCTL_DR_TEST_ENGINE=docker", "DOCKER_HOST=unix:///nonexistent.sock"}, check.Critical, "nonexistent.sock", "systemctl start docker"},
	} {
		inv := invoke(t, append(base, tt.env...)...)
		inv.io.Now = time.Now
		c := runDoctor(t, inv, "--only", "dr-test").named(t, "dr-test")
		if c.Status != tt.status || !strings.Contains(c.Summary, tt.says) || !strings.Contains(c.Action, tt.fix) {
			t.Errorf("%s: %+v", tt.env, c)
		}
	}
}

// TestDoctorOff: what is not configured is no check, and not ok either.
func TestDoctorOff(t *testing.T) {
	inv := invoke(t, "ESCROWCTL_API_URL=off", "ESCROWCTL_ALERTMANAGER_URL=off", "ESCROWCTL_SHIFT_CHECK_SKIP=schedule,secrets")
	cronTree(t, inv, "")
	doc := runDoctor(t, inv, "--skip", "database,pg_dump,clock")
	for id, why := range map[string]string{
		"bucket": "not configured: s3.bucket", "webhook": "not configured: report.webhook", "textfile": "not configured: report.textfile_dir",
		"api": "api.url: off", "prometheus": "alertmanager.url: off", "schedule": "shift_check.skip", "clock": "--skip",
	} {
		if got := doc.off(id); got != why {
			t.Errorf("%s is off for %q, want %q", id, got, why)
		}
	}
	if len(doc.Checks)+len(doc.Off) != len(doctorProbes(doctorFlags{})) {
		t.Errorf("%d checks and %d off are not all", len(doc.Checks), len(doc.Off))
	}
	inv = invoke(t)
	if code := inv.run(t, "doctor", "--only", "buckte"); code != 3 || !strings.Contains(inv.errs.String(), "did you mean bucket?") {
		t.Errorf("exit %d: %s", code, &inv.errs)
	}
}

// TestDoctorSpace: a backup directory with no room for the next backup.
func TestDoctorSpace(t *testing.T) {
	inv := invoke(t, "ESCROWCTL_BACKUP_DIR=/tmp")
	if err := os.MkdirAll("state/runs", 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := inv.open(changes)
	if err != nil {
		t.Fatal(err)
	}
	run, err := d.state.Begin(backupJob)
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Finish("ok", 0, map[string]any{"size_bytes": 1e18}, nil); err != nil {
		t.Fatal(err)
	}
	c := runDoctor(t, inv, "--only", "disk").named(t, "disk")
	if c.Status != check.Critical || !strings.Contains(c.Summary, "the last backup took") || !strings.Contains(c.Action, "prune") {
		t.Errorf("%+v", c)
	}
}

// TestDoctorText: 80 columns, worst first, each fix by its name.
func TestDoctorText(t *testing.T) {
	inv := invoke(t, "ESCROWCTL_COMPOSE_DOCKER_HOST=unix:///nonexistent.sock")
	cronTree(t, inv, "")
	inv.io.OutTTY, inv.io.Width = true, 80
	if code := inv.run(t, "doctor"); code != 2 {
		t.Fatalf("exit %d: %s%s", code, &inv.out, &inv.errs)
	}
	text := inv.out.String()
	order := regexp.MustCompile(`(?m)^(CRITICAL|UNKNOWN|WARNING|ok) +[a-z_]+ +\S`).FindAllStringSubmatch(text, -1)
	rank := map[string]int{"CRITICAL": 0, "UNKNOWN": 1, "WARNING": 2, "ok": 3}
	for i := 1; i < len(order); i++ {
		if rank[order[i-1][1]] > rank[order[i][1]] {
			t.Errorf("%s stands above %s", order[i-1][0], order[i][0])
		}
	}
	if len(order) < 10 || !strings.Contains(text, "\n  fix       ") || strings.Contains(text, "\n  since") || strings.Contains(text, "respond by") {
		t.Errorf("it says\n%s", text)
	}
	for line := range strings.Lines(text) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}
