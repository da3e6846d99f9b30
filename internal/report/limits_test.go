package report

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	limit = time.Second
	slack = 3 * time.Second // for a busy machine; far from any hang
)

// everywhere reports to one server by all three ways and to a textfile.
func everywhere(t *testing.T, url string, client *http.Client) (*Reporter, string) {
	t.Helper()
	dir := t.TempDir()
	return newReporter(Options{
		APIBaseURL: url, Webhook: url + "/hook", Pushgateway: url, TextfileDir: dir, Timeout: limit, HTTP: client,
	}), dir
}

// Send returns within its limit whatever all destinations do, and the textfile
// is written all the same.
func TestSendIsBounded(t *testing.T) {
	trickle := func(code int) http.HandlerFunc { // an answer that never ends
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(code)
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, "x"); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				time.Sleep(10 * time.Millisecond)
			}
		}
	}
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		kind   Kind // "" is success
		says   string
	}{
		{"hang", hang, Unreachable, "no answer within 1s"},
		{"500 with an endless answer", trickle(500), Unreachable, "HTTP 500"},
		{"400 with an endless answer", trickle(400), Rejected, "HTTP 400"},
		{"200 with an endless answer", trickle(200), "", ""},
		{"500, then hang", func() http.HandlerFunc {
			var n atomic.Int32
			return func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1) <= 3 {
					w.WriteHeader(500)
					return
				}
				hang(w, r)
			}
		}(), Unreachable, "(2 tries)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSink(t, c.answer)
			r, dir := everywhere(t, s.URL, nil)
			begin := time.Now()
			problems := r.Send(t.Context(), aRun(true))
			if took := time.Since(begin); took > limit+slack {
				t.Errorf("took %s", took)
			}
			want := 3
			if c.kind == "" {
				want = 0
			}
			if len(problems) != want {
				t.Fatalf("%v", problems)
			}
			for _, p := range problems {
				if p.Kind != c.kind || !strings.Contains(p.Error(), c.says) {
					t.Errorf("%v (%s)", p, p.Kind)
				}
			}
			if got := samples(t, dir+"/escrowctl_backup.prom")["escrowctl_backup_size_bytes"]; got != 1234 {
				t.Errorf("textfile: size %v", got)
			}
		})
	}
}

// stuck is a transport that does not heed the context, as a write to a hung
// filesystem does not either.
type stuck chan struct{}

func (s stuck) RoundTrip(*http.Request) (*http.Response, error) {
	<-s
	return nil, io.ErrUnexpectedEOF
}

func TestSendLeavesTheStuckBehind(t *testing.T) {
	s := make(stuck)
	defer close(s)
	r, dir := everywhere(t, "http://127.0.0.1:1", &http.Client{Transport: s})
	begin := time.Now()
	problems := r.Send(t.Context(), aRun(true))
	if took := time.Since(begin); took > limit+grace+slack {
		t.Errorf("took %s", took)
	}
	if len(problems) != 3 {
		t.Fatalf("%v", problems)
	}
	for _, p := range problems {
		if p.Kind != Unreachable || !strings.Contains(p.Error(), "left behind") {
			t.Errorf("%v (%s)", p, p.Kind)
		}
	}
	samples(t, dir+"/escrowctl_backup.prom")
}

// However much a destination answers, little of it is read.
func TestHugeAnswer(t *testing.T) {
	for _, code := range []int{200, 400, 500} {
		var sent atomic.Int64
		s := newSink(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			chunk := make([]byte, 64<<10)
			for {
				n, err := w.Write(chunk)
				sent.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
		r, _ := everywhere(t, s.URL, nil)
		r.opt.Timeout = 10 * time.Second
		begin := time.Now()
		problems := r.Send(t.Context(), aRun(true))
		if (len(problems) == 0) != (code == 200) {
			t.Errorf("%d: %v", code, problems)
		}
		// What filled the sockets' buffers, for up to nine requests.
		if n := sent.Load(); n > 9*16<<20 {
			t.Errorf("%d: read on for %d bytes", code, n)
		}
		if took := time.Since(begin); took > 8*time.Second {
			t.Errorf("%d: took %s", code, took)
		}
		for _, p := range problems {
			if len(p.Error()) > 800 {
				t.Errorf("%d: a message of %d bytes", code, len(p.Error()))
			}
		}
	}
}

func TestHugeHeaders(t *testing.T) {
	s := newSink(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 1<<20))
	})
	p := only(t, newReporter(Options{Webhook: s.URL}).Send(t.Context(), aRun(true)))
	if p.Kind != Unreachable || len(p.Error()) > 800 {
		t.Errorf("%s, %d bytes", p.Kind, len(p.Error()))
	}
}

func TestDefaultTimeout(t *testing.T) {
	if got := New(Options{}).opt.Timeout; got != 5*time.Second {
		t.Errorf("%s", got)
	}
}
