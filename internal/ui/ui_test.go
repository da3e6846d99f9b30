package ui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock is a clock that tests move.
type clock struct{ now time.Time }

func newClock() *clock {
	return &clock{time.Date(2026, 1, 2, 3, 0, 0, 0, time.FixedZone("CET", 3600))}
}

func (c *clock) tick(d time.Duration) { c.now = c.now.Add(d) }

func streams(c *clock) (s *IO, out, err *bytes.Buffer) {
	out, err = new(bytes.Buffer), new(bytes.Buffer)
	return &IO{Out: out, Err: err, Now: func() time.Time { return c.now }}, out, err
}

func TestLogLines(t *testing.T) {
	s, out, errs := streams(newClock())
	s.Log("read %s", "a\nb\x1b[2J")
	s.Debug("not shown")
	s.Verbose = true
	s.Debug("shown")
	s.Scrub = func(text string) string { return strings.ReplaceAll(text, "hunter2", "sha256:f52fbd32") }
	s.Warn("password is %s", "hunter2")
	s.Quiet = true
	s.Log("not shown")
	s.Debug("not shown")
	s.Warn("still shown")
	s.Line("critical: so is this")
	want := `2026-01-02T02:00:00Z read a | b\u001b[2J
2026-01-02T02:00:00Z debug: shown
2026-01-02T02:00:00Z warning: password is sha256:f52fbd32
2026-01-02T02:00:00Z warning: still shown
2026-01-02T02:00:00Z critical: so is this
`
	if errs.String() != want {
		t.Errorf("got\n%s\nwant\n%s", errs, want)
	}
	if out.Len() > 0 {
		t.Errorf("stdout holds %q", out)
	}
	errs.Reset()
	s.ErrTTY, s.Quiet = true, false
	s.Log("on a terminal")
	if got := errs.String(); got != "on a terminal\n" {
		t.Errorf("on a terminal: %q", got)
	}
}

func TestPaint(t *testing.T) {
	s := &IO{}
	if got := s.Paint("ok", "OK"); got != "OK" {
		t.Errorf("colour where there is none: %q", got)
	}
	s.Color = true
	for status, want := range map[string]string{"ok": "\x1b[32mx\x1b[0m", "critical": "\x1b[31mx\x1b[0m", "unknown": "\x1b[35mx\x1b[0m", "nonsense": "x"} {
		if got := s.Paint(status, "x"); got != want {
			t.Errorf("Paint(%s) = %q, want %q", status, got, want)
		}
	}
}

func TestProgressOffTerminal(t *testing.T) {
	c := newClock()
	s, _, errs := streams(c)
	p := s.Progress("verifying x")
	for i := range int64(100) {
		p.Set(i<<20, 200<<20, Bytes)
		c.tick(time.Second)
	}
	p.Set(200<<20, 200<<20, Bytes)
	p.Done()
	p.Done()
	p.Set(1, 2, Bytes)
	want := `2026-01-02T02:00:00Z verifying x
2026-01-02T02:00:30Z verifying x: 30.0 MiB of 200.0 MiB (15 %), 1.0 MiB/s, 2m 50s left
2026-01-02T02:01:00Z verifying x: 60.0 MiB of 200.0 MiB (30 %), 1.0 MiB/s, 2m 20s left
2026-01-02T02:01:30Z verifying x: 90.0 MiB of 200.0 MiB (45 %), 1.0 MiB/s, 1m 50s left
2026-01-02T02:01:40Z verifying x: 200.0 MiB in 1m 40s, 2.0 MiB/s
`
	if errs.String() != want {
		t.Errorf("got\n%s\nwant\n%s", errs, want)
	}
}

func TestProgressCutShort(t *testing.T) {
	c := newClock()
	s, _, errs := streams(c)
	never := s.Progress("never begun")
	never.Done()
	p := s.Progress("loading")
	p.Set(0, 1000, Count)
	c.tick(2 * time.Second)
	p.Set(400, 1000, Count)
	p.Done()
	want := "2026-01-02T02:00:00Z loading\n2026-01-02T02:00:02Z loading: ended at 400 of 1,000 after 2.0s, 200/s\n"
	if errs.String() != want {
		t.Errorf("got\n%s\nwant\n%s", errs, want)
	}
}

