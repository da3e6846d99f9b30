// Package keys rotates the keys of the platform's API over a week or more and
// remembers where each rotation stands.
//
// A rotation goes planned, notified, overlap, verified, retired, and can be
// taken back at every stage. What is remembered is fingerprints, names and
// times, never a key: the keys are in the .env file, and beside it, mode 0600,
// in a copy of that file (.bak) and in a file of the new keys (.new) until the
// rotation ends.
//
// Nothing is believed because it was meant: every action begins with what the
// .env file and the running containers hold, so an action that was killed is
// simply run again.
package keys

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/envfile"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/secret"
)

// Stage is how far a rotation has come.
type Stage string

// The stages. The last three end a rotation.
const (
	Planned    Stage = "planned"     // new keys exist, nothing else has changed
	Notified   Stage = "notified"    // the consumers know
	Overlap    Stage = "overlap"     // old and new keys are loaded
	Verified   Stage = "verified"    // and both were seen to be accepted
	Retired    Stage = "retired"     // the old keys are seen to be refused
	Cancelled  Stage = "cancelled"   // before anything changed
	RolledBack Stage = "rolled-back" // the old keys alone are in force again
)

// Ended says whether nothing more is to be done.
func (s Stage) Ended() bool { return s == Retired || s == Cancelled || s == RolledBack || s == "" }

// Action is what can be done to a rotation.
type Action string

// The actions. Begin changes nothing but the files beside .env.
const (
	Begin     Action = "start"     // new keys are made and given to the consumers
	Activate  Action = "activate"  // old and new
	Retire    Action = "retire"    // new only
	Rollback  Action = "rollback"  // old only
	Emergency Action = "emergency" // new only, at once
)

// What callers choose by.
var (
	// ErrRunning: a rotation of the secret has not ended.
	ErrRunning = errors.New("a rotation is in progress")
	// ErrNone: there is no rotation to act on.
	ErrNone = errors.New("no rotation is in progress")
	// ErrTooEarly: the stage or the notice does not allow it yet.
	ErrTooEarly = errors.New("not yet")
	// ErrUnprovable: the proof would prove nothing, so nothing was changed.
	ErrUnprovable = errors.New("cannot be proven")
	// ErrForeign: the file holds keys of neither version, or what lies beside it
	// is not this rotation's.
	ErrForeign = errors.New("edited by somebody else")
)

// Step is one thing that was done.
type Step struct {
	Stage Stage     `json:"stage"`
	At    time.Time `json:"at"`
	By    string    `json:"by"`
	Why   string    `json:"why,omitempty"`
}

// Rotation is what is remembered of one rotation.
type Rotation struct {
	ID        string   `json:"id"`
	Secret    string   `json:"secret"`
	Stage     Stage    `json:"stage"`
	Emergency bool     `json:"emergency,omitempty"`
	EnvFile   string   `json:"env_file"`
	Old       []string `json:"old_fingerprints"`
	New       []string `json:"new_fingerprints"`
	Consumers []string `json:"consumers,omitempty"`
	// Doing is an action that began and has not ended: run it again.
	Doing Action `json:"doing,omitempty"`
	// Services are made anew in a change of a password, in this order.
	Services []string `json:"services,omitempty"`
	// RetireAfter is when the notice is over.
	RetireAfter time.Time `json:"retire_after,omitzero"`
	Steps       []Step    `json:"steps"`
	// GapSeconds is how long nothing answered while the service was last made
	// anew; negative if it was not measured.
	GapSeconds float64 `json:"gap_seconds"`
}

// Documents keep what is remembered: a state.Store.
type Documents interface {
	Load(name string, v any) (found bool, err error)
	Save(name string, v any) error
}

// Live is a container of the service that reads the secret.
type Live struct {
	ID, Name, State, Health string
	Value                   secret.Value
}

// Service is the compose service that reads the secret when it starts.
type Service interface {
	Name() string
	// Live returns its containers, stopped ones too, with the secret in each.
	Live(ctx context.Context) ([]Live, error)
	// Recreate makes its containers anew if their configuration has changed.
	Recreate(ctx context.Context) error
	// Drift says what would change although no key did.
	Drift(ctx context.Context) ([]string, error)
}

// Prober asks the service for something that needs a key, and returns the HTTP
// status. The empty key means none.
type Prober interface {
	Probe(ctx context.Context, key string) (status int, err error)
}

// Rotator rotates one secret.
type Rotator struct {
	Secret  string // API_KEYS or ADMIN_KEYS
	EnvFile string
	Docs    Documents
	Service Service
	Prober  Prober
	Editor  envfile.Editor
	Now     func() time.Time
	Who     string
	Timeout time.Duration // for the service to be ready again
	// Say is told what is being done.
	Say func(format string, args ...any)
	// Step, if set, is called before everything that changes something: for
	// tests that end the process there.
	Step func(name string)
}

