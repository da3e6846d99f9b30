package keys

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/envfile"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/secret"
)

// Swap is the action that changes a password, of which a server takes one.
const Swap Action = "swap"

// ErrRefused says that a server refused a password.
var ErrRefused = errors.New("the password is refused")

// Server is the server that a password is for.
type Server interface {
	// Check logs in with the password; ErrRefused if it is refused.
	Check(ctx context.Context, password string) error
	// Add makes the server take a new password, logged in with one that it
	// takes. It may refuse the old one from then on.
	Add(ctx context.Context, with, fresh string) error
	// Drop makes it refuse a password that it took beside another one.
	Drop(ctx context.Context, with, gone string) error
}

// Users are the services that hold the password.
type Users interface {
	// Holders are the services made with this text, the server first.
	Holders(ctx context.Context, text secret.Value) ([]string, error)
	Recreate(ctx context.Context, service string) error
	// Ready says whether all of the service's containers run and none is ill.
	Ready(ctx context.Context, service string) error
}

// Swapper changes one password: on the server first, then in the .env file, also
// inside URLs, then in every service that holds it.
type Swapper struct {
	Rotator // Secret, EnvFile, Docs, Editor, Now, Who, Timeout, Say, Step
	Server  Server
	Users   Users
}

// pair is the password before and after.
type pair struct {
	original *envfile.File
	old, new string
}

// Do changes the password, or goes on where it was interrupted. If anything
// fails, the old one is put back and proven.
func (s *Swapper) Do(ctx context.Context, why string) (Rotation, []string, error) {
	rot, p, err := s.prepare(ctx, why)
	if err != nil {
		return rot, nil, err
	}
	done, err := s.establish(ctx, p, p.old, p.new, false)
	switch {
	case err != nil && ctx.Err() != nil:
		return rot, done, fmt.Errorf("%s is interrupted: run it again to go on, or roll back: %w", s.Secret, err)
	case err != nil:
		s.say("it failed: %v: rolling back", err)
		failed := &FailedError{Action: Swap, Cause: err}
		if _, err := s.establish(ctx, p, p.new, p.old, true); err != nil {
			failed.Undo = err
			return rot, done, failed
		}
		return rot, done, errors.Join(failed, s.end(&rot, RolledBack, "it failed"))
	}
	if err := Record(s.Docs, Rotated{Secret: s.Secret, At: s.Now().UTC(), By: s.Who, How: string(Swap), Old: rot.Old, New: rot.New}); err != nil {
		return rot, done, err
	}
	return rot, done, s.end(&rot, Retired, why)
}

// Undo puts the old password back while the change has not ended.
func (s *Swapper) Undo(ctx context.Context, why string) (Rotation, []string, error) {
	rot, err := s.active()
	if err != nil {
		return rot, nil, err
	}
	p, err := s.pair(rot)
	if err != nil {
		return rot, nil, err
	}
	done, err := s.establish(ctx, p, p.new, p.old, true)
	if err != nil {
		return rot, done, err
	}
	return rot, done, s.end(&rot, RolledBack, why)
}

func (s *Swapper) end(rot *Rotation, stage Stage, why string) error {
	rot.Doing = ""
	s.reach(rot, stage, why)
	if err := s.save(*rot); err != nil {
		return err
	}
	return s.tidy()
}

// prepare begins a change, or finds the one that has not ended.
func (s *Swapper) prepare(ctx context.Context, why string) (Rotation, pair, error) {
	rot, found, err := s.Current()
	if err != nil {
		return rot, pair{}, err
	}
	if found && !rot.Stage.Ended() {
		p, err := s.pair(rot)
		return rot, p, err
	}
	f, err := envfile.Read(s.EnvFile)
	if err != nil {
		return rot, pair{}, err
	}
	old, err := f.Get(s.Secret)
	if err != nil {
		return rot, pair{}, fmt.Errorf("%s: %w", s.EnvFile, err)
	}
	if old == "" {
		return rot, pair{}, fmt.Errorf("%s: %s is empty: there is nothing to rotate", s.EnvFile, s.Secret)
	}
	b := make([]byte, runbook.APIKeyBytes)
	_, _ = rand.Read(b) // never fails
	p := pair{original: f, old: old, new: hex.EncodeToString(b)}
	if err := s.Provable(ctx, old); err != nil {
		return rot, p, err
	}
	if _, err := s.edit(p, p.old, p.new)(f); err != nil {
		return rot, p, err
	}
	if err := s.keep([]secret.Value{secret.New(p.new)}); err != nil {
		return rot, p, err
	}
	rot = Rotation{
		ID: s.Now().UTC().Format("20060102T150405Z"), Secret: s.Secret, EnvFile: s.EnvFile, GapSeconds: -1, Doing: Swap,
		Old: []string{secret.Fingerprint(old)}, New: []string{secret.Fingerprint(p.new)},
	}
	s.reach(&rot, Planned, why)
	return rot, p, s.save(rot)
}

// Rehearse says what is in force and which services would be made anew, and
// changes nothing.
func (s *Swapper) Rehearse(ctx context.Context) (fingerprint string, services []string, err error) {
	f, err := envfile.Read(s.EnvFile)
	if err != nil {
		return "", nil, err
	}
	now, err := f.Get(s.Secret)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", s.EnvFile, err)
	}
	if err := s.Provable(ctx, now); err != nil {
		return "", nil, err
	}
	services, err = s.Users.Holders(ctx, secret.New(now))
	return secret.Fingerprint(now), services, err
}

