package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestChanges(t *testing.T) {
	inv := invoke(t)
	state := filepath.Join(mustGetwd(t), "state")
	run := func(code int, args ...string) string {
		t.Helper()
		inv.out.Reset()
		inv.errs.Reset()
		if got := inv.run(t, args...); got != code {
			t.Fatalf("%q: exit %d, want %d: %s%s", args, got, code, &inv.out, &inv.errs)
		}
		return inv.out.String() + inv.errs.String()
	}
	if out := run(0, "changes", "list"); !strings.Contains(out, "no change is in the journal") {
		t.Errorf("it says %s", out)
	}
	if out := run(3, "changes", "add", "--type", "contract", "--summary", "v2", "--approved-by", "CTO=Ada"); !strings.Contains(out, "lacks: approval of the platform lead; step: audit required") {
		t.Errorf("it says %s", out)
	}
	run(1, "changes", "add", "--type", "contract", "--summary", "v2", "--approved-by", "CTO=Ada", "--incomplete")
	run(0, "changes", "add", "--type", "conf", "--summary", "LOG_LEVEL", "--approved-by", "on-call lead=Ada",
		"--done", "update .env", "--done", "rolling restart", "--done", "verify health checks", "--why", "noise")
	run(3, "changes", "add", "--type", "con", "--summary", "either")
	run(3, "changes", "add", "--type", "app", "--summary", "x", "--approved-by", "nobody")
	if out := run(0, "changes", "show", "1"); !strings.Contains(out, "lacking       approval of the platform lead; step: audit required") {
		t.Errorf("it says %s", out)
	}
	run(3, "changes", "show", "9")
	if out := run(0, "changes", "list", "--type", "config"); strings.Contains(out, "contract") || !strings.Contains(out, "LOG_LEVEL") {
		t.Errorf("it says %s", out)
	}
	if out := run(0, "changes", "export", "--format", "csv", "--since", "2026-01-01"); strings.Count(out, "\n") != 3 {
		t.Errorf("it says %s", out)
	}
	run(0, "changes", "verify")
	file := filepath.Join(state, "journal", "changes.jsonl")
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(body), "v2", "v3", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(2, "changes", "verify"); !strings.Contains(out, "line 1: entry 1 was edited") {
		t.Errorf("it says %s", out)
	}
}

// TestMirror: every entry is in the bucket once, also one that did not get there
// the first time.
func TestMirror(t *testing.T) {
	bucket := t.TempDir()
	inv := invoke(t, "S3_BUCKET=file://"+bucket+"/later/there", "ESCROWCTL_JOURNAL_MIRROR=true")
	blocked := filepath.Join(bucket, "later")
	write(t, blocked, "")
	for i := range 3 {
		if i == 1 {
			if err := os.Remove(blocked); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(inv.errs.String(), "the journal is not mirrored") {
				t.Errorf("it said %s", &inv.errs)
			}
		}
		if code := inv.run(t, "changes", "add", "--type", "app", "--summary", "x", "--incomplete"); code != 1 {
			t.Fatalf("exit %d: %s", code, &inv.errs)
		}
	}
	objects, err := filepath.Glob(filepath.Join(bucket, "later", "there", "escrowctl-change-*.json"))
	if err != nil || len(objects) != 3 {
		t.Errorf("the bucket has %q, %v; said %s", objects, err, &inv.errs)
	}
}

func mustGetwd(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
