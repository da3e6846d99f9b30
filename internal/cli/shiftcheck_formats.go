package cli

import (
	_ "embed"
	"fmt"
	"html/template"
	"os"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/health"
	"github.com/stellarescrow/escrowctl/internal/report"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// problem is what is broken, a check or one of its parts, in words.
type problem struct {
	Key, Status, Class                       string
	Summary, Since, Priority, Deadline, Next string
	Detail, Runbooks                         []string
	Change, Known                            string
}

// problems are all that is not ok, the worst first.
func problems(rep health.Report) []problem {
	s := &shiftText{rep: rep}
	var out []problem
	for _, e := range rep.Entries {
		if !e.Broken() {
			continue
		}
		parts := e.BrokenParts()
		if len(parts) == 0 {
			out = append(out, s.problem(e.ID, e))
		}
		for _, p := range parts {
			out = append(out, s.problem(e.ID+"/"+p.ID, p))
		}
	}
	return out
}

func (s *shiftText) problem(key string, e health.Entry) problem {
	p := problem{
		Key: ui.Clean(key), Status: shiftWord(e), Class: shiftColour(e), Summary: ui.Clean(e.Summary), Since: s.since(e), Priority: e.Priority,
		Next: ui.Clean(e.Action), Runbooks: runbookTitles(e.Runbooks), Change: string(e.Change),
	}
	for _, d := range e.Detail {
		p.Detail = append(p.Detail, ui.Clean(d))
	}
	if e.Priority != "" {
		p.Deadline = deadlineText(e.Deadline, s.rep.At)
	}
	if a := e.Ack; a != nil {
		p.Known = ui.Clean(fmt.Sprintf("%s until %s: %s", a.By, clockText(a.Until, s.rep.At), a.Why))
	}
	return p
}

// shiftMarkdown is the hand-over to paste.
func shiftMarkdown(rep health.Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "**Shift check %s: %s** %s\n", rep.At.UTC().Format("2006-01-02 15:04 UTC"), strings.ToUpper(rep.Status.String()), ui.EscapeMarkdown(shiftVerdict(rep)))
	for _, p := range problems(rep) {
		fmt.Fprintf(&b, "\n- **%s** %s", ui.EscapeMarkdown(p.Key), p.Status)
		if p.Change != "" {
			fmt.Fprintf(&b, " (%s)", p.Change)
		}
		fmt.Fprintf(&b, ": %s\n", ui.EscapeMarkdown(p.Summary))
		fmt.Fprintf(&b, "  - since %s\n", ui.EscapeMarkdown(p.Since))
		if p.Priority != "" {
			fmt.Fprintf(&b, "  - %s, %s\n", p.Priority, p.Deadline)
		}
		if len(p.Runbooks) > 0 {
			fmt.Fprintf(&b, "  - %s\n", ui.EscapeMarkdown(strings.Join(p.Runbooks, "; ")))
		}
		if p.Known != "" {
			fmt.Fprintf(&b, "  - acknowledged by %s\n", ui.EscapeMarkdown(p.Known))
		}
		if p.Next != "" {
			fmt.Fprintf(&b, "  - next: `%s`\n", strings.ReplaceAll(p.Next, "`", "'"))
		}
	}
	for _, c := range rep.Cleared {
		fmt.Fprintf(&b, "\n- cleared: **%s** (%s since %s)\n", ui.EscapeMarkdown(ui.Clean(c.Key)), c.Status, clockText(c.FirstSeen, rep.At))
	}
	if since := sinceText(rep); since != "" {
		fmt.Fprintf(&b, "\nCompared %s\n", ui.EscapeMarkdown(since))
	}
	if len(rep.Off) > 0 {
		fmt.Fprintf(&b, "\nOff: %s\n", ui.EscapeMarkdown(offText(rep.Off)))
	}
	return b.String()
}

// shiftNagios is the report as a Nagios plugin says it: a line, and the figures
// as performance data. Its exit codes are Nagios' own as they are, but for
// unknown and critical, which are 3 and 2 there too.
func shiftNagios(rep health.Report) string {
	plain := func(text string) string { return strings.NewReplacer("|", "/", "\n", " ").Replace(ui.Clean(text)) }
	text := fmt.Sprintf("SHIFT %s - %s", strings.ToUpper(rep.Status.String()), plain(shiftVerdict(rep)))
	var bad, perf []string
	for _, e := range rep.Entries {
		if e.Counts != check.OK {
			bad = append(bad, e.ID+": "+plain(e.Summary))
		}
		for _, f := range e.Figures {
			perf = append(perf, perfdata(e.ID+"_"+f.Name, f))
		}
	}
	if len(bad) > 0 {
		text += "; " + strings.Join(bad, "; ")
	}
	return text + " | " + strings.Join(append(perf, fmt.Sprintf("time=%.3fs", rep.Duration.Seconds())), " ") + "\n"
}

// perfdata is 'label'=value[unit];warning;critical.
func perfdata(label string, f check.Figure) string {
	unit := map[string]string{"seconds": "s", "bytes": "B"}[f.Unit]
	limit := func(v *float64) string {
		if v == nil {
			return ""
		}
		return fmt.Sprintf("%g", *v)
	}
	label = strings.NewReplacer("'", "", "=", "_", " ", "_", "|", "_").Replace(ui.Clean(label))
	return strings.TrimRight(fmt.Sprintf("'%s'=%g%s;%s;%s", label, f.Value, unit, limit(f.Warning), limit(f.Critical)), ";")
}

//go:embed shiftcheck.html
var shiftPage string

// writeHTML writes the report as a page that needs nothing else.
func writeHTML(path string, rep health.Report) error {
	text, err := shiftHTML(rep)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("--html %s: %w", path, err)
	}
	return nil
}

func shiftHTML(rep health.Report) (string, error) {
	page, err := template.New("shift").Parse(shiftPage)
	if err != nil {
		return "", err
	}
	type row struct{ ID, Word, Class, Summary string }
	var rows []row
	for _, e := range rep.Entries {
		rows = append(rows, row{e.ID, shiftWord(e), shiftColour(e), ui.Clean(e.Summary)})
	}
	host, _ := os.Hostname() // only for people
	var b strings.Builder
	err = page.Execute(&b, map[string]any{
		"Host": host, "At": rep.At.UTC().Format("2006-01-02 15:04:05 UTC"), "Status": strings.ToUpper(rep.Status.String()), "Class": rep.Status.String(),
		"Verdict": shiftVerdict(rep), "Rows": rows, "Problems": problems(rep), "Since": sinceText(rep), "Cleared": rep.Cleared, "Off": offText(rep.Off),
	})
	return b.String(), err
}

// shiftGauges are the report's metrics.
func shiftGauges(rep health.Report) []report.Gauge {
	var out []report.Gauge
	for _, e := range rep.Entries {
		label := map[string]string{"check": e.ID}
		out = append(out,
			report.Gauge{Name: "status", Value: float64(e.Status), Labels: label},
			report.Gauge{Name: "counts_as", Value: float64(e.Counts), Labels: label})
	}
	return out
}
