package sqldump

import "bytes"

// lexMode is where in the SQL text the lexer stands between two bytes.
type lexMode uint8

const (
	modeTop       lexMode = iota // between tokens
	modeWord                     // in an identifier, keyword or number
	modeQuote                    // in '...'
	modeEscQuote                 // in E'...', where a backslash escapes
	modeIdent                    // in "..."
	modeDollarTag                // between the dollars of a possible $tag$
	modeDollar                   // in $tag$...$tag$
	modeBlock                    // in /* ... */, which nests
)

// event is what made scan return.
type event uint8

const (
	evMore      event = iota // the bytes given are used up
	evStatement              // a statement ended with the semicolon before next
	evMeta                   // a psql meta-command line ended before next
	evComment                // a "--" comment line between statements ended before next
)

// lexer finds the ends of statements in SQL text as psql would find them
// (src/fe_utils/psqlscan.l): strings, quoted names, dollar quotes, nested
// comments, parentheses and the BEGIN ATOMIC bodies of SQL functions hide
// semicolons. It can be fed in any chunking.
type lexer struct {
	mode       lexMode
	stdStrings bool // standard_conforming_strings, on unless the dump says otherwise

	started  bool // a token of the current statement has been seen
	start    int  // its offset, relative to the buffer given to scan
	lineFrom int  // offset of the comment or meta-command that scan returned

	word     [32]byte // the current word, cut to the array's length
	wordLen  int
	tag      []byte // the current dollar quote with both dollars
	block    int    // depth of nested /* */
	skip     bool   // the next byte of an escape string is escaped
	resume   lexMode
	hasQuote bool // a string of mode resume ended just before: a quote here is the second of two

	parens int
	begins int     // depth of BEGIN ATOMIC and CASE in a function body
	idents [4]byte // initials of the leading words CREATE OR REPLACE FUNCTION
	words  int     // words seen in the statement

	first     bool // the current token is the statement's first
	isCopy    bool // the first word is COPY
	sawFrom   bool // the last token was FROM, outside parentheses
	copyIn    bool // COPY ... FROM stdin
	afterCopy bool // anything follows stdin: options that pg_dump never writes
}

func newLexer() lexer { return lexer{stdStrings: true} }

// next forgets the statement that ended.
func (l *lexer) next() {
	*l = lexer{stdStrings: l.stdStrings, tag: l.tag[:0]}
}

// clean reports whether the lexer stands between statements.
func (l *lexer) clean() bool { return l.mode == modeTop && !l.started }

// scan reads b from offset pos and returns the offset to go on from and why it
// stopped. After evMore the caller appends to b and calls again with the
// offset returned. At the end of the input (eof) everything is used up.
func (l *lexer) scan(b []byte, pos int, eof bool) (int, event) {
	for pos < len(b) {
		switch l.mode {
		case modeTop:
			next, ev, wait := l.top(b, pos, eof)
			if ev != evMore || wait {
				return next, ev
			}
			pos = next
		case modeWord:
			pos = l.inWord(b, pos)
		case modeQuote:
			pos = l.until(b, pos, '\'')
		case modeIdent:
			pos = l.until(b, pos, '"')
		case modeEscQuote:
			pos = l.inEscQuote(b, pos)
		case modeDollarTag:
			pos = l.inDollarTag(b, pos)
		case modeDollar:
			i := bytes.Index(b[pos:], l.tag)
			if i < 0 {
				if eof {
					return len(b), evMore
				}
				return max(pos, len(b)-len(l.tag)+1), evMore
			}
			pos += i + len(l.tag)
			l.mode = modeTop
		case modeBlock:
			next, wait := l.inBlock(b, pos, eof)
			if wait {
				return next, evMore
			}
			pos = next
		}
	}
	if eof && l.mode == modeWord {
		l.endWord()
	}
	return pos, evMore
}

// top handles one byte between tokens. wait says that the next byte is needed
// to decide.
func (l *lexer) top(b []byte, pos int, eof bool) (next int, ev event, wait bool) {
	c := b[pos]
	// The server lets a string go on in the next line. psql, which reads line by
	// line, does not, and it is what a dump is written for: only what follows at
	// once may be the second of two quotes.
	quote := l.hasQuote
	l.hasQuote = false
	if isSpace(c) {
		return pos + 1, evMore, false
	}
	last := pos+1 >= len(b)
	if (c == '-' || c == '/') && last && !eof {
		return pos, evMore, true
	}
	switch {
	case c == '-' && !last && b[pos+1] == '-':
		return l.lineComment(b, pos, eof)
	case c == '/' && !last && b[pos+1] == '*':
		l.mode, l.block = modeBlock, 1
		return pos + 2, evMore, false
	case c == '\\' && !l.started:
		end := bytes.IndexByte(b[pos:], '\n')
		if end < 0 && !eof {
			return pos, evMore, true
		}
		if end < 0 {
			end = len(b) - pos - 1
		}
		l.lineFrom = pos
		return pos + end + 1, evMeta, false
	}
	l.first = !l.started
	if l.first {
		l.started, l.start = true, pos
	}
	switch {
	case c == '\'':
		l.mode = modeQuote
		if !l.stdStrings || (quote && l.resume == modeEscQuote) {
			l.mode = modeEscQuote
		}
	case c == '"':
		l.mode = modeIdent
	case c == '$':
		l.mode, l.tag = modeDollarTag, append(l.tag[:0], '$')
	case isWordStart(c):
		l.mode, l.wordLen = modeWord, 0
		return pos, evMore, false
	case c == ';' && l.parens == 0 && l.begins == 0:
		return pos + 1, evStatement, false
	case c == '(':
		l.parens++
	case c == ')' && l.parens > 0:
		l.parens--
	}
	l.token()
	return pos + 1, evMore, false
}

