package report

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// request is what a sink was sent.
type request struct {
	method, path, contentType, user string
	body                            []byte
}

// sink is a real HTTP server that keeps what it is sent.
type sink struct {
	URL string
	mu  sync.Mutex
	got []request
}

// newSink answers with the given handler, 200 if nil. On cleanup handlers that
// hang on the request's context are let go.
func newSink(t *testing.T, answer http.HandlerFunc) *sink {
	t.Helper()
	s := &sink{}
	stop := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		user, _, _ := r.BasicAuth()
		s.mu.Lock()
		s.got = append(s.got, request{r.Method, r.URL.EscapedPath(), r.Header.Get("Content-Type"), user, body})
		s.mu.Unlock()
		if answer != nil {
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			go func() {
				select {
				case <-stop:
					cancel()
				case <-ctx.Done():
				}
			}()
			answer(w, r.WithContext(ctx))
		}
	}))
	t.Cleanup(func() { close(stop); srv.Close() })
	s.URL = srv.URL
	return s
}

func (s *sink) requests() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]request(nil), s.got...)
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// hang never answers.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

var (
	began = time.Date(2026, 1, 1, 2, 0, 0, 0, time.UTC)
	ended = began.Add(90*time.Second + 500*time.Millisecond)
)

// aRun reports to every destination that is on.
func aRun(success bool) Report {
	rep := Report{
		Job: "backup", Success: success, StartedAt: began, EndedAt: ended,
		Event:  map[string]any{"source": "backup", "type": "backup_success", "ts": ended.Unix()},
		Text:   "backup ok",
		Gauges: []Gauge{{Name: "size_bytes", Help: "Size.", Value: 1234}},
	}
	if !success {
		rep.ExitCode = 2
	}
	return rep
}

// newReporter tries again without long waits.
func newReporter(opt Options) *Reporter {
	r := New(opt)
	r.backoff = 5 * time.Millisecond
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// arrived demands that every destination took the report.
func arrived(t *testing.T, r *Reporter, rep Report) {
	t.Helper()
	for _, p := range r.Send(t.Context(), rep) {
		t.Errorf("not taken: %v", p)
	}
}

// only demands exactly one problem.
func only(t *testing.T, problems []Problem) Problem {
	t.Helper()
	if len(problems) != 1 {
		t.Fatalf("want one problem, got %v", problems)
	}
	return problems[0]
}
