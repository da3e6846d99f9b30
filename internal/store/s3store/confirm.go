package s3store

import (
	"context"
	"crypto/md5" //nolint:gosec // S3's ETag is made of it; it guards against accidents, not attackers
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stellarescrow/escrowctl/internal/store"
)

// confirm asks the store what it holds and compares. What cannot be confirmed
// is deleted: it would be taken for a backup.
func (u *upload) confirm(ctx context.Context) (store.Receipt, error) {
	evidence, err := u.compare(ctx)
	if err != nil {
		ctx, cancel := cleanup(ctx)
		defer cancel()
		if failed := u.s.Delete(ctx, u.name); failed != nil {
			err = fmt.Errorf("%w (and the object is still there: %v)", err, failed) //nolint:errorlint // callers choose by the cause alone
		}
		return store.Receipt{}, err
	}
	return store.Receipt{Size: u.size(), Parts: len(u.parts), Evidence: evidence}, nil
}

func (u *upload) compare(ctx context.Context) (store.Evidence, error) {
	in := &s3.HeadObjectInput{Bucket: &u.s.opt.Bucket, Key: u.s.key(u.name)}
	if !u.s.opt.NoChecksum {
		in.ChecksumMode = types.ChecksumModeEnabled
	}
	head, err := u.s.client.HeadObject(ctx, in, u.s.patient)
	if err != nil {
		return "", u.s.fail(ctx, opConfirm, u.name, err)
	}
	if got := aws.ToInt64(head.ContentLength); head.ContentLength == nil || got != u.size() {
		return "", u.mismatch(fmt.Sprintf("it holds %d bytes, %d were sent", got, u.size()))
	}
	if got := aws.ToString(head.ChecksumSHA256); got != "" {
		if want := u.checksum(); got != want && got != stripCount(want) {
			return "", u.mismatch(fmt.Sprintf("its SHA-256 is %s, %s was sent", got, want))
		}
		return store.BySHA256, nil
	}
	return u.compareETag(ctx, aws.ToString(head.ETag))
}

func (u *upload) mismatch(what string) error {
	return fmt.Errorf("%s %s: %w: %s: look for a fault of the store or of what lies between, and upload again",
		opConfirm, u.s.uri(u.name), store.ErrMismatch, what)
}

// checksum is what S3 shows for the object: the hash itself of one sent in one
// request, else the hash of the parts' hashes and their count.
func (u *upload) checksum() string {
	if u.id == nil {
		return base64.StdEncoding.EncodeToString(u.parts[0].sum[:])
	}
	h := sha256.New()
	for _, p := range u.parts {
		h.Write(p.sum[:])
	}
	return fmt.Sprintf("%s-%d", base64.StdEncoding.EncodeToString(h.Sum(nil)), len(u.parts))
}

// stripCount gives the form of a checksum in which some stores show it.
func stripCount(sum string) string {
	sum, _, _ = strings.Cut(sum, "-")
	return sum
}

// compareETag is for stores without checksums. Their ETag is an MD5 as a rule,
// but not where objects are encrypted with keys of one's own, so one that
// differs proves nothing and leaves the length as the evidence. The parts are
// read once more for it.
func (u *upload) compareETag(ctx context.Context, etag string) (store.Evidence, error) {
	etag = strings.ToLower(strings.Trim(etag, `"`))
	if len(stripCount(etag)) != hex.EncodedLen(md5.Size) {
		return store.BySize, nil
	}
	sums := make([]byte, 0, len(u.parts)*md5.Size)
	for _, p := range u.parts {
		h := md5.New() //nolint:gosec // see the import
		if err := u.read(ctx, h, p.off, p.size); err != nil {
			return "", err
		}
		sums = h.Sum(sums)
	}
	want := hex.EncodeToString(sums)
	if u.id != nil {
		all := md5.Sum(sums) //nolint:gosec // see the import
		want = fmt.Sprintf("%x-%d", all, len(u.parts))
	}
	if etag == want {
		return store.ByETag, nil
	}
	return store.BySize, nil
}
