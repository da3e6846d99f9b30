package health

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
)

// want is what a check must find.
type want struct {
	status check.Status
	says   string // part of the summary, or of the details
	alert  string
	action string // part of the next command
}

// testLimit is the limit of a check of which a part hangs: short, as it is waited
// for, and yet long enough for the other parts on a busy machine.
const testLimit = 3 * time.Second

// busy is what a busy machine may add to a limit. That the limits do not add up
// shows beyond it, for what hangs in these tests hangs for ever.
const busy = 20 * time.Second

// look runs one check as shift-check does.
func look(t *testing.T, p check.Probe) check.Result {
	t.Helper()
	start := time.Now()
	r := check.Run(t.Context(), []check.Probe{p})[0]
	if took := time.Since(start); took > p.Limit+busy {
		t.Errorf("%s took %s, its limit is %s", p.ID, took, p.Limit)
	}
	return r
}

// lookUntil looks until the summary says so: a session that has been closed holds
// its place for a moment. The last look is returned in any case.
func lookUntil(t *testing.T, p check.Probe, says string) check.Result {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if r := look(t, p); strings.Contains(r.Summary, says) || time.Now().After(end) {
			return r
		}
	}
}

func (w want) check(t *testing.T, r check.Result) {
	t.Helper()
	said := strings.Join(append([]string{r.Summary}, r.Detail...), "\n")
	if r.Status != w.status || r.Alert != w.alert || !strings.Contains(said, w.says) || !strings.Contains(r.Action, w.action) {
		t.Errorf("got %s, alert %q, next %q:\n%s\nwant %s, alert %q, next %q: ...%s...", r.Status, r.Alert, r.Action, said, w.status, w.alert, w.action, w.says)
	}
	if r.Status != check.OK && r.Summary == "" {
		t.Error("nothing is said")
	}
	if strings.ContainsAny(said, "\x1b\x00") {
		t.Errorf("bytes of a service on the terminal: %q", said)
	}
}

// figure returns a figure of a result.
func figure(t *testing.T, r check.Result, name string) float64 {
	t.Helper()
	for _, f := range r.Figures {
		if f.Name == name {
			return f.Value
		}
	}
	t.Errorf("%s: no figure %s in %+v", r.ID, name, r.Figures)
	return 0
}

// memory is a Memory for one test.
type memory struct {
	load func(v any) (bool, error)
	save func(v any) error
}

func (m memory) Load(_ string, v any) (bool, error) { return m.load(v) }
func (m memory) Save(_ string, v any) error         { return m.save(v) }

// fixedAge is an EventAge that answers so.
func fixedAge(age time.Duration, found bool, err error) func(context.Context) (time.Duration, bool, error) {
	return func(context.Context) (time.Duration, bool, error) { return age, found, err }
}
