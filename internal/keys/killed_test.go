package keys

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/runbook"
)

const (
	killAt  = "TEST_KEYS_KILL_AT"
	killDo  = "TEST_KEYS_DO"
	killDir = "TEST_KEYS_DIR"
)

// TestMain is also the process that is killed.
func TestMain(m *testing.M) {
	if os.Getenv(killDir) == "" {
		os.Exit(m.Run())
	}
	at, _ := strconv.Atoi(os.Getenv(killAt))
	n := 0
	b, err := openBed(os.Getenv(killDir), start.Add(runbook.RotationNotice), func(string) {
		if n++; n == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	})
	if err == nil {
		err = b.act(context.Background(), os.Getenv(killDo))
	}
	if err != nil {
		panic(err)
	}
}

// act is what the process does that is killed.
func (b *bed) act(ctx context.Context, what string) error {
	switch what {
	case "start":
		return b.start()
	case "notify":
		_, err := b.Notify(b.now.Add(runbook.RotationNotice), "", func() error {
			b.disk.step("tell")
			return os.WriteFile(filepath.Join(b.dir, "told"), nil, 0o600)
		})
		return err
	case "exchange":
		return b.switchTo()
	case "cancel":
		_, err := b.Cancel("", false)
		return err
	case string(postgresLike), string(redisLike):
		_, _, err := b.swapper(kind(what)).Do(ctx, "")
		return err
	}
	_, _, err := b.Do(ctx, Action(what), "")
	return err
}

// dies runs act in a process that is killed before its step at, and returns the
// .env file that it left.
func (b *bed) dies(t *testing.T, act string, at int, what string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killDir+"="+b.dir, killDo+"="+act, killAt+"="+strconv.Itoa(at))
	if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("%s: not killed: %v\n%s", what, err, out)
	}
	return b.env(t)
}

// steps are those of act, which is done on b.
func (b *bed) steps(t *testing.T, act string) []string {
	t.Helper()
	var steps []string
	counted, err := openBed(b.dir, start.Add(runbook.RotationNotice), func(s string) { steps = append(steps, s) })
	if err == nil {
		err = counted.act(t.Context(), act)
	}
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

// TestKilled ends the process before everything that changes something, in every
// action: .env is whole and one of the two versions, and the action is then
// either brought to its end or rolled back.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, do := range []Action{Activate, Retire, Emergency, Rollback} {
		t.Run(string(do), func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.reachBefore(t, do)
			steps := b.steps(t, string(do))
			if len(steps) < 11 {
				t.Fatalf("only the steps %q", steps)
			}
			for i, step := range steps {
				for _, then := range []Action{do, Rollback} {
					killed(t, do, i+1, step, then)
				}
			}
			t.Logf("killed before each of %q", steps)
		})
	}
}

func killed(t *testing.T, do Action, at int, step string, then Action) {
	t.Helper()
	what := fmt.Sprintf("%s killed before %q (%d), then %s", do, step, at, then)
	b := newBed(t)
	fresh := b.reachBefore(t, do)
	was := b.env(t)
	if got := b.dies(t, string(do), at, what); got != was && got != holds(do, fresh) {
		t.Fatalf("%s: .env is neither version: %q", what, got)
	}
	b.now = start.Add(runbook.RotationNotice)
	rot, _, err := b.Current()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	_, _, err = b.Do(t.Context(), then, "")
	if rot.Stage.Ended() { // the kill came after the end
		if !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", what, err)
		}
		b.agree(t, what, do, fresh)
		return
	}
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	b.agree(t, what, then, fresh)
}

// start begins a rotation and gives the key to its consumer.
func (b *bed) start() error {
	_, fresh, err := b.Start(Plan{})
	if err == nil {
		err = b.Editor.Write(filepath.Join(b.dir, "web.key"), []byte(fresh[0].Reveal()))
	}
	if err == nil {
		_, err = b.HandedOut()
	}
	return err
}

// TestKilledAtStart: .env never changes, and a start that goes on gives the
// consumer the key that will be in force, also where it has it already.
func TestKilledAtStart(t *testing.T) {
	t.Parallel()
	steps := newBed(t).steps(t, "start")
	if len(steps) < 15 {
		t.Fatalf("only the steps %q", steps)
	}
	t.Logf("killed before each of %q", steps)
	for i, step := range steps {
		for _, then := range []string{"start", "cancel"} {
			what := fmt.Sprintf("start killed before %q (%d), then %s", step, i+1, then)
			b := newBed(t)
			if got := b.dies(t, "start", i+1, what); got != original {
				t.Fatalf("%s: .env is %q", what, got)
			}
			_, known, err := b.Current()
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if then == "cancel" {
				if err := b.act(t.Context(), then); known && err != nil || !known && !errors.Is(err, ErrNone) {
					t.Errorf("%s: %v", what, err)
				}
				b.nothingLeft(t, what)
				continue
			}
			if err := b.start(); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			rot, _, _ := b.Current()
			v, err := b.versions(rot)
			given, rerr := os.ReadFile(filepath.Join(b.dir, "web.key"))
			if err != nil || rerr != nil || rot.Stage != Planned || rot.Doing != "" || v.new[0].Reveal() != string(given) {
				t.Errorf("%s: %s %q, %v, %v, or the consumer has another key", what, rot.Stage, rot.Doing, err, rerr)
			}
		}
	}
}

