package schedule

import (
	"math/rand/v2"
	"testing"
	"time"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func spec(t *testing.T, text string) Spec {
	t.Helper()
	s, err := ParseSpec(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The hour that is left out and the one that comes twice.
func TestSummerTime(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, zone, spec, from string
		want                   []string // UTC
	}{
		{"left out: made up for right after", "Europe/Berlin", "30 2 * * *", "2026-03-28T12:00:00Z",
			[]string{"2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"}},
		{"left out: a star goes by the clock", "Europe/Berlin", "30 * * * *", "2026-03-29T00:00:00Z",
			[]string{"2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"}},
		{"left out: a star in the minute too", "Europe/Berlin", "*/30 2 * * *", "2026-03-28T12:00:00Z",
			[]string{"2026-03-30T00:00:00Z", "2026-03-30T00:30:00Z"}},
		{"before and after it: as ever", "Europe/Berlin", "0 3 * * *", "2026-03-28T12:00:00Z",
			[]string{"2026-03-29T01:00:00Z", "2026-03-30T01:00:00Z"}},
		{"twice: not repeated", "Europe/Berlin", "30 2 * * *", "2026-10-24T12:00:00Z",
			[]string{"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
		{"twice: a star is", "Europe/Berlin", "30 * * * *", "2026-10-25T00:00:00Z",
			[]string{"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"}},
		{"midnight left out", "America/Santiago", "0 0 * * *", "2026-09-05T12:00:00Z",
			[]string{"2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"}},
		{"half an hour", "Australia/Lord_Howe", "15 2 * * *", "2026-10-03T00:00:00Z",
			[]string{"2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"}},
		{"a day left out is left out", "Pacific/Apia", "0 6 * * *", "2011-12-29T17:00:00Z",
			[]string{"2011-12-30T16:00:00Z", "2011-12-31T16:00:00Z"}},
	} {
		s, loc := spec(t, tt.spec), zone(t, tt.zone)
		at, _ := time.Parse(time.RFC3339, tt.from)
		for _, want := range tt.want {
			at = s.Next(at, loc)
			if got := at.UTC().Format(time.RFC3339); got != want {
				t.Errorf("%s: %s, want %s", tt.name, got, want)
			}
		}
	}
}

// cronLoop is the main loop of vixie cron 3.0, of which every host's minutes go
// through: virtual time is what it has caught up to.
func cronLoop(s Spec, loc *time.Location, from, to time.Time) []time.Time {
	local := func(t time.Time) time.Time {
		st := stretchAt(t, loc)
		return st.wall(t)
	}
	matches := func(wall time.Time) bool { return s.at.Next(wall.Add(-time.Second)).Equal(wall) }
	var due []time.Time
	virtual := local(from)
	for now := from.Add(time.Minute); !now.After(to); now = now.Add(time.Minute) {
		wall := local(now)
		run := func(w time.Time, wild, fixed bool) {
			if matches(w) && (s.wild && wild || !s.wild && fixed) && (len(due) == 0 || !due[len(due)-1].Equal(now)) {
				due = append(due, now)
			}
		}
		switch diff := wall.Sub(virtual) / time.Minute; {
		case diff > 0 && diff <= 5:
			for virtual.Before(wall) {
				virtual = virtual.Add(time.Minute)
				run(virtual, true, true)
			}
		case diff > 5 && diff <= 180:
			run(wall, true, false)
			for virtual.Before(wall) {
				virtual = virtual.Add(time.Minute)
				run(virtual, false, true)
			}
		case diff <= 0 && diff > -180:
			run(wall, true, false)
		default:
			virtual = wall
			run(wall, true, true)
		}
	}
	return due
}

func TestAgainstCronsLoop(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	for _, c := range []struct{ zone, from string }{
		{"Europe/Berlin", "2026-03-28T20:00:00Z"}, {"Europe/Berlin", "2026-10-24T20:00:00Z"},
		{"America/New_York", "2026-03-08T00:00:00Z"}, {"America/New_York", "2026-11-01T00:00:00Z"},
		{"Australia/Lord_Howe", "2026-10-03T10:00:00Z"}, {"Australia/Lord_Howe", "2026-04-04T10:00:00Z"},
		{"Pacific/Apia", "2011-12-30T00:00:00Z"}, {"Asia/Kolkata", "2026-11-24T00:00:00Z"},
	} {
		loc := zone(t, c.zone)
		from, _ := time.Parse(time.RFC3339, c.from)
		to := from.Add(30 * time.Hour)
		for range 30 {
			text := sensibleSpec(r)
			s := spec(t, text)
			want := cronLoop(s, loc, from, to)
			got := s.Between(from, to, loc, 1<<20)
			same := len(got) == len(want)
			for i := 0; same && i < len(got); i++ {
				same = got[i].Equal(want[i])
			}
			if !same {
				t.Errorf("%s from %s, %q:\n got %v\nwant %v", c.zone, c.from, text, got, want)
			}
		}
	}
}

func TestLast(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 16, 0, 0, 0, time.UTC)
	const back = 400 * 24 * time.Hour
	for text, want := range map[string]string{
		"0 2 * * *":    "2026-11-24T02:00:00Z",
		"0 16 * * *":   "2026-11-24T16:00:00Z",
		"0 4 1 * *":    "2026-11-01T04:00:00Z",
		"0 0 1 1 *":    "2026-01-01T00:00:00Z",
		"0 3 * * 0":    "2026-11-22T03:00:00Z",
		"* * * * *":    "2026-11-24T16:00:00Z",
		"0 0 31 2 *":   "",
		"@reboot":      "",
		"0 0 29 2 *":   "",
		"5-1 0 * * *":  "",
		"0 0 13 * fri": "2026-11-20T00:00:00Z", // either is enough
		"0 0 */2 * 1":  "2026-11-23T00:00:00Z", // both, as the first begins with a star
	} {
		got := ""
		if last := spec(t, text).Last(now, time.UTC, back); !last.IsZero() {
			got = last.Format(time.RFC3339)
		}
		if got != want {
			t.Errorf("%q was last due %q, want %q", text, got, want)
		}
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	day := func(d, h, m int) time.Time { return time.Date(2026, 11, d, h, m, 0, 0, time.UTC) }
	done := func(start time.Time, took time.Duration) Run {
		return Run{Start: start, End: start.Add(took)}
	}
	due := []time.Time{day(1, 2, 0), day(2, 2, 0), day(3, 2, 0)}
	next := day(4, 2, 0)
	for _, tt := range []struct {
		name string
		runs []Run
		now  time.Time
		want [3]State
	}{
		{"all ran", []Run{done(day(1, 2, 0), time.Hour), done(day(2, 2, 0), time.Hour), done(day(3, 2, 0).Add(-time.Second), time.Hour)}, day(3, 9, 0), [3]State{Ran, Ran, Ran}},
		{"in any order", []Run{done(day(3, 2, 0), time.Hour), done(day(1, 2, 0), time.Hour), done(day(2, 2, 0), time.Hour)}, day(3, 9, 0), [3]State{Ran, Ran, Ran}},
		{"none", nil, day(3, 9, 0), [3]State{Missed, Missed, Missed}},
		{"due just now", nil, day(3, 2, 1), [3]State{Missed, Missed, Pending}},
		{"one missed", []Run{done(day(1, 2, 0), time.Hour), done(day(3, 2, 1), time.Hour)}, day(3, 9, 0), [3]State{Ran, Missed, Ran}},
		{"late", []Run{done(day(1, 2, 11), time.Hour), done(day(2, 23, 0), time.Hour)}, day(3, 9, 0), [3]State{Late, Late, Missed}},
		{"running", []Run{{Start: day(3, 2, 0), Running: true}}, day(3, 9, 0), [3]State{Missed, Missed, Running}},
		{"the one before was not done", []Run{done(day(1, 2, 0), 25*time.Hour)}, day(3, 9, 0), [3]State{Ran, Skipped, Missed}},
		{"by hand before it was due", []Run{done(day(1, 1, 0), time.Minute)}, day(3, 9, 0), [3]State{Missed, Missed, Missed}},
	} {
		got := Match(due, next, tt.runs, tt.now)
		for i, d := range got {
			if d.State != tt.want[i] || !d.At.Equal(due[i]) {
				t.Errorf("%s: %s is %s, want %s", tt.name, d.At, d.State, tt.want[i])
			}
		}
	}
	if over := Overlaps([]Run{done(day(1, 2, 0), time.Hour), done(day(1, 2, 30), time.Minute), done(day(1, 3, 0), time.Minute)}); len(over) != 1 {
		t.Errorf("overlaps: %v, want one", over)
	}
}
