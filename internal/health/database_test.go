package health

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/postgres"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

func connectTo(t *testing.T, url string) func(ctx context.Context) (Session, error) {
	t.Helper()
	target, err := postgres.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context) (Session, error) {
		s, err := postgres.Open(ctx, target, "escrowctl shift-check")
		if err != nil {
			return nil, err
		}
		return s, nil
	}
}

func databaseAt(t *testing.T, url string) DatabaseOptions {
	t.Helper()
	return DatabaseOptions{Connect: connectTo(t, url), Service: "postgres", Limit: 20 * time.Second}
}

// tight is the runbook with a limit lowered to what a test can bring about.
func tight(id string, warning, critical float64) Limits {
	return func(asked string) (runbook.Threshold, bool) {
		th, ok := runbook.ThresholdFor(asked)
		if asked == id {
			th.Warning, th.Critical = warning, critical
		}
		return th, ok
	}
}

// hold opens a session and runs statements in it, which stays open.
func hold(t *testing.T, url string, statements ...string) Session {
	t.Helper()
	target, err := postgres.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := postgres.Connect(t.Context(), target, "app")
	// A session that has been closed holds its place for a moment.
	for end := time.Now().Add(time.Minute); err != nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		conn, err = postgres.Connect(t.Context(), target, "app")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return conn2{conn.Close}
}

// conn2 is a session that is only closed.
type conn2 struct{ end func(context.Context) error }

func (conn2) Row(context.Context, string, ...any) error { return errors.ErrUnsupported }
func (c conn2) Close(ctx context.Context) error         { return c.end(ctx) }

// TestDatabase makes every fault on one real server, one after the other.
func TestDatabase(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, testenv.PGSetting("max_connections", "10"), testenv.PGSetting("superuser_reserved_connections", "1"), testenv.PGSetting("wal_level", "logical"))
	pg.Psql(t, "postgres", "CREATE ROLE app LOGIN PASSWORD 'app'; CREATE ROLE monitor LOGIN PASSWORD 'monitor'; GRANT pg_monitor TO monitor")
	asApp, asMonitor := pg.URLAs("app", "app", "postgres"), pg.URLAs("monitor", "monitor", "postgres")
	const psql = "docker compose exec postgres psql"

	t.Run("healthy", func(t *testing.T) {
		for _, url := range []string{pg.URL("postgres"), asApp, asMonitor} {
			r := lookUntil(t, Database(databaseAt(t, url)), "0 of 10 connections")
			want{check.OK, "0 of 10 connections", "", ""}.check(t, r)
			if age := figure(t, r, "wraparound_age"); age <= 0 || age > 1e6 {
				t.Errorf("age of the oldest transaction ID: %g", age)
			}
		}
	})

	t.Run("long transaction", func(t *testing.T) {
		s := hold(t, asApp, "BEGIN", "SELECT 1", "SELECT pg_sleep(1.1)")
		opt := databaseAt(t, asMonitor)
		opt.Limits = tight(runbook.DBTransaction, 0.5, 1)
		r := look(t, Database(opt))
		want{check.Critical, "longest transaction ", "", psql}.check(t, r)
		if !strings.Contains(r.Summary, " s (pid ") || !strings.Contains(r.Summary, "role app, idle in transaction") {
			t.Errorf("whose it is: %s", r.Summary)
		}
		// A role that may not see it must not say that there is none.
		opt.Connect = connectTo(t, pg.URLAs("other", "other", "postgres"))
		pg.Psql(t, "postgres", "CREATE ROLE other LOGIN PASSWORD 'other'")
		const hidden = "1 sessions of other roles are hidden"
		want{check.Unknown, hidden, "", "GRANT pg_monitor"}.check(t, lookUntil(t, Database(opt), hidden))
		_ = s.Close(t.Context())
	})

	t.Run("dump", func(t *testing.T) {
		s := hold(t, asApp+"&application_name=x", "SET application_name = 'pg_dump'", "BEGIN", "SELECT 1", "SELECT pg_sleep(0.2)")
		opt := databaseAt(t, asMonitor)
		opt.Limits = tight(runbook.DBTransaction, 0.05, 0.1)
		want{check.OK, "1 of 10 connections", "", ""}.check(t, lookUntil(t, Database(opt), "1 of 10 connections"))
		_ = s.Close(t.Context())
	})

	t.Run("slot", func(t *testing.T) {
		pg.Psql(t, "postgres", "SELECT pg_create_physical_replication_slot('replica', true)")
		pg.Psql(t, "postgres", "CREATE TABLE filler AS SELECT repeat('x', 100) FROM generate_series(1, 50000)")
		opt := databaseAt(t, asMonitor)
		want{check.OK, "1 slots keep", "", ""}.check(t, look(t, Database(opt)))
		opt.Limits = tight(runbook.DBSlotWAL, 1e6, 2e6)
		r := look(t, Database(opt))
		want{check.Critical, "slot replica, no consumer keeps", "", "pg_replication_slots"}.check(t, r)
		if kept := figure(t, r, "slot_wal"); kept < 4e6 {
			t.Errorf("WAL kept: %g bytes", kept)
		}
		pg.Psql(t, "postgres", "SELECT pg_drop_replication_slot('replica')")
	})

	t.Run("wraparound", func(t *testing.T) {
		opt := databaseAt(t, asMonitor)
		opt.Limits = tight(runbook.DBWraparound, 1, 2)
		want{check.Critical, "oldest transaction ID", "", "datfrozenxid"}.check(t, look(t, Database(opt)))
	})

	t.Run("connections", func(t *testing.T) {
		var held []Session
		for range 9 {
			held = append(held, hold(t, asApp))
		}
		// One slot is left, for the superuser.
		want{check.Warning, "9 of 10 connections, warning from 80 %", "", psql}.check(t, lookUntil(t, Database(databaseAt(t, pg.URL("postgres"))), "9 of 10 connections"))
		want{check.Critical, "all connections are taken", "ServiceDown", psql}.check(t, look(t, Database(databaseAt(t, asMonitor))))
		held = append(held, hold(t, pg.URL("postgres")))
		want{check.Critical, "all connections are taken", "ServiceDown", psql}.check(t, look(t, Database(databaseAt(t, pg.URL("postgres")))))
		for _, s := range held {
			_ = s.Close(t.Context())
		}
	})

	t.Run("wrong password", func(t *testing.T) {
		r := lookUntil(t, Database(databaseAt(t, pg.URLAs("app", "s3cret!", "postgres"))), "password")
		want{check.Unknown, "password authentication failed", "", "check the password in DATABASE_URL"}.check(t, r)
		if strings.Contains(fmt.Sprint(r), "s3cret!") {
			t.Errorf("the password is told: %v", r)
		}
	})

	t.Run("down", func(t *testing.T) {
		pg.Stop(t)
		want{check.Critical, "connection refused", "ServiceDown", "docker compose logs --tail 50 postgres"}.check(t, look(t, Database(databaseAt(t, pg.URL("postgres")))))
	})
}

