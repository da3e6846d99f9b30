package backup

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stellarescrow/escrowctl/internal/schema"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"github.com/stellarescrow/escrowctl/internal/store"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// pgDumper runs the test server's own pg_dump.
type pgDumper struct {
	pg *testenv.PG
	db string
}

func (d pgDumper) run(ctx context.Context, w io.Writer, tool string, args ...string) error {
	cmd := exec.CommandContext(ctx, d.pg.Tool(tool), args...)
	cmd.Env = append(os.Environ(), d.pg.Env(d.db)...)
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", tool, err, stderr.String())
	}
	return nil
}

func (d pgDumper) Dump(ctx context.Context, w io.Writer) error { return d.run(ctx, w, "pg_dump") }
func (d pgDumper) Globals(ctx context.Context, w io.Writer) error {
	return d.run(ctx, w, "pg_dumpall", "--globals-only", "--no-role-passwords")
}

var naming = Naming{Base: "stellar_escrow"}

func connector(pg *testenv.PG) Connector {
	return func(ctx context.Context, db string) (*pgconn.PgConn, error) { return pgconn.Connect(ctx, pg.URL(db)) }
}

func options(t *testing.T, pg *testenv.PG, db string) Options {
	return Options{
		Naming: naming, Local: store.NewDir(filepath.Join(t.TempDir(), "backups")), Dumper: pgDumper{pg, db}, Database: db, Host: "h", Version: "test",
		Codec: sqldump.Gzip, Globals: true, ShrinkRatio: 0.5, Now: time.Now, Log: t.Logf,
		Schema: func(ctx context.Context) (*schema.Schema, error) {
			conn, err := pgconn.Connect(ctx, pg.URL(db))
			if err != nil {
				return nil, err
			}
			defer conn.Close(ctx)
			return schema.Capture(ctx, conn)
		},
	}
}

func awkwardDB(t *testing.T, pg *testenv.PG) {
	t.Helper()
	sql, err := os.ReadFile("testdata/awkward.sql")
	if err != nil {
		t.Fatal(err)
	}
	pg.CreateDB(t, "src")
	pg.Psql(t, "src", string(sql))
}

func plainDump(t *testing.T, pg *testenv.PG, db string) string {
	t.Helper()
	var out bytes.Buffer
	if err := (pgDumper{pg, db}).Dump(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)^\\(un)?restrict .*$`).ReplaceAllString(out.String(), "")
}

func psqlFrom(t *testing.T, pg *testenv.PG, db, script string) {
	t.Helper()
	pg.CreateDB(t, db)
	cmd := exec.Command("bash", "-c", script+` | "$0" -Xq -v ON_ERROR_STOP=1 -d "$1"`, pg.Tool("psql"), pg.SocketURL(db))
	cmd.Env = append(os.Environ(), pg.Env("src")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// sameText fails with the first lines that differ.
func sameText(t *testing.T, what, want, got string) {
	t.Helper()
	if want == got {
		return
	}
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			t.Fatalf("%s: line %d differs\nwant %.300q\n got %.300q", what, i+1, w[i], g[i])
		}
	}
	t.Fatalf("%s: %d lines, want %d", what, len(g), len(w))
}

// contents is every table's rows in order, from the server's own COPY.
func contents(t *testing.T, pg *testenv.PG, db string) string {
	t.Helper()
	tables := pg.Psql(t, db, `SELECT format('COPY (SELECT md5(t::text) FROM ONLY %I.%I t) TO STDOUT;', schemaname, replace(tablename, E'\n', E'\n'))
FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY schemaname, tablename`)
	return pg.Psql(t, db, tables+"\n SELECT oid, md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY 1;")
}

// TestByteExact is the promise: what comes back is what was there.
func TestByteExact(t *testing.T) {
	pg := testenv.Postgres(t)
	awkwardDB(t, pg)
	psqlFrom(t, pg, "ref", `"${0%/psql}/pg_dump" src`)
	want, rows := plainDump(t, pg, "ref"), contents(t, pg, "src")
	sameText(t, "reference", rows, contents(t, pg, "ref"))
	old := filepath.Join(t.TempDir(), "backups")
	for _, codec := range []sqldump.Codec{sqldump.Gzip, sqldump.Zstd} {
		o := options(t, pg, "src")
		o.Codec = codec
		res, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Manifest.Index.Members) < 20 || len(res.Warnings) > 0 {
			t.Errorf("%d members, warnings %v", len(res.Manifest.Index.Members), res.Warnings)
		}
		tool := map[sqldump.Codec]string{sqldump.Gzip: "gunzip -c ", sqldump.Zstd: "unzstd -qc "}[codec]
		psqlFrom(t, pg, "by_"+string(codec), tool+res.Path)
		sameText(t, tool, want, plainDump(t, pg, "by_"+string(codec)))
		sameText(t, tool, rows, contents(t, pg, "by_"+string(codec)))
		for _, jobs := range []int{1, 2, 4, 8} {
			db := fmt.Sprintf("own_%s_%d", codec, jobs)
			r, err := Restore(t.Context(), RestoreOptions{Store: o.Local, Name: res.Name, Naming: naming, Connect: connector(pg), Database: db, Jobs: jobs, Now: time.Now, Log: t.Logf})
			if err != nil {
				t.Fatal(err)
			}
			if r.Total != res.Manifest.Rows || r.Total < 120000 {
				t.Errorf("%d rows restored, %d backed up", r.Total, res.Manifest.Rows)
			}
			if r.SchemaObjects != res.Manifest.Schema.Objects || r.SchemaObjects < 200 {
				t.Errorf("the schema was compared in %d objects", r.SchemaObjects)
			}
			sameText(t, db, want, plainDump(t, pg, db))
			sameText(t, db, rows, contents(t, pg, db))
		}
		for _, table := range res.Manifest.Index.Tables {
			if n := pg.Psql(t, "src", "SELECT count(*) FROM ONLY "+table.Table); n != fmt.Sprint(table.Rows) {
				t.Errorf("%s has %s rows, the manifest says %d", table.Table, n, table.Rows)
			}
		}
	}
	// The old script's file: one gzip stream, no manifest.
	if err := os.MkdirAll(old, 0o700); err != nil {
		t.Fatal(err)
	}
	name := naming.File(time.Now(), sqldump.Gzip, false)
	cmd := exec.Command("bash", "-c", `"$0" src | gzip -6 > "$1"`, pg.Tool("pg_dump"), filepath.Join(old, name))
	cmd.Env = append(os.Environ(), pg.Env("src")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r, err := Restore(t.Context(), RestoreOptions{Store: store.NewDir(old), Name: name, Naming: naming, Connect: connector(pg), Database: "from_old", Jobs: 2, Now: time.Now, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	if r.Check.Kind != Plain || r.Check.Verdict != Pass {
		t.Errorf("check of the old file: %s %s", r.Check.Kind, r.Check.Verdict)
	}
	sameText(t, "old", want, plainDump(t, pg, "from_old"))
	sameText(t, "old", rows, contents(t, pg, "from_old"))
}
