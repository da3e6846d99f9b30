package sqldump

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/stellarescrow/escrowctl/internal/inflate"
)

// Codec is how members are compressed.
type Codec string

// The codecs. Members of either, laid end to end, are one valid file for
// gunzip or unzstd.
const (
	Gzip Codec = "gzip"
	Zstd Codec = "zstd"
	None Codec = "none" // plain .sql text, for reading only
)

// Extension returns the ending of a file's name: ".sql.gz".
func (c Codec) Extension() string {
	switch c {
	case Zstd:
		return ".sql.zst"
	case None:
		return ".sql"
	}
	return ".sql.gz"
}

// DefaultLevel returns klauspost/compress level 2 for gzip, which makes of most
// COPY text what level 3 does, in three quarters of the time (docs/decisions/0011),
// and zstd's own default of 3 ("default" of klauspost's four speeds).
func (c Codec) DefaultLevel() int {
	if c == Zstd {
		return 3
	}
	return 2
}

// maxWindow is how far back zstd data may refer, in bytes, which is what a
// decoder makes room for before it has read any: a frame of some bytes may claim
// gigabytes. zstd itself takes no more without being told to (--long).
const maxWindow = 128 << 20

// mark is the gzip comment in the first member's header. It tells a dump of
// ours without its manifest, which is unfinished, from a plain one.
const mark = "escrowctl indexed dump"

// compressor makes one member after another.
type compressor interface {
	compress(dst *bytes.Buffer, sql []byte, first bool) error
}

func newCompressor(c Codec, level int) (compressor, error) {
	switch c {
	case Gzip:
		w, err := gzip.NewWriterLevel(io.Discard, level)
		if err != nil {
			return nil, fmt.Errorf("gzip level %d: %w", level, err)
		}
		letters, err := gzip.NewWriterLevel(io.Discard, gzip.HuffmanOnly)
		if err != nil {
			return nil, err
		}
		return &gzipCompressor{w, letters}, nil
	case Zstd:
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithEncoderCRC(true))
		if err != nil {
			return nil, fmt.Errorf("zstd level %d: %w", level, err)
		}
		return &zstdCompressor{enc: enc}, nil
	}
	return nil, fmt.Errorf("compression %q: use %s or %s", c, Gzip, Zstd)
}

// hopeless is the share of a member's size from which on matches may have cost
// more than they saved: random bytes, as bytea writes them, hold ever new ones.
const hopeless = 0.6

type gzipCompressor struct{ w, letters *gzip.Writer }

func (g *gzipCompressor) compress(dst *bytes.Buffer, sql []byte, first bool) error {
	start := dst.Len()
	if err := member(g.w, dst, sql, first); err != nil {
		return err
	}
	matched := dst.Len() - start
	if float64(matched) < hopeless*float64(len(sql)) {
		return nil
	}
	dst.Truncate(start)
	if err := member(g.letters, dst, sql, first); err != nil || dst.Len()-start <= matched {
		return err
	}
	dst.Truncate(start)
	return member(g.w, dst, sql, first)
}

func member(w *gzip.Writer, dst *bytes.Buffer, sql []byte, first bool) error {
	w.Reset(dst)
	if first {
		w.Comment = mark
	}
	if _, err := w.Write(sql); err != nil {
		return err
	}
	return w.Close()
}

type zstdCompressor struct{ enc *zstd.Encoder }

func (z *zstdCompressor) compress(dst *bytes.Buffer, sql []byte, _ bool) error {
	_, err := dst.Write(z.enc.EncodeAll(sql, dst.AvailableBuffer()))
	return err
}

// Decoder decompresses members. It is not safe for concurrent use: one a
// goroutine.
type Decoder struct {
	codec Codec
	fast  *inflate.Decoder // of gzip
	gz    *gzip.Reader
	zst   *zstd.Decoder
	in    bytes.Reader
	peek  [1]byte
}

// NewDecoder returns a decoder of members of codec c.
func NewDecoder(c Codec) (*Decoder, error) {
	d := &Decoder{codec: c}
	switch c {
	case Gzip:
		d.fast, d.gz = new(inflate.Decoder), new(gzip.Reader)
	case Zstd:
		zst, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxStatement), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		d.zst = zst
	default:
		return nil, fmt.Errorf("no decoder for compression %q", c)
	}
	return d, nil
}

// Close frees the decoder's resources.
func (d *Decoder) Close() {
	if d.zst != nil {
		d.zst.Close()
	}
}