// nothingLeft looks for files with keys beside .env.
func (b *bed) nothingLeft(t *testing.T, what string) {
	t.Helper()
	if left, _ := filepath.Glob(filepath.Join(b.dir, ".*env*escrowctl*")); len(left) > 0 {
		t.Errorf("%s: left %q", what, left)
	}
}

// TestStartElsewhere: a rotation that is in somebody else's state directory is
// left alone, and so are its files.
func TestStartElsewhere(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	fresh := b.reachBefore(t, Activate)
	if err := os.Rename(filepath.Join(b.dir, "state"), filepath.Join(b.dir, "theirs")); err != nil {
		t.Fatal(err)
	}
	other, err := openBed(b.dir, start, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := other.Start(Plan{}); !errors.Is(err, ErrForeign) {
		t.Errorf("start over somebody else's: %v", err)
	}
	_ = os.RemoveAll(filepath.Join(b.dir, "state"))
	if err := os.Rename(filepath.Join(b.dir, "theirs"), filepath.Join(b.dir, "state")); err != nil {
		t.Fatal(err)
	}
	if b, err = openBed(b.dir, start, func(string) {}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Do(t.Context(), Activate, ""); err != nil {
		t.Fatal(err)
	}
	b.agree(t, "theirs", Activate, fresh)
}

// TestStartElsewhereAfterOne: so are they by somebody whose own rotation has
// ended, or was killed as it began, and who begins, goes on or cancels.
func TestStartElsewhereAfterOne(t *testing.T) {
	t.Parallel()
	for what, theirs := range map[string]func(*testing.T, *bed){
		"ended": func(t *testing.T, b *bed) {
			if _, err := b.Cancel("", false); err != nil {
				t.Fatal(err)
			}
		},
		"begun": func(t *testing.T, b *bed) {
			rot, _, err := b.Current()
			if err != nil {
				t.Fatal(err)
			}
			rot.Doing = Begin
			if err := errors.Join(b.save(rot), b.tidy()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		b := newBed(t)
		if err := b.start(); err != nil {
			t.Fatal(err)
		}
		theirs(t, b)
		state := filepath.Join(b.dir, "state")
		swap := func(from, to string) *bed {
			if err := errors.Join(os.Rename(state, filepath.Join(b.dir, from)), os.Rename(filepath.Join(b.dir, to), state)); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			opened, err := openBed(b.dir, start, func(string) {})
			if err != nil {
				t.Fatal(err)
			}
			return opened
		}
		mine := swap("other", "none")
		fresh := mine.reachBefore(t, Activate)
		other := swap("mine", "other")
		if _, _, err := other.Start(Plan{}); !errors.Is(err, ErrForeign) {
			t.Errorf("%s, start: %v", what, err)
		}
		if _, _, err := other.Do(t.Context(), Activate, ""); err == nil {
			t.Errorf("%s: activated somebody else's", what)
		}
		if what == "begun" {
			if _, err := other.Cancel("", false); err != nil {
				t.Errorf("%s, cancel: %v", what, err)
			}
		}
		mine = swap("other", "mine")
		if _, _, err := mine.Do(t.Context(), Activate, ""); err != nil {
			t.Errorf("%s: the rotation that was theirs: %v", what, err)
		}
		mine.agree(t, what, Activate, fresh)
	}
}

// TestKilledAtNotify: nobody is noted as told who was not.
func TestKilledAtNotify(t *testing.T) {
	t.Parallel()
	for at := 1; at <= 2; at++ {
		what := fmt.Sprintf("notify killed at %d", at)
		b := newBed(t)
		if err := b.start(); err != nil {
			t.Fatal(err)
		}
		b.dies(t, "notify", at, what)
		rot, _, err := b.Current()
		_, told := os.Stat(filepath.Join(b.dir, "told"))
		if err != nil || rot.Stage != Planned || (told == nil) != (at == 2) {
			t.Errorf("%s: %s, told: %v, %v", what, rot.Stage, told == nil, err)
		}
		if err := b.act(t.Context(), "notify"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if rot, _, _ := b.Current(); rot.Stage != Notified {
			t.Errorf("%s: then it is %s", what, rot.Stage)
		}
	}
}
