package keys

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/secret"
)

// FailedError is an action that went wrong after it had begun to change things.
type FailedError struct {
	Action Action
	Cause  error
	// Undo is nil if what was in force before was put back and proven.
	Undo error
}

func (e *FailedError) Error() string {
	if e.Undo != nil {
		return fmt.Sprintf("%s failed: %v; and rolling back failed too: %v: look at the service, then run rotate-keys rollback again", e.Action, e.Cause, e.Undo)
	}
	return fmt.Sprintf("%s failed and was rolled back, what was in force before is proven to be so again: %v", e.Action, e.Cause)
}

func (e *FailedError) Unwrap() []error { return []error{e.Cause, e.Undo} }

// Proof is what was seen after an action.
type Proof struct {
	Containers []string // their names; all hold exactly the file's value
	Recreated  bool     // none: they held it already
	// GapSeconds is the longest time in which no request was answered while
	// the service was made anew; negative without a recreate.
	GapSeconds float64
	Requests   int // asked with a key, or with none, for the proof
}

// Do carries out an action, or goes on with it where it was interrupted: edits
// the .env file, makes the service anew, waits until it is ready, and proves by
// asking it that the right keys are accepted and the others refused. If one of
// these fails, what was in force before is put back and proven.
func (r *Rotator) Do(ctx context.Context, do Action, why string) (Rotation, Proof, error) {
	rot, err := r.active()
	if err != nil {
		return rot, Proof{}, err
	}
	if err := r.Allowed(rot, do); err != nil {
		return rot, Proof{}, err
	}
	v, err := r.versions(rot)
	if err == nil {
		err = r.check(v)
	}
	if err != nil {
		return rot, Proof{}, err
	}
	if rot.Doing == "" && do != Rollback {
		if err := r.baseline(ctx, v, before(do)); err != nil {
			return rot, Proof{}, err
		}
	}
	rot.Doing = do
	if err := r.save(rot); err != nil {
		return rot, Proof{}, err
	}
	proof, err := r.establish(ctx, v, do)
	switch {
	case err != nil && ctx.Err() != nil:
		return rot, proof, fmt.Errorf("%s %s is interrupted: run it again to go on, or roll back: %w", do, r.Secret, err)
	case err != nil && do == Rollback:
		return rot, proof, &FailedError{Action: do, Cause: err, Undo: errors.New("there is nothing further to go back to")}
	case err != nil:
		rot, err = r.undo(ctx, rot, v, do, err)
		return rot, proof, err
	}
	return r.finish(rot, do, why, proof)
}

// undo puts back what was in force before do.
func (r *Rotator) undo(ctx context.Context, rot Rotation, v versions, do Action, cause error) (Rotation, error) {
	r.say("%s failed: %v: rolling back", do, cause)
	failed := &FailedError{Action: do, Cause: cause}
	if _, err := r.establish(ctx, v, before(do)); err != nil {
		failed.Undo = err
		return rot, failed
	}
	rot.Doing = ""
	if do == Emergency {
		r.reach(&rot, RolledBack, "it failed")
	} else {
		r.reach(&rot, rot.Stage, string(do)+" failed and was rolled back")
	}
	if err := r.save(rot); err != nil {
		return rot, errors.Join(failed, err)
	}
	if rot.Stage.Ended() {
		return rot, errors.Join(failed, r.tidy())
	}
	return rot, failed
}

// finish notes what was reached.
func (r *Rotator) finish(rot Rotation, do Action, why string, proof Proof) (Rotation, Proof, error) {
	rot.Doing = ""
	if proof.Recreated {
		rot.GapSeconds = proof.GapSeconds
	}
	switch do {
	case Activate:
		r.reach(&rot, Overlap, why)
		r.reach(&rot, Verified, why)
	case Retire, Emergency:
		r.reach(&rot, Retired, why)
		r.step("record")
		if err := Record(r.Docs, Rotated{Secret: r.Secret, At: r.Now().UTC(), By: r.Who, How: string(do), Old: rot.Old, New: rot.New}); err != nil {
			return rot, proof, err
		}
	case Rollback:
		r.reach(&rot, RolledBack, why)
	}
	if err := r.save(rot); err != nil {
		return rot, proof, err
	}
	if rot.Stage.Ended() {
		return rot, proof, r.tidy()
	}
	return rot, proof, nil
}

// establish brings file and containers to the value of do and proves it.
func (r *Rotator) establish(ctx context.Context, v versions, do Action) (Proof, error) {
	proof := Proof{GapSeconds: -1}
	want := v.value(do)
	r.say("%s: %s becomes %s", r.EnvFile, r.Secret, strings.Join(fingerprints(want), " "))
	r.step("edit " + string(do))
	if err := r.Editor.Apply(ctx, r.EnvFile, v.edit(r.Secret, do)); err != nil {
		return proof, err
	}
	lives, err := r.Service.Live(ctx)
	if err != nil {
		return proof, err
	}
	if !loaded(lives, want) {
		r.say("making %s anew", r.Service.Name())
		r.step("recreate " + string(do))
		gap := r.watch(ctx, common(v, do))
		err := r.Service.Recreate(ctx)
		if err == nil {
			err = r.await(ctx, want)
		}
		proof.Recreated, proof.GapSeconds = true, gap()
		if err != nil {
			return proof, err
		}
	}
	if err := r.await(ctx, want); err != nil {
		return proof, err
	}
	r.step("prove " + string(do))
	return r.prove(ctx, v, do, proof)
}