// Provable sees that the server takes the password and refuses another one, or
// the proof would prove nothing.
func (s *Swapper) Provable(ctx context.Context, now string) error {
	if err := s.Server.Check(ctx, now); err != nil {
		return fmt.Errorf("%w: before any change, the password of %s in %s does not log in: %w: nothing is changed", ErrUnprovable, s.Secret, s.EnvFile, err)
	}
	if err := s.Server.Check(ctx, rand.Text()); err == nil {
		return wrongTaken(errors.New("it logs in"))
	} else if !errors.Is(err, ErrRefused) {
		return wrongTaken(err)
	}
	return nil
}

func wrongTaken(err error) error {
	return fmt.Errorf("%w: before any change, a wrong password is not refused: %w: nothing is changed: see how it authenticates connections (pg_hba.conf, requirepass)", ErrUnprovable, err)
}

// pair reads both passwords from the files beside the .env file.
func (s *Swapper) pair(rot Rotation) (pair, error) {
	original, err := envfile.Read(s.backupFile())
	if err != nil {
		return pair{}, err
	}
	fresh, err := envfile.Read(s.newFile())
	if err != nil {
		return pair{}, err
	}
	p := pair{original: original}
	if p.old, err = original.Get(s.Secret); err == nil {
		p.new, err = fresh.Get(s.Secret)
	}
	if err == nil && (!slices.Equal(rot.Old, []string{secret.Fingerprint(p.old)}) || !slices.Equal(rot.New, []string{secret.Fingerprint(p.new)})) {
		err = fmt.Errorf("%s: %w: the files beside it are not this rotation's", s.EnvFile, ErrForeign)
	}
	return p, err
}

// establish makes everything use to in place of from, and proves it. It returns
// the services that were made anew. On the way back a service that fails does
// not keep the others from getting theirs.
func (s *Swapper) establish(ctx context.Context, p pair, from, to string, back bool) ([]string, error) {
	if err := s.Server.Check(ctx, to); errors.Is(err, ErrRefused) {
		s.say("the server takes %s in place of %s", secret.Fingerprint(to), secret.Fingerprint(from))
		s.step("change on the server")
		if err := s.Server.Add(ctx, from, to); err != nil {
			return nil, err
		}
	}
	s.say("%s: %s becomes %s", s.EnvFile, s.Secret, secret.Fingerprint(to))
	s.step("edit")
	if err := s.Editor.Apply(ctx, s.EnvFile, s.edit(p, from, to)); err != nil {
		return nil, err
	}
	holders, err := s.Users.Holders(ctx, secret.New(from))
	if err != nil {
		return nil, err
	}
	var failed []error
	for i, service := range holders {
		s.say("making %s anew", service)
		s.step("recreate " + service)
		err := s.Users.Recreate(ctx, service)
		if err == nil {
			err = s.await(ctx, service)
		}
		if err != nil && !back {
			return holders[:i+1], err
		}
		failed = append(failed, err)
	}
	s.step("prove")
	return holders, errors.Join(append(failed, s.prove(ctx, from, to))...)
}

func (s *Swapper) await(ctx context.Context, service string) error {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	for {
		err := s.Users.Ready(ctx, service)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("service %s is not ready after %s: %w: see its log (docker compose logs --tail 50 %s)", service, s.Timeout, err, service)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (s *Swapper) prove(ctx context.Context, from, to string) error {
	limited, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	err := s.Server.Check(limited, to)
	for err != nil && !errors.Is(err, ErrRefused) && limited.Err() == nil { // it may be starting
		time.Sleep(200 * time.Millisecond)
		err = s.Server.Check(limited, to)
	}
	if err != nil {
		return fmt.Errorf("proof: the new password: %w", err)
	}
	if s.Server.Check(ctx, from) == nil {
		if err := s.Server.Drop(ctx, to, from); err != nil {
			return err
		}
	}
	if err := s.Server.Check(ctx, from); err == nil {
		return errors.New("proof: the old password still logs in")
	} else if !errors.Is(err, ErrRefused) {
		return fmt.Errorf("proof: whether the old password is refused: %w", err)
	}
	holders, err := s.Users.Holders(ctx, secret.New(from))
	if err == nil && len(holders) > 0 {
		err = fmt.Errorf("proof: made with the old password still: %s", strings.Join(holders, ", "))
	}
	return err
}

// edit writes the password into the variable and into every URL that holds it.
// Back to the old one, each is written as it was.
func (s *Swapper) edit(p pair, from, to string) func(*envfile.File) (*envfile.File, error) {
	return func(f *envfile.File) (*envfile.File, error) {
		now, err := f.Get(s.Secret)
		if err != nil {
			return nil, err
		}
		if now != from && now != to {
			return nil, fmt.Errorf("%s: %w: it holds %s, this rotation knows %s and %s", s.Secret, ErrForeign, secret.Fingerprint(now), secret.Fingerprint(from), secret.Fingerprint(to))
		}
		for _, name := range f.Names() {
			value, err := f.Get(name)
			if err != nil {
				continue // put together from others: it follows them
			}
			changed := inURL(value, from, to)
			if name == s.Secret {
				changed = to
			}
			if changed == value {
				continue
			}
			if was, err := p.original.Get(name); err == nil && was == changed {
				f, err = f.WithFrom(p.original, name)
				if err != nil {
					return nil, err
				}
				continue
			}
			if f, err = f.With(name, changed); err != nil {
				return nil, err
			}
		}
		return f, nil
	}
}

// inURL replaces a password between : and @, in every form it may be written.
func inURL(text, from, to string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	escaped := strings.TrimPrefix(url.UserPassword("", to).String(), ":")
	for _, form := range []string{from, url.QueryEscape(from), url.PathEscape(from), strings.TrimPrefix(url.UserPassword("", from).String(), ":")} {
		text = strings.ReplaceAll(text, ":"+form+"@", ":"+escaped+"@")
	}
	return text
}
