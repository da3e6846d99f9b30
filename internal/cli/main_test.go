package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/ui"
)

// patience is how long a test waits for what takes moments on an idle machine.
const patience = 3 * time.Minute

// testNow is when every test runs.
func testNow() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// invocation is an App whose streams can be read.
type invocation struct {
	*App
	out, errs bytes.Buffer
}

// invoke prepares an invocation in an empty directory with nothing but env. A
// check may take its time, as on a busy machine, unless env says other.
func invoke(t *testing.T, env ...string) *invocation {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	inv := new(invocation)
	env = append([]string{"HOME=" + dir, "ESCROWCTL_STATE_DIR=" + filepath.Join(dir, "state"), "ESCROWCTL_REPORT_API_METRICS=off", "ESCROWCTL_SHIFT_CHECK_TIMEOUT=30s"}, env...)
	inv.App = New(&ui.IO{Out: &inv.out, Err: &inv.errs, Now: testNow}, env, Build{Version: "v1.2.3", Commit: "abc", Date: "2026-01-01T00:00:00Z"})
	return inv
}

func (inv *invocation) run(t *testing.T, args ...string) int {
	t.Helper()
	return inv.Run(t.Context(), args)
}

// write makes a file in the working directory.
func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// interrupted returns a context that a signal has cancelled.
func interrupted(t *testing.T, cause error) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	return ctx
}
