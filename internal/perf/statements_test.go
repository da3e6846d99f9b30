package perf

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// TestStatements has a server of its own, since a reset is for all databases.
func TestStatements(t *testing.T) {
	t.Parallel()
	pg := statsServer(t)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *testenv.PG)
	}{
		{"regression", regression}, {"without the extension", withoutExtension}, {"old versions", oldVersions}, {"without rights", withoutRights},
		{"roles", roles}, {"quiet", quiet}, {"explain", explain}, {"resets", resets}, {"a crash", crash},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, pg) })
	}
}

// regression is a query that becomes ten times slower between two analyses,
// after a long time in which it was fast: its mean since the reset says little.
func regression(t *testing.T, pg *testenv.PG) {
	pg.CreateDB(t, "regression")
	pg.Psql(t, "regression", `CREATE EXTENSION pg_stat_statements;
		CREATE TABLE a AS SELECT 1; CREATE TABLE b AS SELECT 1; CREATE TABLE c AS SELECT 1; CREATE TABLE d AS SELECT 1`)
	worker, own := connect(t, pg.URL("regression")), connect(t, pg.URL("regression"))
	run := func(query string, n int, seconds float64) {
		for range n {
			exec(t, worker, query, seconds)
		}
	}
	const alert, milder, steady, fresh = "SELECT pg_sleep($1) FROM a", "SELECT pg_sleep($1) FROM b", "SELECT pg_sleep($1) FROM c", "SELECT pg_sleep($1) FROM d"
	run(alert, 600, 0.0005)
	run(milder, 600, 0.0005)
	run(steady, 60, 0.002)
	first := look(t, own, 0)
	run(alert, 55, 0.055)
	run(milder, 55, 0.010)
	run(steady, 60, 0.002)
	run(fresh, 51, 0.022)
	second := later(look(t, own, 0), time.Minute)
	report := Analyse(second, first, Options{Limits: freshLimits()})
	logFindings(t, report)
	id := func(query string) string {
		for _, q := range report.Queries.ByTotal {
			if q.Text == query {
				return q.ID
			}
		}
		t.Fatalf("%s is not listed", query)
		return ""
	}
	want(t, report, "query.regressed", id(alert), check.Critical, "55 calls")
	want(t, report, "query.regressed", id(milder), check.Warning)
	want(t, report, "query.new", id(fresh), check.Warning, "over 20.0 ms")
	if f := find(report, "", id(steady)); f != nil || len(report.Findings) != 3 {
		t.Errorf("a query that did not change is a finding: %+v", report.Findings)
	}
	if len(report.Queries.Regressed) != 2 || report.Findings[0].ID != "query.regressed" || report.Status != check.Critical {
		t.Errorf("regressions do not come first: %s, %s", report.Findings[0].ID, report.Status)
	}
	if text := report.Findings[0].Summary; !strings.Contains(text, "times slower") {
		t.Errorf("summary: %s", text)
	}
	// By the mean since the reset nothing would have been seen: the trap.
	for _, f := range Analyse(second, nil, Options{Limits: freshLimits()}).Findings {
		if f.Object == id(alert) || f.Object == id(milder) {
			t.Errorf("the cumulative mean shows it too, so that this test proves nothing: %s", f.Summary)
		}
	}
}

// resets are of the statements, and of the database's counters.
func resets(t *testing.T, pg *testenv.PG) {
	platform(t, pg, "resets")
	worker, own := connect(t, pg.URL("resets")), connect(t, pg.URL("resets"))
	work(t, worker, 300)
	first := look(t, own, 0)
	pg.Psql(t, "resets", "SELECT pg_stat_statements_reset(), pg_stat_reset()")
	work(t, worker, 70)
	pg.Psql(t, "resets", "VACUUM (ANALYZE)")
	second := later(look(t, own, 0), time.Hour)
	report := Analyse(second, first, Options{Limits: freshLimits()})
	logFindings(t, report)
	if len(report.Findings) > 0 {
		t.Error("a reset makes findings")
	}
	notes := strings.Join(report.Notes, "\n")
	for _, says := range []string{"pg_stat_statements was reset at", "database's statistics were reset at"} {
		if !strings.Contains(notes, says) {
			t.Errorf("no note says %q: %s", says, notes)
		}
	}
	for _, q := range report.Queries.ByCalls {
		if strings.Contains(q.Text, "trade_id") && q.Judged.Calls != 70 {
			t.Errorf("%d calls since the reset, want 70", q.Judged.Calls)
		}
	}
	defer moreThanBefore(t, pg, "resets")
	for _, table := range report.Tables {
		if table.IndexScans < 0 || table.SeqScans < 0 || table.SeqScans > 300 {
			t.Errorf("impossible figures after a reset: %+v", table)
		}
	}
}

