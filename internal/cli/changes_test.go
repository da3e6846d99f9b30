package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/runbook"
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

// TestChangesNeedTheirApprovals: of every type of the runbook each approval and
// each step is asked for, and what lacks one is refused, or noted and marked.
func TestChangesNeedTheirApprovals(t *testing.T) {
	inv := invoke(t)
	seq := 0
	add := func(code int, says string, c runbook.Change, approvers, steps []string, more ...string) {
		t.Helper()
		args := append([]string{"changes", "add", "--type", c.Name, "--summary", "x"}, more...)
		for i, role := range approvers {
			args = append(args, "--approved-by", fmt.Sprintf("%s=person %d", role, i))
		}
		for _, s := range steps {
			args = append(args, "--done", s)
		}
		if got := inv.again(t, args...); got != code || !strings.Contains(inv.out.String()+inv.errs.String(), says) {
			t.Errorf("%q: exit %d, want %d, %q: %s%s", args, got, code, says, &inv.out, &inv.errs)
		}
		if code < 3 && !slices.Contains(more, "--dry-run") {
			seq++
		}
	}
	without := func(list []string, i int) []string { return slices.Delete(slices.Clone(list), i, i+1) }
	for _, c := range runbook.Changes() {
		if len(c.Approvers) == 0 || len(c.Steps) == 0 {
			t.Fatalf("%s needs nothing", c.Name)
		}
		add(3, "lacks: approval of the "+c.Approvers[0], c, nil, nil)
		for i, role := range c.Approvers {
			add(3, "lacks: approval of the "+role+": get", c, without(c.Approvers, i), c.Steps)
		}
		for i, step := range c.Steps {
			add(3, "lacks: step: "+step+": get", c, c.Approvers, without(c.Steps, i))
			add(1, "lacking: step: "+step, c, c.Approvers, without(c.Steps, i), "--incomplete")
			if inv.again(t, "changes", "show", fmt.Sprint(seq)); !strings.Contains(inv.out.String(), "lacking       step: "+step+"\n") {
				t.Errorf("%s: it is not marked: %s", c.Name, &inv.out)
			}
			if inv.again(t, "changes", "list", "--limit", "1"); !strings.Contains(inv.out.String(), "ok, INCOMPLETE") {
				t.Errorf("%s: it is not marked: %s", c.Name, &inv.out)
			}
		}
		add(0, "lacking: nothing", c, c.Approvers, c.Steps, "--dry-run")
		add(0, "lacking: nothing", c, c.Approvers, c.Steps)
		if inv.again(t, "changes", "list", "--limit", "1"); strings.Contains(inv.out.String(), "INCOMPLETE") {
			t.Errorf("%s: it is marked and lacks nothing: %s", c.Name, &inv.out)
		}
		if len(c.Approvers) > 1 { // one person is not two
			one := []string{"changes", "add", "--type", c.Name, "--summary", "x", "--approved-by", c.Approvers[0] + "=Ada", "--approved-by", c.Approvers[1] + "= ada"}
			for _, s := range c.Steps {
				one = append(one, "--done", s)
			}
			if code := inv.again(t, one...); code != 3 || !strings.Contains(inv.errs.String(), "by another person than the") {
				t.Errorf("%s: exit %d: %s", c.Name, code, &inv.errs)
			}
		}
	}
	if code := inv.again(t, "changes", "verify"); code != 0 || !strings.Contains(inv.out.String(), fmt.Sprintf("%d entries", seq)) || seq < 10 {
		t.Errorf("exit %d after %d changes: %s%s", code, seq, &inv.out, &inv.errs)
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
	verify := func(code int, want string) {
		t.Helper()
		inv.out.Reset()
		if got := inv.run(t, "changes", "verify"); got != code || !strings.Contains(inv.out.String(), want) {
			t.Errorf("exit %d, want %d and %q: %s%s", got, code, want, &inv.out, &inv.errs)
		}
	}
	verify(0, "3 entries")

	// The journal is replaced as a whole, with its head, by a shorter one.
	dir := filepath.Join(mustGetwd(t), "state", "journal")
	if err := os.Rename(dir, dir+".kept"); err != nil {
		t.Fatal(err)
	}
	verify(2, "as number 1 to 3: the journal was edited or replaced")
	if code := inv.run(t, "changes", "add", "--type", "app", "--summary", "y", "--incomplete"); code != 1 {
		t.Fatalf("exit %d: %s", code, &inv.errs)
	}
	verify(2, "as number 1 to 3: the journal was edited or replaced")
	if objects, _ := filepath.Glob(filepath.Join(bucket, "later", "there", "*-000001-*.json")); len(objects) != 2 {
		t.Errorf("the other journal is not mirrored: %q", objects)
	}
	if err := errors.Join(os.RemoveAll(dir), os.Rename(dir+".kept", dir)); err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if strings.Contains(o, "-000003-") {
			if err := os.Remove(o); err != nil {
				t.Fatal(err)
			}
		}
	}
	verify(2, "as number 1:") // what the other journal left is never forgotten
	for _, o := range objects {
		_ = os.Remove(o)
	}
	others, _ := filepath.Glob(filepath.Join(bucket, "later", "there", "*-000001-*.json"))
	for _, o := range others {
		_ = os.Remove(o)
	}
	verify(1, "the bucket has no copy of number 1 to 3")
	if err := os.RemoveAll(filepath.Join(bucket, "later")); err != nil {
		t.Fatal(err)
	}
	write(t, blocked, "")
	verify(3, "it is not compared with the bucket")
}

func mustGetwd(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
