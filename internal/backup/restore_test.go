package backup

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"github.com/stellarescrow/escrowctl/internal/sqlload"
	"github.com/stellarescrow/escrowctl/internal/store"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

func restoreOptions(t *testing.T, pg *testenv.PG, st store.Reader, name, db string) RestoreOptions {
	return RestoreOptions{Store: st, Name: name, Naming: naming, Connect: connector(pg), Database: db, Jobs: 2, Now: time.Now, Log: t.Logf}
}

// TestRestoreWays restores one backup in every way there is.
func TestRestoreWays(t *testing.T) {
	pg := testenv.Postgres(t)
	awkwardDB(t, pg)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	remote := bucket(t)
	o := options(t, pg, "src")
	o.Remote = remote
	res := mustRun(t, o)
	enc := options(t, pg, "src")
	enc.Recipients = []age.Recipient{id.Recipient()}
	encrypted := mustRun(t, enc)

	t.Run("not empty", func(t *testing.T) {
		before := contents(t, pg, "src")
		_, err := Restore(t.Context(), restoreOptions(t, pg, remote, res.Name, "src"))
		if !errors.Is(err, ErrNotEmpty) {
			t.Fatal(err)
		}
		sameText(t, "refused", before, contents(t, pg, "src"))
	})
	t.Run("damaged", func(t *testing.T) {
		bad := store.NewDir(t.TempDir())
		for _, n := range []string{res.Name, ManifestName(res.Name)} {
			b, err := os.ReadFile(o.Local.Path(n))
			if err != nil {
				t.Fatal(err)
			}
			if n == res.Name {
				b[len(b)/2] ^= 1
			}
			if err := bad.Put(t.Context(), n, b); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Restore(t.Context(), restoreOptions(t, pg, bad, res.Name, "never_made"))
		if !errors.Is(err, ErrNotVerified) {
			t.Fatal(err)
		}
		if n := pg.Psql(t, "postgres", "SELECT count(*) FROM pg_database WHERE datname = 'never_made'"); n != "0" {
			t.Error("the target was touched")
		}
	})
	t.Run("clean", func(t *testing.T) {
		pg.CreateDB(t, "dirty")
		pg.Psql(t, "dirty", `CREATE TABLE old (i int); CREATE SCHEMA "x y"; CREATE TABLE "x y".t (i int); SELECT lo_from_bytea(99, 'x'); CREATE PUBLICATION p FOR ALL TABLES;
CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER ev ON ddl_command_start EXECUTE FUNCTION e();`)
		ro := restoreOptions(t, pg, remote, res.Name, "dirty")
		ro.Clean = true
		if _, err := Restore(t.Context(), ro); err != nil {
			t.Fatal(err)
		}
		sameText(t, "cleaned", contents(t, pg, "src"), contents(t, pg, "dirty"))
		sameText(t, "cleaned", plainDump(t, pg, "src")[:200], plainDump(t, pg, "dirty")[:200])
	})
	for name, at := range map[string]struct {
		st   store.Reader
		file string
		ids  []age.Identity
	}{"bucket": {remote, res.Name, nil}, "encrypted": {enc.Local, encrypted.Name, []age.Identity{id}}} {
		t.Run("one table from "+name, func(t *testing.T) {
			db := "one_" + name
			ro := restoreOptions(t, pg, at.st, at.file, db)
			ro.Tables, ro.Identities = []string{`"Mixed Case"."Table ""quoted""; COPY a FROM stdin;"`, "parted_2025"}, at.ids
			r, err := Restore(t.Context(), ro)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Rows) != 2 || r.Total != 2+213 || r.Spared < res.Manifest.Size/2 {
				t.Errorf("%+v", r)
			}
			if n := pg.Psql(t, db, "SELECT count(*) FROM parted_2025"); n != "213" {
				t.Errorf("%s rows", n)
			}
			if n := pg.Psql(t, db, "SELECT count(*) FROM big"); n != "0" {
				t.Errorf("%s rows of a table that was not asked for", n)
			}
			// Again, into the tables that are there and were emptied.
			pg.Psql(t, db, "TRUNCATE parted")
			ro.Tables = []string{"public.parted_2025"}
			if r, err = Restore(t.Context(), ro); err != nil || r.Total != 213 {
				t.Fatalf("%+v %v", r, err)
			}
			if _, err = Restore(t.Context(), ro); !errors.Is(err, ErrNotEmpty) {
				t.Errorf("a filled table: %v", err)
			}
			ro.Tables = []string{"nonsense"}
			if _, err = Restore(t.Context(), ro); !errors.Is(err, ErrNoTable) || !strings.Contains(err.Error(), "public.big") {
				t.Errorf("no such table: %v", err)
			}
		})
	}
	t.Run("swap", func(t *testing.T) {
		psqlFrom(t, pg, "live", `"${0%/psql}/pg_dump" src`)
		pg.Psql(t, "live", `DELETE FROM public.big WHERE id > 10;
			CREATE ROLE db_reader; CREATE ROLE "Odd Reader";
			ALTER DATABASE live SET search_path TO "$user", public, "Odd Schema";
			ALTER DATABASE live SET statement_timeout TO '42s'; ALTER DATABASE live SET escrow.motto TO 'it''s =fine';
			ALTER ROLE "Odd Reader" IN DATABASE live SET work_mem TO '9MB';
			REVOKE ALL ON DATABASE live FROM PUBLIC; GRANT CONNECT ON DATABASE live TO db_reader WITH GRANT OPTION;
			ALTER DATABASE live CONNECTION LIMIT 77; COMMENT ON DATABASE live IS 'the platform''s'`)
		before := databaseState(t, pg, "live")
		ro := restoreOptions(t, pg, o.Local, res.Name, "live")
		ro.Swap = true
		r, err := Restore(t.Context(), ro)
		if err != nil {
			t.Fatal(err)
		}
		sameText(t, "swapped", contents(t, pg, "src"), contents(t, pg, "live"))
		sameText(t, "the database's own settings", before, databaseState(t, pg, "live"))
		if len(r.Warnings) > 0 {
			t.Errorf("warnings: %v", r.Warnings)
		}
		if n := pg.Psql(t, r.OldName, "SELECT count(*) FROM public.big"); n != "10" {
			t.Errorf("the old database %s has %s rows", r.OldName, n)
		}
	})
	t.Run("swap in use", func(t *testing.T) {
		conn, err := connector(pg)(t.Context(), "live")
		if err != nil {
			t.Fatal(err)
		}
		defer closeConn(conn)
		ro := restoreOptions(t, pg, o.Local, res.Name, "live")
		ro.Swap = true
		ro.Now = func() time.Time { return time.Now().Add(time.Hour) }
		_, err = Restore(t.Context(), ro)
		if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "ALTER DATABASE") {
			t.Errorf("%v", err)
		}
	})
}

