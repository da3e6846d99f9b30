// Package sqlload loads a plain dump into a PostgreSQL server over the wire
// protocol, in parallel: several tables at once, the largest first, beside them
// the indexes of those that are loaded, then constraints and the rest, as
// pg_restore -j does for its own formats. Rows keep the order that the dump has them in.
//
// It takes psql's place: every statement is sent as psql would send it and the
// first error ends the load. Meta-commands are not run, so a hostile dump has
// no way to a shell.
package sqlload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
)

// Options say how to load.
type Options struct {
	// Connect opens a new connection to the target database.
	Connect func(ctx context.Context) (*pgconn.PgConn, error)
	Jobs    int // connections that load or build at once; 0 is one a core
	// Only, if not nil, restricts the load to the tables it accepts, by their
	// names as SQL writes them: the whole pre-data, their rows, and their
	// indexes, primary keys and unique constraints.
	Only func(table string) bool
	// RowsOnly leaves out all but the rows, for tables that are there.
	RowsOnly bool
	// Freeze loads rows as if they had always been there, which spares the server
	// a second look at each. Until the load has ended, sessions with an older
	// snapshot see them.
	Freeze bool
	// AnyOrder lets a table that is more than one connection's share of the dump
	// be loaded by several at once, from four Jobs on. Its rows then come to lie in another order
	// than the dump has them in, and are neither frozen nor spared the WAL.
	AnyOrder bool
	// Mend, if not nil, is asked about a statement without rows that failed: if
	// it returns true, the statement is tried again.
	Mend func(ctx context.Context, conn *pgconn.PgConn, err error) bool
	Now  func() time.Time
	// Entering, if not nil, is told each section when it begins.
	Entering func(s sqldump.Section)
	// Progress, if not nil, is called with the rows loaded so far. It must be
	// safe for concurrent use.
	Progress func(rows int64)
}

// Result is what a load did.
type Result struct {
	Rows   map[string]int64 // by table as SQL names it
	Schema time.Duration    // pre-data
	Load   time.Duration    // rows, and the indexes that were built meanwhile
	Index  time.Duration    // the rest, after the last row
	// Decompress is the time that checking and decompressing took, of all
	// connections together: it runs beside the server's own work.
	Decompress time.Duration
}

// Error is the first statement that failed, and where it stands.
type Error struct {
	Table     string // the table whose rows were being loaded, or ""
	Line      int64  // of the decompressed SQL, from 1
	Statement string // its first line
	Err       error
}

func (e *Error) Error() string {
	msg := fmt.Sprintf("line %d: ", e.Line)
	if e.Table != "" {
		msg += "rows of " + e.Table + ": "
	}
	msg += e.Err.Error()
	var pg *pgconn.PgError
	if errors.As(e.Err, &pg) {
		if pg.Detail != "" {
			msg += ": " + pg.Detail
		}
		if pg.Where != "" && e.Table != "" {
			msg += ": " + firstLine(pg.Where)
		}
	}
	if e.Table == "" {
		msg += ": " + e.Statement
	}
	if pg != nil && pg.Code == "42501" { // insufficient_privilege
		msg += ": restore as the role that owns the dump's objects, or as a superuser"
	}
	return msg
}

func (e *Error) Unwrap() error { return e.Err }

// ErrMetaCommand says that a dump holds a psql meta-command that pg_dump does
// not write into a dump of one database.
var ErrMetaCommand = errors.New("the dump holds a psql meta-command")

// ErrServerFile says that a dump holds a COPY that reads or writes a file of the
// server's, or runs a program there. It does not say that nothing else in the
// dump does.
var ErrServerFile = errors.New("the dump has the server read or write a file or run a program, which no pg_dump does: find out who changed it")

// ErrRowCount says that the server took a different number of rows than the
// dump holds.
var ErrRowCount = errors.New("the server took a different number of rows")

