package cli

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/keys"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/state"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/testenv/platform"
)

// stage is a whole platform on which all is well: its containers, database,
// cache, bucket, Alertmanager and Prometheus are real, its own services
// stand-ins. A test breaks one thing and looks at every line.
type stage struct {
	yard    *yard
	redis   *testenv.RedisServer
	bucket  string // the directory behind it
	backups string // a filesystem of its own, of a few MB
	names   []string
	alerts  *testenv.AlertmanagerServer
	indexer *platform.Indexer
	grafana *platform.Grafana
	env     map[string]string
	crontab string
	state   string
	now     func() time.Time
}

// putOnStage starts everything. It takes some seconds.
func putOnStage(t *testing.T) *stage {
	t.Helper()
	testenv.Need(t, os.Geteuid() == 0, "root", "mounting a tmpfs is root's")
	s := &stage{yard: newYard(t), now: time.Now, crontab: cronRows(t), state: t.TempDir(), backups: t.TempDir()}
	s.yard.start(t, "api", func(c *container.Config, _ *container.HostConfig) { c.Healthcheck = checkWith("true") })
	if err := syscall.Mount("tmpfs", s.backups, "tmpfs", 0, "size=2m,nr_inodes=200"); err != nil {
		testenv.Need(t, false, "a tmpfs", err.Error())
	}
	t.Cleanup(func() { _ = syscall.Unmount(s.backups, syscall.MNT_DETACH) })
	pg, bucket := testenv.Postgres(t), testenv.S3(t)
	bucket.Setenv(t)
	s.bucket = filepath.Join(bucket.Root, "backups")
	if err := os.Mkdir(s.bucket, 0o755); err != nil {
		t.Fatal(err)
	}
	s.redis = testenv.Redis(t)
	s.alerts = testenv.Alertmanager(t, "inhibit_rules:\n- source_matchers: [alertname=Watchdog]\n  target_matchers: [alertname=Noise]\n")
	prometheus := testenv.Prometheus(t, strings.TrimPrefix(s.alerts.URL, "http://"), "  - {alert: Watchdog, expr: vector(1)}\n")
	s.indexer = platform.NewIndexer(time.Now)
	grafana, err := platform.NewGrafana("hunter2", "")
	if err != nil {
		t.Fatal(err)
	}
	s.grafana = grafana
	indexer := testenv.Serve(t, s.indexer)
	address, ca := serveCertificate(t, time.Now().AddDate(0, 0, -10), time.Now().AddDate(0, 0, 80))
	s.env = map[string]string{
		"ESCROWCTL_COMPOSE_PROJECT": s.yard.project, "ESCROWCTL_COMPOSE_FILES": filepath.Join(s.yard.dir, "docker-compose.yml"), "DOCKER_HOST": os.Getenv("DOCKER_HOST"),
		"DATABASE_URL": pg.URL("postgres"), "REDIS_URL": s.redis.URL(), "BACKUP_DIR": s.backups, "S3_BUCKET": "s3://backups",
		"API_BASE_URL": indexer, "ESCROWCTL_API_URL": testenv.Serve(t, platform.NewAPI("key", "")), "HORIZON_URL": testenv.Serve(t, platform.NewHorizon(time.Now)),
		"ESCROWCTL_GRAFANA_URL": testenv.Serve(t, s.grafana), "GRAFANA_ADMIN_PASSWORD": "hunter2",
		"ESCROWCTL_ALERTMANAGER_URL": s.alerts.URL, "ESCROWCTL_PROMETHEUS_URL": prometheus.URL,
		"CERT_DOMAIN": "stellarescrow.app", "ESCROWCTL_CERTS_ADDRESS": address, "ESCROWCTL_CERTS_CA": ca,
		"ESCROWCTL_SHIFT_CHECK_TIMEOUT": "60s", "ESCROWCTL_SHIFT_CHECK_DELIVER_WITHIN": "1s",
		// The machine that runs the test may be slow and nearly full.
		"ESCROWCTL_THRESHOLDS_TTFB_WARNING": "30s", "ESCROWCTL_THRESHOLDS_TTFB_CRITICAL": "40s",
		"ESCROWCTL_THRESHOLDS_DISK_USAGE_WARNING": "0.985", "ESCROWCTL_THRESHOLDS_DISK_USAGE_CRITICAL": "0.99",
		"USER": "alice",
	}
	for _, pair := range bucket.Env() {
		name, value, _ := strings.Cut(pair, "=")
		s.env[name] = value
	}
	for n := 4; n >= 0; n-- {
		taken := time.Now().Add(-65*time.Minute - time.Duration(n)*24*time.Hour)
		putBackup(t, s.bucket, taken, 1000, true)
		s.names = append(s.names, putBackup(t, s.backups, taken, 1000, true))
	}
	s.remember(t, 0)
	return s
}

