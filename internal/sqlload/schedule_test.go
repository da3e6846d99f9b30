package sqlload

import (
	"context"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// TestWeigh: the longest first, with what waits for it; on one table the dump's
// order where one locks the other out.
func TestWeigh(t *testing.T) {
	t.Parallel()
	statements := []string{
		"ALTER TABLE ONLY public.big\n    ADD CONSTRAINT big_pkey PRIMARY KEY (id);",
		"ALTER TABLE ONLY public.mid\n    ADD CONSTRAINT mid_pkey PRIMARY KEY (id);",
		"ALTER TABLE ONLY public.small\n    ADD CONSTRAINT small_pkey PRIMARY KEY (id);",
		"CREATE INDEX parent_idx ON ONLY public.parent USING btree (a);",
		"CREATE INDEX big_a ON public.big USING btree (a);",
		"CREATE INDEX mid_text ON public.mid USING gin (text);",
		"CREATE INDEX small_a ON public.small USING btree (a);",
	}
	jobs := make([]*job, len(statements))
	for i, s := range statements {
		j := classify([]byte(s))
		j.sql = s
		if j.kind != buildIndex {
			t.Fatalf("%s is not known as the build of an index", s)
		}
		jobs[i] = &j
	}
	weigh(jobs, map[string]int64{"public.big": 1000, "public.mid": 400, "public.small": 10})
	want := []int{1, 5, 0, 4, 2, 6, 3} // mid: 400 and 3200 after it; big: 1000 and 1000 after it
	for i, j := range jobs {
		if j.sql != statements[want[i]] {
			t.Errorf("place %d has %s", i, j.sql)
		}
	}
}

// keys is a schema whose foreign keys are of every kind that pg_dump writes.
const keys = `CREATE TABLE a (id integer PRIMARY KEY);
CREATE TABLE b (id integer PRIMARY KEY, a integer REFERENCES a ON DELETE CASCADE, up integer REFERENCES b DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE "C d" (a integer CONSTRAINT "C d; a" REFERENCES a, b integer, loose integer);
CREATE TABLE parts (id integer PRIMARY KEY, a integer REFERENCES a) PARTITION BY RANGE (id);
CREATE TABLE part1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE INDEX ON parts (a);
INSERT INTO a SELECT generate_series(1, 50);
INSERT INTO b SELECT n, n, n FROM generate_series(1, 50) n;
INSERT INTO "C d" SELECT n, n, 1000 + n FROM generate_series(1, 50) n;
INSERT INTO parts SELECT n, n FROM generate_series(1, 50) n;
ALTER TABLE "C d" ADD CONSTRAINT "C d b" FOREIGN KEY (b) REFERENCES b;
ALTER TABLE "C d" ADD CONSTRAINT "to parts" FOREIGN KEY (a) REFERENCES parts;
ALTER TABLE "C d" ADD CONSTRAINT loose FOREIGN KEY (loose) REFERENCES a NOT VALID;`

const constraints = `SELECT conrelid::regclass, conname, contype, convalidated, condeferrable, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace ORDER BY conrelid::regclass::text, conname;
SELECT indexrelid::regclass, indisvalid, pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid::regclass::text ~ '^("C d"|[ab]|part.*)$' ORDER BY indexrelid::regclass::text`

// TestForeignKeys: keys that are made first and validated then end up as the
// dump has them, and a row without what it points to ends the load.
func TestForeignKeys(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	pg.CreateDB(t, "src")
	pg.Psql(t, "src", keys)
	dump := exec.Command(pg.Tool("pg_dump"), "src")
	dump.Env = pg.Env("src")
	sql, err := dump.Output()
	if err != nil {
		t.Fatal(err)
	}
	load := func(name, sql string) error {
		pg.CreateDB(t, name)
		_, err := Load(t.Context(), indexed(t, sql), Options{Jobs: 3, Now: time.Now,
			Connect: func(ctx context.Context) (*pgconn.PgConn, error) { return pgconn.Connect(ctx, pg.URL(name)) }})
		return err
	}
	if err := load("good", string(sql)); err != nil {
		t.Fatal(err)
	}
	want := pg.Psql(t, "src", constraints)
	if got := pg.Psql(t, "good", constraints); got != want {
		t.Errorf("the constraints are\n%s\nnot\n%s", got, want)
	}
	if strings.Count(want, "NOT VALID") != 1 || !strings.Contains(want, "FOREIGN KEY") {
		t.Fatalf("the source is not what this test needs:\n%s", want)
	}

	for _, c := range []struct{ name, from, to, constraint string }{
		{"orphan", "\n50\t50\t50\n", "\n50\t51\t50\n", "b_a_fkey"},
		{"orphan_part", "\n50\t50\n\\.\n", "\n50\t51\n\\.\n", "parts_a_fkey"},
	} {
		bad := strings.Replace(string(sql), c.from, c.to, 1)
		if bad == string(sql) {
			t.Fatalf("%s: the dump holds no %q", c.name, c.from)
		}
		var at *Error
		if err := load(c.name, bad); !errors.As(err, &at) || !strings.Contains(err.Error(), c.constraint) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		lines := strings.Split(bad, "\n")
		if around := lines[at.Line-1 : at.Line+2]; !slices.ContainsFunc(around, func(l string) bool { return strings.Contains(l, c.constraint) }) {
			t.Errorf("%s: line %d is %q", c.name, at.Line, around)
		}
	}
}