// moreThanBefore is a reset after which more was counted than before it, so that
// no count shows it.
func moreThanBefore(t *testing.T, pg *testenv.PG, db string) {
	t.Helper()
	worker, own := connect(t, pg.URL(db)), connect(t, pg.URL(db))
	pg.Psql(t, db, "SELECT pg_stat_statements_reset(), pg_stat_reset()")
	work(t, worker, 60)
	first := look(t, own, 0)
	pg.Psql(t, db, "SELECT pg_stat_statements_reset(), pg_stat_reset()")
	pg.Psql(t, db, "VACUUM (ANALYZE)")
	work(t, worker, 200)
	second := later(look(t, own, 0), 2*time.Hour)
	report := Analyse(second, first, Options{Limits: freshLimits()})
	logFindings(t, report)
	if n, b := second.Database.Server, first.Database.Server; n.Commits < b.Commits || n.BlocksHit < b.BlocksHit {
		t.Fatalf("the counts show it: %+v, %+v", n, b)
	}
	if len(report.Notes) != 2 || len(report.Findings) > 0 {
		t.Errorf("notes %q, %d findings", report.Notes, len(report.Findings))
	}
	for _, q := range report.Queries.ByCalls {
		if strings.Contains(q.Text, "trade_id") && (q.Judged.Calls != 200 || q.Factor != nil && *q.Factor > 100) {
			t.Errorf("%d calls since the reset, want 200", q.Judged.Calls)
		}
	}
	for _, table := range report.Tables {
		if table.Name == "public.events" && table.IndexScans < 200 {
			t.Errorf("%d index scans since the reset, want 200", table.IndexScans)
		}
	}
	mean := meanOf(second.Database.Statements, first)
	if all := meanOf(second.Database.Statements, nil); mean == nil || *mean != *all {
		t.Errorf("the history's mean: %v, want %v", mean, all)
	}
}

func TestRestarted(t *testing.T) {
	before := Statement{Calls: 10, TotalMS: 100, MaxMS: 50, Rows: 5, Hit: 5, Read: 5, Temp: 5}
	more := Statement{Calls: 20, TotalMS: 200, MaxMS: 50, Rows: 6, Hit: 6, Read: 6, Temp: 6}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, change := range map[string]func(now, before *Statement){
		"calls": func(n, _ *Statement) { n.Calls = 9 }, "time": func(n, _ *Statement) { n.TotalMS = 99 }, "longest": func(n, _ *Statement) { n.MaxMS = 49 },
		"rows": func(n, _ *Statement) { n.Rows = 4 }, "blocks": func(n, _ *Statement) { n.Hit = 4 },
		"told": func(n, b *Statement) { n.Since, b.Since = at.Add(time.Hour), at },
	} {
		now, old := more, before
		change(&now, &old)
		if !now.restarted(old) {
			t.Errorf("%s: not noticed", name)
		}
	}
	told := more
	told.Since, told.MaxMS = at, 1 // the longest has a reset of its own there
	before.Since = at
	if told.restarted(before) || more.restarted(before) || more.restarted(Statement{}) {
		t.Error("noticed, though it goes on")
	}
}

// crash loses all counters, and of the database's the server does not say so.
func crash(t *testing.T, pg *testenv.PG) {
	platform(t, pg, "crash")
	work(t, connect(t, pg.URL("crash")), 20)
	first := look(t, connect(t, pg.URL("crash")), 0)
	pg.Kill(t)
	pg.Start(t)
	work(t, connect(t, pg.URL("crash")), 400)
	second := later(look(t, connect(t, pg.URL("crash")), 0), time.Hour)
	n, b := second.Database, first.Database
	b.Server.Commits, b.Server.BlocksHit, b.Server.BlocksRead = 1, 1, 1 // whatever was counted before
	if !(&analysis{}).countersReset(n, b) || !n.Server.StatsReset.Equal(b.Server.StatsReset) {
		t.Errorf("the crash is not noticed: %+v, %+v", n.Server, b.Server)
	}
	pg.Stop(t)
	pg.Start(t)
	third := later(look(t, connect(t, pg.URL("crash")), 0), 2*time.Hour)
	if (&analysis{}).countersReset(third.Database, n) {
		t.Error("an orderly restart is taken for a reset")
	}
}

