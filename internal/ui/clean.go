package ui

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean makes one harmless line of text from outside. Control characters,
// terminal escapes, marks that change the direction of writing and bytes that
// are not UTF-8 are shown as escapes; newlines become " | ", tabs blanks.
func Clean(s string) string {
	s = strings.TrimRight(s, "\r\n")
	if clean(s) {
		return s
	}
	return escaped(s)
}

// CleanLines makes text from outside harmless, such as a file that is shown as
// it is: it keeps its lines and tabs, and what a terminal would obey is shown as
// escapes.
func CleanLines(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		body, ended := strings.CutSuffix(line, "\n")
		for i, cell := range strings.Split(body, "\t") {
			if i > 0 {
				b.WriteByte('\t')
			}
			if clean(cell) {
				b.WriteString(cell)
			} else {
				b.WriteString(escaped(cell))
			}
		}
		if ended {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func escaped(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case strings.HasPrefix(s[i:], "\r\n"):
			b.WriteString(" | ")
			size = 2
		case r == '\n':
			b.WriteString(" | ")
		case r == '\t':
			b.WriteByte(' ')
		case !hidden(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += size
	}
	return b.String()
}

func clean(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, hidden) }

// hidden says whether a terminal would obey the rune rather than show it: C0
// and C1 controls, formats such as bidirectional marks, separators of lines.
func hidden(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}
