package postgres

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"time"
)

// DumpOptions are pg_dump's for both dumpers.
type DumpOptions struct {
	// LockTimeout is how long pg_dump waits for the locks on all tables at its
	// start (--lock-wait-timeout); 0 waits for ever.
	LockTimeout time.Duration
}

func (o DumpOptions) dumpArgs(snapshot string) []string {
	args := []string{"--format=plain", "--no-password"}
	if o.LockTimeout > 0 {
		args = append(args, fmt.Sprintf("--lock-wait-timeout=%d", max(o.LockTimeout.Milliseconds(), 1)))
	}
	if snapshot != "" {
		args = append(args, "--snapshot="+snapshot)
	}
	return args
}

// globalsArgs name the database to connect to, because pg_dumpall does not heed
// PGDATABASE and would go to postgres, where the role may not be let in. Names
// that libpq might take for more than a name are left out.
func (o DumpOptions) globalsArgs(database string) []string {
	args := []string{"--globals-only", "--no-role-passwords", "--no-password"}
	if o.LockTimeout > 0 {
		args = append(args, fmt.Sprintf("--lock-wait-timeout=%d", max(o.LockTimeout.Milliseconds(), 1)))
	}
	if database != "" && !strings.ContainsAny(database, "=:/ '\\") {
		args = append(args, "--database="+database)
	}
	return args
}

// stderrTail is how much of a tool's standard error an error keeps, in bytes.
const stderrTail = 4 << 10

// ToolError is a PostgreSQL program that failed.
type ToolError struct {
	Tool     string // pg_dump, pg_dumpall
	ExitCode int    // -1 if a signal ended it
	Stderr   string // the last 4 KiB, without the password
}

// Error is one line: what the program said first, and the way out if known.
func (e *ToolError) Error() string {
	text := fmt.Sprintf("%s: exit status %d", e.Tool, e.ExitCode)
	if e.ExitCode < 0 {
		text = e.Tool + ": ended by a signal"
	}
	lines := messages(e.Stderr)
	if len(lines) == 0 {
		return text
	}
	const shown = 3 // error, detail, query
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, e.Tool+": ")
	}
	text += ": " + strings.Join(lines[:min(len(lines), shown)], "; ")
	for _, k := range []struct{ part, remedy string }{
		{"row-level security", "dump as a role with BYPASSRLS, or as the owner"},
		{"permission denied", "dump as the database's owner or a superuser, or GRANT pg_read_all_data"},
		{"due to statement timeout", "another session holds a lock on that table: see pg_locks, or raise dump.lock_timeout"},
		{"server version mismatch", "install the server's version of the PostgreSQL client, or set dump.via: container"},
		{"No space left on device", "free disk space"},
	} {
		if strings.Contains(e.Stderr, k.part) {
			return text + ": " + k.remedy
		}
	}
	return text
}

// messages are the non-empty lines, errors before warnings.
func messages(stderr string) []string {
	var errs, rest []string
	for _, line := range strings.Split(stderr, "\n") {
		switch line = strings.TrimSpace(line); {
		case line == "":
		case len(errs) > 0 || strings.Contains(line, "error:") || strings.Contains(line, "fatal:"):
			errs = append(errs, line)
		default:
			rest = append(rest, line)
		}
	}
	return append(errs, rest...)
}

// stderrBuffer keeps the end of a program's standard error, whole lines.
type stderrBuffer struct {
	mu  sync.Mutex
	buf []byte
	cut bool
}

func (b *stderrBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf = append(b.buf, p...)
	if over := len(b.buf) - stderrTail; over > 0 {
		b.buf = append(b.buf[:0], b.buf[over:]...)
		b.cut = true
	}
	return len(p), nil
}

// text is what was kept, without the secret.
func (b *stderrBuffer) text(secret string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := b.buf
	if b.cut { // the first line is only the end of one, perhaps of the secret
		if _, after, ok := bytes.Cut(kept, []byte("\n")); ok {
			kept = after
		}
	}
	text := strings.TrimSpace(string(kept))
	if secret != "" {
		text = strings.ReplaceAll(text, secret, "xxxxx")
	}
	return text
}

// warnings collects what programs wrote although they succeeded. Its zero value
// is ready.
type warnings struct {
	mu    sync.Mutex
	lines []string
}

func (w *warnings) add(stderr string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, messages(stderr)...)
}

// Warnings are the lines that successful runs left on standard error.
func (w *warnings) Warnings() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.lines...)
}
