package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// Source is a file to upload that may still be growing.
type Source interface {
	io.ReaderAt
	// Wait blocks until the file is longer than off or has ended, and returns
	// how long it is and whether that is its final length. It returns the
	// writer's error if writing failed.
	Wait(ctx context.Context, off int64) (avail int64, final bool, err error)
}

// Growing is a file that one goroutine appends to while others read it from
// the start. It lets an upload follow a dump without a pipe, so that a slow
// bucket never holds the dump up.
type Growing struct {
	f *os.File

	mu      sync.Mutex
	size    int64
	done    bool
	err     error
	changed chan struct{}
}

// NewGrowing follows f, which is empty and is written to only through it.
func NewGrowing(f *os.File) *Growing {
	return &Growing{f: f, changed: make(chan struct{})}
}

// Write appends.
func (g *Growing) Write(p []byte) (int, error) {
	n, err := g.f.Write(p)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.size += int64(n)
	g.announce()
	return n, err
}

// Finish says that the file is whole or, with an error, never will be. Only
// the first call counts.
func (g *Growing) Finish(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.done {
		return
	}
	g.done, g.err = true, err
	g.announce()
}

func (g *Growing) announce() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// Size returns the bytes written so far.
func (g *Growing) Size() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.size
}

// ReadAt reads what is written already.
func (g *Growing) ReadAt(p []byte, off int64) (int, error) { return g.f.ReadAt(p, off) }

// Wait implements Source.
func (g *Growing) Wait(ctx context.Context, off int64) (int64, bool, error) {
	for {
		g.mu.Lock()
		size, done, err, changed := g.size, g.done, g.err, g.changed
		g.mu.Unlock()
		if err != nil {
			return size, true, fmt.Errorf("%w: %w", ErrSource, err)
		}
		if done || size > off {
			return size, done, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return size, false, context.Cause(ctx)
		}
	}
}

// ErrSource says that the file being uploaded never became whole.
var ErrSource = errors.New("the file to upload was not completed")

// fixed is a file that is whole.
type fixed struct {
	io.ReaderAt
	size int64
}

// FileSource is a Source of a file that is whole.
func FileSource(f *os.File) (Source, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", f.Name())
	}
	return fixed{ReaderAt: f, size: st.Size()}, nil
}

func (f fixed) Wait(context.Context, int64) (int64, bool, error) { return f.size, true, nil }

// sourceReader reads a Source from its start to its end.
type sourceReader struct {
	ctx context.Context //nolint:containedctx // it lives as long as one Upload call
	src Source
	off int64
}

func (r *sourceReader) Read(p []byte) (int, error) {
	avail, final, err := r.src.Wait(r.ctx, r.off)
	if err != nil {
		return 0, err
	}
	if avail <= r.off {
		if final {
			return 0, io.EOF
		}
		return 0, io.ErrNoProgress
	}
	n, err := r.src.ReadAt(p[:min(int64(len(p)), avail-r.off)], r.off)
	r.off += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}
