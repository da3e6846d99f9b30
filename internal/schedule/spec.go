// Package schedule reads crontabs as Debian's cron does, and says when a row is
// due, in which zone, and which of the times it was due were missed.
//
// The calendar is robfig/cron's. Its parser is not used, as it reads some
// fields otherwise than cron, and a time computed from another reading is worse
// than none: to cron 7 is Sunday, a field that begins with a star is not
// restricted (so */2 and 1 as the days of month and week must both hold), a
// list item may not be empty, and there is no N/step and no @every.
package schedule

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Spec is a row's time.
type Spec struct {
	text   string
	at     cron.SpecSchedule // in UTC, applied to the zone's wall clock
	wild   bool              // minute or hour begin with a star
	reboot bool
	never  bool
	fields [fieldCount]uint64 // the values allowed, one bit each
	notes  []string
}

// String returns the time as it was written, its blanks made one each.
func (s Spec) String() string { return s.text }

// Reboot says that the row runs when the host starts, and at no set time.
func (s Spec) Reboot() bool { return s.reboot }

// Never says that the time does not come: the 30th of February, or an empty
// range.
func (s Spec) Never() bool { return s.never }

// Notes returns what cron accepts and hardly anybody means.
func (s Spec) Notes() []string { return s.notes }

// starBit is robfig/cron's mark of a field that is not restricted.
const starBit = 1 << 63

// The fields in their order.
const (
	minuteField = iota
	hourField
	domField
	monthField
	dowField
	fieldCount
)

type bounds struct {
	name      string
	low, high int
	names     string // three letters each, the first for low
}

