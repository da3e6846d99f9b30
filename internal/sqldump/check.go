package sqldump

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"
)

// CheckOptions say how thoroughly a dump is checked.
type CheckOptions struct {
	Jobs int // goroutines; 0 is one a core
	// Deep also checks each row: as many fields as its COPY statement names,
	// and valid UTF-8 where the dump says that it is UTF-8.
	Deep bool
	// BytesOnly leaves members with rows compressed and goes by their checksums:
	// for a load that follows, which looks at the same rows anyway.
	BytesOnly bool
	// Progress, if not nil, is called with the compressed bytes checked so far.
	Progress func(bytes int64)
}

// Fault is one thing wrong with a dump, by its place in the file.
type Fault struct {
	Member  int // -1: the file as a whole
	Offset  int64
	Size    int64
	Section Section
	Table   string
	Err     error
}

// Error names the byte range and what lies there.
func (f Fault) Error() string {
	if f.Member < 0 {
		return f.Err.Error()
	}
	m := Member{Section: f.Section, Table: f.Table}
	return fmt.Sprintf("bytes %d to %d, %s: %v", f.Offset, f.Offset+f.Size-1, m.describe(), f.Err)
}

func (f Fault) Unwrap() error { return f.Err }

// maxFaults bounds how many faults of one file are kept: the first ones tell
// where the damage is.
const maxFaults = 100

// Check reads the whole compressed stream once, in order, and checks on all
// cores that every member is what the index says: its checksum, that it
// decompresses to its size, its table and number of rows, and that the end
// mark closes the last one. It returns what is wrong, in file order, and none
// if nothing is; the error is for a stream that could not be read.
func (x *Index) Check(ctx context.Context, open Ranger, opt CheckOptions) ([]Fault, error) {
	if err := x.Validate(); err != nil {
		return []Fault{{Member: -1, Err: err}}, nil //nolint:nilerr // the fault is the file's
	}
	if len(x.Members) == 0 {
		return []Fault{{Member: -1, Err: fmt.Errorf("%w: it has no members", ErrTruncated)}}, nil
	}
	if opt.Jobs <= 0 {
		opt.Jobs = runtime.GOMAXPROCS(0)
	}
	c := &checker{x: x, opt: opt, turn: make(chan []byte, 1)}
	c.turn <- nil
	if err := c.run(ctx, open); err != nil {
		var early *EarlyEndError
		switch {
		case errors.As(err, &early):
			c.fault(early.Number, err)
		case errors.Is(err, ErrTrailing), errors.Is(err, ErrDamaged):
			c.fault(-1, err)
		default:
			return nil, err
		}
	}
	slices.SortFunc(c.faults, func(a, b Fault) int { return int(a.Offset - b.Offset) })
	return c.faults, nil
}

type checker struct {
	x    *Index
	opt  CheckOptions
	turn chan []byte // to unpack a large member, and the memory for it
	mu   sync.Mutex
	read int64

	faults []Fault
}

