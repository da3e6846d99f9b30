package backup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"github.com/stellarescrow/escrowctl/internal/store"
)

// fileRanger opens ranges of a dump's compressed stream, decrypting if need be.
type fileRanger struct {
	store      store.Reader
	name       string
	identities []age.Identity // non-empty for an encrypted file
	whole      *fileHash      // hashes a read from the start to the end; may be nil
	meter      *Meter         // may be nil
}

var errDecrypt = errors.New("it cannot be decrypted")

func (f fileRanger) open(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if len(f.identities) > 0 && !(off == 0 && n < 0) {
		return f.openEncryptedRange(ctx, off, n)
	}
	rc, err := f.store.Open(ctx, f.name, off, n)
	if err != nil {
		return nil, err
	}
	src := &rawReader{r: rc}
	r := f.meter.reader(src)
	if f.whole != nil && off == 0 && n < 0 {
		f.whole.r = r
		r = f.whole
	}
	if len(f.identities) > 0 {
		dec, err := age.Decrypt(bufio.NewReaderSize(r, 1<<20), f.identities...)
		if err != nil {
			_ = rc.Close()
			return nil, src.or(decryptError(err))
		}
		r = decrypting{dec, src}
	}
	return readCloser{r, rc}, nil
}

// openEncryptedRange reads within an age file, which is cut into chunks of
// 64 KiB that decrypt on their own.
func (f fileRanger) openEncryptedRange(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	obj, err := f.store.Stat(ctx, f.name)
	if err != nil {
		return nil, err
	}
	at := &storeReaderAt{ctx: ctx, f: f, size: obj.Size}
	dec, size, err := age.DecryptReaderAt(at, obj.Size, f.identities...)
	if err != nil {
		return nil, at.src.or(decryptError(err))
	}
	if n < 0 {
		n = size - off
	}
	return io.NopCloser(bufio.NewReaderSize(decrypting{io.NewSectionReader(dec, off, n), &at.src}, 1<<20)), nil
}

// storeReaderAt reads an object at any offset. Reads that follow each other
// fetch ever more at once, up to a MiB, since age asks for 64 KiB at a time;
// others fetch just what is asked for.
type storeReaderAt struct {
	ctx   context.Context //nolint:containedctx // it lives as long as one open range
	f     fileRanger
	size  int64
	off   int64
	buf   []byte
	ahead int64
	src   rawReader // for the errors of reading
}

const maxAhead = 1 << 20

func (s *storeReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if off >= s.size {
		return 0, io.EOF
	}
	end := s.off + int64(len(s.buf))
	if off < s.off || off+int64(len(p)) > end {
		if off > end || off < s.off {
			s.ahead = 0
		}
		want := min(max(s.ahead, int64(len(p))), s.size-off)
		s.ahead = min(2*want, maxAhead)
		if err := s.fetch(off, want); err != nil {
			s.src.err = err
			return 0, err
		}
	}
	n := copy(p, s.buf[off-s.off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// fetch fills buf with n bytes from off, or with those that there are.
func (s *storeReaderAt) fetch(off, n int64) error {
	rc, err := s.f.store.Open(s.ctx, s.f.name, off, n)
	if err != nil {
		return err
	}
	defer func() { _ = rc.Close() }()
	if int64(cap(s.buf)) < n {
		s.buf = make([]byte, n)
	}
	got, err := io.ReadFull(s.f.meter.reader(rc), s.buf[:n])
	s.off, s.buf = off, s.buf[:got]
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

func decryptError(err error) error {
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return fmt.Errorf("decrypt: %w", err)
	}
	return fmt.Errorf("%w: %w", errDecrypt, err)
}

// rawReader remembers why its source could not be read, to tell that from what
// decryption makes of it.
type rawReader struct {
	r   io.Reader
	err error
}

func (s *rawReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// or returns the source's own error before err.
func (s *rawReader) or(err error) error {
	if s.err != nil {
		return s.err
	}
	return err
}

// decrypting names a failure of decryption as what it is: damage of the file.
type decrypting struct {
	io.Reader
	src *rawReader
}

func (d decrypting) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = d.src.or(fmt.Errorf("%w: %w", errDecrypt, err))
	}
	return n, err
}

type readCloser struct {
	io.Reader
	io.Closer
}
