// Package httpx reads other services' answers over HTTP without trusting them:
// every answer is bounded in time and size, no redirect is followed, and what
// does not look as it must is an error that says what came back. A health check
// must never take a login page, half a document or an endless one for a good
// answer.
package httpx

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// DefaultMaxBytes bounds an answer's body where the request sets nothing.
	DefaultMaxBytes = 1 << 20

	maxHeaderBytes = 64 << 10
	maxQuote       = 60 // bytes of an answer in an error
)

// Kind is what went wrong with a request.
type Kind uint8

// The kinds. NoAnswer is a connection refused, a name not found, silence.
// Refused is an answer with a status that was not asked for. Garbage is an
// answer that is not what the service gives when it is well.
const (
	NoAnswer Kind = iota + 1
	Refused
	Garbage
)

// Error is why there is no good answer. Its text names the URL without
// credentials and query.
type Error struct {
	Kind   Kind
	URL    string
	Status int    // of Refused, and of Garbage where there was one
	Said   string // what came back, in one line
	Err    error  // the cause, if there is one
}

// Error returns "URL: what came back".
func (e *Error) Error() string { return e.URL + ": " + e.Said }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Request is one GET.
type Request struct {
	URL string
	// User and Password are sent as basic authentication if Password is set.
	User, Password string
	// Statuses are accepted; none means 200 only. AnyStatus accepts all of them.
	Statuses  []int
	AnyStatus bool
	// MaxBytes bounds the body; 0 is DefaultMaxBytes.
	MaxBytes int64
}

// Answer is what came back, read to its end.
type Answer struct {
	URL    string // as it may be shown
	Status int
	Type   string // media type, in lower case and without parameters
	Body   []byte
	// Date is the answer's Date header; zero if it has none that can be read.
	Date time.Time
	// FirstByte is from sending the request (connection included) to its headers.
	FirstByte time.Duration
	// SentAt is when the request was sent.
	SentAt time.Time
}

// Client asks. The zero value serves; it keeps no connections.
type Client struct {
	// Transport is http.RoundTripper to use; nil is one of the client's own.
	Transport http.RoundTripper
	// Now is the clock for FirstByte; nil is time.Now.
	Now func() time.Time
}

// New returns a client that keeps connections for as long as it is used: for
// several requests to one service.
func New() *Client { return &Client{Transport: transport()} }

func transport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression:     true, // nothing unpacks to more than was sent
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        time.Second,
	}
}

// Get sends the request and reads the whole answer. Every error but a bad URL
// is an *Error. The time limit is the context's.
func (c *Client) Get(ctx context.Context, r Request) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL, nil)
	if err != nil {
		return Answer{}, fmt.Errorf("%s: not a URL", display(r.URL)) // the cause holds the URL
	}
	req.Header.Set("User-Agent", "escrowctl")
	if r.Password != "" {
		req.SetBasicAuth(r.User, r.Password)
	}
	now := c.clock()
	start := now()
	resp, err := c.http().Do(req)
	if err != nil {
		return Answer{}, noAnswer(r.URL, err, now().Sub(start))
	}
	defer func() { _ = resp.Body.Close() }()
	a := Answer{URL: display(r.URL), Status: resp.StatusCode, FirstByte: now().Sub(start), SentAt: start}
	a.Type, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		a.Date = date
	}
	a.Body, err = read(resp.Body, r.limit())
	switch {
	case errors.Is(err, errTooLong):
		return a, &Error{Kind: Garbage, URL: display(r.URL), Status: a.Status, Said: fmt.Sprintf("the answer is longer than %d bytes", r.limit()), Err: err}
	case err != nil:
		e := noAnswer(r.URL, err, now().Sub(start))
		e.Kind, e.Status, e.Said = Garbage, a.Status, "the answer breaks off: "+e.Said
		return a, e
	case !r.accepts(a.Status):
		return a, &Error{Kind: Refused, URL: display(r.URL), Status: a.Status, Said: refusal(resp, a)}
	}
	return a, nil
}

// Begin sends the request in the background. What it returns waits for the
// answer, so that nothing is waited for that is not needed.
func (c *Client) Begin(ctx context.Context, r Request) func() (Answer, error) {
	type result struct {
		Answer
		err error
	}
	done := make(chan result, 1)
	go func() {
		a, err := c.Get(ctx, r)
		done <- result{a, err}
	}()
	return sync.OnceValues(func() (Answer, error) {
		got := <-done
		return got.Answer, got.err
	})
}

