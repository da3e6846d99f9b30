package kit

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// Wire is a TCP proxy that holds or resets connections in the midst of their
// bytes, which shows the kernel's faults to whoever speaks through it.
type Wire struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	conns map[net.Conn]bool
	hold  *Hold
	shut  bool
}

// Hold stops each connection that has passed a number of bytes.
type Hold struct {
	up, down    int64 // <= 0 for no limit
	reached     chan struct{}
	open        chan struct{}
	first, last sync.Once
}

// Reached is closed when the first connection is held.
func (h *Hold) Reached() <-chan struct{} { return h.reached }

// Release lets all go on.
func (h *Hold) Release() { h.last.Do(func() { close(h.open) }) }

// NewWire starts one before target, which ends with the test.
func NewWire(t testing.TB, target string) *Wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("storm: %v", err)
	}
	w := &Wire{listener: l, target: target, conns: map[net.Conn]bool{}}
	testenv.ServeConns(t, l, w.serve, func() {
		w.Clear()
		w.Cut()
	})
	return w
}

// Addr is where to connect to.
func (w *Wire) Addr() string { return w.listener.Addr().String() }

// HoldDown holds every connection that begins from now on and has brought n
// bytes from the server: a dump in its middle.
func (w *Wire) HoldDown(n int64) *Hold { return w.setHold(&Hold{down: n}) }

// HoldUp does the same with bytes to the server: a restore in its middle.
func (w *Wire) HoldUp(n int64) *Hold { return w.setHold(&Hold{up: n}) }

func (w *Wire) setHold(h *Hold) *Hold {
	h.reached, h.open = make(chan struct{}), make(chan struct{})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hold = h
	return h
}

// Clear ends all faults: who is held goes on, who comes is let through.
func (w *Wire) Clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hold != nil {
		w.hold.Release()
	}
	w.hold, w.shut = nil, false
}

// Cut resets all connections.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	clear(w.conns)
}

// Shut resets who connects, until Clear.
func (w *Wire) Shut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shut = true
}

func (w *Wire) serve(client net.Conn) {
	w.mu.Lock()
	hold, shut := w.hold, w.shut
	w.conns[client] = true
	w.mu.Unlock()
	defer w.end(client)
	if shut {
		_ = client.(*net.TCPConn).SetLinger(0)
		return
	}
	server, err := net.Dial("tcp", w.target)
	if err != nil {
		_ = client.(*net.TCPConn).SetLinger(0)
		return
	}
	// What is held shall be held at the server too, not in buffers on the way.
	_ = server.(*net.TCPConn).SetReadBuffer(64 << 10)
	w.mu.Lock()
	w.conns[server] = true
	w.mu.Unlock()
	defer w.end(server)
	var both sync.WaitGroup
	both.Go(func() { pass(server, client, hold, true) })
	both.Go(func() { pass(client, server, hold, false) })
	both.Wait()
}

func (w *Wire) end(c net.Conn) {
	_ = c.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
}

// pass copies one direction to its end and hands the end on.
func pass(to, from net.Conn, hold *Hold, up bool) {
	var seen int64
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		seen += int64(n)
		if hold != nil && seen > hold.limit(up) {
			hold.first.Do(func() { close(hold.reached) })
			<-hold.open
		}
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				// The other side is gone: so is this one, and it is told.
				_ = from.(*net.TCPConn).SetLinger(0)
				_ = from.Close()
				return
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				_ = to.(*net.TCPConn).CloseWrite()
				return
			}
			_ = to.(*net.TCPConn).SetLinger(0)
			_ = to.Close()
			return
		}
	}
}

func (h *Hold) limit(up bool) int64 {
	n := h.down
	if up {
		n = h.up
	}
	if n <= 0 {
		return 1 << 62
	}
	return n
}
