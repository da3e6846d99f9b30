package incident

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// The kinds of what is wrong with a review.
const (
	MissingField   = "missing-field"
	MissingSection = "missing-section"
	EmptySection   = "empty-section"
	Placeholder    = "placeholder"
	NoOwner        = "no-owner"
	NoDate         = "no-date"
	NoAction       = "no-action"
	InvalidDate    = "invalid-date"
	Ongoing        = "ongoing"
	ActionOverdue  = "action-overdue"
	ReviewOverdue  = "review-overdue"
)

// Finding is something that is wrong with a review.
type Finding struct {
	Kind    string `json:"kind"`
	Section string `json:"section,omitempty"` // its ID
	Line    int    `json:"line,omitempty"`
	What    string `json:"what"`
}

// Late says that the finding is about time alone: what stands in the review is
// whole.
func (f Finding) Late() bool { return f.Kind == ActionOverdue || f.Kind == ReviewOverdue }

// Verdict is what a check of a review found.
type Verdict struct {
	ID       string
	Priority runbook.Priority // 0 if it is not known
	Start    time.Time
	End      time.Time // zero if it is not known
	Due      time.Time // by when the review must be whole; zero: never
	Actions  []Action
	Findings []Finding
}

// Whole says whether everything that the runbook wants stands in the review. It
// may be late nevertheless.
func (v Verdict) Whole() bool {
	return !slices.ContainsFunc(v.Findings, func(f Finding) bool { return !f.Late() })
}

// Status is ok if nothing is found. What is not finished is a warning, and
// critical once the review is due; a date that cannot be is critical.
func (v Verdict) Status() check.Status {
	status := check.OK
	for _, f := range v.Findings {
		if f.Kind == InvalidDate || f.Kind == ReviewOverdue && !v.Whole() {
			return check.Critical
		}
		status = check.Warning
	}
	return status
}

// Check holds a review against the runbook's section 6.2. closed says that it is
// recorded as closed: then it cannot be late any more, its actions can.
func Check(d *Document, now time.Time, closed bool) Verdict {
	c := &checker{doc: d, now: now}
	c.fields()
	c.sections()
	c.timeline()
	c.actions()
	if !closed && !c.v.Due.IsZero() && now.After(c.v.Due) {
		c.add(ReviewOverdue, "", d.fields[strings.ToLower(fieldDue)].line, "the review was due %s", Stamp(c.v.Due))
	}
	slices.SortStableFunc(c.v.Findings, func(a, b Finding) int { return a.Line - b.Line })
	return c.v
}

type checker struct {
	doc *Document
	now time.Time
	v   Verdict
}

func (c *checker) add(kind, section string, line int, format string, args ...any) {
	c.v.Findings = append(c.v.Findings, Finding{kind, section, line, fmt.Sprintf(format, args...)})
}

// stamp reads a field that is a time; words are accepted in its place.
func (c *checker) stamp(label string, words ...string) (at time.Time, word string) {
	f, ok := c.doc.fields[strings.ToLower(label)]
	if !ok || f.value == "" {
		c.add(MissingField, "", f.line, "there is no line %q with a time in UTC", label)
		return time.Time{}, ""
	}
	for _, w := range words {
		if strings.HasPrefix(strings.ToLower(f.value), w) {
			return time.Time{}, w
		}
	}
	if waits(f.value) {
		c.add(Placeholder, "", f.line, "%s: %s", label, shortened(f.value))
		return time.Time{}, ""
	}
	at, err := ParseStamp(f.value)
	if err != nil {
		c.add(InvalidDate, "", f.line, "%s: %v", label, err)
	}
	return at, ""
}

