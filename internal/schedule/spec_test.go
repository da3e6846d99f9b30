package schedule

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/robfig/cron/v3"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// What Debian's cron takes, and how it reads it. TestAsDebiansCron asks the
// real one.
var specs = []struct {
	text string
	ok   bool
	note string // a part of the note
}{
	{"0 2 * * *", true, ""},
	{"0 0,12 * * *", true, ""},
	{"0\t4  1 * *", true, ""},
	{"0 0 * JAN-mar Fri-7", true, ""},
	{"007 * * * *", true, ""},
	{"*/15 8-18/2 * * 1-5", true, ""},
	{"0-59/100 * * * *", true, ""},
	{"*,5 * * * *", true, ""},
	{"0 0 * * 0-7", true, ""},
	{"22-2 * * * *", true, "cron does not go round"},
	{"0 0 * * 7-2", true, "cron does not go round"},
	{"0 0 1 * 7-2", true, "cron does not go round"},
	{"5? * * * *", true, `cron ignores "?"`},
	{"0~5 * * * *", true, `cron ignores "~5"`},
	{"1-5-7 * * * *", true, `cron ignores "-7"`},
	{"*/5/2 * * * *", true, `cron ignores "/2"`},
	{"*x * * * *", true, `cron ignores "x"`},
	{"0 0 31 2 *", true, ""},
	{"@daily", true, ""},
	{"@reboot", true, ""},
	{"5/15 * * * *", false, "write 5-59/15"},
	{"*/0 * * * *", false, "the step is no number above 0"},
	{"*/+5 * * * *", false, "the step"},
	{"1-5/ * * * *", false, "the step"},
	{"*/2x * * * *", false, "the step"},
	{"5, * * * *", false, "a minute is missing"},
	{",5 * * * *", false, "a minute is missing"},
	{"5,,6 * * * *", false, "a minute is missing"},
	{"? * * * *", false, "a minute is missing"},
	{"-0 * * * *", false, "a minute is missing"},
	{"0 0 0 * *", false, "0 is not between 1 and 31"},
	{"60 0 1 * *", false, "60 is not between 0 and 59"},
	{"0 0 * * 8", false, "8 is not between 0 and 7"},
	{"0 0 * * sunday", false, "no name of three letters"},
	{"0 0 jan * *", false, `"jan" is no number`},
	{"5x * * * *", false, `"5x" is no number`},
	{"99999999999999999999 * * * *", false, "not between"},
	{"0 0 * *", false, "4 fields"},
	{"@Daily", false, "no time that cron knows"},
	{"@every 1h", false, "2 fields"},
}

func TestParseSpec(t *testing.T) {
	t.Parallel()
	for _, tt := range specs {
		s, err := ParseSpec(tt.text)
		if (err == nil) != tt.ok {
			t.Errorf("%q: %v, want ok %v", tt.text, err, tt.ok)
			continue
		}
		if never := tt.text == "0 0 31 2 *" || tt.text == "22-2 * * * *" || tt.text == "0 0 * * 7-2"; tt.ok && !s.Reboot() && s.Never() != never {
			t.Errorf("%q: never comes: %v", tt.text, s.Never())
		}
		said := strings.Join(s.Notes(), "; ")
		if err != nil {
			said = err.Error()
		}
		if !strings.Contains(said, tt.note) || (tt.ok && tt.note == "" && said != "") {
			t.Errorf("%q: says %q, want %q", tt.text, said, tt.note)
		}
	}
}

// accepts asks Debian's crontab, which with -n checks and changes nothing.
func accepts(t *testing.T, dir, text string) bool {
	t.Helper()
	file := filepath.Join(dir, "crontab")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := exec.Command("crontab", "-n", file).Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return err == nil
}

