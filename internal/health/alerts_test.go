package health

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/httpx"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

const watchdogRule = "  - {alert: Watchdog, expr: vector(1), labels: {severity: none}}\n"

// runAlerts makes the check and puts it in its place.
func runAlerts(t *testing.T, opt AlertsOptions) Entry {
	t.Helper()
	opt.Client, opt.Now = httpx.New(), time.Now
	if opt.Limit == 0 {
		opt.Limit = 30 * time.Second
	}
	results := check.Run(t.Context(), []check.Probe{Alerts(opt)})
	return Evaluate(results, nil, nil, time.Now()).Entries[0]
}

func partOf(t *testing.T, e Entry, id string) Entry {
	t.Helper()
	for _, p := range e.Parts {
		if p.ID == id {
			return p
		}
	}
	var ids []string
	for _, p := range e.Parts {
		ids = append(ids, p.ID+" "+p.Status.String()+" "+p.Summary)
	}
	t.Fatalf("no part %s; there are:\n%s", id, strings.Join(ids, "\n"))
	return Entry{}
}

// eventually runs the check until it is as wanted: servers take their time.
func eventually(t *testing.T, opt AlertsOptions, wanted func(Entry) bool) Entry {
	t.Helper()
	var e Entry
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if e = runAlerts(t, opt); wanted(e) {
			return e
		}
	}
	t.Fatalf("it stays %s: %s\n%+v", e.Status, e.Summary, e.Parts)
	return e
}

func addressOf(url string) string { return strings.TrimPrefix(url, "http://") }

