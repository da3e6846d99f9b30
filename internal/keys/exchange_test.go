package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/envfile"
	"github.com/stellarescrow/escrowctl/internal/secret"
)

const (
	oldPair      = "old-secret"
	newPair      = "new/secret+1"
	exchangeText = "export AWS_ACCESS_KEY_ID='OLD' # IAM\r\nB=2\nAWS_SECRET_ACCESS_KEY=" + oldPair
)

// vault is a bucket that knows some secrets, and a service that holds one, in
// files. The real ones are tested in cmd/escrowctl.
type vault struct {
	dir  string
	step func(string)
	dead bool // the service does not come up with the new one
}

func (v *vault) file(name string) string { return filepath.Join(v.dir, name) }

func (v *vault) Try(_ context.Context, c Credentials) error {
	body, _ := os.ReadFile(v.file("known")) // none
	if !slices.Contains(strings.Fields(string(body)), c.Secret.Reveal()) {
		return ErrRefused
	}
	return nil
}

func (v *vault) TryWrong(ctx context.Context) error {
	return v.Try(ctx, Credentials{Secret: secret.New("x")})
}

func (v *vault) Holders(_ context.Context, text secret.Value) ([]string, error) {
	if body, _ := os.ReadFile(v.file("made")); bytes.Contains(body, []byte(text.Reveal())) {
		return []string{"backup"}, nil
	}
	return nil, nil
}

func (v *vault) Recreate(context.Context, string) error {
	f, err := envfile.Read(v.file(".env"))
	if err != nil {
		return err
	}
	word, err := f.Get(secretVariable)
	if err != nil {
		return err
	}
	v.step("remove container")
	if err := os.Remove(v.file("made")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	v.step("make container")
	if v.dead && word == newPair {
		return errors.New("it does not start")
	}
	return os.WriteFile(v.file("made"), []byte(word), 0o600)
}

func (v *vault) Ready(context.Context, string) error {
	_, err := os.Stat(v.file("made"))
	return err
}

func (b *bed) exchanger() *Exchanger {
	v := &vault{dir: b.dir, step: b.disk.step}
	x := &Exchanger{Swapper: Swapper{Rotator: *b.Rotator, Users: v}, Bucket: v}
	x.Secret = CredentialsName
	return x
}

func newExchangeBed(t *testing.T) *bed {
	t.Helper()
	b := newBed(t)
	for name, text := range map[string]string{".env": exchangeText, "known": oldPair + " " + newPair, "made": oldPair} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *bed) switchTo() error {
	_, _, err := b.exchanger().Switch(context.Background(), Credentials{"NEW", secret.New(newPair)}, "")
	return err
}

var exchanged = strings.NewReplacer("OLD", "NEW", oldPair, newPair).Replace(exchangeText)

// agreed sees that .env, service and record say the same.
func (b *bed) agreed(t *testing.T, what string, stage Stage) {
	t.Helper()
	text, word := exchanged, newPair
	if stage == RolledBack {
		text, word = exchangeText, oldPair
	}
	made, err := os.ReadFile(filepath.Join(b.dir, "made"))
	if b.env(t) != text || err != nil || string(made) != word {
		t.Errorf("%s: .env is %q, the service has %d bytes, %v", what, b.env(t), len(made), err)
	}
	if rot, _, err := b.exchanger().Current(); err != nil || rot.Stage != stage || rot.Doing != "" {
		t.Errorf("%s: the record says %s %q, %v", what, rot.Stage, rot.Doing, err)
	}
}

// TestExchangeKilled ends the process before everything that changes something;
// then it is gone on with, or taken back.
func TestExchangeKilled(t *testing.T) {
	t.Parallel()
	steps := newExchangeBed(t).steps(t, "exchange")
	if len(steps) < 25 {
		t.Fatalf("only the steps %q", steps)
	}
	for i, step := range steps {
		for _, then := range []string{"on", "back"} {
			what := fmt.Sprintf("killed before %q (%d), then %s", step, i+1, then)
			b := newExchangeBed(t)
			if got := b.dies(t, "exchange", i+1, what); got != exchangeText && got != exchanged {
				t.Fatalf("%s: .env is neither version: %q", what, got)
			}
			_, found, err := b.exchanger().Current()
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if then == "on" {
				if err := b.switchTo(); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				b.agreed(t, what, Verified)
				continue
			}
			if _, _, err := b.exchanger().Undo(t.Context(), ""); !found && !errors.Is(err, ErrNone) || found && err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if found {
				b.agreed(t, what, RolledBack)
			}
			b.nothingLeft(t, what)
		}
	}
}

// TestExchange: the old credentials go last, and a service that fails has them
// back.
func TestExchange(t *testing.T) {
	t.Parallel()
	b := newExchangeBed(t)
	x := b.exchanger()
	if _, err := x.Retire(t.Context(), ""); !errors.Is(err, ErrNone) || !strings.HasSuffix(err.Error(), "begin one with rotate-keys S3") {
		t.Errorf("retired without a rotation: %v", err)
	}
	x.Users.(*vault).dead = true
	_, _, err := x.Switch(t.Context(), Credentials{"NEW", secret.New(newPair)}, "")
	var failed *FailedError
	if !errors.As(err, &failed) || failed.Undo != nil {
		t.Errorf("a dead service: %v", err)
	}
	b.agreed(t, "a dead service", RolledBack)
	b.nothingLeft(t, "a dead service")

	// What the file cannot hold is refused before anything is changed.
	if err := os.WriteFile(filepath.Join(b.dir, "known"), []byte(oldPair+" bad'"+newPair+" "+newPair), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.exchanger().Switch(t.Context(), Credentials{"NEW", secret.New("bad'" + newPair)}, ""); err == nil || strings.Contains(err.Error(), newPair) {
		t.Errorf("a secret with a quote: %v", err)
	}
	b.agreed(t, "a secret with a quote", RolledBack)

	if err := b.switchTo(); err != nil {
		t.Fatal(err)
	}
	b.agreed(t, "switched", Verified)
	x = b.exchanger()
	if _, err := x.Retire(t.Context(), ""); !errors.Is(err, ErrTooEarly) {
		t.Errorf("retired while the old ones are good: %v", err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "known"), []byte(newPair), 0o600); err != nil {
		t.Fatal(err)
	}
	x.Own = "OLD"
	if _, err := x.Retire(t.Context(), ""); !errors.Is(err, ErrTooEarly) {
		t.Errorf("retired while escrowctl uses the old ones: %v", err)
	}
	if _, _, err := x.Undo(t.Context(), ""); !errors.Is(err, ErrUnprovable) {
		t.Errorf("rolled back to dead ones: %v", err)
	}
	x.Own = "NEW"
	if _, err := x.Retire(t.Context(), ""); err != nil {
		t.Error(err)
	}
	b.agreed(t, "retired", Retired)
	b.nothingLeft(t, "retired")
}