func TestAsDebiansCron(t *testing.T) {
	t.Parallel()
	_, err := exec.LookPath("crontab")
	testenv.Need(t, err == nil, "crontab", "install the package cron")
	dir := t.TempDir()
	if !accepts(t, dir, "0 2 * * * true") || accepts(t, dir, "61 2 * * * true") {
		t.Skip("SKIPPED: this crontab has no -n that checks")
	}
	for _, tt := range specs {
		// A word with a space after it is a field to cron, and no time has four.
		if strings.Contains(tt.text, "fields") || strings.HasSuffix(tt.note, "fields") {
			continue
		}
		if got := accepts(t, dir, tt.text+" true"); got != tt.ok {
			t.Errorf("%q: cron accepts it: %v, the table says %v", tt.text, got, tt.ok)
		}
	}
	// And what nobody thought of.
	r := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		spec := randomSpec(r, "0123456789", "*/-,", "5679?x~")
		_, err := ParseSpec(spec)
		if got := accepts(t, dir, spec+" true"); got != (err == nil) {
			t.Errorf("%q: cron accepts it: %v, we say %v", spec, got, err)
		}
	}
}

// randomSpec makes five fields, of which one or two are odd.
func randomSpec(r *rand.Rand, sets ...string) string {
	fields := []string{"0", "*", "*", "*", "*"}
	for range 1 + r.IntN(2) {
		var b strings.Builder
		for range 1 + r.IntN(5) {
			set := sets[r.IntN(len(sets))]
			b.WriteByte(set[r.IntN(len(set))])
		}
		fields[r.IntN(5)] = b.String()
	}
	return strings.Join(fields, " ")
}

// The calendar against a plain reading of the fields, minute by minute, and
// against robfig/cron's own parser where the two mean the same.
func TestNextAgainstTheCalendar(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	start := time.Date(2027, 2, 25, 22, 17, 3, 0, time.UTC)
	for range 60 {
		text := sensibleSpec(r)
		s, err := ParseSpec(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		got := s.Next(start, time.UTC)
		want := time.Time{}
		for at := start.Truncate(time.Minute).Add(time.Minute); at.Before(start.AddDate(0, 0, 20)); at = at.Add(time.Minute) {
			if plainly(text, at) {
				want = at
				break
			}
		}
		if !want.IsZero() && !got.Equal(want) || want.IsZero() && !got.IsZero() && got.Before(start.AddDate(0, 0, 20)) {
			t.Errorf("%q: next is %s, want %s", text, got, want)
		}
		if fields := strings.Fields(text); strings.HasPrefix(fields[2], "*/") || strings.HasPrefix(fields[4], "*/") || strings.Contains(fields[4], "7") {
			continue // where the two differ
		}
		other, err := cron.ParseStandard(text)
		if err != nil {
			t.Errorf("%q: robfig/cron: %v", text, err)
			continue
		}
		if theirs := other.Next(start); !theirs.Equal(got) {
			t.Errorf("%q: next is %s, robfig/cron has %s", text, got, theirs)
		}
	}
}

func sensibleSpec(r *rand.Rand) string {
	field := func(low, high int) string {
		switch r.IntN(6) {
		case 0:
			return fmt.Sprint(low + r.IntN(high-low+1))
		case 1:
			a := low + r.IntN(high-low+1)
			return fmt.Sprintf("%d-%d", a, a+r.IntN(high-a+1))
		case 2:
			return fmt.Sprintf("*/%d", 1+r.IntN(high))
		case 3:
			return fmt.Sprintf("%d,%d", low+r.IntN(high-low+1), low+r.IntN(high-low+1))
		default:
			return "*"
		}
	}
	return strings.Join([]string{field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7)}, " ")
}

