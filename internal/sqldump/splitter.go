package sqldump

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// Section is the part of a dump that a piece belongs to, in pg_dump's terms.
type Section string

// The sections, in the order in which a dump has them.
const (
	PreData  Section = "pre-data"  // types, functions, tables, views
	Data     Section = "data"      // rows, sequence values, large objects
	PostData Section = "post-data" // indexes, constraints, triggers, rights
)

// MemberSize is the default size of a member in bytes of SQL. Larger ones
// compress hardly better (under 1 % from 4 to 16 MiB) and cost memory.
const MemberSize = 4 << 20

const (
	readSize = 128 << 10
	// maxStatement bounds what is kept in memory of one statement or one row;
	// PostgreSQL itself takes no query and no field over 1 GiB.
	maxStatement = 1<<30 + 1<<26

	endMark = "-- PostgreSQL database dump complete"
)

// ErrTruncated says that a dump ends before its end.
var ErrTruncated = errors.New("the dump is truncated")

var errNoEnd = fmt.Errorf("%w: pg_dump's end mark is missing", ErrTruncated)

// ErrNotDump says that a text is no plain dump as pg_dump writes it.
var ErrNotDump = errors.New("not a plain pg_dump")

// Piece is a run of whole statements: either one COPY statement with rows of
// one table, or other SQL of one section.
type Piece struct {
	Section Section
	Table   string // quoted and qualified as in SQL; "" when this is no COPY
	Rows    int64  // rows of the COPY block
	Lines   int64  // newlines in SQL
	SQL     []byte
}

// Splitter cuts a plain dump into pieces. Laid end to end the pieces are the
// dump again, but for COPY blocks that were closed and opened again.
type Splitter struct {
	r    io.Reader
	size int
	free chan []byte

	lex     lexer
	buf     []byte
	pos     int // how far the lexer has read
	stmtEnd int // end of the last whole statement in buf
	eof     bool
	section Section
	queue   []*Piece // cut and not yet handed out

	inCopy  bool
	table   string
	header  []byte // the COPY statement, to open the block again
	body    int    // where the rows begin in buf
	scanned int    // how far buf has been searched for the end of the block
	row     int64  // rows of the table so far, for messages
	tail    tail
	info    Info
}

// Info is what the comments at the head of a dump say.
type Info struct {
	ServerVersion string // "15.8 (Debian 15.8-1)" in full
	DumpVersion   string // pg_dump's own
	Encoding      string // client_encoding: "UTF8"
	Complete      bool   // the end block was there, whole, at the very end
	// EscapeStrings tells that the dump sets standard_conforming_strings off.
	EscapeStrings bool
}

// tail follows the lines at the top level to tell whether the dump's last
// lines are the end block: "--", the mark, "--", then only blank lines and an
// optional \unrestrict. A mark within a row or a function proves nothing.
type tail uint8

const (
	tailNone tail = iota
	tailRule      // "--"
	tailMark      // the mark after a rule
	tailDone      // the rule after the mark
)

// NewSplitter reads a dump from r and cuts it into pieces of about size bytes
// (MemberSize if 0).
func NewSplitter(r io.Reader, size int) *Splitter {
	if size <= 0 {
		size = MemberSize
	}
	return &Splitter{r: r, size: size, free: make(chan []byte, 64), lex: newLexer(), section: PreData}
}

// Info returns what was learnt so far; Complete is right once Next has
// returned io.EOF.
func (s *Splitter) Info() Info {
	info := s.info
	info.EscapeStrings = !s.lex.stdStrings
	return info
}

// Recycle gives a piece's memory back to the splitter.
func (s *Splitter) Recycle(p *Piece) {
	select {
	case s.free <- p.SQL[:0]:
	default:
	}
	p.SQL = nil
}

// Next returns the next piece, or io.EOF after the last. A dump that stops in
// the middle of a statement or of a COPY block gives ErrTruncated; one that
// stops between statements is told by Info().Complete.
func (s *Splitter) Next() (*Piece, error) {
	for {
		if len(s.queue) > 0 {
			p := s.queue[0]
			s.queue = s.queue[1:]
			return p, nil
		}
		if s.eof && len(s.buf) == 0 {
			s.info.Complete = s.tail == tailDone
			return nil, io.EOF
		}
		var err error
		if s.inCopy {
			err = s.copyRows()
		} else {
			err = s.statements()
		}
		if err != nil {
			return nil, err
		}
	}
}

// each passes the pieces to fn, to the last.
func (s *Splitter) each(ctx context.Context, fn func(*Piece) error) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p, err := s.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = fn(p)
		}
		if err != nil {
			return err
		}
	}
}

