package year

// The witness imports nothing but the standard library: what it says of a
// backup it has from psql, gunzip, sha256sum and its own eyes (see
// TestWitnessIsIndependent).

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// witness looks at what lies there after a night, and remembers what was.
type witness struct {
	psql   string              // the program
	url    func(string) string // of a database
	places map[string]string   // local, bucket: the directories
	first  time.Time           // midnight of night 0

	truths   map[int]truth                  // by night
	sums     map[string]string              // SHA-256 by path, inode, size and time of change
	restored map[string]int                 // SHA-256 of what was restored and found right, to its night
	ever     map[string]map[string]sighting // by place and name, all that were once good
	restores int
}

// truth is what the database held in a night: one line for each table, column,
// index, constraint, view, function, trigger and sequence.
type truth struct {
	text string
	rows int64
}

// sighting is a good backup that was seen.
type sighting struct{ taken, last time.Time }

func newWitness(psql string, url func(string) string, local, bucket string, first time.Time) *witness {
	return &witness{
		psql: psql, url: url, places: map[string]string{"local": local, "bucket": bucket}, first: first, truths: map[int]truth{}, sums: map[string]string{},
		restored: map[string]int{}, ever: map[string]map[string]sighting{"local": {}, "bucket": {}},
	}
}

func (w *witness) query(db, sql string) (string, error) {
	cmd := exec.Command(w.psql, "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", w.url(db), "-f", "-")
	cmd.Stdin = strings.NewReader(sql)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("psql in %s: %w: %s", db, err, errs.String())
	}
	return strings.TrimSpace(string(out)), nil
}

const digestSQL = `SET search_path = public;
SELECT 'table ' || c.relname || ' ' || (xpath('/row/d/text()', query_to_xml(format(
	'SELECT count(*) || '' rows '' || coalesce(md5(string_agg(md5(t::text), '''' ORDER BY md5(t::text))), ''-'') AS d FROM %I t', c.relname), false, true, '')))[1]::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relkind = 'r' ORDER BY c.relname;
SELECT 'column ' || table_name || '.' || column_name || ' ' || data_type || ' ' || coalesce(column_default, '-') || ' ' || is_nullable FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1;
SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1;
SELECT 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || contype::text FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1;
SELECT 'view ' || viewname || ' ' || md5(definition) FROM pg_views WHERE schemaname = 'public' AND viewname !~ '^pg_stat' ORDER BY 1;
SELECT 'trigger ' || tgname || ' on ' || tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1;
SELECT 'sequence ' || sequencename || ' ' || coalesce(last_value, 0) FROM pg_sequences WHERE schemaname = 'public' ORDER BY 1;
`

func (w *witness) digest(db string) (truth, error) {
	text, err := w.query(db, digestSQL)
	if err != nil {
		return truth{}, err
	}
	d := truth{text: text}
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 3 && fields[0] == "table" {
			n, err := strconv.ParseInt(fields[2], 10, 64)
			if err != nil {
				return truth{}, fmt.Errorf("%q: %w", line, err)
			}
			d.rows += n
		}
	}
	if d.rows == 0 {
		return truth{}, errors.New("nothing is in the database")
	}
	return d, nil
}

// learn notes what the database holds in a night.
func (w *witness) learn(night int, db string) error {
	d, err := w.digest(db)
	w.truths[night] = d
	return err
}

var backupName = regexp.MustCompile(`^stellar_escrow_(\d{8}T\d{6}Z)\.sql\.gz$`)

// taken is the time in a backup's name.
func taken(name string) (time.Time, bool) {
	m := backupName.FindStringSubmatch(name)
	if m == nil {
		return time.Time{}, false
	}
	at, err := time.Parse("20060102T150405Z", m[1])
	return at, err == nil
}

func (w *witness) nightOf(name string) int {
	at, _ := taken(name)
	return int(at.Sub(w.first) / (24 * time.Hour))
}

