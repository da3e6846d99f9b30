package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/perf"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// perfServer is a server of ten connections with a database that is as it
// should be.
func perfServer(t *testing.T) *testenv.PG {
	t.Helper()
	pg := testenv.Postgres(t, testenv.PGSetting("max_connections", "10"), testenv.PGSetting("fsync", "on"), testenv.PGSetting("full_page_writes", "on"),
		testenv.PGSetting("shared_preload_libraries", "pg_stat_statements"), testenv.PGSetting("autovacuum_naptime", "3600"))
	pg.CreateDB(t, "stellar_escrow")
	pg.Psql(t, "stellar_escrow", `CREATE EXTENSION pg_stat_statements;
		CREATE TABLE trades (id bigint PRIMARY KEY, seller text);
		INSERT INTO trades SELECT g, 'seller-' || g FROM generate_series(1, 1000) g; ANALYZE trades;
		CREATE ROLE app LOGIN PASSWORD 'app-secret' IN ROLE pg_monitor; GRANT ALL ON trades TO app;`)
	return pg
}

// perfRun is one analysis, by a clock that goes on.
func perfRun(t *testing.T, at time.Time, env []string, args ...string) (*invocation, int) {
	t.Helper()
	inv := new(invocation)
	env = append([]string{"ESCROWCTL_REPORT_API_METRICS=off", "ESCROWCTL_DUMP_VIA=host", "ESCROWCTL_PERF_SOURCES=database,statements"}, env...)
	inv.App = New(&ui.IO{Out: &inv.out, Err: &inv.errs, Now: func() time.Time { return at }}, env, Build{Version: "v1.2.3"})
	return inv, inv.Run(t.Context(), append([]string{"perf"}, args...))
}

func perfReport(t *testing.T, inv *invocation) *perf.Report {
	t.Helper()
	var r perf.Report
	if err := json.Unmarshal(inv.out.Bytes(), &r); err != nil {
		t.Fatalf("%v: %s %s", err, &inv.out, &inv.errs)
	}
	return &r
}

func TestPerfAnalyze(t *testing.T) {
	pg := perfServer(t)
	dir := t.TempDir()
	sink := testenv.NewSink(t)
	env := []string{
		"ESCROWCTL_STATE_DIR=" + dir, "DATABASE_URL=" + pg.URL("stellar_escrow"), "API_BASE_URL=" + sink.URL, "ESCROWCTL_REPORT_API_METRICS=on",
		"ESCROWCTL_REPORT_TEXTFILE_DIR=" + dir,
	}
	inv, code := perfRun(t, testNow(), env, "analyze")
	if code != 0 || !strings.Contains(inv.out.String(), "OK  nothing found") {
		t.Fatalf("healthy: exit %d: %s%s", code, &inv.out, &inv.errs)
	}
	for _, says := range []string{"first analysis", "public.trades", "cost the database"} {
		if !strings.Contains(inv.out.String(), says) {
			t.Errorf("the report does not say %q:\n%s", says, &inv.out)
		}
	}
	for line := range strings.Lines(inv.out.String()) {
		if len([]rune(line)) > 81 && !strings.Contains(line, "SELECT") && !strings.Contains(line, "INSERT") {
			t.Errorf("longer than a terminal is wide: %s", line)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "escrowctl_perf.prom"))
	if err != nil || !strings.Contains(string(text), `escrowctl_perf_findings{status="critical"} 0`) || !strings.Contains(string(text), "escrowctl_perf_cache_hit_ratio ") {
		t.Errorf("textfile: %v\n%s", err, text)
	}
	if events := sink.Metrics(t); len(events) != 1 || events[0]["source"] != "perf" || events[0]["type"] != "perf_analysis" || events[0]["status"] != "ok" {
		t.Errorf("events %v", events)
	}

	inv, code = perfRun(t, testNow().Add(7*24*time.Hour), env, "analyze", "--json")
	r := perfReport(t, inv)
	if code != 0 || r.SchemaVersion != perf.ReportVersion || r.Since == nil || !r.Since.Equal(testNow()) || r.Interval != 7*86400 || !r.Queries.Compared {
		t.Errorf("the second: exit %d: %s", code, &inv.out)
	}
	if r.Cost == nil || r.Cost.Queries < 8 {
		t.Errorf("it does not say what it cost: %+v", r.Cost)
	}
	if len(r.Plans) > 0 {
		t.Error("plans that nobody asked for")
	}
	pg.Psql(t, "stellar_escrow", "SELECT seller FROM trades WHERE id = 5")
	perfFormats(t, env)
	if _, code := perfRun(t, testNow().Add(8*24*time.Hour), env, "analyze", "--since", "yesterday"); code != 3 {
		t.Errorf("--since yesterday: exit %d", code)
	}
	inv, _ = perfRun(t, testNow().Add(8*24*time.Hour), env, "analyze", "--since", "2d", "--json")
	if r := perfReport(t, inv); r.Since == nil || !r.Since.Equal(testNow()) {
		t.Errorf("--since 2d compares with %v", r.Since)
	}
}

