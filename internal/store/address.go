package store

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Address is a parsed backup location.
type Address struct {
	Bucket string // "" for a directory
	Prefix string // without slashes at its ends
	Dir    string // absolute; "" for a bucket
}

// String returns what Parse reads.
func (a Address) String() string {
	if a.Bucket == "" {
		return (&url.URL{Scheme: "file", Path: a.Dir}).String()
	}
	if a.Prefix == "" {
		return "s3://" + a.Bucket
	}
	return "s3://" + a.Bucket + "/" + a.Prefix
}

// bucketName is what S3 allowed of old, so that old buckets work; today's rules
// are narrower and the store itself tells.
var bucketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$`)

// Parse reads s3://bucket[/prefix] or file:///directory. The prefix is taken as
// it stands, as the aws command does: nothing is unescaped.
func Parse(raw string) (Address, error) {
	if rest, ok := strings.CutPrefix(raw, "s3://"); ok {
		return parseBucket(rest)
	}
	u, err := url.Parse(raw)
	if err == nil && u.Scheme == "file" && u.Host == "" && u.RawQuery == "" && u.Fragment == "" && filepath.IsAbs(u.Path) {
		return Address{Dir: filepath.Clean(u.Path)}, nil
	}
	// What is no address may be anything, a password even: it is not shown.
	return Address{}, errors.New("it is neither s3://bucket[/prefix] nor file:///directory")
}

func parseBucket(rest string) (Address, error) {
	if strings.Contains(rest, "@") {
		return Address{}, errors.New("it holds an @: give credentials by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role, not in the address")
	}
	bucket, prefix, _ := strings.Cut(rest, "/")
	if !bucketName.MatchString(bucket) {
		return Address{}, fmt.Errorf("%q is no bucket name: write s3://bucket[/prefix], and the server in s3.endpoint or AWS_ENDPOINT_URL_S3", bucket)
	}
	prefix = strings.Trim(prefix, "/")
	bad := !utf8.ValidString(prefix) || strings.ContainsFunc(prefix, unicode.IsControl) || len(prefix) > 1024-maxName-1
	for part := range strings.SplitSeq(prefix, "/") {
		bad = bad || prefix != "" && slices.Contains([]string{"", ".", ".."}, part)
	}
	if bad {
		return Address{}, fmt.Errorf("%q is no prefix to keep backups under: no empty or dotted parts, no control characters, at most %d bytes", prefix, 1024-maxName-1)
	}
	return Address{Bucket: bucket, Prefix: prefix}, nil
}
