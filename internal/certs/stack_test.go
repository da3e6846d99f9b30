package certs_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/certs"
	"github.com/stellarescrow/escrowctl/internal/compose"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

const (
	domain  = "escrow.test"
	caDir   = "https://pebble:14000/dir"
	webroot = "/var/www/certbot"
)

// stack is the platform's nginx and certbot, with pebble in the place of Let's
// Encrypt: containers of one compose project, on a network of their own.
type stack struct {
	docker                 *testenv.DockerHost
	project                *compose.Project
	network                string
	letsencrypt, challenge string // volumes
	pebble, nginx, certbot string // containers
	addr                   string // nginx's 443 on 127.0.0.1
	roots                  *x509.CertPool
	rootFile               string
	home                   string       // of the command line: its state and its files
	http                   *http.Client // reaches pebble under its own name
	docs                   *documents
	said                   *strings.Builder
}

// loop is the entrypoint of the platform's certbot service.
const loop = `trap exit TERM; while :; do certbot renew --webroot -w /var/www/certbot --quiet; sleep 12h & wait $!; done`

func newStack(t *testing.T) *stack {
	t.Helper()
	images := map[string]string{}
	for _, name := range []string{"nginx", "certbot", "pebble"} {
		images[name] = testenv.Image(t, name)
	}
	s := &stack{docker: testenv.Docker(t), docs: &documents{}, said: &strings.Builder{}, home: t.TempDir()}
	if err := os.WriteFile(filepath.Join(s.home, "escrowctl.yaml"), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.network, s.letsencrypt, s.challenge = s.docker.Network(t), s.docker.Volume(t), s.docker.Volume(t)
	name := "escrowctltest" + s.docker.Run
	caCert, caKey, leafPool := tlsPair(t, "pebble")
	conf, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": "0.0.0.0:14000", "managementListenAddress": "0.0.0.0:15000", "certificate": "/etc/pebble/cert.pem", "privateKey": "/etc/pebble/key.pem",
		"httpPort": 80, "tlsPort": 443, "retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles": map[string]any{"default": map[string]any{"description": "90 days", "validityPeriod": 90 * 24 * 3600}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	volumes := map[string]string{s.letsencrypt: "/etc/letsencrypt", s.challenge: webroot}
	s.pebble = s.docker.Start(t, testenv.Container{
		Image: images["pebble"], Project: name, Service: "pebble", Network: s.network, Publish: []int{14000, 15000}, Env: []string{"PEBBLE_AUTHZREUSE=0"},
		Files: map[string]string{"/etc/pebble/config.json": string(conf), "/etc/pebble/cert.pem": caCert, "/etc/pebble/key.pem": caKey},
	})
	placeholder, placeholderKey, _ := tlsPair(t, domain)
	s.nginx = s.docker.Start(t, testenv.Container{
		Image: images["nginx"], Project: name, Service: "nginx", Network: s.network, Aliases: []string{domain}, Volumes: volumes, Publish: []int{443},
		Files: map[string]string{"/etc/nginx/nginx.conf": nginxConf("/etc/nginx/placeholder"), "/etc/nginx/placeholder/fullchain.pem": placeholder, "/etc/nginx/placeholder/privkey.pem": placeholderKey},
	})
	s.certbot = s.docker.Start(t, testenv.Container{
		Image: images["certbot"], Project: name, Service: "certbot", Network: s.network, Volumes: volumes, Cmd: []string{"sh", "-c", loop},
		Env: []string{"REQUESTS_CA_BUNDLE=/etc/letsencrypt/pebble-ca.pem"}, Files: map[string]string{"/etc/letsencrypt/pebble-ca.pem": caCert},
	})
	s.addr = s.docker.Port(t, s.nginx, 443)
	if s.project, err = compose.Open(t.Context(), compose.Options{Project: name}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.project.Close() })
	s.http = s.client(t, leafPool)
	s.learnRoots(t)
	// The loop's first round holds certbot's lock.
	s.eventually(t, "certbot's loop sleeps", func() bool {
		return strings.Contains(s.top(t, s.certbot), "sleep 12h")
	})
	return s
}

// client is an HTTP client that finds pebble on 127.0.0.1.
func (s *stack) client(t *testing.T, trust *x509.CertPool) *http.Client {
	where := map[string]string{"pebble:14000": s.docker.Port(t, s.pebble, 14000), "pebble:15000": s.docker.Port(t, s.pebble, 15000)}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: trust}, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, where[addr])
		},
	}}
}

// learnRoots asks pebble for the root that it has made up.
func (s *stack) learnRoots(t *testing.T) {
	t.Helper()
	var body []byte
	s.eventually(t, "pebble answers", func() bool {
		resp, err := s.http.Get("https://pebble:15000/roots/0")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err = io.ReadAll(resp.Body)
		return err == nil && resp.StatusCode == http.StatusOK
	})
	s.roots = x509.NewCertPool()
	if !s.roots.AppendCertsFromPEM(body) {
		t.Fatalf("no root in %q", body)
	}
	s.rootFile = filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(s.rootFile, body, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *stack) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within three minutes: %s", what)
}

