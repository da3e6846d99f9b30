package keys

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// RotatedDocument is the document that keeps the last rotation of each secret.
const RotatedDocument = "rotated"

// Rotated is the last rotation of a secret.
type Rotated struct {
	Secret string    `json:"secret"`
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	How    string    `json:"how"` // retire, emergency, swap, or by-hand
	Why    string    `json:"why,omitempty"`
	Old    []string  `json:"old_fingerprints,omitempty"`
	New    []string  `json:"new_fingerprints,omitempty"`
}

// Last reads the last rotation of each secret, by its name.
func Last(docs interface {
	Load(name string, v any) (bool, error)
}) (map[string]Rotated, error) {
	out := map[string]Rotated{}
	if _, err := docs.Load(RotatedDocument, &out); err != nil {
		return nil, err
	}
	return out, nil
}

// Record notes a rotation. An older one than is known changes nothing.
func Record(docs Documents, r Rotated) error {
	all, err := Last(docs)
	if err != nil {
		return err
	}
	if have, ok := all[r.Secret]; ok && have.At.After(r.At) {
		return nil
	}
	all[r.Secret] = r
	return docs.Save(RotatedDocument, all)
}

// Deadline is when a secret is due.
type Deadline struct {
	Secret    string
	Frequency string
	Every     time.Duration // 0: the runbook names none
	// Last is zero if no rotation is known: then it is not known either when
	// the next is due.
	Last time.Time
	Due  time.Time
	Left time.Duration // until Due; negative is overdue
}

// Known says whether there is a due date.
func (d Deadline) Known() bool { return !d.Due.IsZero() }

// Overdue says whether the due date is past.
func (d Deadline) Overdue() bool { return d.Known() && d.Left < 0 }

// Due returns the deadline of every secret of the runbook (section 3.3), the
// most urgent first and those of which nothing is known last.
func Due(now time.Time, last map[string]Rotated) []Deadline {
	var out []Deadline
	for _, s := range runbook.Secrets() {
		d := Deadline{Secret: s.Name, Frequency: s.Frequency, Every: s.Every, Last: last[s.Name].At}
		if d.Every > 0 && !d.Last.IsZero() {
			d.Due = d.Last.Add(d.Every)
			d.Left = d.Due.Sub(now)
		}
		out = append(out, d)
	}
	slices.SortStableFunc(out, func(a, b Deadline) int {
		if a.Known() != b.Known() {
			if a.Known() {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Left, b.Left)
	})
	return out
}

// Calendar returns the due dates as an iCalendar file (RFC 5545): a day each,
// with a reminder when the consumers' notice must go out.
func Calendar(now time.Time, due []Deadline) []byte {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(fold(fmt.Sprintf(format, args...))) }
	line("BEGIN:VCALENDAR")
	line("VERSION:2.0")
	line("PRODID:-//escrowctl//rotate-keys//EN")
	for _, d := range due {
		if !d.Known() {
			continue
		}
		day := d.Due.UTC()
		line("BEGIN:VEVENT")
		line("UID:%s@escrowctl", document(d.Secret))
		line("DTSTAMP:%s", now.UTC().Format("20060102T150405Z"))
		line("DTSTART;VALUE=DATE:%s", day.Format("20060102"))
		line("DTEND;VALUE=DATE:%s", day.AddDate(0, 0, 1).Format("20060102"))
		line("SUMMARY:Rotate %s", d.Secret)
		line("DESCRIPTION:%s (escrowctl %s), last on %s", d.Frequency, command(d.Secret), d.Last.UTC().Format(time.DateOnly))
		line("BEGIN:VALARM")
		line("ACTION:DISPLAY")
		line("DESCRIPTION:Rotate %s within %d days: tell its consumers", d.Secret, runbook.RotationNotice/runbook.Day)
		line("TRIGGER:-P%dD", runbook.RotationNotice/runbook.Day)
		line("END:VALARM")
		line("END:VEVENT")
	}
	line("END:VCALENDAR")
	return []byte(b.String())
}

// command begins the rotation of a secret.
func command(name string) string {
	if strings.HasSuffix(name, "_KEYS") {
		return "rotate-keys start " + name
	}
	return "rotate-keys " + strings.TrimSuffix(name, " credentials")
}

// foldAt is how many bytes a content line has at most, without its end (3.1).
const foldAt = 75

// fold escapes the commas of a text (3.3.11), ends the line, and breaks it where
// it is too long.
func fold(line string) string {
	line = strings.ReplaceAll(line, ", ", `\, `)
	var b strings.Builder
	for limit := foldAt; len(line) > limit; limit = foldAt - 1 {
		cut := limit
		for !utf8.RuneStart(line[cut]) {
			cut--
		}
		b.WriteString(line[:cut] + "\r\n ")
		line = line[cut:]
	}
	return b.String() + line + "\r\n"
}
