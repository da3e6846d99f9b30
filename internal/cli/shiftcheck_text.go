package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/health"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// labelWidth is the width of the labels in a problem's block.
const labelWidth = 10

// shiftText writes a report for people: a line for each check, worst first, a
// block for each problem, and the verdict.
type shiftText struct {
	io  *ui.IO
	rep health.Report
	act string // the label of what to do
	b   strings.Builder
}

func newShiftText(io *ui.IO, rep health.Report) *shiftText {
	return &shiftText{io: io, rep: rep, act: "next"}
}

// idWidth is the width of the column of IDs.
func (s *shiftText) idWidth() int {
	width := 11
	for _, e := range s.rep.Entries {
		width = max(width, len(e.ID))
	}
	return width
}

// overview is the lines and the verdict alone, for a screen of so many lines; 0
// is one without end. What does not fit is the last, which is the least grave.
func (s *shiftText) overview(height int) string {
	s.verdict()
	verdict := s.b.String()
	s.b.Reset()
	room := len(s.rep.Entries)
	if height > 0 && room > height-strings.Count(verdict, "\n") {
		room = max(1, height-strings.Count(verdict, "\n")-1)
	}
	for _, e := range s.rep.Entries[:room] {
		s.line(e)
	}
	if rest := s.rep.Entries[room:]; len(rest) > 0 {
		fmt.Fprintf(&s.b, "%d more, the gravest %s\n", len(rest), shiftWord(rest[0]))
	}
	return s.b.String() + verdict
}

func (s *shiftText) text() string {
	for _, e := range s.rep.Entries {
		s.line(e)
	}
	for _, e := range s.rep.Entries {
		s.blocks(e)
	}
	if len(s.rep.Cleared) > 0 {
		s.b.WriteByte('\n')
	}
	for _, c := range s.rep.Cleared {
		text := fmt.Sprintf("cleared   %s: was %s since %s: %s", c.Key, c.Status, clockText(c.FirstSeen, s.rep.At), c.Summary)
		s.b.WriteString(s.io.Fold(text, labelWidth))
	}
	if since := sinceText(s.rep); since != "" {
		s.b.WriteString("\n" + s.io.Fold("compared  "+since, labelWidth))
	}
	if len(s.rep.Off) > 0 {
		s.b.WriteString("\n" + s.io.Fold("off       "+offText(s.rep.Off), labelWidth))
	}
	s.verdict()
	return s.b.String()
}

// sinceText says with what the report is compared, if something has changed.
func sinceText(rep health.Report) string {
	changed := len(rep.Cleared) > 0
	for _, e := range rep.Entries {
		changed = changed || e.Change != ""
	}
	switch {
	case !changed || rep.LastAt.IsZero():
		return ""
	case rep.LastBy == "":
		return "with the check of " + clockText(rep.LastAt, rep.At)
	}
	return fmt.Sprintf("with the last shift, checked by %s at %s", ui.Clean(rep.LastBy), clockText(rep.LastAt, rep.At))
}

func (s *shiftText) verdict() {
	word := strings.ToUpper(s.rep.Status.String())
	line := s.io.Fold(word+"  "+ui.Clean(shiftVerdict(s.rep)), len(word)+2)
	s.b.WriteString("\n" + s.io.Paint(s.rep.Status.String(), word) + strings.TrimPrefix(line, word))
}

// line is a check's line of the overview.
func (s *shiftText) line(e health.Entry) {
	word := shiftWord(e)
	mark := ""
	if e.Change == health.New || e.Change == health.Worse {
		mark = string(e.Change) + ": "
	}
	text := fmt.Sprintf("%-8s  %-*s %s%s", word, s.idWidth(), e.ID, mark, ui.Clean(e.Summary))
	text = s.io.Fit(text)
	s.b.WriteString(s.io.Paint(shiftColour(e), word) + strings.TrimPrefix(text, word) + "\n")
}

// shiftWord is how a status is shown: small when it is well, CAPITALS when it
// counts, so that it is read without colour.
func shiftWord(e health.Entry) string {
	switch {
	case e.Status == check.OK:
		return "ok"
	case e.Counts == check.OK:
		return "acked"
	}
	return strings.ToUpper(e.Status.String())
}

func shiftColour(e health.Entry) string {
	if e.Status != check.OK && e.Counts == check.OK {
		return "dim"
	}
	return e.Status.String()
}

// blocks writes a check's problems: each broken part, or the whole.
func (s *shiftText) blocks(e health.Entry) {
	if !e.Broken() {
		return
	}
	parts := e.BrokenParts()
	if len(parts) == 0 {
		s.block(e.ID, e)
	}
	for _, p := range parts {
		s.block(e.ID+"/"+p.ID, p)
	}
}

