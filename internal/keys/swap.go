package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/envfile"
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
	// CheckWrong logs in with what must be refused; ErrRefused if it is.
	CheckWrong(ctx context.Context) error
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
	// Steady is how often in a row, every 200 ms, a service must be seen ready: a
	// program that ends at once runs at first too. 0 is once.
	Steady int
}

// Do changes the password, or goes on where it was interrupted. If anything
// fails, the old one is put back and proven.
func (s *Swapper) Do(ctx context.Context, why string) (Rotation, []string, error) {
	rot, p, err := s.prepare(ctx, why)
	if err != nil {
		return rot, nil, err
	}
	done, err := s.establish(ctx, &rot, p, p.old, p.new, false)
	switch {
	case err != nil && ctx.Err() != nil:
		return rot, done, fmt.Errorf("%s is interrupted: run it again to go on, or roll back: %w", s.Secret, err)
	case err != nil:
		s.say("it failed: %v: rolling back", err)
		failed := &FailedError{Action: Swap, Cause: err}
		if _, err := s.establish(ctx, &rot, p, p.new, p.old, true); err != nil {
			failed.Undo = err
			return rot, done, failed
		}
		return rot, done, errors.Join(failed, s.end(&rot, RolledBack, "it failed"))
	}
	s.step("record")
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
	if rot.Doing == Begin { // nothing has changed
		return rot, nil, s.end(&rot, RolledBack, why)
	}
	p, err := s.pair(rot)
	if err != nil {
		return rot, nil, err
	}
	done, err := s.establish(ctx, &rot, p, p.new, p.old, true)
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
	return s.drop(*rot)
}

// prepare begins a change, or finds the one that has not ended.
func (s *Swapper) prepare(ctx context.Context, why string) (Rotation, pair, error) {
	rot, found, err := s.Current()
	switch {
	case err != nil:
		return rot, pair{}, err
	case found && !rot.Stage.Ended() && rot.Doing != Begin:
		p, err := s.pair(rot)
		return rot, p, err
	case found:
		err = s.clear(rot) // of one that was killed before it changed anything, or just after its end
	default:
		err = s.alone()
	}
	if err != nil {
		return rot, pair{}, err
	}
	return s.begin(ctx, why)
}

// begin makes the new password. The record comes before the files, and says
// only after them that something may have changed.
func (s *Swapper) begin(ctx context.Context, why string) (Rotation, pair, error) {
	f, err := envfile.Read(s.EnvFile)
	if err != nil {
		return Rotation{}, pair{}, err
	}
	old, err := f.Get(s.Secret)
	if err != nil {
		return Rotation{}, pair{}, fmt.Errorf("%s: %w", s.EnvFile, err)
	}
	if old == "" {
		return Rotation{}, pair{}, fmt.Errorf("%s: %s is empty: there is nothing to rotate", s.EnvFile, s.Secret)
	}
	p := pair{original: f, old: old, new: newSecret()}
	if err := s.Provable(ctx, old); err != nil {
		return Rotation{}, p, err
	}
	if _, err := s.edit(p, p.old, p.new)(f); err != nil {
		return Rotation{}, p, err
	}
	rot := Rotation{
		ID: s.Now().UTC().Format("20060102T150405Z"), Secret: s.Secret, EnvFile: s.EnvFile, GapSeconds: -1, Doing: Begin,
		Old: []string{secret.Fingerprint(old)}, New: []string{secret.Fingerprint(p.new)},
	}
	s.reach(&rot, Planned, why)
	if err := s.save(rot); err != nil {
		return rot, p, err
	}
	if err := s.keep(s.Secret + "=" + p.new + "\n"); err != nil {
		return rot, p, err
	}
	rot.Doing = Swap
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
	if err := s.Server.CheckWrong(ctx); err == nil {
		return wrongTaken(errors.New("it logs in"))
	} else if !errors.Is(err, ErrRefused) {
		return wrongTaken(err)
	}
	return nil
}

func wrongTaken(err error) error {
	return fmt.Errorf("%w: before any change, a wrong password is not refused: %w: nothing is changed: see how it authenticates connections (pg_hba.conf, requirepass)", ErrUnprovable, err)
}

