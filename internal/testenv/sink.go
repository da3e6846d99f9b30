package testenv

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// Sink is an HTTP server that takes what escrowctl reports and keeps it: the
// platform's POST /api/metrics, a Slack webhook, a Pushgateway.
type Sink struct {
	URL string // http://127.0.0.1:PORT, the base for /api/metrics

	stop chan struct{}

	mu       sync.Mutex
	requests []Request
	answers  map[string]answer
}

// Request is one request that the sink took.
type Request struct {
	Method string
	Path   string
	Header http.Header
	Body   []byte
	Time   time.Time
}

type answer struct {
	status int
	delay  time.Duration
	header http.Header
}

// webhookPath is as hard to guess as a real webhook's, and a secret likewise.
const webhookPath = "/services/T000/B000/s3cretW3bh00k"

// NewSink starts a sink that answers 200 to everything.
func NewSink(t testing.TB) *Sink {
	t.Helper()
	s := &Sink{stop: make(chan struct{}), answers: make(map[string]answer)}
	server := httptest.NewServer(s)
	s.URL = server.URL
	t.Cleanup(func() {
		close(s.stop) // lets answers that are being delayed go
		server.CloseClientConnections()
		server.Close()
	})
	return s
}

// WebhookURL is where messages for people go.
func (s *Sink) WebhookURL() string { return s.URL + webhookPath }

// SetStatus makes a path answer with a status; path "" means every path that
// has none of its own.
func (s *Sink) SetStatus(path string, status int) {
	s.change(path, func(a *answer) { a.status = status })
}

// SetDelay makes a path answer only after d, or when the client has gone.
func (s *Sink) SetDelay(path string, d time.Duration) {
	s.change(path, func(a *answer) { a.delay = d })
}

// SetHeader adds a header to a path's answers, such as Retry-After or Location.
func (s *Sink) SetHeader(path, name, value string) {
	s.change(path, func(a *answer) {
		a.header = a.header.Clone()
		if a.header == nil {
			a.header = http.Header{}
		}
		a.header.Set(name, value)
	})
}

func (s *Sink) change(path string, edit func(*answer)) {
	if path == "webhook" {
		path = webhookPath
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.answers[path]
	edit(&a)
	s.answers[path] = a
}

// ServeHTTP records the request and gives the answer set for its path.
func (s *Sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client gave up: nothing to record, nobody to answer
	}
	a := s.record(Request{Method: r.Method, Path: r.URL.Path, Header: r.Header.Clone(), Body: body, Time: time.Now()})
	if a.delay > 0 {
		select {
		case <-time.After(a.delay):
		case <-r.Context().Done():
		case <-s.stop:
		}
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	if a.status == 0 {
		a.status = http.StatusOK
	}
	w.WriteHeader(a.status)
}

func (s *Sink) record(r Request) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
	if a, ok := s.answers[r.Path]; ok {
		return a
	}
	return s.answers[""]
}

// Requests returns what has come so far, in order; with paths, only theirs.
func (s *Sink) Requests(paths ...string) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Request
	for _, r := range s.requests {
		if len(paths) == 0 || slices.Contains(paths, r.Path) {
			out = append(out, r)
		}
	}
	return out
}

// Metrics returns the events posted to /api/metrics, decoded.
func (s *Sink) Metrics(t testing.TB) []map[string]any {
	t.Helper()
	return decode(t, s.Requests("/api/metrics"))
}

// Texts returns the texts posted to the webhook.
func (s *Sink) Texts(t testing.TB) []string {
	t.Helper()
	var texts []string
	for _, message := range decode(t, s.Requests(webhookPath)) {
		text, ok := message["text"].(string)
		if !ok {
			t.Errorf("testenv: webhook body without a text: %v", message)
		}
		texts = append(texts, text)
	}
	return texts
}

func decode(t testing.TB, requests []Request) []map[string]any {
	t.Helper()
	var out []map[string]any
	for _, r := range requests {
		var object map[string]any
		if err := json.Unmarshal(r.Body, &object); err != nil {
			t.Errorf("testenv: %s %s: body %q is no JSON object: %v", r.Method, r.Path, r.Body, err)
			continue
		}
		out = append(out, object)
	}
	return out
}
