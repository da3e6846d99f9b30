package year

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
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// tlsStack is this host's certbot and nginx, with directories of their own, and
// pebble in the place of Let's Encrypt. Neither certbot nor the CA can be told
// another date. So the certificates are good for 1,200 days, and a year is all
// within their first third; every sixtieth night certbot is told that the one
// it has is due.
type tlsStack struct {
	dir      string // certbot's
	served   string // address of nginx
	rootFile string
}

const lifetime = 1200 * 24 * time.Hour

func newTLSStack(t *testing.T, s *stage) *tlsStack {
	t.Helper()
	nginx, certbot := need(t, "nginx"), need(t, "certbot")
	x := &tlsStack{dir: s.path("letsencrypt"), served: fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t)), rootFile: s.path("root.pem")}
	ca, management := testenv.FreePort(t), testenv.FreePort(t)
	s.toCA = newProxy(t, "tcp", fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t)), "tcp", fmt.Sprintf("127.0.0.1:%d", ca))
	caFile, caKey := selfSigned(t, s.path("ca"), "127.0.0.1")
	conf, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": fmt.Sprintf("127.0.0.1:%d", ca), "managementListenAddress": fmt.Sprintf("127.0.0.1:%d", management), "certificate": caFile, "privateKey": caKey,
		"httpPort": 80, "tlsPort": 443, "retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles": map[string]any{"default": map[string]any{"description": "long", "validityPeriod": int(lifetime / time.Second)}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.path("pebble.json"), string(conf), 0o600)
	daemon(t, []string{"PEBBLE_VA_ALWAYS_VALID=1", "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0"}, testenv.Tool(t, "pebble"), "-config", s.path("pebble.json"))
	x.learnRoot(t, caFile, management)

	// The two programs as a host has them, but for where their files lie.
	write(t, s.path("bin", "certbot"), fmt.Sprintf("#!/bin/sh\nREQUESTS_CA_BUNDLE=%s exec %s --work-dir %s --logs-dir %s --no-random-sleep-on-renew \"$@\"\n",
		caFile, certbot, s.path("certbot-work"), s.path("certbot-logs")), 0o700)
	write(t, s.path("bin", "nginx"), fmt.Sprintf("#!/bin/sh\nexec %s -p %s -c %s \"$@\"\n", nginx, s.root, s.path("nginx.conf")), 0o700)
	webroot := s.path("webroot")
	if err := os.Mkdir(webroot, 0o755); err != nil {
		t.Fatal(err)
	}
	issue := exec.Command(s.path("bin", "certbot"), "certonly", "--webroot", "-w", webroot, "-d", domain, "--server", "https://"+s.toCA.addr+"/dir",
		"--config-dir", x.dir, "--agree-tos", "--register-unsafely-without-email", "--non-interactive")
	if out, err := issue.CombinedOutput(); err != nil {
		t.Fatalf("certbot certonly: %v: %s", err, out)
	}
	live := filepath.Join(x.dir, "live", domain)
	write(t, s.path("nginx.conf"), fmt.Sprintf("daemon off;\nworker_processes 1;\npid %[1]s/nginx.pid;\nerror_log stderr;\nevents {}\nhttp {\n\taccess_log off;\n"+
		"\tclient_body_temp_path %[1]s/n1; proxy_temp_path %[1]s/n2; fastcgi_temp_path %[1]s/n3; uwsgi_temp_path %[1]s/n4; scgi_temp_path %[1]s/n5;\n"+
		"\tserver {\n\t\tlisten %[2]s ssl;\n\t\tserver_name %[3]s;\n\t\tssl_certificate %[4]s/fullchain.pem;\n\t\tssl_certificate_key %[4]s/privkey.pem;\n\t}\n}\n", s.root, x.served, domain, live), 0o600)
	daemon(t, nil, s.path("bin", "nginx"))
	eventually(t, "nginx serves", func() bool { _, err := x.handshake(); return err == nil })
	return x
}

func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	testenv.Need(t, err == nil, "the program "+program, "make deps")
	return path
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within a minute: %s", what)
}

// daemon runs a program until the end of the test, or until this process dies:
// the shell between them waits for the end of its input.
func daemon(t *testing.T, env []string, name string, args ...string) {
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
	t.Cleanup(func() { _ = pipe.Close(); _ = cmd.Wait() })
}

// learnRoot asks pebble for the root that it has made up.
func (x *tlsStack) learnRoot(t *testing.T, caFile string, port int) {
	t.Helper()
	pool := x509.NewCertPool()
	text, err := os.ReadFile(caFile)
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatalf("%s: %v", caFile, err)
	}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	eventually(t, "pebble answers", func() bool {
		resp, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d/roots/0", port))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			return false
		}
		write(t, x.rootFile, string(body), 0o600)
		return true
	})
}

// handshake returns the serial number of what nginx serves.
func (x *tlsStack) handshake() (string, error) {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	conn, err := tls.DialWithDialer(dialer, "tcp", x.served, &tls.Config{ServerName: domain, InsecureSkipVerify: true})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// onDisk returns the serial number of what certbot keeps.
func (x *tlsStack) onDisk(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(x.dir, "live", domain, "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("no certificate in %q", text)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return leaf.SerialNumber.String()
}

// due tells certbot that what it has is due, or that it is not.
func (x *tlsStack) due(t *testing.T, is bool) {
	t.Helper()
	path := filepath.Join(x.dir, "renewal", domain+".conf")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const line = "renew_before_expiry = 2000 days\n"
	plain := strings.Replace(string(text), line, "", 1)
	if is {
		plain = line + plain
	}
	write(t, path, plain, 0o600)
}

// selfSigned makes a certificate for an address, in two files.
func selfSigned(t *testing.T, base, ip string) (certFile, keyFile string) {
	t.Helper()
	certPEM, keyPEM := testenv.SelfSigned(t, ip, time.Now().Add(-time.Hour), time.Now().Add(2*lifetime))
	write(t, base+".pem", certPEM, 0o600)
	write(t, base+".key", keyPEM, 0o600)
	return base + ".pem", base + ".key"
}