// perfFormats looks at plans, and at the report as Markdown.
func perfFormats(t *testing.T, env []string) {
	t.Helper()
	at := testNow().Add(7*24*time.Hour + time.Minute)
	inv, code := perfRun(t, at, env, "analyze", "--explain", "--json")
	r := perfReport(t, inv)
	if code != 0 || len(r.Plans) == 0 || r.Plans[0].Text == "" || r.Cost.Queries < 11 {
		t.Errorf("--explain: exit %d, %d plans, %d queries", code, len(r.Plans), r.Cost.Queries)
	}
	const scan = "Index Scan using trades_pkey on trades"
	for _, p := range r.Plans {
		text := strings.Join(p.Lines, "\n")
		if p.Missing == "" && (!strings.Contains(text, "(cost=") || strings.Contains(text, "actual")) || strings.Contains(p.Text, "WHERE id") && !strings.Contains(text, scan) {
			t.Errorf("%s: %q %s", p.Text, text, p.Missing)
		}
	}
	inv, _ = perfRun(t, at.Add(time.Minute), env, "analyze", "--explain")
	if out := inv.out.String(); !strings.Contains(out, plansTitle) || !strings.Contains(out, "    "+scan) || !strings.Contains(out, "no plan: ERROR: function generate_series") {
		t.Errorf("--explain:\n%s", out)
	}
	inv, code = perfRun(t, at.Add(2*time.Minute), env, "analyze", "--markdown", "--explain")
	for _, says := range []string{"**Performance: OK**\n", "Nothing found.\n", "| public.trades |", "```text\n" + scan, "cost the database"} {
		if out := inv.out.String(); code != 0 || !strings.Contains(out, says) {
			t.Errorf("--markdown: exit %d: does not say %q:\n%s", code, says, out)
		}
	}
	if _, code := perfRun(t, at, env, "analyze", "-o", "markdown"); code != 3 {
		t.Errorf("-o markdown: exit %d", code)
	}
}

// TestPerfMarkdown holds what servers say in the report's Markdown.
func TestPerfMarkdown(t *testing.T) {
	r := &perf.Report{Status: check.Critical, Notes: []string{"a *note*"}, Plans: []perf.Plan{{ID: "7", Text: "SELECT `x`", Lines: []string{"Seq Scan", "  ``` ends"}}, {ID: "8", Missing: "gone_away"}}}
	f := perf.Finding{SQL: []string{"CREATE INDEX a;", "-- \x1b[2J"}}
	f.Status, f.Summary, f.Detail, f.Action = check.Critical, "a|b <script>", []string{"evil\n# heading"}, "do_it"
	r.Findings = []perf.Finding{f}
	r.Queries = &perf.Queries{ByMean: []perf.Query{{Text: "SELECT a|b", Judged: perf.Figures{Mean: 1, Calls: 1}}}, Outsiders: []perf.Outsider{{Name: "exporter", Statements: 2, Total: 3}}}
	got := perfMarkdown(r)
	for _, says := range []string{
		"### Queries by mean time, since the last reset\n\n| MEAN | EVER |", "\n| ---: | ---: |", "- **CRITICAL** a\\|b &lt;script>\n  - evil | # heading", "  - next: do\\_it\n\n  ```sql\n  CREATE INDEX a;\n  -- \\u001b[2J\n  ```\n",
		"Note: a \\*note\\*", "SELECT a\\|b |\n", "\n7: SELECT \\`x\\`\n\n````text\nSeq Scan\n  ``` ends\n````\n", "No plan: gone\\_away", "2 statements of exporter (3.0s in all)",
	} {
		if !strings.Contains(strings.ReplaceAll(got, "evil \\| #", "evil | #"), says) {
			t.Errorf("it does not say %q:\n%s", says, got)
		}
	}
}