// establish makes everything use to in place of from, and proves it. It returns
// the services that were made anew. On the way back a service that fails does
// not keep the others from getting theirs.
func (s *Swapper) establish(ctx context.Context, rot *Rotation, p pair, from, to string, back bool) ([]string, error) {
	err := s.take(ctx, from, to)
	down := err != nil && !errors.Is(err, ErrRefused) && len(rot.Services) > 0
	if err != nil && !down {
		return nil, err
	}
	s.say("%s: %s becomes %s", s.EnvFile, s.Secret, secret.Fingerprint(to))
	s.step("edit")
	if err := s.Editor.Apply(ctx, s.EnvFile, s.edit(p, from, to)); err != nil {
		return nil, err
	}
	if down {
		if err := s.raise(ctx, rot.Services[0], from, to); err != nil {
			return nil, err
		}
	}
	services, err := s.remake(ctx, rot, from, back)
	if err != nil && !back {
		return services, err
	}
	s.step("prove")
	return services, errors.Join(err, s.prove(ctx, from, to))
}

// remake makes the services anew that hold the text, and waits until they are
// ready. It returns those that it came to.
func (s *Swapper) remake(ctx context.Context, rot *Rotation, text string, back bool) ([]string, error) {
	services, err := s.services(ctx, rot, text)
	if err != nil {
		return nil, err
	}
	var failed []error
	for i, service := range services {
		s.say("making %s anew", service)
		s.step("recreate " + service)
		err := s.Users.Recreate(ctx, service)
		if err == nil {
			err = s.await(ctx, service)
		}
		if err != nil && !back {
			return services[:i+1], err
		}
		failed = append(failed, err)
	}
	return services, errors.Join(failed...)
}

// take makes the server accept a password. It comes with the one that is on its
// way out: servers count who comes with a wrong one.
func (s *Swapper) take(ctx context.Context, from, to string) error {
	err := s.Server.Check(ctx, from)
	if errors.Is(err, ErrRefused) {
		return s.Server.Check(ctx, to) // it was changed before
	}
	if err != nil {
		return err
	}
	s.say("the server takes %s in place of %s", secret.Fingerprint(to), secret.Fingerprint(from))
	s.step("change on the server")
	return s.Server.Add(ctx, from, to)
}

// raise brings up a server whose recreate was killed, and makes it accept the
// password.
func (s *Swapper) raise(ctx context.Context, service, from, to string) error {
	s.say("%s does not answer: making it anew first", service)
	s.step("recreate " + service)
	if err := s.Users.Recreate(ctx, service); err != nil {
		return err
	}
	if err := s.await(ctx, service); err != nil {
		return err
	}
	if err := s.login(ctx, from); err != nil && !errors.Is(err, ErrRefused) {
		return err
	}
	return s.take(ctx, from, to)
}

// login logs in as soon as the server answers at all.
func (s *Swapper) login(ctx context.Context, password string) error {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	for {
		err := s.Server.Check(ctx, password)
		if err == nil || errors.Is(err, ErrRefused) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond): // it may be starting
		}
	}
}

// services are those to be made anew: the ones that hold the text, and the ones
// that did when the change began, since a recreate that was killed may have left
// one without a running container.
func (s *Swapper) services(ctx context.Context, rot *Rotation, text string) ([]string, error) {
	now, err := s.Users.Holders(ctx, secret.New(text))
	if err != nil {
		return nil, err
	}
	known := len(rot.Services)
	for _, service := range now {
		if !slices.Contains(rot.Services, service) {
			rot.Services = append(rot.Services, service)
		}
	}
	if len(rot.Services) == known {
		return rot.Services, nil
	}
	return rot.Services, s.save(*rot)
}

func (s *Swapper) await(ctx context.Context, service string) error {
	seen := 0
	ready := func(ctx context.Context) error {
		seen++
		if err := s.Users.Ready(ctx, service); err != nil {
			seen = 0
			return err
		}
		if seen < s.Steady {
			return errors.New("it has only just started")
		}
		return nil
	}
	return s.until(ctx, service, ready, func(ctx context.Context) error { return s.Users.Recreate(ctx, service) })
}

func (s *Swapper) prove(ctx context.Context, from, to string) error {
	err := s.login(ctx, to)
	if err != nil {
		return fmt.Errorf("proof: the new password: %w", err)
	}
	err = s.Server.Check(ctx, from)
	if err == nil {
		s.step("drop on the server")
		if err := s.Server.Drop(ctx, to, from); err != nil {
			return err
		}
		err = s.Server.Check(ctx, from)
	}
	if err == nil {
		return errors.New("proof: the old password still logs in")
	} else if !errors.Is(err, ErrRefused) {
		return fmt.Errorf("proof: whether the old password is refused: %w", err)
	}
	return s.unheld(ctx, from)
}

// unheld sees that no container was made with the text.
func (s *Swapper) unheld(ctx context.Context, text string) error {
	holders, err := s.Users.Holders(ctx, secret.New(text))
	if err == nil && len(holders) > 0 {
		err = fmt.Errorf("proof: made with the old one still: %s", strings.Join(holders, ", "))
	}
	return err
}
