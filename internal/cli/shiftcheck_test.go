package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/health"
	"github.com/stellarescrow/escrowctl/internal/state"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// shiftReport is a report with all there can be in one.
func shiftReport() health.Report {
	warn, crit := 0.7, 0.85
	hostile := "<script>alert(1)</script> | *x* `y` \x1b[31m"
	results := func(disk check.Status) []check.Result {
		return []check.Result{
			{ID: "containers", Parts: []check.Result{
				{ID: "api", Status: check.Critical, Summary: "killed for memory (OOM), exit 137", Since: testNow().Add(-12 * time.Minute), Alert: "ServiceDown", Runbooks: []string{"RB-003"},
					Detail: []string{hostile}, Action: "docker compose -p stellarescrow up -d api, and see docker logs --tail 50 stellarescrow-api-1"},
				{ID: "redis", Summary: "healthy"},
			}, Summary: "api: killed for memory (OOM), exit 137; 12 healthy, 2 running without a healthcheck"},
			{ID: "alerts", Summary: "none; delivery proven by Watchdog"},
			{ID: "disk", Status: disk, Alert: "DiskUsage", Summary: "/: 88 % used", Action: "docker system df",
				Figures: []check.Figure{{Name: "used", Unit: "ratio", Value: 0.88, Warning: &warn, Critical: &crit}}},
			{ID: "grafana", Status: check.Unknown, Summary: "http://localhost:3002/api/health: connection refused"},
		}
	}
	m := new(health.Handover)
	health.Evaluate(append(results(check.Warning), check.Result{ID: "redis", Status: check.Critical, Summary: "down"}), nil, m, testNow().Add(-26*time.Hour))
	if _, err := m.Acknowledge(health.Ack{ID: "disk", By: "ops@host", Why: "ordered " + hostile, Until: testNow().Add(3 * time.Hour)}); err != nil {
		panic(err)
	}
	now := append(results(check.Warning), check.Result{ID: "redis", Summary: "hit rate 98 %"})
	now[3].Summary += hostile
	rep := health.Evaluate(now, []health.Off{{ID: "certs", Why: "--skip"}}, m, testNow())
	rep.Duration = 420 * time.Millisecond
	return rep
}

// golden compares with testdata/shift-check; UPDATE_GOLDEN=1 writes it anew.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "shift-check", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Errorf("%s: %v: got\n%s\nwant\n%s", name, err, got, want)
	}
}

func TestShiftFormats(t *testing.T) {
	rep := shiftReport()
	text := newShiftText(&ui.IO{Now: testNow}, rep).text()
	golden(t, "text.txt", text)
	golden(t, "terminal.txt", newShiftText(&ui.IO{Now: testNow, OutTTY: true, Color: true, Width: 80}, rep).text())
	golden(t, "overview.txt", newShiftText(&ui.IO{Now: testNow, OutTTY: true, Width: 80}, rep).overview(0))
	golden(t, "markdown.md", shiftMarkdown(rep))
	golden(t, "nagios.txt", shiftNagios(rep))
	host, _ := os.Hostname()
	page, err := shiftHTML(rep)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "page.html", strings.ReplaceAll(page, host, "HOST"))
	doc, err := json.MarshalIndent(shiftDocument(rep), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", string(doc)+"\n")
	for name, out := range map[string]string{"text": text, "markdown": shiftMarkdown(rep), "nagios": shiftNagios(rep), "html": page} {
		if strings.Contains(out, "\x1b") || name == "html" && strings.Contains(out, "<script") {
			t.Errorf("%s: something of a service is not made harmless:\n%s", name, out)
		}
	}
	if strings.Count(shiftNagios(rep), "\n") != 1 || strings.Count(shiftNagios(rep), "|") != 1 {
		t.Errorf("more than a line, or than one bar: %s", shiftNagios(rep))
	}
}

