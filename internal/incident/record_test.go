package incident

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// docs keeps documents in memory, as JSON.
type docs map[string][]byte

func (d docs) Load(name string, v any) (bool, error) {
	body, ok := d[name]
	if !ok {
		return false, nil
	}
	return true, json.Unmarshal(body, v)
}

func (d docs) Save(name string, v any) (err error) {
	d[name], err = json.Marshal(v)
	return err
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// alone is the one review there is.
func alone(t *testing.T, d docs, dir string, now time.Time) Standing {
	t.Helper()
	all, err := Standings(d, dir, now)
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	return all[0]
}

func TestStanding(t *testing.T) {
	const id = "INC-20260301T120000Z"
	due := noon.Add(135*time.Minute + 48*time.Hour)
	far := noon.Add(60 * 24 * time.Hour)
	edit := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(whole(t)) }
	for _, tt := range []struct {
		name    string
		text    string // "": there is no document
		closed  bool
		now     time.Time
		status  check.Status
		overdue int // actions
		due     time.Time
	}{
		{"open", whole(t), false, soon, check.Warning, 0, due},
		{"at its time", whole(t), false, due, check.Warning, 0, due},
		{"past it", whole(t), false, due.Add(time.Second), check.Critical, 0, due},
		{"closed", whole(t), true, soon, check.OK, 0, due},
		{"closed, an action past its day", whole(t), true, far, check.Warning, 1, due},
		{"closed, all done", edit("| open |", "| done |"), true, far, check.OK, 0, due},
		{"put off by hand", edit("2026-03-03 14:15:00", "2026-04-03 14:15:00"), false, due.Add(time.Second), check.Critical, 0, due},
		{"made less urgent by hand", edit("| P1 |", "| P4 |"), false, due.Add(time.Second), check.Critical, 0, due},
		{"no end yet", edit("2026-03-01 14:15:00 UTC |\n| R", "ongoing |\n| R"), false, due.Add(time.Second), check.Critical, 0, due},
		{"gone, open", "", false, soon, check.Unknown, 0, due},
		{"gone, overdue", "", false, far, check.Critical, 1, due},
		{"gone, closed, an action left", "", true, soon, check.Unknown, 0, due},
		{"of another review", edit(id, "INC-1"), false, soon, check.Unknown, 0, due},
		{"binary", "\x00\x01", false, soon, check.Unknown, 0, due},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			d := docs{}
			r := Record{ID: id, Priority: runbook.P1, Start: noon, Due: due, File: filepath.Join(dir, "x.md"), Opened: noon, Actions: []Action{{Text: "x", Due: noon.Add(24 * time.Hour)}, {Text: "y", Done: true}}}
			if tt.closed {
				r.Closed = soon
			}
			if tt.text != "" {
				put(t, r.File, tt.text)
			}
			if err := Keep(d, r); err != nil {
				t.Fatal(err)
			}
			s := alone(t, d, dir, tt.now)
			if _, overdue := s.OpenActions(tt.now); s.Status(tt.now) != tt.status || len(overdue) != tt.overdue || !s.Due.Equal(tt.due) {
				t.Errorf("%s, due %s, overdue %+v, problem %v", s.Status(tt.now), s.Due, overdue, s.Problem)
			}
			if told := strings.Contains(strings.Join(kinds(s.Verdict), " "), ReviewOverdue); told != (s.Problem == nil && s.Overdue(tt.now)) {
				t.Errorf("findings: %+v", s.Verdict.Findings)
			}
		})
	}
}

// TestEndSetsTheDue: the end that was not known at first counts.
func TestEndSetsTheDue(t *testing.T) {
	dir := t.TempDir()
	d := docs{}
	r := Record{ID: "INC-20260301T120000Z", Priority: runbook.P1, Start: noon, Due: noon.Add(49 * time.Hour), File: filepath.Join(dir, "x.md")}
	put(t, r.File, whole(t))
	if err := Keep(d, r); err != nil {
		t.Fatal(err)
	}
	if s := alone(t, d, dir, soon); !s.Due.Equal(noon.Add(135*time.Minute + 48*time.Hour)) {
		t.Errorf("due %s", s.Due)
	}
}

// TestUnrecorded: a document of which nothing is recorded, the state being
// lost, is open; one that was moved is found; other files are left alone.
func TestUnrecorded(t *testing.T) {
	const name = "INC-20260301T120000Z.md"
	dir := t.TempDir()
	put(t, filepath.Join(dir, name), whole(t))
	put(t, filepath.Join(dir, "notes.md"), "mine\x00")
	if s := alone(t, docs{}, dir, soon); s.Recorded || s.Status(soon) != check.Warning || s.Title != "Post-incident review: The API was down" {
		t.Errorf("%+v", s)
	}
	d := docs{}
	if err := Keep(d, Record{ID: "INC-20260301T120000Z", Priority: runbook.P1, Start: noon, File: "/none/x.md"}); err != nil {
		t.Fatal(err)
	}
	if s := alone(t, d, dir, soon); !s.Recorded || s.Problem != nil || s.File != filepath.Join(dir, name) {
		t.Errorf("%+v", s)
	}
	put(t, filepath.Join(dir, "INC-2.md"), "\x00")
	all, err := Standings(d, dir, soon)
	if err != nil || len(all) != 2 || all[1].Status(soon) != check.Unknown {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestDamagedRecords(t *testing.T) {
	if _, err := Standings(docs{RecordsDoc: []byte("{")}, t.TempDir(), soon); err == nil {
		t.Error("damaged records are none")
	}
}
