package health

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
)

func noon() time.Time { return time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC) }

// evaluate makes a report through the JSON in which the handover is kept.
func evaluate(t *testing.T, m *Handover, after time.Duration, results ...check.Result) Report {
	t.Helper()
	rep := Evaluate(results, nil, m, noon().Add(after))
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	*m = Handover{}
	if err := json.Unmarshal(text, m); err != nil {
		t.Fatal(err)
	}
	return rep
}

func alertPart(id string, status check.Status, alert string) check.Result {
	return check.Result{ID: id, Status: status, Alert: alert, Summary: id}
}

func TestDelta(t *testing.T) {
	m := new(Handover)
	disk := check.Result{ID: "disk", Status: check.Warning, Alert: "DiskUsage", Summary: "72 %"}
	rep := evaluate(t, m, 0, disk, check.Result{ID: "clock"})
	e := rep.Entries[0]
	if e.Change != "" || !e.FirstSeen.Equal(noon()) || e.Priority != "P2" || !e.Deadline.Equal(noon().Add(2*time.Hour)) || rep.Status != check.Warning {
		t.Errorf("the first check: %+v", e)
	}
	// The deadline counts from when it was first seen, not from now.
	rep = evaluate(t, m, time.Hour, disk, check.Result{ID: "clock", Status: check.Unknown})
	if e := rep.Entries[1]; e.ID != "disk" || e.Change != Still || !e.Deadline.Equal(noon().Add(2*time.Hour)) {
		t.Errorf("still: %+v", e)
	}
	if e := rep.Entries[0]; e.ID != "clock" || e.Change != New {
		t.Errorf("new: %+v", e)
	}
	disk.Status = check.Critical
	if e := evaluate(t, m, 2*time.Hour, disk).Entries[0]; e.Change != Worse {
		t.Errorf("worse: %+v", e)
	}
	// A check that is not made is neither cleared nor forgotten.
	rep = evaluate(t, m, 3*time.Hour, check.Result{ID: "disk"})
	if len(rep.Cleared) != 1 || rep.Cleared[0].Key != "disk" || rep.Cleared[0].Status != check.Critical || !rep.Cleared[0].FirstSeen.Equal(noon()) {
		t.Errorf("cleared: %+v", rep.Cleared)
	}
	rep = evaluate(t, m, 4*time.Hour, check.Result{ID: "clock"})
	if len(rep.Cleared) != 1 || rep.Cleared[0].Key != "clock" || !rep.LastAt.Equal(noon().Add(3*time.Hour)) {
		t.Errorf("cleared later: %+v", rep)
	}
	if rep := Evaluate(nil, nil, nil, noon()); rep.Status != check.Unknown {
		t.Errorf("nothing looked at is %s", rep.Status)
	}
}

// TestShifts: a person's check is compared with the last of the shift before,
// however often machines and the person itself look in between.
func TestShifts(t *testing.T) {
	m := new(Handover)
	const length = 8 * time.Hour
	machine := func(after time.Duration, results ...check.Result) Report { return evaluate(t, m, after, results...) }
	person := func(by string, after time.Duration, results ...check.Result) Report {
		t.Helper()
		m.Relieve(by, noon().Add(after), length)
		rep := evaluate(t, m, after, results...)
		m.Sign()
		return rep
	}
	changes := func(name string, rep Report, by string, cleared int, want ...Change) {
		t.Helper()
		var got []Change
		for _, e := range rep.Entries {
			got = append(got, e.Change)
		}
		if !slices.Equal(got, want) || rep.LastBy != by || len(rep.Cleared) != cleared {
			t.Errorf("%s: %q, compared with %q, %d cleared; want %q, %q, %d", name, got, rep.LastBy, len(rep.Cleared), want, by, cleared)
		}
	}
	bad := func(id string) check.Result { return check.Result{ID: id, Status: check.Warning, Summary: id} }
	well := func(id string) check.Result { return check.Result{ID: id} }

	machine(0, bad("disk"), well("redis"))
	changes("machines alone", machine(time.Minute, bad("disk"), well("redis")), "", 0, Still, "")
	changes("the first person", person("alice", hour, bad("disk"), bad("redis")), "", 0, Still, New)
	changes("a machine in the shift", machine(hour+time.Minute, bad("disk"), bad("redis")), "", 0, Still, New)
	changes("alice again", person("alice", 2*hour, bad("disk"), bad("redis")), "", 0, Still, New)
	machine(3*hour, bad("disk"), bad("redis"), bad("clock"))
	changes("bob relieves", person("bob", 4*hour, bad("disk"), well("redis"), bad("clock")), "alice", 1, Still, New, "")
	changes("a machine", machine(4*hour+time.Minute, bad("disk"), well("redis"), bad("clock")), "alice", 1, Still, New, "")
	changes("bob again", person("bob", 5*hour, bad("disk"), well("redis"), bad("clock")), "alice", 1, Still, New, "")
	machine(6*hour, well("disk"), well("redis"), bad("clock"))
	changes("well in between is new", machine(7*hour, bad("disk"), well("redis"), bad("clock")), "alice", 1, New, New, "")
	changes("bob's next shift", person("bob", 20*hour, bad("disk"), well("redis"), bad("clock")), "bob", 0, New, Still, "")
	if !m.Begun.Equal(noon().Add(20 * hour)) {
		t.Errorf("his shift began %s", m.Begun)
	}
}

