package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

var errURL = errors.New("its URL is not of the form http(s)://host/path")

// event posts the platform's metrics event.
func (r *Reporter) event(ctx context.Context, event any) *Problem {
	body, err := encodeObject(event)
	if err != nil {
		return &Problem{Kind: Local, Destination: ToAPI, Cause: err}
	}
	u, err := parseURL(r.opt.APIBaseURL)
	if err != nil {
		return &Problem{Kind: Local, Destination: ToAPI, Cause: err, Remedy: "set report.api_base_url (API_BASE_URL)"}
	}
	u = u.JoinPath("api", "metrics")
	p := problemOf(ToAPI, r.post(ctx, u, r.courier(u, false), body))
	if p == nil {
		return nil
	}
	var f *failure
	switch {
	case errors.As(p, &f) && unserved(f.status):
		p.Kind = Unserved
		p.Remedy = "nobody serves POST " + u.Path + " there: rely on report.textfile_dir and set report.api_metrics to off, or correct report.api_base_url (API_BASE_URL)"
	case p.Kind == Unreachable:
		p.Remedy = "start the service, or correct report.api_base_url (API_BASE_URL)"
	default:
		p.Remedy = "check report.api_base_url (API_BASE_URL), or set report.api_metrics to off"
	}
	return p
}

func unserved(status int) bool {
	return status == http.StatusNotFound || status == http.StatusMethodNotAllowed || status == http.StatusNotImplemented
}

// webhook posts a line in Slack's form.
func (r *Reporter) webhook(ctx context.Context, text string) *Problem {
	body, err := encodeObject(map[string]string{"text": text})
	if err != nil {
		return &Problem{Kind: Local, Destination: ToWebhook, Cause: err}
	}
	u, err := parseURL(r.opt.Webhook)
	if err != nil {
		return &Problem{Kind: Local, Destination: ToWebhook, Cause: err, Remedy: "set the webhook to the URL that its service gave you"}
	}
	p := problemOf(ToWebhook, r.post(ctx, u, r.courier(u, true), body))
	switch {
	case p == nil:
	case p.Kind == Unreachable:
		p.Remedy = "nobody was told of this run by webhook: check this host's way to " + u.Hostname()
	default:
		p.Remedy = "nobody was told of this run by webhook: it may be revoked or mistyped, set a valid URL"
	}
	return p
}

func (r *Reporter) post(ctx context.Context, u *url.URL, c *courier, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return errURL
	}
	req.Header.Set("Content-Type", "application/json")
	_, err = c.Do(req) //nolint:bodyclose // always empty
	return err
}

func (r *Reporter) courier(u *url.URL, privatePath bool) *courier {
	return &courier{client: r.client, limit: r.opt.Timeout, backoff: r.backoff, secrets: secretsOf(u, privatePath)}
}

// encodeObject returns v's JSON, which must be an object.
func encodeObject(v any) ([]byte, error) {
	raw, ok := v.(json.RawMessage)
	if !ok {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return nil, fmt.Errorf("encode: %w", err)
		}
		raw = bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	}
	if !json.Valid(raw) || !bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		return nil, errors.New("encode: it is no JSON object")
	}
	return raw, nil
}

// parseURL's errors do not repeat the URL.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, errURL
	}
	return u, nil
}

// secretsOf lists the parts of a URL that no message may hold, longest first:
// the password, query values, and with privatePath, as a webhook's path is its
// password, also that.
func secretsOf(u *url.URL, privatePath bool) []string {
	var parts []string
	if pw, ok := u.User.Password(); ok {
		parts = append(parts, pw)
	}
	if u.RawQuery != "" {
		parts = append(parts, u.RawQuery)
	}
	for _, values := range u.Query() {
		parts = append(parts, values...)
	}
	if privatePath {
		parts = append(parts, u.Path, u.Fragment, u.User.Username())
		parts = append(parts, strings.Split(u.Path, "/")...)
	}
	var out []string
	for _, p := range parts {
		const tooShort = 3 // "/", "v1": no secret, and replacing them would garble the message
		if len(p) >= tooShort {
			out = append(out, p, url.PathEscape(p), url.QueryEscape(p), html.EscapeString(p))
		}
	}
	slices.SortFunc(out, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(out)
}
