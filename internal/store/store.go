// Package store is where backups live: a directory or an S3 bucket behind one
// small interface. Objects are created, never overwritten, and appear under
// their name whole or not at all. The bucket is in package s3store, so that
// those who only name the interface do not draw in an SDK.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Sentinels that callers choose by.
var (
	// ErrNotExist says that there is no object of that name.
	ErrNotExist = errors.New("no such object")
	// ErrExist says that an object of that name is there already.
	ErrExist = errors.New("the object exists already")
	// ErrMismatch says that a stored object is not what was sent.
	ErrMismatch = errors.New("the stored object is not what was sent")
	// ErrCredentials says that the store does not know the credentials, or no
	// longer: what they may do is another matter.
	ErrCredentials = errors.New("the credentials are refused")
	// ErrDenied says that the credentials are known and lack a right.
	ErrDenied = errors.New("access is denied")
	// ErrChanged says that an object was replaced while it was being read.
	ErrChanged = errors.New("the object changed while it was being read")
)

// Object is one stored file.
type Object struct {
	Name    string
	Size    int64 // bytes
	ModTime time.Time
}

// Reader is the half of a store that verifying and restoring need.
type Reader interface {
	// Location names the store for people: a directory or s3://bucket/prefix.
	Location() string
	// List returns all objects directly in the store, sorted by name. What
	// lies deeper, is no regular file or is still being written is left out.
	List(ctx context.Context) ([]Object, error)
	// Stat returns ErrNotExist where there is no such object.
	Stat(ctx context.Context, name string) (Object, error)
	// Open reads length bytes from offset, or to the end if length < 0. What
	// lies beyond the end reads as nothing. Breaks of the connection are mended
	// by asking for the rest of the same object; ErrChanged if it is not there
	// as it was.
	Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
}

// Store also writes and deletes.
type Store interface {
	Reader
	// Put creates a small object; ErrExist if the name is taken.
	Put(ctx context.Context, name string, body []byte) error
	// Upload creates an object from src, which may still be growing; ErrExist
	// if the name is taken, ErrSource if src never became whole, ErrMismatch if
	// the store ended up holding something else. On an error nothing of it is
	// left under the name, as far as the store still answers.
	Upload(ctx context.Context, name string, src Source) (Receipt, error)
	// Delete removes an object; one that is not there is no error.
	Delete(ctx context.Context, name string) error
	// Sweep removes unfinished uploads begun before olderThan whose name owns
	// accepts, and says which.
	Sweep(ctx context.Context, olderThan time.Time, owns func(name string) bool) ([]string, error)
	// CheckWritable tries out that an upload can be begun and taken back.
	CheckWritable(ctx context.Context) error
}

// Evidence is what proves that a stored object is what was sent.
type Evidence string

// The kinds of evidence, strongest first.
const (
	BySHA256 Evidence = "sha256" // the store's own SHA-256 of what it holds
	ByETag   Evidence = "etag"   // the store's MD5 of what it holds
	BySize   Evidence = "size"   // only the length
)

// Receipt says what an upload left in the store.
type Receipt struct {
	Size     int64 // bytes
	Parts    int
	Evidence Evidence
}

// ProbeName is the name that CheckWritable begins to write and never completes.
// Sweep takes it for ours whatever owns says.
const ProbeName = "escrowctl-write-test"

// maxName leaves room for what a temporary name adds to it within the 255 bytes
// that file systems allow.
const maxName = 200

// CheckName refuses names that could leave the store or break a terminal.
func CheckName(name string) error {
	bad := name == "" || name == "." || name == ".." || len(name) > maxName || strings.ContainsAny(name, `/\`) ||
		!utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl)
	if bad {
		return fmt.Errorf("object name %q is not allowed: no slashes, no control characters, at most %d bytes", name, maxName)
	}
	return nil
}

// CheckRange refuses an offset before the start.
func CheckRange(name string, offset int64) error {
	if offset < 0 {
		return fmt.Errorf("read %s: offset %d is before its start", name, offset)
	}
	return nil
}
