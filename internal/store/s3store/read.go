package s3store

import (
	"context"
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stellarescrow/escrowctl/internal/store"
)

// List implements Reader.
func (s *Store) List(ctx context.Context) ([]store.Object, error) {
	var out []store.Object
	way := ""
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{
		Bucket: &s.opt.Bucket, Prefix: aws.String(s.dir()), Delimiter: aws.String("/"),
		// XML has no way to write control characters: without this one object with
		// such a name, whoever put it there, would make the whole list unreadable.
		EncodingType: types.EncodingTypeUrl,
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, s.fail(ctx, opList, "", err)
		}
		for _, o := range page.Contents {
			name, ok := strings.CutPrefix(keyOf(o, page.EncodingType), s.dir())
			if !ok || store.CheckName(name) != nil {
				continue
			}
			out = append(out, store.Object{Name: name, Size: aws.ToInt64(o.Size), ModTime: aws.ToTime(o.LastModified)})
		}
		if !aws.ToBool(page.IsTruncated) {
			continue
		}
		// Half a list must not pass for the whole: retention works from it.
		switch next := aws.ToString(page.NextContinuationToken); next {
		case "":
			return nil, s.fail(ctx, opList, "", errors.New("the list was cut short without a way to go on"))
		case way:
			return nil, s.fail(ctx, opList, "", errors.New("the list goes round in a circle: the store answers with the same page again and again"))
		default:
			way = next
		}
	}
	slices.SortFunc(out, func(a, b store.Object) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// keyOf is the key of a listed object. Not every store encodes what it was asked
// to encode; it says so.
func keyOf(o types.Object, encoding types.EncodingType) string {
	key := aws.ToString(o.Key)
	if encoding != types.EncodingTypeUrl {
		return key
	}
	if plain, err := url.QueryUnescape(key); err == nil {
		return plain
	}
	return key
}

// Stat implements Reader.
func (s *Store) Stat(ctx context.Context, name string) (store.Object, error) {
	if err := store.CheckName(name); err != nil {
		return store.Object{}, err
	}
	head, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.opt.Bucket, Key: s.key(name)})
	if err != nil {
		err = s.fail(ctx, opStat, name, err)
		if errors.Is(err, store.ErrNotExist) {
			err = s.missing(ctx, err)
		}
		return store.Object{}, err
	}
	return store.Object{Name: name, Size: aws.ToInt64(head.ContentLength), ModTime: aws.ToTime(head.LastModified)}, nil
}

// missing tells a missing bucket from a missing object: the answer to a HEAD
// has no body and so is the same for both.
func (s *Store) missing(ctx context.Context, objectErr error) error {
	_, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.opt.Bucket})
	if status, _ := answer(err); status != 404 {
		return objectErr
	}
	return s.explain(&Error{Op: string(opStat), URI: s.Location(), Status: 404, Code: codeNoBucket, Err: err}, opStat)
}

// Open implements Reader.
func (s *Store) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := store.CheckName(name); err != nil {
		return nil, err
	}
	if err := store.CheckRange(s.uri(name), offset); err != nil {
		return nil, err
	}
	if length == 0 { // S3 knows no empty range, but the object must be there
		_, err := s.Stat(ctx, name)
		return io.NopCloser(strings.NewReader("")), err
	}
	r := &resuming{ctx: ctx, from: s, name: name, off: offset, left: length}
	if err := r.connect(); err != nil {
		return nil, err
	}
	return r, nil
}
