package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Doer sends HTTP requests; *http.Client is one.
type Doer interface {
	Do(req *http.Request) (*http.Response, error)
}

// maxReply is how much of an answer is read, in bytes. The largest that is
// expected has a few kilobytes.
const maxReply = 1 << 20

// reply is what an HTTP service answered.
type reply struct {
	url  string
	code int
	body []byte
	ttfb time.Duration // from the start of the connection to the first byte
}

// fetchError is a service that gave no answer that can be read.
type fetchError struct {
	url  string
	says string
	// down: there is nobody, or nobody who answers. Otherwise there was an
	// answer, and it was cut off or too large.
	down bool
	err  error
}

func (e *fetchError) Error() string { return e.url + ": " + e.says }
func (e *fetchError) Unwrap() error { return e.err }

// fetch asks an HTTP service with GET. It does not follow redirections, reads no
// more than maxReply, and keeps to ctx.
func fetch(ctx context.Context, client Doer, now func() time.Time, address string) (reply, error) {
	shown := shortURL(address)
	var connected atomic.Bool
	var first atomic.Int64
	start := now()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:              func(httptrace.GotConnInfo) { connected.Store(true) },
		GotFirstResponseByte: func() { first.CompareAndSwap(0, int64(now().Sub(start))) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return reply{}, &fetchError{url: shown, says: "not an address that can be asked", err: err}
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "escrowctl")
	resp, err := client.Do(req)
	if err != nil {
		return reply{}, &fetchError{url: shown, says: reason(ctx, err, connected.Load()), down: isDown(err), err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil && ctx.Err() != nil:
		return reply{}, &fetchError{url: shown, says: fmt.Sprintf("the answer did not end in time (%d bytes came)", len(body)), err: err}
	case err != nil:
		return reply{}, &fetchError{url: shown, says: fmt.Sprintf("the answer broke off after %d bytes", len(body)), err: err}
	case len(body) > maxReply:
		return reply{}, &fetchError{url: shown, says: "the answer is longer than 1 MiB"}
	}
	return reply{url: shown, code: resp.StatusCode, body: body, ttfb: time.Duration(first.Load())}, nil
}

// Client is a client for checks: no proxy, no redirections, no connection kept.
// dial is nil for the usual way.
func Client(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Client {
	return &http.Client{
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
}

// isDown says whether a failed connection means that the service does not
// answer, rather than that the question could not be put.
func isDown(err error) bool {
	var lookup *net.DNSError
	return !errors.As(err, &lookup) && !errors.Is(err, context.Canceled)
}

// reason says in a few words why there was no answer.
func reason(ctx context.Context, err error, connected bool) string {
	var lookup *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return "interrupted"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: nothing listens there"
	case errors.As(err, &lookup):
		return "the name " + lookup.Name + " does not resolve"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		if connected {
			return "it takes the connection and stays silent"
		}
		return "no connection in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "it ended the connection without an answer"
	}
	var inner *url.Error
	if errors.As(err, &inner) {
		err = inner.Err // without the method and the whole address
	}
	return strings.ReplaceAll(err.Error(), "\n", " ")
}

// shortURL is an address without its scheme and without credentials.
func shortURL(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "an address that cannot be parsed"
	}
	return u.Host + strings.TrimSuffix(u.EscapedPath(), "/")
}