// TestPerfSuccess: an analysis that found something bad has succeeded, one that
// could not look has not.
func TestPerfSuccess(t *testing.T) {
	pg := testenv.Postgres(t, testenv.PGSetting("shared_preload_libraries", "pg_stat_statements")) // fsync is off
	pg.Psql(t, "postgres", "CREATE EXTENSION pg_stat_statements")
	dir := t.TempDir()
	env := []string{"ESCROWCTL_STATE_DIR=" + dir, "ESCROWCTL_REPORT_TEXTFILE_DIR=" + dir}
	lastSuccess := func(url string, at time.Time, code int) string {
		t.Helper()
		inv, got := perfRun(t, at, append(env, "DATABASE_URL="+url), "analyze")
		if got != code {
			t.Errorf("exit %d, want %d: %s%s", got, code, &inv.out, &inv.errs)
		}
		text, err := os.ReadFile(filepath.Join(dir, "escrowctl_perf.prom"))
		if err != nil {
			t.Fatal(err)
		}
		_, value, _ := strings.Cut(string(text), "\nescrowctl_perf_last_success_timestamp_seconds ")
		value, _, _ = strings.Cut(value, "\n")
		_ = os.Remove(filepath.Join(dir, "escrowctl_perf.prom")) // the run records know too
		return value
	}
	unix := func(at time.Time) string { return fmt.Sprintf("%g", float64(at.Unix())) }
	bad, later := testNow(), testNow().Add(time.Hour)
	if got := lastSuccess(pg.URL("postgres"), bad, 2); got != unix(bad) {
		t.Errorf("after critical findings: %s, want %s", got, unix(bad))
	}
	if got := lastSuccess("postgres://x:y@127.0.0.1:1/x", later, 3); got != unix(bad) {
		t.Errorf("after a run that saw nothing: %s, want %s", got, unix(bad))
	}
}

// TestPerfConnections takes 9 of 10 connections, and then all.
func TestPerfConnections(t *testing.T) {
	pg := perfServer(t)
	super := []string{"ESCROWCTL_STATE_DIR=" + t.TempDir(), "DATABASE_URL=" + pg.URL("stellar_escrow")}
	app := []string{"ESCROWCTL_STATE_DIR=" + t.TempDir(), "DATABASE_URL=" + pg.URLAs("app", "app-secret", "stellar_escrow")}
	take := func(n int, url string) {
		for range n {
			conn, err := pgx.Connect(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close(t.Context()) })
		}
	}
	find := func(env []string) (status, summary string, code int) {
		inv, code := perfRun(t, testNow(), append(env, "ESCROWCTL_DUMP_VIA=host"), "analyze", "--json")
		for _, f := range perfReport(t, inv).Findings {
			if f.ID == "server.connections" {
				return f.Status.String(), f.Summary, code
			}
			t.Errorf("another finding: %s: %s", f.ID, f.Summary)
		}
		return "", "", code
	}
	take(9, pg.URL("stellar_escrow"))
	if status, says, code := find(super); status != "warning" || code != 1 || !strings.Contains(says, "9 of 10") {
		t.Errorf("9 of 10: %s, exit %d: %s", status, code, says)
	}
	// The last three are for superusers: the application is out at seven.
	if status, says, code := find(app); status != "critical" || code != 2 || !strings.Contains(says, "no PostgreSQL connection is left, not even for this analysis") || strings.Contains(says, "app-secret") {
		t.Errorf("9 of 10, as the application: %s, exit %d: %s", status, code, says)
	}
	take(1, pg.URL("stellar_escrow"))
	if status, says, code := find(super); status != "critical" || code != 2 || !strings.Contains(says, "no PostgreSQL connection is left") {
		t.Errorf("10 of 10: %s, exit %d: %s", status, code, says)
	}
}

