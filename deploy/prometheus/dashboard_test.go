package prometheus_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const dashboardFile = "../grafana/dashboards/operations.json"

type dashboard struct {
	UID        string
	Title      string
	Panels     []dashboardPanel
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
}

type dashboardPanel struct {
	ID          int
	Type        string
	Title       string
	Description string
	Datasource  struct{ Type, UID string }
	GridPos     struct{ H, W, X, Y int }
	Targets     []struct {
		RefID      string
		Expr       string
		Datasource struct{ Type, UID string }
	}
}

func operations(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

var anyInstance = regexp.MustCompile(`\{instance=~"\$instance"\}`)

// expressions are the dashboard's, by panel and query, for all instances.
func (d dashboard) expressions() map[string]string {
	out := map[string]string{}
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			out[p.Title+"/"+q.RefID] = anyInstance.ReplaceAllString(q.Expr, `{instance=~".*"}`)
		}
	}
	return out
}

// TestDashboardNamesMetricsThatExist also has promtool read every expression.
func TestDashboardNamesMetricsThatExist(t *testing.T) {
	known := knownMetrics(t)
	known["ALERTS"] = source{exporter: "Prometheus"}
	d := operations(t)
	for where, expr := range d.expressions() {
		checkNames(t, known, where, expr)
		if strings.Contains(expr, "$") {
			t.Errorf("%s: a variable that is not known here: %s", where, expr)
		}
	}
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			checkNames(t, known, "variable "+v.Name, strings.Replace(v.Definition, ", instance", "", 1))
		}
	}
	type record struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var records []record
	for _, expr := range d.expressions() {
		records = append(records, record{fmt.Sprintf("panel_%d", len(records)), expr})
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "panels", "rules": records}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "panels.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := tool(t, "promtool", "check", "rules", file); err != nil || len(records) < 30 {
		t.Errorf("%d expressions: %s", len(records), out)
	}
}

// TestDashboardIsWhole: what Grafana would accept and show wrongly.
func TestDashboardIsWhole(t *testing.T) {
	d := operations(t)
	if d.Title != "Operations" || d.UID == "" {
		t.Errorf("title %q, uid %q", d.Title, d.UID)
	}
	ids := map[int]bool{}
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 || p.Title == "" {
			t.Errorf("%q: id %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%q and %q share a place, or it is out of the grid", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("%q: description %q, %d queries, datasource %q", p.Title, p.Description, len(p.Targets), p.Datasource.UID)
		}
		refs := map[string]bool{}
		for _, q := range p.Targets {
			if q.Expr == "" || refs[q.RefID] || q.Datasource.UID != "${datasource}" {
				t.Errorf("%q: query %+v", p.Title, q)
			}
			refs[q.RefID] = true
		}
	}
	for _, row := range []string{"Backups", "Restores", "Certificates", "Rotations", "Reviews", "Shift checks and schedule"} {
		found := false
		for _, p := range d.Panels {
			found = found || p.Type == "row" && p.Title == row
		}
		if !found {
			t.Errorf("no row %s", row)
		}
	}
}

func TestGrafanaProvisioning(t *testing.T) {
	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct{ Name, UID, Type, URL string }
	}
	readYAML(t, "../grafana/provisioning/datasources/prometheus.yml", &sources)
	var providers struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Type string
			Options    struct{ Path string }
		}
	}
	readYAML(t, "../grafana/provisioning/dashboards/escrowctl.yml", &providers)
	if s := sources.Datasources; sources.APIVersion != 1 || len(s) != 1 || s[0].Type != "prometheus" || s[0].URL == "" || s[0].UID == "" {
		t.Errorf("%+v", sources)
	}
	if p := providers.Providers; providers.APIVersion != 1 || len(p) != 1 || p[0].Type != "file" || p[0].Options.Path == "" {
		t.Errorf("%+v", providers)
	}
}

// panelsHaveData asks a Prometheus for every panel that shows only metrics of a
// job, and demands an answer.
func panelsHaveData(t *testing.T, prometheus string, jobs ...string) {
	t.Helper()
	asked := 0
	for where, expr := range operations(t).expressions() {
		own := true
		for _, name := range metricNames(expr) {
			one := false
			for _, job := range jobs {
				one = one || strings.HasPrefix(name, "escrowctl_"+job+"_") || name == "ALERTS"
			}
			own = own && one
		}
		if !own {
			continue
		}
		asked++
		var answer struct {
			Data struct{ Result []json.RawMessage }
		}
		body := get(t, prometheus+"/api/v1/query?query="+url.QueryEscape(expr))
		if err := json.Unmarshal([]byte(body), &answer); err != nil || len(answer.Data.Result) == 0 {
			t.Errorf("panel %s shows nothing: %s: %s", where, expr, body)
		}
	}
	if asked < 10 {
		t.Errorf("only %d panels were asked for", asked)
	}
}
