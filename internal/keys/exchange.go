package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/stellarescrow/escrowctl/internal/envfile"
	"github.com/stellarescrow/escrowctl/internal/secret"
)

// Credentials are a pair of S3 keys.
type Credentials struct {
	ID     string // the access key's; no secret
	Secret secret.Value
}

// The variables that hold credentials, and the name of the runbook for both.
const (
	CredentialsName = "S3 credentials"
	idVariable      = "AWS_ACCESS_KEY_ID"
	secretVariable  = "AWS_SECRET_ACCESS_KEY"
)

// Bucket is what the credentials are for.
type Bucket interface {
	// Try does with them all that backups need: it lists, and writes, reads and
	// deletes an object of its own. ErrRefused if the server does not know them.
	Try(ctx context.Context, c Credentials) error
	// TryWrong tries credentials that nobody has.
	TryWrong(ctx context.Context) error
}

// Exchanger replaces S3 credentials. New ones are made elsewhere, and both pairs
// are good until the old one is deactivated there: Switch puts the new ones in
// force, Retire sees that the old ones are dead.
type Exchanger struct {
	Swapper // without Server
	Bucket  Bucket
	// Own is the access key's ID with which escrowctl itself reaches the bucket;
	// "" if it has none.
	Own string
}

// Switch tries the new credentials, writes them into the .env file, makes every
// service anew that holds the old ones, and proves it; or goes on where that was
// interrupted. If anything fails the old ones are put back.
func (x *Exchanger) Switch(ctx context.Context, fresh Credentials, why string) (Rotation, []string, error) {
	rot, e, err := x.prepare(ctx, fresh, why)
	if err != nil {
		return rot, nil, err
	}
	done, err := x.establish(ctx, &rot, e, false)
	switch {
	case err != nil && ctx.Err() != nil:
		return rot, done, fmt.Errorf("%s are being replaced and that is interrupted: run it again to go on, or roll back: %w", x.Secret, err)
	case err != nil:
		x.say("it failed: %v: rolling back", err)
		failed := &FailedError{Action: Swap, Cause: err}
		if _, err := x.establish(ctx, &rot, e.reverse(), true); err != nil {
			failed.Undo = err
			return rot, done, failed
		}
		return rot, done, errors.Join(failed, x.end(&rot, RolledBack, "it failed"))
	}
	rot.Doing = ""
	x.reach(&rot, Verified, why)
	return rot, done, x.save(rot)
}

// Retire ends the exchange when the old credentials are refused.
func (x *Exchanger) Retire(ctx context.Context, why string) (Rotation, error) {
	rot, err := x.active()
	if err != nil {
		return rot, err
	}
	if rot.Stage != Verified {
		return rot, fmt.Errorf("retire %s: %w: the new ones are not in force: rotate-keys S3, or rollback", x.Secret, ErrTooEarly)
	}
	e, err := x.kept(rot)
	if err != nil {
		return rot, err
	}
	if err := x.Bucket.Try(ctx, e.new); err != nil {
		return rot, fmt.Errorf("retire %s: the new ones fail: %w", x.Secret, err)
	}
	if x.Own == e.old.ID {
		return rot, fmt.Errorf("retire %s: %w: escrowctl itself uses the old ones (%s): change them where it has them from", x.Secret, ErrTooEarly, x.Own)
	}
	if err := x.Bucket.Try(ctx, e.old); err == nil {
		return rot, fmt.Errorf("retire %s: %w: the old ones (%s) are good still: deactivate that access key where it was made", x.Secret, ErrTooEarly, e.old.ID)
	} else if !errors.Is(err, ErrRefused) {
		return rot, fmt.Errorf("retire %s: whether the old ones (%s) are refused: %w", x.Secret, e.old.ID, err)
	}
	x.step("record")
	if err := Record(x.Docs, Rotated{Secret: x.Secret, At: x.Now().UTC(), By: x.Who, How: string(Retire), Old: rot.Old, New: rot.New}); err != nil {
		return rot, err
	}
	return rot, x.end(&rot, Retired, why)
}