func TestPerfDeadDatabase(t *testing.T) {
	env := []string{"ESCROWCTL_STATE_DIR=" + t.TempDir(), "DATABASE_URL=postgres://indexer:hunter2-pass@127.0.0.1:1/x"}
	inv, code := perfRun(t, testNow(), env, "analyze")
	if code != 3 || !strings.Contains(inv.out.String(), "UNKNOWN   database could not be read") || strings.Contains(inv.out.String()+inv.errs.String(), "hunter2") {
		t.Errorf("exit %d: %s%s", code, &inv.out, &inv.errs)
	}
	if _, code := perfRun(t, testNow(), env, "analyze", "--fail-on", "critical"); code != 3 {
		t.Errorf("--fail-on critical makes %d of what is unknown", code)
	}
	if _, code := perfRun(t, testNow(), env, "analyze", "--fail-on", "never"); code != 3 {
		t.Errorf("--fail-on never: exit %d", code)
	}
}

// TestPerfHangingAPI: an API that takes requests and never answers is unknown
// within seconds, and what is measured beside it is not short of time for it.
func TestPerfHangingAPI(t *testing.T) {
	t.Parallel()
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(hanging.Close)
	well := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(well.Close)
	env := []string{"ESCROWCTL_STATE_DIR=" + t.TempDir(), "API_BASE_URL=" + hanging.URL, "ESCROWCTL_PERF_SOURCES=api",
		"ESCROWCTL_PERF_URLS=" + hanging.URL + "/health," + hanging.URL + "/trades," + well.URL + "/"}
	began := time.Now()
	inv, code := perfRun(t, testNow(), env, "analyze", "--json")
	if took := time.Since(began); code != 3 || took > 40*time.Second {
		t.Errorf("exit %d after %s: %s", code, took, &inv.errs)
	}
	report := perfReport(t, inv)
	if e := report.Endpoints; len(e) != 3 || e[2].Requests != 20 || e[2].Failed != 0 || e[0].Requests != e[0].Failed || e[1].Requests != e[1].Failed {
		t.Errorf("%+v", report.Endpoints)
	}
	dead := 0
	for _, f := range report.Findings {
		if f.ID == "endpoint.dead" && f.Status == check.Unknown && f.Object != well.URL+"/" {
			dead++
		}
	}
	if dead != 2 {
		t.Errorf("%d dead: %s", dead, &inv.out)
	}
}

func TestParseAge(t *testing.T) {
	for text, want := range map[string]time.Duration{"7d": 7 * 24 * time.Hour, "12h": 12 * time.Hour, "90m": 90 * time.Minute} {
		if got, err := parseAge(text); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "7", "d", "-1h", "7days", "x7d"} {
		if got, err := parseAge(text); err == nil {
			t.Errorf("%q is taken for %s", text, fmt.Sprint(got))
		}
	}
}