// Down says whether a failed request means that the service does not answer,
// rather than that the question could not be put or that the answer is garbage.
func Down(err error) bool {
	e, ok := errors.AsType[*Error](err)
	var lookup *net.DNSError
	return ok && e.Kind == NoAnswer && !errors.As(err, &lookup) && !errors.Is(err, context.Canceled)
}

// JSON gets an answer and decodes its one JSON document into v. An answer that
// is no JSON, or of another shape, is an *Error of kind Garbage.
func (c *Client) JSON(ctx context.Context, r Request, v any) (Answer, error) {
	a, err := c.Get(ctx, r)
	if err != nil {
		return a, err
	}
	if err := Decode(a.Body, v); err != nil {
		return a, &Error{Kind: Garbage, URL: display(r.URL), Status: a.Status, Said: err.Error(), Err: err}
	}
	return a, nil
}

// Decode decodes one JSON document and says in one line what is wrong with it.
func Decode(body []byte, v any) error {
	err := json.Unmarshal(body, v)
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil && bytes.Equal(bytes.TrimSpace(body), []byte("null")):
		return errors.New("the answer is null")
	case err == nil:
		return nil
	case errors.As(err, &kind) && kind.Field != "":
		return fmt.Errorf("%q is of type %s in the answer, not %s", kind.Field, kind.Value, kind.Type)
	case errors.As(err, &kind):
		return fmt.Errorf("the answer is a JSON %s of the wrong shape", kind.Value)
	case len(bytes.TrimSpace(body)) == 0:
		return errors.New("the answer is empty, not JSON")
	}
	return fmt.Errorf("the answer is not JSON: it begins with %s", Quote(body))
}

// Quote quotes the beginning of an answer for a message.
func Quote(body []byte) string {
	text := string(body[:min(len(body), maxQuote)])
	if len(body) > maxQuote {
		return fmt.Sprintf("%+q...", text)
	}
	return fmt.Sprintf("%+q", text)
}

func (c *Client) clock() func() time.Time {
	if c.Now != nil {
		return c.Now
	}
	return time.Now //nolint:forbidigo // the default
}

func (c *Client) http() *http.Client {
	t := c.Transport
	if t == nil {
		own := transport()
		own.DisableKeepAlives = true
		t = own
	}
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (r Request) limit() int64 {
	if r.MaxBytes > 0 {
		return r.MaxBytes
	}
	return DefaultMaxBytes
}

func (r Request) accepts(status int) bool {
	if len(r.Statuses) == 0 {
		return r.AnyStatus || status == http.StatusOK
	}
	return slices.Contains(r.Statuses, status)
}

var errTooLong = errors.New("too long")

func read(body io.Reader, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err == nil && int64(len(text)) > limit {
		return nil, errTooLong
	}
	return text, err
}

// refusal words an answer with a status that was not asked for.
func refusal(resp *http.Response, a Answer) string {
	text := fmt.Sprintf("HTTP %d", a.Status)
	if name := http.StatusText(a.Status); name != "" {
		text += " " + name
	}
	if to, err := resp.Location(); err == nil && a.Status < 400 {
		return text + ", a redirect to " + display(to.Scheme+"://"+to.Host) + ", which is not followed"
	}
	if body := bytes.TrimSpace(a.Body); len(body) > 0 && a.Type != "text/html" {
		line, _, _ := bytes.Cut(body, []byte("\n"))
		text += ": " + Quote(line)
	}
	return text
}

// noAnswer words an error of the network. A url.Error's text holds the URL.
func noAnswer(raw string, err error, after time.Duration) *Error {
	e := &Error{Kind: NoAnswer, URL: display(raw), Err: err}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	var ne net.Error
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.Canceled):
		e.Said = "interrupted"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Said = "connection refused: nothing listens there"
	case errors.As(err, &dns) && dns.IsNotFound:
		e.Said = "there is no host " + dns.Name
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		e.Said = "no answer within " + after.Round(100*time.Millisecond).String()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e.Said = "the connection was closed before the end of an answer"
	case strings.Contains(err.Error(), "malformed HTTP"):
		e.Kind, e.Said = Garbage, "what answers there does not speak HTTP"
	default:
		text := err.Error()
		e.Said = text[:min(len(text), 3*maxQuote)]
	}
	return e
}

// display is a URL as it may be shown: without credentials, query and fragment.
func display(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "the configured URL"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