// token notes that a token other than a plain word was seen.
func (l *lexer) token() {
	l.sawFrom = false
	if l.copyIn {
		l.afterCopy = true
	}
}

func (l *lexer) lineComment(b []byte, pos int, eof bool) (int, event, bool) {
	end := bytes.IndexByte(b[pos:], '\n')
	if end < 0 && !eof {
		return pos, evMore, true
	}
	next := len(b)
	if end >= 0 {
		next = pos + end + 1
	}
	if l.started {
		return next, evMore, false
	}
	l.lineFrom = pos
	return next, evComment, false
}

// until leaves a string or quoted name at its closing quote. A doubled quote
// leaves and enters again, which comes to the same.
func (l *lexer) until(b []byte, pos int, quote byte) int {
	i := bytes.IndexByte(b[pos:], quote)
	if i < 0 {
		return len(b)
	}
	l.hasQuote, l.resume = true, l.mode
	l.mode = modeTop
	return pos + i + 1
}

func (l *lexer) inEscQuote(b []byte, pos int) int {
	for ; pos < len(b); pos++ {
		switch {
		case l.skip:
			l.skip = false
		case b[pos] == '\\':
			l.skip = true
		case b[pos] == '\'':
			l.hasQuote, l.resume = true, modeEscQuote
			l.mode = modeTop
			return pos + 1
		}
	}
	return pos
}

func (l *lexer) inWord(b []byte, pos int) int {
	for ; pos < len(b) && isWordPart(b[pos]); pos++ {
		if l.wordLen < len(l.word) {
			l.word[l.wordLen] = b[pos]
			l.wordLen++
		}
	}
	if pos == len(b) {
		return pos
	}
	l.endWord()
	if b[pos] == '\'' && l.wordLen == 1 && (l.word[0] == 'e' || l.word[0] == 'E') {
		l.mode = modeEscQuote
		return pos + 1
	}
	return pos
}

func (l *lexer) inDollarTag(b []byte, pos int) int {
	for ; pos < len(b); pos++ {
		c := b[pos]
		if c == '$' {
			l.tag = append(l.tag, '$')
			l.mode = modeDollar
			return pos + 1
		}
		ok := isWordStart(c) || (len(l.tag) > 1 && c >= '0' && c <= '9')
		// A tag is an identifier and so at most 63 bytes; the bound keeps a
		// hostile text from growing it.
		if !ok || len(l.tag) > 64 {
			// No tag after all: what followed the dollar was a word.
			l.mode = modeTop
			if len(l.tag) > 1 {
				l.mode, l.wordLen = modeWord, copy(l.word[:], l.tag[1:])
				l.first = false
			}
			return pos
		}
		l.tag = append(l.tag, c)
	}
	return pos
}

func (l *lexer) inBlock(b []byte, pos int, eof bool) (next int, wait bool) {
	i := bytes.IndexAny(b[pos:], "*/")
	if i < 0 {
		return len(b), false
	}
	pos += i
	if pos+1 >= len(b) {
		if eof {
			return len(b), false
		}
		return pos, true
	}
	switch {
	case b[pos] == '/' && b[pos+1] == '*':
		l.block++
		return pos + 2, false
	case b[pos] == '*' && b[pos+1] == '/':
		l.block--
		if l.block == 0 {
			l.mode = modeTop
		}
		return pos + 2, false
	}
	return pos + 1, false
}

// endWord takes in a finished word. Which words open and close a function's
// body, and that only the first letters of the leading words decide it, is
// psql's own rule.
func (l *lexer) endWord() {
	l.mode = modeTop
	w := string(bytes.ToLower(l.word[:l.wordLen]))
	if l.words < len(l.idents) {
		switch w {
		case "create", "function", "procedure", "or", "replace":
			l.idents[l.words] = w[0]
		}
	}
	if l.first {
		l.isCopy = w == "copy"
	}
	l.words++
	if l.parens > 0 {
		return
	}
	switch {
	case l.copyIn:
		l.afterCopy = true
	case l.isCopy && l.sawFrom && w == "stdin":
		l.copyIn = true
	}
	l.sawFrom = w == "from"
	if !l.inRoutine() {
		return
	}
	switch w {
	case "begin":
		l.begins++
	case "case":
		if l.begins > 0 {
			l.begins++
		}
	case "end":
		if l.begins > 0 {
			l.begins--
		}
	}
}

// inRoutine reports whether the statement is CREATE [OR REPLACE] FUNCTION or
// PROCEDURE.
func (l *lexer) inRoutine() bool {
	if l.idents[0] != 'c' {
		return false
	}
	k := l.idents[1]
	if k == 'o' && l.idents[2] == 'r' {
		k = l.idents[3]
	}
	return k == 'f' || k == 'p'
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' || c == '\v'
}

func isWordStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}

func isWordPart(c byte) bool {
	return isWordStart(c) || c >= '0' && c <= '9' || c == '$'
}
