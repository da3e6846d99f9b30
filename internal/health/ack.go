package health

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Acknowledge adds an acknowledgement of what id means among what was broken at
// the last check: a check with all its parts, one part (alerts/ServiceDown:api),
// or all parts of a name (alerts/ServiceDown). It covers what is broken now, as
// badly as it is now, and nothing else. An earlier one of the same id ends. The
// error says what there is to acknowledge.
func (m *Handover) Acknowledge(a Ack) (covered []Item, err error) {
	for _, it := range m.Items {
		if it.Key == a.ID || strings.HasPrefix(it.Key, a.ID+"/") || strings.Contains(a.ID, "/") && strings.HasPrefix(it.Key, a.ID+":") {
			covered = append(covered, it)
		}
	}
	if len(covered) == 0 {
		var keys []string
		for _, it := range m.Items {
			keys = append(keys, it.Key)
		}
		if len(keys) == 0 {
			return nil, fmt.Errorf("the last shift check found nothing that is not ok")
		}
		return nil, fmt.Errorf("the last shift check did not find %s broken: there are %s", a.ID, strings.Join(keys, ", "))
	}
	m.Withdraw(a.ID)
	a.Covers = covered
	m.Acks = append(m.Acks, a)
	return covered, nil
}

// Withdraw ends the acknowledgements that were given for id, and says whether
// there was one.
func (m *Handover) Withdraw(id string) bool {
	n := len(m.Acks)
	m.Acks = slices.DeleteFunc(m.Acks, func(a Ack) bool { return a.ID == id })
	return len(m.Acks) < n
}

// ParseUntil reads when an acknowledgement ends: a time of day in UTC (18:00,
// the next there is), a span from now (4h, 90m), or RFC 3339.
func ParseUntil(text string, now time.Time) (time.Time, error) {
	now = now.UTC()
	if t, err := time.Parse("15:04", text); err == nil {
		until := time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), 0, 0, time.UTC)
		if !until.After(now) {
			until = until.AddDate(0, 0, 1)
		}
		return until, nil
	}
	until, err := time.Parse(time.RFC3339, text)
	if err != nil {
		d, derr := time.ParseDuration(text)
		if derr != nil {
			return time.Time{}, fmt.Errorf("%q is no time: write 18:00 (UTC), 4h, or 2026-01-02T18:00:00Z", text)
		}
		until = now.Add(d)
	}
	if !until.After(now) {
		return time.Time{}, fmt.Errorf("%q is in the past", text)
	}
	return until.UTC(), nil
}
