package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxTries  = 3
	maxAnswer = 1 << 10  // bytes read of a refusal, for the message
	maxHeader = 64 << 10 // bytes
	maxQuote  = 200      // bytes of a refusal in a message
)

// newClient returns a client like from that follows no redirects. None of the
// destinations needs one: after 301 or 302 a POST would arrive as a GET without
// its body, and a redirect to another host would carry the report there.
func newClient(from *http.Client) *http.Client {
	c := http.Client{Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DisableKeepAlives:      true, // one report a process
		MaxResponseHeaderBytes: maxHeader,
	}}
	if from != nil {
		c = *from
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// courier carries requests to one destination and tries again where that may
// help. It is a push.HTTPDoer, so that the Pushgateway's client gets the same.
type courier struct {
	client  *http.Client
	limit   time.Duration // for messages
	backoff time.Duration
	secrets []string // never in messages
}

// failure is why a request did not get through.
type failure struct {
	host   string
	status int    // 0: no answer
	said   string // an excerpt of the answer or of the network's error
	after  time.Duration
	tries  int
}

func (f *failure) Error() string {
	text := f.host + ": " + f.said
	if f.status != 0 {
		text = fmt.Sprintf("%s answered HTTP %d", f.host, f.status)
		if f.said != "" {
			text += " " + f.said
		}
	}
	if f.tries > 1 {
		text += fmt.Sprintf(" (%d tries)", f.tries)
	}
	return text
}

func (f *failure) kind() Kind {
	if f.mayPass() {
		return Unreachable
	}
	return Rejected
}

// mayPass reports whether another try may help.
func (f *failure) mayPass() bool {
	return f.status == 0 || f.status == http.StatusTooManyRequests || f.status >= 500
}

// Do sends req until it is accepted, refused for good, tried out, or the
// context's time is up. Its error is a *failure for every answer but 2xx; the
// body of its answer is empty, whatever the destination sends.
func (c *courier) Do(req *http.Request) (*http.Response, error) {
	for try := 1; ; try++ {
		resp, f := c.once(req)
		if f == nil {
			return resp, nil
		}
		f.tries = try
		if try == maxTries || !f.mayPass() || !c.pause(req.Context(), try, f.after) {
			return nil, f
		}
		if req.GetBody == nil {
			return nil, f
		}
		body, err := req.GetBody()
		if err != nil {
			return nil, f
		}
		req.Body = body
	}
}

func (c *courier) once(req *http.Request) (*http.Response, *failure) {
	req.Header.Set("User-Agent", "escrowctl")
	f := &failure{host: req.URL.Host}
	resp, err := c.client.Do(req)
	if err != nil {
		f.said = c.explain(req.Context(), err)
		return nil, f
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		// What it says beyond that is not read, be it endless.
		return &http.Response{StatusCode: http.StatusAccepted, Header: resp.Header, Body: http.NoBody, Request: req}, nil
	}
	f.status = resp.StatusCode
	f.after = retryAfter(resp.Header)
	if to, err := resp.Location(); err == nil && resp.StatusCode < 400 {
		f.said = "and points to " + c.hide(to.Scheme+"://"+to.Host) + ", which is not followed"
		return nil, f
	}
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	f.said = c.quote(answer)
	return nil, f
}

// pause waits before the next try; false says that the time does not suffice.
func (c *courier) pause(ctx context.Context, try int, atLeast time.Duration) bool {
	wait := c.backoff << (try - 1)
	wait = wait/2 + rand.N(wait+1) // half to one and a half: hosts must not come back in step
	wait = max(wait, atLeast)
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= wait { //nolint:forbidigo // contexts go by the wall clock
		return false
	}
	select {
	case <-time.After(wait):
		return true
	case <-ctx.Done():
		return false
	}
}

// retryAfter reads the seconds a destination asks for; dates are not used by
// any of ours.
func retryAfter(h http.Header) time.Duration {
	s, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || s < 0 || s > 3600 {
		return 0
	}
	return time.Duration(s) * time.Second
}

// explain words a network error. A url.Error's own text holds the whole URL.
func (c *courier) explain(ctx context.Context, err error) string {
	if errors.Is(ctx.Err(), context.Canceled) {
		return "interrupted"
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return fmt.Sprintf("no answer within %s", c.limit)
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return shorten(c.hide(err.Error()))
}

// quote returns the first line of an answer for a message.
func (c *courier) quote(answer []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(answer), []byte("\n"))
	if len(line) == 0 {
		return ""
	}
	printable := func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '.'
		}
		return r
	}
	return strconv.Quote(shorten(strings.Map(printable, c.hide(string(line)))))
}

// hide removes secrets: servers like to repeat the path that they do not know.
func (c *courier) hide(text string) string {
	for _, s := range c.secrets {
		text = strings.ReplaceAll(text, s, "[redacted]")
	}
	return text
}

func shorten(text string) string {
	if len(text) > maxQuote {
		return strings.ToValidUTF8(text[:maxQuote], "") + "..."
	}
	return text
}

// problemOf turns an error of a courier into a Problem.
func problemOf(to string, err error) *Problem {
	if err == nil {
		return nil
	}
	p := &Problem{Kind: Local, Destination: to, Cause: err}
	var f *failure
	if errors.As(err, &f) {
		p.Kind = f.kind()
	}
	return p
}