// fill reads more, and notes the end.
func (s *Splitter) fill() error {
	if len(s.buf) > maxStatement {
		return fmt.Errorf("%w: a statement or row of over %d bytes", ErrNotDump, maxStatement)
	}
	if s.buf == nil {
		s.buf = s.newBuf()
	}
	if cap(s.buf)-len(s.buf) < readSize {
		grown := make([]byte, len(s.buf), min(2*cap(s.buf), maxStatement)+2*readSize)
		copy(grown, s.buf)
		s.buf = grown
	}
	n, err := s.r.Read(s.buf[len(s.buf) : len(s.buf)+readSize])
	s.buf = s.buf[:len(s.buf)+n]
	if errors.Is(err, io.EOF) {
		s.eof = true
		return nil
	}
	return err
}

func (s *Splitter) newBuf() []byte {
	select {
	case b := <-s.free:
		return b
	default:
		return make([]byte, 0, s.size+2*readSize)
	}
}

// statements reads on at the top level until a piece is cut or a COPY begins.
func (s *Splitter) statements() error {
	for len(s.queue) == 0 && !s.inCopy {
		next, ev := s.lex.scan(s.buf, s.pos, s.eof)
		s.pos = next
		switch ev {
		case evMore:
			if s.eof {
				return s.finish()
			}
			if err := s.fill(); err != nil {
				return err
			}
		case evComment:
			s.comment(s.buf[s.lex.lineFrom:next])
		case evMeta:
			s.meta(s.buf[s.lex.lineFrom:next])
			s.stmtEnd = next
		case evStatement:
			if err := s.statement(); err != nil {
				return err
			}
		}
	}
	return nil
}

// finish hands out what follows the last statement: comments and blank lines.
func (s *Splitter) finish() error {
	if !s.lex.clean() {
		return fmt.Errorf("%w: it ends within a statement: %s", ErrTruncated, firstLine(s.buf[min(s.lex.start, len(s.buf)):]))
	}
	if len(s.buf) > 0 {
		if s.section == Data {
			s.section = PostData
		}
		s.cut(len(s.buf))
	}
	return nil
}

func (s *Splitter) comment(line []byte) {
	text := string(bytes.TrimRight(line, "\r\n"))
	switch {
	case text == "--" && s.tail == tailMark:
		s.tail = tailDone
	case text == "--":
		s.tail = tailRule
	case text == endMark && s.tail == tailRule:
		s.tail = tailMark
	default:
		s.tail = tailNone
	}
	if v, ok := bytes.CutPrefix(line, []byte("-- Dumped from database version ")); ok && s.info.ServerVersion == "" {
		s.info.ServerVersion = string(bytes.TrimSpace(v))
	}
	if v, ok := bytes.CutPrefix(line, []byte("-- Dumped by pg_dump version ")); ok && s.info.DumpVersion == "" {
		s.info.DumpVersion = string(bytes.TrimSpace(v))
	}
}

func (s *Splitter) meta(line []byte) {
	if s.tail == tailDone && bytes.HasPrefix(line, []byte(`\unrestrict `)) {
		return
	}
	s.tail = tailNone
}

// statement takes in the statement that ends at s.pos.
func (s *Splitter) statement() error {
	if s.pos == len(s.buf) && !s.eof {
		// One byte more, so that a piece ends after its newline.
		if err := s.fill(); err != nil {
			return err
		}
	}
	s.tail = tailNone
	text := s.buf[s.lex.start:s.pos]
	newline := s.pos < len(s.buf) && s.buf[s.pos] == '\n'
	if s.lex.copyIn {
		if s.lex.afterCopy {
			return fmt.Errorf("%w: COPY with options: %s", ErrNotDump, firstLine(text))
		}
		if !newline {
			return fmt.Errorf("%w: rows do not begin on a new line after %s", ErrNotDump, firstLine(text))
		}
		return s.openCopy(text)
	}
	if bytes.HasPrefix(text, []byte("SET standard_conforming_strings = off")) {
		s.lex.stdStrings = false
	}
	if v, ok := bytes.CutPrefix(text, []byte("SET client_encoding = '")); ok && s.info.Encoding == "" {
		s.info.Encoding = string(bytes.TrimRight(v, "';"))
	}
	if sec := sectionOf(text, s.section); sec != s.section {
		s.cut(s.stmtEnd)
		s.section = sec
	}
	if newline {
		s.pos++
	}
	s.stmtEnd = s.pos
	s.lex.next()
	if s.stmtEnd >= s.size {
		s.cut(s.stmtEnd)
	}
	return nil
}

