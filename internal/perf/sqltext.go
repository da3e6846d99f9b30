package perf

import (
	"strings"
	"unicode"
)

// token is one lexical part of a statement.
type token struct {
	kind  tokenKind
	text  string // of a name without its quotes; in lower case unless quoted
	raw   string // as it was written
	space bool   // blanks or comments before it
}

type tokenKind uint8

const (
	word    tokenKind = iota // a keyword or a name
	quoted                   // a name in double quotes
	literal                  // a string or a number
	param                    // $1
	symbol
)

// tokens cuts a statement up, leaving out comments. It is made for reading the
// server's own record of statements, not for judging whether SQL is valid.
func tokens(sql string) []token {
	var out []token
	space := false
	add := func(kind tokenKind, text, raw string) {
		out = append(out, token{kind, text, raw, space})
		space = false
	}
	for i := 0; i < len(sql); {
		rest := sql[i:]
		c := sql[i]
		n := 1
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f':
			space = true
		case strings.HasPrefix(rest, "--"):
			n, space = through(rest, "\n", 2), true
		case strings.HasPrefix(rest, "/*"):
			n, space = comment(rest), true
		case c == '\'':
			n = stringEnd(rest, 0, false)
			add(literal, rest[:n], rest[:n])
		case (c == 'e' || c == 'E') && strings.HasPrefix(rest[1:], "'"):
			n = stringEnd(rest, 1, true)
			add(literal, rest[:n], rest[:n])
		case c == '"':
			n = through(rest, `"`, 1)
			add(quoted, strings.Trim(rest[:n], `"`), rest[:n])
		case c == '$' && len(rest) > 1 && isDigit(rest[1]):
			n = span(rest, 1, func(r rune) bool { return r >= '0' && r <= '9' })
			add(param, rest[:n], rest[:n])
		case c == '$' && dollarTag(rest) != "":
			tag := dollarTag(rest)
			n = through(rest, tag, len(tag))
			add(literal, rest[:n], rest[:n])
		case isDigit(c):
			n = span(rest, 1, func(r rune) bool { return unicode.IsDigit(r) || unicode.IsLetter(r) || r == '.' || r == '_' })
			add(literal, rest[:n], rest[:n])
		case c == '_' || c >= 0x80 || unicode.IsLetter(rune(c)):
			n = span(rest, 1, func(r rune) bool {
				return r == '_' || r == '$' || unicode.IsDigit(r) || unicode.IsLetter(r) || r >= 0x80
			})
			add(word, strings.ToLower(rest[:n]), rest[:n])
		default:
			add(symbol, rest[:1], rest[:1])
		}
		i += max(1, n)
	}
	return out
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// span is the length of the part of s from from that f accepts, and from.
func span(s string, from int, f func(rune) bool) int {
	if end := strings.IndexFunc(s[from:], func(r rune) bool { return !f(r) }); end >= 0 {
		return from + end
	}
	return len(s)
}

// through is the length of s up to the end of the mark after from.
func through(s, mark string, from int) int {
	if end := strings.Index(s[min(from, len(s)):], mark); end >= 0 {
		return from + end + len(mark)
	}
	return len(s)
}

// comment is the length of a comment, which may hold others.
func comment(s string) int {
	depth := 0
	for i := 0; i+1 < len(s); i++ {
		switch s[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return len(s)
}

// stringEnd is the length of the string whose quote is at open.
func stringEnd(s string, open int, escapes bool) int {
	for i := open + 1; i < len(s); i++ {
		switch {
		case escapes && s[i] == '\\':
			i++
		case s[i] == '\'' && i+1 < len(s) && s[i+1] == '\'':
			i++
		case s[i] == '\'':
			return i + 1
		}
	}
	return len(s)
}

func dollarTag(s string) string {
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '$':
			return s[:i+1]
		case c != '_' && !isDigit(c) && (c|0x20 < 'a' || c|0x20 > 'z'):
			return ""
		}
	}
	return ""
}

// Normalise makes one line of a statement: without comments, literals as "?",
// blanks single, lists of the same thing cut short. Data and passwords that
// stand in a statement do not pass.
func Normalise(sql string) string {
	var b strings.Builder
	values := 0 // literals and parameters in a row, with commas between
	for i, t := range tokens(sql) {
		text := t.raw
		if t.kind == literal {
			text = "?"
		}
		isValue := t.kind == literal || t.kind == param
		switch {
		case isValue:
			values++
		case t.text != ",":
			values = 0
		}
		if values > listMax && (isValue || t.text == ",") {
			continue
		}
		if values == listMax && t.text == "," {
			text = ", ..."
		}
		if i > 0 && t.space {
			b.WriteByte(' ')
		}
		b.WriteString(text)
	}
	return b.String()
}

// listMax is how many values of a list are shown.
const listMax = 3

// cut ends a text at n runes.
func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return strings.TrimSpace(string(r[:n-1])) + "…"
}

// queries says whether the statement reads or changes rows; all others are
// utility statements.
func queries(text string) bool {
	for _, t := range tokens(text[:min(len(text), 400)]) {
		if t.kind == symbol && t.text == "(" {
			continue
		}
		switch t.text {
		case "select", "insert", "update", "delete", "merge", "with", "values", "table":
			return true
		}
		return false
	}
	return false
}

// ours says whether the statement is escrowctl's own.
func ours(text string) bool {
	return strings.Contains(text, stamp) || strings.HasPrefix(text, "SELECT set_config(name, $1, ") ||
		strings.Contains(text, "pg_try_advisory_lock") || strings.Contains(text, "pg_export_snapshot")
}