// roles leaves out the statements of roles that have nothing in this database,
// and says so.
func roles(t *testing.T, pg *testenv.PG) {
	platform(t, pg, "roles")
	pg.Psql(t, "roles", `CREATE ROLE exporter LOGIN PASSWORD 'p' IN ROLE pg_monitor; CREATE ROLE app_group; CREATE ROLE app LOGIN PASSWORD 'p' IN ROLE app_group;
		CREATE ROLE clerk LOGIN PASSWORD 'p'; CREATE ROLE grafana LOGIN PASSWORD 'p' IN ROLE pg_read_all_data; CREATE ROLE leaver LOGIN PASSWORD 'p';
		GRANT SELECT ON trades TO app_group; GRANT UPDATE (status) ON trades TO clerk;
		CREATE TABLE other (n int); CREATE DATABASE elsewhere;`)
	for _, role := range []string{"exporter", "app", "clerk", "grafana", "leaver", pg.User} {
		password := "p"
		if role == pg.User {
			password = pg.Password
		}
		conn := connect(t, pg.URLAs(role, password, "roles"))
		for range 51 {
			exec(t, conn, "SELECT pg_sleep($1)", 0.0205)
		}
		conn.Close(t.Context())
	}
	conn := connect(t, pg.URL("elsewhere"))
	exec(t, conn, "SELECT 1 AS elsewhere")
	pg.Psql(t, "roles", "DROP ROLE leaver")
	snap := look(t, connect(t, pg.URL("roles")), 0)
	report := Analyse(snap, nil, Options{Limits: freshLimits(), Top: 100})
	var got []string
	for _, q := range report.Queries.ByMean {
		if strings.Contains(q.Text, "pg_sleep") {
			got = append(got, q.User)
		}
		if strings.Contains(q.Text, "elsewhere") {
			t.Error("a statement of another database")
		}
	}
	slices.Sort(got)
	if want := []string{"app", "clerk", "grafana", pg.User}; !slices.Equal(got, want) {
		t.Errorf("judged are the statements of %q, want %q", got, want)
	}
	out := report.Queries.Outsiders
	if len(out) != 2 || out[0].Name != "" || out[1].Name != "exporter" || out[1].Statements != 1 || out[1].Total < 1 {
		t.Errorf("left out: %+v", out)
	}
	for _, f := range report.Findings {
		if f.ID != "query.slow" {
			t.Errorf("%s: %s", f.ID, f.Summary)
		}
	}
	// Where everybody may read a table, everybody belongs to it.
	pg.Psql(t, "roles", "GRANT SELECT ON other TO PUBLIC")
	if out := look(t, connect(t, pg.URL("roles")), 0).Database.Statements.Outsiders; len(out) != 1 || out[0].Name != "" {
		t.Errorf("left out: %+v", out)
	}
}

// quiet is a database of which nobody has asked anything: after a crash, say. That
// is nothing unknown.
func quiet(t *testing.T, pg *testenv.PG) {
	pg.CreateDB(t, "quiet")
	pg.Psql(t, "quiet", "CREATE EXTENSION pg_stat_statements; CREATE TABLE trades (n int)")
	for _, s := range look(t, connect(t, pg.URL("quiet")), 0).Sources {
		if s.State != Read {
			t.Errorf("%s is %s: %s", s.Name, s.State, s.Reason)
		}
	}
}

func withoutExtension(t *testing.T, pg *testenv.PG) {
	pg.CreateDB(t, "none")
	snap := look(t, connect(t, pg.URL("none")), 0)
	report := Analyse(snap, nil, Options{Limits: freshLimits()})
	want(t, report, "source.statements", "", check.Unknown, "loaded but not created", "--enable-statements")
	if snap.Database == nil || report.Database == nil || report.Queries != nil || len(report.Findings) != 1 {
		t.Errorf("the rest does not go on: %+v", report.Findings)
	}
}

