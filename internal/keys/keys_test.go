package keys

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stellarescrow/escrowctl/internal/envfile"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/secret"
	"github.com/stellarescrow/escrowctl/internal/state"
)

const original = "# keys\nexport API_KEYS=\"old-one, old-two\" # web\r\nB=2"

// disk is a service whose container is a file, so that it outlives a process
// that is killed, with the steps of a recreate between which that can happen.
// The real thing is tested in internal/cli.
type disk struct {
	dir  string
	step func(string)
	// broken makes a fresh container deaf, wrong makes it take no key.
	broken, wrong bool
}

func (d *disk) live() string { return filepath.Join(d.dir, "live") }

func (d *disk) Name() string { return "api" }

func (d *disk) Drift(context.Context) ([]string, error) { return nil, nil }

func (d *disk) Live(context.Context) ([]Live, error) {
	body, err := os.ReadFile(d.live())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return []Live{{ID: "1", Name: "api_1", State: "running", Value: secret.New(string(body))}}, err
}

func (d *disk) Recreate(context.Context) error {
	f, err := envfile.Read(filepath.Join(d.dir, ".env"))
	if err != nil {
		return err
	}
	value, err := f.Get("API_KEYS")
	if err != nil {
		return err
	}
	d.step("remove container")
	if err := os.Remove(d.live()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	d.step("make container")
	return os.WriteFile(d.live(), []byte(value), 0o600)
}

func (d *disk) Probe(_ context.Context, key string) (int, error) {
	body, err := os.ReadFile(d.live())
	old := strings.Contains(string(body), "old-one") && !strings.Contains(string(body), ",")
	if err != nil || d.broken && !old && len(parseKeys(string(body))) != 2 {
		return 0, errors.New("connection refused")
	}
	if d.wrong && len(parseKeys(string(body))) != 2 && key != "" {
		return 401, nil
	}
	for _, k := range parseKeys(string(body)) {
		if k.Reveal() == key {
			return 200, nil
		}
	}
	return 401, nil
}

type bed struct {
	*Rotator
	disk *disk
	dir  string
	now  time.Time
}

func openBed(dir string, now time.Time, step func(string)) (*bed, error) {
	st, err := state.Open(filepath.Join(dir, "state"), state.Options{})
	if err != nil {
		return nil, err
	}
	d := &disk{dir: dir, step: step}
	b := &bed{disk: d, dir: dir, now: now}
	b.Rotator = &Rotator{
		Secret: "API_KEYS", EnvFile: filepath.Join(dir, ".env"), Docs: st, Service: d, Prober: d,
		Editor: envfile.Editor{Step: step}, Step: step, Now: func() time.Time { return b.now }, Who: "alice@host", Timeout: time.Minute,
	}
	return b, nil
}

var start = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func newBed(t *testing.T) *bed {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{".env": original, "live": "old-one, old-two"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := openBed(dir, start, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// reach brings the rotation to where the action begins, and returns the new key.
func (b *bed) reachBefore(t *testing.T, do Action) string {
	t.Helper()
	_, fresh, err := b.Start(Plan{Emergency: do == Emergency})
	if err == nil {
		_, err = b.HandedOut()
	}
	if err == nil && do != Emergency {
		_, err = b.Notify(start.Add(runbook.RotationNotice), "", func() error { return nil })
	}
	if err == nil && (do == Retire || do == Rollback) {
		_, _, err = b.Do(t.Context(), Activate, "")
		b.now = start.Add(runbook.RotationNotice)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fresh[0].Reveal()
}

func (b *bed) env(t *testing.T) string {
	t.Helper()
	body, err := os.ReadFile(b.EnvFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// holds are the file's bytes for the keys that the action leaves.
func holds(do Action, fresh string) string {
	value := map[Action]string{Activate: "old-one,old-two," + fresh, Retire: fresh, Emergency: fresh, Rollback: "old-one, old-two"}[do]
	return strings.Replace(original, "old-one, old-two", value, 1)
}

// agree sees that file, container and record say the same.
func (b *bed) agree(t *testing.T, what string, do Action, fresh string) {
	t.Helper()
	if got := b.env(t); got != holds(do, fresh) {
		t.Errorf("%s: .env is\n%q, want\n%q", what, got, holds(do, fresh))
	}
	lives, err := b.disk.Live(t.Context())
	file, ferr := b.inFile()
	if err != nil || ferr != nil || !loaded(lives, file) {
		t.Errorf("%s: the container does not hold what the file does: %v %v", what, err, ferr)
	}
	rot, _, err := b.Current()
	want := map[Action]Stage{Activate: Verified, Retire: Retired, Emergency: Retired, Rollback: RolledBack}[do]
	if err != nil || rot.Stage != want || rot.Doing != "" {
		t.Errorf("%s: the record says %s %q, %v", what, rot.Stage, rot.Doing, err)
	}
	left, _ := filepath.Glob(filepath.Join(b.dir, ".*escrowctl*"))
	if rot.Stage.Ended() != (len(left) == 0) {
		t.Errorf("%s: beside .env lies %q and the rotation is %s", what, left, rot.Stage)
	}
}

// TestFailures: a service that is deaf or takes no key puts back what was
// before, in every action.
func TestFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testFailures) // whose clock waits for the disk
}

func testFailures(t *testing.T) {
	for _, do := range []Action{Activate, Emergency} {
		for _, how := range []string{"broken", "wrong"} {
			b := newBed(t)
			fresh := b.reachBefore(t, do)
			b.disk.broken, b.disk.wrong = how == "broken", how == "wrong"
			_, _, err := b.Do(t.Context(), do, "")
			var failed *FailedError
			if !errors.As(err, &failed) || failed.Undo != nil {
				t.Errorf("%s, %s: %v", do, how, err)
			}
			if got := b.env(t); got != original {
				t.Errorf("%s, %s: .env is %q", do, how, got)
			}
			rot, _, _ := b.Current()
			if want := map[Action]Stage{Activate: Notified, Emergency: RolledBack}[do]; rot.Stage != want || rot.Doing != "" {
				t.Errorf("%s, %s: %s %q", do, how, rot.Stage, rot.Doing)
			}
			b.disk.broken, b.disk.wrong = false, false
			if do == Activate {
				if _, _, err := b.Do(t.Context(), do, ""); err != nil {
					t.Error(err)
				}
				b.agree(t, "after it was mended", do, fresh)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ctx := t.Context()
	if _, _, err := b.Do(ctx, Activate, ""); !errors.Is(err, ErrNone) {
		t.Errorf("activate without a rotation: %v", err)
	}
	fresh := b.reachBefore(t, Activate)
	if _, _, err := b.Start(Plan{}); !errors.Is(err, ErrRunning) {
		t.Errorf("a second one: %v", err)
	}
	if _, _, err := b.Do(ctx, Retire, ""); !errors.Is(err, ErrTooEarly) {
		t.Errorf("retire before activate: %v", err)
	}
	// Somebody edits the value by hand.
	foreign := strings.Replace(original, "old-two", "mine", 1)
	if err := os.WriteFile(b.EnvFile, []byte(foreign), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, do := range []Action{Activate, Rollback} {
		if _, _, err := b.Do(ctx, do, ""); !errors.Is(err, ErrForeign) || strings.Contains(err.Error(), "mine") {
			t.Errorf("%s over a foreign value: %v", do, err)
		}
	}
	if b.env(t) != foreign {
		t.Error("it was overwritten")
	}
	if err := os.WriteFile(b.EnvFile, []byte(original), 0o600); err != nil {
		t.Fatal(err)
	}
	// A path that needs no key proves nothing.
	b.Prober = open{}
	if _, _, err := b.Do(ctx, Activate, ""); !errors.Is(err, ErrUnprovable) || b.env(t) != original {
		t.Errorf("activate on an open path: %v", err)
	}
	b.Prober = b.disk
	if _, _, err := b.Do(ctx, Activate, ""); err != nil {
		t.Fatal(err)
	}
	b.agree(t, "activate", Activate, fresh)
	b.now = start.Add(runbook.RotationNotice - time.Second)
	if _, _, err := b.Do(ctx, Retire, ""); !errors.Is(err, ErrTooEarly) {
		t.Errorf("retire a second before the notice is over: %v", err)
	}
	if _, err := b.Cancel("", false); err == nil {
		t.Error("cancelled with keys in force")
	}
	if _, err := b.Cancel("", true); err != nil {
		t.Error(err)
	}
}

// open answers everybody.
type open struct{}

func (open) Probe(context.Context, string) (int, error) { return 200, nil }

// TestNoSecretIsRemembered looks into the state directory after each stage.
func TestNoSecretIsRemembered(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	fresh := b.reachBefore(t, Retire)
	if _, _, err := b.Do(t.Context(), Retire, ""); err != nil {
		t.Fatal(err)
	}
	files := 0
	err := filepath.Walk(filepath.Join(b.dir, "state"), func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		files++
		body, err := os.ReadFile(path)
		for _, s := range []string{fresh, "old-one", "old-two"} {
			if strings.Contains(string(body), s) {
				t.Errorf("a key in %s", path)
			}
		}
		return err
	})
	if err != nil || files < 2 {
		t.Errorf("%d files, %v", files, err)
	}
}

func TestDue(t *testing.T) {
	t.Parallel()
	last := map[string]Rotated{
		"API_KEYS":          {At: start.Add(-runbook.Quarter - time.Hour)},
		"POSTGRES_PASSWORD": {At: start.Add(-10 * runbook.Day)},
	}
	due := Due(start, last)
	if len(due) != len(runbook.Secrets()) || due[0].Secret != "API_KEYS" || !due[0].Overdue() || due[1].Secret != "POSTGRES_PASSWORD" || due[1].Overdue() || due[2].Known() {
		t.Errorf("%+v", due)
	}
	if due[1].Left != 356*runbook.Day {
		t.Errorf("%s left", due[1].Left)
	}
	text := string(Calendar(start, due))
	for _, want := range []string{
		"DTSTART;VALUE=DATE:20260501\r\n", "SUMMARY:Rotate API_KEYS\r\n", "TRIGGER:-P7D\r\n",
		"DESCRIPTION:quarterly (escrowctl rotate-keys start API_KEYS)\\, last on 2026\r\n -01-29\r\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Count(text, "BEGIN:VEVENT") != 2 {
		t.Error("not two events")
	}
	calendar(t, text)
}

// calendar reads a file as RFC 5545 wants it: lines of at most 75 bytes that end
// with CR LF, folded by a blank, each NAME[;PARAMETER]:VALUE, in components that
// are closed in order and have what they must.
func calendar(t *testing.T, text string) {
	t.Helper()
	if strings.Count(text, "\n") != strings.Count(text, "\r\n") || !strings.HasSuffix(text, "\r\n") || !utf8.ValidString(text) {
		t.Error("a line that does not end with CR LF")
	}
	for line := range strings.SplitSeq(text, "\r\n") {
		if len(line) > 75 {
			t.Errorf("%d bytes: %q", len(line), line)
		}
	}
	must := map[string][]string{"VCALENDAR": {"VERSION", "PRODID"}, "VEVENT": {"UID", "DTSTAMP", "DTSTART"}, "VALARM": {"ACTION", "TRIGGER", "DESCRIPTION"}}
	var open []string
	var have []map[string]int
	uids := map[string]bool{}
	for line := range strings.SplitSeq(strings.TrimSuffix(strings.ReplaceAll(text, "\r\n ", ""), "\r\n"), "\r\n") {
		name, value, ok := strings.Cut(line, ":")
		name, _, _ = strings.Cut(name, ";")
		switch {
		case !ok || name == "" || name != strings.ToUpper(name):
			t.Errorf("no content line: %q", line)
		case name == "BEGIN":
			open, have = append(open, value), append(have, map[string]int{})
		case name == "END":
			last := len(open) - 1
			if last < 0 || open[last] != value {
				t.Fatalf("%q closes %q", line, open)
			}
			for _, p := range must[value] {
				if have[last][p] != 1 {
					t.Errorf("%s has %d of %s", value, have[last][p], p)
				}
			}
			open, have = open[:last], have[:last]
		default:
			have[len(have)-1][name]++
			if name == "UID" && uids[value] {
				t.Errorf("%s twice", value)
			}
			uids[value] = true
		}
	}
	if len(open) > 0 {
		t.Errorf("not closed: %q", open)
	}
}

func TestRecord(t *testing.T) {
	t.Parallel()
	st, err := state.Open(t.TempDir(), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{start, start.Add(-time.Hour)} { // an older one changes nothing
		if err := Record(st, Rotated{Secret: "API_KEYS", At: at}); err != nil {
			t.Fatal(err)
		}
	}
	last, err := Last(st)
	if err != nil || !last["API_KEYS"].At.Equal(start) || !slices.Equal([]int{len(last)}, []int{1}) {
		t.Errorf("%+v, %v", last, err)
	}
}
