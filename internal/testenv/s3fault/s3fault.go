// Package s3fault stands between an S3 client and its server and makes faults
// of single requests: refusals, resets, stalls, damage.
//
// Only tests may import this package.
package s3fault

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// Proxy stands between a store and its server and makes faults.
type Proxy struct {
	*httptest.Server
	forward *httputil.ReverseProxy
	ended   chan struct{} // closed with the test

	mu    sync.Mutex
	rules []*Rule
	seen  []string // kinds of requests, in order
	heads []http.Header
}

// Rule deals with the requests of one kind.
type Rule struct {
	kind   string // "" for all
	skip   int    // how many are let through first
	times  int    // how many are dealt with; < 0 for all
	fault  Fault
	fired  int
	passed int
}

// Fault answers a request in the server's place, or with its help: see Pass.
type Fault = func(*Proxy, http.ResponseWriter, *http.Request)

// New starts a proxy before server, which ends with the test.
func New(t testing.TB, server *testenv.S3Server) *Proxy {
	t.Helper()
	target, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{ended: make(chan struct{})}
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

// Seen returns the kinds of the requests that came, in order, and their headers.
func (p *Proxy) Seen() ([]string, []http.Header) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen), slices.Clone(p.heads)
}

// Clear ends all faults and forgets what was seen.
func (p *Proxy) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules, p.seen, p.heads = nil, nil, nil
}

// Pass hands a request to the server and its answer back.
func (p *Proxy) Pass(w http.ResponseWriter, r *http.Request) { p.forward.ServeHTTP(w, r) }

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

// On makes a fault of the first times requests of a kind ("" for any) after skip
// others; of all with times < 0. The first rule that applies is taken.
func (p *Proxy) On(kind string, skip, times int, fault Fault) *Rule {
	r := &Rule{kind: kind, skip: skip, times: times, fault: fault}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, r)
	return r
}

// Fired says how often a rule made its fault.
func (p *Proxy) Fired(r *Rule) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return r.fired
}

// Count says how many requests of a kind came.
func (p *Proxy) Count(kind string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.seen {
		if k == kind {
			n++
		}
	}
	return n
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if fault := p.match(kind(r), r.Header); fault != nil {
		fault(p, w, r)
		return
	}
	p.Pass(w, r)
}

func (p *Proxy) match(kind string, head http.Header) Fault {
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
