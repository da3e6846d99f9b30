package cli

import (
	"fmt"
	"strings"

	"github.com/stellarescrow/escrowctl/internal/perf"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// perfMarkdown is the report to paste into a ticket or a chat.
func perfMarkdown(r *perf.Report) string {
	var b strings.Builder
	text := func(s string) string { return ui.EscapeMarkdown(ui.Clean(s)) }
	fmt.Fprintf(&b, "**Performance: %s**\n", strings.ToUpper(r.Status.String()))
	for _, l := range perfHead(r) {
		fmt.Fprintf(&b, "\n%s\n", text(l))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "\nNote: %s\n", text(n))
	}
	b.WriteString("\n### Findings\n\n")
	if len(r.Findings) == 0 {
		b.WriteString("Nothing found.\n")
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "- **%s** %s\n", strings.ToUpper(f.Status.String()), text(f.Summary))
		for _, d := range f.Detail {
			fmt.Fprintf(&b, "  - %s\n", text(d))
		}
		if f.Action != "" {
			fmt.Fprintf(&b, "  - next: %s\n", text(f.Action))
		}
		if len(f.SQL) > 0 {
			fence(&b, "  ", "sql", f.SQL)
		}
	}
	for _, t := range perfTables(r) {
		if t.title != "" {
			fmt.Fprintf(&b, "\n### %s\n", text(strings.ToUpper(t.title[:1])+t.title[1:]))
		}
		if t.table != nil {
			b.WriteString("\n" + t.table.Markdown())
		}
		for _, l := range t.lines {
			fmt.Fprintf(&b, "\n%s\n", text(l))
		}
	}
	if len(r.Plans) > 0 {
		fmt.Fprintf(&b, "\n### %s\n", strings.ToUpper(plansTitle[:1])+plansTitle[1:])
	}
	for _, p := range r.Plans {
		fmt.Fprintf(&b, "\n%s: %s\n", p.ID, text(shorten(p.Text, 300)))
		if p.Missing != "" {
			fmt.Fprintf(&b, "\nNo plan: %s\n", text(p.Missing))
		} else {
			fence(&b, "", "text", p.Lines)
		}
	}
	for _, l := range perfTail(r) {
		fmt.Fprintf(&b, "\n%s\n", text(l))
	}
	return b.String()
}

// fence writes lines as a block of code. A fence longer than any in the lines
// cannot be ended by them.
func fence(b *strings.Builder, indent, language string, lines []string) {
	mark := "```"
	for strings.Contains(strings.Join(lines, "\n"), mark) {
		mark += "`"
	}
	fmt.Fprintf(b, "\n%s%s%s\n", indent, mark, language)
	for _, l := range lines {
		b.WriteString(indent + ui.Clean(l) + "\n")
	}
	fmt.Fprintf(b, "%s%s\n\n", indent, mark)
}