func TestAlertsOfARealAlertmanager(t *testing.T) {
	t.Parallel()
	am := testenv.Alertmanager(t, "inhibit_rules:\n- source_matchers: [alertname=ServiceDown]\n  target_matchers: [alertname=Noise]\n")
	prom := testenv.Prometheus(t, addressOf(am.URL), watchdogRule)
	opt := AlertsOptions{AlertmanagerURL: am.URL, PrometheusURL: prom.URL, Watchdog: "Watchdog"}
	e := eventually(t, opt, func(e Entry) bool { return e.Status == check.OK })
	if e.Summary != "none; delivery proven by Watchdog" || len(e.Parts) != 0 {
		t.Errorf("nothing fires: %s, %+v", e.Summary, e.Parts)
	}

	start := time.Now().Add(-10 * time.Minute).Truncate(time.Second)
	post := func(name, label, value string, more ...string) {
		labels := map[string]string{"alertname": name, label: value}
		for i := 0; i < len(more); i += 2 {
			labels[more[i]] = more[i+1]
		}
		am.Post(t, testenv.Alert{Labels: labels, StartsAt: start, EndsAt: time.Now().Add(time.Hour), Annotations: map[string]string{"summary": "seen\n\x1b[31m" + name}})
	}
	post("ServiceDown", "service", "api")
	post("ServiceDown", "service", "redis", "env", "b")
	post("ServiceDown", "service", "redis", "env", "c")
	post("IndexerLag", "job", "indexer")
	post("DBQueryLatency", "severity", "warning")
	post("Strange", "instance", "x:1", "severity", "critical")
	post("Odd", "severity", "info")
	post("LabelledP1", "priority", "p1")
	post("LabelledP4", "severity", "P4")
	post("Noise", "service", "x")
	post("BackupFailed", "service", "backup")
	post("DiskUsage", "mountpoint", "/")
	post("CertNotServed", "host", "a:443", "service", "nginx", "priority", "P2", "sla", "4h", "runbook", "RB-004, nonsense")
	post("RotationOverdue", "secret", "API_KEYS", "priority", "P4", "sla", "24h", "runbook", "3.3")
	post("Undated", "priority", "P1", "sla", "soon")
	post("Misranked", "priority", "P7", "sla", "1h", "severity", "info")
	post("ServiceDown", "service", "postgres", "priority", "P4", "sla", "72h", "runbook", "RB-001,RB-009")
	am.Silence(t, "BackupFailed", "ops", "known\x1b[2J", time.Now(), time.Now().Add(2*time.Hour))
	am.Silence(t, "DiskUsage", "ops", "disk ordered", time.Now(), time.Now().Add(72*time.Hour))
	am.Silence(t, "Unused", "ops", "nothing", time.Now(), time.Now().Add(time.Hour))
	e = eventually(t, opt, func(e Entry) bool {
		return len(e.Parts) == 17 && len(e.Detail) == 1 && e.Figures[0].Value == 14 && e.Figures[1].Value == 2 && e.Figures[2].Value == 1
	})
	if e.Status != check.Critical || e.Priority != "P1" || !e.Deadline.Equal(start.Add(15*time.Minute)) || !strings.Contains(e.Summary, "14 active, 2 silenced, 1 inhibited") {
		t.Errorf("the whole: %s %s %s %s", e.Status, e.Priority, e.Deadline, e.Summary)
	}
	for _, tt := range []struct {
		id       string
		status   check.Status
		priority string
		sla      time.Duration
		says     string
		next     string
	}{
		{"ServiceDown:api", check.Critical, "P1", 15 * time.Minute, "ServiceDown:api: seen", "docker compose ps -a"},
		{"IndexerLag:indexer", check.Critical, "P2", time.Hour, "seen", "escrowctl shift-check --only indexer"},
		{"DBQueryLatency", check.Warning, "P3", 4 * time.Hour, "seen", "escrowctl perf analyze"},
		{"Strange:x:1", check.Critical, "", 0, "unmapped: no row of the runbook, severity critical", "alert query Strange"},
		{"Odd", check.Warning, "", 0, "unmapped", "alert query Odd"},
		{"LabelledP1", check.Critical, "P1", 15 * time.Minute, "unmapped: no row of the runbook, P1 by its label", "alert query LabelledP1"},
		{"LabelledP4", check.Warning, "P4", runbook.P4.Deadline(start).Sub(start), "P4 by its label", "alert query LabelledP4"},
		{"CertNotServed:a:443", check.Critical, "P2", 4 * time.Hour, "seen", "escrowctl certs renew"},
		{"RotationOverdue:API_KEYS", check.Warning, "P4", 24 * time.Hour, "seen", "escrowctl rotate-keys due"},
		{"Undated", check.Critical, "P1", 15 * time.Minute, `its label sla is "soon"`, "alert query Undated"},
		{"Misranked", check.Warning, "", 0, `its label priority is "P7"`, "alert query Misranked"},
		{"ServiceDown:postgres", check.Critical, "P1", 15 * time.Minute, "seen", "docker compose ps -a"}, // the runbook's row, whatever a label says
		{"Noise:x", check.OK, "", 0, "inhibited", ""},
		{"BackupFailed:backup", check.Warning, "P2", 0, "its silence ends in", "silence query"},
		{"DiskUsage:/", check.OK, "P2", 0, "silenced", ""},
	} {
		p := partOf(t, e, tt.id)
		if p.Status != tt.status || p.Priority != tt.priority || !strings.Contains(p.Summary, tt.says) || !strings.Contains(p.Action, tt.next) || !p.Since.Equal(start) {
			t.Errorf("%s: %s %s %q next %q since %s", tt.id, p.Status, p.Priority, p.Summary, p.Action, p.Since)
		}
		if want := start.Add(tt.sla); tt.sla > 0 && !p.Deadline.Equal(want) || tt.sla == 0 && !p.Deadline.IsZero() {
			t.Errorf("%s: deadline %s, want %s", tt.id, p.Deadline, want)
		}
		if strings.ContainsAny(p.Summary+strings.Join(p.Detail, ""), "\x1b\n") {
			t.Errorf("%s: not clean: %q %q", tt.id, p.Summary, p.Detail)
		}
	}

	for id, want := range map[string]string{"CertNotServed:a:443": "RB-004", "RotationOverdue:API_KEYS": "3.3", "ServiceDown:postgres": "RB-001", "ServiceDown:api": "RB-001 RB-002 RB-003 RB-004 RB-005"} {
		if p := partOf(t, e, id); strings.Join(p.Runbooks, " ") != want {
			t.Errorf("%s: runbooks %q, want %s", id, p.Runbooks, want)
		}
	}

	am.Silence(t, "ServiceDown", "ops", "hush", time.Now(), time.Now().Add(72*time.Hour))
	e = eventually(t, opt, func(e Entry) bool { return e.Figures[1].Value == 6 })
	if p := partOf(t, e, "ServiceDown:api"); p.Status != check.Warning || !strings.Contains(p.Summary, "a P1 hidden by a silence") || !strings.Contains(p.Detail[0], "by ops until") {
		t.Errorf("a silenced P1: %s %q %q", p.Status, p.Summary, p.Detail)
	}

	am.Stop(t)
	e = runAlerts(t, opt)
	if p := partOf(t, e, "alertmanager"); e.Status != check.Unknown || !strings.Contains(p.Summary, "connection refused") || p.Priority != "P1" {
		t.Errorf("Alertmanager is gone: %s %s %+v", e.Status, e.Summary, p)
	}
}

