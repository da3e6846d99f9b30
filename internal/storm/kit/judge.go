package kit

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Print is what a database holds: of each table the number of its rows and a sum
// over their text.
type Print map[string]string

// Print takes the print of a database.
func (w *World) Print(t testing.TB, db string) Print {
	t.Helper()
	out := w.PG.Psql(t, db, `
SELECT format('SELECT %L, count(*), coalesce(sum(hashtextextended(t::text, 0)), 0) FROM %s t', c.oid::regclass, c.oid::regclass)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1 \gexec`)
	print := Print{}
	for line := range strings.Lines(out) {
		table, rest, _ := strings.Cut(strings.TrimSpace(line), "|")
		print[table] = rest
	}
	return print
}

// Differences says where another print differs.
func (p Print) Differences(other Print) (diffs []string) {
	for table, rows := range p {
		if other[table] != rows {
			diffs = append(diffs, fmt.Sprintf("%s: %s, want %s", table, other[table], rows))
		}
	}
	for table, rows := range other {
		if _, ok := p[table]; !ok {
			diffs = append(diffs, fmt.Sprintf("%s: %s, want no such table", table, rows))
		}
	}
	slices.Sort(diffs)
	return diffs
}

// Judge says what is wrong with a backup's file, manifest beside it, by means
// that share no code with escrowctl: sha256sum, gunzip and psql, and the print
// of what was dumped. nil: it is good. The same bytes are restored once.
func (w *World) Judge(t testing.TB, path string, want Print) error {
	t.Helper()
	body, err := os.ReadFile(path + ".json")
	if err != nil {
		return fmt.Errorf("no manifest: %w", err)
	}
	var manifest struct {
		Name   string `json:"name"`
		SHA256 string `json:"sha256"`
		Rows   int64  `json:"rows"`
	}
	if err := json.Unmarshal(body, &manifest); err != nil {
		return fmt.Errorf("manifest of %s: %w", path, err)
	}
	out, err := exec.Command("sha256sum", path).Output()
	if err != nil {
		return fmt.Errorf("sha256sum: %w", err)
	}
	if sum, _, _ := strings.Cut(string(out), " "); sum != manifest.SHA256 || manifest.Name != filepath.Base(path) {
		return fmt.Errorf("%s has SHA-256 %s, its manifest says %s of %s", path, sum, manifest.SHA256, manifest.Name)
	}
	if w.judged[manifest.SHA256] {
		return nil
	}
	if err := w.restores(t, path, want); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	w.judged[manifest.SHA256] = true
	return nil
}

// restores loads the file as the runbook does and looks at what comes of it.
func (w *World) restores(t testing.TB, path string, want Print) error {
	t.Helper()
	if out, err := exec.Command("gunzip", "-t", path).CombinedOutput(); err != nil {
		return fmt.Errorf("gunzip -t: %w: %s", err, out)
	}
	const scratch = "storm_judge"
	w.PG.CreateDB(t, scratch)
	defer w.PG.Psql(t, "postgres", "DROP DATABASE "+scratch)
	load := exec.Command("bash", "-o", "pipefail", "-c", `gunzip -c "$1" | "$2" -Xq -v ON_ERROR_STOP=1 -d "$3" >/dev/null`,
		"judge", path, w.PG.Tool("psql"), w.PG.SocketURL(scratch))
	if out, err := load.CombinedOutput(); err != nil {
		return fmt.Errorf("psql: %w: %s", err, out)
	}
	if diffs := want.Differences(w.Print(t, scratch)); len(diffs) > 0 {
		return fmt.Errorf("it is not what was dumped: %s", strings.Join(diffs, "; "))
	}
	return nil
}

// Listed is a line of `backup list`.
type Listed struct {
	Name  string   `json:"name"`
	Kind  string   `json:"kind"`
	Good  bool     `json:"good"`
	Where []string `json:"where"`
}

// List returns what escrowctl lists; flags may be --local or --s3.
func (h *Host) List(t testing.TB, flags ...string) []Listed {
	t.Helper()
	res := h.Run(t, append([]string{"backup", "list", "--json"}, flags...)...)
	var doc struct {
		Backups []Listed `json:"backups"`
	}
	if err := json.Unmarshal([]byte(res.Stdout), &doc); err != nil || res.Code > 1 {
		t.Fatalf("backup list: exit %d: %v: %s%s", res.Code, err, res.Stdout, res.Stderr)
	}
	return doc.Backups
}

// Sound judges every copy, here and in the bucket, that is listed as good, and
// returns the names of those. want gives the print of what each holds.
func (h *Host) Sound(t testing.TB, want func(name string) Print) []string {
	t.Helper()
	var good []string
	for _, where := range []string{"--local", "--s3"} {
		for _, b := range h.List(t, where) {
			if !b.Good {
				continue
			}
			path := filepath.Join(h.Backups, b.Name)
			if where == "--s3" {
				path = h.Object(b.Name)
			}
			if err := h.Judge(t, path, want(b.Name)); err != nil {
				t.Errorf("listed as good with %s, and is not: %v", where, err)
			}
			if !slices.Contains(good, b.Name) {
				good = append(good, b.Name)
			}
		}
	}
	return good
}

// Same is a want for Sound where the database does not change.
func Same(p Print) func(string) Print { return func(string) Print { return p } }