// Undo puts the old credentials back, if they are good still.
func (x *Exchanger) Undo(ctx context.Context, why string) (Rotation, []string, error) {
	rot, err := x.active()
	if err != nil {
		return rot, nil, err
	}
	if rot.Doing == Begin { // nothing has changed
		return rot, nil, x.end(&rot, RolledBack, why)
	}
	e, err := x.kept(rot)
	if err != nil {
		return rot, nil, err
	}
	if err := x.Bucket.Try(ctx, e.old); err != nil {
		return rot, nil, fmt.Errorf("rollback %s: %w: the old ones (%s) are not good: %w: nothing is changed", x.Secret, ErrUnprovable, e.old.ID, err)
	}
	done, err := x.establish(ctx, &rot, e.reverse(), true)
	if err != nil {
		return rot, done, err
	}
	return rot, done, x.end(&rot, RolledBack, why)
}

// Rehearse tries the new credentials, and says which services would be made
// anew. It needs no .env that holds any.
func (x *Exchanger) Rehearse(ctx context.Context, fresh Credentials) ([]string, error) {
	if err := x.provable(ctx, fresh); err != nil {
		return nil, err
	}
	_, old, err := x.present()
	if err != nil {
		return nil, err
	}
	return x.Users.Holders(ctx, old.Secret)
}

// exchange is the credentials before and after.
type exchange struct {
	original *envfile.File
	old, new Credentials
}

func (e exchange) reverse() exchange { return exchange{e.original, e.new, e.old} }

// prepare begins an exchange, or finds the one that was interrupted.
func (x *Exchanger) prepare(ctx context.Context, fresh Credentials, why string) (Rotation, exchange, error) {
	rot, found, err := x.Current()
	switch {
	case err != nil:
		return rot, exchange{}, err
	case found && rot.Doing == Swap:
		e, err := x.kept(rot)
		if err == nil && fresh.ID != "" && fresh.ID != e.new.ID {
			err = fmt.Errorf("%s: %w, to %s: go on with it without --new, or rotate-keys rollback S3", x.Secret, ErrRunning, e.new.ID)
		}
		return rot, e, err
	case found && !rot.Stage.Ended() && rot.Doing != Begin:
		return rot, exchange{}, fmt.Errorf("%s: %w: deactivate the old ones and rotate-keys retire S3, or rotate-keys rollback S3", x.Secret, ErrRunning)
	case found:
		err = x.clear(rot)
	default:
		err = x.alone()
	}
	if err == nil {
		err = x.provable(ctx, fresh)
	}
	if err != nil {
		return rot, exchange{}, err
	}
	return x.begin(fresh, why)
}

// begin keeps the new credentials. The record comes before the files, and says
// only after them that something may have changed.
func (x *Exchanger) begin(fresh Credentials, why string) (Rotation, exchange, error) {
	f, old, err := x.present()
	if err != nil {
		return Rotation{}, exchange{}, err
	}
	e := exchange{f, old, fresh}
	if old.ID == fresh.ID && old.Secret.Reveal() == fresh.Secret.Reveal() {
		return Rotation{}, e, fmt.Errorf("%w: %s holds these credentials already", ErrUnprovable, x.EnvFile)
	}
	if _, err := e.edit(f); err != nil {
		return Rotation{}, e, err
	}
	rot := Rotation{
		ID: x.Now().UTC().Format("20060102T150405Z"), Secret: x.Secret, EnvFile: x.EnvFile, GapSeconds: -1, Doing: Begin,
		Old: old.fingerprints(), New: fresh.fingerprints(),
	}
	x.reach(&rot, Planned, why)
	if err := x.save(rot); err != nil {
		return rot, e, err
	}
	if err := x.keep(idVariable + "=" + fresh.ID + "\n" + secretVariable + "=" + fresh.Secret.Reveal() + "\n"); err != nil {
		return rot, e, err
	}
	rot.Doing = Swap
	return rot, e, x.save(rot)
}

