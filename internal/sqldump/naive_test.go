package sqldump

import (
	"errors"
	"strings"
)

// unit is a statement, a meta-command, or a COPY block, as psql would take it
// from the text. It comes from a second, deliberately simple reading of the
// text that shares no code with the splitter.
type unit struct {
	sql  string
	rows []string // nil for other statements
	copy bool
}

var errNaive = errors.New("not readable")

// naive reads a dump whole. Neighbouring COPY blocks of the same statement are
// one: that is what makes a cut dump equivalent to the one it was cut from.
func naive(text string) ([]unit, error) {
	var units []unit
	for i := 0; i < len(text); {
		switch {
		case strings.ContainsRune(" \t\r\n\f\v", rune(text[i])):
			i++
		case strings.HasPrefix(text[i:], "--"):
			i += lineLen(text[i:])
		case strings.HasPrefix(text[i:], "/*"):
			n := blockLen(text[i:])
			if n < 0 {
				return nil, errNaive
			}
			i += n
		case text[i] == '\\':
			n := lineLen(text[i:])
			units = append(units, unit{sql: text[i : i+n]})
			i += n
		default:
			n, copyIn := statementLen(text[i:])
			if n < 0 {
				return nil, errNaive
			}
			u := unit{sql: text[i : i+n], copy: copyIn}
			i += n
			if copyIn {
				rows, m := copyLen(text[i:])
				if m < 0 {
					return nil, errNaive
				}
				u.rows = rows
				i += m
				if k := len(units); k > 0 && units[k-1].copy && units[k-1].sql == u.sql {
					units[k-1].rows = append(units[k-1].rows, u.rows...)
					continue
				}
			}
			units = append(units, u)
		}
	}
	return units, nil
}

func lineLen(s string) int {
	if n := strings.IndexByte(s, '\n'); n >= 0 {
		return n + 1
	}
	return len(s)
}

func blockLen(s string) int {
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
	return -1
}

// copyLen returns the rows that follow a COPY statement's semicolon and the
// bytes to the end of the block.
func copyLen(s string) ([]string, int) {
	if !strings.HasPrefix(s, "\n") {
		return nil, -1
	}
	rows := []string{}
	for i := 1; ; {
		n := strings.IndexByte(s[i:], '\n')
		if n < 0 {
			return nil, -1
		}
		line := s[i : i+n]
		i += n + 1
		if line == `\.` {
			return rows, i
		}
		rows = append(rows, line)
	}
}

// statementLen returns the length of the statement that s begins with, its
// semicolon included, and whether it is COPY ... FROM stdin.
func statementLen(s string) (n int, copyIn bool) {
	var words []string // lower-case words outside parentheses; "" for other tokens
	parens, begins, nwords := 0, 0, 0
	lead := ""
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '\'':
			n := quoteLen(s[i:], false)
			if n < 0 {
				return -1, false
			}
			i += n
			words = append(words, "")
		case (c == 'e' || c == 'E') && i+1 < len(s) && s[i+1] == '\'':
			n := quoteLen(s[i+1:], true)
			if n < 0 {
				return -1, false
			}
			i += n + 1
			nwords++
			words = append(words, "")
		case c == '"':
			n := strings.IndexByte(s[i+1:], '"')
			if n < 0 {
				return -1, false
			}
			i += n + 2
			words = append(words, "")
		case strings.HasPrefix(s[i:], "--"):
			i += lineLen(s[i:])
		case strings.HasPrefix(s[i:], "/*"):
			n := blockLen(s[i:])
			if n < 0 {
				return -1, false
			}
			i += n
		case c == '$':
			n := dollarLen(s[i:])
			if n < 0 {
				return -1, false
			}
			i += n
			words = append(words, "")
		case wordByte(c, false):
			j := i
			for j < len(s) && wordByte(s[j], true) {
				j++
			}
			w := strings.ToLower(s[i:j])
			i = j
			if nwords < 4 {
				switch w {
				case "create", "or", "replace", "function", "procedure":
					lead += w[:1]
				default:
					lead += "-"
				}
			}
			nwords++
			if parens > 0 {
				continue
			}
			words = append(words, w)
			if strings.HasPrefix(lead, "cf") || strings.HasPrefix(lead, "cp") || strings.HasPrefix(lead, "corf") ||
				strings.HasPrefix(lead, "corp") {
				switch {
				case w == "begin", w == "case" && begins > 0:
					begins++
				case w == "end" && begins > 0:
					begins--
				}
			}
		case c == ';' && parens == 0 && begins == 0:
			k := len(words)
			return i + 1, k > 2 && words[0] == "copy" && words[k-2] == "from" && words[k-1] == "stdin"
		default:
			if c == '(' {
				parens++
			}
			if c == ')' && parens > 0 {
				parens--
			}
			if !strings.ContainsRune(" \t\r\n\f\v", rune(c)) {
				words = append(words, "")
			}
			i++
		}
	}
	return -1, false
}

func wordByte(c byte, inside bool) bool {
	return c == '_' || c >= 0x80 || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || inside && (c == '$' || '0' <= c && c <= '9')
}

func quoteLen(s string, escapes bool) int {
	for i := 1; i < len(s); i++ {
		switch {
		case escapes && s[i] == '\\':
			i++
		case s[i] == '\'' && i+1 < len(s) && s[i+1] == '\'':
			i++
		case s[i] == '\'':
			return i + 1
		}
	}
	return -1
}

func dollarLen(s string) int {
	j := 1
	for j < len(s) && wordByte(s[j], j > 1) && s[j] != '$' && j <= 65 {
		j++
	}
	if j >= len(s) || s[j] != '$' || j > 65 {
		return 1
	}
	tag := s[:j+1]
	end := strings.Index(s[j+1:], tag)
	if end < 0 {
		return -1
	}
	return j + 1 + end + len(tag)
}
