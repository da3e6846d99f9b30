// Package incident is the post-incident review of the runbook (section 6.2): the
// document that is begun with what the machines recorded, the check of what
// people made of it, and the record of which reviews are open.
//
// A review is blameless: what happened stands in it, not who did it. The names
// are in the change journal.
package incident

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// How far before an incident its timeline looks. The runbook does not say. What
// was changed is worth a look back further than what was seen.
const (
	Lead        = time.Hour
	ChangesLead = 24 * time.Hour
)

// maxEvents is how many events of one source a timeline shows.
const maxEvents = 200

// Event is something that happened.
type Event struct {
	At   time.Time
	Text string
	// Signal says that somebody could have seen by it that something is wrong.
	Signal bool
}

// Source is where events come from.
type Source struct {
	Name string
	// From is from when on its events were asked for.
	From   time.Time
	Events []Event
	// Missing says why it could not be read; nil if it was.
	Missing error
	// Note is what must be known of what it gave, or could not give.
	Note string
}

// Review is a review as it is begun.
type Review struct {
	ID       string
	Title    string
	Priority runbook.Priority
	Start    time.Time
	End      time.Time // zero: it goes on
	// Alert names the alert that it began with; "" for none.
	Alert   string
	Sources []Source
	Written time.Time
	By      string // who writes it
}

const idPrefix = "INC-"

// NewID names a review by the incident's start. taken are the IDs that are in
// use.
func NewID(start time.Time, taken []string) string {
	id := idPrefix + start.UTC().Format("20060102T150405Z")
	for n := 2; slices.Contains(taken, id); n++ {
		id = fmt.Sprintf("%s%s-%d", idPrefix, start.UTC().Format("20060102T150405Z"), n)
	}
	return id
}

// Due is by when the review must be there; zero where the runbook wants none.
// While the incident goes on it counts from when the review was begun, which is
// not after the end.
func (r Review) Due() time.Time {
	if r.End.IsZero() {
		return runbook.ReviewDue(r.Priority, r.Written)
	}
	return runbook.ReviewDue(r.Priority, r.End)
}

// signal is when the first of the sources told of it; zero if none did.
func (r Review) signal() time.Time {
	var first time.Time
	for _, s := range r.Sources {
		for _, e := range s.Events {
			if e.Signal && !e.At.Before(r.Start.Add(-Lead)) && (first.IsZero() || e.At.Before(first)) {
				first = e.At
			}
		}
	}
	return first
}

// stampLayout is how times are written in a document.
const stampLayout = "2006-01-02 15:04:05"

// Stamp writes a time in UTC, as documents have it.
func Stamp(t time.Time) string { return t.UTC().Format(stampLayout) + " UTC" }

// stamps are the forms in which a time of day in UTC may be written.
func stamps() []string {
	return []string{
		stampLayout + " UTC", "2006-01-02 15:04 UTC", stampLayout + "Z", "2006-01-02 15:04Z", stampLayout, "2006-01-02 15:04",
		time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04Z", "2006-01-02T15:04",
	}
}

// ParseStamp reads a date and a time of day in UTC.
func ParseStamp(text string) (time.Time, error) {
	text = strings.Join(strings.Fields(text), " ")
	for _, layout := range stamps() {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time in UTC: write %s", shortened(text), "2026-01-02 15:04 UTC")
}

// ParsePast reads when something began or ended: a date and time in UTC, a time
// of day in UTC (18:00, the last there was), or how long ago (2h, 90m).
func ParsePast(text string, now time.Time) (time.Time, error) {
	now = now.UTC()
	if t, err := time.Parse("15:04", text); err == nil {
		at := time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), 0, 0, time.UTC)
		if at.After(now) {
			at = at.AddDate(0, 0, -1)
		}
		return at, nil
	}
	at, err := ParseStamp(text)
	if err != nil {
		ago, derr := time.ParseDuration(text)
		if derr != nil {
			return time.Time{}, fmt.Errorf("%q is no time: write 18:00 (UTC), 2h (ago), or 2026-01-02T18:00:00Z", shortened(text))
		}
		at = now.Add(-ago)
	}
	if at.After(now) {
		return time.Time{}, fmt.Errorf("%q is in the future", shortened(text))
	}
	return at.Truncate(time.Second), nil
}

// shortened is a text of a user's as a message quotes it.
func shortened(text string) string {
	const most = 60 // runes
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "..."
	}
	return text
}
