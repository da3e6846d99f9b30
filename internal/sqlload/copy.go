package sqlload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
)

// copying is one COPY into one table, fed part by part.
type copying struct {
	l     *loader
	table string
	fresh bool // the table was made by this load, and nobody else fills it
	parts chan block
	ended chan struct{}
	err   error // what the server said; to be read once ended
	cut   error // why the parts stopped short; written before parts is closed

	rows    int64 // sent so far
	sent    []int64
	firstAt []int64 // the line of each part's first row
}

// block is a part's rows, ready to send.
type block struct {
	statement string
	body      []byte
	rows      int64
	line      int64  // of the first row in the whole SQL
	release   func() // gives the memory back
}

// ahead is how many decompressed parts of a COPY wait, beside the one that is
// being sent and the one that is being decompressed.
const ahead = 1

// copyTable loads one table of an indexed dump, or a part of it.
func (l *loader) copyTable(ctx context.Context, s *session, src *sqldump.Indexed, t load) error {
	c := l.begin(ctx, s, t.Table, !l.opt.RowsOnly && !t.part)
	return c.end(src.EachRow(ctx, t.Rows, c.send))
}

// begin starts a COPY; send its parts, then end it.
func (l *loader) begin(ctx context.Context, s *session, table string, fresh bool) *copying {
	c := &copying{l: l, table: table, fresh: fresh, parts: make(chan block, ahead), ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		c.err = c.run(ctx, s)
	}()
	return c
}

// send decompresses a part and hands it to the connection.
func (c *copying) send(p *sqldump.Part) error {
	b, err := c.open(p)
	if err != nil {
		if fault := (sqldump.Fault{}); errors.As(err, &fault) {
			return err // it says where
		}
		return &Error{Table: c.table, Line: p.Line, Err: err}
	}
	select {
	case c.parts <- b:
		return nil
	case <-c.ended:
		b.release()
		return errServer
	}
}

func (c *copying) open(p *sqldump.Part) (b block, err error) {
	sql, release, err := c.l.text(p, c.ended)
	defer func() {
		if err != nil {
			release()
		}
	}()
	if err != nil {
		return block{}, err
	}
	parsed, err := sqldump.ParseCopy(sql, c.l.src.EscapeStrings())
	if err != nil {
		return block{}, err
	}
	if parsed.Table != p.Table {
		return block{}, fmt.Errorf("%w: it holds rows of %s", sqldump.ErrDamaged, parsed.Table)
	}
	if parsed.Rows != p.Rows {
		return block{}, fmt.Errorf("%w: it holds %d, its index says %d", ErrRowCount, parsed.Rows, p.Rows)
	}
	head := sql[:len(sql)-len(parsed.Body)-len("\\.\n")]
	return block{statement: parsed.Statement, body: parsed.Body, rows: p.Rows, release: release, line: p.Line + int64(bytes.Count(head, []byte{'\n'}))}, nil
}

// end waits for the COPY to finish. With an error, which says why the parts
// stopped short, nothing of the table is kept.
func (c *copying) end(cut error) error {
	c.cut = cut
	close(c.parts)
	<-c.ended
	for b := range c.parts {
		b.release() // what nobody sent: others may wait for its room
	}
	if cut != nil && !errors.Is(cut, errServer) {
		return cut
	}
	return c.err
}

// errServer says that the server's own error, kept in err, ended the parts.
var errServer = errors.New("the server ended the COPY")

// run speaks to the server. Emptying a fresh table in the same transaction loses
// nothing and lets a server with wal_level=minimal load it without WAL, as
// pg_restore does.
func (c *copying) run(ctx context.Context, s *session) error {
	first, ok := <-c.parts
	if !ok {
		return c.cut
	}
	r := &blockReader{c: c, cur: first}
	defer r.drop()
	at := Error{Table: c.table, Line: first.line, Statement: first.statement}
	if c.fresh {
		if err := s.exec(ctx, "BEGIN; TRUNCATE TABLE ONLY "+c.table, at); err != nil {
			return err
		}
	}
	r.enter(first)
	statement := first.statement
	if c.fresh && c.l.opt.Freeze {
		statement += " WITH (FREEZE)"
	}
	tag, err := s.conn.CopyFrom(ctx, r, statement)
	if err != nil {
		return c.explain(err, at)
	}
	if tag.RowsAffected() != c.rows {
		at.Err = fmt.Errorf("%w: %d, the dump holds %d", ErrRowCount, tag.RowsAffected(), c.rows)
		return &at
	}
	if c.fresh {
		return s.exec(ctx, "COMMIT", at)
	}
	return nil
}

var copyLine = regexp.MustCompile(`, line (\d+)`)

// explain turns the row that the server names into a line of the dump.
func (c *copying) explain(err error, at Error) error {
	at.Err = err
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return &at
	}
	if m := copyLine.FindStringSubmatch(pg.Where); m != nil {
		row, _ := strconv.ParseInt(m[1], 10, 64) // digits by the pattern
		for i, before := range c.sent {
			if row > before {
				at.Line = c.firstAt[i] + row - before - 1
			}
		}
	}
	return &at
}

// blockReader is the bodies of a table's parts, one after another.
type blockReader struct {
	c    *copying
	cur  block
	rest []byte
}

func (r *blockReader) enter(b block) {
	r.cur, r.rest = b, b.body
	r.c.sent, r.c.firstAt = append(r.c.sent, r.c.rows), append(r.c.firstAt, b.line)
	r.c.rows += b.rows
}

func (r *blockReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		r.leave()
		b, ok := <-r.c.parts
		if !ok {
			if r.c.cut != nil {
				return 0, r.c.cut // the rest of the dump could not be read
			}
			return 0, io.EOF
		}
		if b.statement != r.cur.statement {
			return 0, fmt.Errorf("%w: %s after %s", sqldump.ErrDamaged, b.statement, r.cur.statement)
		}
		r.enter(b)
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// drop gives the memory of the block back; it says whether there was one.
func (r *blockReader) drop() bool {
	if r.cur.release == nil {
		return false
	}
	r.cur.release()
	r.cur.release = nil
	return true
}

// leave passes on what was sent.
func (r *blockReader) leave() {
	if !r.drop() {
		return
	}
	total := r.c.l.counts.add(r.c.table, r.cur.rows)
	if r.c.l.opt.Progress != nil {
		r.c.l.opt.Progress(total)
	}
}
