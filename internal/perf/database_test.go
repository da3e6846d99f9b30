package perf

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/postgres"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// TestDatabase shares one server: each part has a database of its own.
func TestDatabase(t *testing.T) {
	t.Parallel()
	pg := statsServer(t)
	for name, part := range map[string]func(*testing.T, *testenv.PG, string){
		"healthy": healthy, "indexes": indexFaults, "tables": tableFaults, "sessions": sessionFaults,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			platform(t, pg, name)
			part(t, pg, name)
		})
	}
}

// healthy is a database with nothing wrong: no finding on the first analysis,
// and none on the second.
func healthy(t *testing.T, pg *testenv.PG, db string) {
	worker, own := connect(t, pg.URL(db)), connect(t, pg.URL(db))
	work(t, worker, 400)
	exec(t, worker, "VACUUM (ANALYZE) trades")
	first := look(t, own, 16<<30)
	report := Analyse(first, nil, Options{Limits: freshLimits()})
	if len(report.Findings) > 0 || report.Status != check.OK {
		t.Error("findings on a healthy database")
		logFindings(t, report)
	}
	work(t, worker, 400)
	exec(t, worker, "VACUUM (ANALYZE) trades")
	second := later(look(t, own, 16<<30), time.Minute)
	report = Analyse(second, first, Options{Limits: freshLimits()})
	if len(report.Findings) > 0 || report.Status != check.OK {
		t.Error("findings on a healthy database, at the second look")
		logFindings(t, report)
	}
	q := report.Queries
	if q == nil || !q.Compared || len(q.ByMean) == 0 {
		t.Fatalf("no queries compared: %+v", q)
	}
	for _, row := range q.ByCalls {
		if strings.Contains(row.Text, "trade_id") && (row.Judged.Calls != 400 || row.Total.Calls != 800) {
			t.Errorf("%d calls since, %d in total, want 400 and 800: %s", row.Judged.Calls, row.Total.Calls, row.Text)
		}
		if strings.Contains(row.Text, "pg_catalog") || strings.Contains(row.Text, "json_agg") || strings.Contains(strings.ToUpper(row.Text), "VACUUM") {
			t.Errorf("utility statements or our own are listed: %s", row.Text)
		}
	}
	// Nothing was written, and nothing could have been.
	if _, err := postgres.NewReadOnly(own).JSON(t.Context(), "WITH x AS (DELETE FROM trades RETURNING 1) SELECT to_json(count(*)) FROM x"); sqlState(err) != "25006" {
		t.Errorf("a session of the analysis can write: %v", err)
	}
}

func indexFaults(t *testing.T, pg *testenv.PG, db string) {
	worker, own := connect(t, pg.URL(db)), connect(t, pg.URL(db))
	pg.Psql(t, db, `DROP INDEX events_trade;
		CREATE INDEX events_unused ON events (kind, payload);
		CREATE INDEX trades_seller_again ON trades (seller);
		CREATE INDEX trades_seller_status ON trades (seller, status);
		CREATE TABLE small (id int PRIMARY KEY, other int REFERENCES small);
		INSERT INTO small SELECT g, g FROM generate_series(1, 10) g;
		CREATE TABLE twice (a int); INSERT INTO twice SELECT 1 FROM generate_series(1, 5000);`)
	// An invalid index, as a failed concurrent build leaves it.
	if _, err := worker.Exec(t.Context(), "CREATE UNIQUE INDEX CONCURRENTLY twice_broken ON twice (a)"); err == nil {
		t.Fatal("the index should have failed")
	}
	work(t, worker, 120)
	for range 200 {
		exec(t, worker, "SELECT * FROM small WHERE other = $1", 3)
	}
	flush(t, worker)
	report := Analyse(look(t, own, 0), nil, Options{Limits: freshLimits()})
	logFindings(t, report)
	const create = "CREATE INDEX CONCURRENTLY ON public.events (trade_id);"
	want(t, report, "table.sequential", "events", check.Warning, create, "trade_id = $1")
	want(t, report, "index.foreign_key", "events", check.Warning, create)
	want(t, report, "index.unused", "events_unused", check.Warning, "DROP INDEX CONCURRENTLY public.events_unused;")
	want(t, report, "index.duplicate", "trades_seller_again", check.Warning, "public.trades_seller")
	want(t, report, "index.overlapping", "trades_seller", check.Warning, "trades_seller_status")
	want(t, report, "index.invalid", "twice_broken", check.Warning)
	if f := find(report, "table.sequential", "small"); f != nil {
		t.Errorf("an index for a table of ten rows: %s", f.Summary)
	}
	if report.Status != check.Warning {
		t.Errorf("status %s, want warning", report.Status)
	}
}

