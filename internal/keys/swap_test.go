package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stellarescrow/escrowctl/internal/envfile"
	"github.com/stellarescrow/escrowctl/internal/secret"
)

const (
	oldWord    = "old-word"
	swapBefore = "# stores\r\nPASSWORD='" + oldWord + "' # one\nURL=\"redis://:" + oldWord + "@cache/0\"\nB=2"
)

// kind is how a server takes passwords.
type kind string

const (
	postgresLike kind = "postgres" // one, kept over a recreate
	redisLike    kind = "redis"    // several, until it is made anew from .env
)

// rack is a server of passwords and a worker that holds one, all in files, so
// that they outlive a process that is killed. The real ones are tested in
// internal/cli and cmd/escrowctl.
type rack struct {
	kind
	dir  string
	step func(string)
	// lying makes Add say that it did what it did not, dead keeps a service from
	// coming up with anything but the old word.
	lying bool
	dead  string
	// brief is a service that ends soon after it was seen to run with another word.
	brief string
	seen  int
}

func (r *rack) file(name string) string { return filepath.Join(r.dir, name) }

func (r *rack) taken() []string {
	body, _ := os.ReadFile(r.file("taken")) // none
	return strings.Fields(string(body))
}

func (r *rack) take(words ...string) error {
	return os.WriteFile(r.file("taken"), []byte(strings.Join(words, " ")), 0o600)
}

func (r *rack) Check(_ context.Context, password string) error {
	if _, err := os.Stat(r.file("made-server")); err != nil {
		return errors.New("connection refused")
	}
	if !slices.Contains(r.taken(), password) {
		return ErrRefused
	}
	return nil
}

func (r *rack) CheckWrong(ctx context.Context) error { return r.Check(ctx, "never") }

func (r *rack) Add(ctx context.Context, with, fresh string) error {
	if err := r.Check(ctx, with); err != nil || r.lying {
		return err
	}
	if r.kind == redisLike {
		if slices.Contains(r.taken(), fresh) {
			return nil
		}
		return r.take(append(r.taken(), fresh)...)
	}
	return r.take(fresh)
}

func (r *rack) Drop(_ context.Context, _, gone string) error {
	return r.take(slices.DeleteFunc(r.taken(), func(w string) bool { return w == gone })...)
}

func (r *rack) Holders(_ context.Context, text secret.Value) ([]string, error) {
	var out []string
	for _, service := range []string{"server", "worker"} {
		if body, _ := os.ReadFile(r.file("made-" + service)); bytes.Contains(body, []byte(text.Reveal())) {
			out = append(out, service)
		}
	}
	return out, nil
}

