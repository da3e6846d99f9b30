package health

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// object is a JSON object whose values are not looked at yet.
type object map[string]json.RawMessage

// parseObject reads a body that must be one JSON object. Its error says what it
// is instead.
func parseObject(body []byte) (object, error) {
	text := bytes.TrimSpace(body)
	switch {
	case len(text) == 0:
		return nil, errors.New("an empty answer")
	case !utf8.Valid(text):
		return nil, errors.New("bytes that are no text")
	case text[0] == '<':
		return nil, errors.New("HTML in place of JSON")
	case text[0] != '{':
		return nil, fmt.Errorf("%s in place of a JSON object", excerpt(text))
	}
	var o object
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, fmt.Errorf("broken JSON (%w)", err)
	}
	return o, nil
}

// excerpt is the beginning of an answer, safe to print.
func excerpt(text []byte) string {
	const most = 24
	s := strings.ToValidUTF8(string(text[:min(len(text), most)]), "?")
	if len(text) > most {
		s += "..."
	}
	return fmt.Sprintf("%q", s)
}

// has says whether the object has the key, null or not.
func (o object) has(key string) bool {
	_, ok := o[key]
	return ok
}

// number returns a number from low to high. null is an error like anything else
// that is no number.
func (o object) number(key string, low, high float64) (float64, error) {
	raw, ok := o[key]
	if !ok {
		return 0, fmt.Errorf("no %s", key)
	}
	if string(raw) == "null" {
		return 0, fmt.Errorf("%s is null", key)
	}
	var n float64
	if json.Unmarshal(raw, &n) != nil || math.IsNaN(n) {
		return 0, fmt.Errorf("%s is %s, not a number", key, excerpt(raw))
	}
	if n < low || n > high {
		return 0, fmt.Errorf("%s is %s, which cannot be", key, excerpt(raw))
	}
	return n, nil
}

// whole returns a whole number from low on that a float64 holds exactly.
func (o object) whole(key string, low float64) (int64, error) {
	const exact = 1 << 53
	n, err := o.number(key, low, exact)
	if err != nil {
		return 0, err
	}
	if n != math.Trunc(n) {
		return 0, fmt.Errorf("%s is %v, not a whole number", key, n)
	}
	return int64(n), nil
}

// text returns a string.
func (o object) text(key string) (string, error) {
	raw, ok := o[key]
	if !ok {
		return "", fmt.Errorf("no %s", key)
	}
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		return "", fmt.Errorf("%s is %s, not a text", key, excerpt(raw))
	}
	return *s, nil
}

// objects returns a list of objects.
func (o object) objects(key string) ([]object, error) {
	raw, ok := o[key]
	if !ok {
		return nil, fmt.Errorf("no %s", key)
	}
	var list []object
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("%s is not a list of objects", key)
	}
	return list, nil
}

// time returns a time in RFC 3339.
func (o object) time(key string) (time.Time, error) {
	s, err := o.text(key)
	if err != nil {
		return time.Time{}, err
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s is %s, not a time", key, excerpt([]byte(s)))
	}
	return at, nil
}

// clean makes a service's own words safe for one line.
func clean(s string) string {
	const most = 120
	s = strings.ToValidUTF8(s, "?")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) { // control characters, and marks that turn the direction of writing
			return ' '
		}
		return r
	}, s)
}
