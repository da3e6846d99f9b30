package ui

import "strings"

// Fold breaks clean text into lines at blanks so that it fits a terminal, or 80
// columns where there is none, each line after the first indented. A word that
// is longer than a line, a command or an address, stays whole.
func (s *IO) Fold(text string, indent int) string {
	limit := standardWidth
	if s.OutTTY {
		limit = s.terminalWidth()
	}
	var b strings.Builder
	margin := strings.Repeat(" ", indent)
	for first := true; ; first = false {
		if !first {
			text = margin + text
		}
		head, rest := breakAt(text, limit, indent)
		b.WriteString(strings.TrimRight(head, " ") + "\n")
		if rest == "" {
			return b.String()
		}
		text = rest
	}
}

// breakAt cuts text at the last blank at which its head fits, or else at the
// first one there is; blanks of the margin do not count.
func breakAt(text string, limit, margin int) (head, rest string) {
	if columns(text) <= limit {
		return text, ""
	}
	last, width := -1, 0
	for i, r := range text {
		if r == ' ' && i >= margin {
			if width > limit && last >= 0 {
				break
			}
			last = i
			if width > limit {
				break
			}
		}
		width += runeColumns(r)
	}
	if last < 0 {
		return text, ""
	}
	return text[:last], strings.TrimLeft(text[last:], " ")
}

// Fit cuts a line to the terminal's width; into a pipe or file nothing is cut.
func (s *IO) Fit(line string) string {
	if !s.OutTTY {
		return line
	}
	return truncate(line, s.terminalWidth())
}