// provable tries the new credentials, and sees that others are refused.
func (x *Exchanger) provable(ctx context.Context, fresh Credentials) error {
	if err := x.Bucket.Try(ctx, fresh); err != nil {
		return fmt.Errorf("%w: before any change, the new credentials (%s) fail: %w: nothing is changed", ErrUnprovable, fresh.ID, err)
	}
	if err := x.Bucket.TryWrong(ctx); err == nil {
		return fmt.Errorf("%w: before any change, made-up credentials are not refused: nothing is changed: is the bucket open to everybody?", ErrUnprovable)
	} else if !errors.Is(err, ErrRefused) {
		return fmt.Errorf("%w: before any change, whether made-up credentials are refused: %w: nothing is changed", ErrUnprovable, err)
	}
	return nil
}

// establish puts the new credentials in force.
func (x *Exchanger) establish(ctx context.Context, rot *Rotation, e exchange, back bool) ([]string, error) {
	x.say("%s: %s become %s", x.EnvFile, x.Secret, e.new.ID)
	x.step("edit")
	if err := x.Editor.Apply(ctx, x.EnvFile, e.edit); err != nil {
		return nil, err
	}
	services, err := x.remake(ctx, rot, e.old.Secret.Reveal(), back)
	if err != nil && !back {
		return services, err
	}
	x.step("prove")
	_, now, rerr := x.present()
	if rerr == nil && !back { // the old ones may be dead: then there is no better way back
		rerr = x.Bucket.Try(ctx, now)
	}
	return services, errors.Join(err, rerr, x.unheld(ctx, e.old.Secret.Reveal()))
}

// edit writes both variables; going back, as they were written.
func (e exchange) edit(f *envfile.File) (*envfile.File, error) {
	for name, v := range map[string][2]string{idVariable: {e.old.ID, e.new.ID}, secretVariable: {e.old.Secret.Reveal(), e.new.Secret.Reveal()}} {
		now, err := f.Get(name)
		if err != nil {
			return nil, err
		}
		if now != v[0] && now != v[1] {
			return nil, fmt.Errorf("%s: %w: it holds %s, this rotation knows others", name, ErrForeign, secret.Fingerprint(now))
		}
		if was, gerr := e.original.Get(name); gerr == nil && was == v[1] {
			f, err = f.WithFrom(e.original, name)
		} else {
			f, err = f.With(name, v[1])
		}
		if err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (c Credentials) fingerprints() []string {
	return []string{secret.Fingerprint(c.ID), c.Secret.String()}
}

// present returns the credentials of the .env file.
func (x *Exchanger) present() (*envfile.File, Credentials, error) {
	return readCredentials(x.EnvFile)
}

func readCredentials(path string) (*envfile.File, Credentials, error) {
	f, err := envfile.Read(path)
	if err != nil {
		return nil, Credentials{}, err
	}
	id, err := f.Get(idVariable)
	if err != nil {
		return nil, Credentials{}, fmt.Errorf("%s: %w", path, err)
	}
	key, err := f.Get(secretVariable)
	if err == nil && (id == "" || key == "") {
		err = errors.New("the S3 credentials are empty")
	}
	if err != nil {
		return nil, Credentials{}, fmt.Errorf("%s: %w", path, err)
	}
	return f, Credentials{id, secret.New(key)}, nil
}

// kept reads both pairs from the files beside the .env file.
func (x *Exchanger) kept(rot Rotation) (exchange, error) {
	original, old, err := readCredentials(x.backupFile())
	if err != nil {
		return exchange{}, err
	}
	_, fresh, err := readCredentials(x.newFile())
	if err == nil && (!slices.Equal(rot.Old, old.fingerprints()) || !slices.Equal(rot.New, fresh.fingerprints())) {
		err = fmt.Errorf("%s: %w: the files beside it are not this rotation's", x.EnvFile, ErrForeign)
	}
	return exchange{original, old, fresh}, err
}
