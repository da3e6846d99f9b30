package perf

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxAnswer is how much of an answer is read, in bytes.
const maxAnswer = 1 << 20

// APIMetrics asks an API for its /health/metrics.
func APIMetrics(ctx context.Context, client *http.Client, base string) (*API, error) {
	url := strings.TrimRight(base, "/") + "/health/metrics"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: status %s", url, resp.Status)
	}
	return parseMetrics(url, body)
}

func parseMetrics(url string, body []byte) (*API, error) {
	var answer map[string]any
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("%s: no JSON: %w", url, err)
	}
	m := &API{URL: url}
	read := func(key string) float64 {
		n, ok := answer[key].(float64)
		if !ok {
			m.Missing = append(m.Missing, key)
		}
		return n
	}
	m.RequestsTotal = int64(read("requests_total"))
	m.RequestsPerMinute, m.AvgMS, m.P95MS = read("requests_per_minute"), read("avg_response_ms"), read("p95_response_ms")
	m.ErrorRate, m.UptimeSeconds = read("error_rate"), read("uptime_seconds")
	if len(m.Missing) == 6 {
		return nil, fmt.Errorf("%s: none of the figures expected is in the answer", url)
	}
	return m, nil
}

// timing is where the time of one request went, in seconds; what did not occur
// is not a number.
type timing struct{ dns, connect, tls, ttfb float64 }

// givenUpAfter is how many requests in a row may get no answer before no more are
// sent: twenty to a server that hangs would take twenty time limits to say no more.
const givenUpAfter = 3

// Measure sends n requests to a URL, one after the other, each on a connection
// of its own, so that DNS, connecting and TLS are measured too. It stops early
// when several in a row get no answer, and when ctx ends.
func Measure(ctx context.Context, client *http.Client, url string, n int, now func() time.Time) Endpoint {
	e := Endpoint{URL: url, Statuses: map[string]int{}}
	var dns, connect, tls []float64
	for silent := 0; e.Requests < n && silent < givenUpAfter; {
		t, status, err := request(ctx, client, url, now)
		if ctx.Err() != nil && e.Requests > 0 {
			break // the time is over: that says nothing about the server
		}
		e.Requests++
		if err != nil {
			silent++
			e.Failed++
			e.Problem = cause(err)
			continue
		}
		silent = 0
		e.Statuses[strconv.Itoa(status)]++
		if status >= http.StatusInternalServerError {
			e.Errors++
			e.Problem = "status " + strconv.Itoa(status)
		}
		dns, connect, tls, e.Samples = collect(dns, t.dns), collect(connect, t.connect), collect(tls, t.tls), collect(e.Samples, t.ttfb)
	}
	slices.Sort(e.Samples)
	e.DNS, e.Connect, e.TLS, e.TTFB = quantiles(dns), quantiles(connect), quantiles(tls), quantiles(e.Samples)
	return e
}

func collect(list []float64, v float64) []float64 {
	if math.IsNaN(v) {
		return list
	}
	return append(list, v)
}

func request(ctx context.Context, client *http.Client, url string, now func() time.Time) (timing, int, error) {
	w := &watch{now: now, begun: map[string]time.Time{}, took: map[string]float64{}}
	w.start("ttfb")
	trace := &httptrace.ClientTrace{
		DNSStart:             func(httptrace.DNSStartInfo) { w.start("dns") },
		DNSDone:              func(httptrace.DNSDoneInfo) { w.stop("dns", nil) },
		ConnectStart:         func(_, _ string) { w.start("connect") },
		ConnectDone:          func(_, _ string, err error) { w.stop("connect", err) },
		TLSHandshakeStart:    func() { w.start("tls") },
		TLSHandshakeDone:     func(_ tls.ConnectionState, err error) { w.stop("tls", err) },
		GotFirstResponseByte: func() { w.stop("ttfb", nil) },
	}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodGet, url, nil)
	if err != nil {
		return timing{}, 0, err
	}
	req.Close = true // a connection of its own
	req.Header.Set("User-Agent", "escrowctl perf")
	resp, err := client.Do(req)
	if err != nil {
		return timing{}, 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	return timing{w.of("dns"), w.of("connect"), w.of("tls"), w.of("ttfb")}, resp.StatusCode, err
}

// watch measures the phases of a request. Several connections may be tried at
// once, and one of them may still be when the answer is there.
type watch struct {
	now   func() time.Time
	mu    sync.Mutex
	begun map[string]time.Time
	took  map[string]float64
}

func (w *watch) start(phase string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun[phase] = w.now()
}

func (w *watch) stop(phase string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, done := w.took[phase]; err == nil && !done {
		w.took[phase] = w.now().Sub(w.begun[phase]).Seconds()
	}
}

// of is the time that a phase took, not a number if it did not occur.
func (w *watch) of(phase string) float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s, ok := w.took[phase]; ok {
		return s
	}
	return math.NaN()
}

// cause is an error without the request that it repeats.
func cause(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	text := err.Error()
	if at := strings.LastIndex(text, ": dial "); at >= 0 {
		text = text[at+2:]
	}
	return text
}

// quantiles by the nearest rank: every figure is one that was measured.
func quantiles(samples []float64) Quantiles {
	if len(samples) == 0 {
		return Quantiles{}
	}
	sorted := slices.Sorted(slices.Values(samples))
	at := func(q float64) float64 { return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)] }
	return Quantiles{P50: at(0.50), P95: at(0.95), P99: at(0.99)}
}
