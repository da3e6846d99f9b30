package perf

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/postgres"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// statsServer is a server with settings that are as they should be.
func statsServer(t *testing.T, opts ...testenv.PGOption) *testenv.PG {
	t.Helper()
	return testenv.Postgres(t, append([]testenv.PGOption{
		testenv.PGSetting("shared_preload_libraries", "pg_stat_statements"),
		testenv.PGSetting("fsync", "on"), testenv.PGSetting("full_page_writes", "on"), testenv.PGSetting("synchronous_commit", "off"),
		testenv.PGSetting("autovacuum_naptime", "3600"), // nothing happens that the test did not do
	}, opts...)...)
}

// platformSchema is the platform's trades and events, as they should be.
const platformSchema = `CREATE EXTENSION pg_stat_statements;
	CREATE TABLE trades (id bigint PRIMARY KEY, seller text NOT NULL, status text NOT NULL, amount numeric NOT NULL, created_at timestamptz NOT NULL);
	CREATE INDEX trades_seller ON trades (seller);
	CREATE TABLE events (id bigint PRIMARY KEY, trade_id bigint NOT NULL REFERENCES trades, kind text NOT NULL, payload text NOT NULL, created_at timestamptz NOT NULL);
	CREATE INDEX events_trade ON events (trade_id);
	INSERT INTO trades SELECT g, 'seller-' || g % 2000, CASE WHEN g % 10 = 0 THEN 'disputed' ELSE 'done' END, g % 977, now() - g * interval '1 minute' FROM generate_series(1, 20000) g;
	INSERT INTO events SELECT g, 1 + g % 20000, 'kind-' || g % 7, repeat(md5(g::text), 2), now() - g * interval '1 second' FROM generate_series(1, 60000) g;
	SELECT pg_stat_force_next_flush();
	VACUUM (ANALYZE) trades; VACUUM (ANALYZE) events;`

// platform makes the schema in a database of its own, as one who runs psql.
func platform(t *testing.T, pg *testenv.PG, db string) {
	t.Helper()
	pg.CreateDB(t, db)
	pg.Psql(t, db, platformSchema)
}

// work is what the platform does, n times over: every query by an index.
func work(t *testing.T, conn *pgx.Conn, n int) {
	t.Helper()
	for i := range n {
		exec(t, conn, "SELECT * FROM trades WHERE id = $1", int64(i%20000+1))
		exec(t, conn, "SELECT count(*) FROM trades WHERE seller = $1", fmt.Sprintf("seller-%d", i%2000))
		exec(t, conn, "SELECT kind, payload FROM events WHERE trade_id = $1 ORDER BY id", int64(i%20000+1))
		exec(t, conn, "UPDATE trades SET status = 'done' WHERE id = $1", int64(i%20000+1))
	}
	flush(t, conn)
}

// flush lets the server count at once what a session has done.
func flush(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	exec(t, conn, "SELECT pg_stat_force_next_flush()")
	exec(t, conn, "SELECT 1")
}

// look takes a snapshot of the database.
func look(t *testing.T, conn *pgx.Conn, memory int64) *Snapshot {
	t.Helper()
	snap := Collect(t.Context(), time.Now, []Collector{{Name: SourceDatabase, Run: func(ctx context.Context, into *Snapshot) []Source {
		return CollectDatabase(ctx, into, postgres.NewReadOnly(conn), DatabaseOptions{Address: "127.0.0.1/test", Memory: memory, Now: time.Now})
	}}})
	for _, s := range snap.Sources {
		t.Logf("source %+v", s)
	}
	return snap
}

// later is a snapshot taken d after its time: time need not pass for what has
// no clock of its own.
func later(s *Snapshot, d time.Duration) *Snapshot {
	s.TakenAt = s.TakenAt.Add(d)
	return s
}

// freshLimits are the defaults for a server that was made a minute ago.
func freshLimits() Limits {
	l := DefaultLimits()
	l.UnusedAfter = 0
	return l
}

func find(r *Report, id, object string) *Finding {
	i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.ID == id && strings.Contains(f.Object, object) })
	if i < 0 {
		return nil
	}
	return &r.Findings[i]
}

// want demands a finding of a status.
func want(t *testing.T, r *Report, id, object string, status check.Status, says ...string) {
	t.Helper()
	f := find(r, id, object)
	if f == nil {
		t.Errorf("no %s of %s", id, object)
		return
	}
	if f.Status != status {
		t.Errorf("%s of %s is %s, want %s: %s", id, object, f.Status, status, f.Summary)
	}
	all := strings.Join(append(append([]string{f.Summary, f.Action}, f.Detail...), f.SQL...), "\n")
	for _, s := range says {
		if !strings.Contains(all, s) {
			t.Errorf("%s of %s does not say %q:\n%s", id, object, s, all)
		}
	}
}

func logFindings(t *testing.T, r *Report) {
	t.Helper()
	for _, n := range r.Notes {
		t.Logf("note: %s", n)
	}
	for _, f := range r.Findings {
		t.Logf("%-9s %s %s: %s\n\t%s\n\tnext: %s %s", f.Status, f.ID, f.Object, f.Summary, strings.Join(f.Detail, "\n\t"), f.Action, strings.Join(f.SQL, " "))
	}
}
