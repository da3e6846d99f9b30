package drtest

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn" //nolint:depguard // the connection type that sqlload takes
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"golang.org/x/sync/errgroup"
)

// verify runs the checks on the restored database. Its error is for a database
// that cannot be asked.
func (r *run) verify(ctx context.Context, b *Backup) error {
	conn, err := r.in.Connect(ctx, target)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	tables, err := query(ctx, conn, allTables)
	if err != nil {
		return fmt.Errorf("list the restored tables: %w", err)
	}
	r.minTables(len(tables))
	var defs *definitions
	g, asking := errgroup.WithContext(ctx)
	g.Go(func() error { return r.count(asking, b) })
	g.Go(func() (err error) { defs, err = define(asking, conn); return err })
	if err := g.Wait(); err != nil {
		return err
	}
	r.countConfigured(ctx, conn, tables)
	r.compareRows(b)
	r.judgeDefinitions(defs, b.Schema)
	r.assertions(ctx, conn)
	r.age(b)
	r.newest(ctx, conn, tables)
	r.rto()
	if b.Index != nil && b.Schema == nil {
		r.rep.Notes = append(r.rep.Notes, "its manifest records no schema: definitions are compared with nothing")
	}
	if b.Index == nil && b.Kind != "unfinished" {
		r.rep.Notes = append(r.rep.Notes, "it has no manifest: rows are compared with what the file holds, and its schema with nothing")
	}
	return nil
}

// allTables lists the tables that are not an extension's: schema, name, quoted.
const allTables = `SELECT n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 3`

// query returns rows as text; NULL is "".
func query(ctx context.Context, c *pgconn.PgConn, sql string) ([][]string, error) {
	res := c.ExecParams(ctx, sql, nil, nil, nil, nil).Read()
	if res.Err != nil {
		return nil, res.Err
	}
	rows := make([][]string, len(res.Rows))
	for i, row := range res.Rows {
		for _, v := range row {
			rows[i] = append(rows[i], string(v))
		}
	}
	return rows, nil
}

func (r *run) minTables(n int) {
	c := check.Result{ID: idMinTables, Summary: fmt.Sprintf("%d tables, at least %d wanted", n, r.MinTables),
		Figures: []check.Figure{{Name: "tables", Unit: "count", Value: float64(n)}}}
	if n < r.MinTables {
		c.Status = check.Critical
		c.Action = "look at what was dumped: see dr_test.min_tables"
	}
	r.rep.add(c)
}

// count counts the rows of every table of the dump in the restored database,
// the largest first and several at once.
func (r *run) count(ctx context.Context, b *Backup) error {
	want := map[string]int64{}
	if b.Index != nil {
		for _, t := range b.Index.Tables {
			want[t.Table] += t.Rows
		}
	} else {
		want = r.load.Rows
	}
	for table, n := range want {
		r.rep.Rows = append(r.rep.Rows, Rows{Table: table, Want: n, Rows: -1})
	}
	slices.SortFunc(r.rep.Rows, func(a, b Rows) int { return cmp.Or(cmp.Compare(b.Want, a.Want), cmp.Compare(a.Table, b.Table)) })
	jobs := r.Jobs
	if jobs <= 0 {
		jobs = runtime.GOMAXPROCS(0)
	}
	g, ctx := errgroup.WithContext(ctx)
	next := make(chan *Rows, len(r.rep.Rows))
	for i := range r.rep.Rows {
		next <- &r.rep.Rows[i]
	}
	close(next)
	var mu sync.Mutex
	for range min(jobs, len(r.rep.Rows)) {
		g.Go(func() error {
			conn, err := r.in.Connect(ctx, target)
			if err != nil {
				return err
			}
			defer closeConn(conn)
			for t := range next {
				n, err := countRows(ctx, conn, "ONLY "+t.Table)
				if err != nil {
					return fmt.Errorf("count the rows of %s: %w", t.Table, err)
				}
				mu.Lock()
				t.Rows = n
				mu.Unlock()
			}
			return nil
		})
	}
	return g.Wait()
}

func countRows(ctx context.Context, conn *pgconn.PgConn, from string) (int64, error) {
	rows, err := query(ctx, conn, "SELECT pg_catalog.count(*) FROM "+from)
	if err != nil {
		return 0, err
	}
	var n int64
	_, err = fmt.Sscan(rows[0][0], &n)
	return n, err
}

