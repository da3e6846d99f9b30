package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stellarescrow/escrowctl/internal/backup"
)

// evil are texts that a terminal obeys: it would clear itself, take a title,
// turn the writing round, or show a line that nobody wrote.
func evil() []string {
	return []string{"\x1b[2J\x1b[H", "\x1b]0;pwned\x07", "\u009b31m", "\u202eterces", "\r\nOK  all is well", "\x7f\x08\x08"}
}

// harmless fails for what a terminal would obey.
func harmless(t *testing.T, what, text string) {
	t.Helper()
	for i, r := range text {
		if r != '\n' && r != '\t' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) || r == unicode.ReplacementChar {
			t.Errorf("%s prints %q: ...%q...", what, r, text[max(0, i-60):min(len(text), i+60)])
			return
		}
	}
	if strings.Contains(text, "\nOK  all is well") {
		t.Errorf("%s prints a line that somebody else made up:\n%s", what, text)
	}
}

// forge puts a copy of a backup under another time, with its manifest changed.
func forge(t *testing.T, dir, from, name string, change func(*backup.Manifest)) {
	t.Helper()
	body, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(from + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var m backup.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	m.Name, m.Globals = name, nil
	change(&m)
	if text, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	for file, body := range map[string][]byte{name: body, name + ".json": text} {
		if err := os.WriteFile(filepath.Join(dir, file), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHostileNames: whoever may write to the bucket, to the directory or to the
// database says nothing to a terminal in our words, and keeps no good backup
// from being seen.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.env = append(s.env, "ESCROWCTL_DR_TEST_ENGINE=local", "RETENTION_DAYS=30", "ESCROWCTL_BACKUP_BUCKET_RETENTION_DAYS=30")
	const table = "evil\x1b[2J\u202e"
	s.pg.Psql(t, "app", fmt.Sprintf(`CREATE TABLE trades (id int PRIMARY KEY); INSERT INTO trades VALUES (1); CREATE TABLE events (id int); INSERT INTO events VALUES (1);
		CREATE TABLE users (id int); CREATE TABLE "%s" (id int); INSERT INTO "%[1]s" VALUES (1)`, table))
	s.expect(t, 0, "backup")
	files, _ := filepath.Glob(filepath.Join(s.dir, "*.sql.gz"))
	if len(files) != 1 {
		t.Fatalf("backups: %q", files)
	}
	good := filepath.Base(files[0])
	bucket := filepath.Join(s.s3.Root, s.bucket)
	forged := "stellar_escrow_" + time.Now().UTC().AddDate(0, 0, -3).Format("20060102T150405Z") + ".sql.gz"
	broken := "stellar_escrow_" + time.Now().UTC().AddDate(0, 0, -4).Format("20060102T150405Z") + ".sql.gz"
	for _, dir := range []string{s.dir, bucket} {
		forge(t, dir, files[0], forged, func(m *backup.Manifest) {
			m.Database, m.Host, m.Version = "app"+evil()[0], evil()[1], evil()[2]+evil()[4]
		})
		forge(t, dir, files[0], broken, func(m *backup.Manifest) {
			m.Kind, m.Index.Encoding, m.Index.Members[0].Section = evil()[0]+evil()[4], evil()[1], "x\x1b[2J"
		})
		for _, e := range evil() {
			for _, name := range []string{e, "stellar_escrow_" + e + ".sql.gz", good + e, e + good, e + good + ".json"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, args := range [][]string{
		{"backup", "list"}, {"backup", "list", "--s3"}, {"backup", "list", "--local"}, {"backup", "list", "--json"},
		{"backup", "verify", "latest"}, {"backup", "verify", "latest", "--s3", "--json"},
		{"backup", "verify", forged}, {"backup", "verify", forged, "--s3"}, {"backup", "verify", broken}, {"backup", "verify", broken, "--s3", "--json"},
		{"backup", "verify", good + evil()[0]}, {"backup", "verify", filepath.Join(s.dir, good+evil()[0])}, {"backup", "verify", evil()[1]},
		{"backup", "prune", "--dry-run"}, {"backup", "prune", "--json"},
		{"backup", "restore", forged, "--to", "copy" + evil()[3]}, {"backup", "restore", forged, "--to", "copy"}, {"backup", "restore", broken, "--s3", "--to", "broken"},
		{"backup", "restore", "latest", "--to", "part", "--table", evil()[0]},
		{"dr-test", "latest"}, {"dr-test", forged}, {"dr-test", forged, "-o", "json"}, {"dr-test", broken}, {"dr-test", "history"},
		{"shift-check", "--only", "backup"}, {"shift-check", "--only", "backup", "--json"}, {"backup", "--dry-run"}, {"doctor", "--only", "bucket"},
		{"--state-dir" + evil()[0]}, {evil()[4]},
	} {
		code, out, errs := s.run(t, args...)
		harmless(t, fmt.Sprintf("%q", args), out+errs)
		if code < 0 || strings.Contains(errs, "panic") {
			t.Errorf("%q: exit %d: %s", args, code, errs)
		}
	}
	for _, where := range []string{"--s3", "--local"} {
		if out := s.expect(t, 0, "backup list "+where, good); strings.Count(out, "indexed") != 2 {
			t.Errorf("it lists\n%s", out)
		}
	}
	s.expect(t, 0, "backup verify latest --s3", "PASS")
	for _, dir := range []string{s.dir, bucket} {
		if _, err := os.Stat(filepath.Join(dir, good+evil()[0])); err != nil {
			t.Errorf("a file that is not ours was removed: %v", err)
		}
	}
}

// TestLinksAreNotFollowed: a link or a pipe in place of a backup, of its
// manifest or of our state is neither read nor written nor waited for.
func TestLinksAreNotFollowed(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.pg.Psql(t, "app", "CREATE TABLE trades (id int PRIMARY KEY); INSERT INTO trades VALUES (1); CREATE TABLE events (id int)")
	s.expect(t, 0, "backup")
	files, _ := filepath.Glob(filepath.Join(s.dir, "*.sql.gz"))
	elsewhere := t.TempDir()
	linked := "stellar_escrow_20260102T030405Z.sql.gz"
	for _, end := range []string{"", ".json"} {
		body, err := os.ReadFile(files[0] + end)
		if err == nil {
			err = os.WriteFile(filepath.Join(elsewhere, linked+end), bytes.ReplaceAll(body, []byte(filepath.Base(files[0])), []byte(linked)), 0o600)
		}
		if err == nil {
			err = os.Symlink(filepath.Join(elsewhere, linked+end), filepath.Join(s.dir, linked+end))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if out := s.expect(t, 0, "backup list --local"); strings.Contains(out, "2026-01-02 03:04:05") {
		t.Errorf("a link is listed:\n%s", out)
	}
	s.expect(t, 3, "backup verify "+linked+" --local", linked)
	s.expect(t, 0, "backup prune --local")
	if _, err := os.Stat(filepath.Join(elsewhere, linked)); err != nil {
		t.Errorf("what a link points to is gone: %v", err)
	}

	// The state: what is written again and again, in place of it a link to a file
	// that must stay as it is.
	state := ""
	for _, pair := range s.env {
		if v, ok := strings.CutPrefix(pair, "ESCROWCTL_STATE_DIR="); ok {
			state = v
		}
	}
	victim := filepath.Join(elsewhere, "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	swapped := 0
	err := filepath.WalkDir(state, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		swapped++
		if err := os.Remove(path); err != nil {
			return err
		}
		return os.Symlink(victim, path)
	})
	if err != nil || swapped < 2 {
		t.Fatalf("%d files of the state: %v", swapped, err)
	}
	for _, args := range [][]string{{"backup"}, {"backup", "verify", "latest", "--local"}, {"shift-check", "--only", "backup"}, {"backup", "prune", "--local"}, {"changes", "list"}} {
		code, out, errs := s.run(t, args...)
		if code == 0 && args[0] != "changes" {
			t.Errorf("%q: exit 0 with links for a state: %s%s", args, out, errs)
		}
		if strings.Contains(out+errs, "mine") && !strings.Contains(out+errs, victim) {
			t.Errorf("%q shows what a link points to: %s%s", args, out, errs)
		}
	}
	if body, err := os.ReadFile(victim); err != nil || string(body) != "mine" {
		t.Errorf("what the links point to became %q, %v", body, err)
	}
}