// sectionOf returns the section of a statement that follows one of section
// cur. It goes by the statement, not by pg_dump's comments, since an object's
// name can make a comment say anything.
func sectionOf(stmt []byte, cur Section) Section {
	has := func(prefix string) bool { return bytes.HasPrefix(stmt, []byte(prefix)) }
	switch {
	case cur == PostData, has("SET "):
		return cur
	case has("SELECT pg_catalog.setval("), has("SELECT pg_catalog.lo_open("), has("SELECT pg_catalog.lowrite("),
		has("SELECT pg_catalog.lo_close("), has("BEGIN;"), has("COMMIT;"), has("INSERT INTO "):
		return Data
	case cur == Data && has("SELECT * FROM pg_catalog.pg_restore_"):
		return Data
	case cur == Data:
		return PostData
	}
	return cur
}

// openCopy begins a COPY block whose statement is text, ending at s.pos.
func (s *Splitter) openCopy(text []byte) error {
	table, err := copyTable(text)
	if err != nil {
		return err
	}
	s.header = append(append(s.header[:0], text...), '\n')
	end := s.pos + 1 // after the newline
	s.lex.next()
	if s.section == PostData {
		return fmt.Errorf("%w: rows of %s after indexes or constraints", ErrNotDump, table)
	}
	shift := s.stmtEnd
	s.cut(s.stmtEnd)
	s.section = Data
	s.inCopy, s.table, s.row = true, table, 0
	s.body = end - shift
	s.scanned = s.body - 1 // the header's newline may precede the end mark
	return nil
}

// copyEnd is the end of a COPY block, with the newline before it.
const copyEnd = "\n\\.\n"

// copyRows reads on in a COPY block until a piece is cut.
func (s *Splitter) copyRows() error {
	for {
		if i := bytes.Index(s.buf[s.scanned:], []byte(copyEnd)); i >= 0 {
			rowsEnd := s.scanned + i + 1
			s.cutCopy(rowsEnd, rowsEnd+len(copyEnd)-1)
			s.inCopy, s.row = false, 0
			return nil
		}
		s.scanned = max(s.scanned, len(s.buf)-len(copyEnd)+1)
		if len(s.buf) >= s.size {
			if nl := bytes.LastIndexByte(s.buf[s.body:], '\n'); nl >= 0 {
				s.splitCopy(s.body + nl + 1)
				return nil
			}
		}
		if s.eof {
			row := s.row + int64(bytes.Count(s.buf[s.body:], []byte{'\n'}))
			return fmt.Errorf("%w: it ends in the rows of %s, after row %d", ErrTruncated, s.table, row)
		}
		if err := s.fill(); err != nil {
			return err
		}
	}
}

// splitCopy closes the block before offset end and opens it again behind.
func (s *Splitter) splitCopy(end int) {
	carry := s.buf[end:]
	next := s.newBuf()
	next = append(next, s.header...)
	body := len(next)
	next = append(next, carry...)
	s.buf = append(s.buf[:end], copyEnd[1:]...)
	s.cutCopy(end, len(s.buf))
	s.buf, s.body, s.scanned = next, body, body-1
}

// cutCopy hands out the block in buf[:end], whose rows end at rowsEnd.
func (s *Splitter) cutCopy(rowsEnd, end int) {
	rows := int64(bytes.Count(s.buf[s.body:rowsEnd], []byte{'\n'}))
	s.row += rows
	s.emit(end, &Piece{Section: Data, Table: s.table, Rows: rows})
}

// cut hands out buf[:end] as SQL of the current section.
func (s *Splitter) cut(end int) {
	if end > 0 {
		s.emit(end, &Piece{Section: s.section})
	}
}

// emit hands out buf[:end] as p and keeps the rest for what comes next.
func (s *Splitter) emit(end int, p *Piece) {
	rest := s.buf[end:]
	p.SQL = s.buf[:end]
	p.Lines = int64(bytes.Count(p.SQL, []byte{'\n'}))
	if len(rest) > 0 {
		s.buf = append(s.newBuf(), rest...)
	} else {
		s.buf = nil
	}
	s.pos = max(0, s.pos-end)
	s.lex.start = max(0, s.lex.start-end)
	s.stmtEnd = 0
	s.queue = append(s.queue, p)
}

// firstLine cuts SQL for a message.
func firstLine(sql []byte) string {
	line, _, _ := bytes.Cut(sql, []byte{'\n'})
	if len(line) > 120 {
		return fmt.Sprintf("%q...", line[:120])
	}
	return fmt.Sprintf("%q", line)
}
