package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stellarescrow/escrowctl/internal/report"
)

// generatedFrom is where the tables of docs/metrics.md begin.
const generatedFrom = "<!-- made by TestMetricsPage: do not edit below -->\n"

// metricsTables are the tables of docs/metrics.md as the declarations have them.
func metricsTables() string {
	var b strings.Builder
	b.WriteString("## Every job\n\nEach job of the tables below has these; `<job>` is its prefix.\n\n| metric | labels | meaning |\n|---|---|---|\n")
	for _, m := range report.EveryJob() {
		fmt.Fprintf(&b, "| `<job>_%s` | | %s |\n", m.Name, m.Help)
	}
	for _, job := range reportingJobs() {
		prefix := strings.TrimSuffix(report.Metric{Job: job.name}.FullName(), "_")
		fmt.Fprintf(&b, "\n## `%s_...`\n\nWritten by `escrowctl %s`, to `%[1]s.prom`.\n", prefix, strings.Join(strings.Split(job.command, ", "), "`, `escrowctl "))
		head := "\n| metric | labels | meaning |\n|---|---|---|\n"
		for _, m := range metrics() {
			if m.Job != job.name {
				continue
			}
			labels := ""
			for _, l := range m.Labels {
				labels += " `" + l + "`"
			}
			fmt.Fprintf(&b, "%s| `%s` |%s | %s |\n", head, m.FullName(), labels, m.Help)
			head = ""
		}
	}
	return b.String()
}

// TestMetricsPage holds docs/metrics.md to the declarations; make docs writes it.
func TestMetricsPage(t *testing.T) {
	page := document(t, "docs/metrics.md")
	head, tables, found := strings.Cut(page, generatedFrom)
	if !found {
		t.Fatalf("docs/metrics.md has no line %s", generatedFrom)
	}
	want := "\n" + metricsTables()
	if *updateDocs {
		if err := os.WriteFile(filepath.Join("..", "..", "docs", "metrics.md"), []byte(head+generatedFrom+want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, tables); diff != "" {
		t.Errorf("docs/metrics.md is not current (make docs writes it): -want +got\n%s", diff)
	}
}

// TestMetricsAreDeclaredWell: names and labels that Prometheus and its users
// expect, each once, of a job that is documented.
func TestMetricsAreDeclaredWell(t *testing.T) {
	var jobs []string
	for _, j := range reportingJobs() {
		jobs = append(jobs, j.name)
	}
	seen := map[string]bool{}
	for _, m := range metrics() {
		name := m.FullName()
		switch {
		case seen[name]:
			t.Errorf("%s is declared twice", name)
		case !slices.Contains(jobs, m.Job):
			t.Errorf("%s: the job %s is not documented", name, m.Job)
		case !slices.IsSorted(m.Labels):
			t.Errorf("%s: its labels %q are not sorted", name, m.Labels)
		case m.Help == "" || strings.ContainsAny(m.Help, "\n|"):
			t.Errorf("%s: its help is no cell of a table: %q", name, m.Help)
		case strings.HasSuffix(name, "_total"):
			t.Errorf("%s: a gauge that is called a counter", name)
		}
		for _, every := range report.EveryJob() {
			if m.Name == every.Name {
				t.Errorf("%s: every job has it", name)
			}
		}
		seen[name] = true
	}
}
