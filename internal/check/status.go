// Package check holds what every check of the platform comes down to: a status
// with its evidence, the order of statuses, and a runner in which one dead
// dependency costs one line and not the command.
package check

import (
	"errors"
	"fmt"
)

// Status is the outcome of a check. The values are in order of weight: of
// several the greatest counts.
type Status uint8

// The statuses. Unknown outweighs Warning: what could not be proven is never
// better than what was seen to be nearly good.
const (
	OK Status = iota
	Warning
	Unknown
	Critical
)

// String returns ok, warning, unknown or critical.
func (s Status) String() string {
	switch s {
	case OK:
		return "ok"
	case Warning:
		return "warning"
	case Unknown:
		return "unknown"
	case Critical:
		return "critical"
	default:
		return fmt.Sprintf("status(%d)", uint8(s))
	}
}

// ExitCode returns the exit code of a command that ends with this status: 0 ok,
// 1 warning, 2 critical, 3 unknown.
func (s Status) ExitCode() int {
	switch s {
	case OK:
		return 0
	case Warning:
		return 1
	case Critical:
		return 2
	default:
		return 3
	}
}

// MarshalText returns the text of String; a value outside the four is an error.
func (s Status) MarshalText() ([]byte, error) {
	if s > Critical {
		return nil, fmt.Errorf("check: no such status: %d", uint8(s))
	}
	return []byte(s.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (s *Status) UnmarshalText(text []byte) error {
	for candidate := OK; candidate <= Critical; candidate++ {
		if candidate.String() == string(text) {
			*s = candidate
			return nil
		}
	}
	return fmt.Errorf("check: no such status: %q: want ok, warning, unknown or critical", text)
}

// Worst returns the gravest of the given statuses, and OK for none.
func Worst(statuses ...Status) Status {
	worst := OK
	for _, s := range statuses {
		worst = max(worst, min(s, Critical))
	}
	return worst
}

// Error is an error that carries its status, and so the exit code it leads to.
type Error struct {
	Status Status
	Err    error
}

// Error returns the text of the error within.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Status.String()
	}
	return e.Err.Error()
}

// Unwrap returns the error within.
func (e *Error) Unwrap() error { return e.Err }

// StatusOf returns OK for nil, the status carried by err, or Critical.
func StatusOf(err error) Status {
	if err == nil {
		return OK
	}
	if carried, ok := errors.AsType[*Error](err); ok {
		return carried.Status
	}
	return Critical
}
