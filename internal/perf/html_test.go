package perf

import (
	"bytes"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
)

// week is a snapshot of a platform that grows, n weeks after the first.
func week(n int) *Snapshot {
	at := time.Date(2026, 1, 4, 3, 0, 0, 0, time.UTC).Add(time.Duration(n) * 7 * 24 * time.Hour)
	calls := int64(1000 * (n + 1))
	return &Snapshot{
		SchemaVersion: SnapshotVersion, TakenAt: at,
		Database: &Database{
			Address: "postgres:5432/stellar_escrow", Settings: map[string]string{"max_connections": "10"}, Sessions: []Session{{PID: 1}, {PID: 2}},
			Server:     Server{Version: "15.8", Database: "stellar_escrow", At: at, StartedAt: at.Add(-time.Hour * 24 * 400), SizeBytes: int64(1e9 + 1e7*n), Commits: calls, BlocksHit: 100 * calls, BlocksRead: calls},
			Statements: &Statements{List: []Statement{{ID: 1, Text: `SELECT '<script>alert(1)</script>' FROM "x"`, Calls: calls, TotalMS: float64(calls) * 30}}},
			Tables:     []Table{{OID: 1, Schema: "public", Name: "events", TotalBytes: int64(8e8 + 1e7*n), LiveRows: 1e6, FillFactor: 100}},
		},
		Redis:      &Redis{RunID: "a", Hits: 900 * calls, Misses: 100 * calls},
		Endpoints:  []Endpoint{{URL: "http://localhost:3000/health", Requests: 3, TTFB: Quantiles{0.01, 0.02, 0.03}, Samples: []float64{0.01, 0.02, 0.3}}},
		Containers: []Container{{Name: "indexer-1", Service: "indexer", MemoryBytes: int64(1e8 + 1e6*n)}},
	}
}

// TestHTML writes the page of a first run, and that after 52 weeks.
func TestHTML(t *testing.T) {
	archive := Archive{Dir: t.TempDir(), Recent: 7 * 24 * time.Hour, Days: 31, Weeks: 104}
	var before *Snapshot
	for n := range 52 {
		now := week(n)
		report := Analyse(now, before, Options{Limits: DefaultLimits()})
		report.Plans = []Plan{{ID: "1", Text: "SELECT 1", Lines: []string{"Nested Loop  (cost=0.00..8.17 rows=1 width=72)", "  ->  Seq Scan on <b>"}}, {ID: "2", Text: "SELECT 2", Missing: "gone"}}
		if err := archive.Save(now); err != nil {
			t.Fatal(err)
		}
		before = now
		if n != 0 && n != 51 {
			continue
		}
		points, err := archive.History(0, "indexer")
		if err != nil || len(points) != n+1 {
			t.Fatalf("%d points: %v", len(points), err)
		}
		var page bytes.Buffer
		if err := WriteHTML(&page, report, points); err != nil {
			t.Fatal(err)
		}
		if dir := os.Getenv("ESCROWCTL_TEST_PAGES"); dir != "" { // to look at them
			if err := os.WriteFile(dir+"/week"+string(rune('0'+min(n, 1)))+".html", page.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text := page.String()
		for _, says := range []string{"events", "a query takes 30.0 ms", "largest tables", "latency of http://localhost:3000/health", "&lt;script&gt;", "  -&gt;  Seq Scan on &lt;b&gt;\n", "no plan: gone", "hit rate 90 %", "<td>20.0 ms</td>"} {
			if !strings.Contains(text, says) {
				t.Errorf("week %d: the page does not say %q", n, says)
			}
		}
		if strings.Contains(text, "<script") || regexp.MustCompile(`(?i)(src|href|url\()\s*=?\s*["']?(https?:|//)`).MatchString(text) {
			t.Errorf("week %d: a script, or something from the network", n)
		}
		if lines := strings.Count(text, "<polyline"); (n == 0) != (lines == 0) || n == 51 && lines != 7 {
			t.Errorf("week %d: %d plots of history", n, lines)
		}
		if strings.Contains(text, "begin with the second analysis") != (n == 0) {
			t.Errorf("week %d: the page is wrong about the history", n)
		}
		decoder := xml.NewDecoder(strings.NewReader(regexp.MustCompile(`<(meta[^>]*)>`).ReplaceAllString(strings.ReplaceAll(text, "<details open>", "<details>"), "<$1/>")))
		for {
			if _, err := decoder.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("week %d: not well formed: %v", n, err)
			}
		}
	}
	// What the limits do not keep goes; the newest stays.
	at := week(51).TakenAt.Add(90 * 7 * 24 * time.Hour)
	gone, err := archive.Prune(at)
	ids, _ := archive.IDs()
	if err != nil || len(gone) == 0 || len(ids) == 0 || ids[len(ids)-1] != week(51).ID() {
		t.Errorf("pruned %d, %d left: %v", len(gone), len(ids), err)
	}
}

func TestDispensable(t *testing.T) {
	archive := Archive{Recent: 24 * time.Hour, Days: 7, Weeks: 4}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var ids []string
	for h := 24 * 60; h >= 0; h -= 6 {
		ids = append(ids, now.Add(-time.Duration(h)*time.Hour).Format(idForm))
	}
	kept := len(ids) - len(archive.dispensable(ids, now))
	if kept < 5+6+3 || kept > 5+7+4 {
		t.Errorf("%d kept, want a day's 5, one of 6 days, one of 3 or 4 weeks", kept)
	}
	if gone := archive.dispensable([]string{"20200101T000000Z"}, now); len(gone) != 0 {
		t.Error("the only snapshot goes")
	}
}

// TestArchiveSweep: what a killed Save has left goes, what is being saved stays.
func TestArchiveSweep(t *testing.T) {
	archive := Archive{Dir: t.TempDir()}
	now := time.Now()
	for name, age := range map[string]time.Duration{".20260101T000000Z.json.gz123": 2 * time.Hour, ".20260102T000000Z.json.gz456": time.Minute} {
		path := filepath.Join(archive.Dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := archive.Prune(now); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(filepath.Join(archive.Dir, ".*"))
	if len(left) != 1 || filepath.Base(left[0]) != ".20260102T000000Z.json.gz456" {
		t.Errorf("left: %v", left)
	}
}

// A damaged snapshot is an error that names the file; it is not compared with.
func TestArchiveDamage(t *testing.T) {
	archive := Archive{Dir: t.TempDir()}
	if err := os.WriteFile(archive.Dir+"/20260101T000000Z.json.gz", []byte("not gzip"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Load("20260101T000000Z"); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("got %v", err)
	}
	if _, err := archive.Load("../../etc/passwd"); err == nil {
		t.Error("a path is taken for a name")
	}
	other := week(0)
	other.SchemaVersion = 99
	if r := Analyse(week(1), other, Options{Limits: DefaultLimits()}); r.Since != nil || r.Status == check.OK && r.Queries.Compared {
		t.Error("a snapshot of another version is compared with")
	}
}