// withParts lists a table and those that are parts of it or inherit from it, of
// those that have rows of their own.
const withParts = `WITH RECURSIVE t (oid) AS (SELECT %s::pg_catalog.regclass::oid
	UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid)
SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname) FROM t JOIN pg_catalog.pg_class c USING (oid)
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind <> 'p'`

// rowsOf is the number of a table's rows with those of its parts: what count
// has counted, or counted now where one of them is not in the dump.
func (r *run) rowsOf(ctx context.Context, conn *pgconn.PgConn, table string) (int64, error) {
	counted := map[string]int64{}
	for _, t := range r.rep.Rows {
		counted[t.Table] = t.Rows
	}
	parts, err := query(ctx, conn, fmt.Sprintf(withParts, literal(table)))
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for _, part := range parts {
		n, ok := counted[part[0]]
		if !ok {
			return countRows(ctx, conn, table)
		}
		total += n
	}
	return total, nil
}

// compareRows holds the rows that were counted against those of the dump.
func (r *run) compareRows(b *Backup) {
	c := check.Result{ID: idRows}
	of := "the file's"
	if b.Index != nil {
		of = "the manifest's"
	}
	for _, t := range r.rep.Rows {
		if t.Rows != t.Want {
			c.Status = check.Critical
			c.Detail = append(c.Detail, fmt.Sprintf("%s has %d rows, not %d", t.Table, t.Rows, t.Want))
		}
	}
	switch {
	case len(r.rep.Rows) == 0:
		c.Status, c.Summary = check.Critical, "the dump holds the rows of no table"
		c.Action = "look at how it was made: pg_dump --schema-only, or --inserts?"
	case c.Status == check.Critical:
		c.Summary = fmt.Sprintf("the rows of %d of %d tables are not %s", len(c.Detail), len(r.rep.Rows), of)
	default:
		c.Summary = fmt.Sprintf("the rows of all %d tables are %s", len(r.rep.Rows), of)
	}
	r.rep.add(c)
}

// countConfigured wants rows in the tables that were configured.
func (r *run) countConfigured(ctx context.Context, conn *pgconn.PgConn, tables [][]string) {
	if len(r.Tables) == 0 {
		return
	}
	c := check.Result{ID: idTables}
	var said []string
	for _, name := range r.Tables {
		p, n := r.configured(ctx, conn, tables, name)
		c.Parts = append(c.Parts, p)
		c.Status = check.Worst(c.Status, p.Status)
		r.rep.Counts[name] = n
		said = append(said, p.Summary)
		if p.Action != "" {
			c.Action = p.Action
		}
	}
	c.Summary = strings.Join(said, ", ")
	r.rep.add(c)
}

func (r *run) configured(ctx context.Context, conn *pgconn.PgConn, tables [][]string, name string) (check.Result, int64) {
	p := check.Result{ID: idTables + "." + name}
	quoted := locate(tables, name)
	if quoted == "" {
		p.Status = check.Critical
		p.Summary = fmt.Sprintf("there is no table %s: it has %s", name, some(tables))
		p.Action = "correct dr_test.tables, or look at whose dump it is"
		return p, 0
	}
	n, err := r.rowsOf(ctx, conn, quoted)
	switch {
	case err != nil:
		p.Status, p.Summary = check.Unknown, fmt.Sprintf("%s cannot be counted: %v", name, err)
	case n == 0:
		p.Status, p.Summary = check.Critical, name+" has no rows"
		p.Action = "an empty table proves nothing: find out whether it should be"
	default:
		p.Summary = fmt.Sprintf("%s has %d rows", name, n)
	}
	return p, n
}

// locate finds a table by the name that a person wrote; "" if there is none.
func locate(tables [][]string, name string) string {
	pattern, err := sqldump.ParseName(name)
	if err != nil {
		return ""
	}
	for _, t := range tables {
		if (sqldump.Name{Schema: t[0], Table: t[1]}).Match(pattern) {
			return t[2]
		}
	}
	return ""
}

// some names a few of the tables.
func some(tables [][]string) string {
	const shown = 12
	if len(tables) == 0 {
		return "none at all"
	}
	var names []string
	for _, t := range tables[:min(len(tables), shown)] {
		names = append(names, strings.TrimPrefix(t[2], "public."))
	}
	text := strings.Join(names, ", ")
	if more := len(tables) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
