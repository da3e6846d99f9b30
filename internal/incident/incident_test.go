package incident

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// noon is when the incident of the tests began; it took two hours and a quarter.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// begun is a review with all there can be in one.
func begun() Review {
	at := func(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }
	return Review{
		ID: "INC-20260301T120000Z", Title: "The API is | down <b>", Priority: runbook.P1, Start: noon, End: at(135), Alert: "ServiceDown:api (5f3c9a1be2d04c77)",
		Written: at(180), By: "ada@ops",
		Sources: []Source{
			{Name: "Alertmanager", From: noon.Add(-Lead), Note: "it tells of what fires now", Events: []Event{
				{At: at(1), Text: "fires: ServiceDown:api: *down* \x1b[31m\nnow `x` [a](b)", Signal: true},
				{At: at(-30), Text: "fires: DiskUsage:/"},
			}},
			{Name: "shift checks", From: noon.Add(-Lead), Missing: errors.New("open shift-check.jsonl: permission denied")},
			{Name: "run records", From: noon.Add(-Lead), Events: []Event{{At: at(20).In(time.FixedZone("CET", 3600)), Text: "backup: critical, after 3m 0s: TODO"}}},
			{Name: "change journal", From: noon.Add(-ChangesLead), Events: []Event{{At: at(-600), Text: "change 7 (config, ok): LOG_LEVEL"}}},
		},
	}
}

func markdown(t *testing.T, r Review) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.Markdown(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// golden compares with testdata; UPDATE_GOLDEN=1 writes it anew.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Errorf("%s: %v: got\n%s\nwant\n%s", name, err, got, want)
	}
}

func TestMarkdown(t *testing.T) {
	text := markdown(t, begun())
	golden(t, "begun.md", text)
	for _, item := range runbook.ReviewItems() {
		if strings.Count(text, "\n## "+item.Title+"\n") != 1 {
			t.Errorf("the section %q is not there once", item.Title)
		}
	}
	if strings.ContainsAny(text, "\x1b\r") {
		t.Error("something of a service is not made harmless")
	}
}

// TestTimelineIsSorted: rows of all sources in their order, in UTC.
func TestTimelineIsSorted(t *testing.T) {
	var times []string
	for line := range strings.Lines(markdown(t, begun())) {
		if row := cells(line); len(row) == 3 && strings.HasPrefix(row[0], "2026-") {
			times = append(times, row[0]+" "+row[1])
		}
	}
	want := []string{
		"2026-03-01 02:00:00 change journal", "2026-03-01 11:30:00 Alertmanager", "2026-03-01 12:00:00 this review",
		"2026-03-01 12:01:00 Alertmanager", "2026-03-01 12:20:00 run records", "2026-03-01 14:15:00 this review",
	}
	if !slices.Equal(times, want) {
		t.Errorf("got  %q\nwant %q", times, want)
	}
}

// TestManyEvents: what is left out is told.
func TestManyEvents(t *testing.T) {
	r := begun()
	r.Sources[0].Events = nil
	for i := range 1000 {
		r.Sources[0].Events = append(r.Sources[0].Events, Event{At: noon.Add(time.Duration(i) * time.Second), Text: "x"})
	}
	text := markdown(t, r)
	if n := strings.Count(text, "| Alertmanager | x |"); n != maxEvents || !strings.Contains(text, "- Alertmanager: the first and the last 100 of 1000 from") {
		t.Errorf("%d events are shown", n)
	}
}

func TestOngoing(t *testing.T) {
	r := begun()
	r.End = time.Time{}
	if !r.Due().Equal(r.Written.Add(48 * time.Hour)) {
		t.Errorf("due %s", r.Due())
	}
	text := markdown(t, r)
	if !strings.Contains(text, "| Ended | ongoing |") || !strings.Contains(text, "TODO: 3 h 0 min so far, from 2026-03-01 12:00:00 UTC") || strings.Contains(text, "the incident ends") {
		t.Errorf("it says\n%s", text)
	}
	r.Priority = runbook.P3
	if text = markdown(t, r); !strings.Contains(text, "| Review due | none: ") {
		t.Errorf("a P3 is due:\n%s", text)
	}
}

func TestNewID(t *testing.T) {
	const id = "INC-20260301T120000Z"
	if got := NewID(noon, []string{id, id + "-2"}); got != id+"-3" {
		t.Errorf("got %s", got)
	}
}

func TestParsePast(t *testing.T) {
	now := noon.Add(30 * time.Second)
	for text, want := range map[string]time.Time{
		"12:00": noon, "13:00": noon.Add(-23 * time.Hour), "2h": now.Add(-2 * time.Hour), "2026-03-01 11:30": noon.Add(-30 * time.Minute),
		"2026-03-01T12:30:00+01:00": noon.Add(-30 * time.Minute), "2026-03-01 11:30:15 UTC": noon.Add(-29*time.Minute - 45*time.Second),
		"-2h": {}, "2026-03-02 00:00": {}, "yesterday": {}, "": {}, "25:00": {}, "2026-02-30 10:00": {}, "20h ago": {},
	} {
		got, err := ParsePast(text, now)
		if !got.Equal(want) || (err != nil) != want.IsZero() {
			t.Errorf("%q is %s, %v, want %s", text, got, err, want)
		}
	}
}
