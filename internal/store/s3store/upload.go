package s3store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stellarescrow/escrowctl/internal/store"
	"golang.org/x/sync/errgroup"
)

// S3's limits: at most 10,000 parts, of at most 5 GiB each.
const (
	maxParts    = 10_000
	maxPartSize = 5 << 30
	growEvery   = 1_000
)

// partSize returns the size of part number n, from 1: it doubles every 1,000
// parts, so that 8 MiB first parts come to 7.8 TiB within S3's 10,000 while a
// small backup still goes up in small parts.
func partSize(first int64, n int) int64 {
	return min(first<<((n-1)/growEvery), maxPartSize)
}

// Upload implements Store. Parts are read straight from the source, as soon as
// it has grown by one, so that nothing is buffered and a retry reads again.
// What fits into one part goes up in one request.
func (s *Store) Upload(ctx context.Context, name string, src store.Source) (store.Receipt, error) {
	if err := store.CheckName(name); err != nil {
		return store.Receipt{}, err
	}
	u := &upload{s: s, name: name, src: src, mark: rand.Text()}
	size, final, err := u.wait(ctx, s.opt.PartSize)
	if err != nil {
		return store.Receipt{}, err
	}
	// A name that is taken is told before the work. Whoever may not look learns
	// it at the end, for then the store itself refuses.
	if err := s.absent(ctx, name); err != nil && !denied(err) {
		return store.Receipt{}, err
	}
	if final && size <= s.opt.PartSize {
		return u.inOne(ctx, size)
	}
	if u.id, err = s.begin(ctx, name, u.mark); err != nil {
		return store.Receipt{}, err
	}
	receipt, err := u.inParts(ctx)
	if err != nil {
		return store.Receipt{}, u.undo(ctx, err)
	}
	return receipt, nil
}

type upload struct {
	s    *Store
	name string
	src  store.Source
	mark string
	id   *string // of the multipart upload

	completing bool // the object may be there
	parts      []part
}

// part is one that was sent.
type part struct {
	off, size int64
	sum       [sha256.Size]byte
	etag      *string
}

func (u *upload) size() (n int64) {
	for _, p := range u.parts {
		n += p.size
	}
	return n
}

// undo leaves nothing behind, even when ctx has ended, and returns the cause.
// What it fails to remove, Sweep finds later.
func (u *upload) undo(ctx context.Context, cause error) error {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	gone, err := u.s.abort(ctx, u.name, u.id)
	// A store that gave up while assembling may have finished all the same.
	if err == nil && gone && u.completing && u.s.ours(ctx, u.name, u.mark) {
		err = u.s.Delete(ctx, u.name)
	}
	if err != nil {
		return fmt.Errorf("%w (and its parts are still there: %v)", cause, err) //nolint:errorlint // callers choose by the cause alone
	}
	return cause
}

// undoOne is undo for an object sent in one request. Only where no answer came,
// or a confused one, can it be there.
func (u *upload) undoOne(ctx context.Context, cause error) error {
	if status, _ := answer(cause); status != 0 && status < 500 {
		return cause
	}
	ctx, cancel := cleanup(ctx)
	defer cancel()
	if u.s.ours(ctx, u.name, u.mark) {
		if err := u.s.Delete(ctx, u.name); err != nil {
			return fmt.Errorf("%w (and the object is still there: %v)", cause, err) //nolint:errorlint // callers choose by the cause alone
		}
	}
	return cause
}

// inOne sends a source that is whole and small.
func (u *upload) inOne(ctx context.Context, size int64) (store.Receipt, error) {
	sum, err := u.hash(ctx, 0, size)
	if err != nil {
		return store.Receipt{}, err
	}
	u.parts = []part{{size: size, sum: sum}}
	body := io.NewSectionReader(u.src, 0, size)
	if err := u.s.create(ctx, whole{name: u.name, body: body, size: size, sum: sum, class: u.s.opt.StorageClass}, u.mark); err != nil {
		return store.Receipt{}, u.undoOne(ctx, err)
	}
	return u.confirm(ctx)
}

func (u *upload) inParts(ctx context.Context) (store.Receipt, error) {
	if err := u.sendParts(ctx); err != nil {
		return store.Receipt{}, err
	}
	if err := u.complete(ctx); err != nil {
		return store.Receipt{}, err
	}
	return u.confirm(ctx)
}

