package cli

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// TestOverdue: an overdue secret is told by due, in the shift check with the
// command that rotates it, and as a metric.
func TestOverdue(t *testing.T) {
	files := t.TempDir()
	inv := invoke(t, "ESCROWCTL_REPORT_TEXTFILE_DIR="+files)
	run := func(code int, args ...string) string {
		t.Helper()
		inv.out.Reset()
		inv.errs.Reset()
		if got := inv.run(t, args...); got != code {
			t.Fatalf("%q: exit %d, want %d: %s%s", args, got, code, &inv.out, &inv.errs)
		}
		return inv.out.String() + inv.errs.String()
	}
	for _, s := range runbook.Secrets() {
		if s.Every > 0 {
			run(0, "rotate-keys", "record", s.Name, "--on", "2026-01-01")
		}
	}
	run(0, "rotate-keys", "due")
	state := filepath.Join(mustGetwd(t), "state", "documents", "rotated.json")
	body := read(t, state)
	for _, tt := range []struct{ secret, command string }{
		{"API_KEYS", "escrowctl rotate-keys start API_KEYS"},
		{"POSTGRES_PASSWORD", "escrowctl rotate-keys POSTGRES_PASSWORD"},
		{"GRAFANA_ADMIN_PASSWORD", "escrowctl rotate-keys GRAFANA_ADMIN_PASSWORD"},
	} {
		// record takes no older day than is known, so the file is written.
		before, after, _ := strings.Cut(body, `"`+tt.secret+`": {`)
		write(t, state, before+`"`+tt.secret+`": {`+strings.Replace(after, "2026-01-01T", "2024-06-01T", 1))
		ics := filepath.Join(files, "due.ics")
		if out := run(1, "rotate-keys", "due", "--ics", ics); !strings.Contains(out, tt.secret) || strings.Count(out, "warning") != 1 {
			t.Errorf("due says %s", out)
		}
		if !strings.Contains(read(t, ics), "SUMMARY:Rotate "+tt.secret+"\r\n") {
			t.Errorf("the calendar is %s", read(t, ics))
		}
		_, metric, _ := strings.Cut(read(t, filepath.Join(files, "escrowctl_secrets.prom")), `escrowctl_secrets_due_timestamp_seconds{secret="`+tt.secret+`"} `)
		value, _, _ := strings.Cut(metric, "\n")
		if at, err := strconv.ParseFloat(value, 64); err != nil || at <= 0 || at >= float64(testNow().Unix()) {
			t.Errorf("the metric of %s is %q, %v", tt.secret, value, err)
		}
		if out := run(1, "shift-check", "--only", "secrets"); !strings.Contains(out, tt.secret+" was due for rotation") || !strings.Contains(out, tt.command) {
			t.Errorf("the shift check says %s", out)
		}
	}
	if err := os.Remove(state); err != nil {
		t.Fatal(err)
	}
}
