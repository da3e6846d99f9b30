package schema

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Version is that of the encoded form. Readers refuse a newer one.
const Version = 1

// maxEncoded bounds what Decode expands to: a database of 100,000 tables takes
// a fifth of it.
const maxEncoded = 1 << 30

// A schema compresses about 20 times, and one of nothing but partitions that are
// alike perhaps 60 times. What would expand further was made to fill the memory.
const (
	leastEncoded = 16 << 20
	maxRatio     = 100
)

// Schema is what a database consists of.
type Schema struct {
	Version int      `json:"schema_version"`
	Server  int      `json:"server_version_num"` // 150014
	Objects []Object `json:"objects"`            // by kind and name
	// Moved names the objects that were changed while the dump ran (see
	// Settle): of these nobody can say which state the dump has.
	Moved []string `json:"moved,omitempty"`
	// Unsettled says why it is not known whether the schema stood still while
	// the dump ran; "" where it is.
	Unsettled string `json:"unsettled,omitempty"`
}

// Object is one thing in a schema: a table, a column, a function.
type Object struct {
	Kind string `json:"k"`           // "table", "column", "index", ...
	Name string `json:"n"`           // as SQL names it: public.trades.amount
	Of   string `json:"t,omitempty"` // the table it belongs to
	// Fields are what defines it, by name, as the server words them.
	Fields map[string]string `json:"f,omitempty"`
}

// UnmarshalJSON refuses at once what is no object: of millions of empty ones each
// would take many times the two bytes that it is.
func (o *Object) UnmarshalJSON(b []byte) error {
	type fields Object
	if err := json.Unmarshal(b, (*fields)(o)); err != nil {
		return err
	}
	if o.Kind == "" || o.Name == "" {
		return errors.New("an object without kind or name")
	}
	return nil
}

// ID names an object as messages do: "column public.trades.amount".
func (o Object) ID() string { return o.Kind + " " + o.Name }

// Major is the server's major version: 15.
func (s *Schema) Major() int { return s.Server / 10000 }

// ErrBadSchema says that an encoded schema cannot be used.
var ErrBadSchema = errors.New("the recorded schema is not valid")

// Encode returns the schema as gzip-compressed JSON: about a tenth of a MB for
// 1,000 tables.
func (s *Schema) Encode() ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if err := json.NewEncoder(z).Encode(s); err != nil {
		return nil, fmt.Errorf("encode the schema: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("encode the schema: %w", err)
	}
	return out.Bytes(), nil
}

// Decode reads what Encode wrote.
func Decode(data []byte) (*Schema, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadSchema, err)
	}
	limit := min(maxEncoded, leastEncoded+maxRatio*int64(len(data)))
	text, err := io.ReadAll(io.LimitReader(z, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadSchema, err)
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%w: %d bytes of it expand to over %d", ErrBadSchema, len(data), limit)
	}
	var s Schema
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadSchema, err)
	}
	if s.Version > Version {
		return nil, fmt.Errorf("%w: version %d is newer than this escrowctl knows (%d): use a newer escrowctl", ErrBadSchema, s.Version, Version)
	}
	s.sort()
	return &s, nil
}

func (s *Schema) sort() {
	slices.SortFunc(s.Objects, func(a, b Object) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
}

// Fingerprint is the SHA-256, in hexadecimal, of all objects in canonical form:
// equal for a database and its restored copy on the same major version. It may
// change with the version of escrowctl, so it is Compare that decides.
func (s *Schema) Fingerprint() string {
	h := sha256.New()
	field := func(text string) { _, _ = fmt.Fprintf(h, "%d:%s", len(text), text) }
	for _, o := range s.Objects {
		if ignored(o) {
			continue
		}
		field(o.Kind)
		field(o.Name)
		for _, name := range slices.Sorted(maps.Keys(o.Fields)) {
			if !advisory(o, name) {
				field(name)
				field(o.canonical(name))
			}
		}
		field("")
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Settle takes the schema as it was just before a dump and just after it, and
// returns that of the dump: the first, with what moved in between marked. With
// after nil nobody knows what moved, and why says so.
func Settle(before, after *Schema, why string) *Schema {
	s := *before
	if after == nil {
		s.Unsettled = why
		return &s
	}
	have := map[string]Object{}
	for _, o := range after.Objects {
		have[o.ID()] = o
	}
	for _, o := range before.Objects {
		now, ok := have[o.ID()]
		if !ok || !maps.Equal(o.Fields, now.Fields) {
			s.Moved = append(s.Moved, o.ID())
		}
		delete(have, o.ID())
	}
	s.Moved = append(s.Moved, slices.Collect(maps.Keys(have))...)
	slices.Sort(s.Moved)
	return &s
}

// Roles lists the roles that the schema's owners, rights and policies name, so
// that they can be made before a restore.
func (s *Schema) Roles() []string {
	seen := map[string]bool{}
	for _, o := range s.Objects {
		seen[o.Fields["owner"]] = true
		for _, role := range strings.Split(o.Fields["roles"], "\n") {
			seen[role] = true
		}
		for _, item := range strings.Split(o.Fields["rights"], "\n") {
			grantee, _ := aclName(item)
			seen[grantee] = true
		}
	}
	delete(seen, "")
	delete(seen, "public") // a policy's word for everyone
	return slices.Sorted(maps.Keys(seen))
}

// aclName takes the role off an access right, role=privileges/grantor; "" is
// everyone.
func aclName(item string) (name, rest string) {
	if !strings.HasPrefix(item, `"`) {
		name, rest, ok := strings.Cut(item, "=")
		if !ok {
			return "", item // nobody
		}
		return name, rest
	}
	end := quotedEnd(item, 0, false)
	return strings.ReplaceAll(strings.Trim(item[:end], `"`), `""`, `"`), item[end:]
}
