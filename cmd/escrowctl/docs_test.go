package main

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var runnable = regexp.MustCompile("(?ms)^<!-- run -->\n```[a-z]*\n(.*?)^```$")

// TestDocumentedBlocks runs the code blocks of README and docs that are marked
// with <!-- run -->, each as one shell script against real servers, in a
// database with three tables. A command may end with a warning.
func TestDocumentedBlocks(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.pg.Psql(t, "app", "CREATE TABLE trades (id int PRIMARY KEY, v text); INSERT INTO trades SELECT g, md5(g::text) FROM generate_series(1, 100) g; CREATE TABLE events (id int, created_at timestamptz DEFAULT now()); INSERT INTO events VALUES (1); CREATE TABLE users (id uuid)")
	bin := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "escrowctl")); err != nil {
		t.Fatal(err)
	}
	ran := 0
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append([]string{"../../README.md"}, pages...) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range runnable.FindAllSubmatch(text, -1) {
			ran++
			script := "set -o pipefail\nwarned() { \"$@\" || [ $? = 1 ]; }\n" +
				regexp.MustCompile(`(?m)^(\$ )?escrowctl `).ReplaceAllString(string(m[1]), "warned escrowctl ")
			cmd := exec.Command("bash", "-e", "-c", script)
			cmd.Dir = t.TempDir()
			cmd.Env = append(append([]string{}, s.env...), "ESCROWCTL_DR_TEST_ENGINE=local", "PATH="+bin+":"+os.Getenv("PATH"))
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Run(); err != nil {
				t.Errorf("%s: %v\n%s\n%s", page, err, strings.TrimSpace(string(m[1])), &out)
			}
		}
	}
	leaves(t, s)
	if ran < 3 {
		t.Errorf("only %d blocks are marked to be run", ran)
	}
}

// leaves compares what the runs left in the state directory and among the
// backups with docs/files.md.
func leaves(t *testing.T, s *sandbox) {
	t.Helper()
	page, err := os.ReadFile("../../docs/files.md")
	if err != nil {
		t.Fatal(err)
	}
	known := []*regexp.Regexp{regexp.MustCompile(`^stellar_escrow_\d{8}T\d{6}Z\.(sql\.gz|sql\.gz\.json|globals\.sql)$`)}
	for _, m := range regexp.MustCompile("`([^`\\s]+)`").FindAllStringSubmatch(string(page), -1) {
		pattern := regexp.QuoteMeta(m[1])
		for _, variable := range []string{"<job>", "<UTC>"} {
			pattern = strings.ReplaceAll(pattern, variable, "[A-Za-z0-9-]+")
		}
		known = append(known, regexp.MustCompile("^"+pattern+"$"))
	}
	found := 0
	for _, dir := range []string{s.state(t), s.dir} {
		err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			found++
			rel, err := filepath.Rel(dir, name)
			if err == nil && !slices.ContainsFunc(known, func(r *regexp.Regexp) bool { return r.MatchString(rel) }) {
				t.Errorf("docs/files.md does not know %s, which a run left", rel)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if found < 8 {
		t.Errorf("only %d files were left", found)
	}
}

// state is the sandbox's state directory.
func (s *sandbox) state(t *testing.T) string {
	t.Helper()
	for _, e := range s.env {
		if dir, ok := strings.CutPrefix(e, "ESCROWCTL_STATE_DIR="); ok {
			return dir
		}
	}
	t.Fatal("no state directory")
	return ""
}
