package doctor

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/store"
)

// Bucket is where backups are sent, as far as it is tried out here.
type Bucket interface {
	Location() string
	List(ctx context.Context) ([]store.Object, error)
	Put(ctx context.Context, name string, body []byte) error
	Stat(ctx context.Context, name string) (store.Object, error)
	Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
	Delete(ctx context.Context, name string) error
}

// BucketOptions say how far to go.
type BucketOptions struct {
	Open func(ctx context.Context) (Bucket, error)
	// Write also writes, reads and deletes an object.
	Write bool
}

// BucketID is the check's ID.
const BucketID = "bucket"

const bucketFix = "correct s3.bucket, s3.endpoint, s3.region and the credentials (AWS_ACCESS_KEY_ID, a profile or a role)"

// Store checks that the bucket can be listed with these credentials, and if asked
// that what is written there can be read back and deleted.
func Store(o BucketOptions) check.Probe {
	return check.Probe{ID: BucketID, Limit: Limit, Run: func(ctx context.Context) check.Result {
		r := check.Result{ID: BucketID, Status: check.Critical, Action: bucketFix}
		b, err := o.Open(ctx)
		if err != nil {
			r.Summary = err.Error()
			return r
		}
		objects, err := b.List(ctx)
		if err != nil {
			r.Summary = err.Error()
			return r
		}
		said := fmt.Sprintf("%s can be listed: %d objects", b.Location(), len(objects))
		if !o.Write {
			return check.Result{ID: BucketID, Summary: said + "; writing was not tried (--write-bucket)"}
		}
		if err := tryOut(ctx, b); err != nil {
			r.Summary, r.Action = err.Error(), "allow these credentials PutObject, GetObject and DeleteObject on "+b.Location()
			return r
		}
		return check.Result{ID: BucketID, Summary: said + "; one was written, read back and deleted"}
	}}
}

// tryOut leaves nothing in the bucket, unless it may not delete: then its error
// names what is left.
func tryOut(ctx context.Context, b Bucket) (err error) {
	name := store.ProbeName + "-" + rand.Text()
	body := []byte("written by escrowctl doctor, " + name + ": may be deleted\n")
	if err := b.Put(ctx, name, body); err != nil {
		return fmt.Errorf("writing an object: %w", err)
	}
	defer func() {
		// Also where time has run out: the object is ours to take back.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Limit)
		defer cancel()
		if gone := remove(ctx, b, name); gone != nil {
			err = errors.Join(err, gone)
		}
	}()
	content, err := b.Open(ctx, name, 0, -1)
	if err != nil {
		return fmt.Errorf("reading back an object: %w", err)
	}
	defer func() { _ = content.Close() }()
	got, err := io.ReadAll(io.LimitReader(content, int64(len(body))+1))
	if err != nil {
		return fmt.Errorf("reading back an object: %w", err)
	}
	if !bytes.Equal(got, body) {
		return fmt.Errorf("reading back an object: %s holds something else than was written", name)
	}
	return nil
}

func remove(ctx context.Context, b Bucket, name string) error {
	if err := b.Delete(ctx, name); err != nil {
		return fmt.Errorf("%s is left in %s: deleting it: %w", name, b.Location(), err)
	}
	_, err := b.Stat(ctx, name)
	switch {
	case errors.Is(err, store.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("whether %s is gone from %s: %w", name, b.Location(), err)
	}
	return fmt.Errorf("%s is still in %s after it was deleted", name, b.Location())
}