func fieldBounds(i int) bounds {
	return [fieldCount]bounds{
		{"minute", 0, 59, ""},
		{"hour", 0, 23, ""},
		{"day of month", 1, 31, ""},
		{"month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
		{"day of week", 0, 7, "sunmontuewedthufrisat"},
	}[i]
}

// ParseSpec reads the time of a row: five fields, or a word such as @daily. An
// error is what cron refuses too.
func ParseSpec(text string) (Spec, error) {
	fields := strings.Fields(text)
	if len(fields) == 1 && strings.HasPrefix(fields[0], "@") {
		return parseWord(fields[0])
	}
	if len(fields) != fieldCount {
		return Spec{}, fmt.Errorf("%q has %d fields: a time has five (minute, hour, day of month, month, day of week)", text, len(fields))
	}
	s := Spec{text: strings.Join(fields, " ")}
	for i, f := range fields {
		bits, notes, err := parseField(f, fieldBounds(i))
		if err != nil {
			return Spec{}, err
		}
		s.fields[i] = bits
		s.notes = append(s.notes, notes...)
	}
	s.wild = strings.HasPrefix(fields[minuteField], "*") || strings.HasPrefix(fields[hourField], "*")
	s.calendar(strings.HasPrefix(fields[domField], "*"), strings.HasPrefix(fields[dowField], "*"))
	s.never = s.Next(time.Unix(0, 0), time.UTC).IsZero()
	return s, nil
}

// calendar fills in robfig/cron's form. A star at the beginning of one of the
// two day fields makes both have to hold; else either is enough.
func (s *Spec) calendar(domStar, dowStar bool) {
	const sunday, alsoSunday = 1 << 0, 1 << 7
	if s.fields[dowField]&(sunday|alsoSunday) != 0 {
		s.fields[dowField] = s.fields[dowField]&^alsoSunday | sunday
	}
	s.at = cron.SpecSchedule{
		Second: 1, Minute: s.fields[minuteField], Hour: s.fields[hourField],
		Dom: s.fields[domField], Month: s.fields[monthField], Dow: s.fields[dowField], Location: time.UTC,
	}
	if domStar {
		s.at.Dom |= starBit
	}
	if dowStar {
		s.at.Dow |= starBit
	}
}

// parseWord reads @daily and its like, which cron knows in lower case only.
func parseWord(word string) (Spec, error) {
	var same string
	switch word {
	case "@reboot":
		return Spec{text: word, reboot: true}, nil
	case "@yearly", "@annually":
		same = "0 0 1 1 *"
	case "@monthly":
		same = "0 0 1 * *"
	case "@weekly":
		same = "0 0 * * 0"
	case "@daily", "@midnight":
		same = "0 0 * * *"
	case "@hourly":
		same = "0 * * * *"
	default:
		return Spec{}, fmt.Errorf("%q is no time that cron knows: @reboot, @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly", word)
	}
	s, err := ParseSpec(same)
	s.text = word
	return s, err
}

// parseField reads a list of ranges.
func parseField(text string, b bounds) (bits uint64, notes []string, err error) {
	rest := text
	for {
		var some uint64
		var note string
		some, rest, note, err = parseRange(rest, b)
		if err != nil {
			return 0, nil, fmt.Errorf("bad %s %q: %w", b.name, text, err)
		}
		bits |= some
		if note != "" {
			notes = append(notes, fmt.Sprintf("%s %q: %s", b.name, text, note))
		}
		next, more := strings.CutPrefix(rest, ",")
		if !more {
			break
		}
		rest = next
	}
	if rest != "" { // cron skips to the next blank
		notes = append(notes, fmt.Sprintf("%s %q: cron ignores %q", b.name, text, rest))
	}
	return bits, notes, nil
}

// parseRange reads *, N or N-M, with a step after the first and the last, and
// returns what follows it.
func parseRange(text string, b bounds) (bits uint64, rest, note string, err error) {
	var low, high int
	if after, ok := strings.CutPrefix(text, "*"); ok {
		low, high, rest = b.low, b.high, after
	} else {
		if low, rest, err = parseValue(text, b); err != nil {
			return 0, "", "", err
		}
		after, ok := strings.CutPrefix(rest, "-")
		if !ok {
			if strings.HasPrefix(rest, "/") {
				return 0, "", "", fmt.Errorf("a step needs a range: write %d-%d%s", low, b.high, rest)
			}
			return 1 << low, rest, "", nil
		}
		if high, rest, err = parseValue(after, b); err != nil {
			return 0, "", "", err
		}
	}
	step := 1
	if after, ok := strings.CutPrefix(rest, "/"); ok {
		digits := leading(after, isDigit)
		step, err = strconv.Atoi(digits)
		if err != nil || step == 0 {
			return 0, "", "", fmt.Errorf("the step is no number above 0")
		}
		if rest = after[len(digits):]; rest != "" && isWord(rest[0]) {
			return 0, "", "", fmt.Errorf("the step is no number above 0")
		}
	}
	if low > high {
		note = fmt.Sprintf("the range from %d to %d is empty, cron does not go round", low, high)
	}
	for v := low; v <= high; v += min(step, 64) {
		bits |= 1 << v
	}
	return bits, rest, note, nil
}

// parseValue reads a number or a name.
func parseValue(text string, b bounds) (v int, rest string, err error) {
	word := leading(text, isWord)
	rest = text[len(word):]
	switch {
	case word == "":
		return 0, "", fmt.Errorf("%s is missing", article(b.name))
	case leading(word, isDigit) == word:
		v, err = strconv.Atoi(word)
		if err != nil || v < b.low || v > b.high {
			return 0, "", fmt.Errorf("%s is not between %d and %d", word, b.low, b.high)
		}
		return v, rest, nil
	}
	if i := strings.Index(b.names, strings.ToLower(word)); len(word) == 3 && i >= 0 && i%3 == 0 {
		return b.low + i/3, rest, nil
	}
	if b.names == "" {
		return 0, "", fmt.Errorf("%q is no number", word)
	}
	return 0, "", fmt.Errorf("%q is no number and no name of three letters", word)
}

func article(name string) string {
	if strings.HasPrefix(name, "h") {
		return "an " + name
	}
	return "a " + name
}

func leading(s string, accept func(byte) bool) string {
	n := 0
	for n < len(s) && accept(s[n]) {
		n++
	}
	return s[:n]
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isWord(c byte) bool  { return isDigit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
