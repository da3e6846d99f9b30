package year

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// proxy stands between escrowctl and a server, and fails in its place.
type proxy struct {
	network, addr string // where escrowctl comes to
	toNetwork, to string // where the server is

	mu    sync.Mutex
	l     net.Listener
	busy  bool
	conns map[net.Conn]bool
}

func newProxy(t *testing.T, network, addr, toNetwork, to string) *proxy {
	t.Helper()
	p := &proxy{network: network, addr: addr, toNetwork: toNetwork, to: to, conns: map[net.Conn]bool{}}
	if err := p.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.refuse)
	return p
}

// open takes connections again.
func (p *proxy) open() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = false
	if p.l != nil {
		return nil
	}
	if p.network == "unix" {
		_ = os.Remove(p.addr) // what a closed listener may have left
	}
	var err error
	// The kernel may need a moment to give the address back.
	for range 100 {
		if p.l, err = net.Listen(p.network, p.addr); err == nil {
			go p.serve(p.l)
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// refuse refuses connections, and resets those that there are.
func (p *proxy) refuse() {
	p.mu.Lock()
	if p.l != nil {
		_ = p.l.Close()
		p.l = nil
	}
	p.mu.Unlock()
	p.reset()
}

// reset breaks every connection off; new ones are taken.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
}

// slowDown answers every request with 503, as a busy bucket does.
func (p *proxy) slowDown() {
	p.mu.Lock()
	p.busy = true
	p.mu.Unlock()
	p.reset()
}

// open connections; 0 once every program is gone.
func (p *proxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

func (p *proxy) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		busy := p.busy
		p.conns[c] = true
		p.mu.Unlock()
		go func() {
			if busy {
				refuseBusy(c)
			} else {
				p.pass(c)
			}
			p.mu.Lock()
			delete(p.conns, c)
			p.mu.Unlock()
			_ = c.Close()
		}()
	}
}

func (p *proxy) pass(c net.Conn) {
	up, err := net.DialTimeout(p.toNetwork, p.to, 10*time.Second)
	if err != nil {
		return
	}
	defer up.Close()
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(c, up)
		_ = c.Close()
		close(ended)
	}()
	_, _ = io.Copy(up, c)
	if half, ok := up.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the server may have more to say
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
	}
}

func refuseBusy(c net.Conn) {
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	go func() { _, _ = io.Copy(io.Discard, req.Body) }()
	const body = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`
	resp := &http.Response{StatusCode: http.StatusServiceUnavailable, ProtoMajor: 1, ProtoMinor: 1, Close: true, Header: http.Header{"Content-Type": {"application/xml"}}, Request: req}
	resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	_ = resp.Write(c)
}
