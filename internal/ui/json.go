package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

var (
	errUnversioned = errors.New("json: schema_version is not the first key")
	errSecond      = errors.New("json: stdout holds a document already")
)

// JSON writes v to stdout, indented, in one piece. v is an object whose first
// key is schema_version; anything else is an error, and so is a second
// document, which would make the output unreadable. Characters that a terminal
// would obey are escaped, which leaves the data the same.
func (s *IO) JSON(v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	if !bytes.HasPrefix(b.Bytes(), []byte("{\n  \"schema_version\": ")) {
		return errUnversioned
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.document {
		return errSecond
	}
	s.document = true
	_, err := s.Out.Write(escapeHidden(b.Bytes()))
	return err
}

// Documented says whether a JSON document went to stdout.
func (s *IO) Documented() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.document
}

// escapeHidden writes what JSON allows to stand raw inside strings, and a
// terminal would obey, as \u escapes.
func escapeHidden(doc []byte) []byte {
	out := make([]byte, 0, len(doc))
	for i := 0; i < len(doc); {
		r, size := utf8.DecodeRune(doc[i:])
		switch {
		case r == '\n' || !hidden(r):
			out = append(out, doc[i:i+size]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		i += size
	}
	return out
}

// Document is an object of schema_version 1 and one other key.
func Document(key string, v any) json.Marshaler { return document{key, v} }

type document struct {
	key   string
	value any
}

// MarshalJSON writes schema_version first, where a map would sort the keys.
func (d document) MarshalJSON() ([]byte, error) {
	key, err := json.Marshal(d.key)
	if err != nil {
		return nil, err
	}
	value, err := json.Marshal(d.value)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `{"schema_version":1,%s:%s}`, key, value), nil
}
