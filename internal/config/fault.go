package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Kind is where a value came from, in order of weight.
type Kind uint8

// The kinds of origin.
const (
	FromDefault Kind = iota
	FromFile
	FromEnvFile // the .env of the compose project
	FromEnv
	FromFlag
)

// Origin is where a value came from.
type Origin struct {
	Kind Kind
	// Name is the file's path, the variable's name, or the flag with its dashes.
	Name string
	Line int    // in a configuration file
	Var  string // the variable, in a .env file
}

// String returns "default", "file escrowctl.yaml:12", "env file .env:S3_BUCKET",
// "env S3_BUCKET" or "flag --bucket".
func (o Origin) String() string {
	switch o.Kind {
	case FromFile:
		if o.Line == 0 {
			return "file " + o.Name
		}
		return "file " + o.Name + ":" + strconv.Itoa(o.Line)
	case FromEnvFile:
		if o.Var == "" {
			return "env file " + o.Name
		}
		return "env file " + o.Name + ":" + o.Var
	case FromEnv:
		return "env " + o.Name
	case FromFlag:
		return "flag " + o.Name
	default:
		return "default"
	}
}

// MarshalText returns the text of String.
func (o Origin) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Fault is one thing wrong with the configuration.
type Fault struct {
	Key     string `json:"key,omitempty"`   // empty where a whole file is at fault
	Value   string `json:"value,omitempty"` // redacted
	Origin  Origin `json:"origin"`
	Problem string `json:"problem"`
	Remedy  string `json:"remedy"` // the way out
}

// String returns the fault in one line.
func (f Fault) String() string {
	var b strings.Builder
	if f.Key != "" {
		b.WriteString(f.Key)
		if f.Value != "" {
			b.WriteString(": ")
		}
	}
	if f.Value != "" {
		b.WriteString(strconv.Quote(f.Value))
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	fmt.Fprintf(&b, "(%s): %s", f.Origin, f.Problem)
	if f.Remedy != "" {
		b.WriteString(": " + f.Remedy)
	}
	return b.String()
}

// Faults is everything that is wrong, in the order of the sources.
type Faults []Fault

// Error is the error of a configuration that cannot be used.
type Error struct{ Faults Faults }

// Error names every fault, one a line.
func (e *Error) Error() string {
	if len(e.Faults) == 1 {
		return "configuration: " + e.Faults[0].String()
	}
	lines := make([]string, 0, len(e.Faults)+1)
	lines = append(lines, fmt.Sprintf("configuration: %d faults:", len(e.Faults)))
	for _, f := range e.Faults {
		lines = append(lines, "  "+f.String())
	}
	return strings.Join(lines, "\n")
}

// problem is what a parser says of a value; Load adds key, value and origin.
// Neither text may hold a value that could be a secret.
type problem struct{ what, remedy string }

// faulty makes a problem; the remedy may have arguments.
func faulty(what, remedy string, args ...any) *problem {
	return &problem{what: what, remedy: fmt.Sprintf(remedy, args...)}
}
