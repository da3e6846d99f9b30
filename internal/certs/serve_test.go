package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// server is a TLS server on 127.0.0.1 whose certificate can be changed.
type server struct {
	addr string
	mu   sync.Mutex
	cert tls.Certificate
}

func serve(t testing.TB, conf *tls.Config, chain ...*pair) *server {
	t.Helper()
	s := &server{}
	s.set(chain...)
	if conf == nil {
		conf = &tls.Config{}
	}
	conf.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		c := s.cert
		return &c, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	s.addr = l.Addr().String()
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer raw.Close()
				_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
				_ = tls.Server(raw, conf).Handshake()
			}()
		}
	}()
	return s
}

// set changes the certificate: the leaf with its key, and what is sent with it.
func (s *server) set(chain ...*pair) {
	c := tls.Certificate{PrivateKey: chain[0].key}
	for _, p := range chain {
		c.Certificate = append(c.Certificate, p.cert.Raw)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cert = c
}

// memory is Documents that last as long as the test, through JSON as they would
// through the disk.
type memory struct {
	mu   sync.Mutex
	docs map[string][]byte
}

func (m *memory) Load(name string, v any) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	body, found := m.docs[name]
	if !found {
		return false, nil
	}
	return true, json.Unmarshal(body, v)
}

func (m *memory) Save(name string, v any) error {
	body, err := json.Marshal(v)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.docs == nil {
		m.docs = map[string][]byte{}
	}
	m.docs[name] = body
	return err
}

// names resolves every host to the given addresses.
func names(addrs ...string) func(context.Context, string) ([]netip.Addr, error) {
	return func(context.Context, string) ([]netip.Addr, error) {
		var out []netip.Addr
		for _, a := range addrs {
			out = append(out, netip.MustParseAddr(a))
		}
		return out, nil
	}
}

// routes dials each address ("ip:port") where the map says; others it refuses.
func routes(to map[string]string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if real, ok := to[addr]; ok {
			addr = real
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
}

// checking are the options for escrow.test at one server.
func checking(p pki, s *server) Options {
	return Options{Host: host, Port: "443", Addresses: []string{s.addr}, Roots: p.roots(), Now: at}
}

// certbotDir writes a lineage as certbot lays it out.
func certbotDir(t testing.TB, leaf *pair, rest ...*pair) string {
	t.Helper()
	dir := t.TempDir()
	addVersion(t, dir, 1, leaf, rest...)
	writeFile(t, filepath.Join(dir, "renewal", host+".conf"), []byte("version = 2.1.0\narchive_dir = /etc/letsencrypt/archive/"+host+"\n[renewalparams]\nserver = https://ca.test/dir\n"), 0o644)
	return dir
}

func certsOf(leaf *pair, rest ...*pair) []*x509.Certificate {
	out := []*x509.Certificate{leaf.cert}
	for _, r := range rest {
		out = append(out, r.cert)
	}
	return out
}

// httpTo is a client whose every connection goes to one address.
func httpTo(addr string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}}
}