// oldVersions have other columns: before 1.8 total_time, before 1.9 no top
// level and no time of the reset.
func oldVersions(t *testing.T, pg *testenv.PG) {
	for _, version := range []string{"1.4", "1.7", "1.9"} {
		db := "old" + strings.ReplaceAll(version, ".", "_")
		pg.CreateDB(t, db)
		pg.Psql(t, db, fmt.Sprintf("CREATE SCHEMA \"Stat's\"; CREATE EXTENSION pg_stat_statements SCHEMA \"Stat's\" VERSION '%s'", version))
		worker, own := connect(t, pg.URL(db)), connect(t, pg.URL(db))
		for range 51 {
			exec(t, worker, "SELECT pg_sleep($1)", 0.0205)
		}
		snap := look(t, own, 0)
		report := Analyse(snap, nil, Options{Limits: freshLimits()})
		if snap.Database.Statements == nil || snap.Database.Statements.Version != version {
			t.Fatalf("version %s: %+v", version, snap.Sources)
		}
		want(t, report, "query.slow", "", check.Warning, "pg_sleep", "51 calls")
		if len(report.Findings) != 1 {
			t.Errorf("version %s: %d findings", version, len(report.Findings))
			logFindings(t, report)
		}
		for range 5 {
			exec(t, worker, "SELECT pg_sleep($1)", 0.001)
		}
		again := Analyse(later(look(t, own, 0), time.Minute), snap, Options{Limits: freshLimits()})
		if q := again.Queries.ByTotal[0]; q.Judged.Calls != 5 || q.Total.Calls != 56 {
			t.Errorf("version %s: %d calls since, %d in total", version, q.Judged.Calls, q.Total.Calls)
		}
		// After a reset there are more calls than before it, but they took less.
		exec(t, connect(t, pg.URL(db)), `SELECT "Stat's".pg_stat_statements_reset()`)
		for range 60 {
			exec(t, worker, "SELECT pg_sleep($1)", 0.001)
		}
		reset := Analyse(later(look(t, own, 0), time.Hour), snap, Options{Limits: freshLimits()})
		if q := reset.Queries.ByTotal[0]; q.Judged.Calls != 60 || len(reset.Notes) != 1 || !strings.Contains(reset.Notes[0], "reset") {
			t.Errorf("version %s: %d calls since the reset; notes %q", version, q.Judged.Calls, reset.Notes)
		}
	}
}

// withoutRights is a role that may read a table and no statistics of others.
func withoutRights(t *testing.T, pg *testenv.PG) {
	platform(t, pg, "rights")
	pg.Psql(t, "rights", `CREATE ROLE reader LOGIN PASSWORD 'reader'; GRANT SELECT ON trades TO reader; CREATE ROLE "Mon-itor" LOGIN PASSWORD 'm' IN ROLE pg_monitor`)
	work(t, connect(t, pg.URL("rights")), 60)
	reader := connect(t, pg.URLAs("reader", "reader", "rights"))
	for range 60 {
		exec(t, reader, "SELECT pg_sleep($1)", 0.021)
	}
	report := Analyse(look(t, reader, 0), nil, Options{Limits: freshLimits()})
	logFindings(t, report)
	want(t, report, "source.statements", "", check.Unknown, "hidden from reader", "GRANT pg_monitor TO reader;")
	want(t, report, "source.database", "", check.Unknown, "reader", "GRANT pg_monitor TO reader;")
	want(t, report, "query.slow", "", check.Warning, "pg_sleep")
	if report.Status != check.Unknown || len(report.Tables) != 2 {
		t.Errorf("status %s, %d tables", report.Status, len(report.Tables))
	}
	// With pg_monitor nothing is missing.
	monitor := Analyse(look(t, connect(t, pg.URLAs("Mon-itor", "m", "rights")), 0), nil, Options{Limits: freshLimits()})
	for _, f := range monitor.Findings {
		if f.Status == check.Unknown {
			t.Errorf("with pg_monitor: %s", f.Summary)
		}
	}
}

// TestWithoutLibrary is a server that does not load the extension at all.
func TestWithoutLibrary(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, testenv.PGSetting("autovacuum", "off"), testenv.PGSetting("shared_buffers", "64MB"), testenv.PGSetting("work_mem", "64MB"))
	pg.CreateDB(t, "bare")
	own := connect(t, pg.URL("bare"))
	report := Analyse(look(t, own, 100<<20), nil, Options{Limits: freshLimits()})
	want(t, report, "source.statements", "", check.Unknown, "shared_preload_libraries", "restart")
	for _, id := range []string{"setting.fsync", "setting.full_page_writes", "setting.autovacuum"} {
		want(t, report, id, "", check.Critical)
	}
	want(t, report, "setting.shared_buffers", "", check.Warning, "64.0 MiB")
	want(t, report, "setting.effective_cache_size", "", check.Warning, "4.0 GiB")
	pg.Psql(t, "bare", "CREATE EXTENSION pg_stat_statements")
	want(t, Analyse(look(t, own, 1<<30), nil, Options{Limits: freshLimits()}), "source.statements", "", check.Unknown, "not loaded")
}
