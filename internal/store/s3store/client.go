package s3store

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
)

// idleTimeout is how long a connection waits for its next request.
const idleTimeout = 5 * time.Second

// connectTimeout bounds a TCP connect, and stands for a dead host.
const connectTimeout = 10 * time.Second

func newClient(ctx context.Context, opt Options) (*s3.Client, error) {
	cfg, err := sdkConfig(ctx, opt)
	if err != nil {
		return nil, err
	}
	return s3.NewFromConfig(cfg, opt.apply), nil
}

func sdkConfig(ctx context.Context, opt Options) (aws.Config, error) {
	// The SDK adds AWS_CA_BUNDLE to a client of this type only, so it is
	// wrapped further down. It also fetches the credentials.
	transport := awshttp.NewBuildableClient().WithDialerOptions(func(d *net.Dialer) {
		d.Timeout = connectTimeout
	}).WithTransportOptions(func(t *http.Transport) {
		t.ResponseHeaderTimeout = opt.Stall
		// Parts share no connection, so that one that hangs stops no other.
		t.ForceAttemptHTTP2 = false
		t.MaxIdleConnsPerHost = opt.Concurrency + 2
		// A watch makes a client for each of its rounds.
		t.IdleConnTimeout = idleTimeout
	})
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(transport),
		// Checksums are given with each request, by us: the SDK's own come as
		// trailers, which several S3-compatible stores do not know.
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
		config.WithRetryer(func() aws.Retryer { return newRetryer(opt) }),
	}
	if opt.Region != "" {
		load = append(load, config.WithRegion(opt.Region))
	}
	if opt.AccessKeyID != "" {
		load = append(load, config.WithCredentialsProvider(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: opt.AccessKeyID, SecretAccessKey: opt.SecretAccessKey, SessionToken: opt.SessionToken, Source: "env file"}, nil
		})))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return cfg, fmt.Errorf("S3 configuration: %w: check the AWS_* variables and the files in ~/.aws", err)
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	return cfg, nil
}

func (o *Options) apply(c *s3.Options) {
	if o.Endpoint != "" {
		c.BaseEndpoint = aws.String(o.Endpoint)
	}
	// S3-compatible stores seldom have a DNS name for each bucket.
	c.UsePathStyle = o.PathStyle || c.BaseEndpoint != nil && !o.HostStyle
	// The watch knows better which request may take how long.
	c.HTTPClient = &watched{next: straight(c.HTTPClient, 0), idle: o.Stall, minRate: o.MinRate}
	if c.Credentials != nil {
		c.Credentials = namedCredentials{c.Credentials}
	}
}

// straight is a client of the SDK's that follows no redirect. The SDK's own sends
// a request that is answered with 307 or 308 again, to wherever that points: the
// backup would go to another host, over plain HTTP if it says so, and the
// signature with it to another port of the same. A bucket of another region,
// which answers so, is told instead.
func straight(c aws.HTTPClient, wait time.Duration) aws.HTTPClient {
	built, ok := c.(*awshttp.BuildableClient)
	if !ok {
		return c
	}
	t := built.GetTransport()
	t.ResponseHeaderTimeout = wait
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// newRetryer retries what the SDK deems worth it, as often as Attempts says.
// The SDK's quota over all requests is off: the parts of a long upload would
// use it up in one short outage.
func newRetryer(opt Options) aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts, o.MaxBackoff = opt.Attempts, opt.Pause
		o.RateLimiter = ratelimit.None
		o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(badCertificate)}, o.Retryables...)
		o.Retryables = append(o.Retryables, retry.RetryableErrorCode{Codes: map[string]struct{}{
			// Two writers of one name met; S3 asks to come again.
			"ConditionalRequestConflict": {}, "OperationAborted": {},
			// The payload was changed or cut on its way.
			"BadDigest": {}, "XAmzContentSHA256Mismatch": {}, "XAmzContentChecksumMismatch": {}, "IncompleteBody": {},
		}})
	})
}

// badCertificate keeps a server with a bad certificate from being asked again:
// it has the same one then, and the time limit would hide the reason.
func badCertificate(err error) aws.Ternary {
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return aws.FalseTernary
	}
	return aws.UnknownTernary
}

// namedCredentials makes a failure to find credentials recognisable.
type namedCredentials struct{ next aws.CredentialsProvider }

func (c namedCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	found, err := c.next.Retrieve(ctx)
	if err != nil {
		return found, &credentialsError{err}
	}
	return found, nil
}

type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return "no AWS credentials were found" }
func (e *credentialsError) Unwrap() error { return e.err }

// signedWith has a request signed over a hash of its payload that is known
// already. Plain HTTP, where the SDK would read and hash the payload for it,
// costs no second pass, and HTTPS, where it would sign none, gains the guard
// that a payload changed on the way is refused, even by stores that ignore the
// checksum header. (The SDK drops values given in the context of the call.)
func signedWith(sum [sha256.Size]byte) func(*s3.Options) {
	set := middleware.InitializeMiddlewareFunc("escrowctl:PayloadHash", func(
		ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
	) (middleware.InitializeOutput, middleware.Metadata, error) {
		return next.HandleInitialize(v4.SetPayloadHash(ctx, hex.EncodeToString(sum[:])), in)
	})
	return s3.WithAPIOptions(func(stack *middleware.Stack) error { return stack.Initialize.Add(set, middleware.After) })
}