// Decode returns the SQL of one compressed member, which must come to exactly
// sqlSize bytes and use up all of member. The result is valid until the next
// call with the same dst.
func (d *Decoder) Decode(dst, member []byte, sqlSize int64) ([]byte, error) {
	if int64(cap(dst)) < sqlSize {
		dst = roomy(sqlSize)
	}
	dst = dst[:sqlSize]
	if d.codec == Gzip && d.fast.Member(dst, member) == nil {
		return dst, nil
	}
	// What the fast way refuses, this one says the fault of.
	d.in.Reset(member)
	var r io.Reader
	if d.codec == Gzip {
		if err := d.gz.Reset(&d.in); err != nil {
			return nil, damaged(err)
		}
		d.gz.Multistream(false)
		r = d.gz
	} else {
		if err := d.zst.Reset(&d.in); err != nil {
			return nil, damaged(err)
		}
		r = d.zst
	}
	if _, err := io.ReadFull(r, dst); err != nil {
		return nil, damaged(err)
	}
	// The read past the end is what makes the reader check its checksum.
	switch n, err := io.ReadFull(r, d.peek[:]); {
	case n > 0:
		return nil, fmt.Errorf("%w: it holds more SQL than its index says", ErrDamaged)
	case !errors.Is(err, io.EOF):
		return nil, damaged(err)
	case d.in.Len() > 0:
		return nil, fmt.Errorf("%w: %d bytes follow its compressed data", ErrDamaged, d.in.Len())
	}
	return dst, nil
}

// ErrDamaged says that bytes are not what was written.
var ErrDamaged = errors.New("damaged")

func damaged(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: compressed data end too early", ErrDamaged)
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// Sniff tells a stream's codec by its first bytes, and whether a gzip stream
// carries the mark of an indexed dump. It reads nothing away.
func Sniff(r *bufio.Reader) (c Codec, ours bool, err error) {
	head, err := r.Peek(64)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", false, err
	}
	switch {
	case len(head) == 0:
		return "", false, fmt.Errorf("%w: the file is empty", ErrNotDump)
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return Gzip, Marked(head), nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return Zstd, true, nil // the old script wrote gzip only
	case bytes.HasPrefix(head, []byte("--")), bytes.HasPrefix(head, []byte("SET ")), bytes.HasPrefix(head, []byte("\n--")):
		return None, false, nil
	case bytes.HasPrefix(head, []byte("PGDMP")):
		return "", false, fmt.Errorf("%w: it is pg_dump's custom format: restore it with pg_restore", ErrNotDump)
	case bytes.HasPrefix(head, []byte("age-encryption.org/")):
		return "", false, fmt.Errorf("%w: it is encrypted with age: name an identity file", ErrNotDump)
	}
	return "", false, fmt.Errorf("%w: it begins with %q, neither gzip nor zstd nor SQL", ErrNotDump, head[:min(len(head), 16)])
}

// Marked reports whether the first bytes of a gzip file (64 will do) carry the
// mark of an indexed dump.
func Marked(head []byte) bool {
	// RFC 1952: flag byte 3, bit 4: a comment, here straight after the header.
	return len(head) > 10+len(mark) && head[3]&0x10 != 0 && string(head[10:10+len(mark)]) == mark
}

// Decompress returns the text of a whole dump file read as one stream, whoever
// wrote it.
func Decompress(r *bufio.Reader, c Codec) (io.ReadCloser, error) {
	switch c {
	case None:
		return io.NopCloser(r), nil
	case Gzip:
		src := &watchedReader{r: r}
		// The decoder is fast on a *bufio.Reader only.
		gz, err := gzip.NewReader(bufio.NewReaderSize(src, 64<<10))
		if err != nil {
			return nil, src.explain(err)
		}
		return &damageReader{gz, src}, nil
	case Zstd:
		src := &watchedReader{r: r}
		zst, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, src.explain(err)
		}
		return &damageReader{zst.IOReadCloser(), src}, nil
	}
	return nil, fmt.Errorf("no decoder for compression %q", c)
}

// watchedReader remembers whether what is read could not be.
type watchedReader struct {
	r   io.Reader
	err error
}

func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}

// explain names a decompression error as what it is: damage, unless the way to
// the file failed. Not all that the decoders return can be told by its type.
func (w *watchedReader) explain(err error) error {
	switch {
	case w.err != nil:
		return err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fmt.Errorf("%w: compressed data end too early", ErrTruncated)
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

type damageReader struct {
	io.ReadCloser
	src *watchedReader
}

func (d *damageReader) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	if err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return n, err
	}
	return n, d.src.explain(err)
}
