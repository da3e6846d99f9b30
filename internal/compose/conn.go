package compose

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// closeGrace is how long Close waits for the pump to end by itself, as it does
// once the server has hung up, before it is killed.
const closeGrace = 500 * time.Millisecond

// tunnel is a net.Conn over the streams of a pump inside a container. Bytes go
// from the engine's connection straight into the reader's buffer, and deadlines
// are those of that connection.
type tunnel struct {
	s     *session
	pid   int    // of the pump, inside the container
	tool  string // perl, busybox or bash
	local tunnelAddr
	asked tunnelAddr

	closing   sync.Once
	deadlines sync.Mutex // Close's deadline is the last one set
	closed    atomic.Bool

	mu     sync.Mutex // held by whoever reads
	ended  bool       // the stream's end was seen: the pump is gone
	early  []byte     // what the server said before the pump's status line was read
	stderr tail
}

var _ net.Conn = (*tunnel)(nil)

// tunnelAddr is the address as it was asked for, so that it can be dialled
// again (pgx does so to cancel a query).
type tunnelAddr struct{ network, address string }

func (a tunnelAddr) Network() string { return a.network }
func (a tunnelAddr) String() string  { return a.address }

func newTunnel(s *session, ready opening, network, addr string) (*tunnel, error) {
	where, err := parseReady(ready.fields, addr)
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(ready.fields[0])
	if err != nil {
		return nil, fmt.Errorf("compose: tunnel: unexpected status line %q", ready.fields)
	}
	return &tunnel{
		s: s, pid: pid, tool: where.Tool, early: ready.stdout,
		local: tunnelAddr{network, "exec:" + s.container.Name},
		asked: tunnelAddr{network, addr},
	}, nil
}

// Read reads what the server sent. After the end, what the pump said on its
// standard error is the error.
func (t *tunnel) Read(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Load() {
		return 0, net.ErrClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	if len(t.early) > 0 {
		n := copy(p, t.early)
		t.early = t.early[n:]
		return n, nil
	}
	n, err := t.read(p)
	if err != nil && t.closed.Load() {
		return 0, net.ErrClosed
	}
	return n, err
}

// read is Read without the state of the connection: t.mu is held.
func (t *tunnel) read(p []byte) (int, error) {
	for {
		from, n, err := t.s.out.next(p)
		switch {
		case errors.Is(err, io.EOF):
			t.ended = true
			if said := strings.TrimSpace(t.stderr.String()); said != "" {
				return 0, fmt.Errorf("compose: tunnel to %s in %s: %s: %w", t.asked.address, t.s.container.Name, said, io.ErrUnexpectedEOF)
			}
			return 0, io.EOF
		case err != nil:
			return 0, err
		case from == streamStdout:
			return n, nil
		}
		_, _ = t.stderr.Write(p[:n])
	}
}

func (t *tunnel) Write(p []byte) (int, error) {
	if t.closed.Load() {
		return 0, net.ErrClosed
	}
	return t.s.raw.Write(p)
}

// CloseWrite tells the server that nothing more will be sent; what it still
// answers can be read. Not with bash as the pump (errors.ErrUnsupported).
func (t *tunnel) CloseWrite() error {
	if t.tool == "bash" {
		return fmt.Errorf("compose: tunnel by bash: half-close: %w", errors.ErrUnsupported)
	}
	return t.s.closeWrite()
}

// Close hangs up and sees to it that nothing stays behind in the container. It
// returns within about a second, or within 5 s if the engine does not answer.
func (t *tunnel) Close() error {
	t.closing.Do(func() {
		t.shut()
		_ = t.s.closeWrite()
		t.mu.Lock()
		defer t.mu.Unlock()
		if !t.drain() {
			_ = t.s.kill(t.pid)
		}
		_ = t.s.raw.Close()
	})
	return nil
}

// shut frees whoever is blocked in Read or Write, and keeps others away.
func (t *tunnel) shut() {
	t.deadlines.Lock()
	defer t.deadlines.Unlock()
	t.closed.Store(true)
	_ = t.s.raw.SetDeadline(time.Now())
}

// drain waits for the pump's end.
func (t *tunnel) drain() (ended bool) {
	if t.ended {
		return true
	}
	_ = t.s.raw.SetReadDeadline(time.Now().Add(closeGrace))
	buf := make([]byte, copyBuffer)
	for {
		if _, err := t.read(buf); err != nil {
			return !errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}

func (t *tunnel) LocalAddr() net.Addr  { return t.local }
func (t *tunnel) RemoteAddr() net.Addr { return t.asked }

func (t *tunnel) SetDeadline(at time.Time) error {
	return t.setDeadline(t.s.raw.SetDeadline, at)
}

func (t *tunnel) SetReadDeadline(at time.Time) error {
	return t.setDeadline(t.s.raw.SetReadDeadline, at)
}

func (t *tunnel) SetWriteDeadline(at time.Time) error {
	return t.setDeadline(t.s.raw.SetWriteDeadline, at)
}

func (t *tunnel) setDeadline(set func(time.Time) error, at time.Time) error {
	t.deadlines.Lock()
	defer t.deadlines.Unlock()
	if t.closed.Load() {
		return net.ErrClosed
	}
	return set(at)
}
