package prometheus_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// source says who has a metric.
type source struct {
	exporter string // empty for escrowctl and for recorded ones
	labels   []string
}

var (
	declaredRow = regexp.MustCompile("(?m)^\\| `(escrowctl_\\w+)` \\|([^|]*)\\|")
	everyJobRow = regexp.MustCompile("(?m)^\\| `<job>(_\\w+)` \\|")
	jobHeading  = regexp.MustCompile("(?m)^## `(escrowctl_\\w+)_\\.\\.\\.`$")
	exporterRow = regexp.MustCompile("(?m)^\\| `([a-z]\\w+)` \\| ([a-z_]+_exporter[^|]*) \\|")
)

// knownMetrics are all that a rule or a panel may name: escrowctl's, which a
// test holds docs/metrics.md to, the exporters' that README.md lists, and what
// the rules record.
func knownMetrics(t *testing.T) map[string]source {
	t.Helper()
	known := map[string]source{}
	page := read(t, "../../docs/metrics.md")
	for _, m := range declaredRow.FindAllStringSubmatch(page, -1) {
		known[m[1]] = source{labels: strings.Fields(strings.ReplaceAll(m[2], "`", ""))}
	}
	for _, job := range jobHeading.FindAllStringSubmatch(page, -1) {
		for _, m := range everyJobRow.FindAllStringSubmatch(page, -1) {
			known[job[1]+m[1]] = source{}
		}
	}
	for _, m := range exporterRow.FindAllStringSubmatch(read(t, "README.md"), -1) {
		known[m[1]] = source{exporter: m[2]}
	}
	for _, r := range allRules(t) {
		if r.Record != "" {
			known[r.Record] = source{exporter: "recorded"}
		}
	}
	if len(known) < 100 {
		t.Fatalf("only %d metrics are known", len(known))
	}
	return known
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	stringLiteral = regexp.MustCompile(`"[^"]*"|'[^']*'`)
	bracketed     = regexp.MustCompile(`\{[^}]*\}|\[[^\]]*\]`)
	grouping      = regexp.MustCompile(`\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	word          = regexp.MustCompile(`[\w:.$]+`) // numbers too, as wholes
	called        = regexp.MustCompile(`^\s*\(`)
	selector      = regexp.MustCompile(`([a-zA-Z_:][\w:]*)\{([^}]*)\}`)
	labelName     = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)`)
)

// metricNames are the metrics that a PromQL expression names. promtool has seen
// that it is one: what is left of its grammar is that an identifier is a metric
// unless it is called, is an operator, or stands in braces or a grouping.
func metricNames(expr string) []string {
	expr = grouping.ReplaceAllString(bracketed.ReplaceAllString(stringLiteral.ReplaceAllString(expr, ""), " "), " ")
	var out []string
	for _, at := range word.FindAllStringIndex(expr, -1) {
		name := expr[at[0]:at[1]]
		switch strings.ToLower(name) {
		case "and", "or", "unless", "bool", "offset", "inf", "nan", "atan2":
			continue
		}
		if first := name[0]; first != '.' && (first < '0' || first > '9') && !called.MatchString(expr[at[1]:]) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

func TestMetricNames(t *testing.T) {
	for expr, want := range map[string]string{
		`a`:                           "a",
		`a{b="c"} == 0`:               "a",
		`sum by (x, y) (rate(a[5m]))`: "a",
		`time() - a_b:c > 26 * 3600`:  "a_b:c",
		`a and on () absent(b) or c unless ignoring(d) e`:                 "a b c e",
		`max(a >= 0) or clamp_min(max(b) - max(c), 0) * 5`:                "a b c",
		`histogram_quantile(0.9, sum(rate(a[$__rate_interval])) by (le))`: "a",
		`a / on (x) group_left (y) b offset 1h`:                           "a b",
		`label_replace(a, "b", "$1", "c", "(.*)")`:                        "a",
		`vector(1e3)`: "",
	} {
		if got := strings.Join(metricNames(expr), " "); got != want {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}

// checkNames demands that every metric of an expression is known, and that what
// escrowctl's are selected by are their labels.
func checkNames(t *testing.T, known map[string]source, where, expr string) {
	t.Helper()
	for _, name := range metricNames(expr) {
		if _, ok := known[name]; !ok {
			t.Errorf("%s: nobody has a metric %s: it is neither in docs/metrics.md nor in deploy/prometheus/README.md", where, name)
		}
	}
	for _, m := range selector.FindAllStringSubmatch(expr, -1) {
		if s, ok := known[m[1]]; ok && s.exporter == "" {
			for _, l := range labelName.FindAllStringSubmatch(stringLiteral.ReplaceAllString(m[2], ""), -1) {
				if !slices.Contains(append(s.labels, "instance", "job"), l[1]) {
					t.Errorf("%s: %s has no label %s", where, m[1], l[1])
				}
			}
		}
	}
}

// TestRulesNameMetricsThatExist also demands that README.md lists nothing that
// no rule and no panel needs.
func TestRulesNameMetricsThatExist(t *testing.T) {
	known := knownMetrics(t)
	used := map[string]bool{}
	for _, r := range allRules(t) {
		checkNames(t, known, r.Alert+r.Record, r.Expr)
		for _, name := range metricNames(r.Expr) {
			used[name] = true
		}
	}
	for name, s := range known {
		if s.exporter != "" && s.exporter != "recorded" && !used[name] {
			t.Errorf("README.md lists %s, which no rule needs", name)
		}
	}
}
