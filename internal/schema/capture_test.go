package schema

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// read captures the schema of a database.
func read(t *testing.T, pg *testenv.PG, db string) *Schema {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), pg.URL(db))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	s, err := Capture(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fill makes a database from files.
func fill(t *testing.T, pg *testenv.PG, db string, files ...string) {
	t.Helper()
	pg.CreateDB(t, db)
	for _, f := range files {
		sql, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		pg.Psql(t, db, string(sql))
	}
}

// copyDB dumps and restores a database as the runbook does.
func copyDB(t *testing.T, pg *testenv.PG, from, to string) {
	t.Helper()
	pg.CreateDB(t, to)
	dump := exec.Command(pg.Tool("pg_dump"))
	dump.Env = append(os.Environ(), pg.Env(from)...)
	var out, stderr bytes.Buffer
	dump.Stdout, dump.Stderr = &out, &stderr
	if err := dump.Run(); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	pg.Psql(t, to, out.String())
}

// rawDifferences counts the fields that are not the same text.
func rawDifferences(a, b *Schema) int {
	n, other := 0, byID(b)
	for _, o := range a.Objects {
		for name, text := range o.Fields {
			if got, ok := other[o.ID()]; ok && got.Fields[name] != text {
				n++
			}
		}
	}
	return n
}

// TestRestoredCopyIsEqual: what the server rewrites on restore is no
// difference, in a database with every awkward thing, in one with expressions of
// all kinds in every place, and in the platform's.
func TestRestoredCopyIsEqual(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	for db, want := range map[string]struct {
		file      string
		rewritten int // at least: or the corpus proves nothing
	}{
		"awkward":     {"../backup/testdata/awkward.sql", 3},
		"expressions": {"testdata/expressions.sql", 30},
		"platform":    {"../../deploy/sandbox/initdb/10-schema.sql", 1},
	} {
		if db == "platform" {
			pg.Psql(t, "postgres", "DO $$ BEGIN CREATE ROLE indexer; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
		}
		fill(t, pg, db, want.file)
		source := read(t, pg, db)
		last := source
		for i, copied := range []string{db + "_2", db + "_3"} {
			from := db
			if i > 0 {
				from = db + "_2"
			}
			copyDB(t, pg, from, copied)
			restored := read(t, pg, copied)
			for _, d := range Compare(source, restored) {
				t.Errorf("%s: %s\n  want %q\n   got %q", copied, d, d.Want, d.Got)
			}
			if source.Fingerprint() != restored.Fingerprint() {
				t.Errorf("%s: the fingerprints differ", copied)
			}
			if n := rawDifferences(source, restored); n < want.rewritten {
				t.Errorf("%s: the server rewrote only %d texts", copied, n)
			}
			last = restored
		}
		t.Logf("%s: %d objects, %d rewritten, roles %q", db, len(source.Objects), rawDifferences(source, last), source.Roles())
	}
}

// TestLarge: a schema of 2,000 tables is read fast and recorded small.
func TestLarge(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	pg.CreateDB(t, "large")
	var sql strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&sql, "CREATE TABLE public.t%d (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a text NOT NULL, b varchar(10) CHECK (b IN ('a', 'b')), c numeric(20,7) DEFAULT 0, d timestamptz DEFAULT now(), e jsonb, f uuid DEFAULT gen_random_uuid(), g int, h int, i int, j int, k int);\n"+
			"CREATE INDEX t%d_a ON public.t%d (a) WHERE b IN ('a', 'b');\n", i, i, i)
	}
	pg.Psql(t, "large", sql.String())
	begin := time.Now()
	s := read(t, pg, "large")
	took := time.Since(begin)
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(Compare(s, back)); n != 0 || s.Fingerprint() != back.Fingerprint() || len(s.Objects) < 2000*16 {
		t.Errorf("%d differences after encoding, %d objects", n, len(s.Objects))
	}
	if len(data) > 1<<20 {
		t.Errorf("it takes %d bytes", len(data))
	}
	t.Logf("%d objects in %s, %d bytes, compared and encoded in %s", len(s.Objects), took, len(data), time.Since(begin)-took)
}
