package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/health"
	"github.com/stellarescrow/escrowctl/internal/state"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// deadEnv has no service of the platform anywhere.
func deadEnv(more ...string) []string {
	const dead = "http://127.0.0.1:9"
	return append([]string{
		"DOCKER_HOST=unix:///nonexistent/docker.sock", "DATABASE_URL=postgres://u:s3cret-db@127.0.0.1:9/d", "REDIS_URL=redis://127.0.0.1:9", "API_BASE_URL=" + dead,
		"ESCROWCTL_API_URL=" + dead, "ESCROWCTL_GRAFANA_URL=" + dead, "ESCROWCTL_ALERTMANAGER_URL=" + dead, "ESCROWCTL_PROMETHEUS_URL=" + dead,
		"ESCROWCTL_CERTS_ADDRESS=127.0.0.1:9", "USER=alice",
	}, more...)
}

// TestShiftPost: a whole check goes to the webhook as Markdown, and its gauges
// into the textfile; a part of one to the webhook alone.
func TestShiftPost(t *testing.T) {
	sink, dir := testenv.NewSink(t), t.TempDir()
	env := deadEnv("BACKUP_ALERT_WEBHOOK="+sink.WebhookURL(), "ESCROWCTL_REPORT_TEXTFILE_DIR="+dir)
	inv := invoke(t, env...)
	if code := inv.run(t, "shift-check", "--only", "grafana", "--post"); code != 3 {
		t.Fatalf("exit %d: %s", code, &inv.errs)
	}
	texts := sink.Texts(t)
	if len(texts) != 1 || !strings.HasPrefix(texts[0], "**Shift check 2026-01-02 03:04 UTC: UNKNOWN**") || !strings.Contains(texts[0], "**grafana** UNKNOWN") || !strings.Contains(texts[0], "next: `docker compose logs") {
		t.Errorf("the webhook got %q", texts)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("a part of a check has written metrics: %v, %v", files, err)
	}
	inv = invoke(t, env...)
	if code := inv.run(t, "shift-check", "--post"); code != 2 {
		t.Fatalf("exit %d: %s", code, &inv.errs)
	}
	if texts = sink.Texts(t); len(texts) != 2 || !strings.Contains(texts[1], "**database** CRITICAL") || strings.Contains(texts[1], "s3cret") {
		t.Errorf("the webhook got %q", texts)
	}
	text, err := os.ReadFile(filepath.Join(dir, "escrowctl_shift_check.prom"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{`escrowctl_shift_check_status{check="grafana"} 2`, `escrowctl_shift_check_status{check="database"} 3`, `escrowctl_shift_check_counts_as{check="database"} 3`} {
		if !bytes.Contains(text, []byte(line+"\n")) {
			t.Errorf("no line %s in\n%s", line, text)
		}
	}
	// What was handed over is a person's.
	st, err := state.Open("state", state.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	var m health.Handover
	if _, err := st.Load(shiftDoc, &m); err != nil || !strings.HasPrefix(m.By, "alice@") || m.Latest == nil || len(m.Latest.Items) == 0 {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestShiftPostFails: what was asked for and not delivered is no success.
func TestShiftPostFails(t *testing.T) {
	sink := testenv.NewSink(t)
	sink.SetStatus("webhook", 404)
	inv := invoke(t, deadEnv("BACKUP_ALERT_WEBHOOK="+sink.WebhookURL())...)
	recordRun(t, "state", "dr-test", "ok", testNow().Add(-time.Hour), map[string]any{"name": "b"}, nil)
	if code := inv.run(t, "shift-check", "--only", "dr-test", "--post"); code != 1 || !strings.Contains(inv.errs.String(), "report not delivered") || !strings.Contains(inv.out.String(), "OK  1 ok of 1 check") {
		t.Errorf("exit %d: %s%s", code, &inv.out, &inv.errs)
	}
}

// screen is a terminal that can be read while it is written to.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// TestShiftWatch: it checks again and again until it is interrupted, on a screen
// of few lines, and only the first check is kept.
func TestShiftWatch(t *testing.T) {
	inv := invoke(t, deadEnv()...)
	var out screen
	inv.io.Out, inv.io.OutTTY, inv.io.Width, inv.io.Height = &out, true, 80, 10
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	code := make(chan int, 1)
	go func() { code <- inv.Run(ctx, []string{"shift-check", "--watch", "--every", "1s"}) }()
	const clear = "\x1b[H\x1b[2J"
	for end := time.Now().Add(patience); strings.Count(out.String(), clear) < 3; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not three times: %q, %s", out.String(), &inv.errs)
		}
	}
	cancel(&Interrupted{Signal: 2})
	if got := <-code; got != 130 {
		t.Errorf("exit %d: %s", got, &inv.errs)
	}
	screens := strings.Split(out.String(), clear)[1:]
	for _, s := range screens[:2] {
		if n := strings.Count(s, "\n"); n != 9 || !strings.Contains(s, " more, the gravest ") || !strings.Contains(s, "\nagain in 1s, Ctrl-C ends\n") {
			t.Errorf("%d lines on a screen of 10:\n%s", n, s)
		}
		for line := range strings.Lines(s) {
			if len([]rune(strings.TrimSpace(line))) > 80 {
				t.Errorf("wider than the screen: %s", line)
			}
		}
	}
	st, err := state.Open("state", state.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if runs, err := st.Runs(shiftJob, 0); err != nil || len(runs) != 1 {
		t.Errorf("%d checks in the history, %v", len(runs), err)
	}
}
