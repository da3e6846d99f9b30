// Package envfile edits one value of a .env file and leaves every other byte
// alone: order, comments, quotes, line ends, a missing last newline.
//
// It reads the file as Compose v2 does (compose-go's dotenv), and where other
// readers of the same file, Compose v1 among them, would see another value, it
// does not guess: such a value has no known text and cannot be edited, and the
// error names the line. No error holds a value.
package envfile

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ErrMissing says that the file has no such name.
var ErrMissing = errors.New("not in the file")

// LineError is what keeps a file or a value from being edited.
type LineError struct {
	Line   int // 1 is the first
	Name   string
	Reason string // ends with the way out
}

func (e *LineError) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("envfile: line %d: %s", e.Line, e.Reason)
	}
	return fmt.Sprintf("envfile: line %d: %s: %s", e.Line, e.Name, e.Reason)
}

// Entry is one NAME=value.
type Entry struct {
	Name string
	Line int // where it begins
	// start and end bound the value as written, with its quotes.
	start, end int
	quote      byte // 0, ' or "
	value      string
	doubt      string // why its value is not known for certain; "" if it is
}

// File is a .env file, taken apart. It is never changed.
type File struct {
	data    []byte
	entries []Entry
}

// Bytes returns the file's contents.
func (f *File) Bytes() []byte { return slices.Clone(f.data) }

// Names returns the names in the file, each once, in their order.
func (f *File) Names() []string {
	var out []string
	for _, e := range f.entries {
		if !slices.Contains(out, e.Name) {
			out = append(out, e.Name)
		}
	}
	return out
}

// Get returns the value of name. The errors are ErrMissing and *LineError.
func (f *File) Get(name string) (string, error) {
	e, err := f.only(name)
	if err != nil {
		return "", err
	}
	if e.doubt != "" {
		return "", &LineError{e.Line, name, e.doubt}
	}
	return e.value, nil
}

// Line returns the line on which name is set first, 0 if it is not.
func (f *File) Line(name string) int {
	for _, e := range f.entries {
		if e.Name == name {
			return e.Line
		}
	}
	return 0
}

// only returns the one entry of that name.
func (f *File) only(name string) (Entry, error) {
	var found []Entry
	var lines []string
	for _, e := range f.entries {
		if e.Name == name {
			found = append(found, e)
			lines = append(lines, strconv.Itoa(e.Line))
		}
	}
	switch len(found) {
	case 0:
		return Entry{}, fmt.Errorf("envfile: %s: %w", name, ErrMissing)
	case 1:
		return found[0], nil
	default:
		return Entry{}, &LineError{found[1].Line, name, "it is set on the lines " + strings.Join(lines, ", ") + ": leave one of them"}
	}
}

// With returns the file with another value for name, which must be there. The
// value keeps the quotes it had, if they can hold it, and gets single ones if
// not.
func (f *File) With(name, value string) (*File, error) {
	e, err := f.only(name)
	if err != nil {
		return nil, err
	}
	if e.doubt != "" {
		return nil, &LineError{e.Line, name, e.doubt}
	}
	written, ok := write(value, e.quote)
	if !ok {
		return nil, &LineError{e.Line, name, "the new value has characters that not every reader of .env files takes alike: use letters and digits"}
	}
	out, err := f.replace(e, []byte(written))
	if err != nil {
		return nil, err
	}
	if got, err := out.Get(name); err != nil || got != value {
		return nil, &LineError{e.Line, name, "the new value would not be read back as it is: write it on a line of its own, without quotes"}
	}
	return out, nil
}

// WithFrom returns the file with name written exactly as it is in another one.
func (f *File) WithFrom(other *File, name string) (*File, error) {
	e, err := f.only(name)
	if err != nil {
		return nil, err
	}
	from, err := other.only(name)
	if err != nil {
		return nil, err
	}
	for _, x := range []Entry{e, from} {
		if x.doubt != "" {
			return nil, &LineError{x.Line, name, x.doubt}
		}
	}
	return f.replace(e, other.data[from.start:from.end])
}

// replace writes raw in place of the entry's value and sees to it that nothing
// else is read differently.
func (f *File) replace(e Entry, raw []byte) (*File, error) {
	data := slices.Concat(f.data[:e.start], raw, f.data[e.end:])
	out, err := Parse(data)
	if err != nil {
		return nil, err
	}
	same := func(a, b Entry) bool {
		return a.Name == b.Name && (a.Name == e.Name || bytes.Equal(f.data[a.start:a.end], data[b.start:b.end]))
	}
	if !slices.EqualFunc(f.entries, out.entries, same) {
		return nil, &LineError{e.Line, e.Name, "the new value would change how other lines are read: write it on a line of its own, without quotes"}
	}
	return out, nil
}

// plainBytes need no quotes for any reader.
const plainBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789,._-+/:@%="

// write returns value as it is to be written, with the quotes if they serve.
func write(value string, quote byte) (string, bool) {
	bare := !strings.ContainsFunc(value, func(r rune) bool { return !strings.ContainsRune(plainBytes, r) })
	quotable := !strings.ContainsAny(value, "'\"\\`\n\r") && !strings.Contains(value, "${") && !strings.ContainsFunc(value, odd)
	switch {
	case quote == 0 && bare && value != "":
		return value, true
	case quote == '"' && quotable && !strings.Contains(value, "$"):
		return `"` + value + `"`, true
	case quotable:
		return "'" + value + "'", true
	}
	return "", false
}
