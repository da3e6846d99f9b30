package s3store

import (
	"crypto/tls"
	"errors"
	"fmt"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/stellarescrow/escrowctl/internal/store"
)

// op is what is asked of a bucket, as error messages begin.
type op string

const (
	opList     op = "list"
	opStat     op = "look up"
	opRead     op = "read"
	opWrite    op = "write"
	opBegin    op = "begin the upload of"
	opComplete op = "complete the upload of"
	opConfirm  op = "confirm the upload of"
	opAbort    op = "abort the upload of"
	opDelete   op = "delete"
	opSweep    op = "list the unfinished uploads of"
)

func partOp(number int) op { return op(fmt.Sprintf("upload part %d of", number)) }

// S3's error codes that are acted upon.
const (
	codeNoBucket = "NoSuchBucket"
	codeNoUpload = "NoSuchUpload"
)

// right is what IAM calls the permission for it, as in a policy.
func (o op) right() string {
	switch o {
	case opList:
		return "s3:ListBucket"
	case opStat, opConfirm:
		// Without the second a missing object is answered as forbidden.
		return "s3:GetObject and s3:ListBucket"
	case opRead:
		return "s3:GetObject"
	case opAbort:
		return "s3:AbortMultipartUpload"
	case opDelete:
		return "s3:DeleteObject"
	case opSweep:
		return "s3:ListBucketMultipartUploads"
	default:
		return "s3:PutObject"
	}
}

// hint names the way out of the faults that people meet.
func (s *Store) hint(e *Error, o op) string {
	if hint := s.hintByCode(e.Code); hint != "" {
		return hint
	}
	switch {
	case errors.Is(e.Err, store.ErrExist):
		return "an object of that name is there already"
	case errors.Is(e.Err, store.ErrChanged):
		return "it was replaced while being read: start again"
	case e.Status >= 300 && e.Status < 400:
		return redirected(e.Err)
	case e.Status == 403:
		hint := fmt.Sprintf("the credentials lack %s on bucket %q", o.right(), s.opt.Bucket)
		if e.Message == "" { // a HEAD's answer does not say why
			hint += ", or the keys or this host's clock are wrong"
		}
		return hint
	case e.Status == 503, e.Status == 429:
		return "the store is overloaded: try again later, or lower s3.concurrency"
	case e.Status >= 500:
		return "the store failed: try again later, and look at its own log"
	case e.Status == 0:
		return hintNoAnswer(e.Err)
	}
	return ""
}

func (s *Store) hintByCode(code string) string {
	switch code {
	case codeNoBucket:
		return fmt.Sprintf("there is no bucket %q: check S3_BUCKET (s3.bucket) and the endpoint, or create it", s.opt.Bucket)
	case codeNoUpload:
		return "it was aborted meanwhile, by another run or a lifecycle rule"
	case "RequestTimeTooSkewed":
		return "this host's clock is wrong: set it with chrony or systemd-timesyncd"
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "XAdminUserNotFound":
		return "the store does not accept the keys: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile"
	case "ExpiredToken", "InvalidToken", "TokenRefreshRequired":
		return "the AWS session has expired: get new credentials"
	case "InvalidStorageClass":
		return fmt.Sprintf("this store does not know storage class %q: set s3.storage_class to one it has, or to \"\"", s.opt.StorageClass)
	case "InvalidObjectState":
		return "it is archived: have S3 restore it (aws s3api restore-object) and wait until that is done"
	case "SlowDown":
		return "the store is overloaded: try again later, or lower s3.concurrency"
	case "QuotaExceeded", "XMinioStorageFull", "InsufficientStorage":
		return "the store is full: make room or raise the quota"
	case "BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch":
		return "the data changed between the disk and the store: upload again, and check the network and this host's memory"
	}
	return ""
}

func hintNoAnswer(err error) string {
	var creds *credentialsError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &creds):
		return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run with an instance role"
	case errors.As(err, &cert):
		return "the server's certificate is not trusted: name its authority's file in AWS_CA_BUNDLE"
	case isRefused(err):
		return "nothing listens there: check s3.endpoint (AWS_ENDPOINT_URL_S3) and that the store runs"
	case isTimeout(err):
		return "the store does not answer: check the network, a firewall, and s3.endpoint (AWS_ENDPOINT_URL_S3)"
	case isNetwork(err):
		return "check the network and s3.endpoint (AWS_ENDPOINT_URL_S3)"
	}
	return ""
}

// redirected tells where an answer points instead: another region of the same
// store, if it says so.
func redirected(err error) string {
	var resp *awshttp.ResponseError
	if !errors.As(err, &resp) || resp.Response == nil {
		return ""
	}
	if name := resp.Response.Header.Get("X-Amz-Bucket-Region"); name != "" {
		return "the bucket is in region " + oneLine(name) + ": set AWS_REGION or s3.region"
	}
	if to, err := resp.Response.Location(); err == nil {
		return "it points to " + oneLine(to.Scheme+"://"+to.Host) + ", which is not followed: set s3.endpoint (AWS_ENDPOINT_URL_S3) or s3.region to what is meant"
	}
	return "the bucket is in another region: set AWS_REGION or s3.region"
}
