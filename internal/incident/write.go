package incident

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// placeholder begins what a person must write.
const placeholder = "TODO"

// The labels of the fields at the head of a document.
const (
	fieldID       = "ID"
	fieldPriority = "Priority"
	fieldStart    = "Started"
	fieldEnd      = "Ended"
	fieldDue      = "Review due"
)

const ongoing = "ongoing"

// row is an event with its source.
type row struct {
	at           time.Time
	source, text string
}

// Markdown writes the document. It has every section of the runbook, and
// placeholders where a machine does not know.
func (r Review) Markdown(w io.Writer) error {
	var b strings.Builder
	r.head(&b)
	for _, item := range runbook.ReviewItems() {
		fmt.Fprintf(&b, "\n## %s\n\n", item.Title)
		switch item.ID {
		case runbook.ReviewTimeline:
			r.timeline(&b)
		case runbook.ReviewCause:
			b.WriteString(placeholder + ": why it could happen, as deep as something can be changed there. Ask what\nmade each step look right at the time, not who took it.\n")
		case runbook.ReviewImpact:
			fmt.Fprintf(&b, "- Duration: %s\n- Affected users: %s: how many, and what they could not do\n- Financial impact: %s: an amount, or none\n", r.duration(), placeholder, placeholder)
		case runbook.ReviewRemediation:
			b.WriteString(placeholder + ": what was done to end it, in order, and what helped.\n")
		case runbook.ReviewActions:
			fmt.Fprintf(&b, "| action | owner | due | status |\n|---|---|---|---|\n| %[1]s: what makes it not happen again | %[1]s | %[1]s: YYYY-MM-DD | open |\n", placeholder)
		case runbook.ReviewDetection:
			fmt.Fprintf(&b, "%s\n\n%s: what could have shown it earlier, and what must be built for that.\n", r.detection(), placeholder)
		case runbook.ReviewRunbook:
			b.WriteString(placeholder + ": which section is wrong or missing, or none.\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Review) head(b *strings.Builder) {
	end, due := Stamp(r.End), "none: the runbook wants a review of P1 and P2"
	if r.End.IsZero() {
		end = ongoing
	}
	if !r.Due().IsZero() {
		due = Stamp(r.Due())
	}
	fmt.Fprintf(b, "# Post-incident review: %s\n\n", plain(r.Title))
	b.WriteString("| | |\n|---|---|\n")
	for _, f := range [][2]string{
		{fieldID, r.ID}, {fieldPriority, r.Priority.String()}, {"Alert", plain(cmp.Or(r.Alert, "none"))}, {fieldStart, Stamp(r.Start)}, {fieldEnd, end},
		{fieldDue, due}, {"Written", Stamp(r.Written) + " by " + plain(r.By)},
	} {
		fmt.Fprintf(b, "| %s | %s |\n", f[0], f[1])
	}
	b.WriteString("\nThis review is blameless: it asks what made things happen, not who did them. Names\nare left out of the timeline on purpose; the change journal has them.\n")
}

// timeline writes the events of all sources in their order, and which sources
// there are.
func (r Review) timeline(b *strings.Builder) {
	b.WriteString("| time (UTC) | source | event |\n|---|---|---|\n")
	for _, e := range r.rows() {
		fmt.Fprintf(b, "| %s | %s | %s |\n", e.at.UTC().Format(stampLayout), plain(e.source), plain(e.text))
	}
	b.WriteString("\nSources:\n\n")
	for _, s := range r.Sources {
		note := ""
		if s.Note != "" {
			note = "; " + plain(s.Note)
		}
		if s.Missing != nil {
			fmt.Fprintf(b, "- **MISSING**: %s: %s%s. What it would have shown is not in this timeline.\n", plain(s.Name), plain(s.Missing.Error()), note)
			continue
		}
		shown := fmt.Sprintf("%d from %s on", len(s.Events), Stamp(s.From))
		if len(s.Events) > maxEvents {
			shown = fmt.Sprintf("the first and the last %d of %s", maxEvents/2, shown)
		}
		fmt.Fprintf(b, "- %s: %s%s\n", plain(s.Name), shown, note)
	}
}

// rows are the events of all sources, sorted, with the beginning and the end of
// the incident among them.
func (r Review) rows() []row {
	rows := []row{{r.Start, "this review", "the incident begins"}}
	if !r.End.IsZero() {
		rows = append(rows, row{r.End, "this review", "the incident ends"})
	}
	for _, s := range r.Sources {
		events := slices.Clone(s.Events)
		slices.SortStableFunc(events, func(a, b Event) int { return a.At.Compare(b.At) })
		if over := len(events) - maxEvents; over > 0 {
			half := maxEvents / 2
			events = append(events[:half:half], events[half+over:]...)
		}
		for _, e := range events {
			rows = append(rows, row{e.At, s.Name, e.Text})
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int { return a.at.Compare(b.at) })
	return rows
}

func (r Review) duration() string {
	if r.End.IsZero() {
		return fmt.Sprintf("%s: %s so far, from %s", placeholder, span(r.Written.Sub(r.Start)), Stamp(r.Start))
	}
	return fmt.Sprintf("%s, from %s to %s", span(r.End.Sub(r.Start)), Stamp(r.Start), Stamp(r.End))
}

// detection says how long it took until something told of it.
func (r Review) detection() string {
	first := r.signal()
	switch {
	case first.IsZero():
		return "None of the sources told of it."
	case first.After(r.Start):
		return fmt.Sprintf("The first signal in the sources came at %s, %s after the start.", Stamp(first), span(first.Sub(r.Start)))
	}
	return fmt.Sprintf("The first signal in the sources came at %s.", Stamp(first))
}

// span writes how long something took, to the minute.
func span(d time.Duration) string {
	minutes := int64(d / time.Minute)
	switch {
	case minutes < 1:
		return fmt.Sprintf("%d s", int64(d/time.Second))
	case minutes < 60:
		return fmt.Sprintf("%d min", minutes)
	}
	return fmt.Sprintf("%d h %d min", minutes/60, minutes%60)
}

// plain makes one harmless line of Markdown of text from outside: no markup, no
// control characters, nothing that changes the direction of writing.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	text = strings.Join(strings.Fields(text), " ")
	return strings.NewReplacer(`\`, `\\`, "|", `\|`, "<", "&lt;", "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "~", `\~`).Replace(text)
}