// TestAlertsUndelivered: Alertmanager is well and has no alert, as Prometheus
// cannot reach it.
func TestAlertsUndelivered(t *testing.T) {
	t.Parallel()
	am := testenv.Alertmanager(t, "")
	prom := testenv.Prometheus(t, "127.0.0.1:9", watchdogRule+"  - {alert: IndexerLag, expr: vector(1) > 2}\n")
	opt := AlertsOptions{AlertmanagerURL: am.URL, PrometheusURL: prom.URL, Watchdog: "Watchdog", Grace: time.Second}
	// For its first seconds Prometheus knows no Alertmanager at all.
	e := eventually(t, opt, func(e Entry) bool {
		return e.Status == check.Critical && !strings.Contains(e.Summary, "nowhere")
	})
	p := partOf(t, e, "delivery")
	if !strings.Contains(p.Summary, "to Alertmanager") || p.Priority != "P1" || p.Action != promLogs || p.Deadline.IsZero() {
		t.Errorf("%+v", p)
	}
	// Not even with the watchdog off is that ok.
	opt.Watchdog = ""
	if e := runAlerts(t, opt); e.Status != check.Critical {
		t.Errorf("without a watchdog: %s %s", e.Status, e.Summary)
	}
	prom.Stop(t)
	e = runAlerts(t, opt)
	if p := partOf(t, e, "prometheus"); e.Status != check.Unknown || !strings.Contains(p.Summary, "connection refused") {
		t.Errorf("Prometheus is gone: %s %s", e.Status, e.Summary)
	}
}

// TestAlertsUnproven: nothing fires, and nothing has ever been sent.
func TestAlertsUnproven(t *testing.T) {
	t.Parallel()
	am := testenv.Alertmanager(t, "")
	prom := testenv.Prometheus(t, addressOf(am.URL), "  - {alert: IndexerLag, expr: vector(1) > 2}\n  - {alert: Broken, expr: 'label_replace(vector(1), \"a\", \"$1\", \"b\", \"(\")'}\n")
	opt := AlertsOptions{AlertmanagerURL: am.URL, PrometheusURL: prom.URL, Watchdog: "Watchdog"}
	e := eventually(t, opt, func(e Entry) bool { return len(e.Parts) == 2 && e.Status == check.Unknown })
	if p := partOf(t, e, "watchdog"); e.Status != check.Unknown || !strings.Contains(p.Action, "alertmanager.watchdog: off") {
		t.Errorf("%s %+v", e.Status, p)
	}
	if p := partOf(t, e, "rule:Broken"); p.Status != check.Unknown || !strings.Contains(p.Summary, "cannot be evaluated: ") {
		t.Errorf("%+v", p)
	}
	bare := testenv.Prometheus(t, addressOf(am.URL), "  - {record: x, expr: vector(1)}\n")
	opt.PrometheusURL = bare.URL
	e = eventually(t, opt, func(e Entry) bool { return e.Status == check.Unknown })
	if p := partOf(t, e, "rules"); p.Status != check.Unknown {
		t.Errorf("no rules: %+v", p)
	}
}

// TestAlertsGarbage: no answer that makes no sense is taken for "no alerts".
func TestAlertsGarbage(t *testing.T) {
	t.Parallel()
	good := map[string]string{
		"/api/v2/alerts": "[]", "/api/v2/silences": "[]", "/-/ready": "ok",
		"/api/v1/alertmanagers": `{"status":"success","data":{"activeAlertmanagers":[{"url":"x"}]}}`,
		"/api/v1/rules":         `{"status":"success","data":{"groups":[{"rules":[{"name":"X"}]}]}}`,
		"/metrics":              "prometheus_notifications_sent_total{alertmanager=\"a} 5\"} 1\nprometheus_notifications_errors_total 0\n",
	}
	serve := func(path, text string) string {
		return testenv.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == path {
				_, _ = io.WriteString(w, text)
				return
			}
			_, _ = io.WriteString(w, good[r.URL.Path])
		}))
	}
	url := serve("", "")
	if e := runAlerts(t, AlertsOptions{AlertmanagerURL: url, PrometheusURL: url}); e.Status != check.OK {
		t.Fatalf("the good answers: %s %s %+v", e.Status, e.Summary, e.Parts)
	}
	bad := []string{"", "null", "{}", "[{}]", `[{"labels":{"a":"b"},"status":{"state":"fine"}}]`, "<html>login</html>", "\x00\x01", `{"data":null}`, `[1,2]`, "[" + strings.Repeat(" ", maxAlertBytes+2)}
	for path := range good {
		if path == "/-/ready" {
			continue // any 200 will do
		}
		for i, text := range bad {
			if path == "/api/v2/silences" && (i == 3 || i == 4) {
				continue // a silence of nothing hides nothing
			}
			url := serve(path, text)
			e := runAlerts(t, AlertsOptions{AlertmanagerURL: url, PrometheusURL: url})
			if e.Status != check.Unknown || e.Summary == "" {
				t.Errorf("%s says %.40q: %s %s", path, text, e.Status, e.Summary)
			}
		}
	}
	silent := "http://" + testenv.Silent(t)
	e := runAlerts(t, AlertsOptions{AlertmanagerURL: silent, PrometheusURL: silent, Limit: testLimit})
	if e.Status != check.Unknown || !strings.Contains(partOf(t, e, "alertmanager").Summary, "no answer within") || !strings.Contains(partOf(t, e, "prometheus").Summary, "no answer within") {
		t.Errorf("silence: %s %s", e.Status, e.Summary)
	}
}

