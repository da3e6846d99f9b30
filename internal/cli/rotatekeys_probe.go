package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// probeLimit bounds one request with a key.
const probeLimit = 10 * time.Second

// probeClient follows no redirect, which is neither an acceptance nor a refusal,
// and uses no connection twice: each request meets the container that is there.
func probeClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	transport.Proxy = nil // a proxy would see the keys
	return &http.Client{
		Transport: transport, Timeout: probeLimit,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// keyProber asks the API with a key.
type keyProber struct {
	url    string
	header string // X-API-Key: {key}
	client *http.Client
}

// Probe returns the status of one request.
func (p *keyProber) Probe(ctx context.Context, key string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return 0, fmt.Errorf("probe: %s is no URL: set api.url and keys.api_path", p.url)
	}
	if key != "" {
		name, value, _ := strings.Cut(p.header, ": ")
		req.Header.Set(name, strings.ReplaceAll(value, "{key}", key))
	}
	resp, err := p.client.Do(req)
	if err != nil {
		var where *url.Error
		if errors.As(err, &where) {
			err = where.Err // its URL stands below
		}
		return 0, fmt.Errorf("probe: %s does not answer: %w", p.url, err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, nil
}
