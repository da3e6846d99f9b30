package kit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestReport: a part that is run anew takes the place of what was told of it, and
// leaves the rest; what was not as demanded says so.
func TestReport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	page := filepath.Join(dir, "page.md")
	if err := os.WriteFile(page, []byte("before\n<!-- BEGIN storm x -->\nold\n<!-- END storm x -->\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tell := func(entries ...Entry) string {
		t.Helper()
		r := &Report{Area: "x"}
		for _, e := range entries {
			r.Add(e)
		}
		if err := r.write(dir, page); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	entry := func(fault, outcome string, failed bool) Entry {
		return Entry{Command: "backup", Group: "S3", Fault: fault, Outcome: outcome, Took: time.Second, PeakRSS: 5 << 20, Failed: failed}
	}
	first := tell(entry("403", "exit 2", false), entry("500", "exit 0", true), entry("500", "exit 2", false))
	for _, want := range []string{
		"before\n", "after\n", "| S3 | 403 | `backup` | 1 | exit 2 | 1.0 s |\n",
		"| S3 | 500 | `backup` | 2 | exit 0, exit 2, **1 not as demanded** | 1.0 s |\n", "\n3 runs, 1 of them not as demanded; no run held more than 5 MiB.\n",
	} {
		if !strings.Contains(first, want) {
			t.Errorf("no %q in %s", want, first)
		}
	}
	again := tell(entry("500", "exit 2", false))
	for _, want := range []string{"| S3 | 403 | `backup` | 1 | exit 2 |", "| S3 | 500 | `backup` | 1 | exit 2 |", "\n2 runs, 0 of them not as demanded"} {
		if !strings.Contains(again, want) {
			t.Errorf("no %q in %s", want, again)
		}
	}
}
