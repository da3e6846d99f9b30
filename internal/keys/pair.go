package keys

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/stellarescrow/escrowctl/internal/envfile"
	"github.com/stellarescrow/escrowctl/internal/secret"
)

// pair is the password before and after.
type pair struct {
	original *envfile.File
	old, new string
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
