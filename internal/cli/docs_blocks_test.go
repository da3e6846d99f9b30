package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// The blocks of the documents that need a clock which can be moved.

// documentedCalls are the calls of escrowctl in a block, which has no others.
func documentedCalls(t *testing.T, block string) [][]string {
	t.Helper()
	var out [][]string
	for line := range strings.Lines(block) {
		calls := ours(line)
		if len(calls) != 1 {
			t.Fatalf("not one call of escrowctl: %s", line)
		}
		out = append(out, calls...)
	}
	return out
}

// TestDocumentedWeek rotates keys as docs/rotate-keys.md has it, and a week
// passes before the last block.
func TestDocumentedWeek(t *testing.T) {
	blocks := testenv.RunBy(t, "docs/rotate-keys.md", t.Name(), 2)
	b := newRotationBed(t)
	t.Chdir(t.TempDir())
	for i, block := range blocks {
		b.offset = time.Duration(i) * 9 * 24 * time.Hour
		for _, args := range documentedCalls(t, block) {
			b.must(t, 0, args...)
		}
		if got := b.ask(newKey(t, "keys", "web")); got != 200 {
			t.Errorf("after block %d the new key is answered with %d", i+1, got)
		}
		if got, want := b.ask(oldKey), []int{200, 401}[i]; got != want {
			t.Errorf("after block %d the old key is answered with %d, not %d", i+1, got, want)
		}
	}
}

// TestDocumentedIncident begins the reviews of docs/incident.md in an evening,
// while the page's alert fires.
func TestDocumentedIncident(t *testing.T) {
	block := testenv.RunBy(t, "docs/incident.md", t.Name(), 1)[0]
	b := newIncidentBed(t)
	b.now = b.now.AddDate(0, 0, -1).Truncate(24 * time.Hour).Add(18 * time.Hour)
	labels := map[string]string{"alertname": "ServiceDown", "service": "api", "priority": "P1", "sla": "15m", "severity": "critical", "runbook": "RB-003"}
	b.am.Post(t, testenv.Alert{Labels: labels, StartsAt: b.ago(time.Hour), EndsAt: time.Now().Add(time.Hour)})
	print := b.fingerprint(t, "ServiceDown")
	if !strings.Contains(block, " "+print+"\n") {
		t.Errorf("Alertmanager calls the alert %s, docs/incident.md does not:\n%s", print, block)
	}
	for _, args := range documentedCalls(t, block) {
		b.run(t, 0, args...)
	}
	if found, _ := filepath.Glob(filepath.Join(b.state, "reviews", "*.md")); len(found) != 2 {
		t.Errorf("%q are not two reviews", found)
	}
}

// TestDocumentedSettings: each block of YAML is a configuration.
func TestDocumentedSettings(t *testing.T) {
	found := 0
	for _, doc := range documents(t) {
		for _, b := range testenv.Blocks(t, doc) {
			if b.Language != "yaml" || doc == "CHANGELOG.md" {
				continue
			}
			found++
			file := filepath.Join(t.TempDir(), config.FileName)
			if err := os.WriteFile(file, []byte(b.Text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := loadOnly(t, file); err != nil {
				t.Errorf("%s: %v in\n%s", doc, err, b.Text)
			}
		}
	}
	if found < 3 {
		t.Errorf("only %d blocks of YAML", found)
	}
}
