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

// look runs one check as shift-check does.
func look(t *testing.T, p check.Probe) check.Result {
	t.Helper()
	start := time.Now()
	r := check.Run(t.Context(), []check.Probe{p})[0]
	limit := p.Limit + 500*time.Millisecond
	if took := time.Since(start); took > limit {
		t.Errorf("%s took %s, which is more than its limit and 0.5 s", p.ID, took)
	}
	return r
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
