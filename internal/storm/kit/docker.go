package kit

import (
	"io"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// dockerSocket is where the engine is.
const dockerSocket = "/var/run/docker.sock"

// DockerWire stands before the engine's socket and lets requests wait, for a
// time or for ever.
type DockerWire struct {
	Host     string // for DOCKER_HOST
	listener net.Listener

	mu    sync.Mutex
	rules []*DockerRule
	conns map[net.Conn]bool
}

// DockerRule is what becomes of requests whose first line matches.
type DockerRule struct {
	line    *regexp.Regexp
	skip    int           // so many are let through before
	delay   time.Duration // 0: they are swallowed, and never answered
	release chan struct{} // if there is one: they wait until it is closed
	reached chan struct{} // closed when the first one comes
	once    sync.Once
}

// NewDockerWire starts one before the engine, which ends with the test.
func NewDockerWire(t testing.TB) *DockerWire {
	t.Helper()
	path := filepath.Join(testenv.ShortDir(t, 0o700), "d.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	w := &DockerWire{Host: "unix://" + path, listener: l, conns: map[net.Conn]bool{}}
	testenv.ServeConns(t, l, w.serve, w.cut)
	return w
}

// Hang swallows every request whose first line matches, after as many as skip.
func (w *DockerWire) Hang(line string, skip int) *DockerRule {
	return w.rule(&DockerRule{line: regexp.MustCompile(line), skip: skip})
}

// Hold lets every request whose first line matches wait until Clear.
func (w *DockerWire) Hold(line string) *DockerRule {
	return w.rule(&DockerRule{line: regexp.MustCompile(line), release: make(chan struct{})})
}

// Slow lets each request wait.
func (w *DockerWire) Slow(delay time.Duration) *DockerRule {
	return w.rule(&DockerRule{line: regexp.MustCompile(`.`), delay: delay})
}

func (w *DockerWire) rule(r *DockerRule) *DockerRule {
	r.reached = make(chan struct{})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rules = append(w.rules, r)
	return r
}

// Clear ends all rules: who is held goes on.
func (w *DockerWire) Clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.rules {
		if r.release != nil {
			close(r.release)
		}
	}
	w.rules = nil
}

// cut ends all rules and closes all connections.
func (w *DockerWire) cut() {
	w.Clear()
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		_ = c.Close()
	}
	clear(w.conns)
}

// Reached is closed when the first request comes that the rule is for.
func (r *DockerRule) Reached() <-chan struct{} { return r.reached }

// match is the rule for a request, nil if it is let through.
func (w *DockerWire) match(line string) *DockerRule {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.rules {
		if !r.line.MatchString(line) {
			continue
		}
		if r.skip > 0 {
			r.skip--
			continue
		}
		r.once.Do(func() { close(r.reached) })
		return r
	}
	return nil
}

var requestLine = regexp.MustCompile(`^(GET|HEAD|POST|PUT|DELETE) /\S+ HTTP/1\.1\r\n`)

func (w *DockerWire) serve(client net.Conn) {
	engine, err := net.Dial("unix", dockerSocket)
	if err != nil {
		_ = client.Close()
		return
	}
	w.mu.Lock()
	w.conns[client], w.conns[engine] = true, true
	w.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { w.forward(engine, client) })
	both.Go(func() { relay(client, engine) })
	both.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range []net.Conn{client, engine} {
		_ = c.Close()
		delete(w.conns, c)
	}
}

// forward carries what the client says. A request comes in one piece, as the
// client waits for its answer before it says more.
func (w *DockerWire) forward(engine, client net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if line := requestLine.Find(buf[:n]); line != nil {
			switch r := w.match(strings.TrimSpace(string(line))); {
			case r == nil:
			case r.release != nil:
				<-r.release
			case r.delay > 0:
				time.Sleep(r.delay)
			default:
				swallow(client)
				_ = engine.Close()
				return
			}
		}
		if n > 0 {
			if _, werr := engine.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			_ = engine.(*net.UnixConn).CloseWrite()
			return
		}
	}
}

// swallow reads until the client goes.
func swallow(client net.Conn) {
	_, _ = io.Copy(io.Discard, client)
	_ = client.Close()
}

// relay carries what the engine answers.
func relay(client, engine net.Conn) {
	_, _ = io.Copy(client, engine)
	_ = client.(*net.UnixConn).CloseWrite()
}
