package s3store

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stellarescrow/escrowctl/internal/store"
)

// cleanupTime bounds what is tidied up after a failure, whose context may have
// ended.
const cleanupTime = 10 * time.Second

func cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
}

// markKey is the metadata by which a writer knows an object for its own. When
// the answer to a write is lost, the next attempt meets the object that the
// first one made and is refused like any other: without the mark a success
// could not be told from another's object.
const markKey = "escrowctl-upload"

// whole is an object that goes up in one request.
type whole struct {
	name  string
	body  io.ReadSeeker
	size  int64
	sum   [sha256.Size]byte
	class string
}

// Put implements Store. Small files keep the store's default class: the others
// charge for a least size and a least time.
func (s *Store) Put(ctx context.Context, name string, body []byte) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	return s.create(ctx, whole{name: name, body: bytes.NewReader(body), size: int64(len(body)), sum: sha256.Sum256(body)}, rand.Text())
}

func (s *Store) create(ctx context.Context, w whole, mark string) error {
	in := &s3.PutObjectInput{
		Bucket: &s.opt.Bucket, Key: s.key(w.name), Body: w.body, ContentLength: aws.Int64(w.size), IfNoneMatch: aws.String("*"),
		StorageClass: types.StorageClass(w.class), Metadata: map[string]string{markKey: mark},
	}
	if !s.opt.NoChecksum {
		in.ChecksumSHA256 = aws.String(base64.StdEncoding.EncodeToString(w.sum[:]))
	}
	_, err := s.client.PutObject(ctx, in, s.patient, signedWith(w.sum))
	if notImplemented(err) {
		if err := s.absent(ctx, w.name); err != nil {
			return err
		}
		if _, err := w.body.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("%s %s: %w", opWrite, s.uri(w.name), err)
		}
		in.IfNoneMatch = nil
		_, err = s.client.PutObject(ctx, in, s.patient, signedWith(w.sum))
	}
	if err = s.fail(ctx, opWrite, w.name, err); errors.Is(err, store.ErrExist) && s.ours(ctx, w.name, mark) {
		return nil
	}
	return err
}

// absent is the next best thing where a store knows no conditional writes.
func (s *Store) absent(ctx context.Context, name string) error {
	_, err := s.Stat(ctx, name)
	if errors.Is(err, store.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%s %s: %w", opWrite, s.uri(name), store.ErrExist)
}

// ours says whether an object bears the mark of this very write.
func (s *Store) ours(ctx context.Context, name, mark string) bool {
	head, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.opt.Bucket, Key: s.key(name)}, s.patient)
	return err == nil && head.Metadata[markKey] == mark
}

// Delete implements Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.opt.Bucket, Key: s.key(name)})
	if err = s.fail(ctx, opDelete, name, err); errors.Is(err, store.ErrNotExist) {
		return nil
	}
	return err
}

// CheckWritable implements Store: it begins an upload as a backup does and
// takes it back. That needs the same rights, storage class and checksum, and
// leaves no object or, in a versioned bucket, version. It does not try to
// delete: credentials that may only add are a good way to run.
func (s *Store) CheckWritable(ctx context.Context) error {
	id, err := s.begin(ctx, store.ProbeName, "")
	if err != nil {
		return err
	}
	ctx, cancel := cleanup(ctx)
	defer cancel()
	_, err = s.abort(ctx, store.ProbeName, id)
	return err
}

// Sweep implements Store.
func (s *Store) Sweep(ctx context.Context, olderThan time.Time, owns func(string) bool) ([]string, error) {
	var swept []string
	pages := s3.NewListMultipartUploadsPaginator(s.client, &s3.ListMultipartUploadsInput{Bucket: &s.opt.Bucket, Prefix: aws.String(s.dir())})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return swept, s.fail(ctx, opSweep, "", err)
		}
		for _, u := range page.Uploads {
			name, ok := strings.CutPrefix(aws.ToString(u.Key), s.dir())
			if !ok || store.CheckName(name) != nil || name != store.ProbeName && !owns(name) {
				continue
			}
			if u.Initiated == nil || !u.Initiated.Before(olderThan) {
				continue
			}
			if _, err := s.abort(ctx, name, u.UploadId); err != nil {
				return swept, err
			}
			swept = append(swept, name)
		}
	}
	return swept, nil
}

// begin opens a multipart upload.
func (s *Store) begin(ctx context.Context, name, mark string) (*string, error) {
	in := &s3.CreateMultipartUploadInput{
		Bucket: &s.opt.Bucket, Key: s.key(name), StorageClass: types.StorageClass(s.opt.StorageClass),
		Metadata: map[string]string{markKey: mark},
	}
	if !s.opt.NoChecksum {
		in.ChecksumAlgorithm = types.ChecksumAlgorithmSha256
	}
	created, err := s.client.CreateMultipartUpload(ctx, in)
	if err != nil {
		return nil, s.fail(ctx, opBegin, name, err)
	}
	return created.UploadId, nil
}

// abort drops a multipart upload with its parts. One that is gone already is
// no error, and is told: it may have been completed.
func (s *Store) abort(ctx context.Context, name string, id *string) (gone bool, err error) {
	_, err = s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.opt.Bucket, Key: s.key(name), UploadId: id})
	if _, code := answer(err); code == codeNoUpload {
		return true, nil
	}
	return false, s.fail(ctx, opAbort, name, err)
}
