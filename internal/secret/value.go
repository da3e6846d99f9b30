// Package secret keeps secrets out of everything that is printed, logged or
// written: a Value shows a fingerprint wherever it is formatted, RedactURL and
// Scrubber take secrets out of text that was made by others.
package secret

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
)

// fingerprintBytes is how much of the hash a fingerprint shows: enough to tell
// two keys apart in a journal, too little to search for the key itself.
const fingerprintBytes = 4

// Fingerprint names a secret without giving it away: "sha256:" and the first
// eight hexadecimal digits of its hash. The fingerprint of nothing is "".
func Fingerprint(s string) string {
	if s == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(sum[:fingerprintBytes])
}

// Value is a string that shows its fingerprint however it is printed: by fmt
// with any verb, by slog, as JSON, YAML or text. Only Reveal gives the secret.
// The zero Value is the empty secret.
type Value struct {
	// A pointer, because fmt calls no methods on unexported fields of other
	// structs: there it would print a string, but of a pointer only its address.
	p *string
}

// New wraps s. An empty s gives the zero Value.
func New(s string) Value {
	if s == "" {
		return Value{}
	}
	return Value{p: &s}
}

// Reveal returns the secret itself, for the one place that has to have it.
func (v Value) Reveal() string {
	if v.p == nil {
		return ""
	}
	return *v.p
}

// IsZero says whether there is no secret.
func (v Value) IsZero() bool { return v.Reveal() == "" }

// Equal says whether both hold the same secret. (== compares identity.)
func (v Value) Equal(w Value) bool { return v.Reveal() == w.Reveal() }

// String returns the fingerprint.
func (v Value) String() string { return Fingerprint(v.Reveal()) }

// GoString returns the fingerprint, for %#v.
func (v Value) GoString() string { return v.String() }

// Format writes the fingerprint for every verb and flag, so that %x or %d do
// not reach the secret either.
func (v Value) Format(state fmt.State, _ rune) { fmt.Fprint(state, v.String()) }

// MarshalText returns the fingerprint.
func (v Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// MarshalJSON returns the fingerprint as a JSON string.
func (v Value) MarshalJSON() ([]byte, error) { return json.Marshal(v.String()) }

// LogValue returns the fingerprint.
func (v Value) LogValue() slog.Value { return slog.StringValue(v.String()) }
