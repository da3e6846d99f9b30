package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// reader is somebody who types what the documents say, on a machine with a
// database of three tables and a bucket.
type reader struct {
	*sandbox
	bin string // of escrowctl
}

func newReader(t *testing.T) *reader {
	t.Helper()
	s := newSandbox(t)
	s.pg.Psql(t, "app", "CREATE TABLE trades (id int PRIMARY KEY, v text); INSERT INTO trades SELECT g, md5(g::text) FROM generate_series(1, 100) g; CREATE TABLE events (id int, created_at timestamptz DEFAULT now()); INSERT INTO events VALUES (1); CREATE TABLE users (id uuid)")
	s.env = append(s.env, "ESCROWCTL_DR_TEST_ENGINE=local")
	return readerOf(t, s)
}

func readerOf(t *testing.T, s *sandbox) *reader {
	t.Helper()
	r := &reader{s, t.TempDir()}
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(r.bin, "escrowctl"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// types runs a block in a directory, with more in the environment, and returns
// what it says. escrowctl may warn.
func (r *reader) types(t *testing.T, dir, block string, env ...string) string {
	t.Helper()
	cmd := exec.Command("bash", "-c", testenv.Script(block, 1))
	cmd.Dir = dir
	cmd.Env = append(append(slices.Clone(r.env), "PATH="+r.bin+":"+os.Getenv("PATH")), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s\n%s", err, strings.TrimSpace(block), out)
	}
	return string(out)
}

// TestDocumentedBlocks runs the code blocks of README and docs that are marked
// with <!-- run -->, each as one shell script.
func TestDocumentedBlocks(t *testing.T) {
	t.Parallel()
	r := newReader(t)
	ran := 0
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append([]string{"README.md"}, pages...) {
		for _, b := range testenv.Blocks(t, strings.TrimPrefix(page, "../../")) {
			if b.Mark == "run" {
				ran++
				r.types(t, t.TempDir(), b.Text)
			}
		}
	}
	leaves(t, r.sandbox)
	if ran < 7 {
		t.Errorf("only %d blocks are marked to be run", ran)
	}
}

// TestDocumentedFormat takes a backup apart as docs/format.md does: an index
// definition, one member, and the restore without escrowctl, of an encrypted one.
func TestDocumentedFormat(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"age", "jq"} {
		_, err := exec.LookPath(program)
		testenv.Need(t, err == nil, program+" in PATH", "make deps, or apt-get install "+program)
	}
	r := newReader(t)
	r.pg.Psql(t, "app", "CREATE INDEX trades_open ON trades (v); CREATE TABLE settings (name text, value text); INSERT INTO settings VALUES ('greeting', 'Grüezi')")
	dir := t.TempDir()
	env := []string{
		"PATH=" + strings.Join([]string{r.bin, r.pg.BinDir, os.Getenv("PATH")}, ":"),
		"PGHOST=" + r.pg.SocketDir, fmt.Sprintf("PGPORT=%d", r.pg.Port), "PGUSER=" + r.pg.User,
	}
	r.types(t, dir, `file=$(escrowctl backup | sed -n 's/^BACKUP_LOCATION=//p')
cp "$file" FILE.sql.gz; cp "$file.json" FILE.json
age-keygen -o KEY 2>keygen
age -r "$(sed 's/.*: //' keygen)" FILE.sql.gz >FILE.sql.gz.age
`, env...)
	blocks := testenv.RunBy(t, "docs/format.md", t.Name(), 3)
	for i, want := range []string{`{"k":"index","n":"public.trades_open","t":"public.trades","f":{"definition":"CREATE INDEX trades_open `, "greeting\tGrüezi\n\\.", "PostgreSQL database dump complete"} {
		if out := r.types(t, dir, blocks[i], env...); !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s\n%s", want, blocks[i], out)
		}
	}
	if got := r.pg.Psql(t, "scratch", "SELECT count(*) FROM trades"); got != "100" {
		t.Errorf("%s rows are restored", got)
	}
}

// TestDocumentedSwap goes back after --swap as docs/backup.md says.
func TestDocumentedSwap(t *testing.T) {
	t.Parallel()
	r := newReader(t)
	r.pg.Psql(t, "postgres", "ALTER DATABASE app RENAME TO stellar_escrow")
	r.env = append(r.env, "DATABASE_URL="+r.pg.URL("stellar_escrow"))
	r.expect(t, 0, "backup")
	r.pg.Psql(t, "stellar_escrow", "CREATE TABLE newer (id int)")
	r.expect(t, 0, "backup restore latest --to stellar_escrow --swap --yes")
	before := r.pg.Psql(t, "postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'stellar_escrow_before_%'")
	block := testenv.RunBy(t, "docs/backup.md", t.Name(), 1)[0]
	name := regexp.MustCompile(`stellar_escrow_before_\d{14}`)
	if !name.MatchString(before) || !name.MatchString(block) {
		t.Fatalf("%q is not named as in\n%s", before, block)
	}
	for sql := range strings.Lines(name.ReplaceAllString(block, before)) {
		r.pg.Psql(t, "postgres", sql)
	}
	if got := r.pg.Psql(t, "stellar_escrow", "SELECT to_regclass('newer') IS NOT NULL"); got != "t" {
		t.Errorf("the database of before is not back: %s", got)
	}
}

// TestDocumentedRotation replaces S3 credentials as docs/rotate-keys.md does.
func TestDocumentedRotation(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	r := readerOf(t, p.sandbox)
	dir := filepath.Dir(credentials(t, newS3ID, markerNewS3))
	blocks := testenv.RunBy(t, "docs/rotate-keys.md", t.Name(), 2)
	r.types(t, dir, blocks[0])
	if !strings.Contains(p.envFile(t), newS3ID) {
		t.Error(".env does not have the new credentials")
	}
	p.s3.DeleteUser(t, oldS3ID)
	if out := r.types(t, dir, blocks[1]); !strings.Contains(out, "refuses the old ones") {
		t.Errorf("retire says %s", out)
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