// TestPerfEverySource reads a whole small platform: PostgreSQL in a container
// without a published port, Redis, an indexer and the project's containers.
func TestPerfEverySource(t *testing.T) {
	d := testenv.Docker(t)
	pg := d.Postgres(t)
	r := testenv.Redis(t)
	indexer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health/metrics" {
			fmt.Fprint(w, `{"requests_total":10,"requests_per_minute":1.5,"avg_response_ms":12,"p95_response_ms":30,"error_rate":0,"active_ws_connections":1,"events_indexed_total":5,"last_ledger_processed":null,"uptime_seconds":5}`)
		}
	}))
	t.Cleanup(indexer.Close)
	env := []string{
		"ESCROWCTL_STATE_DIR=" + t.TempDir(), "DATABASE_URL=" + pg.URL(), "COMPOSE_PROJECT_NAME=" + pg.Project, "ESCROWCTL_DUMP_VIA=auto",
		"API_BASE_URL=" + indexer.URL, "REDIS_URL=" + r.URL(), "ESCROWCTL_PERF_SOURCES=", "ESCROWCTL_PERF_REQUESTS=3",
	}
	inv, _ := perfRun(t, testNow(), env, "analyze", "--json", "--redis-keys")
	report := perfReport(t, inv)
	states := map[string]string{}
	for _, s := range report.Sources {
		states[s.Name] = s.State + s.Reason
	}
	for _, name := range []string{"database", "api", "containers", "redis", "disk"} {
		if states[name] != perf.Read {
			t.Errorf("%s: %s", name, states[name])
		}
	}
	if report.Database == nil || report.API == nil || len(report.Endpoints) != 1 || report.Endpoints[0].TTFB.P95 <= 0 || report.Redis == nil || len(report.Disks) == 0 {
		t.Errorf("%s", &inv.out)
	}
	if c := report.Containers; len(c) != 1 || c[0].Service != "postgres" || c[0].MemoryBytes == 0 {
		t.Errorf("containers %+v", c)
	}
	if strings.Contains(inv.out.String()+inv.errs.String(), r.Password) || strings.Contains(inv.out.String(), pg.Password) {
		t.Error("a password is shown")
	}
	inv, _ = perfRun(t, testNow().Add(time.Hour), env, "analyze", "--skip", "containers,disk,statements")
	for _, says := range []string{"redis", "no lookups yet, so no hit rate", "/health", "requests/min"} {
		if !strings.Contains(inv.out.String(), says) {
			t.Errorf("the report does not say %q:\n%s", says, &inv.out)
		}
	}
	if strings.Contains(inv.out.String(), "CONTAINER") {
		t.Error("a source that was skipped is shown")
	}
	if _, code := perfRun(t, testNow(), env, "analyze", "--skip", "everything"); code != 3 {
		t.Errorf("--skip everything: exit %d", code)
	}
}

// TestPerfHistory keeps two analyses, lists and compares them, and writes a page.
func TestPerfHistory(t *testing.T) {
	pg := perfServer(t)
	dir := t.TempDir()
	env := []string{"ESCROWCTL_STATE_DIR=" + dir, "DATABASE_URL=" + pg.URL("stellar_escrow")}
	if inv, code := perfRun(t, testNow(), env, "history"); code != 0 || !strings.Contains(inv.out.String(), "no analysis yet") {
		t.Errorf("exit %d: %s", code, &inv.out)
	}
	page := filepath.Join(dir, "report.html")
	perfRun(t, testNow(), env, "analyze")
	if inv, code := perfRun(t, testNow().Add(time.Hour), env, "analyze", "--html", page); code != 0 {
		t.Errorf("exit %d: %s%s", code, &inv.out, &inv.errs)
	}
	if text, err := os.ReadFile(page); err != nil || !strings.Contains(string(text), "<polyline") || !strings.Contains(string(text), "public.trades") {
		t.Errorf("the page: %v", err)
	}
	inv, code := perfRun(t, testNow(), env, "history")
	if code != 0 || strings.Count(inv.out.String(), "20260102T0") != 2 {
		t.Errorf("exit %d: %s", code, &inv.out)
	}
	inv, code = perfRun(t, testNow(), env, "compare", "20260102T030405Z", "20260102T040405Z", "--json")
	if r := perfReport(t, inv); code != 0 || r.Since == nil || r.Interval != 3600 {
		t.Errorf("exit %d: %s", code, &inv.out)
	}
	for _, args := range [][]string{{"compare", "20260102T030405Z"}, {"compare", "20260102T030405Z", "nothing"}, {"compare", "20260102T040405Z", "20260102T030405Z"}} {
		if inv, code := perfRun(t, testNow(), env, args...); code != 3 {
			t.Errorf("%v: exit %d: %s", args, code, &inv.errs)
		}
	}
	if inv, code := perfRun(t, testNow().Add(2*time.Hour), env, "analyze", "--html", filepath.Join(dir, "none", "x.html")); code != 1 || !strings.Contains(inv.errs.String(), "none/x.html") {
		t.Errorf("a page that cannot be written: exit %d: %s", code, &inv.errs)
	}
}