// databaseState is what a database has beside its contents.
func databaseState(t *testing.T, pg *testenv.PG, db string) string {
	t.Helper()
	return pg.Psql(t, "postgres", `SELECT datconnlimit, datacl, pg_catalog.shobj_description(d.oid, 'pg_database') FROM pg_database d WHERE datname = '`+db+`';
		SELECT setrole::regrole, entry FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase, unnest(setconfig) entry WHERE datname = '`+db+`' ORDER BY 1, 2`)
}

// TestRestoreElsewhere: a server that has none of the roles.
func TestRestoreElsewhere(t *testing.T) {
	pg, other := testenv.Postgres(t), testenv.Postgres(t)
	pg.CreateDB(t, "src")
	pg.Psql(t, "src", `CREATE ROLE "Odd Owner" LOGIN PASSWORD 'marker-secret'; CREATE ROLE grp; GRANT grp TO "Odd Owner"; CREATE TABLE t (i int); ALTER TABLE t OWNER TO "Odd Owner"; INSERT INTO t VALUES (1)`)
	o := options(t, pg, "src")
	res := mustRun(t, o)
	body, err := os.ReadFile(o.Local.Path(res.Manifest.Globals.Name))
	if err != nil || strings.Contains(string(body), "SCRAM") || strings.Contains(string(body), "marker-secret") {
		t.Errorf("the roles' passwords are in the backup: %v", err)
	}
	ro := restoreOptions(t, other, o.Local, res.Name, "fresh")
	r, err := Restore(t.Context(), ro)
	if err != nil || len(r.Created) != 2 {
		t.Fatalf("%v %v", r.Created, err)
	}
	if got := other.Psql(t, "fresh", "SELECT tableowner, pg_has_role('Odd Owner', 'grp', 'member') FROM pg_tables WHERE tablename = 't'"); got != "Odd Owner|t" {
		t.Error(got)
	}
	third := testenv.Postgres(t)
	ro = restoreOptions(t, third, o.Local, res.Name, "fresh")
	ro.NoRoles = true
	var stmt *sqlload.Error
	if _, err := Restore(t.Context(), ro); !errors.As(err, &stmt) || !strings.Contains(err.Error(), "Odd Owner") {
		t.Errorf("without roles: %v", err)
	}
}

// TestRestoreErrors: the first failing statement is named by table and line.
func TestRestoreErrors(t *testing.T) {
	pg := testenv.Postgres(t)
	base := fakeDumper{rows: 150000, tables: 2}.text()
	bad := strings.Replace(base, "\n140000\tnote", "\nx140000\tnote", 1)
	line := int64(strings.Count(base[:strings.Index(base, "\n140000\tnote")+1], "\n") + 1)
	for name, tc := range map[string]struct {
		text  string
		table string
		line  int64 // of the plain text; 0 if not checked
		is    error
	}{
		"a row":          {bad, "public.t0", line, nil},
		"a statement":    {strings.Replace(base, "PRIMARY KEY (id)", "PRIMARY KEY (nothing)", 1), "", 0, nil},
		"a meta-command": {strings.Replace(base, "SET client", "\\! touch /tmp/escrowctl-was-here\nSET client", 1), "", 8, sqlload.ErrMetaCommand},
		"a duplicate":    {strings.Replace(base, "\n7\tnote", "\n8\tnote", 1), "", 0, nil},
	} {
		for _, indexed := range []bool{false, true} {
			t.Run(fmt.Sprint(name, indexed), func(t *testing.T) {
				dir := store.NewDir(t.TempDir())
				o := Options{Naming: naming, Local: dir, Dumper: textDumper(tc.text), Codec: sqldump.Gzip, Now: time.Now, Log: t.Logf}
				res := mustRun(t, o)
				if !indexed {
					_ = dir.Delete(t.Context(), ManifestName(res.Name))
				}
				_, err := Restore(t.Context(), restoreOptions(t, pg, dir, res.Name, strings.ReplaceAll(fmt.Sprint("e", name, indexed), " ", "_")))
				var e *sqlload.Error
				if !errors.As(err, &e) || e.Table != tc.table || tc.is != nil && !errors.Is(err, tc.is) {
					t.Fatalf("%v", err)
				}
				// Cutting adds lines: two for each time a block is opened again.
				if tc.line > 0 && (e.Line < tc.line || e.Line > tc.line+10) {
					t.Errorf("line %d, want about %d: %v", e.Line, tc.line, err)
				}
				t.Log(err)
			})
		}
	}
}