// ErrOpenTransaction says that a dump begins a transaction and does not end it:
// what is in it is lost.
var ErrOpenTransaction = errors.New("the dump leaves a transaction open, so what is in it is lost")

// Load loads src into the database that opt.Connect reaches. On an error the
// database holds what was loaded until then.
func Load(ctx context.Context, src sqldump.Source, opt Options) (*Result, error) {
	if opt.Jobs <= 0 {
		opt.Jobs = runtime.GOMAXPROCS(0)
	}
	l := &loader{src: src, opt: opt, result: &Result{}, early: map[int]bool{}, phase: sqldump.PreData, since: opt.Now(),
		spare: make(chan []byte, opt.Jobs*(ahead+2)), turn: make(chan []byte, 1)}
	l.turn <- nil
	if opt.Entering != nil {
		opt.Entering(sqldump.PreData)
	}
	main, err := l.session(ctx)
	if err != nil {
		return nil, err
	}
	defer main.close()
	l.main = main
	l.post = scheduler{jobs: opt.Jobs, connect: l.prepared, parted: map[string]bool{}}
	switch src := src.(type) {
	case *sqldump.Indexed:
		err = l.indexed(ctx, src)
	case *sqldump.Plain:
		err = l.plain(ctx, src)
	default:
		return nil, fmt.Errorf("load: unknown source %T", src)
	}
	if err == nil {
		err = l.post.flush(ctx)
	}
	if err == nil && main.conn.TxStatus() != idle {
		l.last.Err = ErrOpenTransaction
		err = &l.last
	}
	l.enter("")
	l.result.Decompress = time.Duration(l.decompressing.Load())
	l.result.Rows = l.counts.all()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return l.result, err
}

// loader holds one load. Fields without a lock belong to the goroutine that
// runs the statements.
type loader struct {
	src    sqldump.Source
	opt    Options
	main   *session
	counts counts
	result *Result

	phase    sqldump.Section
	since    time.Time
	preamble []string     // the SETs of the pre-data, for further sessions
	early    map[int]bool // statements of the post-data, counted from 1, that were run beside the rows
	number   int          // of the last statement of the post-data
	post     scheduler
	last     Error // where the last statement on main stands
	decoders sync.Pool
	spare    chan []byte // decompressed blocks to use again, of whichever table
	turn     chan []byte // the same for a large block, of which there is one at a time

	decompressing atomic.Int64 // nanoseconds
}

// indexed loads section by section; the rows from several places of the file
// at once.
func (l *loader) indexed(ctx context.Context, src *sqldump.Indexed) error {
	statements := func(p *sqldump.Part) error { return l.statements(ctx, p) }
	if err := src.EachSQL(ctx, sqldump.PreData, statements); err != nil {
		return err
	}
	l.enter(sqldump.Data)
	if err := l.rows(ctx, src); err != nil {
		return err
	}
	l.enter(sqldump.PostData)
	if l.opt.RowsOnly {
		return nil
	}
	// Sequences and large objects.
	if err := src.EachSQL(ctx, sqldump.Data, statements); err != nil {
		return err
	}
	return src.EachSQL(ctx, sqldump.PostData, statements)
}

// plain loads in the file's order, the rows of one table after another.
func (l *loader) plain(ctx context.Context, src *sqldump.Plain) error {
	rows, err := l.session(ctx)
	if err != nil {
		return err
	}
	defer rows.close()
	var open *copying
	endCopy := func(cut error) error {
		if open == nil {
			return cut
		}
		c := open
		open = nil
		return c.end(cut)
	}
	err = src.Each(ctx, func(p *sqldump.Part) error {
		if open != nil && open.table != p.Table {
			if err := endCopy(nil); err != nil {
				return err
			}
		}
		if p.Section != l.phase {
			l.enter(p.Section)
		}
		if p.Table == "" {
			return l.statements(ctx, p)
		}
		if l.opt.Only != nil && !l.opt.Only(p.Table) {
			p.Release()
			return nil
		}
		if open == nil {
			if err := rows.apply(ctx, l.preamble, len(l.preamble)); err != nil {
				return err
			}
			open = l.begin(ctx, rows, p.Table, !l.opt.RowsOnly)
		}
		return open.send(p)
	})
	return endCopy(err)
}

