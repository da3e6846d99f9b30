package health

import (
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
)

// Handover is what a shift check hands to the next: what was broken, and what
// was acknowledged. It is written as JSON.
type Handover struct {
	At    time.Time `json:"at,omitzero"` // of the last check, whoever made it
	Items []Item    `json:"items"`       // what was not ok
	Acks  []Ack     `json:"acks"`

	// Begun and By are of the shift that goes on, Latest is its last check, and
	// Before the last check of the shift before it, with which is compared.
	// Machines, who check every minute, are in none of them.
	Begun  time.Time `json:"begun,omitzero"`
	By     string    `json:"by,omitempty"`
	Latest *Baseline `json:"latest,omitempty"`
	Before *Baseline `json:"before,omitempty"`
}

// Baseline is what a person's check found broken.
type Baseline struct {
	At    time.Time `json:"at"`
	By    string    `json:"by"`
	Items []Item    `json:"items"`
}

// Relieve begins the shift of a person at a time, unless it goes on: it ends
// after its length, or when another person checks. What the shift before found
// last is what this one compares with.
func (m *Handover) Relieve(by string, now time.Time, length time.Duration) {
	if m.By == by && now.Sub(m.Begun) < length {
		return
	}
	before := m.Latest
	if before == nil && !m.At.IsZero() { // so far only machines have looked
		before = &Baseline{At: m.At, Items: m.Items}
	}
	m.Begun, m.By, m.Before, m.Latest = now, by, before, nil
}

// Sign makes the last check one of the shift that goes on.
func (m *Handover) Sign() {
	m.Latest = &Baseline{At: m.At, By: m.By, Items: m.Items}
}

// baseline is what a check is compared with: the last of the shift before, or
// where no person has ever checked here the last of all. nil is the first check.
func (m *Handover) baseline() *Baseline {
	switch {
	case m.Before != nil:
		return m.Before
	case m.Begun.IsZero() && !m.At.IsZero():
		return &Baseline{At: m.At, Items: m.Items}
	}
	return nil
}

// change says what became of what is broken as badly as status, and has been so
// since firstSeen.
func (b *Baseline) change(key string, status check.Status, firstSeen time.Time) Change {
	if b == nil {
		return ""
	}
	before, found := itemOf(b.Items, key)
	switch {
	case !found || firstSeen.After(b.At): // it was well in between
		return New
	case status > before.Status:
		return Worse
	}
	return Still
}

// Item is a check or a part of one that was not ok.
type Item struct {
	Key       string       `json:"id"` // of the check, or check/part
	Status    check.Status `json:"status"`
	Summary   string       `json:"summary"`
	FirstSeen time.Time    `json:"first_seen"`
}

// Ack is an acknowledgement: somebody knows, and it does not count until then.
type Ack struct {
	ID    string    `json:"id"` // as it was given: a check, or check/part
	By    string    `json:"by"`
	Why   string    `json:"why"`
	At    time.Time `json:"at"`
	Until time.Time `json:"until"`
	// Covers is what was broken when it was given, and how badly. What breaks
	// later, or gets worse, is not covered.
	Covers []Item `json:"covers"`
}

// partKey is how a part is named among all.
func partKey(id, part string) string { return id + "/" + part }

// checkOf returns the check that a key belongs to.
func checkOf(key string) string {
	id, _, _ := strings.Cut(key, "/")
	return id
}

// entry puts a result in its place.
func (m *Handover) entry(key string, r check.Result, now time.Time) Entry {
	e := m.place(key, r, now)
	if len(r.Parts) == 0 {
		return e
	}
	e.Result.Parts = nil
	parts, counts := check.OK, check.OK
	for _, part := range r.Parts {
		p := m.place(partKey(key, part.ID), part, now)
		parts, counts = check.Worst(parts, p.Status), check.Worst(counts, p.Counts)
		if p.Ack != nil {
			e.Ack = p.Ack
		}
		e.Parts = append(e.Parts, p)
	}
	if e.Status > parts {
		counts = check.Worst(counts, e.Counts) // something beside the parts is wrong
	}
	e.Status, e.Counts = check.Worst(e.Status, parts), counts
	if e.Counts != check.OK {
		e.Ack = nil // it shows where it belongs, on the part
	}
	e.inherit()
	return e
}

// place is entry for one result without regard to its parts.
func (m *Handover) place(key string, r check.Result, now time.Time) Entry {
	e := Entry{Result: r, Counts: r.Status}
	if r.Status == check.OK {
		return e
	}
	e.FirstSeen = now
	if last, found := itemOf(m.Items, key); found {
		e.FirstSeen = last.FirstSeen
	}
	e.Change = m.baseline().change(key, r.Status, e.FirstSeen)
	complete(&e.Result, e.FirstSeen)
	for i := range m.Acks {
		if m.Acks[i].covers(key, r.Status) {
			ack := m.Acks[i]
			e.Ack, e.Counts = &ack, check.OK
		}
	}
	return e
}

func itemOf(items []Item, key string) (Item, bool) {
	i := slices.IndexFunc(items, func(it Item) bool { return it.Key == key })
	if i < 0 {
		return Item{}, false
	}
	return items[i], true
}

// covers says whether the acknowledgement holds for what is broken that badly.
func (a *Ack) covers(key string, status check.Status) bool {
	return slices.ContainsFunc(a.Covers, func(it Item) bool { return it.Key == key && status <= it.Status })
}

// expire drops the acknowledgements whose time is up.
func (m *Handover) expire(now time.Time) {
	m.Acks = slices.DeleteFunc(m.Acks, func(a Ack) bool { return !now.Before(a.Until) })
}

// replace makes the entries what is remembered of the checks that ran, and
// returns what is broken in the baseline and no longer. An acknowledgement of
// what has cleared ends with it: the next time is another problem.
func (m *Handover) replace(ran []string, entries []Entry, now time.Time) []Cleared {
	base := m.baseline()
	var kept []Item
	for _, e := range entries {
		kept = e.items(kept, e.ID)
	}
	gone := func(it Item) bool {
		_, still := itemOf(kept, it.Key)
		return !still && slices.Contains(ran, checkOf(it.Key))
	}
	for _, it := range m.Items {
		switch {
		case gone(it):
			m.forget(it.Key)
		case !slices.Contains(ran, checkOf(it.Key)):
			kept = append(kept, it)
		}
	}
	m.At, m.Items = now, kept
	var cleared []Cleared
	if base != nil {
		for _, it := range base.Items {
			if gone(it) {
				cleared = append(cleared, Cleared(it))
			}
		}
	}
	return cleared
}

// items appends what is broken of the entry.
func (e *Entry) items(to []Item, key string) []Item {
	if !e.Broken() {
		return to
	}
	to = append(to, Item{key, e.Status, e.Summary, e.FirstSeen})
	for i := range e.Parts {
		to = e.Parts[i].items(to, partKey(key, e.Parts[i].ID))
	}
	return to
}

// forget ends all acknowledgements of a key.
func (m *Handover) forget(key string) {
	for i := range m.Acks {
		m.Acks[i].Covers = slices.DeleteFunc(slices.Clone(m.Acks[i].Covers), func(it Item) bool { return it.Key == key })
	}
	m.Acks = slices.DeleteFunc(m.Acks, func(a Ack) bool { return len(a.Covers) == 0 })
}