// nginxConf serves challenges, and the certificate in a directory. In the place
// of a sound configuration it may be given extra lines.
func nginxConf(certificates string, extra ...string) string {
	return fmt.Sprintf(`worker_processes 1;
error_log stderr;
events {}
http {
	access_log off;
	server {
		listen 80;
		location /.well-known/acme-challenge/ { root %s; }
	}
	server {
		listen 443 ssl;
		server_name %s;
		ssl_certificate %[3]s/fullchain.pem;
		ssl_certificate_key %[3]s/privkey.pem;
		%[4]s
	}
}
`, webroot, domain, certificates, strings.Join(extra, "\n"))
}

const live = "/etc/letsencrypt/live/" + domain

// configure replaces nginx's configuration, without a reload.
func (s *stack) configure(t *testing.T, conf string) {
	t.Helper()
	s.docker.Put(t, s.nginx, map[string]string{"/etc/nginx/nginx.conf": conf})
}

// reload makes nginx read its configuration and waits until it has: others do the
// work then.
func (s *stack) reload(t *testing.T) {
	t.Helper()
	before := s.workers(t)
	s.docker.Exec(t, s.nginx, "nginx", "-s", "reload")
	s.eventually(t, "nginx has other workers", func() bool {
		now := s.workers(t)
		return len(now) > 0 && !slices.ContainsFunc(now, func(pid string) bool { return slices.Contains(before, pid) })
	})
}

// workers are nginx's processes that take connections.
func (s *stack) workers(t *testing.T) []string {
	t.Helper()
	var pids []string
	for line := range strings.Lines(s.top(t, s.nginx)) {
		if fields := strings.Fields(line); strings.HasSuffix(strings.TrimSpace(line), "nginx: worker process") {
			pids = append(pids, fields[0])
		}
	}
	return pids
}

// top lists the processes in a container; nothing if it has gone.
func (s *stack) top(t *testing.T, id string) string {
	t.Helper()
	out, _ := exec.Command("docker", "top", id, "-o", "pid,args").Output()
	return string(out)
}

// oneoffs are the project's containers of docker compose run.
func (s *stack) oneoffs(t *testing.T) []string {
	t.Helper()
	ids, err := exec.Command("docker", "ps", "-aq", "--filter", "label=com.docker.compose.project="+s.project.Name(), "--filter", "label=com.docker.compose.oneoff=True").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(ids))
}

// options are those of escrowctl certs renew on this stack.
func (s *stack) options() certs.RenewOptions {
	return certs.RenewOptions{
		Check: certs.Options{
			Host: domain, Port: "443", Addresses: []string{s.addr}, Roots: s.roots, HTTP: s.http, Docs: s.docs, Now: time.Now,
			Files: certs.TarFiles{Dir: certs.DefaultDir, Open: s.project.Service("certbot").Archive},
		},
		Certbot: oneoffCertbot{s.project.Service("certbot")}, Nginx: nginxExec{s.project.Service("nginx")},
		ByHand: "docker compose run --rm --entrypoint certbot certbot", Person: true, Timeout: 2 * time.Minute, Said: func(line string) { s.said.WriteString(line + "\n") },
	}
}

// renew runs Renew with the options that edit makes.
func (s *stack) renew(t *testing.T, edit func(*certs.RenewOptions)) (*certs.Renewal, error) {
	t.Helper()
	o := s.options()
	if edit != nil {
		edit(&o)
	}
	s.said.Reset()
	start := time.Now()
	r, err := certs.Renew(t.Context(), o)
	t.Logf("renew: %s, %q, error %v, in %s", r.Outcome, r.Summary, err, time.Since(start).Round(time.Millisecond))
	if t.Failed() {
		t.Logf("certbot said:\n%s", s.said)
	}
	return r, err
}

// certificate is what lies on the disk.
func (s *stack) certificate(t *testing.T) *x509.Certificate {
	t.Helper()
	chain, err := certs.ParsePEM([]byte(s.docker.Exec(t, s.nginx, "cat", live+"/cert.pem")))
	if err != nil {
		t.Fatal(err)
	}
	return chain[0]
}

// served is what nginx gives.
func (s *stack) served(t *testing.T) *x509.Certificate {
	t.Helper()
	conn, err := tls.Dial("tcp", s.addr, &tls.Config{ServerName: domain, InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

type oneoffCertbot struct{ *compose.Service }

func (c oneoffCertbot) Run(ctx context.Context, args []string, out io.Writer) (int, error) {
	return c.Service.Run(ctx, []string{"certbot"}, args, out, out)
}

type nginxExec struct{ *compose.Service }

func (n nginxExec) Run(ctx context.Context, args []string, out io.Writer) (int, error) {
	return n.Exec(ctx, append([]string{"nginx"}, args...), nil, out, out)
}

// documents keeps documents in memory.
type documents struct {
	mu   sync.Mutex
	docs map[string][]byte
}

func (d *documents) Load(name string, v any) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	body, found := d.docs[name]
	if !found {
		return false, nil
	}
	return true, json.Unmarshal(body, v)
}

func (d *documents) Save(name string, v any) error {
	body, err := json.Marshal(v)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.docs == nil {
		d.docs = map[string][]byte{}
	}
	d.docs[name] = body
	return err
}

// tlsPair makes a self-signed certificate for a name.
func tlsPair(t *testing.T, name string) (certPEM, keyPEM string, pool *x509.CertPool) {
	t.Helper()
	certPEM, keyPEM = testenv.SelfSigned(t, name, time.Now().Add(-100*24*time.Hour), time.Now().Add(1000*24*time.Hour))
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(certPEM))
	return certPEM, keyPEM, pool
}
