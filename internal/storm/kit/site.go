package kit

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// Domain is what the certificates are for.
const Domain = "escrow.test"

// lifetime is that of the certificates. Neither certbot nor the CA can be told
// another date: a year of nights is all within the first third of it.
const lifetime = 1200 * 24 * time.Hour

// CA is pebble in the place of Let's Encrypt. It takes every challenge for met.
type CA struct {
	Addr     string // of its ACME server
	File     string // the certificate that it serves ACME with
	RootFile string // the root of what it issues
}

// NewCA starts one, with its files in a directory.
func NewCA(t testing.TB, dir string) *CA {
	t.Helper()
	port, management := testenv.FreePort(t), testenv.FreePort(t)
	ca := &CA{Addr: fmt.Sprintf("127.0.0.1:%d", port), File: filepath.Join(dir, "ca.pem"), RootFile: filepath.Join(dir, "root.pem")}
	certPEM, keyPEM := testenv.SelfSigned(t, "127.0.0.1", time.Now().Add(-time.Hour), time.Now().Add(2*lifetime))
	put(t, ca.File, certPEM, 0o600)
	put(t, filepath.Join(dir, "ca.key"), keyPEM, 0o600)
	conf, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": ca.Addr, "managementListenAddress": fmt.Sprintf("127.0.0.1:%d", management), "certificate": ca.File, "privateKey": filepath.Join(dir, "ca.key"),
		"httpPort": 80, "tlsPort": 443, "retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles": map[string]any{"default": map[string]any{"description": "long", "validityPeriod": int(lifetime / time.Second)}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "pebble.json"), string(conf), 0o600)
	daemon(t, []string{"PEBBLE_VA_ALWAYS_VALID=1", "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0"}, testenv.Tool(t, "pebble"), "-config", filepath.Join(dir, "pebble.json"))
	ca.learnRoot(t, certPEM, management)
	return ca
}

// learnRoot asks pebble for the root that it has made up.
func (ca *CA) learnRoot(t testing.TB, trusted string, port int) {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(trusted)) {
		t.Fatalf("storm: no certificate in %q", trusted)
	}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	Eventually(t, "pebble answers", func() bool {
		resp, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d/roots/0", port))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			return false
		}
		put(t, ca.RootFile, string(body), 0o600)
		return true
	})
}

// Site is this host's certbot and nginx, with directories of their own. The
// programs are as a host has them, but for where their files lie.
type Site struct {
	Dir    string // certbot's
	Bin    string // where certbot and nginx are, for $PATH
	Served string // address of nginx

	stop func() // ends nginx
}

// NewSite has certbot get a certificate for Domain from the CA, which it reaches
// at acme, and nginx serve it. All lies below a directory.
func NewSite(t testing.TB, dir string, ca *CA, acme string) *Site {
	t.Helper()
	nginx, certbot := need(t, "nginx"), need(t, "certbot")
	s := &Site{Dir: filepath.Join(dir, "letsencrypt"), Bin: filepath.Join(dir, "bin"), Served: fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t))}
	webroot := filepath.Join(dir, "webroot")
	for _, d := range []string{s.Bin, webroot} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(s.Bin, "certbot"), fmt.Sprintf("#!/bin/sh\nREQUESTS_CA_BUNDLE=%s exec %s --work-dir %s --logs-dir %s --no-random-sleep-on-renew \"$@\"\n",
		ca.File, certbot, filepath.Join(dir, "certbot-work"), filepath.Join(dir, "certbot-logs")), 0o700)
	put(t, filepath.Join(s.Bin, "nginx"), fmt.Sprintf("#!/bin/sh\nexec %s -p %s -c %s \"$@\"\n", nginx, dir, filepath.Join(dir, "nginx.conf")), 0o700)
	issue := exec.Command(filepath.Join(s.Bin, "certbot"), "certonly", "--webroot", "-w", webroot, "-d", Domain, "--server", "https://"+acme+"/dir",
		"--config-dir", s.Dir, "--agree-tos", "--register-unsafely-without-email", "--non-interactive")
	if out, err := issue.CombinedOutput(); err != nil {
		t.Fatalf("storm: certbot certonly: %v: %s", err, out)
	}
	put(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf("daemon off;\nworker_processes 1;\npid %[1]s/nginx.pid;\nerror_log stderr;\nevents {}\nhttp {\n\taccess_log off;\n"+
		"\tclient_body_temp_path %[1]s/n1; proxy_temp_path %[1]s/n2; fastcgi_temp_path %[1]s/n3; uwsgi_temp_path %[1]s/n4; scgi_temp_path %[1]s/n5;\n"+
		"\tserver {\n\t\tlisten %[2]s ssl;\n\t\tserver_name %[3]s;\n\t\tssl_certificate %[4]s/fullchain.pem;\n\t\tssl_certificate_key %[4]s/privkey.pem;\n\t}\n}\n",
		dir, s.Served, Domain, filepath.Join(s.Dir, "live", Domain)), 0o600)
	s.Start(t)
	return s
}

// Env is what escrowctl is to be given, but for $PATH.
func (s *Site) Env(ca *CA) []string {
	return []string{"CERT_DOMAIN=" + Domain, "ESCROWCTL_CERTS_ADDRESS=" + s.Served, "ESCROWCTL_CERTS_CA=" + ca.RootFile, "ESCROWCTL_CERTS_DIR=" + s.Dir, "ESCROWCTL_CERTS_VIA=host"}
}

// Start starts nginx, and Stop ends it.
func (s *Site) Start(t testing.TB) {
	t.Helper()
	s.stop = daemon(t, nil, filepath.Join(s.Bin, "nginx"))
	Eventually(t, "nginx serves", func() bool { _, err := s.Handshake(); return err == nil })
}

// Stop ends nginx.
func (s *Site) Stop() { s.stop() }

// Handshake returns the serial number of what nginx serves.
func (s *Site) Handshake() (string, error) {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	conn, err := tls.DialWithDialer(dialer, "tcp", s.Served, &tls.Config{ServerName: Domain, InsecureSkipVerify: true})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// OnDisk returns the serial number of what certbot keeps.
func (s *Site) OnDisk(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.Dir, "live", Domain, "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("storm: no certificate in %q", text)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return leaf.SerialNumber.String()
}

// Due tells certbot that what it has is due, or that it is not.
func (s *Site) Due(t testing.TB, is bool) {
	t.Helper()
	path := filepath.Join(s.Dir, "renewal", Domain+".conf")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const line = "renew_before_expiry = 2000 days\n"
	plain := strings.Replace(string(text), line, "", 1)
	if is {
		plain = line + plain
	}
	put(t, path, plain, 0o600)
}

func need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	testenv.Need(t, err == nil, "the program "+program, "make deps")
	return path
}

func put(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// Eventually waits for something to become true, a minute at the most.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("storm: not within a minute: %s", what)
}

// daemon runs a program until it is stopped, until the end of the test, or until
// this process dies: the shell between them waits for the end of its input.
func daemon(t testing.TB, env []string, name string, args ...string) (stop func()) {
	t.Helper()
	cmd := exec.Command("sh", append([]string{"-c", `"$@" </dev/null & read -r none; kill $!; wait`, "sh", name}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	pipe, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { _ = pipe.Close(); _ = cmd.Wait() })
	t.Cleanup(stop)
	return stop
}
