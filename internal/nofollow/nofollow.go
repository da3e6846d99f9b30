// Package nofollow opens the files that escrowctl keeps for itself. What stands
// under their names may be somebody else's work, where others may write to the
// directory: a symbolic link to a file that is not ours, which would be read or
// overwritten for them, or a pipe that nobody writes to, on which everything
// would wait.
package nofollow

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// ErrNotFile says that what stands under a name is no regular file.
var ErrNotFile = errors.New("it is no regular file: look who put it there, and move it away")

// Flags are for os.OpenFile and its kin: the last part of the path must be no
// symbolic link, and a pipe is not waited for. Whether it is a file is yet to be
// looked at.
const Flags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// Open opens a regular file as os.OpenFile does. Do not give it os.O_TRUNC,
// which would do its work before the look.
func Open(path string, flag int, perm fs.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, flag|Flags, perm)
	switch {
	case errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.EISDIR):
		return nil, fmt.Errorf("open %s: %w", path, ErrNotFile)
	case err != nil:
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("open %s: %w", path, ErrNotFile)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Read is os.ReadFile for a regular file.
func Read(path string) ([]byte, error) {
	f, err := Open(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(f)
}

// Overwrite gives a regular file that is there other contents.
func Overwrite(path string, body []byte) error {
	f, err := Open(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.Write(body)
	}
	return errors.Join(err, f.Close())
}
