package ui

import (
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

const ellipsis = "…"

// columns is how many columns of a terminal clean text takes: two for East
// Asian wide characters and emoji, none for combining marks.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	switch {
	case r < 0x300: // nothing wide or combining below
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	default:
		return 1
	}
}

// truncate cuts text to at most limit columns, the last of them "…" if
// anything was cut.
func truncate(s string, limit int) string {
	if columns(s) <= limit {
		return s
	}
	n := 0
	for i, r := range s {
		n += runeColumns(r)
		if n > limit-1 {
			return strings.TrimRight(s[:i], " ") + ellipsis
		}
	}
	return s
}