func (r *rack) Recreate(_ context.Context, service string) error {
	f, err := envfile.Read(r.file(".env"))
	if err != nil {
		return err
	}
	word, err := f.Get("PASSWORD")
	if err != nil {
		return err
	}
	if body, err := os.ReadFile(r.file("made-" + service)); err == nil && string(body) == word {
		return nil // Compose leaves it alone
	}
	r.step("remove container")
	if err := os.Remove(r.file("made-" + service)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	r.step("make container")
	if r.dead == service && word != oldWord {
		return nil
	}
	if service == "server" && r.kind == redisLike {
		if err := r.take(word); err != nil {
			return err
		}
	}
	return os.WriteFile(r.file("made-"+service), []byte(word), 0o600)
}

func (r *rack) Ready(_ context.Context, service string) error {
	body, err := os.ReadFile(r.file("made-" + service))
	if r.brief == service && string(body) != oldWord {
		if r.seen++; r.seen > 1 {
			return errors.New("it is exited")
		}
	}
	return err
}

func (b *bed) swapper(k kind) *Swapper {
	r := &rack{kind: k, dir: b.dir, step: b.disk.step}
	s := &Swapper{Rotator: *b.Rotator, Server: r, Users: r}
	s.Secret = "PASSWORD"
	return s
}

func newSwapBed(t *testing.T) *bed {
	t.Helper()
	b := newBed(t)
	for name, text := range map[string]string{".env": swapBefore, "taken": oldWord, "made-server": oldWord, "made-worker": oldWord} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

var newWord = regexp.MustCompile("[0-9a-f]{64}")

// swapped sees that .env is one of its two versions, to the byte, and returns
// the password in it.
func (b *bed) swapped(t *testing.T, what string) string {
	t.Helper()
	word := newWord.FindString(b.env(t))
	if word == "" {
		word = oldWord
	}
	if b.env(t) != strings.ReplaceAll(swapBefore, oldWord, word) {
		t.Fatalf("%s: .env is neither version: %q", what, b.env(t))
	}
	return word
}

// inForce sees that server, services, file and record agree on the old or a new
// password.
func (b *bed) inForce(t *testing.T, what string, s *Swapper, stage Stage) {
	t.Helper()
	word := b.swapped(t, what)
	r := s.Server.(*rack)
	made, _ := r.Holders(t.Context(), secret.New(word))
	if !slices.Equal(r.taken(), []string{word}) || len(made) != 2 || (word == oldWord) != (stage == RolledBack) {
		t.Errorf("%s: the server takes %d passwords, %q hold the one of .env, which is the old one: %v", what, len(r.taken()), made, word == oldWord)
	}
	if rot, _, err := s.Current(); err != nil || rot.Stage != stage || rot.Doing != "" {
		t.Errorf("%s: the record says %s %q, %v", what, rot.Stage, rot.Doing, err)
	}
	b.nothingLeft(t, what)
}

// TestSwapKilled ends the process before everything that changes something:
// .env is whole and one of the two versions, and the change is then either
// brought to its end or taken back.
func TestSwapKilled(t *testing.T) {
	t.Parallel()
	for _, k := range []kind{postgresLike, redisLike} {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			steps := newSwapBed(t).steps(t, string(k))
			if len(steps) < 30 {
				t.Fatalf("only the steps %q", steps)
			}
			t.Logf("killed before each of %q", steps)
			for i, step := range steps {
				for _, then := range []string{"on", "back"} {
					swapKilled(t, k, i+1, fmt.Sprintf("killed before %q (%d), then %s", step, i+1, then), then == "back")
				}
			}
		})
	}
}

func swapKilled(t *testing.T, k kind, at int, what string, back bool) {
	t.Helper()
	b := newSwapBed(t)
	b.dies(t, string(k), at, what)
	b.swapped(t, what)
	s := b.swapper(k)
	rot, found, err := s.Current()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if back {
		_, _, err = s.Undo(t.Context(), "")
	} else if rot.Stage != Retired { // else it would change it once more
		_, _, err = s.Do(t.Context(), "")
	} else {
		_, err = s.active() // clears up
	}
	switch {
	case !found && back: // nothing had begun
		if !errors.Is(err, ErrNone) || b.env(t) != swapBefore {
			t.Errorf("%s: %v", what, err)
		}
	case rot.Stage == Retired:
		if !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", what, err)
		}
		b.inForce(t, what, s, Retired)
	case err != nil:
		t.Fatalf("%s: %v", what, err)
	case back:
		b.inForce(t, what, s, RolledBack)
	default:
		b.inForce(t, what, s, Retired)
	}
}

// TestSwapFails: a server that does not take what it says it took, so that the
// services come before it, and a service that does not come up: the old password
// is put back.
func TestSwapFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testSwapFails) // whose clock waits for the disk
}

func testSwapFails(t *testing.T) {
	for name, break1 := range map[string]func(*rack){
		"wrong order":              func(r *rack) { r.lying = true },
		"dead worker":              func(r *rack) { r.dead = "worker" },
		"dead server":              func(r *rack) { r.dead = "server" },
		"worker that ends at once": func(r *rack) { r.brief = "worker" },
	} {
		b := newSwapBed(t)
		s := b.swapper(postgresLike)
		s.Steady = 2
		break1(s.Server.(*rack))
		_, _, err := s.Do(t.Context(), "")
		var failed *FailedError
		if !errors.As(err, &failed) || failed.Undo != nil {
			t.Errorf("%s: %v", name, err)
		}
		b.inForce(t, name, s, RolledBack)
	}
}
