package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/httpx"
)

// HTTPOptions are an HTTP service and what proves that it is the right one.
type HTTPOptions struct {
	ID  string
	URL string // its base
	// Path below it is asked for.
	Path string
	// Field names the field of the JSON answer that only this service has, as
	// data.version. Its value is told.
	Field string
	// Bad is the status if it cannot be reached; Fix names the way out.
	Bad    check.Status
	Fix    string
	Client *httpx.Client
}

// HTTP checks that a service answers at its address, and is what it should be: a
// proxy's or another service's page is not. That it answers 503 is an answer.
func HTTP(o HTTPOptions) check.Probe {
	return check.Probe{ID: o.ID, Limit: Limit, Run: func(ctx context.Context) check.Result {
		var doc any
		req := httpx.Request{URL: strings.TrimRight(o.URL, "/") + o.Path, Statuses: []int{http.StatusOK, http.StatusServiceUnavailable}}
		a, err := o.Client.JSON(ctx, req, &doc)
		if err != nil {
			return check.Result{ID: o.ID, Status: o.Bad, Summary: err.Error(), Action: o.Fix}
		}
		value, found := field(doc, o.Field)
		switch {
		case !found:
			return check.Result{ID: o.ID, Status: o.Bad, Summary: fmt.Sprintf("%s: the answer has no %s: something else answers there", req.URL, o.Field), Action: o.Fix}
		case a.Status != http.StatusOK:
			return check.Result{ID: o.ID, Status: check.Warning, Summary: fmt.Sprintf("%s: HTTP %d, %s is %s", req.URL, a.Status, o.Field, value), Action: "escrowctl shift-check"}
		}
		return check.Result{ID: o.ID, Summary: fmt.Sprintf("%s answers: %s %s", o.URL, o.Field, value)}
	}}
}

// field finds a value in a JSON document by its path.
func field(doc any, path string) (string, bool) {
	for name := range strings.SplitSeq(path, ".") {
		object, ok := doc.(map[string]any)
		if !ok {
			return "", false
		}
		if doc, ok = object[name]; !ok {
			return "", false
		}
	}
	switch v := doc.(type) {
	case string:
		return v, v != ""
	case float64, bool:
		text, err := json.Marshal(v)
		return string(text), err == nil
	}
	return "", false
}

// DialOptions are a server that must not be asked anything: a webhook posts.
type DialOptions struct {
	ID  string
	URL string // its path is a secret
	Key string // the setting that names it
	// Proxy is http.ProxyFromEnvironment, unless tests set another.
	Proxy func(*http.Request) (*url.URL, error)
	// TLS is the configuration of the handshake; nil is the system's.
	TLS *tls.Config
}

// Dial checks that a connection to the server can be made, with https that its
// certificate is good, and sends nothing.
func Dial(o DialOptions) check.Probe {
	return check.Probe{ID: o.ID, Limit: Limit, Run: func(ctx context.Context) check.Result {
		said, err := o.dial(ctx)
		if err != nil {
			return check.Result{ID: o.ID, Status: check.Critical, Summary: err.Error(), Action: "correct " + o.Key + ", or let this host connect there"}
		}
		return check.Result{ID: o.ID, Summary: said}
	}}
}

func (o DialOptions) dial(ctx context.Context) (string, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Hostname() == "" {
		return "", fmt.Errorf("%s is no URL", o.Key) // the error would quote it
	}
	port := u.Port()
	if port == "" {
		port = map[bool]string{true: "443", false: "80"}[u.Scheme == "https"]
	}
	host := net.JoinHostPort(u.Hostname(), port)
	if proxy := o.proxyFor(u); proxy != nil {
		addr := net.JoinHostPort(proxy.Hostname(), cmp.Or(proxy.Port(), "80"))
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return "", fmt.Errorf("%s: the proxy %s cannot be reached: %w", host, addr, cause(err))
		}
		return fmt.Sprintf("%s through the proxy %s, which answers; nothing was posted", host, addr), conn.Close()
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", host)
	if err != nil {
		return "", fmt.Errorf("%s cannot be reached: %w", host, cause(err))
	}
	defer func() { _ = conn.Close() }()
	if u.Scheme != "https" {
		return host + " can be reached; nothing was posted", nil
	}
	config := o.TLS.Clone()
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	config.ServerName = u.Hostname()
	if err := tls.Client(conn, config).HandshakeContext(ctx); err != nil {
		return "", fmt.Errorf("%s: TLS: %w", host, err)
	}
	return host + " can be reached, its certificate is good; nothing was posted", nil
}

func (o DialOptions) proxyFor(u *url.URL) *url.URL {
	find := o.Proxy
	if find == nil {
		find = http.ProxyFromEnvironment
	}
	// Only scheme and host decide.
	proxy, err := find(&http.Request{URL: &url.URL{Scheme: u.Scheme, Host: u.Host}})
	if err != nil {
		return nil
	}
	return proxy
}

// cause is a dial's error without the address, which is named already.
func cause(err error) error {
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e.Err
	}
	return err
}
