package s3store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stellarescrow/escrowctl/internal/store"
)

// resuming reads an object and, when the connection breaks, asks for the rest
// of the very same object.
type resuming struct {
	ctx    context.Context //nolint:containedctx // it lives as long as the reader
	from   *Store
	name   string
	off    int64 // of the next byte, from the object's start
	left   int64 // bytes to come; -1 until it is known
	etag   *string
	body   io.ReadCloser
	breaks int // since the last byte
}

// connect asks for what is left and checks that just this comes.
func (r *resuming) connect() error {
	in := &s3.GetObjectInput{Bucket: &r.from.opt.Bucket, Key: r.from.key(r.name), IfMatch: r.etag}
	switch {
	case r.left >= 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", r.off, r.off+r.left-1))
	case r.off > 0: // an empty object has no range
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", r.off))
	}
	out, err := r.from.client.GetObject(r.ctx, in)
	if status, _ := answer(err); status == 416 && r.etag == nil {
		r.left, r.body = 0, io.NopCloser(strings.NewReader("")) // it begins beyond the end
		return nil
	}
	if err != nil {
		return r.from.fail(r.ctx, opRead, r.name, err)
	}
	if err := r.accept(out); err != nil {
		_ = out.Body.Close()
		return r.from.fail(r.ctx, opRead, r.name, err)
	}
	r.body, r.etag = out.Body, out.ETag
	return nil
}

// accept compares an answer with what was asked for. Proxies and stores are
// known that ignore a range or a condition, and bytes from the wrong place
// would be taken for the object's.
func (r *resuming) accept(out *s3.GetObjectOutput) error {
	if out.ContentLength == nil {
		return &plainError{msg: "the answer does not say how long it is"}
	}
	length, start, total := *out.ContentLength, int64(0), *out.ContentLength
	if span := aws.ToString(out.ContentRange); span != "" {
		var end int64
		if _, err := fmt.Sscanf(span, "bytes %d-%d/%d", &start, &end, &total); err != nil || end-start+1 != length {
			return &plainError{msg: fmt.Sprintf("the answer's range %q and length %d make no sense", span, length)}
		}
	}
	if r.etag != nil && aws.ToString(out.ETag) != *r.etag {
		return store.ErrChanged
	}
	if start != r.off {
		return &plainError{msg: fmt.Sprintf("the answer begins at byte %d, not at %d: this store does not do ranges", start, r.off)}
	}
	want := total - r.off // a range may reach beyond the end
	if r.left >= 0 {
		want = min(want, r.left)
	}
	if length < want || r.etag != nil && want != r.left {
		return &plainError{fmt.Sprintf("the answer holds %d bytes of %d", length, max(want, r.left)), store.ErrChanged}
	}
	r.left = want
	return nil
}

// Read implements io.Reader.
func (r *resuming) Read(p []byte) (int, error) {
	for {
		if r.ctx.Err() != nil {
			return 0, r.from.fail(r.ctx, opRead, r.name, r.ctx.Err())
		}
		if r.left == 0 {
			return 0, io.EOF
		}
		n, err := r.body.Read(p[:min(int64(len(p)), r.left)])
		r.off += int64(n)
		r.left -= int64(n)
		if n > 0 {
			r.breaks = 0
			return n, nil // an error comes again with the next call
		}
		if err == nil {
			return 0, nil
		}
		if err := r.reconnect(err); err != nil {
			return 0, err
		}
	}
}

// reconnect opens the rest after a break, a few times without a byte between.
func (r *resuming) reconnect(broke error) error {
	_ = r.body.Close()
	if errors.Is(broke, io.EOF) {
		broke = errors.New("the connection was closed") // an early end is not the end
	}
	r.breaks++
	if r.breaks >= r.from.opt.Attempts {
		return r.from.fail(r.ctx, opRead, r.name, &plainError{fmt.Sprintf("it broke off %d times at byte %d: %s", r.breaks, r.off, cause(broke)), broke})
	}
	select {
	case <-time.After(min(time.Duration(r.breaks)*200*time.Millisecond, r.from.opt.Pause)):
	case <-r.ctx.Done():
	}
	return r.connect()
}

// Close implements io.Closer.
func (r *resuming) Close() error { return r.body.Close() }
