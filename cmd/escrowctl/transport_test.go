package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// everywhere leads every client of escrowctl to one address: URLs of HTTP by the
// scheme given.
func everywhere(t *testing.T, s *sandbox, http, addr string) *sandbox {
	t.Helper()
	base := http + "://" + addr
	other := *s
	other.env = append([]string{}, s.env...)
	for _, pair := range []string{
		"AWS_ENDPOINT_URL_S3=" + base, "AWS_SESSION_TOKEN=a-session-token", "S3_BUCKET=s3://backups",
		"API_BASE_URL=" + base, "ESCROWCTL_API_URL=" + base, "HORIZON_URL=" + base, "ESCROWCTL_ALERTMANAGER_URL=" + base, "ESCROWCTL_PROMETHEUS_URL=" + base, "ESCROWCTL_GRAFANA_URL=" + base,
		"GRAFANA_ADMIN_PASSWORD=a-grafana-password",
		"ESCROWCTL_REPORT_API_METRICS=on", "BACKUP_ALERT_WEBHOOK=" + base + "/services/a-webhook-token", "ESCROWCTL_REPORT_PUSHGATEWAY=" + strings.Replace(base, "://", "://pusher:a-pusher-password@", 1),
		"ESCROWCTL_SHIFT_CHECK_TIMEOUT=10s", "DOCKER_HOST=unix:///nonexistent/docker.sock",
	} {
		other.set(pair)
	}
	return &other
}

// TestRedirects has every service point elsewhere. Nobody there hears anything:
// no key, no password, no report, no backup.
func TestRedirects(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var elsewhere []string
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		elsewhere = append(elsewhere, r.Method+" "+r.URL.String())
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	t.Cleanup(thief.Close)
	s := newSandbox(t)
	s.pg.Psql(t, "app", "CREATE TABLE trades (id int); INSERT INTO trades VALUES (1)")
	for _, code := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		asked := map[string]bool{}
		pointer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			asked[r.Method+" "+r.URL.Path] = true
			mu.Unlock()
			_, _ = io.Copy(io.Discard, r.Body)
			http.Redirect(w, r, thief.URL+r.URL.Path, code)
		}))
		t.Cleanup(pointer.Close)
		s := everywhere(t, s, "http", pointer.Listener.Addr().String())
		s.expect(t, 2, "shift-check --skip containers,certs,redis,disk,schedule", "a redirect to "+thief.URL+", which is not followed")
		time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // two of one second are refused
		s.expect(t, 2, "backup", "webhook: ", "and points to "+thief.URL+", which is not followed", "it points to "+thief.URL+", which is not followed: set s3.endpoint")
		s.run(t, "perf", "analyze", "--sources", "api")
		s.run(t, "doctor")
		for _, want := range []string{
			"GET /backups", "POST /backups/escrowctl-write-test", "POST /services/a-webhook-token", "POST /api/metrics", "GET /health", "GET /health/metrics", "GET /",
			"GET /api/v2/alerts", "GET /api/v1/rules", "GET /api/health",
		} {
			if !asked[want] {
				t.Errorf("%d: nobody asked for %s: %v", code, want, asked)
			}
		}
	}
	for _, request := range elsewhere {
		t.Errorf("a redirect was followed: %s", request)
	}
}

// authority issues certificates for 127.0.0.1, good ones and others.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its own, in PEM form
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := new(authority)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	made := a.sign(t, template)
	a.cert, a.key = made.Leaf, made.PrivateKey.(*ecdsa.PrivateKey)
	a.file = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	return a
}

// sign signs a certificate, its own key with it where there is no authority yet.
func (a *authority) sign(t *testing.T, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := template, key
	if a.key != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// leaf is the template of a server's certificate.
func leaf(names []net.IP, until time.Time) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, IPAddresses: names, DNSNames: []string{"other.example"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}

// tlsTrap is a server of one certificate that every client is led to. It takes
// PostgreSQL's request for TLS too, and tells who was content with the
// certificate.
type tlsTrap struct {
	addr string

	mu      sync.Mutex
	content []string // what was heard after the handshake
	refused int
}

func newTLSTrap(t *testing.T, cert tls.Certificate) *tlsTrap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	trap := &tlsTrap{addr: l.Addr().String()}
	testenv.ServeConns(t, l, func(conn net.Conn) { trap.serve(conn, cert) }, nil)
	return trap
}

// rawConn is a connection whose first bytes were looked at.
type rawConn struct {
	net.Conn
	in *bufio.Reader
}

func (c rawConn) Read(p []byte) (int, error) { return c.in.Read(p) }

