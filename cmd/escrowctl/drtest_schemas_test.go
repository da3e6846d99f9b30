package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestDRTestSchemas: no schema makes it cry wolf, with a manifest or without:
// one with every awkward thing, one with expressions of all kinds, and the
// platform's own, made by a superuser of another name than the throwaway
// server's.
func TestDRTestSchemas(t *testing.T) {
	t.Parallel()
	s := newDRSandbox(t)
	s.pg.Psql(t, "app", "DROP OWNED BY reader")
	s.pg.Psql(t, "postgres", "CREATE ROLE indexer SUPERUSER LOGIN; DROP ROLE reader")
	for _, tt := range []struct {
		db, before, after, tables string
		files                     []string
		objects                   string
	}{
		{"awkward", "", "", "big,awkward_text", []string{"internal/backup/testdata/awkward.sql"}, "all 213 objects"},
		{"expressions", "", "INSERT INTO public.log VALUES ('a', 1)", "log", []string{"internal/schema/testdata/expressions.sql"}, "all 2"},
		{"platform", "SET SESSION AUTHORIZATION indexer;", "INSERT INTO schema_migrations SELECT 1, 'first', now()", "schema_migrations", []string{"deploy/sandbox/initdb/10-schema.sql"}, "all 341 objects"},
	} {
		t.Run(tt.db, func(t *testing.T) {
			s.pg.Psql(t, "postgres", "CREATE DATABASE "+pgx.Identifier{tt.db}.Sanitize()+" OWNER indexer")
			for _, f := range tt.files {
				sql, err := os.ReadFile(filepath.Join("..", "..", f))
				if err != nil {
					t.Fatal(err)
				}
				s.pg.Psql(t, tt.db, tt.before+string(sql))
			}
			s.pg.Psql(t, tt.db, tt.after)
			one := *s
			inner := *s.sandbox
			inner.dir = t.TempDir()
			inner.env = append(append([]string(nil), s.env...), "DATABASE_URL="+s.pg.URL(tt.db), "BACKUP_DIR="+inner.dir, "S3_BUCKET=", "ESCROWCTL_DR_TEST_TABLES="+tt.tables, "ESCROWCTL_STATE_DIR="+t.TempDir())
			one.sandbox = &inner
			if code, out, errs := one.run(t, "backup"); code != 0 {
				t.Fatalf("backup: exit %d: %s%s", code, out, errs)
			}
			r := one.drTest(t, 0, "latest", "--engine", "local")
			if status, summary := r.check("schema"); status != "ok" || !strings.Contains(summary, tt.objects) {
				t.Errorf("schema: %s %s", status, summary)
			}
			dump, err := exec.Command(s.pg.Tool("pg_dump"), "-d", s.pg.URL(tt.db)).Output()
			if err != nil {
				t.Fatal(err)
			}
			// Without a manifest nobody knows that the views and constraints were so.
			r = one.drTest(t, 1, one.plain(t, string(dump)), "--engine", "local")
			for _, c := range r.Checks {
				if c.Status != "ok" && c.ID != "constraints" && c.ID != "materialized-views" {
					t.Errorf("plain: %s: %s: %s", c.ID, c.Status, c.Summary)
				}
			}
		})
	}
}

// TestDRTestHostile: what a dump makes its server do stays within the container.
func TestDRTestHostile(t *testing.T) {
	t.Parallel()
	s := newDRSandbox(t)
	s.docker(t)
	marker := filepath.Join(s.tmp, "..", "escrowctl-hostile-"+filepath.Base(s.tmp))
	dump, err := exec.Command(s.pg.Tool("pg_dump"), "-d", s.pg.URL("app")).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		sql, says string
		code      int
	}{
		// The program runs, and where it runs there is no network but itself.
		{"CREATE TABLE public.seen (t text); DO $$ BEGIN EXECUTE $x$COPY public.seen FROM PROGRAM 'touch " + marker + "; grep : /proc/net/dev | cut -d: -f1 | tr -d \" \"'$x$; END $$;\nDO $$ BEGIN IF EXISTS (SELECT FROM public.seen WHERE t <> 'lo') THEN RAISE 'it has a network'; END IF; RAISE 'alone: %', (SELECT string_agg(t, ',') FROM public.seen); END $$;", "alone: lo", 2},
		{"DO $$ BEGIN EXECUTE $x$COPY (SELECT 1) TO PROGRAM 'kill -9 -1'$x$; END $$; SELECT pg_sleep(5);", "could not verify: restore: the ", 3},
		{"COPY (SELECT 1) TO PROGRAM 'touch " + marker + "';", "read or write a file or run a program", 2},
		{"\\! touch " + marker, "psql meta-command", 2},
	} {
		file := s.plain(t, strings.Replace(string(dump), "\nCREATE TABLE ", "\n"+tt.sql+"\nCREATE TABLE ", 1))
		code, out, errs := s.run(t, "dr-test", file, "--engine", "docker", "--timeout", "3m")
		if code != tt.code || !strings.Contains(out+errs, tt.says) || strings.Contains(out, "PASS") {
			t.Errorf("%s: exit %d, want %d and %q\n%s%s", tt.sql, code, tt.code, tt.says, out, errs)
		}
		t.Logf("exit %d: %s", code, lastLine(strings.TrimSpace(errs)))
		if _, err := os.Stat(marker); err == nil {
			t.Fatalf("%s: it ran on this host", tt.sql)
		}
	}
}
