package certs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
)

var verifyCode = regexp.MustCompile(`Verify return code: (\d+) \(([^)]*)\)`)

// TestSameAsOpenSSL serves each kind of chain and asks openssl s_client too, at
// the same moment of the same host: same serial, same dates, same verdict.
func TestSameAsOpenSSL(t *testing.T) {
	t.Parallel()
	openssl := needOpenSSL(t)
	p := newPKI(t)
	good := p.leaf(t, spec{})
	deadMiddle := certify(t, spec{name: "Test R1", ca: true, by: p.root, key: p.middle.key, from: at().Add(-500 * day), to: at().Add(-day)})
	oldRoot := certify(t, spec{name: "Old Root", ca: true, from: at().Add(-4000 * day), to: at().Add(-30 * day)})
	crossed := certify(t, spec{name: "Test Root", ca: true, by: oldRoot, key: p.root.key, from: at().Add(-900 * day), to: at().Add(-30 * day)})
	rsaRoot := certify(t, spec{name: "RSA Root", ca: true, key: rsaKey(t, 2048), from: at().Add(-10000 * day), to: at().Add(10000 * day)})
	sha1 := sha1Leaf(t, rsaRoot)
	stranger := newPKI(t)
	rootFile := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(rootFile, pemOf(p.root.cert, rsaRoot.cert), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		chain []*pair
		when  time.Time
		code  int // openssl's; 0 is ok
	}{
		{"sound", []*pair{good, p.middle}, at(), 0},
		{"6 days", []*pair{p.leaf(t, spec{from: at().Add(-day), to: at().Add(5 * day)}), p.middle}, at(), 0},
		{"expired cross-signed root, and a valid path", []*pair{good, p.middle, crossed}, at(), 0},
		{"expired", []*pair{p.leaf(t, spec{to: at().Add(-36 * time.Hour)}), p.middle}, at(), 10},
		{"not yet valid", []*pair{p.leaf(t, spec{from: at().Add(2 * time.Hour)}), p.middle}, at(), 9},
		{"wrong name", []*pair{p.leaf(t, spec{names: []string{"other.test"}}), p.middle}, at(), 62},
		{"self-signed", []*pair{certify(t, spec{name: host})}, at(), 18},
		{"missing intermediate", []*pair{good}, at(), 21},
		{"expired intermediate", []*pair{good, deadMiddle}, at(), 10},
		{"unknown root", []*pair{stranger.leaf(t, spec{}), stranger.middle, stranger.root}, at(), 19},
		{"RSA 1024", []*pair{p.leaf(t, spec{key: rsaKey(t, 1024)}), p.middle}, at(), 66},
		{"SHA-1", []*pair{sha1}, sha1.cert.NotBefore.Add(time.Hour), 68},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, nil, tt.chain...)
			o := Options{Host: host, Port: "443", Addresses: []string{s.addr}, Roots: pool(p.root.cert, rsaRoot.cert), Now: func() time.Time { return tt.when }}
			r := Check(t.Context(), o)

			cmd := exec.Command(openssl, "s_client", "-connect", s.addr, "-servername", host, "-verify_hostname", host, "-CAfile", rootFile, "-no-CApath",
				"-attime", strconv.FormatInt(tt.when.Unix(), 10))
			session, _ := cmd.CombinedOutput() // its status is about the connection
			codes := verifyCode.FindSubmatch(session)
			if codes == nil {
				t.Fatalf("openssl gives no verdict:\n%s", session)
			}
			if code, _ := strconv.Atoi(string(codes[1])); code != tt.code {
				t.Errorf("openssl says %s, expected %d", codes[0], tt.code)
			}
			if refused := r.Status == check.Critical; refused != (tt.code != 0) {
				t.Errorf("openssl says %s, we say %s: %s", codes[0], r.Status, r.Summary)
			}

			show := exec.Command(openssl, "x509", "-noout", "-serial", "-dates", "-fingerprint", "-sha256")
			show.Stdin = strings.NewReader(string(session))
			text, err := show.Output()
			if err != nil {
				t.Fatalf("openssl x509: %v", err)
			}
			const layout = "Jan _2 15:04:05 2006 GMT"
			want := []string{"notBefore=" + r.Leaf.NotBefore.UTC().Format(layout), "notAfter=" + r.Leaf.NotAfter.UTC().Format(layout), Fingerprint(r.Leaf)}
			for _, w := range want {
				if !strings.Contains(strings.ToLower(strings.ReplaceAll(string(text), ":", "")), strings.ToLower(strings.ReplaceAll(w, ":", ""))) {
					t.Errorf("openssl does not say %q:\n%s", w, text)
				}
			}
			serial := strings.ToLower(strings.TrimPrefix(strings.Split(string(text), "\n")[0], "serial="))
			if serial != Serial(r.Leaf.SerialNumber) {
				t.Errorf("openssl has serial %s, we have %s", serial, Serial(r.Leaf.SerialNumber))
			}
			if !slices.Equal(r.Leaf.Raw, tt.chain[0].cert.Raw) {
				t.Error("another certificate was judged")
			}
		})
	}
}