func (s *shiftText) block(key string, e health.Entry) {
	head := shiftWord(e)
	if e.Counts == check.OK {
		head = e.Status.String() + ", acknowledged"
	}
	if e.Change != "" {
		head += ", " + string(e.Change)
	}
	fmt.Fprintf(&s.b, "\n%s  %s\n", s.io.Paint("bold", ui.Clean(key)), s.io.Paint(shiftColour(e), head))
	s.row("seen", e.Summary)
	for _, d := range e.Detail {
		s.row("", d)
	}
	if !e.Since.IsZero() || !e.FirstSeen.IsZero() {
		s.row("since", s.since(e))
	}
	if e.Priority != "" {
		s.row(e.Priority, deadlineText(e.Deadline, s.rep.At))
	}
	for i, rb := range runbookTitles(e.Runbooks) {
		s.row(map[bool]string{true: "runbook"}[i == 0], rb)
	}
	if e.Action != "" {
		s.row(s.act, e.Action)
	}
	if a := e.Ack; a != nil {
		s.row("known", fmt.Sprintf("to %s until %s: %s", a.By, clockText(a.Until, s.rep.At), a.Why))
	}
}

func (s *shiftText) row(label, text string) {
	s.b.WriteString(s.io.Fold(fmt.Sprintf("  %-*s%s", labelWidth, label, ui.Clean(text)), labelWidth+2))
}

// since says when a problem began, or when it was first seen.
func (s *shiftText) since(e health.Entry) string {
	if !e.Since.IsZero() {
		return clockText(e.Since, s.rep.At) + ", " + ui.Age(s.rep.At.Sub(e.Since)) + " ago"
	}
	if e.FirstSeen.Equal(s.rep.At) {
		return "not known; first seen now"
	}
	return "not known; first seen " + clockText(e.FirstSeen, s.rep.At) + ", " + ui.Age(s.rep.At.Sub(e.FirstSeen)) + " ago"
}

// clockText is a time of day in UTC, with the date if it is another day's.
func clockText(t, now time.Time) string {
	t, now = t.UTC(), now.UTC()
	if t.Year() == now.Year() && t.YearDay() == now.YearDay() {
		return t.Format("15:04 UTC")
	}
	if t.Sub(now).Abs() < 300*runbook.Day {
		return t.Format("Mon 2 Jan 15:04 UTC")
	}
	return t.Format("2 Jan 2006 15:04 UTC")
}

// deadlineText says by when to respond and how long that is.
func deadlineText(deadline, now time.Time) string {
	if deadline.IsZero() {
		return "no deadline"
	}
	text := "respond by " + clockText(deadline, now)
	if left := deadline.Sub(now); left >= 0 {
		return text + ", " + minutes(left) + " left"
	}
	return text + ", OVERDUE by " + minutes(now.Sub(deadline))
}

// minutes is a span in hours and minutes: "0 min", "59 min", "3 h 5 min".
func minutes(d time.Duration) string {
	m := int(d / time.Minute)
	switch {
	case m < 60:
		return fmt.Sprintf("%d min", m)
	case m < 48*60:
		return fmt.Sprintf("%d h %d min", m/60, m%60)
	}
	return fmt.Sprintf("%d d %d h", m/1440, m%1440/60)
}

// runbookTitles names runbooks with their titles; sections stand alone.
func runbookTitles(ids []string) []string {
	titles := map[string]string{}
	for _, p := range runbook.Procedures() {
		titles[p.ID] = p.Title
	}
	var out []string
	for _, id := range ids {
		switch title := titles[id]; {
		case title != "":
			out = append(out, id+" "+title)
		case strings.HasPrefix(id, "RB-"):
			out = append(out, id)
		default:
			out = append(out, "section "+id)
		}
	}
	return out
}

// shiftVerdict is the report in one line.
func shiftVerdict(rep health.Report) string {
	counts := map[check.Status]int{}
	acked := 0
	for _, e := range rep.Entries {
		if e.Broken() && e.Counts == check.OK {
			acked++
			continue
		}
		counts[e.Counts]++
	}
	var words []string
	for _, st := range []check.Status{check.Critical, check.Unknown, check.Warning, check.OK} {
		if n := counts[st]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, st))
		}
	}
	if acked > 0 {
		words = append(words, fmt.Sprintf("%d acknowledged", acked))
	}
	text := strings.Join(words, ", ") + fmt.Sprintf(" of %s", ui.Plural(len(rep.Entries), "check", "checks"))
	if next := firstDeadline(rep); !next.IsZero() {
		text += "; " + deadlineText(next, rep.At)
	}
	return text
}

// firstDeadline is the earliest of what counts.
func firstDeadline(rep health.Report) time.Time {
	var first time.Time
	look := func(e health.Entry) {
		if e.Counts != check.OK && !e.Deadline.IsZero() && (first.IsZero() || e.Deadline.Before(first)) {
			first = e.Deadline
		}
	}
	for _, e := range rep.Entries {
		if len(e.Parts) == 0 {
			look(e)
		}
		for _, p := range e.Parts {
			look(p)
		}
	}
	return first
}