// fields checks the head: priority, beginning, end, and that the review is not
// put off.
func (c *checker) fields() {
	c.v.ID = c.doc.fields[strings.ToLower(fieldID)].value
	p, ok := c.doc.fields[strings.ToLower(fieldPriority)]
	if err := c.v.Priority.UnmarshalText([]byte(strings.ToUpper(p.value))); !ok || err != nil {
		c.add(MissingField, "", p.line, "there is no line %q with P1, P2, P3 or P4", fieldPriority)
	}
	c.v.Start, _ = c.stamp(fieldStart)
	end, word := c.stamp(fieldEnd, ongoing)
	line := c.doc.fields[strings.ToLower(fieldEnd)].line
	switch {
	case word != "":
		c.add(Ongoing, "", line, "the incident goes on: write when it ended")
	case end.IsZero():
	case end.Before(c.v.Start):
		c.add(InvalidDate, "", line, "it ended %s, before it started %s", Stamp(end), Stamp(c.v.Start))
	case end.After(c.now):
		c.add(InvalidDate, "", line, "it ended %s, which is in the future", Stamp(end))
	default:
		c.v.End = end
	}
	c.due()
}

// due finds by when the review must be whole: as it says itself, but not later
// than the runbook has it.
func (c *checker) due() {
	if !runbook.NeedsReview(c.v.Priority) {
		return
	}
	written, _ := c.stamp(fieldDue)
	c.v.Due = written
	if c.v.End.IsZero() {
		return
	}
	most := runbook.ReviewDue(c.v.Priority, c.v.End)
	if written.After(most) {
		c.add(InvalidDate, "", c.doc.fields[strings.ToLower(fieldDue)].line, "it says that it is due %s: the runbook has %s, %s after the end", Stamp(written), Stamp(most), span(runbook.PostIncidentReviewWithin))
	}
	// It was written down when the end was not known, or is not there.
	c.v.Due = most
}

// sections checks that each is there and says something.
func (c *checker) sections() {
	for _, item := range runbook.ReviewItems() {
		s := c.doc.sections[item.ID]
		if s == nil {
			c.add(MissingSection, item.ID, 0, "the section %q is missing", item.Title)
			continue
		}
		if !says(s.lines) {
			c.add(EmptySection, item.ID, s.line, "the section %q is empty", item.Title)
		}
		for _, l := range s.lines {
			if place := c.placeholder(item.ID, l); place != "" {
				c.add(Placeholder, item.ID, l.number, "to be written: %s", shortened(place))
			}
		}
	}
}

var (
	marker = regexp.MustCompile(`\b(?:TODO|TBD|TBC|FIXME|XXX)\b|\?\?\?|YYYY-MM-DD|<(?:fill|insert|your|name|date|owner|describe|what|who|when|why)\b[a-z _-]*>`)
	code   = regexp.MustCompile("`[^`]*`")
)

// waits says whether a text is one that a person was to replace.
func waits(text string) bool { return marker.MatchString(code.ReplaceAllString(text, "")) }

// placeholder returns what is left to write in a line. In the timeline the words
// of machines are not looked at: only a whole cell counts.
func (c *checker) placeholder(section string, l line) string {
	if l.code {
		return ""
	}
	row := cells(l.text)
	if section == runbook.ReviewTimeline && row != nil {
		for _, cell := range row {
			if loc := marker.FindStringIndex(cell); loc != nil && loc[0] == 0 {
				return cell
			}
		}
		return ""
	}
	if row != nil && section == runbook.ReviewActions {
		return "" // an action's own findings say more
	}
	if waits(l.text) {
		return strings.TrimSpace(l.text)
	}
	return ""
}

// says whether lines hold more than markup: the head of a table and the label of
// a list do not say anything.
func says(lines []line) bool {
	table := 0
	for _, l := range lines {
		text := strings.TrimSpace(l.text)
		row := cells(text)
		switch {
		case row != nil:
			if table++; table > 1 && !rule(row) && strings.Join(row, "") != "" {
				return true
			}
			continue
		case strings.TrimLeft(text, "#-*+_=>~0123456789.)[] \t") == "":
		case strings.HasPrefix(text, "#"):
		case labelled.MatchString(text) && labelled.FindStringSubmatch(text)[2] == "":
		default:
			return true
		}
		table = 0
	}
	return false
}

