package ui

import (
	"io"
	"strings"
)

const (
	gap = "  " // between columns
	// minColumn is the width below which a column is not cut: less tells nothing.
	minColumn = 10
)

// Table is a table of text with aligned columns.
type Table struct {
	head []string
	rows [][]string
	// Right names the columns, from 0, that align to the right: numbers. They are
	// never cut.
	Right map[int]bool
	// Whole names further columns that are never cut, such as keys and names.
	Whole map[int]bool
	// Status names a column of words such as "ok" and "critical", which are
	// coloured as Paint does; -1 for none.
	Status int
}

// NewTable begins a table with a heading.
func NewTable(head ...string) *Table {
	return &Table{head: head, Right: map[int]bool{}, Whole: map[int]bool{}, Status: -1}
}

// Row adds a row. Cells are cleaned; those that are missing are empty, and
// cells beyond the heading's are dropped.
func (t *Table) Row(cells ...string) {
	row := make([]string, len(t.head))
	for i := range min(len(cells), len(row)) {
		row[i] = Clean(cells[i])
	}
	t.rows = append(t.rows, row)
}

// Write prints the table, with two blanks between columns and none at the ends
// of lines. On a terminal it fits the terminal's width. Elsewhere it is laid
// out for 80 columns, and a cell that is too long for its column pushes the
// rest of its own row to the right: nothing is cut.
func (t *Table) Write(s *IO, w io.Writer) error {
	limit := standardWidth
	if s.OutTTY {
		limit = s.terminalWidth()
	}
	widths := t.widths(limit)
	if s.OutTTY {
		t.cut(widths)
	}
	var b strings.Builder
	b.WriteString(s.Paint("bold", t.line(widths, t.head, nil)) + "\n")
	for _, row := range t.rows {
		b.WriteString(t.line(widths, row, s.Paint) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// widths returns the columns' widths: as wide as their content, the widest made
// narrower until all fit the limit.
func (t *Table) widths(limit int) []int {
	widths := make([]int, len(t.head))
	total := len(gap) * (len(widths) - 1)
	for i := range widths {
		widths[i] = columns(t.head[i])
		for _, row := range t.rows {
			widths[i] = max(widths[i], columns(row[i]))
		}
		total += widths[i]
	}
	for ; total > limit; total-- {
		widest := -1
		for i, n := range widths {
			if !t.Right[i] && !t.Whole[i] && n > max(minColumn, columns(t.head[i])) && (widest < 0 || n > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break // too narrow for any table: a terminal's own wrapping loses nothing
		}
		widths[widest]--
	}
	return widths
}

// cut ends every cell at its column's width.
func (t *Table) cut(widths []int) {
	for _, row := range t.rows {
		for i := range row {
			row[i] = truncate(row[i], widths[i])
		}
	}
}

func (t *Table) line(widths []int, cells []string, paint func(status, text string) string) string {
	last := len(cells) - 1
	for last > 0 && cells[last] == "" {
		last--
	}
	var b strings.Builder
	for i, c := range cells[:last+1] {
		pad := strings.Repeat(" ", max(0, widths[i]-columns(c)))
		if paint != nil && i == t.Status {
			c = paint(strings.ToLower(c), c)
		}
		switch {
		case t.Right[i]:
			b.WriteString(pad + c)
		case i == last:
			b.WriteString(c)
		default:
			b.WriteString(c + pad)
		}
		if i < last {
			b.WriteString(gap)
		}
	}
	return b.String()
}
