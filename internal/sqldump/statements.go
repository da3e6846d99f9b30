package sqldump

import (
	"bytes"
	"fmt"
)

// Statement is one statement, or psql meta-command, of a member without rows.
type Statement struct {
	Text []byte // without the comments before it, with its semicolon
	Line int64  // newlines before it in the member
	Meta bool   // a psql meta-command, such as \restrict
}

// EachStatement passes the statements of SQL without COPY blocks to fn, in
// order.
func EachStatement(sql []byte, escapeStrings bool, fn func(Statement) error) error {
	lex := newLexer()
	lex.stdStrings = !escapeStrings
	line, counted := int64(0), 0
	lineOf := func(pos int) int64 {
		line += int64(bytes.Count(sql[counted:pos], []byte{'\n'}))
		counted = pos
		return line
	}
	for pos := 0; ; {
		next, ev := lex.scan(sql, pos, true)
		pos = next
		switch ev {
		case evMore:
			if !lex.clean() {
				return fmt.Errorf("%w: it ends within a statement: %s", ErrTruncated, firstLine(sql[lex.start:]))
			}
			return nil
		case evComment:
		case evMeta:
			text := bytes.TrimRight(sql[lex.lineFrom:next], "\r\n")
			if err := fn(Statement{Text: text, Line: lineOf(lex.lineFrom), Meta: true}); err != nil {
				return err
			}
		case evStatement:
			text, at := sql[lex.start:next], lex.start
			lex.next()
			if bytes.HasPrefix(text, []byte("SET standard_conforming_strings = off")) {
				lex.stdStrings = false
			}
			if err := fn(Statement{Text: text, Line: lineOf(at)}); err != nil {
				return err
			}
		}
	}
}

// NameAfter returns the quoted, qualified name that the statement begins with after
// the prefix, or "" if the prefix is not there.
func NameAfter(stmt []byte, prefix string) (name string, rest []byte) {
	tail, ok := bytes.CutPrefix(stmt, []byte(prefix))
	if !ok {
		return "", stmt
	}
	n := nameEnd(string(tail))
	return string(tail[:n]), tail[n:]
}