// sendParts follows the source to its end.
func (u *upload) sendParts(ctx context.Context) error {
	// Room for every part from the start, so that each fills its own place.
	u.parts = make([]part, 0, maxParts)
	g, ctx := errgroup.WithContext(ctx)
	slots := make(chan struct{}, u.s.opt.Concurrency)
	g.Go(func() error {
		// A source that fails ends parts that are held up.
		_, _, err := u.wait(ctx, math.MaxInt64)
		return err
	})
	g.Go(func() error {
		for off, final := int64(0), false; !final; {
			number := len(u.parts) + 1
			if number > maxParts {
				return fmt.Errorf("upload %s: over %d parts: raise s3.part_size", u.s.uri(u.name), maxParts)
			}
			want := partSize(u.s.opt.PartSize, number)
			avail, done, err := u.wait(ctx, off+want)
			if err != nil {
				return err
			}
			u.parts = append(u.parts, part{off: off, size: min(want, avail-off)})
			p := &u.parts[number-1]
			off += p.size
			final = done && off == avail
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			g.Go(func() error {
				defer func() { <-slots }()
				return u.sendPart(ctx, number, p)
			})
		}
		return nil
	})
	return g.Wait()
}

func (u *upload) wait(ctx context.Context, off int64) (int64, bool, error) {
	avail, final, err := u.src.Wait(ctx, off)
	if err != nil {
		err = fmt.Errorf("upload %s: %w", u.s.uri(u.name), err)
	}
	return avail, final, err
}

// hash reads a piece of the source.
func (u *upload) hash(ctx context.Context, off, size int64) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	if err := u.read(ctx, h, off, size); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// read copies a piece of the source, all of it, into a hash.
func (u *upload) read(ctx context.Context, h hash.Hash, off, size int64) error {
	buf := make([]byte, min(size, 256<<10))
	for end := off + size; off < end; {
		if ctx.Err() != nil {
			return fmt.Errorf("upload %s: %w", u.s.uri(u.name), context.Cause(ctx))
		}
		n, err := u.src.ReadAt(buf[:min(int64(len(buf)), end-off)], off)
		h.Write(buf[:n])
		off += int64(n)
		if errors.Is(err, io.EOF) && off < end {
			return fmt.Errorf("upload %s: the local file ends at byte %d, before %d: it was cut while being read", u.s.uri(u.name), off, end)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("upload %s: read the local file: %w", u.s.uri(u.name), err)
		}
	}
	return nil
}

func (u *upload) sendPart(ctx context.Context, number int, p *part) (err error) {
	if p.sum, err = u.hash(ctx, p.off, p.size); err != nil {
		return err
	}
	in := &s3.UploadPartInput{
		Bucket: &u.s.opt.Bucket, Key: u.s.key(u.name), UploadId: u.id, PartNumber: aws.Int32(int32(number)),
		Body: io.NewSectionReader(u.src, p.off, p.size), ContentLength: aws.Int64(p.size),
	}
	if !u.s.opt.NoChecksum {
		in.ChecksumSHA256 = aws.String(base64.StdEncoding.EncodeToString(p.sum[:]))
	}
	out, err := u.s.client.UploadPart(ctx, in, u.s.patient, signedWith(p.sum))
	if err != nil {
		return u.s.fail(ctx, partOp(number), u.name, err)
	}
	p.etag = out.ETag
	return nil
}

// complete has the store make one object of the parts.
func (u *upload) complete(ctx context.Context) error {
	in := &s3.CompleteMultipartUploadInput{
		Bucket: &u.s.opt.Bucket, Key: u.s.key(u.name), UploadId: u.id, IfNoneMatch: aws.String("*"),
		MultipartUpload: &types.CompletedMultipartUpload{},
	}
	for i, p := range u.parts {
		done := types.CompletedPart{PartNumber: aws.Int32(int32(i + 1)), ETag: p.etag}
		if !u.s.opt.NoChecksum {
			done.ChecksumSHA256 = aws.String(base64.StdEncoding.EncodeToString(p.sum[:]))
		}
		in.MultipartUpload.Parts = append(in.MultipartUpload.Parts, done)
	}
	assembling := withIdle(ctx, max(u.s.opt.Stall*assembleFactor, time.Second))
	u.completing = true
	_, err := u.s.client.CompleteMultipartUpload(assembling, in, u.s.patient)
	if notImplemented(err) {
		if err := u.s.absent(ctx, u.name); err != nil {
			return err
		}
		in.IfNoneMatch = nil
		_, err = u.s.client.CompleteMultipartUpload(assembling, in, u.s.patient)
	}
	if err = u.s.fail(ctx, opComplete, u.name, err); err == nil {
		return nil
	}
	// The answer of an earlier attempt may have been lost: then the upload is
	// gone, or its own object is in the way.
	if _, code := answer(err); code == codeNoUpload || errors.Is(err, store.ErrExist) {
		if u.s.ours(ctx, u.name, u.mark) {
			return nil
		}
	}
	return err
}