// stamped is a line of a timeline: a day, a time of day or both, and the zone.
var stamped = regexp.MustCompile(`^(?:[-*+][ \t]+)?[*_[(]*` + "`?" + `(\d{4}-\d{1,2}-\d{1,2}(?:[Tt \t]+\d{1,2}:\d{2}(?::\d{2})?)?|\d{1,2}:\d{2}(?::\d{2})?)` +
	`(?:\.\d+)?[ \t]*(Z\b|UTC\b|GMT\b|[+-]\d{2}:?\d{2}\b|(?:CE|EE|WE|AE)S?T\b|[ECMP][SD]T\b|[BIJ]ST\b|MSK\b)?`)

// timeline checks that its times can be read, and are in UTC.
func (c *checker) timeline() {
	s := c.doc.sections[runbook.ReviewTimeline]
	if s == nil || !says(s.lines) {
		return
	}
	found := false
	for _, l := range s.lines {
		text := strings.TrimSpace(l.text)
		if row := cells(text); row != nil {
			text = bare(row[0])
		}
		m := stamped.FindStringSubmatch(text)
		if l.code || m == nil {
			continue
		}
		found = true
		switch zone := m[2]; {
		case !moment(m[1]):
			c.add(InvalidDate, runbook.ReviewTimeline, l.number, "there is no %s: write 2026-01-02 15:04", m[1])
		case !slices.Contains([]string{"", "Z", "UTC", "GMT", "+00:00", "+0000"}, zone):
			c.add(InvalidDate, runbook.ReviewTimeline, l.number, "%s %s is not in UTC", m[1], zone)
		}
	}
	if !found {
		c.add(EmptySection, runbook.ReviewTimeline, s.line, "the timeline has no event with a time")
	}
}

// moment says whether there is such a day, or time of day.
func moment(text string) bool {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("Tt \t", r) }), " ")
	for _, layout := range []string{time.DateOnly, stampLayout, "2006-01-02 15:04", "15:04", "15:04:05"} {
		if _, err := time.Parse(layout, text); err == nil {
			return true
		}
	}
	return false
}

// actions checks that each has an owner and a day by which it is due.
func (c *checker) actions() {
	s := c.doc.sections[runbook.ReviewActions]
	if s == nil || !says(s.lines) {
		return
	}
	c.v.Actions = c.doc.Actions()
	if len(c.v.Actions) == 0 && !none(s.lines) {
		c.add(NoAction, runbook.ReviewActions, s.line, "no action was found: write a table or a list, or \"none\" and why")
	}
	for _, a := range c.v.Actions {
		c.action(a)
	}
}

// none says whether a section says that there is nothing.
func none(lines []line) bool {
	for _, l := range lines {
		if text := strings.ToLower(strings.TrimLeft(l.text, " \t*_")); text != "" {
			return strings.HasPrefix(text, "none") || strings.HasPrefix(text, "no ")
		}
	}
	return false
}

func (c *checker) action(a Action) {
	const in = runbook.ReviewActions
	switch {
	case a.Text == "" || waits(a.Text):
		c.add(Placeholder, in, a.Line, "what the action is, is to be written")
	}
	if a.Owner == "" || waits(a.Owner) || strings.Trim(a.Owner, "-–—?. ") == "" {
		c.add(NoOwner, in, a.Line, "%s has no owner", a.label())
	}
	switch {
	case a.When == "" || waits(a.When) || strings.Trim(a.When, "-–—?. ") == "":
		c.add(NoDate, in, a.Line, "%s has no date by which it is due", a.label())
	case a.Due.IsZero():
		c.add(InvalidDate, in, a.Line, "%s is due %q, which is no day: write 2026-01-02", a.label(), shortened(a.When))
	case !c.v.Start.IsZero() && a.Due.Before(c.v.Start.Truncate(24*time.Hour)):
		c.add(InvalidDate, in, a.Line, "%s was due %s, before the incident", a.label(), a.When)
	case a.Overdue(c.now):
		c.add(ActionOverdue, in, a.Line, "%s was due %s", a.label(), a.When)
	}
}
