package s3store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stellarescrow/escrowctl/internal/store"
)

// Error says what was asked of a bucket, what came back and what to do.
type Error struct {
	Op       string // "upload part 3 of"
	URI      string
	Status   int    // HTTP status; 0 if no answer came
	Code     string // S3's error code; "" if none came
	Message  string // what the store said besides, one line
	Attempts int    // how often it was tried, if in vain; else 0
	Hint     string
	Err      error
}

func (e *Error) Error() string {
	var msg strings.Builder
	fmt.Fprintf(&msg, "%s %s: ", e.Op, e.URI)
	switch {
	case e.Code != "" && e.Status != 0:
		fmt.Fprintf(&msg, "%s (HTTP %d)", e.Code, e.Status)
	case e.Status >= 300:
		fmt.Fprintf(&msg, "HTTP %d", e.Status)
	default:
		msg.WriteString(cause(e.Err))
	}
	if e.Message != "" {
		msg.WriteString(": " + e.Message)
	}
	if e.Attempts > 1 {
		fmt.Fprintf(&msg, ", tried %d times", e.Attempts)
	}
	if e.Hint != "" {
		msg.WriteString(": " + e.Hint)
	}
	return msg.String()
}

// Unwrap gives the SDK's error, and store's where there is one for it.
func (e *Error) Unwrap() error { return e.Err }

// fail wraps an error of the SDK; nil stays nil. The end of ctx comes first: it
// is not the store's fault.
func (s *Store) fail(ctx context.Context, o op, name string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s: %w", o, s.uri(name), context.Cause(ctx))
	}
	e := &Error{Op: string(o), URI: s.uri(name), Err: err}
	e.Status, e.Code = answer(err)
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorMessage() != e.Code {
		e.Message = oneLine(api.ErrorMessage())
	}
	var tries *retry.MaxAttemptsError
	if errors.As(err, &tries) {
		e.Attempts = tries.Attempt
	}
	return s.explain(e, o)
}

// explain adds the sentinel that callers choose by, and the way out.
func (s *Store) explain(e *Error, o op) error {
	switch {
	case o == opRead && e.Status == 412:
		e.Err = fmt.Errorf("%w: %w", store.ErrChanged, e.Err)
	case e.Status == 412:
		e.Err = fmt.Errorf("%w: %w", store.ErrExist, e.Err)
	case e.Code == "NoSuchKey", e.Code == "NotFound", e.Status == 404 && e.Code == "":
		// A HEAD says NotFound, a GET NoSuchKey.
		e.Err = fmt.Errorf("%w: %w", store.ErrNotExist, e.Err)
	case e.Code == "InvalidAccessKeyId", e.Code == "SignatureDoesNotMatch", e.Code == "XAdminUserNotFound":
		e.Err = fmt.Errorf("%w: %w", store.ErrCredentials, e.Err)
	case e.Code == "AccessDenied":
		e.Err = fmt.Errorf("%w: %w", store.ErrDenied, e.Err)
	}
	e.Hint = s.hint(e, o)
	return e
}

// answer returns the HTTP status and S3's code of a failed request; 0 and ""
// where no answer came.
func answer(err error) (status int, code string) {
	var own *Error
	if errors.As(err, &own) {
		return own.Status, own.Code
	}
	var resp *awshttp.ResponseError
	if errors.As(err, &resp) {
		status = resp.HTTPStatusCode()
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	return status, code
}

// notImplemented says that a store knows no conditional writes.
func notImplemented(err error) bool {
	status, code := answer(err)
	return status == 501 || code == "NotImplemented"
}

func denied(err error) bool {
	status, _ := answer(err)
	return status == 403
}

// plainError is a message of ours about what a store did.
type plainError struct {
	msg string
	err error // may be nil
}

func (e *plainError) Error() string { return e.msg }
func (e *plainError) Unwrap() error { return e.err }

// cause drops the wrapping of SDK and transport, which repeats the request
// several times and its URL with it.
func cause(err error) string {
	var plain *plainError
	var stalled *stalledError
	var creds *credentialsError
	var dns *net.DNSError
	var op *net.OpError
	var cert *tls.CertificateVerificationError
	var u *url.Error
	switch {
	case errors.As(err, &plain):
		return plain.Error()
	case errors.As(err, &stalled):
		return stalled.Error()
	case errors.As(err, &creds):
		return creds.Error()
	case errors.As(err, &dns):
		return dns.Error()
	case errors.As(err, &cert):
		return cert.Error()
	case errors.As(err, &op) && errors.Is(err, net.ErrClosed) && op.Addr != nil:
		return "connection to " + op.Addr.String() + " was closed" // by the other side: we close none in use
	case errors.As(err, &op):
		return op.Error()
	case errors.As(err, &u):
		return u.Err.Error()
	}
	var sdk *smithy.OperationError
	if errors.As(err, &sdk) {
		for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
			err = next
		}
	}
	return oneLine(err.Error())
}

// oneLine keeps what a server says from breaking a log.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.TrimSpace(s))
	const most = 300
	if cut := []rune(s); len(cut) > most {
		return string(cut[:most]) + "..."
	}
	return s
}

// isNetwork says that the fault lies with the way to the store.
func isNetwork(err error) bool {
	var send *smithyhttp.RequestSendError
	var network net.Error
	return errors.As(err, &send) || errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF)
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
