package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/nofollow"
)

// Dir is a store in a directory. Files in it are readable by their owner alone,
// as is the directory where Dir makes it. Only regular files count: a symbolic
// link is neither listed nor followed, so that a backup directory that others
// may write to cannot lead a restore to a file elsewhere.
type Dir struct{ path string }

// NewDir returns the store in the directory path, which need not exist yet.
func NewDir(path string) *Dir { return &Dir{path: path} }

// Location implements Reader.
func (d *Dir) Location() string { return d.path }

// Path returns where the object of that name lies.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, name) }

// List implements Reader. A directory that does not exist is empty.
func (d *Dir) List(ctx context.Context) ([]Object, error) {
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", d.path, forOthers(err))
	}
	var out []Object
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), tempPrefix) || CheckName(e.Name()) != nil {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", d.path, err)
		}
		out = append(out, Object{Name: e.Name(), Size: info.Size(), ModTime: info.ModTime()})
	}
	return out, ctx.Err()
}

// forOthers adds the way out where it belongs to another user.
func forOthers(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: give it to the user that escrowctl runs as", err)
	}
	return err
}

// Stat implements Reader.
func (d *Dir) Stat(ctx context.Context, name string) (Object, error) {
	info, err := d.lstat(name)
	if err != nil {
		return Object{}, err
	}
	return Object{Name: name, Size: info.Size(), ModTime: info.ModTime()}, ctx.Err()
}

func (d *Dir) lstat(name string) (fs.FileInfo, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	info, err := os.Lstat(d.Path(name))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("look up %s: %w", d.Path(name), ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", d.Path(name), err)
	}
	return info, nil
}

// Open implements Reader.
func (d *Dir) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := CheckRange(d.Path(name), offset); err != nil {
		return nil, err
	}
	seen, err := d.lstat(name)
	if err != nil {
		return nil, err
	}
	f, err := nofollow.Open(d.Path(name), os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.Path(name), forOthers(err))
	}
	// The name may have become a link since it was looked up.
	if opened, err := f.Stat(); err != nil || !os.SameFile(seen, opened) {
		_ = f.Close()
		return nil, fmt.Errorf("read %s: %w", d.Path(name), errors.Join(ErrChanged, err))
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("read %s: %w", d.Path(name), err)
	}
	out := &fileRange{ctx: ctx, f: f, r: f}
	if length >= 0 {
		out.r = io.LimitReader(f, length)
	}
	return out, nil
}

// fileRange ends with its context, as a read from a bucket does.
type fileRange struct {
	ctx context.Context //nolint:containedctx // it lives as long as the reader
	f   *os.File
	r   io.Reader
}

func (r *fileRange) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}

func (r *fileRange) Close() error { return r.f.Close() }

// Put implements Store.
func (d *Dir) Put(ctx context.Context, name string, body []byte) error {
	_, err := d.write(ctx, name, bytes.NewReader(body))
	return err
}

// Upload implements Store.
func (d *Dir) Upload(ctx context.Context, name string, src Source) (Receipt, error) {
	n, err := d.write(ctx, name, &sourceReader{ctx: ctx, src: src})
	if err != nil {
		return Receipt{}, err
	}
	return Receipt{Size: n, Parts: 1, Evidence: BySize}, nil
}

func (d *Dir) write(ctx context.Context, name string, r io.Reader) (int64, error) {
	t, err := d.Create(name)
	if err != nil {
		return 0, err
	}
	defer t.Discard()
	if _, err := os.Lstat(d.Path(name)); err == nil {
		return 0, fmt.Errorf("write %s: %w", d.Path(name), ErrExist) // told before the work, not after it
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{t}, r, make([]byte, 1<<20))
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", d.Path(name), err)
	}
	if ctx.Err() != nil {
		return 0, fmt.Errorf("write %s: %w", d.Path(name), context.Cause(ctx))
	}
	if info, err := t.Stat(); err != nil || info.Size() != n {
		return 0, fmt.Errorf("write %s: %w", d.Path(name), errors.Join(ErrMismatch, err))
	}
	return n, t.Commit()
}

// Delete implements Store.
func (d *Dir) Delete(_ context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if err := os.Remove(d.Path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %s: %w", d.Path(name), err)
	}
	return nil
}

// Sweep implements Store.
func (d *Dir) Sweep(ctx context.Context, olderThan time.Time, owns func(string) bool) ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("sweep %s: %w", d.path, err)
	}
	var swept []string
	for _, e := range entries {
		name, ok := tempOf(e.Name())
		if !ok || name != ProbeName && !owns(name) {
			continue
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !info.ModTime().Before(olderThan) {
			continue
		}
		if err := os.Remove(d.Path(e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return swept, fmt.Errorf("sweep %s: %w", d.path, err)
		}
		swept = append(swept, e.Name())
	}
	return swept, ctx.Err()
}

// CheckWritable implements Store.
func (d *Dir) CheckWritable(ctx context.Context) error {
	t, err := d.Create(ProbeName)
	if err != nil {
		return err
	}
	defer t.Discard()
	if _, err := t.Write([]byte("escrowctl\n")); err != nil {
		return fmt.Errorf("write to %s: %w", d.path, err)
	}
	return ctx.Err()
}