func (c *checker) run(ctx context.Context, open Ranger) error {
	g, ctx := errgroup.WithContext(ctx)
	work := make(chan *Raw, c.opt.Jobs)
	g.Go(func() error {
		defer close(work)
		return c.x.read(ctx, open, new(sync.Pool), c.x.all(), func(r *Raw) error {
			select {
			case work <- r:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	})
	for range c.opt.Jobs {
		g.Go(func() error {
			d, err := NewDecoder(c.x.Codec)
			if err != nil {
				return err
			}
			defer d.Close()
			var sql []byte
			for r := range work {
				sql, err = c.inTurn(d, sql, r)
				if err != nil {
					c.fault(r.Number, err)
				}
				c.progress(r.Member.Size)
				r.Release()
			}
			return nil
		})
	}
	return g.Wait()
}

func (c *checker) fault(number int, err error) {
	f := Fault{Member: number, Err: err}
	if number >= 0 {
		m := c.x.Members[number]
		f.Offset, f.Size, f.Section, f.Table = m.Offset, m.Size, m.Section, m.Table
	} else {
		f.Offset = c.x.Size
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.faults) < maxFaults {
		c.faults = append(c.faults, f)
	}
}

func (c *checker) progress(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read += n
	if c.opt.Progress != nil {
		c.opt.Progress(c.read)
	}
}

// inTurn is member, of large ones for one at a time.
func (c *checker) inTurn(d *Decoder, buf []byte, r *Raw) ([]byte, error) {
	if !r.Member.large() {
		return c.member(d, buf, r)
	}
	big, err := c.member(d, <-c.turn, r)
	c.turn <- big
	return buf, err
}

// member checks one member and returns the buffer for the next.
func (c *checker) member(d *Decoder, buf []byte, r *Raw) ([]byte, error) {
	if err := r.checksum(); err != nil {
		return buf, err
	}
	last := r.Number == len(c.x.Members)-1
	if c.opt.BytesOnly && r.Member.Table != "" && !last {
		return buf, nil
	}
	sql, err := d.Decode(buf, r.Data, r.Member.SQLSize)
	if err != nil {
		return buf, err
	}
	if lines := int64(bytes.Count(sql, []byte{'\n'})); lines != r.Member.Lines {
		return sql, fmt.Errorf("%w: it has %d lines, the index says %d", ErrDamaged, lines, r.Member.Lines)
	}
	if r.Member.Table == "" {
		return sql, c.checkSQL(sql, last)
	}
	if last {
		return sql, errNoEnd
	}
	block, err := ParseCopy(sql, c.x.EscapeStrings)
	if err != nil {
		return sql, err
	}
	if block.Table != r.Member.Table || block.Rows != r.Member.Rows {
		return sql, fmt.Errorf("%w: it has %d rows of %s, the index says %d of %s", ErrDamaged,
			block.Rows, block.Table, r.Member.Rows, r.Member.Table)
	}
	if c.opt.Deep {
		return sql, block.checkRows(c.x.Encoding == "UTF8")
	}
	return sql, nil
}

// checkSQL checks a member without rows: whole statements and, in the last
// one, the end mark.
func (c *checker) checkSQL(sql []byte, last bool) error {
	sp := NewSplitter(bytes.NewReader(sql), len(sql))
	sp.lex.stdStrings = !c.x.EscapeStrings
	// Whoever cancels a check must not make damage of it.
	err := sp.each(context.Background(), func(p *Piece) error {
		if p.Table != "" {
			return fmt.Errorf("it has rows of %s, which the index does not name", p.Table)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if last && !sp.Info().Complete {
		return errNoEnd
	}
	return nil
}

// CopyBlock is the one COPY statement of a data member, taken apart.
type CopyBlock struct {
	Table     string
	Statement string // COPY ... FROM stdin
	Body      []byte // the rows, without the end of the block
	Rows      int64
}

// ParseCopy takes a data member's SQL apart: comments, one COPY statement, its
// rows, and the end of the block as the last line.
func ParseCopy(sql []byte, escapeStrings bool) (CopyBlock, error) {
	lex := newLexer()
	lex.stdStrings = !escapeStrings
	pos, ev := 0, evComment
	for ev == evComment {
		pos, ev = lex.scan(sql, pos, true)
	}
	if ev != evStatement || !lex.copyIn || lex.afterCopy || pos >= len(sql) || sql[pos] != '\n' {
		return CopyBlock{}, fmt.Errorf("%w: no COPY statement", ErrDamaged)
	}
	stmt := sql[lex.start:pos]
	table, err := copyTable(stmt)
	if err != nil {
		return CopyBlock{}, err
	}
	// Searching from the statement's own newline finds an empty block too.
	end := bytes.Index(sql[pos:], []byte(copyEnd))
	if end < 0 || pos+end+len(copyEnd) != len(sql) {
		return CopyBlock{}, fmt.Errorf("%w: the end of the rows of %s is not the end of the member", ErrDamaged, table)
	}
	body := sql[pos+1 : pos+end+1]
	return CopyBlock{Table: table, Statement: string(bytes.TrimSuffix(stmt, []byte{';'})), Body: body,
		Rows: int64(bytes.Count(body, []byte{'\n'}))}, nil
}

// checkRows checks that each row has a field for each column named and, if so
// asked, is UTF-8.
func (b CopyBlock) checkRows(utf bool) error {
	columns := columnCount(b.Statement[len("COPY "):])
	rest := b.Body
	for row := int64(1); len(rest) > 0; row++ {
		line, tail, _ := bytes.Cut(rest, []byte{'\n'})
		fields := bytes.Count(line, []byte{'\t'}) + 1
		if columns == 0 && len(line) == 0 {
			fields = 0
		}
		if fields != columns {
			return fmt.Errorf("%w: row %d of %s in this member has %d fields for %d columns", ErrDamaged, row, b.Table, fields, columns)
		}
		if utf && !utf8.Valid(line) {
			return fmt.Errorf("%w: row %d of %s in this member is not valid UTF-8", ErrDamaged, row, b.Table)
		}
		rest = tail
	}
	return nil
}

// columnCount counts the columns in "table (a, b) FROM stdin".
func columnCount(s string) int {
	i := nameEnd(s)
	quoted, n := false, 0
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(':
			n = 1
		case c == ',':
			n++
		case c == ')':
			return n
		}
	}
	return n
}
