package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/stellarescrow/escrowctl/internal/perf"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// showPerf writes the report for people: findings first, then the tables that
// they come from.
func (a *App) showPerf(r *perf.Report, markdown bool) error {
	if a.asJSON() {
		return a.io.JSON(r)
	}
	text := perfText(a.io, r)
	if markdown {
		text = perfMarkdown(r)
	}
	_, err := io.WriteString(a.io.Out, text)
	return err
}

// perfText is the report for a terminal and a log.
func perfText(s *ui.IO, r *perf.Report) string {
	p := &perfPage{io: s}
	for _, l := range perfHead(r) {
		p.wrap("", "", l)
	}
	for _, n := range r.Notes {
		p.wrap("note: ", "      ", n)
	}
	p.b.WriteString("\n")
	p.findings(r.Findings)
	for _, t := range perfTables(r) {
		p.table(t)
	}
	p.plans(r.Plans)
	p.b.WriteString("\n")
	for _, l := range perfTail(r) {
		p.wrap("", "  ", l)
	}
	return p.b.String()
}

// perfPage is a report being written.
type perfPage struct {
	io *ui.IO
	b  strings.Builder
}

// wrap writes a text from outside, wrapped at 80 columns with a hanging indent.
func (p *perfPage) wrap(first, rest, text string) {
	const width = 80
	line := first
	empty := true
	for word := range strings.FieldsSeq(ui.Clean(text)) {
		if !empty && len([]rune(line))+1+len([]rune(word)) > width && word[0] != '%' { // a percent sign stays with its number
			p.b.WriteString(line + "\n")
			line, empty = rest, true
		}
		if !empty {
			line += " "
		}
		line, empty = line+word, false
	}
	p.b.WriteString(line + "\n")
}

func (p *perfPage) table(t perfTable) {
	if t.title != "" {
		p.b.WriteString("\n" + p.io.Paint("bold", t.title) + "\n")
	}
	if t.table != nil {
		_ = t.table.Write(p.io, &p.b) // a builder takes everything
	}
	for _, l := range t.lines {
		p.wrap("", "  ", l)
	}
}

func (p *perfPage) findings(list []perf.Finding) {
	if len(list) == 0 {
		p.b.WriteString(p.io.Paint("ok", "OK") + "  nothing found\n")
		return
	}
	const indent = "          "
	for _, f := range list {
		word := strings.ToUpper(f.Status.String())
		// Painted after wrapping: colour has no width.
		at := p.b.Len()
		p.wrap(fmt.Sprintf("%-10s", word), indent, f.Summary)
		text := p.b.String()
		p.b.Reset()
		p.b.WriteString(text[:at] + p.io.Paint(f.Status.String(), word) + text[at+len(word):])
		for _, d := range f.Detail {
			p.wrap(indent, indent+"  ", d)
		}
		if f.Action != "" {
			p.wrap(indent+"next: ", indent+"      ", f.Action)
		}
		for _, s := range f.SQL {
			p.b.WriteString(indent + "      " + ui.Clean(s) + "\n") // never broken: it is to be copied
		}
	}
}

func (p *perfPage) plans(list []perf.Plan) {
	if len(list) == 0 {
		return
	}
	p.b.WriteString("\n" + p.io.Paint("bold", plansTitle) + "\n")
	for _, plan := range list {
		p.wrap("", "  ", plan.ID+": "+shorten(plan.Text, 300))
		if plan.Missing != "" {
			p.wrap("    no plan: ", "      ", plan.Missing)
		}
		for _, l := range plan.Lines {
			p.b.WriteString("    " + ui.Clean(l) + "\n") // its indents mean something
		}
	}
}

const plansTitle = "plans of the top queries, whatever their parameters"
