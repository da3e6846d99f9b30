package sqldump

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Ranger opens n bytes of the compressed stream from offset off; n < 0 is to
// the end.
type Ranger func(ctx context.Context, off, n int64) (io.ReadCloser, error)

// Raw is a member as it lies in the file.
type Raw struct {
	Number int // in the index
	Member Member
	Line   int64 // the line of the whole SQL that it begins on, from 1
	Data   []byte
	pool   *sync.Pool
}

// large says whether a member takes so much memory that only one such is unpacked
// at a time: those with a row or a statement of an unusual size, and those that
// were made to fill the memory of whoever reads them.
func (m Member) large() bool { return m.SQLSize > 8*MemberSize }

// Release gives the memory back.
func (r *Raw) Release() {
	data := r.Data
	r.Data = nil
	if r.pool != nil && data != nil {
		r.pool.Put(&data)
	}
}

// checksum compares the member's bytes with its index.
func (r *Raw) checksum() error {
	if sum := sha256.Sum256(r.Data); hex.EncodeToString(sum[:]) != r.Member.SHA256 {
		return fmt.Errorf("%w: its SHA-256 is not the index's", ErrDamaged)
	}
	return nil
}

// EarlyEndError says that the compressed stream ended within a member.
type EarlyEndError struct {
	Number int
	Member Member
	Have   int64 // bytes of the member that were there
	Err    error // io.ErrUnexpectedEOF or what the reader said
}

func (e *EarlyEndError) Error() string {
	return fmt.Sprintf("the file ends at byte %d, within %s (bytes %d to %d): %v", e.Member.Offset+e.Have,
		e.Member.describe(), e.Member.Offset, e.Member.Offset+e.Member.Size-1, e.Err)
}

func (e *EarlyEndError) Unwrap() []error { return []error{ErrTruncated, e.Err} }

// describe names a member by what it holds.
func (m Member) describe() string {
	if m.Table != "" {
		return "the rows of " + m.Table
	}
	return "the " + string(m.Section) + " section"
}

// span is a run of neighbouring members, with the line the first begins on.
type span struct {
	from, to int
	line     int64
}

func (x *Index) all() span { return span{0, len(x.Members), 1} }

func (x *Index) bytes(s span) int64 {
	n := int64(0)
	for _, m := range x.Members[s.from:s.to] {
		n += m.Size
	}
	return n
}

// read passes the members of s to fn in file order, fetching them with one
// open, into memory from pool. fn must Release each.
func (x *Index) read(ctx context.Context, open Ranger, pool *sync.Pool, s span, fn func(*Raw) error) (err error) {
	if s.from == s.to {
		return nil
	}
	whole := s == x.all()
	length := int64(-1) // so that bytes behind the last member are noticed
	if !whole {
		length = x.bytes(s)
	}
	r, err := open(ctx, x.Members[s.from].Offset, length)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := r.Close(); err == nil {
			err = cerr
		}
	}()
	for i := s.from; i < s.to; i++ {
		m := x.Members[i]
		data, err := fetch(r, pool, m.Size)
		if err != nil {
			if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read byte %d: %w", m.Offset+int64(len(data)), err)
			}
			return &EarlyEndError{Number: i, Member: m, Have: int64(len(data)), Err: io.ErrUnexpectedEOF}
		}
		raw := &Raw{Number: i, Member: m, Line: s.line, Data: data, pool: pool}
		s.line += m.Lines
		if err := fn(raw); err != nil {
			return err
		}
	}
	if whole {
		return atEnd(r, x.Size)
	}
	return nil
}

// ErrTrailing says that a file goes on behind its last member.
var ErrTrailing = errors.New("bytes follow the last member")

func atEnd(r io.Reader, size int64) error {
	n, err := io.Copy(io.Discard, r)
	switch {
	case err != nil:
		return fmt.Errorf("read byte %d: %w", size+n, err)
	case n > 0:
		return fmt.Errorf("%w: %d of them, from byte %d", ErrTrailing, n, size)
	}
	return nil
}

// trusted is the size up to which a member's room is made before it is read. An
// index may claim any size: beyond this one, room follows what is there.
const trusted = 32 << 20

// fetch reads the size bytes of a member; fewer, with the error, if there are no
// more.
func fetch(r io.Reader, pool *sync.Pool, size int64) ([]byte, error) {
	data := buffer(pool, min(size, trusted))
	n, err := io.ReadFull(r, data)
	for err == nil && int64(n) < size {
		next := min(size, 2*int64(n))
		data = append(make([]byte, 0, next), data...)[:next]
		var more int
		more, err = io.ReadFull(r, data[n:])
		n += more
	}
	return data[:n], err
}

func buffer(pool *sync.Pool, size int64) []byte {
	if b, ok := pool.Get().(*[]byte); ok && int64(cap(*b)) >= size {
		return (*b)[:size]
	}
	return roomy(size)
}

// roomy makes a buffer with room to spare, since members differ a little in
// size: the next one then fits too.
func roomy(size int64) []byte {
	const step = 512 << 10
	return make([]byte, size, (size+step-1)/step*step)
}
