package main

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

const testRolePassword = "of-the-test"

// grants applies the documented block of SQL of a test, in the words of its
// database, and returns the GRANT statements.
func (s *sandbox) grants(t *testing.T, text string) (list []string) {
	t.Helper()
	for old, fresh := range map[string]string{"stellar_escrow": "app", "CHANGE ME": testRolePassword} {
		text = strings.ReplaceAll(text, old, fresh)
	}
	for statement := range strings.SplitSeq(text, "\n") {
		if statement == "" {
			continue
		}
		s.pg.Psql(t, "app", statement)
		if strings.HasPrefix(statement, "GRANT ") {
			list = append(list, statement)
		}
	}
	return list
}

// revoked takes a grant away for the time of a test.
func (s *sandbox) revoked(t *testing.T, grant string, test func()) {
	t.Helper()
	s.pg.Psql(t, "app", strings.Replace(strings.Replace(grant, "GRANT ", "REVOKE ", 1), " TO ", " FROM ", 1))
	test()
	s.pg.Psql(t, "app", grant)
}

// platformDatabase is a database that the platform's own role owns, which PUBLIC
// may not connect to.
func (s *sandbox) platformDatabase(t *testing.T) {
	t.Helper()
	s.pg.Psql(t, "postgres", "CREATE ROLE indexer LOGIN PASSWORD 'x'; ALTER DATABASE app OWNER TO indexer; REVOKE CONNECT ON DATABASE app FROM PUBLIC")
	s.pg.Psql(t, "app", `SET ROLE indexer; CREATE SCHEMA audit;
		CREATE TABLE trades (id serial PRIMARY KEY, v text); INSERT INTO trades (v) SELECT md5(g::text) FROM generate_series(1, 1000) g;
		CREATE TABLE events (id bigint PRIMARY KEY, created_at timestamptz DEFAULT now()); INSERT INTO events VALUES (1);
		CREATE TABLE audit.log (id int); CREATE VIEW recent AS SELECT * FROM trades; CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM trades;
		CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC`)
}

// TestGrantsOfBackup: with the documented grants backup, shift-check, perf and
// doctor do their work, and without any one of them a command names it.
func TestGrantsOfBackup(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.platformDatabase(t)
	grants := s.grants(t, testenv.RunBy(t, "docs/privileges.md", t.Name(), 1)[0])
	s.set("DATABASE_URL=" + s.pg.URLAs("escrowctl", testRolePassword, "app"))
	// Somebody else is at work: what only pg_monitor sees.
	other, err := pgx.Connect(t.Context(), s.pg.URL("app"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(t.Context())

	s.expect(t, 0, "backup", "in the bucket")
	s.expect(t, 0, "backup verify latest", "PASS", "1,001 rows")
	s.expect(t, 0, "shift-check --only database", "OK")
	s.expect(t, 0, "doctor --only database,pg_dump", "may read every table")
	s.set("ESCROWCTL_PERF_SOURCES=database")
	// It is critical of the test server's fsync.
	if code, out, errs := s.run(t, "perf", "analyze"); code > 2 || strings.Contains(out+errs, "pg_monitor") {
		t.Errorf("perf: exit %d: %s%s", code, out, errs)
	}

	lacking := map[string][]struct {
		code    int
		command string
		says    string
	}{
		"GRANT CONNECT ON DATABASE app TO escrowctl;": {{2, "backup", "GRANT CONNECT"}, {3, "shift-check --only database", "GRANT CONNECT"}},
		"GRANT pg_read_all_data TO escrowctl;":        {{2, "backup", "GRANT pg_read_all_data"}, {2, "doctor --only database", "GRANT pg_read_all_data"}},
		"GRANT pg_monitor TO escrowctl;":              {{3, "shift-check --only database", "GRANT pg_monitor"}, {2, "perf analyze", "GRANT pg_monitor TO escrowctl"}},
	}
	for _, grant := range grants {
		t.Run(grant, func(t *testing.T) {
			wants, known := lacking[grant]
			if !known {
				t.Fatal("documented, and no command is known to need it")
			}
			s.revoked(t, grant, func() {
				for _, want := range wants {
					s.expect(t, want.code, want.command, want.says)
				}
			})
		})
	}
	if len(grants) != len(lacking) {
		t.Errorf("documented are %q", grants)
	}
}

// TestGrantsOfRestore: the documented role restores into a new database, and
// without any one of its rights the server's refusal names it.
func TestGrantsOfRestore(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.platformDatabase(t)
	s.expect(t, 0, "backup")
	s.set("RESTORE_URL=" + s.pg.URLAs("indexer", "x", "copy"))
	const restore = "backup restore latest --to env:RESTORE_URL"

	s.expect(t, 2, restore, "permission denied to create database", "the role lacks CREATEDB")
	s.grants(t, testenv.RunBy(t, "docs/privileges.md", t.Name(), 1)[0])
	s.pg.Psql(t, "postgres", "CREATE ROLE other LOGIN PASSWORD 'x' CREATEDB")
	other := *s
	other.set("RESTORE_URL=" + s.pg.URLAs("other", "x", "another"))
	other.expect(t, 2, restore, `must be member of role "indexer"`, "restore as the role that owns the dump's objects")
	s.expect(t, 0, restore, "1,001")
	if owner := s.pg.Psql(t, "copy", "SELECT tableowner FROM pg_tables WHERE tablename = 'trades'"); owner != "indexer" {
		t.Errorf("trades is %s's", owner)
	}
}
