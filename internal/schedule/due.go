package schedule

import (
	"fmt"
	"time"
)

// clockJump is the change of the wall clock from which on cron takes the day as
// it comes. A smaller one is summer time: rows with a fixed time that fell into
// the hour left out run right after it, and are not repeated in the hour that
// comes twice. Rows with a star in the minute or hour go by the clock alone.
const clockJump = 3 * time.Hour

// Next returns the first time after t that the row is due on a host in zone;
// the zero time if there is none within five years.
func (s Spec) Next(t time.Time, zone *time.Location) time.Time {
	if s.reboot || s.empty() {
		return time.Time{}
	}
	horizon := t.AddDate(5, 0, 1)
	for stretch := stretchAt(t, zone); ; stretch = stretchAt(stretch.end, zone) {
		if due := s.within(stretch, t); !due.IsZero() {
			return due.In(zone)
		}
		if stretch.end.IsZero() || stretch.end.After(horizon) {
			return time.Time{}
		}
	}
}

// empty says that the time of day or the month allows no value. The days are
// for the calendar to say: of two, one is enough.
func (s Spec) empty() bool {
	return s.fields[minuteField] == 0 || s.fields[hourField] == 0 || s.fields[monthField] == 0
}

// Between returns when the row is due after from and until to, at most limit
// times: the earliest.
func (s Spec) Between(from, to time.Time, zone *time.Location, limit int) []time.Time {
	var due []time.Time
	for len(due) < limit {
		next := s.Next(from, zone)
		if next.IsZero() || next.After(to) {
			break
		}
		due = append(due, next)
		from = next
	}
	return due
}

// Last returns the latest time at or before t that the row was due, looking
// back at most that far; the zero time if there is none.
func (s Spec) Last(t time.Time, zone *time.Location, back time.Duration) time.Time {
	// By growing spans: most rows are due within the day.
	for span := time.Hour; ; span *= 4 {
		span = min(span, back)
		var last time.Time
		for due := s.Next(t.Add(-span), zone); !due.IsZero() && !due.After(t); due = s.Next(due, zone) {
			last = due
		}
		if !last.IsZero() || span == back {
			return last
		}
	}
}

// stretch is a time in which the wall clock runs steadily.
type stretch struct {
	start, end time.Time // zero without a bound
	offset     time.Duration
	jump       time.Duration // of the wall clock at the start
}

func stretchAt(t time.Time, zone *time.Location) stretch {
	t = t.In(zone)
	var s stretch
	s.start, s.end = t.ZoneBounds()
	s.offset = offsetOf(t)
	if !s.start.IsZero() {
		s.jump = s.offset - offsetOf(s.start.Add(-1))
	}
	return s
}

func offsetOf(t time.Time) time.Duration {
	_, seconds := t.Zone()
	return time.Duration(seconds) * time.Second
}

// wall is what the clock on the wall shows, as a time in UTC.
func (st stretch) wall(t time.Time) time.Time { return t.UTC().Add(st.offset) }

// within returns the first time after t in the stretch, or the zero time.
func (s Spec) within(st stretch, t time.Time) time.Time {
	from := st.wall(t)
	if !st.start.IsZero() {
		begin := st.wall(st.start)
		if t.Before(st.start) && s.makesUp(st, begin) {
			return st.start
		}
		if !s.wild && st.jump < 0 && st.jump > -clockJump {
			begin = begin.Add(-st.jump) // until then the hour comes again
		}
		if first := begin.Add(-time.Second); from.Before(first) {
			from = first
		}
	}
	next := s.at.Next(from)
	if next.IsZero() {
		return time.Time{}
	}
	due := next.Add(-st.offset)
	if !st.end.IsZero() && !due.Before(st.end) {
		return time.Time{}
	}
	return due
}

// makesUp says whether the row was due in the hour that the clock left out
// before it came to begin.
func (s Spec) makesUp(st stretch, begin time.Time) bool {
	if s.wild || st.jump <= 0 || st.jump >= clockJump {
		return false
	}
	missed := s.at.Next(begin.Add(-st.jump - time.Second))
	return !missed.IsZero() && missed.Before(begin)
}

// Shift writes a time of UTC for a wall clock that is ahead of it by offset. An
// error says why there is no such time.
func Shift(utc Spec, offset time.Duration) (Spec, error) {
	if offset == 0 {
		return utc, nil
	}
	no := func(why string) (Spec, error) {
		return Spec{}, fmt.Errorf("%s cannot be moved by %s: %s", utc, offset, why)
	}
	if utc.reboot || utc.wild || offset%time.Minute != 0 {
		return no("it is no fixed time of day")
	}
	const everyDay, everyMonth, everyWeekday = 1<<32 - 1<<1, 1<<13 - 1<<1, 1<<7 - 1
	fields := utc.fields
	domAny, dowAny := fields[domField] == everyDay, fields[dowField] == everyWeekday
	if domAny != (utc.at.Dom&starBit != 0) || dowAny != (utc.at.Dow&starBit != 0) {
		return no("its days cannot be written otherwise")
	}
	fields[minuteField], fields[hourField] = 0, 0
	days := map[int]bool{}
	pairs := 0
	for h := range 24 {
		for m := range 60 {
			if utc.fields[hourField]&(1<<h) == 0 || utc.fields[minuteField]&(1<<m) == 0 {
				continue
			}
			moved := h*60 + m + int(offset/time.Minute) + 2*24*60
			days[moved/(24*60)-2] = true
			fields[hourField] |= 1 << (moved / 60 % 24)
			fields[minuteField] |= 1 << (moved % 60)
			pairs++
		}
	}
	if count(fields[hourField])*count(fields[minuteField]) != pairs {
		return no("hours and minutes would go together otherwise")
	}
	moves := len(days) > 1 || !days[0]
	switch {
	case !moves:
	case !domAny || fields[monthField] != everyMonth:
		return no("it would fall on another day of the month")
	case !dowAny && len(days) > 1:
		return no("it would fall on two days of the week")
	case !dowAny:
		fields[dowField] = turn(utc.fields[dowField], days)
	}
	text := list(fields[minuteField]) + " " + list(fields[hourField]) + " " +
		listOr(fields[domField], domAny) + " " + listOr(fields[monthField], fields[monthField] == everyMonth) + " " + listOr(fields[dowField], dowAny)
	return ParseSpec(text)
}

// turn moves days of the week by the one number in days.
func turn(dow uint64, days map[int]bool) uint64 {
	var out uint64
	for by := range days {
		for d := range 7 {
			if dow&(1<<d) != 0 {
				out |= 1 << ((d + by + 7) % 7)
			}
		}
	}
	return out
}

func count(bits uint64) int {
	n := 0
	for ; bits != 0; bits &= bits - 1 {
		n++
	}
	return n
}

func listOr(bits uint64, any bool) string {
	if any {
		return "*"
	}
	return list(bits)
}

func list(bits uint64) string {
	text := ""
	for v := range 64 {
		if bits&(1<<v) != 0 {
			text += fmt.Sprintf(",%d", v)
		}
	}
	return text[1:]
}