// plainly says whether the fields of a sensible spec match, in the words of
// crontab(5).
func plainly(text string, at time.Time) bool {
	f := strings.Fields(text)
	in := func(i, v, low, high int) bool {
		for item := range strings.SplitSeq(f[i], ",") {
			step, a, b := 1, low, high
			rng, s, stepped := strings.Cut(item, "/")
			if stepped {
				step, _ = strconv.Atoi(s)
			}
			if rng != "*" {
				lo, hi, ranged := strings.Cut(rng, "-")
				a, _ = strconv.Atoi(lo)
				b = a
				if ranged {
					b, _ = strconv.Atoi(hi)
				}
			}
			if v >= a && v <= b && (v-a)%step == 0 {
				return true
			}
		}
		return false
	}
	dom := in(2, at.Day(), 1, 31)
	dow := in(4, int(at.Weekday()), 0, 7) || at.Weekday() == time.Sunday && in(4, 7, 0, 7)
	day := dom || dow
	if f[2][0] == '*' || f[4][0] == '*' {
		day = dom && dow
	}
	return in(0, at.Minute(), 0, 59) && in(1, at.Hour(), 0, 23) && in(3, int(at.Month()), 1, 12) && day
}

func FuzzParseSpec(f *testing.F) {
	for _, tt := range specs {
		f.Add(tt.text)
	}
	at := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSpec(text)
		if err != nil {
			return
		}
		next := s.Next(at, time.UTC)
		if !next.IsZero() && (!next.After(at) || next.Second() != 0) {
			t.Errorf("%q: next after %s is %s", text, at, next)
		}
		if again, err := ParseSpec(s.String()); err != nil || !again.Next(at, time.UTC).Equal(next) {
			t.Errorf("%q does not read as it was written: %v", s, err)
		}
		other, err := cron.ParseStandard(text)
		fields := strings.Fields(text)
		if err != nil || s.Reboot() || len(fields) != 5 || len(s.Notes()) > 0 || differ(fields[2]) || differ(fields[4]) || strings.Contains(text, "?") {
			return
		}
		if theirs := other.Next(at); !theirs.Equal(next) && !theirs.IsZero() {
			t.Errorf("%q: next is %s, robfig/cron has %s", text, next, theirs)
		}
	})
}

// differ says whether a day field means something else to robfig/cron: a star
// that is not the whole, or not at the beginning.
func differ(field string) bool {
	return strings.Contains(field, "*") && field != "*"
}

func TestShift(t *testing.T) {
	t.Parallel()
	const h = time.Hour
	for _, tt := range []struct {
		spec   string
		offset time.Duration
		want   string
	}{
		{"0 2 * * *", 0, "0 2 * * *"},
		{"0 2 * * *", h, "0 3 * * *"},
		{"0 2 * * *", 5*h + 30*time.Minute, "30 7 * * *"},
		{"0 2 * * *", -8 * h, "0 18 * * *"},
		{"0 0,12 * * *", 9 * h, "0 9,21 * * *"},
		{"0 0,12 * * *", -h, "0 11,23 * * *"},
		{"0 3 * * 0", -8 * h, "0 19 * * 6"},
		{"0 3 * * 0", 13 * h, "0 16 * * 0"},
		{"0 23 * * 5,6", 2 * h, "0 1 * * 0,6"},
		{"0 4 1 * *", 9 * h, "0 13 1 * *"},
		{"0 4 1 * *", -8 * h, "another day of the month"},
		{"0 0,12 * * 0", -h, "two days of the week"},
		{"*/5 * * * *", h, "no fixed time of day"},
		{"0,30 0,12 * * *", 30 * time.Minute, "hours and minutes"},
		{"@reboot", h, "no fixed time of day"},
		{"@daily", h, "0 1 * * *"},
	} {
		s, err := ParseSpec(tt.spec)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Shift(s, tt.offset)
		if err != nil {
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s by %s: %v, want %s", tt.spec, tt.offset, err, tt.want)
			}
			continue
		}
		if got.String() != tt.want {
			t.Errorf("%s by %s: %s, want %s", tt.spec, tt.offset, got, tt.want)
		}
		// The moved row is due when the row is.
		zone := time.FixedZone("there", int(tt.offset/time.Second))
		at := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
		for range 20 {
			want := s.Next(at, time.UTC)
			if next := got.Next(at, zone); !next.Equal(want) {
				t.Fatalf("%s by %s: %s is due at %s, want %s", tt.spec, tt.offset, got, next, want)
			}
			at = want
		}
	}
}
