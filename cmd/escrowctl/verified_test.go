package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// verified is by what, and how, the newest backup is said to be verified.
func (s *sandbox) verified(t *testing.T) string {
	t.Helper()
	out := s.expect(t, 0, "backup list --json")
	var doc struct {
		Backups []struct {
			Verified struct{ By, Verdict string } `json:"verified"`
		} `json:"backups"`
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil || len(doc.Backups) == 0 {
		t.Fatalf("%v: %s", err, out)
	}
	v := doc.Backups[len(doc.Backups)-1].Verified
	return strings.TrimSpace(v.By + " " + v.Verdict)
}

// TestVerifiedByRestore: before a load only the file's bytes are looked at, so that
// only one of every table that came to its end verifies a backup.
func TestVerifiedByRestore(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.pg.Psql(t, "app", "CREATE TABLE trades (id int PRIMARY KEY, v text); INSERT INTO trades SELECT g, md5(g::text) FROM generate_series(1, 5000) g; CREATE TABLE events (id int); INSERT INTO events VALUES (1)")
	s.expect(t, 0, "backup")
	for _, tt := range []struct {
		name, args string
		code       int
		want       string
	}{
		{"dry run", "--to all --dry-run", 0, ""},
		{"one table", "--to one --table events", 0, ""},
		{"both tables, by name", "--to two --table events --table trades", 0, ""},
		{"a load that fails", "--to " + s.pg.URLAs("narrow", "narrow", "closed"), 2, ""},
		{"all", "--to all", 0, "restore pass"},
	} {
		if tt.code != 0 {
			s.pg.CreateDB(t, "closed")
			s.pg.Psql(t, "closed", "CREATE ROLE narrow LOGIN PASSWORD 'narrow'; REVOKE ALL ON SCHEMA public FROM PUBLIC")
		}
		code, out, errs := s.run(t, append([]string{"backup", "restore", "latest"}, strings.Fields(tt.args)...)...)
		if code != tt.code {
			t.Errorf("%s: exit %d, want %d: %s%s", tt.name, code, tt.code, out, errs)
		}
		if tt.code != 0 && !strings.Contains(out+errs, "permission denied") {
			t.Errorf("%s fails for another reason: %s%s", tt.name, out, errs)
		}
		if got := s.verified(t); got != tt.want {
			t.Errorf("%s: verified is %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestRestoreDryRunJSON: whoever asks for JSON gets it, also of what would be done.
func TestRestoreDryRunJSON(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.pg.Psql(t, "app", "CREATE TABLE trades (id int PRIMARY KEY)")
	s.expect(t, 0, "backup")
	var doc struct {
		DryRun              bool `json:"dry_run"`
		Name, Where, Target string
		Tables              []string
	}
	out := s.expect(t, 0, "backup restore latest --to copy --table trades --dry-run --json")
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !doc.DryRun || !strings.HasSuffix(doc.Name, ".sql.gz") || doc.Where != s.dir || !strings.Contains(doc.Target, "copy") || len(doc.Tables) != 1 {
		t.Errorf("%+v", doc)
	}
}
