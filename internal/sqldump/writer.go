package sqldump

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// Options say how a dump is written. The zero value is gzip, default level,
// all cores.
type Options struct {
	Codec      Codec
	Level      int // 1 (fastest) to 9; 0 is the codec's DefaultLevel
	Jobs       int // goroutines that compress; 0 is one a core
	MemberSize int // bytes of SQL a member; 0 is MemberSize
	// Progress, if not nil, is called after each member with the sums so far.
	Progress func(sqlBytes, bytes, rows int64)
}

func (o Options) withDefaults() Options {
	if o.Codec == "" {
		o.Codec = Gzip
	}
	if o.Level == 0 {
		o.Level = o.Codec.DefaultLevel()
	}
	if o.Jobs <= 0 {
		o.Jobs = runtime.GOMAXPROCS(0)
	}
	return o
}

// packed is a piece on its way through a compressor.
type packed struct {
	piece  *Piece
	first  bool
	member Member
	data   bytes.Buffer
	done   chan struct{}
}

// Write reads a plain dump from src, compresses it on opt.Jobs goroutines and
// writes the members to dst in order. It returns what it wrote; a dump that
// lacks its end gives ErrTruncated, whatever src's error status was. Memory is
// about (3 Jobs + 2) members, whatever the dump's size, unless a single row is
// larger than a member.
func Write(ctx context.Context, dst io.Writer, src io.Reader, opt Options) (*Index, error) {
	opt = opt.withDefaults()
	compressors := make([]compressor, opt.Jobs)
	for i := range compressors {
		c, err := newCompressor(opt.Codec, opt.Level)
		if err != nil {
			return nil, err
		}
		compressors[i] = c
	}
	sp := NewSplitter(src, opt.MemberSize)
	g, ctx := errgroup.WithContext(ctx)
	work := make(chan *packed)
	ordered := make(chan *packed, 2*opt.Jobs)
	spare := make(chan *packed, 3*opt.Jobs+2)

	g.Go(func() error {
		defer close(ordered)
		defer close(work)
		return split(ctx, sp, work, ordered, spare)
	})
	for _, c := range compressors {
		g.Go(func() error { return pack(c, sp, work) })
	}
	index := &Index{Codec: opt.Codec}
	g.Go(func() error { return inOrder(ctx, dst, index, ordered, spare, opt.Progress) })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	info := sp.Info()
	if !info.Complete {
		return nil, errNoEnd
	}
	index.ServerVersion, index.DumpVersion = info.ServerVersion, info.DumpVersion
	index.Encoding, index.EscapeStrings = info.Encoding, info.EscapeStrings
	return index, nil
}

// split hands each piece to a worker and, in order, to the writer.
func split(ctx context.Context, sp *Splitter, work, ordered, spare chan *packed) error {
	for first := true; ; first = false {
		piece, err := sp.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		p := newPacked(spare)
		p.piece, p.first, p.done = piece, first, make(chan struct{})
		for _, ch := range []chan *packed{work, ordered} {
			select {
			case ch <- p:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}

func newPacked(spare chan *packed) *packed {
	select {
	case p := <-spare:
		p.data.Reset()
		return p
	default:
		return new(packed)
	}
}

func pack(c compressor, sp *Splitter, work chan *packed) error {
	for p := range work {
		if err := c.compress(&p.data, p.piece.SQL, p.first); err != nil {
			return fmt.Errorf("compress: %w", err)
		}
		sum := sha256.Sum256(p.data.Bytes())
		p.member = Member{
			Section: p.piece.Section, Table: p.piece.Table, Rows: p.piece.Rows, Lines: p.piece.Lines,
			Size: int64(p.data.Len()), SQLSize: int64(len(p.piece.SQL)), SHA256: hex.EncodeToString(sum[:]),
		}
		sp.Recycle(p.piece)
		close(p.done)
	}
	return nil
}

// inOrder writes the members as the dump has them and fills the index.
func inOrder(ctx context.Context, dst io.Writer, index *Index, ordered, spare chan *packed, progress func(int64, int64, int64)) error {
	for p := range ordered {
		select {
		case <-p.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if _, err := dst.Write(p.data.Bytes()); err != nil {
			return err
		}
		p.member.Offset = index.Size
		index.add(p.member)
		if progress != nil {
			progress(index.SQLSize, index.Size, index.Rows)
		}
		select {
		case spare <- p:
		default:
		}
	}
	return nil
}
