// Package prometheus_test tests the monitoring bundle with the tools that read
// it, and against the runbook and the metrics that escrowctl declares.
package prometheus_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/cli"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/ui"
	"go.yaml.in/yaml/v3"
)

// rule is a rule of Prometheus.
type rule struct {
	Record      string            `yaml:"record"`
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`

	file string
}

// allRules are the rules of all files.
func allRules(t *testing.T) []rule {
	t.Helper()
	var out []rule
	for _, file := range glob(t, "rules/*.yml") {
		var doc struct {
			Groups []struct{ Rules []rule }
		}
		readYAML(t, file, &doc)
		for _, g := range doc.Groups {
			for _, r := range g.Rules {
				r.file = file
				out = append(out, r)
			}
		}
	}
	return out
}

func alerts(t *testing.T) []rule {
	return slices.DeleteFunc(allRules(t), func(r rule) bool { return r.Alert == "" })
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(files), err)
	}
	return files
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// tool runs promtool or amtool, and returns what it says.
func tool(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(name)
	testenv.Need(t, err == nil, name+" in PATH", "make deps, or apt-get install prometheus prometheus-alertmanager")
	out, err := exec.Command(path, args...).CombinedOutput()
	return string(out), err
}

func TestPromtool(t *testing.T) {
	t.Parallel()
	if out, err := tool(t, "promtool", append([]string{"check", "rules"}, glob(t, "rules/*.yml")...)...); err != nil {
		t.Error(out)
	}
	if out, err := tool(t, "promtool", "check", "config", "--syntax-only", "prometheus.yml"); err != nil {
		t.Error(out)
	}
	for _, file := range glob(t, "tests/*.yml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			if out, err := tool(t, "promtool", "test", "rules", file); err != nil {
				t.Error(out)
			}
		})
	}
}

// unitTest is what promtool expects of an alert at a time.
type unitTest struct {
	Alertname string `yaml:"alertname"`
	Expected  []struct {
		Labels map[string]string `yaml:"exp_labels"`
	} `yaml:"exp_alerts"`
}

func unitTests(t *testing.T) []unitTest {
	t.Helper()
	var out []unitTest
	for _, file := range glob(t, "tests/*.yml") {
		var doc struct {
			Tests []struct {
				Alerts []unitTest `yaml:"alert_rule_test"`
			} `yaml:"tests"`
		}
		readYAML(t, file, &doc)
		for _, test := range doc.Tests {
			out = append(out, test.Alerts...)
		}
	}
	return out
}

// TestEveryAlertIsTested: each rule has a unit test in which it fires, and each
// alert but the watchdog one in which it does not.
func TestEveryAlertIsTested(t *testing.T) {
	tests := unitTests(t)
	for _, r := range alerts(t) {
		fires := slices.ContainsFunc(tests, func(u unitTest) bool {
			return u.Alertname == r.Alert && slices.ContainsFunc(u.Expected, func(e struct {
				Labels map[string]string `yaml:"exp_labels"`
			}) bool {
				return has(e.Labels, r.Labels)
			})
		})
		quiet := slices.ContainsFunc(tests, func(u unitTest) bool { return u.Alertname == r.Alert && len(u.Expected) == 0 })
		if !fires || !quiet && r.Alert != "Watchdog" {
			t.Errorf("%s %v: tested firing %v, not firing %v", r.Alert, r.Labels, fires, quiet)
		}
	}
}

// has says whether all of labels, but those of templates, are among those of an
// alert, and no other tells its kind apart.
func has(of, labels map[string]string) bool {
	for name, value := range labels {
		if of[name] != value && !strings.Contains(value, "{{") {
			return false
		}
	}
	return of["reason"] == labels["reason"] && of["kind"] == labels["kind"]
}

// TestRunbooksAlerts: all seven are there, as urgent as the page has them, and
// with its runbooks and limits.
func TestRunbooksAlerts(t *testing.T) {
	limits := map[string][]string{
		"ServiceDown": {"== 0"}, "IndexerLag": {"> 300"}, "TLSCertExpiringSoon": {"escrowctl_cert_alert_timestamp_seconds", "14 * 86400"},
		"DBQueryLatency": {"> 0.05"}, "RedisHitRate": {"< 0.60"}, "BackupFailed": {"escrowctl_backup_exit_code"}, "DiskUsage": {"> 0.85"},
	}
	rules := alerts(t)
	for _, a := range runbook.Alerts() {
		var own []rule
		for _, r := range rules {
			if r.Alert != a.Name {
				continue
			}
			own = append(own, r)
			sla, err := time.ParseDuration(r.Labels["sla"])
			if err != nil || sla != a.SLA || r.Labels["priority"] != a.Priority.String() {
				t.Errorf("%s: priority %s, sla %s; the runbook has %s, %s", a.Name, r.Labels["priority"], r.Labels["sla"], a.Priority, a.SLA)
			}
			if refs := r.Labels["runbook"]; refs != strings.Join(a.Runbooks, ",") && a.Name != runbook.ServiceDown {
				t.Errorf("%s: runbook %s; the page has %s", a.Name, refs, a.Runbooks)
			}
		}
		if len(own) == 0 || len(limits[a.Name]) == 0 {
			t.Errorf("%s: %d rules, limits %q", a.Name, len(own), limits[a.Name])
		}
		for _, limit := range limits[a.Name] {
			if !slices.ContainsFunc(own, func(r rule) bool { return strings.Contains(r.Expr, limit) }) {
				t.Errorf("%s: no rule with %s", a.Name, limit)
			}
		}
	}
}

// TestServiceDownsRunbooks: the unit tests expect the procedure of each service.
func TestServiceDownsRunbooks(t *testing.T) {
	all, _ := runbook.AlertNamed(runbook.ServiceDown)
	seen := map[string]bool{}
	for _, u := range unitTests(t) {
		for _, e := range u.Expected {
			if u.Alertname != runbook.ServiceDown {
				continue
			}
			service := e.Labels["service"]
			want, ok := runbook.ProcedureFor(service)
			if !ok {
				want = strings.Join(all.Runbooks, ",")
			}
			if e.Labels["runbook"] != want {
				t.Errorf("%s: the unit tests expect %s, the runbook has %s", service, e.Labels["runbook"], want)
			}
			seen[service] = true
		}
	}
	for _, service := range []string{"postgres", "indexer", "api", "nginx", "redis", "frontend"} {
		if !seen[service] {
			t.Errorf("no unit test in which %s is down", service)
		}
	}
}

// TestAgesAreTheRunbooks: what has to be recent is as old as the schedule allows.
func TestAgesAreTheRunbooks(t *testing.T) {
	age := map[string]string{"backup": "26 * 3600", "dr-test": "31 * 86400 + 2 * 3600", "certs": "14 * 3600", "perf": "7 * 86400 + 2 * 3600"}
	hours := map[string]time.Duration{"backup": 26 * time.Hour, "dr-test": 746 * time.Hour, "certs": 14 * time.Hour, "perf": 170 * time.Hour}
	rules := alerts(t)
	for _, task := range runbook.Schedule() {
		if task.Spec == "" {
			continue
		}
		if hours[task.Name] != task.MaxAge {
			t.Errorf("%s: %s here, %s in the runbook", task.Name, hours[task.Name], task.MaxAge)
		}
		metric := "escrowctl_" + strings.ReplaceAll(task.Name, "-", "_") + "_last_run_timestamp_seconds"
		if !slices.ContainsFunc(rules, func(r rule) bool { return r.Expr == "time() - "+metric+" > "+age[task.Name] }) {
			t.Errorf("%s: no rule for %s with %s", task.Name, metric, age[task.Name])
		}
	}
}

var (
	runbookRef = regexp.MustCompile(`^(RB-00[1-9]|[1-6]\.[1-9])$`)
	ownCommand = regexp.MustCompile(`escrowctl ([a-z -]+[a-z])`)
)

// TestAlertsAreComplete: whoever is called finds how urgent it is, what is wrong
// and what to type.
func TestAlertsAreComplete(t *testing.T) {
	root := cli.New(&ui.IO{Now: time.Now}, nil, cli.Build{}).Root()
	for _, r := range alerts(t) {
		if r.Alert == "Watchdog" {
			continue
		}
		var p runbook.Priority
		err := p.UnmarshalText([]byte(r.Labels["priority"]))
		sla, slaErr := time.ParseDuration(r.Labels["sla"])
		severity := map[bool]string{true: "critical", false: "warning"}[p <= runbook.P2]
		if err != nil || slaErr != nil || sla <= 0 || r.Labels["severity"] != severity || r.Annotations["summary"] == "" || r.Annotations["action"] == "" {
			t.Errorf("%s: %v %v; labels %v, annotations %v", r.Alert, err, slaErr, r.Labels, r.Annotations)
		}
		if ref := r.Labels["runbook"]; !runbookRef.MatchString(ref) && r.Alert != runbook.ServiceDown {
			t.Errorf("%s: runbook %q", r.Alert, ref)
		}
		for _, m := range ownCommand.FindAllStringSubmatch(r.Annotations["action"], -1) {
			if cmd, rest, err := root.Find(strings.Fields(m[1])); err != nil || cmd == root || len(rest) > 0 && cmd.HasSubCommands() && !cmd.Runnable() {
				t.Errorf("%s: escrowctl %s: no such command (%v)", r.Alert, m[1], err)
			}
		}
	}
}

func TestAlertmanager(t *testing.T) {
	t.Parallel()
	if out, err := tool(t, "amtool", "check-config", "alertmanager.yml"); err != nil {
		t.Fatal(out)
	}
	for labels, receiver := range map[string]string{
		"alertname=Watchdog priority=none":                       "dead-mans-switch",
		"alertname=ServiceDown priority=P1 service=api":          "pager-and-chat",
		"alertname=BackupFailed priority=P2 service=backup":      "pager-and-chat",
		"alertname=RedisHitRate priority=P3 service=redis":       "chat",
		"alertname=RotationOverdue priority=P4 secret=API_KEYS":  "chat",
		"alertname=SomebodyElses severity=critical":              "chat",
		"alertname=SomebodyElses priority=P9 severity=page":      "chat",
		"alertname=WatchdogOfOthers priority=P1 severity=page":   "pager-and-chat",
		"alertname=ServiceDown priority=P2 service=a severity=x": "pager-and-chat",
	} {
		args := append([]string{"config", "routes", "test", "--config.file=alertmanager.yml", "--verify.receivers=" + receiver}, strings.Fields(labels)...)
		if out, err := tool(t, "amtool", args...); err != nil {
			t.Errorf("%s: not to %s: %s", labels, receiver, out)
		}
	}
	for _, r := range alerts(t) {
		args := []string{"config", "routes", "test", "--config.file=alertmanager.yml", "alertname=" + r.Alert, "priority=" + r.Labels["priority"]}
		out, err := tool(t, "amtool", args...)
		pages := strings.Contains(out, "pager-and-chat")
		if p := r.Labels["priority"]; err != nil || pages != (p == "P1" || p == "P2") {
			t.Errorf("%s of priority %s: %s", r.Alert, p, out)
		}
	}
}

var alertRow = regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (P[1-4]) \\| (\\w+) \\| ([^|]+) \\|")

// TestAlertsAreDocumented holds the table of docs/monitoring.md to the rules.
func TestAlertsAreDocumented(t *testing.T) {
	documented := map[string]bool{}
	for _, m := range alertRow.FindAllStringSubmatch(read(t, "../../docs/monitoring.md"), -1) {
		documented[strings.Join(m[1:], " ")] = false
	}
	for _, r := range alerts(t) {
		if r.Alert == "Watchdog" {
			continue
		}
		refs := r.Labels["runbook"]
		if r.Alert == runbook.ServiceDown {
			refs = "RB-001 to RB-005"
		}
		row := strings.Join([]string{r.Alert, r.Labels["priority"], r.Labels["sla"], refs}, " ")
		if _, ok := documented[row]; !ok {
			t.Errorf("docs/monitoring.md has no row %s", row)
		}
		documented[row] = true
	}
	for row, there := range documented {
		if !there {
			t.Errorf("docs/monitoring.md has a row %s, and no rule is so", row)
		}
	}
}