// enter notes how long the section took that ends now.
func (l *loader) enter(next sqldump.Section) {
	now := l.opt.Now()
	switch l.phase {
	case sqldump.PreData:
		l.result.Schema += now.Sub(l.since)
	case sqldump.Data:
		l.result.Load += now.Sub(l.since)
	case sqldump.PostData:
		l.result.Index += now.Sub(l.since)
	}
	before := l.phase
	l.phase, l.since = next, now
	if next != "" && next != before && l.opt.Entering != nil {
		l.opt.Entering(next)
	}
}

// statements runs a part without rows.
func (l *loader) statements(ctx context.Context, p *sqldump.Part) error {
	defer p.Release()
	sql, err := l.sql(p, l.main.decoder, l.main.buf)
	if err != nil {
		return err
	}
	return sqldump.EachStatement(sql, l.src.EscapeStrings(), func(s sqldump.Statement) error {
		return l.statement(ctx, p, s)
	})
}

// sql decompresses a part and notes how long that took.
func (l *loader) sql(p *sqldump.Part, d *sqldump.Decoder, buf []byte) ([]byte, error) {
	start := l.opt.Now()
	sql, err := p.SQL(d, buf)
	l.decompressing.Add(int64(l.opt.Now().Sub(start)))
	return sql, err
}

// statement runs one statement that is no COPY, or hands it on to run beside
// others.
func (l *loader) statement(ctx context.Context, p *sqldump.Part, s sqldump.Statement) error {
	text := string(s.Text)
	at := Error{Line: p.Line + s.Line, Statement: firstLine(text)}
	if p.Section == sqldump.PostData {
		if l.number++; l.early[l.number] {
			return nil
		}
	}
	if s.Meta {
		if bytes.HasPrefix(s.Text, []byte(`\restrict `)) || bytes.HasPrefix(s.Text, []byte(`\unrestrict `)) {
			return nil
		}
		at.Err = ErrMetaCommand
		return &at
	}
	if isCopy(s.Text) {
		at.Err = ErrServerFile
		return &at
	}
	set := isSetting(s.Text)
	if set && p.Section == sqldump.PreData {
		l.preamble = append(l.preamble, text)
	}
	if table, rest := sqldump.NameAfter(s.Text, "CREATE TABLE "); table != "" && bytes.Contains(rest, []byte("\nPARTITION BY ")) {
		l.post.parted[table] = true
	}
	if l.opt.RowsOnly && !set {
		return nil
	}
	if p.Section != sqldump.PostData {
		l.last = at
		return l.main.exec(ctx, text, at)
	}
	j := classify(s.Text)
	if l.opt.Only != nil && !set && (j.kind != buildIndex || !l.opt.Only(j.tables[0])) {
		return nil
	}
	j.sql, j.at = text, at
	return l.post.add(ctx, &j)
}

// isCopy reports whether a statement is a COPY. What is no member of rows and no
// COPY FROM stdin is one that reads, writes or runs something on the server.
func isCopy(stmt []byte) bool { return copyWord.Match(stmt) }

var copyWord = regexp.MustCompile(`(?i)^copy\b`)

// isSetting reports whether a statement changes only the session.
func isSetting(stmt []byte) bool {
	return bytes.HasPrefix(stmt, []byte("SET ")) || bytes.HasPrefix(stmt, []byte("SELECT pg_catalog.set_config("))
}

func firstLine(s string) string {
	for i, r := range s {
		if r == '\n' || i >= 200 {
			return s[:i]
		}
	}
	return s
}
