//go:build !linux

package store

import "errors"

// renameExclusive is known to Linux alone.
func renameExclusive(string, string) error { return errors.ErrUnsupported }
