package schedule

import (
	"fmt"
	"slices"
	"strings"
)

// diffContext is how many unchanged lines a difference shows around the changed.
const diffContext = 3

// Diff returns the unified difference between two texts that differ in one
// place; "" if they do not differ.
func Diff(oldName, newName, before, after string) string {
	if before == after {
		return ""
	}
	a, b := slices.Collect(strings.Lines(before)), slices.Collect(strings.Lines(after))
	same := 0
	for same < min(len(a), len(b)) && a[same] == b[same] {
		same++
	}
	tail := 0
	for tail < min(len(a), len(b))-same && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	start := max(0, same-diffContext)
	endA, endB := len(a)-tail, len(b)-tail
	shown := min(diffContext, tail)
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", oldName, newName)
	fmt.Fprintf(&out, "@@ -%s +%s @@\n", span(start, endA+shown), span(start, endB+shown))
	for _, part := range []struct {
		mark  string
		lines []string
	}{{" ", a[start:same]}, {"-", a[same:endA]}, {"+", b[same:endB]}, {" ", a[endA : endA+shown]}} {
		for _, line := range part.lines {
			out.WriteString(part.mark + line)
			if !strings.HasSuffix(line, "\n") {
				out.WriteString("\n\\ No newline at end of file\n")
			}
		}
	}
	return out.String()
}

// span is a range of lines as a unified difference has it.
func span(start, end int) string {
	switch n := end - start; n {
	case 0:
		return fmt.Sprintf("%d,0", start)
	case 1:
		return fmt.Sprintf("%d", start+1)
	default:
		return fmt.Sprintf("%d,%d", start+1, n)
	}
}
