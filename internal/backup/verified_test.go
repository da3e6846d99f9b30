package backup

import (
	"slices"
	"testing"
	"time"
)

// TestDamageInOnePlace: a copy that failed its check counts nowhere, and condemns
// no copy in another place.
func TestDamageInOnePlace(t *testing.T) {
	o, c := fakeOptions(t)
	o.Remote, o.Retention = bucket(t), Retention{}
	older := mustRun(t, o)
	c.now = c.now.Add(24 * time.Hour)
	newest := mustRun(t, o)
	here, there := o.Local.Location(), o.Remote.Location()
	for _, tt := range []struct {
		name     string
		failed   []string
		good     bool
		best     string
		keepHere int // copies that a retention of a day has to keep
		keepIn   int
	}{
		{"nowhere", nil, true, here, 1, 1},
		{"in the bucket", []string{there}, true, here, 1, 2},
		{"here", []string{here}, true, there, 2, 1},
		{"in both", []string{here, there}, false, here, 2, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := Verifications{}
			for _, where := range tt.failed {
				v.Record(newest.Name, Verification{At: c.now, Where: where, Verdict: Fail})
			}
			entries, err := List(t.Context(), o.Local, o.Remote, naming, v)
			if err != nil || len(entries) != 2 {
				t.Fatalf("%+v %v", entries, err)
			}
			e := entries[1]
			best := map[*Copy]string{e.Local: here, e.Remote: there}[e.Best()]
			if e.Good() != tt.good || best != tt.best || !entries[0].Good() {
				t.Errorf("good %v, best in %s", e.Good(), best)
			}
			if e.Local.Failed() != slices.Contains(tt.failed, here) || e.Remote.Failed() != slices.Contains(tt.failed, there) {
				t.Errorf("failed here %v, in the bucket %v", e.Local.Failed(), e.Remote.Failed())
			}
			later := c.now.Add(90 * 24 * time.Hour)
			local, err := PlanPrune(t.Context(), o.Local, naming, Retention{Days: 1}, v, later)
			if err != nil || len(local.Keep) != tt.keepHere {
				t.Errorf("here %v stay of %s and %s: %v", local.Keep, older.Name, newest.Name, err)
			}
			remote, err := PlanPrune(t.Context(), o.Remote, naming, Retention{Days: 1}, v, later)
			if err != nil || len(remote.Keep) != tt.keepIn {
				t.Errorf("in the bucket %v stay: %v", remote.Keep, err)
			}
		})
	}
}

// TestForget: what is forgotten first is the oldest.
func TestForget(t *testing.T) {
	v := Verifications{}
	now := time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	for i, name := range []string{"b", "a", "c"} {
		v.Record(name, Verification{Where: "/b", At: now.Add(time.Duration(i) * time.Hour)})
	}
	v.Forget(2)
	if _, there := v["/b/b"]; there || len(v) != 2 {
		t.Errorf("%v", v)
	}
}
