package perf

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/stellarescrow/escrowctl/internal/postgres"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// explained analyses a database with plans, and returns them by a part of their
// statement's text.
func explained(t *testing.T, conn *pgx.Conn) func(part string) Plan {
	t.Helper()
	report := Analyse(look(t, conn, 0), nil, Options{Limits: freshLimits(), Top: 50})
	if err := Explain(t.Context(), postgres.NewReadOnly(conn), report, time.Now); err != nil {
		t.Fatal(err)
	}
	return func(part string) Plan {
		for _, p := range report.Plans {
			if strings.Contains(p.Text, part) {
				return p
			}
		}
		t.Fatalf("no plan of %q in %d", part, len(report.Plans))
		return Plan{}
	}
}

// explain shows plans of what a server has recorded, and that nothing of it is
// run: neither a write nor a sleep nor a function that the planner calls.
func explain(t *testing.T, pg *testenv.PG) {
	platform(t, pg, "explain")
	worker, session := connect(t, pg.URL("explain")), connect(t, pg.URL("explain"))
	own := postgres.NewReadOnly(session)
	pg.Psql(t, "explain", `CREATE TABLE touched (n int); CREATE TABLE lost (id int);
		CREATE VIEW disputed AS SELECT * FROM trades WHERE status = 'disputed';
		CREATE FUNCTION touch(int) RETURNS int LANGUAGE sql VOLATILE AS 'INSERT INTO touched VALUES ($1) RETURNING n';
		CREATE FUNCTION sly() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN PERFORM touch(1); RETURN 1; END';
		CREATE TABLE parts (id int, kind int) PARTITION BY LIST (kind);
		CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1); CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2);`)
	exec(t, worker, "SELECT * FROM trades WHERE id = $1", 1)
	exec(t, worker, "SELECT * FROM trades WHERE status = 'hidden-text' AND id = 5")
	exec(t, worker, "SELECT count(*) FROM disputed")
	exec(t, worker, "UPDATE trades SET status = $1 WHERE id = $2", "x", 1)
	exec(t, worker, "DELETE FROM events WHERE created_at < now() - interval '100 years'")
	exec(t, worker, "WITH gone AS (DELETE FROM touched RETURNING 1) SELECT count(*) FROM gone")
	exec(t, worker, "SELECT touch($1)", 7)
	exec(t, worker, "SELECT pg_sleep($1), 'asleep' FROM trades LIMIT 1", 0.01)
	exec(t, worker, "SELECT n FROM generate_series(1, 3) n")
	exec(t, worker, "SELECT * FROM lost WHERE id = 1")
	exec(t, worker, "SELECT * FROM parts WHERE kind = $1", 2)
	if _, err := worker.Exec(t.Context(), "SELECT count(*) FROM trades WHERE id = sly()"); err != nil {
		t.Logf("sly: %v", err) // STABLE may not write: the record of it is what matters
	}
	pg.Psql(t, "explain", "DROP TABLE lost")
	before := pg.Psql(t, "explain", "SELECT (SELECT count(*) FROM touched), (SELECT count(*) FROM events), (SELECT sum(calls) FROM pg_stat_statements WHERE query LIKE '%touch($1)%')")
	start := time.Now()
	plan := explained(t, session)
	if took := time.Since(start); took > time.Minute {
		t.Errorf("it took %s", took)
	}
	for part, says := range map[string]string{
		"FROM trades WHERE id = $1": "Index Scan using trades_pkey", "status = $1 AND id": "Index Scan using trades_pkey",
		"FROM disputed": "Seq Scan on trades", "UPDATE trades SET": "Update on trades", "DELETE FROM events": "Delete on events",
		"WITH gone AS": "Delete on touched", "touch(": "Result", "pg_sleep(": "Limit", "FROM parts": "Seq Scan on parts_2",
	} {
		p := plan(part)
		if text := strings.Join(p.Lines, "\n"); !strings.Contains(text, says) || !strings.Contains(text, "cost=") || strings.Contains(text, "actual") {
			t.Errorf("%s: %q, missing %q", p.Text, text, p.Missing)
		}
	}
	// The partitions are all there, since the value is not known.
	if text := strings.Join(plan("FROM parts").Lines, "\n"); !strings.Contains(text, "parts_1") || strings.Contains(text, "Removed") {
		t.Errorf("partitions: %s", text)
	}
	if text := strings.Join(plan("FROM disputed").Lines, "\n"); strings.Contains(text, "'disputed'") || !strings.Contains(text, "status = ?") {
		t.Errorf("a text stands in a plan: %s", text)
	}
	if p := plan("FROM lost"); len(p.Lines) > 0 || !strings.Contains(p.Missing, `relation "lost" does not exist`) {
		t.Errorf("of a table that is gone: %+v", p)
	}
	if p := plan("generate_series"); !strings.Contains(p.Missing, "does not say what its parameters are") {
		t.Errorf("of parameters that could be anything: %+v", p)
	}
	after := pg.Psql(t, "explain", "SELECT (SELECT count(*) FROM touched), (SELECT count(*) FROM events), (SELECT sum(calls) FROM pg_stat_statements WHERE query LIKE '%touch($1)%')")
	if before != after {
		t.Errorf("a statement was run: %s, then %s", before, after)
	}
	// What a text brings along, the server refuses, and the session stays read only.
	for _, sql := range []string{"EXPLAIN SELECT 1; DROP TABLE touched", "EXPLAIN SELECT 1; COMMIT; DROP TABLE touched"} {
		if _, err := own.Rows(t.Context(), sql); sqlState(err) != "42601" {
			t.Errorf("%s: %v", sql, err)
		}
	}
	if _, err := own.Rows(t.Context(), "EXPLAIN ANALYZE SELECT touch(8)"); sqlState(err) != "25006" {
		t.Errorf("a statement that writes: %v", err)
	}
	// A role without rights on a table is told so.
	pg.Psql(t, "explain", "CREATE ROLE blind LOGIN PASSWORD 'blind' IN ROLE pg_monitor")
	plan = explained(t, connect(t, pg.URLAs("blind", "blind", "explain")))
	if p := plan("FROM trades WHERE id = $1"); !strings.Contains(p.Missing, "permission denied") || !strings.Contains(p.Missing, "more rights") {
		t.Errorf("without rights: %+v", p)
	}
}

