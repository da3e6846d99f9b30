package cli

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// maintainServer has a table full of dead rows, one never analyzed, and an
// invalid index.
func maintainServer(t *testing.T) *testenv.PG {
	t.Helper()
	pg := testenv.Postgres(t, testenv.PGSetting("shared_preload_libraries", "pg_stat_statements"), testenv.PGSetting("autovacuum_naptime", "3600"))
	pg.CreateDB(t, "stellar_escrow")
	pg.Psql(t, "stellar_escrow", `CREATE TABLE dead (id int PRIMARY KEY, n int); INSERT INTO dead SELECT g, 0 FROM generate_series(1, 20000) g;
		CREATE TABLE fresh (id int); INSERT INTO fresh SELECT 1 FROM generate_series(1, 5000);
		CREATE TABLE clean (id int); INSERT INTO clean SELECT g FROM generate_series(1, 100) g;
		SELECT pg_stat_force_next_flush(); ANALYZE dead; ANALYZE clean;
		UPDATE dead SET n = 1; SELECT pg_stat_force_next_flush();
		CREATE ROLE stranger LOGIN PASSWORD 'stranger' IN ROLE pg_monitor;`)
	conn, err := pgx.Connect(t.Context(), pg.URL("stellar_escrow"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "CREATE UNIQUE INDEX CONCURRENTLY broken ON fresh (id)"); err == nil {
		t.Fatal("the index should have failed")
	}
	return pg
}

type maintained struct {
	Tasks []struct {
		Kind, Object, Status, Problem, SQL string
		DeadRowsBefore                     int64 `json:"dead_rows_before"`
		DeadRowsAfter                      int64 `json:"dead_rows_after"`
	}
}

func maintain(t *testing.T, env []string, args ...string) (maintained, int, *invocation) {
	t.Helper()
	inv, code := perfRun(t, time.Now(), env, append([]string{"maintain", "--json"}, args...)...)
	var m maintained
	if err := json.Unmarshal(inv.out.Bytes(), &m); err != nil {
		t.Fatalf("%v: %s%s", err, &inv.out, &inv.errs)
	}
	return m, code, inv
}

// journalOf is each of the journal's lines about maintenance: its outcome, and
// the beginning of its summary; the newest first.
func journalOf(t *testing.T, env []string) []string {
	t.Helper()
	inv := invoke(t, env...)
	if code := inv.Run(t.Context(), []string{"changes", "list", "--json"}); code != 0 {
		t.Fatalf("exit %d: %s", code, &inv.errs)
	}
	var doc struct {
		Changes []struct{ Command, Summary, Outcome, By string }
	}
	if err := json.Unmarshal(inv.out.Bytes(), &doc); err != nil {
		t.Fatalf("%v: %s", err, &inv.out)
	}
	var out []string
	for _, c := range doc.Changes {
		if c.Command != "perf maintain" || c.By == "" {
			t.Errorf("another entry: %+v", c)
		}
		summary, _, _ := strings.Cut(c.Summary, ",")
		out = append(out, c.Outcome+": "+summary)
	}
	return out
}

func TestPerfMaintain(t *testing.T) {
	pg := maintainServer(t)
	env := []string{"ESCROWCTL_STATE_DIR=" + t.TempDir(), "DATABASE_URL=" + pg.URL("stellar_escrow")}

	// The plan, and that it changes nothing.
	plan, code, _ := maintain(t, env, "--dry-run", "--reindex")
	if code != 0 || len(plan.Tasks) != 3 || plan.Tasks[0].SQL != "VACUUM (ANALYZE) public.dead" || plan.Tasks[1].SQL != "ANALYZE public.fresh" || plan.Tasks[2].SQL != "REINDEX INDEX CONCURRENTLY public.broken" {
		t.Errorf("exit %d, plan %+v", code, plan)
	}
	if n := pg.Psql(t, "stellar_escrow", "SELECT count(*) FROM pg_stat_user_tables WHERE last_vacuum IS NOT NULL"); n != "0" {
		t.Errorf("a dry run vacuumed %s tables", n)
	}

	// A role without the right: VACUUM itself only warns and says it is done.
	stranger := []string{"ESCROWCTL_STATE_DIR=" + t.TempDir(), "DATABASE_URL=" + pg.URLAs("stranger", "stranger", "stellar_escrow")}
	done, code, _ := maintain(t, stranger)
	if code != 2 || done.Tasks[0].Status != "critical" || !strings.Contains(done.Tasks[0].Problem, "the server skipped it") {
		t.Errorf("without the right: exit %d, %+v", code, done.Tasks)
	}

	// Somebody holds the table: it is left alone, the others are done.
	holder, err := pgx.Connect(t.Context(), pg.URL("stellar_escrow"))
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(context.Background())
	if _, err := holder.Exec(t.Context(), "BEGIN; LOCK TABLE dead IN SHARE UPDATE EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	done, code, _ = maintain(t, env, "--lock-timeout", "200ms")
	if code != 1 || done.Tasks[0].Status != "warning" || !strings.Contains(done.Tasks[0].Problem, "left alone") || done.Tasks[1].Status != "ok" {
		t.Errorf("with a lock: exit %d, %+v", code, done.Tasks)
	}
	holder.Exec(t.Context(), "ROLLBACK")

	// An old snapshot keeps the dead rows: done, but not clean.
	if _, err := holder.Exec(t.Context(), "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM clean"); err != nil {
		t.Fatal(err)
	}
	pg.Psql(t, "stellar_escrow", "UPDATE dead SET n = 2; SELECT pg_stat_force_next_flush()")
	done, code, _ = maintain(t, env)
	if code != 1 || done.Tasks[0].Status != "warning" || !strings.Contains(done.Tasks[0].Problem, "dead rows are left") {
		t.Errorf("with an old snapshot: exit %d, %+v", code, done.Tasks)
	}
	holder.Exec(t.Context(), "ROLLBACK")

	inv, code := perfRun(t, time.Now(), env, "maintain")
	if code != 0 || !strings.Contains(inv.out.String(), "public.dead") || !strings.Contains(inv.out.String(), " > 0") || !strings.Contains(inv.errs.String(), "ok: 1 of 1 done") {
		t.Errorf("exit %d: %s%s", code, &inv.out, &inv.errs)
	}
	if n := pg.Psql(t, "stellar_escrow", "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'dead'"); n != "0" {
		t.Errorf("%s dead rows are left", n)
	}
	inv, code = perfRun(t, time.Now(), env, "maintain")
	if code != 0 || !strings.Contains(inv.out.String(), "nothing needs maintenance") {
		t.Errorf("exit %d: %s%s", code, &inv.out, &inv.errs)
	}
	// Each run that did something is in the journal, and what it came to.
	changes, code := perfRun(t, time.Now(), env, "maintain", "--dry-run")
	if code != 0 {
		t.Errorf("exit %d: %s", code, &changes.errs)
	}
	if got := journalOf(t, env); len(got) != 3 || got[0] != "ok: 1 of 1 done" || got[2] != "ok: 1 of 2 done" {
		t.Errorf("the journal has %q", got)
	}
	if got := journalOf(t, stranger); len(got) != 1 || !strings.HasPrefix(got[0], "failed: 0 of 2 done") {
		t.Errorf("the journal has %q", got)
	}
	done, code, _ = maintain(t, env, "--all")
	if code != 0 || len(done.Tasks) != 3 {
		t.Errorf("--all: exit %d, %+v", code, done.Tasks)
	}
	done, code, _ = maintain(t, env, "--all", "--within", "1ns")
	if code != 1 || len(done.Tasks) != 3 || !strings.Contains(done.Tasks[0].Problem, "the time is over") {
		t.Errorf("--within: exit %d, %+v", code, done.Tasks)
	}
}

func TestPerfReindex(t *testing.T) {
	pg := maintainServer(t)
	env := []string{"ESCROWCTL_STATE_DIR=" + t.TempDir(), "DATABASE_URL=" + pg.URL("stellar_escrow")}
	// The duplicates are there still: it must fail, and leave nothing behind.
	done, code, _ := maintain(t, env, "--reindex")
	last := done.Tasks[len(done.Tasks)-1]
	if code != 2 || last.Kind != "reindex" || last.Status != "critical" {
		t.Errorf("exit %d, %+v", code, done.Tasks)
	}
	const indexes = "SELECT string_agg(relname || ' ' || indisvalid, ',') FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indrelid = 'fresh'::regclass"
	if got := pg.Psql(t, "stellar_escrow", indexes); got != "broken false" {
		t.Errorf("after a rebuild that failed: %s", got)
	}
	pg.Psql(t, "stellar_escrow", "DELETE FROM fresh WHERE ctid <> (SELECT min(ctid) FROM fresh)")
	done, code, _ = maintain(t, env, "--reindex")
	if code != 0 || done.Tasks[len(done.Tasks)-1].Status != "ok" {
		t.Errorf("exit %d, %+v", code, done.Tasks)
	}
	if got := pg.Psql(t, "stellar_escrow", indexes); got != "broken true" {
		t.Errorf("after the rebuild: %s", got)
	}
}

func TestPerfEnableStatements(t *testing.T) {
	pg := maintainServer(t)
	env := []string{"ESCROWCTL_STATE_DIR=" + t.TempDir(), "DATABASE_URL=" + pg.URL("stellar_escrow")}
	const there = "SELECT count(*) FROM pg_extension WHERE extname = 'pg_stat_statements'"
	inv, code := perfRun(t, time.Now(), env, "maintain", "--enable-statements", "--dry-run")
	if code != 0 || !strings.Contains(inv.out.String(), "CREATE EXTENSION") || pg.Psql(t, "stellar_escrow", there) != "0" {
		t.Errorf("dry: exit %d: %s%s", code, &inv.out, &inv.errs)
	}
	stranger := []string{"ESCROWCTL_STATE_DIR=" + t.TempDir(), "DATABASE_URL=" + pg.URLAs("stranger", "stranger", "stellar_escrow")}
	if inv, code := perfRun(t, time.Now(), stranger, "maintain", "--enable-statements"); code != 2 || !strings.Contains(inv.errs.String(), "let a superuser run") {
		t.Errorf("without the right: exit %d: %s", code, &inv.errs)
	}
	for _, says := range []string{"is created, and counts", "is there already"} {
		if inv, code := perfRun(t, time.Now(), env, "maintain", "--enable-statements"); code != 0 || !strings.Contains(inv.out.String(), says) {
			t.Errorf("exit %d: %s%s", code, &inv.out, &inv.errs)
		}
	}
	if got := journalOf(t, env); len(got) != 1 || !strings.HasPrefix(got[0], "ok: pg_stat_statements") {
		t.Errorf("the journal has %q", got)
	}
	bare := testenv.Postgres(t)
	env[1] = "DATABASE_URL=" + bare.URL("postgres")
	if inv, code := perfRun(t, time.Now(), env, "maintain", "--enable-statements"); code != 2 || !strings.Contains(inv.errs.String(), "shared_preload_libraries") {
		t.Errorf("without the library: exit %d: %s", code, &inv.errs)
	}
}
