package sqldump

import (
	"context"
	"io"
	"sync"
)

// Source yields the parts of a dump, from an indexed or a plain file.
type Source interface {
	// EscapeStrings tells how to read strings; see Info. Of a plain source it
	// is right once its pre-data has passed.
	EscapeStrings() bool
	// Codec is how the parts are compressed, for their Decoder; None for plain.
	Codec() Codec
}

// Part is a piece of a dump on its way to a server.
type Part struct {
	Section Section
	Table   string
	Rows    int64
	Line    int64 // of the whole SQL, from 1
	raw     *Raw
	piece   *Piece // of a plain dump
	sp      *Splitter
}

// SQL returns the part's text, checking and decompressing it with d into buf if
// it must. A part that is not what its index says is a Fault.
func (p *Part) SQL(d *Decoder, buf []byte) ([]byte, error) {
	if p.raw == nil {
		return p.piece.SQL, nil
	}
	m := p.raw.Member
	err := p.raw.checksum()
	if err == nil {
		var sql []byte
		if sql, err = d.Decode(buf, p.raw.Data, m.SQLSize); err == nil {
			return sql, nil
		}
	}
	return nil, Fault{Member: p.raw.Number, Offset: m.Offset, Size: m.Size, Section: m.Section, Table: m.Table, Err: err}
}

// Large says whether the part takes so much memory that only one such should be
// unpacked at a time.
func (p *Part) Large() bool { return p.raw != nil && p.raw.Member.large() }

// Release gives the part's memory back, but not what SQL decompressed. It may be
// called more than once.
func (p *Part) Release() {
	if p.raw != nil {
		p.raw.Release()
	}
	if p.piece != nil && p.piece.SQL != nil {
		p.sp.Recycle(p.piece)
	}
}

// Indexed is a dump with an index: each table can be read on its own.
type Indexed struct {
	x    *Index
	open Ranger
	pool *sync.Pool
}

// IndexedSource reads an indexed dump through open.
func IndexedSource(x *Index, open Ranger) *Indexed {
	return &Indexed{x, open, new(sync.Pool)}
}

// EscapeStrings implements Source.
func (s *Indexed) EscapeStrings() bool { return s.x.EscapeStrings }

// Codec implements Source.
func (s *Indexed) Codec() Codec { return s.x.Codec }

// Rows is the COPY block of one table: neighbouring members.
type Rows struct {
	Table string
	Rows  int64
	Size  int64 // compressed bytes
	span  span
}

// Members is in how many members the rows lie.
func (r Rows) Members() int { return r.span.to - r.span.from }

// Tables returns the COPY blocks of the dump.
func (s *Indexed) Tables() []Rows {
	var out []Rows
	line := int64(1)
	for i, m := range s.x.Members {
		if m.Table != "" {
			n := len(out)
			if n == 0 || out[n-1].span.to != i || out[n-1].Table != m.Table {
				out = append(out, Rows{Table: m.Table, span: span{from: i, line: line}})
				n++
			}
			b := &out[n-1]
			b.span.to = i + 1
			b.Rows += m.Rows
			b.Size += m.Size
		}
		line += m.Lines
	}
	return out
}

// Split divides a COPY block into at most n runs of whole members, of about the
// same compressed size, that can each be loaded by itself.
func (s *Indexed) Split(rows Rows, n int) []Rows {
	var out []Rows
	cur, left := Rows{Table: rows.Table, span: span{from: rows.span.from, line: rows.span.line}}, rows.Size
	line := rows.span.line
	for i := rows.span.from; i < rows.span.to; i++ {
		m := s.x.Members[i]
		line += m.Lines
		cur.Rows += m.Rows
		cur.Size += m.Size
		if last := i+1 == rows.span.to; last || len(out)+1 < n && cur.Size >= left/int64(n-len(out)) {
			cur.span.to = i + 1
			left -= cur.Size
			out = append(out, cur)
			cur = Rows{Table: rows.Table, span: span{from: i + 1, line: line}}
		}
	}
	return out
}

// EachRow passes the parts of one COPY block to fn, in order; fn must Release
// each.
func (s *Indexed) EachRow(ctx context.Context, rows Rows, fn func(*Part) error) error {
	return s.x.read(ctx, s.open, s.pool, rows.span, pass(fn))
}

// EachSQL passes the parts of a section that hold no rows to fn, in order.
func (s *Indexed) EachSQL(ctx context.Context, section Section, fn func(*Part) error) error {
	line := int64(1)
	run := span{}
	flush := func() error {
		r := run
		run = span{}
		return s.x.read(ctx, s.open, s.pool, r, pass(fn))
	}
	for i, m := range s.x.Members {
		switch {
		case m.Section == section && m.Table == "":
			if run.to == 0 {
				run = span{from: i, line: line}
			}
			run.to = i + 1
		case run.to > 0:
			if err := flush(); err != nil {
				return err
			}
		}
		line += m.Lines
	}
	return flush()
}

func pass(fn func(*Part) error) func(*Raw) error {
	return func(r *Raw) error {
		return fn(&Part{Section: r.Member.Section, Table: r.Member.Table, Rows: r.Member.Rows, Line: r.Line, raw: r})
	}
}

// Plain is a dump that can only be read from its start to its end.
type Plain struct{ sp *Splitter }

// PlainSource reads the decompressed text of any plain dump.
func PlainSource(r io.Reader) *Plain { return &Plain{sp: NewSplitter(r, 0)} }

// EscapeStrings implements Source.
func (s *Plain) EscapeStrings() bool { return s.sp.Info().EscapeStrings }

// Codec implements Source.
func (s *Plain) Codec() Codec { return None }

// Each passes all parts to fn in order. Without the dump's end mark it is
// ErrTruncated.
func (s *Plain) Each(ctx context.Context, fn func(*Part) error) error {
	line := int64(1)
	err := s.sp.each(ctx, func(p *Piece) error {
		part := &Part{Section: p.Section, Table: p.Table, Rows: p.Rows, Line: line, piece: p, sp: s.sp}
		line += p.Lines
		return fn(part)
	})
	if err == nil && !s.sp.Info().Complete {
		err = errNoEnd
	}
	return err
}

// Summary is what a plain dump was found to hold.
type Summary struct {
	Info
	SQLSize int64
	Rows    int64
	Tables  []Table
}

// Pieces reads the decompressed text of a dump to its end and calls fn for each
// piece, which is valid until fn returns, with what is known of the dump by then.
// Whether its end mark was there is in the result.
func Pieces(ctx context.Context, r io.Reader, fn func(*Piece, Info) error) (Info, error) {
	sp := NewSplitter(r, 0)
	err := sp.each(ctx, func(p *Piece) error {
		if err := fn(p, sp.Info()); err != nil {
			return err
		}
		sp.Recycle(p)
		return nil
	})
	if err != nil {
		return Info{}, err
	}
	return sp.Info(), nil
}

// Scan reads the decompressed text of a plain dump to its end and counts what
// is in it. Without its end mark it is ErrTruncated.
func Scan(ctx context.Context, r io.Reader) (*Summary, error) {
	var x Index // for its sums
	info, err := Pieces(ctx, r, func(p *Piece, _ Info) error {
		x.add(Member{Table: p.Table, Rows: p.Rows, SQLSize: int64(len(p.SQL))})
		return nil
	})
	if err != nil {
		return nil, err
	}
	sum := &Summary{Info: info, SQLSize: x.SQLSize, Rows: x.Rows, Tables: x.Tables}
	if !sum.Complete {
		return sum, errNoEnd
	}
	return sum, nil
}