func TestProgressQuiet(t *testing.T) {
	for _, tty := range []bool{false, true} {
		c := newClock()
		s, _, errs := streams(c)
		s.Quiet, s.ErrTTY = true, tty
		p := s.Progress("loading")
		for i := range int64(10) {
			p.Set(i, 10, Count)
			c.tick(time.Minute)
		}
		p.Done()
		if errs.Len() > 0 {
			t.Errorf("terminal %v: %q", tty, errs)
		}
	}
}

func TestProgressOnTerminal(t *testing.T) {
	c := newClock()
	s, _, errs := streams(c)
	s.ErrTTY, s.Width = true, 64
	p := s.Progress("verifying stellar_escrow_20260101T020000Z.sql.gz")
	p.Set(0, 100<<20, Bytes)
	for i := range int64(100) {
		c.tick(10 * time.Millisecond)
		p.Set(i<<20, 100<<20, Bytes)
	}
	if n := strings.Count(errs.String(), eraseLine); n != 6 {
		t.Errorf("drawn %d times in a second, want 6: %q", n, errs)
	}
	drawn := strings.Split(errs.String(), eraseLine)
	for _, line := range drawn {
		if columns(line) > 63 || strings.Contains(line, "\n") {
			t.Errorf("%d columns, wraps on 64: %q", columns(line), line)
		}
	}
	if last := drawn[len(drawn)-1]; !strings.HasSuffix(last, "99.0 MiB of 100.0 MiB (99 %), 99.0 MiB/s, 1s left") {
		t.Errorf("the figures are cut: %q", last)
	}

	errs.Reset()
	s.Warn("between")
	if got := errs.String(); !strings.HasPrefix(got, eraseLine+"warning: between\n") || !strings.HasSuffix(got, " left") {
		t.Errorf("a line among the animation: %q", got)
	}
	errs.Reset()
	p.Done()
	s.Log("after")
	if got := errs.String(); got != eraseLine+"after\n" {
		t.Errorf("after the end: %q", got)
	}
}

func TestConcurrentUse(t *testing.T) {
	c := newClock()
	s, _, errs := streams(c)
	p := s.Progress("dumping")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range int64(200) {
				s.Log("line")
				p.Set(i, 0, Bytes)
			}
		})
	}
	wg.Wait()
	p.Done()
	if n := strings.Count(errs.String(), "\n"); n != 802 {
		t.Errorf("%d lines, want 802", n)
	}
}

func TestJSON(t *testing.T) {
	s, out, _ := streams(newClock())
	hostile := "a<b>\u009b31m\u202e\x7f\U000e0041\n"
	err := s.JSON(struct {
		SchemaVersion int    `json:"schema_version"`
		Name          string `json:"name"`
	}{1, hostile})
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "schema_version": 1,
  "name": "a<b>\u009b31m\u202e\u007f\udb40\udc41\n"
}
`
	if out.String() != want {
		t.Errorf("got %s\nwant %s", out, want)
	}
	var back struct{ Name string }
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back.Name != hostile {
		t.Errorf("read back %q, %v", back.Name, err)
	}
	if err := s.JSON(Document("x", 1)); err == nil || strings.Count(out.String(), "schema_version") != 1 {
		t.Errorf("a second document on stdout: %v", err)
	}
	if !s.Documented() {
		t.Error("Documented() = false")
	}
}

func TestJSONDemandsItsVersionFirst(t *testing.T) {
	for _, v := range []any{
		map[string]any{"alerts": 1, "schema_version": 1}, []int{1}, "x", nil, struct{}{},
		struct {
			Name    string `json:"name"`
			Version int    `json:"schema_version"`
		}{"x", 1},
	} {
		s, out, _ := streams(newClock())
		if err := s.JSON(v); err == nil || out.Len() > 0 || s.Documented() {
			t.Errorf("JSON(%v) = %v, wrote %q", v, err, out)
		}
	}
	s, out, _ := streams(newClock())
	if err := s.JSON(Document("alerts", []string{"x"})); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintln("{\n  \"schema_version\": 1,\n  \"alerts\": [\n    \"x\"\n  ]\n}"); out.String() != want {
		t.Errorf("got %s", out)
	}
}