func (r *Rotator) step(name string) {
	if r.Step != nil {
		r.Step(name)
	}
}

func (r *Rotator) say(format string, args ...any) {
	if r.Say != nil {
		r.Say(format, args...)
	}
}

// document is the name under which a secret's rotation is remembered.
func document(name string) string {
	return "rotation-" + strings.ReplaceAll(strings.ToLower(name), " ", "-")
}

func (r *Rotator) backupFile() string { return r.beside() + ".bak" }
func (r *Rotator) newFile() string    { return r.beside() + ".new" }

func (r *Rotator) beside() string {
	return r.EnvFile + ".escrowctl-" + strings.ReplaceAll(r.Secret, " ", "_")
}

// Current returns the secret's rotation, ended or not; found is false if there
// never was one.
func (r *Rotator) Current() (rot Rotation, found bool, err error) {
	found, err = r.Docs.Load(document(r.Secret), &rot)
	return rot, found, err
}

func (r *Rotator) save(rot Rotation) error {
	r.step("save " + string(rot.Stage) + " " + string(rot.Doing))
	return r.Docs.Save(document(r.Secret), rot)
}

// reach notes that a stage is reached.
func (r *Rotator) reach(rot *Rotation, stage Stage, why string) {
	rot.Stage = stage
	rot.Steps = append(rot.Steps, Step{Stage: stage, At: r.Now().UTC(), By: r.Who, Why: why})
}

// active returns the rotation that has not ended.
func (r *Rotator) active() (Rotation, error) {
	rot, found, err := r.Current()
	if err != nil {
		return rot, err
	}
	if !found || rot.Stage.Ended() {
		none := fmt.Errorf("%s: %w: begin one with %s", r.Secret, ErrNone, command(r.Secret))
		if found { // a process that was killed just after the end left its files
			return rot, errors.Join(none, r.clear(rot))
		}
		return rot, none
	}
	if rot.EnvFile != r.EnvFile {
		return rot, fmt.Errorf("%s: the rotation was begun on %s and this is %s: run it where it was begun, or set compose.env_file", r.Secret, rot.EnvFile, r.EnvFile)
	}
	return rot, nil
}

// Plan says what Start is to make.
type Plan struct {
	Count     int      // of new keys, without consumers
	Consumers []string // a key for each
	Emergency bool
	Why       string
}

func (p Plan) count() int { return max(p.Count, len(p.Consumers), 1) }

// Start makes new keys and begins a rotation. They are in force only after
// Activate. The keys that it returns are for the consumers' eyes; until
// HandedOut says that they have them, Start returns the same ones again.
func (r *Rotator) Start(p Plan) (Rotation, []secret.Value, error) {
	rot, found, err := r.Current()
	switch {
	case err != nil:
		return rot, nil, err
	case found && rot.Doing == Begin:
		v, unkept := r.versions(rot)
		if unkept == nil {
			return rot, v.new, p.same(rot)
		}
		err = r.clear(rot) // it was killed before the keys were kept, and nobody has them
	case found && !rot.Stage.Ended():
		return rot, nil, fmt.Errorf("%s: %w, begun %s and now %s: finish it, or rotate-keys cancel %s",
			r.Secret, ErrRunning, rot.Steps[0].At.Format(time.DateOnly), rot.Stage, r.Secret)
	case found:
		err = r.clear(rot) // a process that was killed just after the end left its files
	default:
		err = r.alone()
	}
	if err != nil {
		return rot, nil, err
	}
	return r.begin(p)
}

// begin makes the keys. The record comes before the files: without one, files
// beside .env are those of a rotation that somebody else began.
func (r *Rotator) begin(p Plan) (Rotation, []secret.Value, error) {
	old, err := r.inFile()
	if err != nil {
		return Rotation{}, nil, err
	}
	rot := Rotation{
		ID: r.Now().UTC().Format("20060102T150405Z"), Secret: r.Secret, EnvFile: r.EnvFile, Doing: Begin,
		Emergency: p.Emergency, Consumers: p.Consumers, Old: fingerprints(old), GapSeconds: -1,
	}
	fresh := make([]secret.Value, p.count())
	for i := range fresh {
		fresh[i] = secret.New(newSecret())
		rot.New = append(rot.New, fresh[i].String())
	}
	// The new value must be one that the file can hold, or nobody is told of it.
	if err := r.rehearse(join(slices.Concat(old, fresh))); err != nil {
		return Rotation{}, nil, err
	}
	r.reach(&rot, Planned, p.Why)
	if err := r.save(rot); err != nil {
		return rot, nil, err
	}
	return rot, fresh, r.keep(r.Secret + "=" + join(fresh) + "\n")
}