func TestAcknowledge(t *testing.T) {
	m := new(Handover)
	api, redis := alertPart("ServiceDown:api", check.Critical, "ServiceDown"), alertPart("ServiceDown:redis", check.Critical, "ServiceDown")
	odd := alertPart("Odd", check.Warning, "")
	alerts := func(parts ...check.Result) check.Result { return check.Result{ID: "alerts", Parts: parts} }
	rep := evaluate(t, m, 0, alerts(api, odd))
	if e := rep.Entries[0]; e.Status != check.Critical || e.Priority != "P1" || !e.Deadline.Equal(noon().Add(15*time.Minute)) {
		t.Errorf("a whole is as its worst part: %+v", e)
	}
	if _, err := m.Acknowledge(Ack{ID: "disk"}); err == nil || !strings.Contains(err.Error(), "there are alerts, alerts/ServiceDown:api, alerts/Odd") {
		t.Errorf("of what is not broken: %v", err)
	}
	covered, err := m.Acknowledge(Ack{ID: "alerts/ServiceDown", By: "ops", Why: "known", At: noon(), Until: noon().Add(6 * time.Hour)})
	if err != nil || len(covered) != 1 {
		t.Fatal(covered, err)
	}
	rep = evaluate(t, m, time.Hour, alerts(api, odd))
	if e := rep.Entries[0]; rep.Status != check.Warning || e.Status != check.Critical || e.Counts != check.Warning || e.Ack != nil {
		t.Errorf("it goes on showing and counts no longer: %s %+v", rep.Status, e)
	}
	for _, p := range rep.Entries[0].Parts {
		if (p.Ack != nil) != (p.ID == "ServiceDown:api") {
			t.Errorf("%s: acknowledged by %v", p.ID, p.Ack)
		}
	}
	// Another service is another problem.
	if rep := evaluate(t, m, time.Hour, alerts(api, redis)); rep.Status != check.Critical {
		t.Errorf("what broke later is covered: %s", rep.Status)
	}
	// It covers what was, not what gets worse.
	evaluate(t, m, time.Hour, alerts(api, redis, odd))
	if _, err := m.Acknowledge(Ack{ID: "alerts", By: "ops", Until: noon().Add(6 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if rep := evaluate(t, m, 2*time.Hour, alerts(api, redis, odd)); rep.Status != check.OK || rep.Entries[0].Ack == nil {
		t.Errorf("the whole is acknowledged: %+v", rep)
	}
	worse := odd
	worse.Status = check.Critical
	if rep := evaluate(t, m, 2*time.Hour, alerts(api, redis, worse)); rep.Status != check.Critical {
		t.Errorf("worse than it was, and covered: %s", rep.Status)
	}
	// What clears and comes back is another problem.
	evaluate(t, m, 3*time.Hour, alerts(redis))
	if rep := evaluate(t, m, 4*time.Hour, alerts(api, redis)); rep.Status != check.Critical {
		t.Errorf("back after it had cleared, and covered: %s", rep.Status)
	}
	if rep := evaluate(t, m, 7*time.Hour, alerts(redis)); rep.Status != check.Critical || len(m.Acks) != 0 {
		t.Errorf("expired, and covers: %s %+v", rep.Status, m.Acks)
	}
	// What is wrong beside the parts is not acknowledged with a part.
	own := check.Result{ID: "x", Status: check.Critical, Parts: []check.Result{odd}}
	evaluate(t, m, 8*time.Hour, own)
	if _, err := m.Acknowledge(Ack{ID: "x/Odd", Until: noon().Add(24 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if rep := evaluate(t, m, 9*time.Hour, own); rep.Status != check.Critical {
		t.Errorf("its own fault is covered: %s", rep.Status)
	}
}

func TestParseUntil(t *testing.T) {
	for text, want := range map[string]string{
		"18:00": "2026-01-02T18:00:00Z", "11:59": "2026-01-03T11:59:00Z", "12:00": "2026-01-03T12:00:00Z", "4h": "2026-01-02T16:00:00Z",
		"2026-01-05T08:00:00+01:00": "2026-01-05T07:00:00Z", "tomorrow": "no time", "-1h": "in the past", "2025-01-01T00:00:00Z": "in the past", "25:00": "no time",
	} {
		got, err := ParseUntil(text, noon())
		if said := fmt.Sprint(got.Format(time.RFC3339), err); !strings.Contains(said, want) {
			t.Errorf("%s: %s, want %s", text, said, want)
		}
	}
}
