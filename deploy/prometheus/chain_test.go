package prometheus_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/cli"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

const watchdogToken = "t0ken-of-the-switch"

// bundleAlertmanager runs Alertmanager with alertmanager.yml as it is, but for
// the addresses: all of them are the sink's.
func bundleAlertmanager(t *testing.T, sink *testenv.Sink) *testenv.AlertmanagerServer {
	t.Helper()
	secrets := t.TempDir()
	for name, text := range map[string]string{"slack_url": sink.URL + "/slack", "pagerduty_key": "k3y-of-the-pager", "watchdog_token": watchdogToken} {
		if err := os.WriteFile(filepath.Join(secrets, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := read(t, "alertmanager.yml")
	for old, local := range map[string]string{
		"/etc/alertmanager/secrets/":              secrets + "/",
		"https://watchdog.example.org/ping":       sink.URL + "/watchdog",
		"global:\n":                               "global:\n  pagerduty_url: " + sink.URL + "/pagerduty\n",
		"group_wait: 15s":                         "group_wait: 1s",
		"  group_wait: 30s\n  group_interval: 5m": "  group_wait: 0s\n  group_interval: 1s",
	} {
		if !strings.Contains(config, old) {
			t.Fatalf("alertmanager.yml lacks %q", old)
		}
		config = strings.ReplaceAll(config, old, local)
	}
	return testenv.AlertmanagerWith(t, config)
}

// within repeats until it is true; servers take their time.
func within(t *testing.T, limit time.Duration, what string, try func() (bool, string)) {
	t.Helper()
	var last string
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		ok, said := try()
		if ok {
			return
		}
		last = said
	}
	t.Fatalf("%s: not within %s: %s", what, limit, last)
}

func get(t *testing.T, address string) string {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", address, resp.Status, err)
	}
	return string(body)
}

// TestExportersHaveTheirMetrics: what README.md lists of an exporter that Debian
// has, a running one really tells.
func TestExportersHaveTheirMetrics(t *testing.T) {
	t.Parallel()
	textfiles := t.TempDir()
	cache, pg := testenv.Redis(t), testenv.Postgres(t)
	pg.CreateDB(t, "app")
	answering := testenv.NewSink(t)
	told := map[string]string{
		"node_exporter":     get(t, testenv.Exporter(t, "node", nil, "--collector.disable-defaults", "--collector.filesystem", "--collector.textfile", "--collector.textfile.directory="+textfiles).URL+"/metrics"),
		"redis_exporter":    get(t, testenv.Exporter(t, "redis", []string{"REDIS_ADDR=" + strings.Replace(cache.URL(), url.UserPassword("", cache.Password).String()+"@", "", 1), "REDIS_PASSWORD=" + cache.Password}).URL+"/metrics"),
		"postgres_exporter": get(t, testenv.Exporter(t, "postgres", []string{"DATA_SOURCE_NAME=" + pg.URL("app")}).URL+"/metrics"),
		"blackbox_exporter": "",
	}
	// The module as it is, but for a certificate that nobody signed.
	config := filepath.Join(t.TempDir(), "blackbox.yml")
	if err := os.WriteFile(config, []byte(read(t, "blackbox.yml")+"      tls_config: {insecure_skip_verify: true}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	blackbox := testenv.Exporter(t, "blackbox", nil, "--config.file="+config)
	secure := secureServer(t)
	told["blackbox_exporter"] = get(t, blackbox.URL+"/probe?module=http_ok&target="+url.QueryEscape(answering.URL)) +
		get(t, blackbox.URL+"/probe?module=http_ok&target="+url.QueryEscape(secure))
	for name, up := range map[string]string{"redis_exporter": "redis_up 1", "postgres_exporter": "pg_up 1", "blackbox_exporter": "probe_success 1"} {
		if !strings.Contains(told[name], "\n"+up+"\n") {
			t.Errorf("%s does not say %s", name, up)
		}
	}
	found := 0
	for metric, s := range knownMetrics(t) {
		text, ok := told[s.exporter]
		if !ok {
			continue
		}
		found++
		if !strings.Contains(text, "\n"+metric+" ") && !strings.Contains(text, "\n"+metric+"{") {
			t.Errorf("%s tells no %s", s.exporter, metric)
		}
	}
	if found < 10 {
		t.Errorf("only %d metrics were looked for", found)
	}
}

// TestInhibition: what follows from another alert is inhibited, and nothing else.
func TestInhibition(t *testing.T) {
	t.Parallel()
	am := bundleAlertmanager(t, testenv.NewSink(t))
	post := func(name, priority string, more ...string) {
		labels := map[string]string{"alertname": name, "priority": priority}
		for i := 0; i < len(more); i += 2 {
			labels[more[i]] = more[i+1]
		}
		am.Post(t, testenv.Alert{Labels: labels, StartsAt: time.Now().Add(-time.Minute), EndsAt: time.Now().Add(time.Hour)})
	}
	post("ServiceDown", "P1", "service", "redis")
	post("ServiceDown", "P1", "service", "nginx")
	post("RedisHitRate", "P3", "service", "redis")
	post("DBQueryLatency", "P3", "service", "postgres")
	post("DiskUsage", "P2", "instance", "a")
	post("CertNotValid", "P2", "service", "other", "host", "a:443", "instance", "a")
	post("TLSCertExpiringSoon", "P2", "service", "other", "host", "a:443", "instance", "a")
	post("TLSCertExpiringSoon", "P2", "service", "other", "host", "b:443", "instance", "a")
	post("BackupFailed", "P2", "service", "backup", "instance", "a")
	post("BackupMissing", "P2", "service", "backup", "instance", "a")
	post("BackupMissing", "P2", "service", "backup", "instance", "b")
	post("CronRunMissed", "P3", "task", "backup", "instance", "b")
	post("CronRunMissed", "P3", "task", "certs", "instance", "b")
	post("DRTestFailed", "P2", "service", "dr-test", "instance", "a")
	post("DRTestOverdue", "P3", "service", "dr-test", "instance", "a")
	post("DRTestOverdue", "P3", "service", "dr-test", "instance", "b")
	want := "BackupMissing/a CronRunMissed/b/backup DRTestOverdue/a RedisHitRate TLSCertExpiringSoon/a/a:443"
	within(t, 30*time.Second, "inhibited", func() (bool, string) {
		var alerts []struct {
			Labels map[string]string
			Status struct{ InhibitedBy []string }
		}
		if err := json.Unmarshal([]byte(get(t, am.URL+"/api/v2/alerts")), &alerts); err != nil {
			t.Fatal(err)
		}
		var inhibited []string
		for _, a := range alerts {
			if len(a.Status.InhibitedBy) > 0 {
				id := a.Labels["alertname"]
				for _, l := range []string{"instance", "task", "host"} {
					if a.Labels[l] != "" {
						id += "/" + a.Labels[l]
					}
				}
				inhibited = append(inhibited, id)
			}
		}
		slices.Sort(inhibited)
		got := strings.Join(inhibited, " ")
		return got == want && len(alerts) == 16, fmt.Sprintf("%d alerts, inhibited %s", len(alerts), got)
	})
}

// chain is a whole installation: escrowctl that writes textfiles, node_exporter
// that reads them, Prometheus with the bundle's rules, Alertmanager with the
// bundle's routes, and shift-check that asks both.
type chain struct {
	t       *testing.T
	environ []string
	prom    string
}

func newChain(t *testing.T, sink *testenv.Sink) *chain {
	t.Helper()
	dir := t.TempDir()
	textfiles := filepath.Join(dir, "textfiles")
	if err := os.Mkdir(textfiles, 0o755); err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	node := testenv.Exporter(t, "node", nil, "--collector.disable-defaults", "--collector.textfile", "--collector.textfile.directory="+textfiles)
	am := bundleAlertmanager(t, sink)
	prom := testenv.PrometheusWith(t, fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: ["%s/rules/*.yml"]
alerting: {alertmanagers: [{static_configs: [{targets: ["%s"]}]}]}
scrape_configs: [{job_name: node, static_configs: [{targets: ["%s"]}]}]
`, here, strings.TrimPrefix(am.URL, "http://"), strings.TrimPrefix(node.URL, "http://")))
	return &chain{t: t, prom: prom.URL, environ: []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "ESCROWCTL_STATE_DIR=" + filepath.Join(dir, "state"), "ESCROWCTL_ENV=staging", "ESCROWCTL_REPORT_API_METRICS=off",
		"ESCROWCTL_DUMP_VIA=host", "BACKUP_DIR=" + filepath.Join(dir, "backups"), "S3_BUCKET=file://" + filepath.Join(dir, "bucket"), "ESCROWCTL_REPORT_TEXTFILE_DIR=" + textfiles,
		"ESCROWCTL_ALERTMANAGER_URL=" + am.URL, "ESCROWCTL_PROMETHEUS_URL=" + prom.URL,
	}}
}

// run runs escrowctl, with further environment.
func (c *chain) run(env []string, args ...string) (code int, stdout, stderr string) {
	c.t.Helper()
	var out, errs bytes.Buffer
	app := cli.New(&ui.IO{Out: &out, Err: &errs, Now: time.Now}, append(slices.Clone(c.environ), env...), cli.Build{Version: "test"})
	code = app.Run(context.Background(), args)
	return code, out.String(), errs.String()
}

// part is an alert as shift-check shows it.
type part struct {
	ID       string    `json:"id"`
	Status   string    `json:"status"`
	Summary  string    `json:"summary"`
	Priority string    `json:"priority"`
	Since    time.Time `json:"since"`
	Deadline time.Time `json:"deadline"`
	Runbooks []string  `json:"runbooks"`
	Action   string    `json:"action"`
}

// alerts asks shift-check until it has seen those, and no others.
func (c *chain) alerts(summary string, ids ...string) []part {
	c.t.Helper()
	var parts []part
	within(c.t, 60*time.Second, fmt.Sprintf("alerts %q", ids), func() (bool, string) {
		_, out, errs := c.run(nil, "shift-check", "--only", "alerts", "--json")
		var doc struct {
			Checks []struct {
				Summary string
				Parts   []part
			}
		}
		if err := json.Unmarshal([]byte(out), &doc); err != nil || len(doc.Checks) != 1 {
			c.t.Fatalf("%v: %s%s", err, out, errs)
		}
		parts = doc.Checks[0].Parts
		var got []string
		for _, p := range parts {
			got = append(got, p.ID)
		}
		slices.Sort(got)
		return slices.Equal(got, ids) && strings.Contains(doc.Checks[0].Summary, summary), out
	})
	return parts
}

func (c *chain) want(p part, status, priority, runbook, action string, sla time.Duration) {
	c.t.Helper()
	if p.Status != status || p.Priority != priority || strings.Join(p.Runbooks, " ") != runbook || p.Action != action || p.Since.IsZero() || !p.Deadline.Equal(p.Since.Add(sla)) {
		c.t.Errorf("%s: %+v, want %s %s, %s, runbook %s, next %s", p.ID, p, status, priority, sla, runbook, action)
	}
}

// TestChain: from a real run of escrowctl to the person who is called, and to the
// shift check that tells how long there is.
func TestChain(t *testing.T) {
	t.Parallel()
	pg, sink := testenv.Postgres(t), testenv.NewSink(t)
	pg.CreateDB(t, "app")
	pg.Psql(t, "app", "CREATE TABLE trades (id int PRIMARY KEY, v text); CREATE TABLE events (id int); INSERT INTO trades SELECT g, md5(g::text) FROM generate_series(1, 20000) g; INSERT INTO events VALUES (1)")
	c := newChain(t, sink)
	good := []string{"DATABASE_URL=" + pg.URL("app")}
	backup := func(env []string, want int) {
		t.Helper()
		time.Sleep(1100 * time.Millisecond) // names go by the second
		if code, out, errs := c.run(env, "backup"); code != want {
			t.Fatalf("backup: exit %d, want %d: %s%s", code, want, out, errs)
		}
	}

	backup(good, 0)
	c.alerts("none; delivery proven by Watchdog")

	backup([]string{"DATABASE_URL=postgres://u@127.0.0.1:1/app"}, 2)
	parts := c.alerts("BackupFailed", "BackupFailed:backup")
	c.want(parts[0], "critical", "P2", "2.1", "escrowctl backup list", time.Hour)
	within(t, 30*time.Second, "the pager", func() (bool, string) {
		calls := sink.Requests("/pagerduty")
		return len(calls) > 0 && strings.Contains(string(calls[0].Body), "P2 BackupFailed backup: respond within 1h, runbook 2.1") && strings.Contains(string(calls[0].Body), "k3y-of-the-pager"), fmt.Sprint(calls)
	})
	within(t, 30*time.Second, "the chat", func() (bool, string) {
		calls := sink.Requests("/slack")
		return len(calls) > 0 && strings.Contains(string(calls[0].Body), "The last backup failed with exit code 2") && strings.Contains(string(calls[0].Body), "next: `escrowctl backup list"), fmt.Sprint(calls)
	})
	pings := sink.Requests("/watchdog")
	if len(pings) == 0 || pings[0].Header.Get("Authorization") != "Bearer "+watchdogToken {
		t.Errorf("the dead man's switch was called %d times: %v", len(pings), pings)
	}

	// The next one is well, but has lost nearly all.
	pg.Psql(t, "app", "DELETE FROM trades WHERE id > 100; DROP TABLE events")
	backup(good, 1)
	parts = c.alerts("BackupShrank", "BackupShrank:backup")
	c.want(parts[0], "warning", "P3", "2.1", "escrowctl backup list", 4*time.Hour)

	c.run(good, "backup", "verify", "latest")
	if code, out, errs := c.run(good, "dr-test", "--engine", "local"); code != 2 { // one table is too few
		t.Errorf("dr-test: exit %d: %s%s", code, out, errs)
	}
	c.run(good, "rotate-keys", "record", "API_KEYS")
	c.run(good, "rotate-keys", "due")
	c.run(append([]string{"ESCROWCTL_SHIFT_CHECK_TIMEOUT=1s"}, good...), "shift-check")
	within(t, 30*time.Second, "the metrics of all", func() (bool, string) {
		body := get(t, c.prom+"/api/v1/query?query="+url.QueryEscape("escrowctl_backup_verify_exit_code and escrowctl_dr_test_exit_code and escrowctl_secrets_exit_code and escrowctl_shift_check_exit_code"))
		return strings.Contains(body, `"value"`), body
	})
	panelsHaveData(t, c.prom, "backup", "shift_check", "secrets")

	if code, out, errs := c.run(nil, "backup", "ack"); code != 0 {
		t.Fatalf("backup ack: exit %d: %s%s", code, out, errs)
	}
	parts = c.alerts("DRTestFailed", "DRTestFailed:dr-test")
	c.want(parts[0], "critical", "P2", "2.3", "escrowctl dr-test", 4*time.Hour)
	for _, call := range sink.Requests("/pagerduty") {
		if strings.Contains(string(call.Body), "BackupShrank") {
			t.Errorf("a P3 paged: %s", call.Body)
		}
	}
}