// loaded says whether all containers run and hold exactly these keys.
func loaded(lives []Live, want []secret.Value) bool {
	for _, l := range lives {
		if l.State != "running" || !slices.Equal(fingerprints(parseKeys(l.Value.Reveal())), fingerprints(want)) {
			return false
		}
	}
	return len(lives) > 0
}

// await waits until the service's containers hold the keys, are healthy and
// answer.
func (r *Rotator) await(ctx context.Context, want []secret.Value) error {
	return r.until(ctx, r.Service.Name(), func(ctx context.Context) error { return r.ready(ctx, want) }, r.Service.Recreate)
}

// nudgeEvery is how often Compose is asked again while a service is not ready. A
// recreate that was killed may have left the engine stopping a container that
// Compose just saw running.
const nudgeEvery = 10 * time.Second

// until waits for a service.
func (r *Rotator) until(ctx context.Context, service string, ready, recreate func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	nudge := time.NewTicker(nudgeEvery)
	defer nudge.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("service %s is not ready after %s: %w: see its log (docker compose logs --tail 50 %s)", service, r.Timeout, err, service)
		case <-nudge.C:
			if err := recreate(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (r *Rotator) ready(ctx context.Context, want []secret.Value) error {
	lives, err := r.Service.Live(ctx)
	if err != nil {
		return err
	}
	if len(lives) == 0 {
		return errors.New("it has no container")
	}
	for _, l := range lives {
		if l.State != "running" || l.Health == "starting" || l.Health == "unhealthy" {
			return fmt.Errorf("container %s is %s", l.Name, strings.TrimSpace(l.State+" "+l.Health))
		}
		if got := parseKeys(l.Value.Reveal()); !slices.Equal(fingerprints(got), fingerprints(want)) {
			return fmt.Errorf("container %s was made with %s=%s, the file holds %s: is the variable set in the environment or in the compose file itself?",
				l.Name, r.Secret, strings.Join(fingerprints(got), " "), strings.Join(fingerprints(want), " "))
		}
	}
	code, err := r.Prober.Probe(ctx, want[0].Reveal())
	if err != nil {
		return err
	}
	if code >= 500 {
		return fmt.Errorf("it answers %d", code)
	}
	return nil
}

// prove asks with every key and with none.
func (r *Rotator) prove(ctx context.Context, v versions, do Action, proof Proof) (Proof, error) {
	lives, err := r.Service.Live(ctx)
	if err != nil {
		return proof, err
	}
	for _, l := range lives {
		proof.Containers = append(proof.Containers, l.Name)
	}
	n, err := r.ask(ctx, v.value(do), others(v, do))
	proof.Requests = n
	return proof, err
}

// others are the keys that must be refused.
func others(v versions, do Action) []secret.Value {
	good := fingerprints(v.value(do))
	return slices.DeleteFunc(slices.Concat(v.old, v.new), func(k secret.Value) bool { return slices.Contains(good, k.String()) })
}

// common is a key that is accepted before and after, "" if there is none.
func common(v versions, do Action) string {
	switch do {
	case Activate, Rollback:
		return v.old[0].Reveal()
	case Retire:
		return v.new[0].Reveal()
	}
	return ""
}

func (r *Rotator) ask(ctx context.Context, good, bad []secret.Value) (int, error) {
	asked := 0
	for _, key := range good {
		code, err := r.Prober.Probe(ctx, key.Reveal())
		asked++
		if err != nil {
			return asked, err
		}
		if code < 200 || code > 299 {
			return asked, fmt.Errorf("proof: the key %s is refused: it answers %d, and should 200", key, code)
		}
	}
	for _, key := range append(slices.Clone(bad), secret.Value{}) {
		code, err := r.Prober.Probe(ctx, key.Reveal())
		asked++
		if err != nil {
			return asked, err
		}
		if code != http.StatusUnauthorized && code != http.StatusForbidden {
			name := "without a key"
			if !key.IsZero() {
				name = "with the key " + key.String()
			}
			return asked, fmt.Errorf("proof: %s it answers %d, and should 401", name, code)
		}
	}
	return asked, nil
}

// baseline proves, before anything is changed, that the proof can tell: what is
// in force now is accepted and nothing else.
func (r *Rotator) baseline(ctx context.Context, v versions, now Action) error {
	lives, err := r.Service.Live(ctx)
	if err != nil {
		return err
	}
	if !loaded(lives, v.value(now)) {
		return fmt.Errorf("%w: the containers of %s do not run with what %s holds now: nothing is changed: bring them up first (docker compose up -d %s)",
			ErrUnprovable, r.Service.Name(), r.EnvFile, r.Service.Name())
	}
	if _, err := r.ask(ctx, v.value(now), others(v, now)); err != nil {
		return fmt.Errorf("%w: before any change, %w: nothing is changed: set keys.api_url or keys.admin_url to what needs a key of this kind, and keys.header to how it is sent", ErrUnprovable, err)
	}
	return nil
}

// watch asks over and over with a key until the returned function is called,
// which says how long, at the longest, none was answered with success, in
// seconds. Without a key any answer counts.
func (r *Rotator) watch(ctx context.Context, key string) func() float64 {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan float64, 1)
	go func() {
		last, longest := r.Now(), time.Duration(0)
		for ctx.Err() == nil {
			one, stop := context.WithTimeout(ctx, time.Second)
			code, err := r.Prober.Probe(one, key)
			stop()
			if now := r.Now(); err == nil && (key == "" || code == http.StatusOK) {
				longest, last = max(longest, now.Sub(last)), now
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
		done <- max(longest, 0).Seconds()
	}()
	return func() float64 {
		cancel()
		return <-done
	}
}