// TestShiftFitsTheTerminal: no line is wider than 80 columns but for a word
// that cannot be broken.
func TestShiftFitsTheTerminal(t *testing.T) {
	escape := regexp.MustCompile("\x1b\\[[0-9;]*m")
	text := newShiftText(&ui.IO{Now: testNow, OutTTY: true, Color: true, Width: 80}, shiftReport()).text()
	for line := range strings.Lines(escape.ReplaceAllString(text, "")) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// TestShiftOverviewFits: a screen that is too low shows the gravest, and says
// what it leaves out.
func TestShiftOverviewFits(t *testing.T) {
	rep := shiftReport()
	for height := 5; height < 12; height++ {
		text := newShiftText(&ui.IO{Now: testNow, OutTTY: true, Width: 80}, rep).overview(height)
		lines := strings.Count(text, "\n")
		whole := lines == strings.Count(newShiftText(&ui.IO{Now: testNow, OutTTY: true, Width: 80}, rep).overview(0), "\n")
		if lines > height || whole == strings.Contains(text, " more, the gravest ") || !strings.HasPrefix(text, "CRITICAL  containers") || !strings.Contains(text, "\nCRITICAL  1 critical") {
			t.Errorf("on %d lines, %d:\n%s", height, lines, text)
		}
	}
}

// shiftEnv leaves one check, of a Grafana that is not there.
func shiftEnv(more ...string) []string {
	return append([]string{"ESCROWCTL_GRAFANA_URL=http://127.0.0.1:9", "USER=alice"}, more...)
}

// TestShiftCheckByHand: check, acknowledge, check, history, as a person would.
func TestShiftCheckByHand(t *testing.T) {
	state := t.TempDir()
	run := func(code int, args ...string) string {
		t.Helper()
		inv := invoke(t, shiftEnv("ESCROWCTL_STATE_DIR="+state)...)
		if got := inv.run(t, append([]string{"shift-check"}, args...)...); got != code {
			t.Errorf("%v: exit %d, want %d: %s%s", args, got, code, &inv.out, &inv.errs)
		}
		return inv.out.String() + inv.errs.String()
	}
	contains := func(text string, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(text, p) {
				t.Errorf("lacks %q:\n%s", p, text)
			}
		}
	}
	contains(run(3, "ack", "grafana", "--until", "1h", "--why", "x"), "found nothing that is not ok")
	contains(run(3, "--only", "grafana"), "UNKNOWN   grafana", "connection refused", "next ", "respond by 03:19 UTC, 15 min left")
	contains(run(3, "ack", "grafana", "--until", "yesterday", "--why", "x"), `"yesterday" is no time`)
	contains(run(3, "ack", "grafana", "--until", "1h"), "say --until when and --why")
	contains(run(3, "ack", "disk", "--until", "1h", "--why", "x"), "there are grafana")
	contains(run(3, "ack"), "takes one ID")
	contains(run(0, "ack", "grafana", "--until", "18:00", "--why", "moving it"), "ACKNOWLEDGED  grafana until 18:00 UTC, in 14 h 55 min")
	contains(run(0, "--only", "grafana"), "acked     grafana", "unknown, acknowledged, still", "to alice@", "until 18:00 UTC: moving it", "OK  1 acknowledged of 1 check")
	contains(run(0, "history"), "NOT OK", "unknown  grafana", "ok       grafana")
	contains(run(0, "ack", "grafana", "--withdraw"), "WITHDRAWN")
	contains(run(3, "ack", "grafana", "--withdraw"), "no acknowledgement of grafana")
	journal, err := os.ReadFile(filepath.Join(state, "journal", "changes.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	contains(string(journal), `"acknowledged grafana until 2026-01-02 18:00:00 UTC: moving it"`, `"acknowledgement withdrawn: grafana"`)
	contains(run(3, "--only", "grafana", "-o", "nagios"), "SHIFT UNKNOWN - 1 unknown of 1 check")
	contains(run(3, "--only", "grafana", "--markdown", "--html", filepath.Join(state, "x.html")), "**Shift check 2026-01-02 03:04 UTC: UNKNOWN**")
	if page, err := os.ReadFile(filepath.Join(state, "x.html")); err != nil || !bytes.Contains(page, []byte("connection refused")) {
		t.Errorf("the page: %v", err)
	}
	contains(run(3, "--only", "grafana", "--post"), "--post: no webhook")
	contains(run(3, "--only", "grafana", "--watch"), "--watch needs a terminal")
	contains(run(3, "--only", "grafan"), "did you mean grafana?")
	contains(run(3, "--only", "grafana", "--skip", "grafana"), "no check is left to make: grafana (--skip)")
}

// TestShiftCheckWithoutState: a state directory that cannot be written costs
// the memory, not the check.
func TestShiftCheckWithoutState(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "x")
	inv := invoke(t, shiftEnv("ESCROWCTL_STATE_DIR="+file)...)
	if code := inv.run(t, "shift-check", "--only", "grafana", "--json"); code != 3 || !strings.Contains(inv.errs.String(), "is not kept for the next") {
		t.Errorf("exit %d: %s", code, &inv.errs)
	}
	var doc shiftJSON
	if err := json.Unmarshal(inv.out.Bytes(), &doc); err != nil || doc.SchemaVersion != 1 || len(doc.Checks) != 1 || doc.Checks[0].Status != check.Unknown {
		t.Errorf("%v: %s", err, &inv.out)
	}
}

// TestShiftCheckInterrupted: it ends as interrupted, in the history too.
func TestShiftCheckInterrupted(t *testing.T) {
	inv := invoke(t, shiftEnv()...)
	if code := inv.Run(interrupted(t, &Interrupted{Signal: 2}), []string{"shift-check", "--only", "grafana"}); code != 130 {
		t.Errorf("exit %d: %s", code, &inv.errs)
	}
	st, err := state.Open("state", state.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if last, found, err := st.Last(shiftJob); err != nil || !found || last.Outcome != state.Interrupted {
		t.Errorf("%+v, %v, %v", last, found, err)
	}
}
