package testenv

import (
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
)

// Serve serves a handler, such as a stand-in of package platform, until the end
// of the test, and returns its URL.
func Serve(t testing.TB, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.CloseClientConnections() // a handler that hangs ends with them
		server.Close()
	})
	return server.URL
}

// Silent returns the address of a server that takes every connection and never
// says a word.
func Silent(t testing.TB) string {
	t.Helper()
	return silence(t, "tcp", "127.0.0.1:0")
}

// SilentSocket is Silent on a Unix socket; it returns its path.
func SilentSocket(t testing.TB) string {
	t.Helper()
	return silence(t, "unix", filepath.Join(t.TempDir(), "socket"))
}

func silence(t testing.TB, network, address string) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatalf("testenv: %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close() // at the end of the test, not of the turn
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

// ServeConns passes each connection of l to serve, in a goroutine of its own,
// until the test ends: then it closes l, calls end, which has to end what is
// still being served, and waits for it. end may be nil.
func ServeConns(t testing.TB, l net.Listener, serve func(net.Conn), end func()) {
	t.Helper()
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() { serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		if end != nil {
			end()
		}
		served.Wait()
	})
}