func (s *tlsTrap) serve(conn net.Conn, cert tls.Certificate) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	raw := rawConn{conn, bufio.NewReader(conn)}
	if first, err := raw.in.Peek(8); err == nil && bytes.Equal(first, []byte{0, 0, 0, 8, 4, 210, 22, 47}) { // SSLRequest
		_, _ = raw.in.Discard(8)
		_, _ = conn.Write([]byte("S"))
	}
	secure := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"postgresql", "http/1.1"}})
	err := secure.Handshake()
	var heard string
	if err == nil {
		buf := make([]byte, 256)
		n, _ := secure.Read(buf)
		heard, _, _ = strings.Cut(string(buf[:n]), "\r\n")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.refused++
	} else {
		s.content = append(s.content, heard)
	}
}

// TestCertificates has every client meet servers whose certificate is signed by
// nobody, has expired, or is for another name. None sends anything, and each
// says why. With a good one they do: else the test would prove nothing.
func TestCertificates(t *testing.T) {
	t.Parallel()
	ca, nobody := newAuthority(t), new(authority)
	here, soon, past := []net.IP{net.IPv4(127, 0, 0, 1)}, time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	certs := t.TempDir() // as DOCKER_CERT_PATH
	client := ca.sign(t, leaf(here, soon))
	keyDER, err := x509.MarshalPKCS8PrivateKey(client.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"ca.pem": {Type: "CERTIFICATE", Bytes: ca.cert.Raw}, "cert.pem": {Type: "CERTIFICATE", Bytes: client.Certificate[0]}, "key.pem": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(filepath.Join(certs, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newSandbox(t)
	s.pg.Psql(t, "app", "CREATE TABLE trades (id int); INSERT INTO trades VALUES (1)")
	for _, tt := range []struct {
		name string
		cert tls.Certificate
		says string // "": it is good
	}{
		{"good", ca.sign(t, leaf(here, soon)), ""},
		{"self-signed", nobody.sign(t, leaf(here, soon)), "certificate signed by unknown authority"},
		{"expired", ca.sign(t, leaf(here, past)), "certificate has expired"},
		{"another name", ca.sign(t, leaf([]net.IP{net.IPv4(127, 0, 0, 2)}, soon)), "certificate is valid for 127.0.0.2, not 127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			trap := newTLSTrap(t, tt.cert)
			s := everywhere(t, s, "https", trap.addr)
			s.set("SSL_CERT_FILE=" + ca.file)
			s.set("SSL_CERT_DIR=" + t.TempDir())
			s.run(t, "backup") // its database is real
			for _, pair := range []string{
				"DATABASE_URL=postgres://u:a-database-password@" + trap.addr + "/app?sslmode=verify-full&sslrootcert=" + ca.file, "REDIS_URL=rediss://:a-redis-password@" + trap.addr,
				"DOCKER_HOST=tcp://" + trap.addr, "DOCKER_CERT_PATH=" + certs, "COMPOSE_PROJECT_NAME=p", "ESCROWCTL_REDIS_VIA=host",
			} {
				s.set(pair)
			}
			checks := s.checks(t, "shift-check", "--only", "alerts,indexer,api,database,redis,backup,grafana,containers,clock")
			checks = append(checks, s.checks(t, "doctor", "--only", "horizon,alertmanager,prometheus,webhook,pushgateway,bucket,docker,database")...)
			t.Logf("%d were refused, %d content: %q", trap.refused, len(trap.content), trap.content)
			if tt.says == "" {
				if trap.refused > 0 || len(trap.content) < 12 {
					t.Errorf("a good certificate was refused %d times", trap.refused)
				}
				return
			}
			for _, heard := range trap.content {
				t.Errorf("a bad certificate was believed, and this was sent: %q", heard)
			}
			for _, c := range checks {
				if text := c.text(); !strings.Contains(text, tt.says) {
					t.Errorf("%s does not say %q: %s", c.ID, tt.says, text)
				}
			}
		})
	}
}

// told is a check as JSON has it.
type told struct {
	ID, Summary string
	Detail      []string
	Parts       []told
}

func (c told) text() string {
	text := c.Summary + " " + strings.Join(c.Detail, " ")
	for _, p := range c.Parts {
		text += " " + p.text()
	}
	return text
}

// checks runs a command of checks.
func (s *sandbox) checks(t *testing.T, args ...string) []told {
	t.Helper()
	_, out, errs := s.run(t, append(args, "--json")...)
	var doc struct{ Checks []told }
	if err := json.Unmarshal([]byte(out), &doc); err != nil || len(doc.Checks) == 0 {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	return doc.Checks
}