func TestDatabaseUnreachable(t *testing.T) {
	t.Parallel()
	failing := func(err error) func(context.Context) (Session, error) {
		return func(context.Context) (Session, error) { return nil, err }
	}
	for name, tt := range map[string]struct {
		connect func(context.Context) (Session, error)
		want    want
	}{
		"silent":          {connectTo(t, "postgres://u:p@"+testenv.Silent(t)+"/d?sslmode=disable"), want{check.Critical, "no answer in time: postgres: connect to 127.0.0.1:", "ServiceDown", "logs"}},
		"silent with TLS": {connectTo(t, "postgres://u:p@"+testenv.Silent(t)+"/d"), want{check.Critical, "no answer in time", "ServiceDown", "logs"}},
		"unresolvable":    {connectTo(t, "postgres://u:p@db.invalid/d"), want{check.Unknown, "does not resolve", "", "logs"}},
		"stopped":         {failing(fmt.Errorf("container x is exited: %w", ErrDown)), want{check.Critical, "container x is exited", "ServiceDown", "logs"}},
		"no Docker":       {failing(fmt.Errorf("docker engine: %w", ErrUnclear)), want{check.Unknown, "docker engine", "", "logs"}},
		"silent Docker": {func(ctx context.Context) (Session, error) {
			<-ctx.Done()
			return nil, fmt.Errorf("docker engine: %w", ErrUnclear)
		}, want{check.Unknown, "docker engine", "", "logs"}},
		"not set": {failing(errors.New("no database: set DATABASE_URL")), want{check.Unknown, "set DATABASE_URL", "", "logs"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.want.check(t, look(t, Database(DatabaseOptions{Connect: tt.connect, Service: "postgres", Limit: testLimit})))
		})
	}
}

func TestEventAge(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	pg.Psql(t, "postgres", `CREATE SCHEMA odd; CREATE TABLE odd."ev""ents" ("At" timestamptz)`)
	age := EventAge(connectTo(t, pg.URL("postgres")), `odd.ev"ents`, "At")
	if _, found, err := age(t.Context()); found || err != nil {
		t.Errorf("empty table: %v, %v", found, err)
	}
	pg.Psql(t, "postgres", `INSERT INTO odd."ev""ents" VALUES (now() - interval '1 hour'), (now() - interval '90 s'), (NULL)`)
	if got, found, err := age(t.Context()); !found || err != nil || got < 90*time.Second || got > 50*time.Minute {
		t.Errorf("got %s, %v, %v", got, found, err)
	}
	age = EventAge(connectTo(t, pg.URL("postgres")), "missing", "at")
	if _, _, err := age(t.Context()); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("missing table: %v", err)
	}
}
