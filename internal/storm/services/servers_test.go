package services

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// untouched is an after: no redirect was followed, and of a huge answer no more
// read than what a report's may be.
func untouched(s *kit.IllHTTP) func(*testing.T, *bed, kit.Result) {
	return func(t *testing.T, _ *bed, _ kit.Result) {
		t.Helper()
		if s.Pointed.Load() > 0 {
			t.Errorf("the redirect was followed, %d times with credentials", s.Carried.Load())
		}
		if sent := s.Sent.Load(); sent > 16<<20 {
			t.Errorf("%d bytes of the answer were read", sent)
		}
	}
}

// tlsServer serves a certificate for escrow.test; ca is the file of its root.
func tlsServer(t *testing.T, from, to time.Time) (addr, ca string) {
	t.Helper()
	certPEM, keyPEM := testenv.SelfSigned(t, "escrow.test", from, to)
	pair, err := tls.X509KeyPair([]byte(certPEM), []byte(keyPEM))
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte(certPEM), 0o644); err != nil {
		t.Fatal(err)
	}
	return testenv.ServeTLS(t, pair), ca
}

// babbler is a TCP server that says something to whoever connects, and goes on
// reading. With "" it is silent. connected gets a value for each connection.
func babbler(t *testing.T, says string) (addr string, connected <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	came := make(chan struct{}, 1000)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			came <- struct{}{}
			go func() {
				defer conn.Close()
				if says != "" {
					_, _ = io.WriteString(conn, says)
				}
				_, _ = io.Copy(io.Discard, conn)
			}()
		}
	}()
	return l.Addr().String(), came
}

// forget is a make that forgets who has connected so far.
func forget(connected <-chan struct{}) func(*testing.T, *bed) func() {
	return func(*testing.T, *bed) func() {
		for len(connected) > 0 {
			<-connected
		}
		return func() {}
	}
}

// atClock is a call on a host whose clock is wrong by so much.
func atClock(t *testing.T, by time.Duration, call kit.Call) kit.Call {
	t.Helper()
	file := filepath.Join(t.TempDir(), "clock")
	if err := os.WriteFile(file, []byte(by.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	call.Program = storm.Build(t, "internal/storm/clocked")
	call.Env = append(append([]string{}, call.Env...), "STORM_CLOCK="+file)
	return call
}