func TestExplaining(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string
		reason     string
	}{
		{"without parameters", "SELECT 1", []string{"EXPLAIN SELECT 1"}, ""},
		{"parameters", "SELECT $2, $1 /*+ hint */", []string{
			"SET LOCAL plan_cache_mode = force_generic_plan", "SET LOCAL enable_partition_pruning = off",
			"PREPARE escrowctl_3 AS SELECT $2, $1 /*+ hint */", "EXPLAIN EXECUTE escrowctl_3(NULL, NULL)",
		}, ""},
		{"a literal's type", "SELECT now() - interval $1, t.date, \"Date\" FROM t", []string{
			"SET LOCAL plan_cache_mode = force_generic_plan", "SET LOCAL enable_partition_pruning = off",
			"PREPARE escrowctl_3 AS SELECT\nnow()\n-\nCAST($1 AS interval),\nt.date,\n\"Date\"\nFROM\nt", "EXPLAIN EXECUTE escrowctl_3(NULL)",
		}, ""},
		{"two statements", "SELECT 1; DROP TABLE x", nil, "more than one statement"},
		{"a utility statement", "VACUUM", nil, "utility statement"},
		{"hidden", "<insufficient privilege>", nil, "hidden"},
		{"forgotten", "", nil, "any more"},
		{"a semicolon in a text", "SELECT ';'", []string{"EXPLAIN SELECT ';'"}, ""},
		{"too many", "SELECT $99999999", nil, "too many"},
	} {
		got, reason := explaining(tt.text, 3)
		if diff := cmp.Diff(tt.want, got); diff != "" || (reason == "") != (tt.reason == "") || !strings.Contains(reason, tt.reason) {
			t.Errorf("%s: %s, reason %q", tt.name, diff, reason)
		}
	}
	for plan, want := range map[string]string{
		`Filter: (("O'Neill" = 'a''b; c'::text) AND (x = 'd` + "\n" + `e'::text))`: `Filter: (("O'Neill" = ?::text) AND (x = ?::text))`,
		`Index Cond: (id = $1)`: `Index Cond: (id = $1)`,
	} {
		if got := hideTexts(plan); got != want {
			t.Errorf("%s becomes %s", plan, got)
		}
	}
}
