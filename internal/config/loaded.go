package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stellarescrow/escrowctl/internal/secret"
)

// Loaded is a configuration with the origin of each value.
type Loaded struct {
	Config
	// File is the configuration file that was read; empty if there is none.
	File string
	// Credentials are S3's of the env file, if no other ones weigh more.
	Credentials Credentials
	// Warnings are faults that do not stop anything, one line each.
	Warnings []string

	keys    []*key
	environ map[string]string
	origins map[string]Origin
}

// Entry is one setting as config show prints it.
type Entry struct {
	Key    string `json:"key"`
	Value  string `json:"value"` // redacted
	Origin Origin `json:"origin"`
}

// Entries returns every setting, sorted by key, with its secrets redacted.
func (l *Loaded) Entries() []Entry {
	out := make([]Entry, 0, len(l.keys))
	for _, k := range l.keys {
		out = append(out, Entry{Key: k.name, Value: k.show(&l.Config), Origin: l.Origin(k.name)})
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// Origin returns where the value of a key (s3.bucket) came from.
func (l *Loaded) Origin(key string) Origin { return l.origins[key] }

// Scrubber returns a scrubber for all secrets of the configuration.
func (l *Loaded) Scrubber(more ...string) *secret.Scrubber {
	c := &l.Config
	secrets := []string{l.Credentials.SecretAccessKey.Reveal(), l.Credentials.SessionToken.Reveal(), c.Report.Webhook.Reveal(), c.Certs.Webhook.Reveal(), c.Grafana.AdminPassword.Reveal()}
	for _, s := range append(more, c.Database.URL.Reveal(), c.Report.Pushgateway.Reveal(), c.Redis.URL.Reveal()) {
		// A URL without a password is no secret, and useful in messages.
		if secret.RedactURL(s) != s {
			secrets = append(secrets, s)
		}
	}
	return secret.NewScrubber(secrets...)
}

// StateDir returns the state directory: state.dir, else /var/lib/escrowctl for
// root, else escrowctl in $XDG_STATE_HOME or ~/.local/state.
func (l *Loaded) StateDir() (string, error) {
	if l.State.Dir != "" {
		return l.State.Dir, nil
	}
	return stateDir(os.Geteuid(), l.environ)
}

func stateDir(uid int, environ map[string]string) (string, error) {
	if uid == 0 {
		return "/var/lib/escrowctl", nil
	}
	// The base directory specification has relative paths ignored.
	if dir := environ["XDG_STATE_HOME"]; filepath.IsAbs(dir) {
		return filepath.Join(dir, "escrowctl"), nil
	}
	if home := environ["HOME"]; filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "escrowctl"), nil
	}
	return "", errors.New("state directory: neither XDG_STATE_HOME nor HOME is set: set state.dir (ESCROWCTL_STATE_DIR)")
}
