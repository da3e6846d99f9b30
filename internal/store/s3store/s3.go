// Package s3store is the store in an S3 bucket, of AWS or compatible.
//
// It speaks S3 in the plainest way that can be proven to have worked: every
// object is created under If-None-Match, each part carries the SHA-256 that was
// computed before it was sent, in a header and not a trailer, since several
// S3-compatible stores refuse trailers, and what the store says it holds is
// compared at the end. Nothing waits for ever: a request without progress fails
// and is tried again (see watched).
package s3store

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stellarescrow/escrowctl/internal/store"
)

// Options say which bucket and how to speak to it. Credentials, region and
// endpoint not given here come from the AWS SDK's own chain: environment,
// profile, instance role.
type Options struct {
	Bucket    string
	Prefix    string // without slashes at its ends
	Region    string
	Endpoint  string // of an S3-compatible store
	PathStyle bool   // bucket in the path; with an Endpoint so unless HostStyle
	HostStyle bool   // bucket in the host name, with an Endpoint too
	// AccessKeyID and the two below are credentials that take the place of the
	// chain's; "" for none.
	AccessKeyID, SecretAccessKey, SessionToken string
	StorageClass                               string // of backups; "" for the store's default
	NoChecksum                                 bool   // send no SHA-256 headers: for stores that refuse them
	PartSize                                   int64  // bytes of a first part; 0 is 8 MiB, at least 5 MiB
	Concurrency                                int    // parts at once; 0 is 4
	// Stall is how long a request may go without a byte of progress; 0 is 60 s.
	// Assembling the parts of an object may take ten times as long.
	Stall time.Duration
	// MinRate, in bytes a second, bounds the time of a part that does progress;
	// see watched. 0 is 64 KiB/s.
	MinRate int64
	// Attempts is how often a request is tried; 0 is 5. Those of an upload are
	// tried twice as often: they run unattended, and much is lost with them.
	Attempts int
	// Pause bounds the wait between attempts, which doubles from a second; 0 is
	// 20 s.
	Pause time.Duration
}

const (
	minPartSize        = 5 << 20 // S3's own, of all parts but the last
	defaultPartSize    = 8 << 20
	defaultConcurrency = 4
	defaultStall       = time.Minute
	defaultMinRate     = 64 << 10
	defaultAttempts    = 5
	defaultPause       = 20 * time.Second
	assembleFactor     = 10
)

// Store is a store in a bucket.
type Store struct {
	opt    Options
	client *s3.Client
}

// New prepares a client. It asks the network nothing but, at the first
// request, for credentials.
func New(ctx context.Context, opt Options) (*Store, error) {
	opt.setDefaults()
	if opt.Bucket == "" {
		return nil, fmt.Errorf("S3: no bucket is named: set s3.bucket or S3_BUCKET")
	}
	client, err := newClient(ctx, opt)
	if err != nil {
		return nil, err
	}
	return &Store{opt: opt, client: client}, nil
}

func (o *Options) setDefaults() {
	if o.PartSize <= 0 {
		o.PartSize = defaultPartSize
	}
	o.PartSize = max(o.PartSize, minPartSize)
	if o.Concurrency <= 0 {
		o.Concurrency = defaultConcurrency
	}
	if o.Stall <= 0 {
		o.Stall = defaultStall
	}
	if o.MinRate <= 0 {
		o.MinRate = defaultMinRate
	}
	if o.Attempts <= 0 {
		o.Attempts = defaultAttempts
	}
	if o.Pause <= 0 {
		o.Pause = defaultPause
	}
}

// Location implements Reader.
func (s *Store) Location() string {
	return store.Address{Bucket: s.opt.Bucket, Prefix: s.opt.Prefix}.String()
}

// dir is what all keys of the store begin with.
func (s *Store) dir() string {
	if s.opt.Prefix == "" {
		return ""
	}
	return s.opt.Prefix + "/"
}

func (s *Store) key(name string) *string { return aws.String(s.dir() + name) }

func (s *Store) uri(name string) string {
	if name == "" {
		return s.Location()
	}
	return s.Location() + "/" + name
}

// patient lets a request of an upload be tried more often.
func (s *Store) patient(o *s3.Options) { o.RetryMaxAttempts = 2 * s.opt.Attempts }