func tableFaults(t *testing.T, pg *testenv.PG, db string) {
	own := connect(t, pg.URL(db))
	pg.Psql(t, db, `CREATE TABLE swollen (id int PRIMARY KEY, filling text);
		INSERT INTO swollen SELECT g, repeat('x', 300) FROM generate_series(1, 100000) g;
		DELETE FROM swollen WHERE id % 4 <> 0;
		SELECT pg_stat_force_next_flush();
		VACUUM (ANALYZE) swollen;
		CREATE TABLE neglected (id int PRIMARY KEY, n int) WITH (autovacuum_enabled = off);
		INSERT INTO neglected SELECT g, 0 FROM generate_series(1, 30000) g;
		SELECT pg_stat_force_next_flush();
		ANALYZE neglected;
		UPDATE neglected SET n = 1;
		SELECT pg_stat_force_next_flush();`)
	report := Analyse(look(t, own, 0), nil, Options{Limits: freshLimits()})
	logFindings(t, report)
	want(t, report, "table.bloat", "swollen", check.Warning, "MiB")
	want(t, report, "table.dead_rows", "neglected", check.Warning, "30000 dead rows", "last vacuum: never", "switched off")
	for _, f := range report.Findings {
		if strings.Contains(f.Object, "trades") || strings.Contains(f.Object, "events") {
			t.Errorf("a finding on a healthy table: %s", f.Summary)
		}
	}
	limits := freshLimits()
	limits.BloatCriticalBytes = 10 << 20
	want(t, Analyse(look(t, own, 0), nil, Options{Limits: limits}), "table.bloat", "swollen", check.Critical)
}

func sessionFaults(t *testing.T, pg *testenv.PG, db string) {
	idler, waiter, second, own := connect(t, pg.URL(db)), connect(t, pg.URL(db)), connect(t, pg.URL(db)), connect(t, pg.URL(db))
	exec(t, idler, "BEGIN")
	exec(t, idler, "LOCK TABLE trades IN ACCESS EXCLUSIVE MODE")
	ctx, cancel := context.WithCancel(t.Context())
	for _, conn := range []*pgx.Conn{waiter, second} {
		go conn.Exec(ctx, "SELECT 'a secret' FROM trades")
	}
	t.Cleanup(cancel)
	deadline := time.Now().Add(20 * time.Second)
	for pg.Psql(t, db, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '"+db+"'") != "2" {
		if time.Now().After(deadline) {
			t.Fatal("no lock queue")
		}
		time.Sleep(20 * time.Millisecond)
	}
	time.Sleep(1100 * time.Millisecond)
	limits := freshLimits()
	limits.IdleWarning, limits.LockWarning = time.Second, time.Second
	snap := look(t, own, 0)
	report := Analyse(snap, nil, Options{Limits: limits})
	logFindings(t, report)
	want(t, report, "session.idle_in_transaction", "pid", check.Warning, "2 sessions wait for it", "pg_terminate_backend")
	want(t, report, "session.lock_wait", "pid", check.Warning, "behind", "SELECT ? FROM trades")
	if snap.Sources[0].State != Read {
		t.Errorf("a locked table stopped the analysis: %+v", snap.Sources[0])
	}
	for _, table := range snap.Database.Tables {
		if table.Name == "trades" && (!table.Estimated || table.HeapBytes == 0) {
			t.Errorf("the locked table: %+v", table)
		}
	}
	limits.IdleCritical, limits.LockCritical = time.Second, time.Second
	report = Analyse(snap, nil, Options{Limits: limits})
	want(t, report, "session.idle_in_transaction", "pid", check.Critical)
	want(t, report, "session.lock_wait", "pid", check.Critical)
	if report := Analyse(snap, nil, Options{Limits: freshLimits()}); find(report, "session.lock_wait", "") != nil {
		t.Error("a wait of a second is a finding by default")
	}
}