// remember writes down what has run: a backup so many days ago, a recovery test,
// the rotations, and that the crontab was installed just now.
func (s *stage) remember(t *testing.T, days int) {
	t.Helper()
	s.record(t, "backup", "ok", days, nil)
	s.record(t, "dr-test", "ok", 1, nil)
	st, err := state.Open(s.state, state.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range runbook.Secrets() {
		if err := keys.Record(st, keys.Rotated{Secret: secret.Name, At: time.Now().Add(-time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	installed := cronInstalled{Jobs: map[string]time.Time{}}
	jobs, err := cronJobs(true)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range jobs {
		installed.Jobs[j.Name] = time.Now()
	}
	if err := st.Save(cronDoc, installed); err != nil {
		t.Fatal(err)
	}
}

// record writes down a run of so many days ago that was about the backup of then.
func (s *stage) record(t *testing.T, job, outcome string, days int, cause error) {
	t.Helper()
	begun := time.Now().Add(-65*time.Minute - time.Duration(days)*24*time.Hour)
	recordRun(t, s.state, job, outcome, begun, map[string]any{"name": s.names[4-days], "uploaded": true}, cause)
}

// invocation is one of the stage's, with its own copy of the past and changes of
// the environment.
func (s *stage) invocation(t *testing.T, change map[string]string) *invocation {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(s.state)); err != nil {
		t.Fatal(err)
	}
	env := maps.Clone(s.env)
	env["ESCROWCTL_STATE_DIR"] = dir
	maps.Copy(env, change)
	var pairs []string
	for name, value := range env {
		pairs = append(pairs, name+"="+value)
	}
	slices.Sort(pairs)
	inv := invoke(t, pairs...)
	inv.io.Now = s.now
	cronTree(t, inv, s.crontab)
	return inv
}

// look makes every check and returns what was said of each.
func (s *stage) look(t *testing.T, change map[string]string) map[string]shiftResult {
	t.Helper()
	inv := s.invocation(t, change)
	inv.run(t, "shift-check", "--json")
	var doc struct{ Checks []shiftResult }
	if err := json.Unmarshal(inv.out.Bytes(), &doc); err != nil {
		t.Fatalf("%v: %s%s", err, &inv.out, &inv.errs)
	}
	all := map[string]shiftResult{}
	for _, r := range doc.Checks {
		all[r.ID] = r
	}
	if len(all) != len(checkIDs()) {
		t.Fatalf("%d lines, want %d: %s", len(all), len(checkIDs()), &inv.out)
	}
	return all
}

// until looks until wanted says yes: containers and alerts take their time.
func (s *stage) until(t *testing.T, change map[string]string, wanted func(map[string]shiftResult) bool) map[string]shiftResult {
	t.Helper()
	var all map[string]shiftResult
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		if all = s.look(t, change); wanted(all) || time.Now().After(end) {
			return all
		}
	}
}

// others returns the lines that are not ok, but for one.
func others(all map[string]shiftResult, but string) []string {
	var out []string
	for id, r := range all {
		if id != but && r.Status != check.OK {
			out = append(out, id+" "+r.Status.String()+": "+r.Summary+" "+strings.Join(r.Detail, "; "))
		}
	}
	slices.Sort(out)
	return out
}
