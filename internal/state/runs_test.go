package state

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRunRoundTrip(t *testing.T) {
	now := time.Date(2026, 1, 1, 2, 0, 0, 5, time.FixedZone("CET", 3600))
	s := open(t, t.TempDir(), Options{Host: "db1", Version: "1.2.3", Now: func() time.Time { return now }})
	a, err := s.Begin("dr-test")
	must(t, err)
	began := runs(t, s, "dr-test")
	if len(began) != 1 || began[0].Outcome != Running || began[0].PID != os.Getpid() {
		t.Fatalf("a run in progress: %+v", began)
	}
	if _, found, err := s.Last("dr-test"); found || err != nil {
		t.Errorf("Last counts the running run: %v, %v", found, err)
	}

	now = now.Add(90 * time.Second)
	must(t, a.Finish("CRITICAL", 2, map[string]any{"rows": 5, "ratio": math.Inf(1), "name": "a\nb"}, errors.New("restore: line 1\nline 2")))
	got, found, err := open(t, s.Dir(), Options{}).Last("dr-test")
	if !found || err != nil {
		t.Fatalf("Last: %v, %v", found, err)
	}
	want := Run{
		ID: a.ID(), Job: "dr-test", Host: "db1", Process: processTable{proc: "/proc"}.self(), Version: "1.2.3",
		StartedAt: a.StartedAt(), EndedAt: a.StartedAt().Add(90 * time.Second), Outcome: Critical, ExitCode: 2,
		Error: "restore: line 1\nline 2", Figures: map[string]any{"rows": 5.0, "ratio": "+Inf", "name": "a\nb"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if got.Duration() != 90*time.Second {
		t.Errorf("duration %s", got.Duration())
	}
	if !strings.HasPrefix(got.ID, "20260101T010000Z-") {
		t.Errorf("ID %s does not begin with the start in UTC", got.ID)
	}
	if err := a.Finish("ok", 0, nil, nil); err == nil {
		t.Error("a run ended twice")
	}
}

func TestNewestFirstAndLastSuccess(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	if r, err := s.Runs("backup", 0); err != nil || len(r) != 0 {
		t.Fatalf("an empty directory: %v, %v", r, err)
	}
	if _, found, err := s.LastSuccess("backup"); found || err != nil {
		t.Fatalf("an empty directory has a success: %v, %v", found, err)
	}
	var ids []string
	for _, outcome := range []string{"ok", "warning", "critical", "interrupted"} {
		ids = append([]string{finish(t, s, "backup", outcome, nil).ID}, ids...)
	}
	finish(t, s, "dr-test", "ok", nil)
	var got []string
	for _, r := range runs(t, s, "backup") {
		got = append(got, r.ID)
	}
	if diff := cmp.Diff(ids, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if two, err := s.Runs("backup", 2); err != nil || len(two) != 2 || two[0].ID != ids[0] {
		t.Errorf("limit 2: %v, %v", two, err)
	}
	if r, _, _ := s.LastSuccess("backup"); r.Outcome != Warning {
		t.Errorf("last success is %s", r.Outcome)
	}
	if jobs, err := s.Jobs(); err != nil || !cmp.Equal(jobs, []string{"backup", "dr-test"}) {
		t.Errorf("jobs: %v, %v", jobs, err)
	}
}

func TestRunNeverRecordsItselfAsRunning(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	for _, outcome := range []string{"", "running"} {
		finish(t, s, "backup", outcome, nil)
		if r, found, _ := s.Last("backup"); !found || r.Outcome != Unknown {
			t.Errorf("outcome %q reads as %q", outcome, r.Outcome)
		}
	}
}

func TestLongErrorIsCut(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	a, err := s.Begin("backup")
	must(t, err)
	must(t, a.Finish("critical", 2, nil, errors.New(strings.Repeat("é", maxError))))
	r, _, err := s.Last("backup")
	must(t, err)
	if len(r.Error) > maxError+len(" [cut]") || !strings.HasSuffix(r.Error, "é [cut]") {
		t.Errorf("error of %d bytes ends in %q", len(r.Error), r.Error[len(r.Error)-12:])
	}
}

func TestNamesStayInsideTheDirectory(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	for _, name := range []string{"", ".", "..", "../x", "a/b", ".hidden", "A", "a b", "a\x00", strings.Repeat("a", 101)} {
		if _, err := s.Begin(name); err == nil {
			t.Errorf("Begin(%q)", name)
		}
		if _, err := s.Lock(name); err == nil {
			t.Errorf("Lock(%q)", name)
		}
		if err := s.Save(name, 1); err == nil {
			t.Errorf("Save(%q)", name)
		}
	}
}

func TestPermissions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "state")
	s := open(t, dir, Options{})
	finish(t, s, "backup", "ok", nil)
	must(t, s.Save("ack", 1))
	must(t, os.Chmod(filepath.Join(dir, "documents/ack.json"), 0o644))
	must(t, s.Save("ack", 2))
	l, err := s.Lock("backup")
	must(t, err)
	defer func() { must(t, l.Unlock()) }()
	files := 0
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		must(t, err)
		info, err := d.Info()
		must(t, err)
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if !d.IsDir() {
			files++
		}
		return nil
	}))
	if files < 4 { // journal, its lock, document, lock
		t.Errorf("only %d files seen", files)
	}
}
