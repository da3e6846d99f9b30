package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/backup"
)

// TestHostileManifests: a manifest leads nowhere and makes no room for what is
// not there.
func TestHostileManifests(t *testing.T) {
	c := newCorpus(t)
	dir := t.TempDir()
	path := c.indexed(t, dir, c.dump, nil)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(filepath.Dir(dir), "roles.sql")
	if err := os.WriteFile(secret, []byte("CREATE ROLE from_elsewhere SUPERUSER;\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const huge = 1 << 62
	for what, tt := range map[string]struct {
		edit func(*backup.Manifest)
		want string
	}{
		"roles of elsewhere": {func(m *backup.Manifest) { m.Globals = &backup.Sidecar{Name: "../roles.sql", Size: 38} }, `"\.\./roles\.sql" is no name of a file beside it`},
		"roles by a path":    {func(m *backup.Manifest) { m.Globals = &backup.Sidecar{Name: secret} }, `roles\.sql" is no name of a file beside it`},
		"a name elsewhere":   {func(m *backup.Manifest) { m.Name = "../" + m.Name }, `it belongs to "\.\./`},
		"huge rows":          {func(m *backup.Manifest) { m.Index.Members[1].Rows = huge }, `member 1 has \d+ rows in \d+ bytes`},
		"huge member":        {func(m *backup.Manifest) { m.Index.Members[1].Size = huge }, "member 1 (has a size|cannot expand)|begins at"},
		"huge SQL":           {func(m *backup.Manifest) { m.Index.Members[1].SQLSize = 1 << 30 }, "member 1 cannot expand from"},
		"negative":           {func(m *backup.Manifest) { m.Index.Members[1].Offset = -5 }, "member 1 begins at -5"},
		"no members":         {func(m *backup.Manifest) { m.Index.Members, m.Index.Tables = nil, nil }, "its sums are not its members'|its head and its index disagree"},
		"another codec":      {func(m *backup.Manifest) { m.Index.Codec = "lzma" }, `compression "lzma"`},
		"a newer manifest":   {func(m *backup.Manifest) { m.SchemaVersion = 9 }, "use a newer escrowctl"},
		"no schema in it":    {func(m *backup.Manifest) { m.Schema.Data = []byte("none") }, "the recorded schema is not valid"},
		"a codec for SQL":    {func(m *backup.Manifest) { m.Index.Encoding = "UTF8'; DROP DATABASE app; --" }, `the index is not valid: encoding`},
	} {
		t.Run(what, func(t *testing.T) {
			var m backup.Manifest
			body, err := os.ReadFile(c.indexed(t, t.TempDir(), c.dump, nil) + ".json")
			if err == nil {
				err = json.Unmarshal(body, &m)
			}
			if err != nil {
				t.Fatal(err)
			}
			tt.edit(&m)
			c.put(t, dir, file, &m)
			code, said := c.test(t, path)
			expect := 2
			if m.SchemaVersion > backup.ManifestVersion {
				expect = 3 // it may be good
			}
			if code != expect || !regexp.MustCompile(tt.want).MatchString(said) {
				t.Errorf("exit %d, want %d and %q:\n%s", code, expect, tt.want, said)
			}
			if n := c.pg.Psql(t, "postgres", "SELECT count(*) FROM pg_roles WHERE rolname = 'from_elsewhere'"); n != "0" {
				t.Error("roles were made from another file")
			}
			if n := c.pg.Psql(t, "postgres", "SELECT count(*) FROM pg_database WHERE datname = 'app'"); n != "1" {
				t.Error("a database is gone")
			}
		})
	}
}

// TestHostileSQL: what a dump changes in its database does not deceive the
// checks, and what it waits for ends with the time limit.
func TestHostileSQL(t *testing.T) {
	c := newCorpus(t)
	before := func(sql string) []byte { return replaced(t, c.dump, `\nCREATE TABLE public\.trades`, "\n"+sql+"$0") }
	end := func(text []byte, sql string) []byte {
		i := bytes.LastIndex(text, []byte("\n--\n-- PostgreSQL database dump complete"))
		return slices.Concat(text[:i], []byte("\n"+sql+"\n"), text[i:])
	}
	deceived := end(replaced(t, c.dump, `setval\('public.trades_id_seq', \d+, true\)`, "setval('public.trades_id_seq', 1, true)"),
		`CREATE SCHEMA evil;
CREATE FUNCTION evil.none(integer, integer) RETURNS integer LANGUAGE sql AS 'SELECT 0';
CREATE AGGREGATE evil.max(integer) (SFUNC = evil.none, STYPE = integer, INITCOND = '0');
ALTER ROLE postgres IN DATABASE restored SET search_path = evil, pg_catalog, public;`)
	// Where the machine does not come to the place that hangs in the first, it does
	// in the next.
	shortLimits := []string{"3s", "20s", "2m0s"}
	for what, tt := range map[string]struct {
		text   []byte
		limits []string // none: as long as it takes
		want   string
	}{
		"it sleeps":           {before("SELECT pg_sleep(3600);\n"), shortLimits, "the time limit of LIMIT was reached while creating tables"},
		"an index sleeps":     {end(c.dump, "CREATE FUNCTION public.slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3600); RETURN 1; END $$;\nCREATE INDEX slow ON public.trades (public.slow(id));"), shortLimits, "the time limit of LIMIT was reached while building indexes and constraints"},
		"an event trigger":    {before("CREATE FUNCTION public.no() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;\nCREATE EVENT TRIGGER no ON ddl_command_end EXECUTE FUNCTION public.no();\n"), nil, "not today"},
		"its own max":         {deceived, nil, "its next value is 2, but the largest public.trades.id is 2500"},
		"rows deleted after":  {end(c.dump, "DELETE FROM public.events WHERE id > 300;"), nil, "public.events has 300 rows, not 400"},
		"tables in the wrong": {end(c.dump, "ALTER TABLE public.events SET SCHEMA pg_temp;"), nil, "cannot move"},
		"open to the end":     {end(c.dump, "BEGIN; DROP TABLE public.users;"), nil, `line \d+: the dump leaves a transaction open, so what is in it is lost: BEGIN`},
		"open among the rows": {replaced(t, c.dump, `\nSELECT pg_catalog.setval\('public.trades_id_seq`, "\nBEGIN;$0"), nil, `line \d+: the dump leaves a transaction open`},
	} {
		t.Run(what, func(t *testing.T) {
			file := c.indexed(t, t.TempDir(), tt.text, nil)
			code, said, want := 0, "", tt.want
			limits := tt.limits
			if limits == nil {
				limits = []string{"1h"}
			}
			for _, limit := range limits {
				inv := invoke(t, "DATABASE_URL="+c.pg.SocketURL("app"))
				inv.servers = c.servers
				code = inv.run(t, "dr-test", file, "--timeout", limit)
				said, want = inv.out.String()+inv.errs.String(), strings.Replace(tt.want, "LIMIT", limit, 1)
				if code == 2 && regexp.MustCompile(want).MatchString(said) {
					return
				}
			}
			t.Errorf("exit %d, want 2 and %q:\n%s", code, want, said)
		})
	}
}