func TestManyAlertsAreBounded(t *testing.T) {
	t.Parallel()
	var parts []check.Result
	for i := range 500 {
		parts = append(parts, check.Result{ID: fmt.Sprint(i), Status: check.Warning})
	}
	parts[400].Status = check.Critical
	got := shortened(parts)
	if len(got) != maxAlerts+1 || got[0].ID != "400" || got[maxAlerts].Summary != "450 further alerts" || got[maxAlerts].Status != check.Warning {
		t.Errorf("%d parts, %+v, %+v", len(got), got[0], got[len(got)-1])
	}
}

// FuzzNotifications: what is read of Prometheus's counters is what its own
// parser reads.
func FuzzNotifications(f *testing.F) {
	f.Add([]byte("prometheus_notifications_sent_total{alertmanager=\"a\"} 1 1700000000\n"))
	f.Add([]byte("prometheus_notifications_errors_total NaN\n"))
	f.Add([]byte("prometheus_notifications_dropped_total{ 1e400"))
	f.Add([]byte("# TYPE prometheus_notifications_sent_total counter\n\tprometheus_notifications_sent_total\t{alertmanager=\"a\\\"} 3\"}\t2\nprometheus_notifications_errors_total 1e308\nprometheus_notifications_errors_total 1e308\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := parseNotifications(text)
		if err != nil {
			plain(t, err)
			return
		}
		for _, v := range []float64{n.Sent, n.Errors, n.Dropped} {
			if v < 0 || math.IsNaN(v) || math.IsInf(v, 0) {
				t.Errorf("%q: %+v", text, n)
			}
		}
		parser := expfmt.NewTextParser(model.LegacyValidation)
		families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
		if err != nil {
			return
		}
		for name, got := range map[string]float64{"sent": n.Sent, "errors": n.Errors, "dropped": n.Dropped} {
			if want, ok := total(families["prometheus_notifications_"+name+"_total"]); ok && math.Abs(got-want) > want*1e-9 {
				t.Errorf("%q: %s %v, Prometheus reads %v", text, name, got, want)
			}
		}
	})
}

// total is the sum of a family; not ok of one that is of another sort.
func total(family *dto.MetricFamily) (sum float64, ok bool) {
	for _, m := range family.GetMetric() {
		switch {
		case m.Counter != nil:
			sum += m.Counter.GetValue()
		case m.Gauge != nil:
			sum += m.Gauge.GetValue()
		case m.Untyped != nil:
			sum += m.Untyped.GetValue()
		default:
			return 0, false
		}
	}
	return sum, true
}

func FuzzAlerts(f *testing.F) {
	f.Add([]byte(`[{"labels":{"alertname":"ServiceDown"},"startsAt":"2026-01-01T00:00:00Z","status":{"state":"active","silencedBy":[],"inhibitedBy":[]}}]`))
	f.Add([]byte(`[{"labels":{"a":"\u001b"},"status":{"state":"suppressed","silencedBy":["x"]}}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var src alertSources
		if httpx.Decode(body, &src.alerts) != nil || sound(src.alerts) != nil {
			return
		}
		src.path = promPath{managers: 1, rules: []promRule{{Name: "X"}}}
		a := &alerts{AlertsOptions{Now: time.Now, Shift: time.Hour, Grace: time.Minute}}
		r := a.judge(src)
		if len(r.Parts) > maxAlerts+10 || len(src.alerts) > 0 && len(r.Parts) == 0 {
			t.Errorf("%d alerts make %d parts", len(src.alerts), len(r.Parts))
		}
		for _, p := range r.Parts {
			if strings.ContainsAny(p.ID+p.Summary, "\x1b\n\x00") {
				t.Errorf("not clean: %q %q", p.ID, p.Summary)
			}
		}
	})
}

// TestNextCommands: each alert of the bundle has a command to go on with.
func TestNextCommands(t *testing.T) {
	files, _ := filepath.Glob("../../deploy/prometheus/rules/*.yml")
	found := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(text), -1) {
			found++
			if name := m[1]; nextCommands()[name] == "" && name != "Watchdog" && name != "MetricsMissing" {
				t.Errorf("%s: no command", name)
			}
		}
	}
	if found < 30 {
		t.Errorf("only %d rules in %q", found, files)
	}
}
