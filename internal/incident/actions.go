package incident

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// Action is a long-term corrective action of a review.
type Action struct {
	Text  string    `json:"action"`
	Owner string    `json:"owner,omitempty"`
	Due   time.Time `json:"due,omitzero"` // the day, in UTC
	Done  bool      `json:"done"`
	// When is what stands in the place of the day it is due.
	When string `json:"-"`
	Line int    `json:"-"`
}

// Overdue says whether the whole day by which it was due has passed.
func (a Action) Overdue(now time.Time) bool {
	return !a.Done && !a.Due.IsZero() && !now.Before(a.Due.AddDate(0, 0, 1))
}

// Actions returns the corrective actions: the rows of tables and the items of
// lists in their section.
func (d *Document) Actions() []Action {
	s := d.sections[runbook.ReviewActions]
	if s == nil {
		return nil
	}
	var out []Action
	var columns map[string]int // of the table that goes on; nil outside of one
	for i := 0; i < len(s.lines); i++ {
		l := s.lines[i]
		row := cells(l.text)
		switch {
		case l.code:
		case row == nil:
			columns = nil
			if item, taken := item(s.lines[i:]); taken > 0 {
				out = append(out, ofItem(item, l.number))
				i += taken - 1
			}
		case rule(row):
		case columns == nil:
			columns = columnsOf(row)
		default:
			if a, ok := ofRow(row, columns, l.number); ok {
				out = append(out, a)
			}
		}
	}
	return out
}

// rule says whether a row only parts a table's head from its body.
func rule(row []string) bool {
	for _, c := range row {
		if strings.Trim(c, ":- ") != "" {
			return false
		}
	}
	return true
}

// columnsOf finds the columns by the words of a table's head.
func columnsOf(head []string) map[string]int {
	columns := map[string]int{}
	for i, cell := range head {
		cell = strings.ToLower(bare(cell))
		for name, words := range map[string][]string{
			"action": {"action", "what", "task", "description", "item"},
			"owner":  {"owner", "who", "assignee", "assigned", "responsible"},
			"due":    {"due", "date", "deadline", "by", "until", "when"},
			"status": {"status", "state", "done"},
		} {
			for _, w := range words {
				if _, taken := columns[name]; !taken && (cell == w || strings.HasPrefix(cell, w+" ") || strings.HasSuffix(cell, " "+w)) {
					columns[name] = i
				}
			}
		}
	}
	return columns
}

// ofRow makes an action of a row; ok is false for a row of nothing.
func ofRow(row []string, columns map[string]int, number int) (a Action, ok bool) {
	get := func(name string) string {
		if i, found := columns[name]; found && i < len(row) {
			return bare(row[i])
		}
		return ""
	}
	a = Action{Text: get("action"), Owner: get("owner"), When: get("due"), Line: number}
	a.Done = finished(get("status"))
	if _, found := columns["action"]; !found {
		a.Text = strings.Join(row, " ")
	}
	if strings.HasPrefix(a.Text, "~~") {
		a.Text, a.Done = strings.Trim(a.Text, "~ "), true
	}
	a.Due, _ = time.Parse(time.DateOnly, a.When)
	return a, a.Text+a.Owner+a.When != ""
}

// finished says whether a word for how far an action is means its end.
func finished(word string) bool {
	word = strings.ToLower(strings.Trim(word, " .[]()"))
	for _, w := range []string{"done", "closed", "complete", "completed", "finished", "x", "yes", "✓", "✔", "✅"} {
		if word == w || strings.HasPrefix(word, w+" ") {
			return true
		}
	}
	return false
}

var bullet = regexp.MustCompile(`^( {0,3})(?:[-*+]|\d{1,3}[.)])[ \t]+(.*)$`)

// item joins an item of a list with its indented lines; taken is how many lines
// it has, 0 if none begins here.
func item(all []line) (text string, taken int) {
	m := bullet.FindStringSubmatch(all[0].text)
	if m == nil {
		return "", 0
	}
	parts := []string{m[2]}
	taken = 1
	for _, l := range all[1:] {
		inner := strings.TrimLeft(l.text, " \t")
		if l.code || inner == "" || len(l.text)-len(inner) <= len(m[1]) {
			break
		}
		if b := bullet.FindStringSubmatch(inner); b != nil {
			inner = "; " + b[2]
		}
		parts = append(parts, inner)
		taken++
	}
	return strings.Join(parts, " "), taken
}

var (
	box      = regexp.MustCompile(`^\[([ xX])\][ \t]*`)
	ownerIs  = regexp.MustCompile(`(?i)\b(?:owner|assignee|responsible|who)\b[*_]*[ \t]*[:=][*_]*[ \t]*([^,;|()\[\]]*)`)
	dueIs    = regexp.MustCompile(`(?i)\b(?:due(?:[ \t]+date|[ \t]+by|[ \t]+on)?|deadline|by|until)\b[*_]*[ \t]*[:=][*_]*[ \t]*([^,;|()\[\]]*)`)
	statusIs = regexp.MustCompile(`(?i)\b(?:status|state)\b[*_]*[ \t]*[:=][*_]*[ \t]*([^,;|()\[\]]*)`)
	mention  = regexp.MustCompile(`(?:^|[ \t(])(@[A-Za-z0-9][A-Za-z0-9._-]*)`)
	isoDay   = regexp.MustCompile(`\b\d{4}-\d{1,2}-\d{1,2}\b`)
)

// ofItem makes an action of an item: "[x] text (owner: Ada, due: 2026-01-02)",
// "text @ada 2026-01-02".
func ofItem(text string, number int) Action {
	a := Action{Line: number}
	if m := box.FindStringSubmatch(text); m != nil {
		a.Done = m[1] != " "
		text = text[len(m[0]):]
	}
	if strings.HasPrefix(text, "~~") {
		a.Done = true
	}
	first := func(patterns ...*regexp.Regexp) string {
		for _, p := range patterns {
			if m := p.FindStringSubmatch(text); m != nil {
				return bare(strings.TrimRight(m[len(m)-1], " .*_"))
			}
		}
		return ""
	}
	a.Owner = first(ownerIs, mention)
	a.When = first(dueIs, isoDay)
	a.Done = a.Done || finished(first(statusIs))
	a.Due, _ = time.Parse(time.DateOnly, a.When)
	a.Text = bare(strings.Trim(text, "~ "))
	return a
}

// label names an action in a message.
func (a Action) label() string {
	if a.Text == "" {
		return "an action"
	}
	return fmt.Sprintf("%q", shortened(a.Text))
}