// newSecret returns random bytes, as many as the runbook says, in hexadecimal.
func newSecret() string {
	b := make([]byte, runbook.APIKeyBytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// same sees that an interrupted start is gone on with as it was begun: some
// consumers may have their keys already.
func (p Plan) same(rot Rotation) error {
	if p.count() == len(rot.New) && slices.Equal(p.Consumers, rot.Consumers) && p.Emergency == rot.Emergency {
		return nil
	}
	return fmt.Errorf("%s: %w: a start was interrupted that made %d for the consumers %q: run it again as it was, or rotate-keys cancel %s",
		rot.Secret, ErrRunning, len(rot.New), rot.Consumers, rot.Secret)
}

// HandedOut notes that the consumers have their keys.
func (r *Rotator) HandedOut() (Rotation, error) {
	rot, err := r.active()
	if err != nil || rot.Doing != Begin {
		return rot, err
	}
	rot.Doing = ""
	return rot, r.save(rot)
}

// Rehearse reads the file and says which keys are in force, changing nothing.
func (r *Rotator) Rehearse() ([]string, error) {
	old, err := r.inFile()
	if err != nil {
		return nil, err
	}
	return fingerprints(old), r.rehearse(join(old) + "," + strings.Repeat("0", 2*runbook.APIKeyBytes))
}

func (r *Rotator) rehearse(value string) error {
	f, err := envfile.Read(r.EnvFile)
	if err != nil {
		return err
	}
	_, err = f.With(r.Secret, value)
	return err
}

// Notify tells the consumers, and notes that they were told, and until when the
// old keys are accepted at least. Killed in between it tells them again: a note
// without a notice would let their keys be retired unannounced.
func (r *Rotator) Notify(retireAfter time.Time, why string, tell func() error) (Rotation, error) {
	rot, err := r.active()
	if err != nil {
		return rot, err
	}
	if rot.Doing == Begin {
		return rot, fmt.Errorf("notify %s: %w: its keys are not handed out: run rotate-keys start again", r.Secret, ErrTooEarly)
	}
	if rot.Stage != Planned && rot.Stage != Notified {
		return rot, fmt.Errorf("%s is %s already: its consumers were told until %s", r.Secret, rot.Stage, rot.RetireAfter.Format(time.DateOnly))
	}
	if least := r.Now().Add(runbook.RotationNotice); retireAfter.Before(least) {
		return rot, fmt.Errorf("%w: the notice is %d days, so not before %s", ErrTooEarly, runbook.RotationNotice/runbook.Day, least.UTC().Format("2006-01-02 15:04 MST"))
	}
	if err := tell(); err != nil {
		return rot, fmt.Errorf("the consumers are not told: %w", err)
	}
	rot.RetireAfter = retireAfter.UTC()
	r.reach(&rot, Notified, why)
	return rot, r.save(rot)
}

// Allowed says whether the action may begin now; the error is ErrTooEarly with
// the reason. An action that began is always allowed to go on.
func (r *Rotator) Allowed(rot Rotation, do Action) error {
	early := func(format string, args ...any) error {
		return fmt.Errorf("%s %s: %w: %s", do, r.Secret, ErrTooEarly, fmt.Sprintf(format, args...))
	}
	switch {
	case rot.Stage.Ended():
		return fmt.Errorf("%s: %w", r.Secret, ErrNone)
	case rot.Doing == do, do == Rollback:
		return nil
	case rot.Doing != "":
		return early("%s began and has not ended: run it again, or roll back", rot.Doing)
	case do == Emergency && !rot.Emergency, do == Activate && rot.Emergency, do == Retire && rot.Emergency:
		return early("this rotation is of the other kind: see rotate-keys status")
	case do == Activate && rot.Stage == Planned:
		return early("its consumers are not told: rotate-keys notify %s", r.Secret)
	case do == Activate && rot.Stage != Notified:
		return early("it is %s already", rot.Stage)
	case do == Retire && rot.Stage != Verified:
		return early("the new keys are not in force: it is %s", rot.Stage)
	case do == Retire && r.Now().Before(rot.RetireAfter):
		return early("the consumers were told that the old keys hold until %s", rot.RetireAfter.Format("2006-01-02 15:04 MST"))
	}
	return nil
}

// Cancel ends a rotation before anything has changed. With abandon it ends one
// in any stage, and leaves file and containers as they are.
func (r *Rotator) Cancel(why string, abandon bool) (Rotation, error) {
	rot, err := r.active()
	if err != nil {
		return rot, err
	}
	if !abandon && (rot.Stage != Planned && rot.Stage != Notified || rot.Doing != "" && rot.Doing != Begin) {
		return rot, fmt.Errorf("cancel %s: new keys are in force or were about to be: rotate-keys rollback %s", r.Secret, r.Secret)
	}
	rot.Doing = ""
	r.reach(&rot, Cancelled, why)
	if err := r.save(rot); err != nil {
		return rot, err
	}
	return rot, r.drop(rot)
}
