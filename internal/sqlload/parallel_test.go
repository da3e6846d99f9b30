package sqlload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

const bigRows = 4000

// bigDump is a dump of one dominant table and a small one; bad, if not 0, is the
// number of a row that no server takes.
func bigDump(bad int) string {
	var s strings.Builder
	s.WriteString("SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n" +
		"CREATE TABLE public.big (id integer, note text);\nCREATE TABLE public.small (id integer);\n\nCOPY public.big (id, note) FROM stdin;\n")
	for i := 1; i <= bigRows; i++ {
		id := fmt.Sprint(i)
		if i == bad {
			id = "none"
		}
		fmt.Fprintf(&s, "%s\tnote %x\n", id, i*i*7919)
	}
	s.WriteString("\\.\n\nCOPY public.small (id) FROM stdin;\n1\n\\.\n\nALTER TABLE ONLY public.big\n    ADD CONSTRAINT big_pkey PRIMARY KEY (id);\n" +
		"\n--\n-- PostgreSQL database dump complete\n--\n\n")
	return s.String()
}

// drops yields few bytes at a time, so that members stay small.
type drops struct{ r io.Reader }

func (d drops) Read(p []byte) (int, error) { return d.r.Read(p[:min(len(p), 1<<10)]) }

// indexed makes a dump of many small members of it.
func indexed(t *testing.T, sql string, forge ...func(*sqldump.Index)) *sqldump.Indexed {
	t.Helper()
	var file bytes.Buffer
	x, err := sqldump.Write(t.Context(), &file, drops{strings.NewReader(sql)}, sqldump.Options{MemberSize: 2 << 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range forge {
		f(x)
	}
	return sqldump.IndexedSource(x, func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		b := file.Bytes()[off:]
		if n >= 0 {
			b = b[:n]
		}
		return io.NopCloser(bytes.NewReader(b)), nil
	})
}

func loadInto(t *testing.T, pg *testenv.PG, db string, src sqldump.Source, opt Options) error {
	t.Helper()
	pg.CreateDB(t, db)
	opt.Connect = func(ctx context.Context) (*pgconn.PgConn, error) { return pgconn.Connect(ctx, pg.URL(db)) }
	opt.Now, opt.Freeze = time.Now, true
	res, err := Load(t.Context(), src, opt)
	if err == nil && res.Rows["public.big"] != bigRows {
		t.Errorf("%d rows counted", res.Rows["public.big"])
	}
	return err
}

// TestAnyOrder: a dominant table is loaded by several transactions, each row
// once, where the order does not matter, and by one where it does.
func TestAnyOrder(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	sql := bigDump(0)
	for _, c := range []struct {
		name         string
		opt          Options
		transactions string
	}{
		{"any", Options{Jobs: 4, AnyOrder: true}, "4"},
		{"ordered", Options{Jobs: 4}, "1"},
		{"two", Options{Jobs: 2, AnyOrder: true}, "1"},
	} {
		if err := loadInto(t, pg, c.name, indexed(t, sql), c.opt); err != nil {
			t.Fatal(err)
		}
		if got := pg.Psql(t, c.name, "SELECT count(DISTINCT xmin::text) FROM big"); strings.TrimSpace(got) != c.transactions {
			t.Errorf("%s: loaded by %s transactions, not %s", c.name, got, c.transactions)
		}
		if got := pg.Psql(t, c.name, "SELECT string_agg(id || E'\\t' || note || E'\\n', '' ORDER BY id) FROM big"); !strings.Contains(sql, "stdin;\n"+strings.TrimSpace(got)+"\n\\.\n") {
			t.Errorf("%s: the rows are not the dump's", c.name)
		}
	}
}

// TestAnyOrderError: the row that a part breaks off at is told by its line of
// the whole dump.
func TestAnyOrderError(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	const bad = 3210
	src := indexed(t, bigDump(bad))
	err := loadInto(t, pg, "bad", src, Options{Jobs: 4, AnyOrder: true})
	var at *Error
	if !errors.As(err, &at) || at.Table != "public.big" {
		t.Fatal(err)
	}
	lines := strings.Split(gunzipped(t, src), "\n")
	if !strings.HasPrefix(lines[at.Line-1], "none\t") {
		t.Errorf("line %d is %q", at.Line, lines[at.Line-1])
	}
}

// TestAnothersRows: a member whose index says that it is of another table is
// not loaded, though the rows are as many.
func TestAnothersRows(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	sql := "CREATE TABLE public.a (id integer);\nCREATE TABLE public.b (id integer);\n\nCOPY public.a (id) FROM stdin;\n1\n\\.\n\n" +
		"COPY public.b (id) FROM stdin;\n2\n\\.\n\n--\n-- PostgreSQL database dump complete\n--\n\n"
	src := indexed(t, sql, func(x *sqldump.Index) {
		for i, m := range x.Members {
			x.Members[i].Table = map[string]string{"public.a": "public.b", "public.b": "public.a"}[m.Table]
		}
	})
	if err := loadInto(t, pg, "swapped", src, Options{Jobs: 1}); !errors.Is(err, sqldump.ErrDamaged) {
		t.Error(err)
	}
}

// gunzipped is the whole SQL as gunzip shows it, with the COPY statements that
// were added at the members' borders.
func gunzipped(t *testing.T, src *sqldump.Indexed) string {
	t.Helper()
	var all []byte
	take := func(p *sqldump.Part) error {
		defer p.Release()
		d, err := sqldump.NewDecoder(sqldump.Gzip)
		if err != nil {
			return err
		}
		sql, err := p.SQL(d, nil)
		all = append(all, sql...)
		return err
	}
	err := src.EachSQL(t.Context(), sqldump.PreData, take)
	for _, rows := range src.Tables() {
		err = errors.Join(err, src.EachRow(t.Context(), rows, take))
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}
