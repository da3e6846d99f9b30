package keys

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/envfile"
	"github.com/stellarescrow/escrowctl/internal/secret"
)

// parseKeys takes a list of keys apart, as the API does.
func parseKeys(value string) []secret.Value {
	var out []secret.Value
	for _, key := range strings.Split(value, ",") {
		if key = strings.TrimSpace(key); key != "" {
			out = append(out, secret.New(key))
		}
	}
	return out
}

func join(keys []secret.Value) string {
	texts := make([]string, len(keys))
	for i, k := range keys {
		texts[i] = k.Reveal()
	}
	return strings.Join(texts, ",")
}

func fingerprints(keys []secret.Value) []string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = k.String()
	}
	return out
}

// inFile returns the keys that the .env file holds.
func (r *Rotator) inFile() ([]secret.Value, error) {
	f, err := envfile.Read(r.EnvFile)
	if err != nil {
		return nil, err
	}
	value, err := f.Get(r.Secret)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.EnvFile, err)
	}
	keys := parseKeys(value)
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: %s holds no key: there is nothing to rotate", r.EnvFile, r.Secret)
	}
	return keys, nil
}

// versions are the values that the variable may have during a rotation.
type versions struct {
	original *envfile.File // as it was before
	old, new []secret.Value
}

// value is what the variable has to hold after the action.
func (v versions) value(do Action) []secret.Value {
	switch do {
	case Activate:
		return slices.Concat(v.old, v.new)
	case Retire, Emergency:
		return v.new
	default:
		return v.old
	}
}

// before is the action that leads back to what was in force before do.
func before(do Action) Action {
	if do == Retire {
		return Activate
	}
	return Rollback
}

// keepWait is how long keep waits for somebody who edits in the same directory.
const keepWait = 2 * time.Minute

// keep writes the two files beside the .env file: what is new, and the file as
// it is. The directory is locked, so that of two that begin at once, each with a
// state directory of its own, one finds the other's files.
func (r *Rotator) keep(fresh string) error {
	lock, err := envfile.Lock(context.Background(), filepath.Dir(r.EnvFile), keepWait)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := r.alone(); err != nil {
		return err
	}
	r.step("write new keys")
	if err := r.Editor.Write(r.newFile(), []byte(fresh)); err != nil {
		return err
	}
	r.step("back up")
	return r.Editor.Copy(r.EnvFile, r.backupFile())
}

// alone refuses to begin where another one, that is not in this state directory,
// has left its files.
func (r *Rotator) alone() error {
	for _, path := range []string{r.newFile(), r.backupFile()} {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s: %w: %s lies there and no rotation of %s is known here: go on as the user, and with the state directory, that began it; or, if nobody did, move it away", r.EnvFile, ErrForeign, path, r.Secret)
		}
	}
	return nil
}

// clear makes room for another rotation: it removes the files that one which has
// ended, or was killed as it began, has left. Those of somebody who goes by
// another state directory are not touched.
func (r *Rotator) clear(rot Rotation) error {
	if !r.ours(rot) {
		return r.alone()
	}
	return r.tidy()
}

// drop removes the files of a rotation that ends here.
func (r *Rotator) drop(rot Rotation) error {
	if !r.ours(rot) {
		return nil
	}
	return r.tidy()
}

// ours says whether the files beside the .env file, if there are any, are this
// rotation's. The one with what is new is written first, and removed first.
func (r *Rotator) ours(rot Rotation) bool {
	f, err := envfile.Read(r.newFile())
	want := rot.New
	if errors.Is(err, fs.ErrNotExist) {
		f, err = envfile.Read(r.backupFile())
		want = rot.Old
	}
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		return false
	}
	var have []string
	for _, name := range f.Names() {
		value, _ := f.Get(name) // one that cannot be read is none of ours
		have = append(append(have, value, secret.Fingerprint(value)), fingerprints(parseKeys(value))...)
	}
	return len(want) > 0 && !slices.ContainsFunc(want, func(fp string) bool { return !slices.Contains(have, fp) })
}

// tidy removes the two files, and what a killed process left of them.
func (r *Rotator) tidy() error {
	for _, path := range []string{r.EnvFile, r.newFile(), r.backupFile()} {
		envfile.Sweep(path)
	}
	for _, path := range []string{r.newFile(), r.backupFile()} {
		r.step("remove " + path[len(r.EnvFile):])
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keys: %w: remove it by hand, it holds keys", err)
		}
	}
	return nil
}

// versions reads the two files and sees to it that they are those of this
// rotation.
func (r *Rotator) versions(rot Rotation) (versions, error) {
	read := func(path string, want []string) (*envfile.File, []secret.Value, error) {
		f, err := envfile.Read(path)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: without it this rotation cannot go on: restore it, or give the rotation up with rotate-keys cancel %s --abandon", err, r.Secret)
		}
		value, err := f.Get(r.Secret)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		keys := parseKeys(value)
		if !slices.Equal(fingerprints(keys), want) {
			return nil, nil, fmt.Errorf("%s: %w: it holds other keys than this rotation's", path, ErrForeign)
		}
		return f, keys, nil
	}
	original, old, err := read(r.backupFile(), rot.Old)
	if err != nil {
		return versions{}, err
	}
	_, fresh, err := read(r.newFile(), rot.New)
	return versions{original: original, old: old, new: fresh}, err
}

// check refuses a file that holds anything but one of the rotation's versions.
func (r *Rotator) check(v versions) error {
	have, err := r.inFile()
	if err != nil {
		return err
	}
	var known []string
	for _, do := range []Action{Rollback, Activate, Retire} {
		if slices.Equal(fingerprints(have), fingerprints(v.value(do))) {
			return nil
		}
		known = append(known, strings.Join(fingerprints(v.value(do)), " "))
	}
	return fmt.Errorf("%s: %s: %w: it holds the keys %s, this rotation knows %s: put one of those back, the old ones are in %s",
		r.EnvFile, r.Secret, ErrForeign, strings.Join(fingerprints(have), " "), strings.Join(known, "; "), r.backupFile())
}

// edit gives the variable the value for the action. That of Rollback is put
// back as it was written, to the byte.
func (v versions) edit(name string, do Action) func(*envfile.File) (*envfile.File, error) {
	return func(f *envfile.File) (*envfile.File, error) {
		if do == Rollback {
			return f.WithFrom(v.original, name)
		}
		return f.With(name, join(v.value(do)))
	}
}