// sum is what sha256sum says of a file. Of one that was not touched since it is
// remembered.
func (w *witness) sum(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	key := fmt.Sprint(path, info.Size(), info.ModTime().UnixNano(), info.Sys())
	if s := w.sums[key]; s != "" {
		return s, nil
	}
	out, err := exec.Command("sha256sum", path).Output()
	if err != nil {
		return "", fmt.Errorf("sha256sum %s: %w", path, err)
	}
	w.sums[key], _, _ = strings.Cut(string(out), " ")
	return w.sums[key], nil
}

// whole says whether a backup and its manifest lie in a place and fit each
// other, and returns its sum.
func (w *witness) whole(place, name string) (string, error) {
	path := filepath.Join(w.places[place], name)
	body, err := os.ReadFile(path + ".json")
	if err != nil {
		return "", err
	}
	var m struct {
		Name   string `json:"name"`
		Size   int64  `json:"size_bytes"`
		SHA256 string `json:"sha256"`
		Rows   int64  `json:"rows"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return "", fmt.Errorf("%s.json: %w", path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	sum, err := w.sum(path)
	if err != nil {
		return "", err
	}
	want := w.truths[w.nightOf(name)]
	if m.Name != name || m.Size != info.Size() || m.SHA256 != sum || m.Rows != want.rows {
		return "", fmt.Errorf("%s: %d bytes, sha256 %s, the database had %d rows; its manifest says %+v", path, info.Size(), sum, want.rows, m)
	}
	return sum, nil
}

// names are the backups in a place that have a manifest, oldest first.
func (w *witness) names(place string) []string {
	var names []string
	files, _ := filepath.Glob(filepath.Join(w.places[place], "*.sql.gz.json"))
	for _, f := range files {
		if name := strings.TrimSuffix(filepath.Base(f), ".json"); backupName.MatchString(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// newest is the newest whole backup in a place, "" if there is none.
func (w *witness) newest(place string) (string, time.Time) {
	names := w.names(place)
	for _, name := range slices.Backward(names) {
		if _, err := w.whole(place, name); err == nil {
			at, _ := taken(name)
			return name, at
		}
	}
	return "", time.Time{}
}

// holds says whether the newest whole backup in a place has a table.
func (w *witness) holds(place, table string) bool {
	name, _ := w.newest(place)
	return name != "" && strings.Contains("\n"+w.truths[w.nightOf(name)].text, "\ntable "+table+" ")
}

// prove restores a backup as the runbook does, gunzip and psql, and compares
// what came back with what the database held. What has the sum of one that was
// proven is the same.
func (w *witness) prove(place, name string) error {
	sum, err := w.whole(place, name)
	if err != nil {
		return err
	}
	if night, done := w.restored[sum]; done && night == w.nightOf(name) {
		return nil
	}
	const scratch = "witness"
	if _, err := w.query("postgres", "DROP DATABASE IF EXISTS "+scratch+";\nCREATE DATABASE "+scratch+";"); err != nil {
		return err
	}
	script := `set -o pipefail; gunzip -c "$1" | "$2" -Xq -v ON_ERROR_STOP=1 -d "$3" >/dev/null`
	cmd := exec.Command("bash", "-c", script, "bash", filepath.Join(w.places[place], name), w.psql, w.url(scratch))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s in %s: gunzip | psql: %w: %s", name, place, err, out)
	}
	got, err := w.digest(scratch)
	if err != nil {
		return err
	}
	w.restores++
	if want := w.truths[w.nightOf(name)]; got.text != want.text {
		return fmt.Errorf("%s in %s does not restore what was backed up: %s", name, place, difference(want.text, got.text))
	}
	w.restored[sum] = w.nightOf(name)
	_, err = w.query("postgres", "DROP DATABASE "+scratch)
	return err
}

// difference is the first lines in which two texts differ.
func difference(want, got string) string {
	var out []string
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, line := range a {
		if !slices.Contains(b, line) {
			out = append(out, "missing: "+line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			out = append(out, "too much: "+line)
		}
	}
	return strings.Join(out[:min(6, len(out))], "; ")
}

// forget makes the witness read and restore everything anew.
func (w *witness) forget() {
	clear(w.sums)
	clear(w.restored)
}
