package s3store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// proxy stands between a store and its server and makes faults.
type proxy struct {
	*httptest.Server
	forward *httputil.ReverseProxy
	ended   chan struct{} // closed with the test

	mu    sync.Mutex
	rules []*rule
	seen  []string // kinds of requests, in order
	heads []http.Header
}

// rule deals with the requests of one kind.
type rule struct {
	kind   string // "" for all
	skip   int    // how many are let through first
	times  int    // how many are dealt with; < 0 for all
	fault  func(*proxy, http.ResponseWriter, *http.Request)
	fired  int
	passed int
}

func newProxy(t *testing.T, server *testenv.S3Server) *proxy {
	t.Helper()
	target, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ended: make(chan struct{})}
	p.forward = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
		},
		Transport: &http.Transport{DisableCompression: true},
		ErrorLog:  log.New(io.Discard, "", 0), FlushInterval: -1,
	}
	p.Server = httptest.NewUnstartedServer(p)
	p.Server.Config.ConnState = func(c net.Conn, s http.ConnState) {
		if s == http.StateNew {
			_ = c.(*net.TCPConn).SetReadBuffer(1 << 20) // what is not read does not pass for taken
		}
	}
	p.Server.Start()
	t.Cleanup(func() {
		close(p.ended)
		p.Server.CloseClientConnections()
		p.Server.Close()
		p.forward.Transport.(*http.Transport).CloseIdleConnections()
	})
	return p
}

// kind names a request as S3 does.
func kind(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "Create"
	case r.Method == http.MethodPost:
		return "Complete"
	case r.Method == http.MethodPut && q.Has("partNumber"):
		return "Part"
	case r.Method == http.MethodPut:
		return "Put"
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		return "Abort"
	case r.Method == http.MethodDelete:
		return "Delete"
	case r.Method == http.MethodHead:
		return "Head"
	case q.Has("uploads"):
		return "Uploads"
	case q.Has("list-type"):
		return "List"
	default:
		return "Get"
	}
}

// on makes a fault of the first times requests of a kind after skip others.
func (p *proxy) on(kind string, skip, times int, fault func(*proxy, http.ResponseWriter, *http.Request)) *rule {
	r := &rule{kind: kind, skip: skip, times: times, fault: fault}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, r)
	return r
}

func (p *proxy) fired(r *rule) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return r.fired
}

func (p *proxy) count(kind string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.seen {
		if k == kind {
			n++
		}
	}
	return n
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if fault := p.match(kind(r), r.Header); fault != nil {
		fault(p, w, r)
		return
	}
	p.forward.ServeHTTP(w, r)
}

func (p *proxy) match(kind string, head http.Header) func(*proxy, http.ResponseWriter, *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, kind)
	p.heads = append(p.heads, head.Clone())
	for _, r := range p.rules {
		if r.kind != "" && r.kind != kind {
			continue
		}
		if r.passed++; r.passed <= r.skip || r.times >= 0 && r.fired >= r.times {
			continue
		}
		r.fired++
		return r.fault
	}
	return nil
}

// reset takes n bytes of the request and then resets the connection.
func reset(n int64) func(*proxy, http.ResponseWriter, *http.Request) {
	return func(_ *proxy, w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, n)
		cut(w)
	}
}

func cut(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

// status answers as S3 does when it refuses.
func status(code int, name, message string, header ...string) func(*proxy, http.ResponseWriter, *http.Request) {
	return func(_ *proxy, w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(code)
		if r.Method != http.MethodHead {
			fmt.Fprintf(w, "<?xml version=\"1.0\"?>\n<Error><Code>%s</Code><Message>%s</Message></Error>", name, message)
		}
	}
}

// hang takes nothing and answers nothing until the test ends.
func hang(p *proxy, _ http.ResponseWriter, r *http.Request) {
	select {
	case <-p.ended:
	case <-r.Context().Done():
	}
}

// hangBody takes a request without ever answering it.
func hangBody(p *proxy, w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	hang(p, w, r)
}

// crawl passes a request on at so many bytes a second.
func crawl(rate int) func(*proxy, http.ResponseWriter, *http.Request) {
	return func(p *proxy, w http.ResponseWriter, r *http.Request) {
		r.Body = struct {
			io.Reader
			io.Closer
		}{&slowReader{r.Body, rate}, r.Body}
		p.forward.ServeHTTP(w, r)
	}
}

type slowReader struct {
	r    io.Reader
	rate int
}

func (s *slowReader) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	time.Sleep(time.Duration(n) * time.Second / time.Duration(s.rate))
	return n, err
}

// loseAnswer lets a request have its effect and resets the connection.
func loseAnswer(p *proxy, w http.ResponseWriter, r *http.Request) {
	p.forward.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.WithoutCancel(r.Context())))
	cut(w)
}

// damage changes a byte of the request on its way.
func damage(p *proxy, w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	body[len(body)/2] ^= 1
	r.Body = io.NopCloser(bytes.NewReader(body))
	p.forward.ServeHTTP(w, r)
}

// edit passes a request on and changes the answer's headers.
func edit(change func(http.Header)) func(*proxy, http.ResponseWriter, *http.Request) {
	return func(p *proxy, w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		p.forward.ServeHTTP(answer, r)
		change(answer.Header())
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = io.Copy(w, answer.Body)
	}
}

// breakAfter sends n bytes of an answer's body and resets the connection.
func breakAfter(n int) func(*proxy, http.ResponseWriter, *http.Request) {
	return func(p *proxy, w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		p.forward.ServeHTTP(answer, r)
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes()[:min(n, answer.Body.Len())])
		_ = http.NewResponseController(w).Flush()
		time.Sleep(20 * time.Millisecond) // a reset overtakes what was sent
		cut(w)
	}
}

// freeze sends n bytes of an answer's body and then nothing.
func freeze(n int) func(*proxy, http.ResponseWriter, *http.Request) {
	return func(p *proxy, w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		p.forward.ServeHTTP(answer, r)
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes()[:min(n, answer.Body.Len())])
		_ = http.NewResponseController(w).Flush()
		hang(p, w, r)
	}
}
