package services

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// hugeSize is the size of a huge answer.
const hugeSize = 100 << 20

// illHTTP is a server that answers everything in one bad way. It counts what it
// was asked and what was read of its answers.
type illHTTP struct {
	url      string
	requests atomic.Int64
	sent     atomic.Int64
	// Authorization headers that came to the host it points to.
	carried atomic.Int64
	pointed atomic.Int64
}

// illnesses are the ways in which an HTTP server can be ill, but for being dead.
func illnesses() []string {
	return []string{"hanging", "500", "redirect to itself", "redirect elsewhere", "huge answer", "garbage", "cut short"}
}

func newIllHTTP(t *testing.T, illness string) *illHTTP {
	t.Helper()
	s := new(illHTTP)
	if illness == "dead" {
		s.url = "http://127.0.0.1:9"
		return s
	}
	other := testenv.Serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s.pointed.Add(1)
		if r.Header.Get("Authorization") != "" || r.Header.Get("X-Api-Key") != "" {
			s.carried.Add(1)
		}
	}))
	s.url = testenv.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		switch illness {
		case "hanging":
			<-r.Context().Done()
		case "500":
			http.Error(w, "it is broken", http.StatusInternalServerError)
		case "redirect to itself":
			http.Redirect(w, r, r.URL.RequestURI(), http.StatusTemporaryRedirect)
		case "redirect elsewhere":
			// By another name: 127.0.0.1 and localhost are different hosts.
			http.Redirect(w, r, strings.Replace(other, "127.0.0.1", "localhost", 1)+r.URL.RequestURI(), http.StatusTemporaryRedirect)
		case "huge answer":
			s.flood(w)
		case "garbage":
			_, _ = w.Write(bytes.Repeat([]byte{0, 0xff, 0x1b, '[', '2', 'J', '{', '\n'}, 64))
		case "cut short":
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"status":"ok","database":"connected","data":{"alerts":[`))
		default:
			panic(illness)
		}
	}))
	return s
}

// flood answers with a JSON text that does not end before hugeSize bytes.
func (s *illHTTP) flood(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	chunk := []byte(`{"status":"ok","x":"` + strings.Repeat("x", 64<<10))
	for s.sent.Load() < hugeSize {
		n, err := w.Write(chunk)
		s.sent.Add(int64(n))
		if err != nil {
			return
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
