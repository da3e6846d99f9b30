package backup

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"github.com/stellarescrow/escrowctl/internal/sqlload"
	"github.com/stellarescrow/escrowctl/internal/store"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// TestRestoreHostile: statements that a dump has no use for do not run, on this
// host or on the server, whoever restores; and what only looks like them loads.
func TestRestoreHostile(t *testing.T) {
	pg := testenv.Postgres(t)
	marker := filepath.Join(testenv.ShortDir(t, 0o777), "marker") // the server is another user
	const before = "SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\nCREATE TABLE public.t (a text);\n"
	const rows = "\nCOPY public.t (a) FROM stdin;\n1\n2\n\\.\n\n"
	const end = "\n--\n-- PostgreSQL database dump complete\n--\n\n"
	for name, tt := range map[string]struct {
		sql  string // before the rows
		late string // behind them
		want error  // nil: it loads, with its two rows
		says string
	}{
		"a shell":                      {sql: "\\! touch MARKER\n", want: sqlload.ErrMetaCommand},
		"a shell behind blanks":        {sql: "  \t\\! touch MARKER\n", want: sqlload.ErrMetaCommand},
		"a shell behind a comment":     {sql: "/* x\n*/ \\! touch MARKER\n", want: sqlload.ErrMetaCommand},
		"a shell at the end":           {late: "\\! touch MARKER\n", want: sqlload.ErrMetaCommand},
		"a shell after unrestrict":     {sql: "\\unrestrict x\n\\! touch MARKER\n", want: sqlload.ErrMetaCommand},
		"copy by the client":           {sql: "\\copy public.t from program 'touch MARKER'\n", want: sqlload.ErrMetaCommand},
		"output to a program":          {sql: "\\o |touch MARKER\n", want: sqlload.ErrMetaCommand},
		"another database":             {sql: "\\connect postgres\nCREATE TABLE public.escaped ();\n", want: sqlload.ErrMetaCommand},
		"another file":                 {sql: "\\i MARKER\n", want: sqlload.ErrMetaCommand},
		"a statement for a program":    {sql: "SELECT 'x' \\g |touch MARKER\n;\n", says: "syntax error"},
		"what it makes is run":         {sql: "SELECT 'x' \\gexec\n;\n", says: "syntax error"},
		"rows of a program":            {sql: "COPY public.t FROM PROGRAM 'touch MARKER';\n", want: sqlload.ErrServerFile},
		"rows for a program":           {sql: "copy (select 1) to program 'touch MARKER';\n", want: sqlload.ErrServerFile},
		"rows for a program, hidden":   {sql: "-- x\n/* COPY */ CoPy(SELECT 1)TO PROGRAM 'touch MARKER';\n", want: sqlload.ErrServerFile},
		"rows for a file":              {late: "COPY public.t TO 'MARKER';\n", want: sqlload.ErrServerFile},
		"rows of a file":               {sql: "COPY public.t FROM '/etc/passwd';\n", want: sqlload.ErrServerFile},
		"rows with options":            {sql: "COPY public.t FROM stdin WITH (FORMAT csv);\n1\n\\.\n", want: sqldump.ErrNotDump},
		"the transaction is ended":     {late: "COMMIT; ROLLBACK; END; ABORT;\n"},
		"a block ends its transaction": {sql: "DO $$ BEGIN COMMIT; ROLLBACK; END $$;\n"},
		"it stays in a transaction":    {late: "BEGIN; DELETE FROM public.t;\n", want: sqlload.ErrOpenTransaction},
		"all is read only":             {sql: "SET default_transaction_read_only = on;\n", says: "read-only"},
		"an end of rows in dollars":    {sql: "CREATE FUNCTION public.f() RETURNS text LANGUAGE sql AS $x$ SELECT '\n\\.\n\\! touch MARKER\n'::text $x$;\n"},
		"an end of rows in a string":   {sql: "COMMENT ON TABLE public.t IS 'COPY public.t (a) FROM stdin;\n9\n\\.\n\\! touch MARKER\n';\n"},
		"an end of rows with escapes":  {sql: "COMMENT ON TABLE public.t IS E'\\';\n\\.\n\\! touch MARKER\n\\\\';\n"},
		"an end of rows in a name":     {sql: "CREATE TABLE public.\"x\n\\.\n\\! touch MARKER\n\" ();\n"},
		"an end of rows in a comment":  {sql: "/* /* \n\\.\n\\! touch MARKER\n*/ ; */ SELECT 1;\n"},
		"a copy in a name":             {sql: "CREATE TABLE public.\"COPY t FROM PROGRAM 'x';\" (); CREATE TABLE public.copying ();\n"},
	} {
		t.Run(name, func(t *testing.T) {
			fill := func(s string) string { return strings.ReplaceAll(s, "MARKER", marker) }
			text := before + fill(tt.sql) + rows + fill(tt.late) + end
			o, _ := fakeOptions(t)
			o.Dumper, o.Globals = textDumper(text), false
			var files []struct {
				st   store.Reader
				name string
			}
			add := func(st store.Reader, name string) {
				files = append(files, struct {
					st   store.Reader
					name string
				}{st, name})
			}
			res, err := Run(t.Context(), o)
			switch {
			case err == nil:
				add(o.Local, res.Name)
			case !errors.Is(tt.want, sqldump.ErrNotDump):
				t.Fatalf("backup: %v", err)
			}
			old := store.NewDir(t.TempDir())
			const oldName = "stellar_escrow_20260101T020000Z.sql.gz"
			if err := old.Put(t.Context(), oldName, zipped(t, text)); err != nil {
				t.Fatal(err)
			}
			add(old, oldName)
			for _, f := range files {
				pg.Psql(t, "postgres", "DROP DATABASE IF EXISTS target WITH (FORCE)")
				_, err := Restore(t.Context(), restoreOptions(t, pg, f.st, f.name, "target"))
				switch {
				case tt.want == nil && tt.says == "":
					if err != nil {
						t.Errorf("%s: %v", f.name, err)
					} else if n := pg.Psql(t, "target", "SELECT count(*) FROM public.t"); n != "2" {
						t.Errorf("%s: %s rows", f.name, n)
					}
				case errors.Is(tt.want, sqldump.ErrNotDump):
					if !errors.Is(err, ErrNotVerified) {
						t.Errorf("%s: %v", f.name, err)
					}
				case tt.want != nil && !errors.Is(err, tt.want), err == nil, !strings.Contains(err.Error(), tt.says):
					t.Errorf("%s: %v, want %v %s", f.name, err, tt.want, tt.says)
				}
				if _, err := os.Lstat(marker); err == nil {
					t.Errorf("%s: the program ran, or the file was written", f.name)
					_ = os.Remove(marker)
				}
				if n := pg.Psql(t, "postgres", "SELECT count(*) FROM pg_class WHERE relname = 'escaped'"); n != "0" {
					t.Error("it got into another database")
				}
			}
		})
	}
}

func zipped(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte(text))
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
