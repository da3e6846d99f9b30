package certs

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
)

func expect(t *testing.T, r *Report, verdict Verdict, status check.Status, says ...string) {
	t.Helper()
	if r.Verdict != verdict || r.Status != status {
		t.Errorf("%s, %s, want %s, %s: %s %+v %q", r.Verdict, r.Status, verdict, status, r.Summary, r.Faults, r.Notes)
	}
	whole := strings.Join(append([]string{r.Summary, r.Action}, r.Notes...), "\n")
	for _, s := range says {
		if !strings.Contains(whole, s) {
			t.Errorf("it does not say %q:\n%s", s, whole)
		}
	}
	if r.Status != check.OK && r.Action == "" {
		t.Error("it does not say what to do")
	}
}

// TestCheckVerdicts walks a 90-day certificate through its life, served and on
// the disk.
func TestCheckVerdicts(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	leaf := p.leaf(t, spec{from: at().Add(-10 * day), to: at().Add(80 * day)})
	s := serve(t, nil, leaf, p.middle)
	dir := certbotDir(t, leaf, p.middle)
	check1 := func(left time.Duration, docs Documents) *Report {
		o := checking(p, s)
		o.Files, o.Docs = HostFiles(dir), docs
		o.Now = func() time.Time { return leaf.cert.NotAfter.Add(-left) }
		return Check(t.Context(), o)
	}
	expect(t, check1(80*day, nil), VerdictNotDue, check.OK, "ends in 80 d (2027-05-20 12:00:00 UTC)")
	expect(t, check1(30*day-time.Hour, nil), VerdictDue, check.OK, "the next run of escrowctl certs renew")
	expect(t, check1(28*day, nil), VerdictFailing, check.Warning, "no attempt is on record", "due since 2027-04-20")
	if !check1(day, nil).Valid() || check1(-day, nil).Valid() {
		t.Error("valid is what has not expired")
	}
	r := check1(12*day, nil)
	expect(t, r, VerdictFailing, check.Critical)
	res := r.Result()
	if res.Alert != "TLSCertExpiringSoon" || res.Priority != "P2" || !slices.Equal(res.Runbooks, []string{"RB-004"}) || !res.Deadline.Equal(r.Rule.Alert.Add(4*time.Hour)) {
		t.Errorf("with 12 d left the result is %+v", res)
	}
	if res := check1(28*day, nil).Result(); res.Priority != "" {
		t.Errorf("with 28 d left it is %s already", res.Priority)
	}
	expect(t, check1(-time.Hour, nil), VerdictExpired, check.Critical, "it expired 1 h ago")

	docs := &memory{}
	for n, outcome := range []string{Unchanged, Failed, Failed} {
		a := Attempt{At: leaf.cert.NotAfter.Add(-31*day + time.Duration(n)*12*time.Hour), Outcome: outcome, Lineage: host, Reason: "the CA is down"}
		if n > 0 {
			a.At = leaf.cert.NotAfter.Add(-30*day + time.Duration(n)*time.Hour)
		}
		if err := record(docs, a); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, check1(30*day-3*time.Hour, docs), VerdictFailing, check.Warning, "2 attempts changed nothing, the last said: the CA is down")
	if err := record(docs, Attempt{At: leaf.cert.NotAfter.Add(-30*day + 150*time.Minute), Outcome: Renewed, Lineage: host}); err != nil {
		t.Fatal(err)
	}
	expect(t, check1(30*day-3*time.Hour, docs), VerdictDue, check.OK)
}

func TestCheckRenewedNotReloaded(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	old := p.leaf(t, spec{from: at().Add(-62 * day), to: at().Add(28 * day)})
	fresh := p.leaf(t, spec{from: at().Add(-time.Hour), to: at().Add(90 * day)})
	s := serve(t, nil, old, p.middle)
	dir := certbotDir(t, old, p.middle)
	addVersion(t, dir, 2, fresh, p.middle)
	o := checking(p, s)
	o.Files = HostFiles(dir)
	expect(t, Check(t.Context(), o), VerdictNotReloaded, check.Warning, "renewed but not reloaded", Serial(fresh.cert.SerialNumber), "reload nginx")
	o.Now = func() time.Time { return at().Add(29 * day) }
	r := Check(t.Context(), o)
	expect(t, r, VerdictNotReloaded, check.Critical, "it expired 24 h ago")
	if r.Valid() {
		t.Error("what is served has expired, and counts as valid")
	}
	s.set(fresh, p.middle)
	o.Now = at
	expect(t, Check(t.Context(), o), VerdictNotDue, check.OK)

	// Served and newer than the disk: something else ends TLS.
	addVersion(t, dir, 1, old, p.middle)
	expect(t, Check(t.Context(), o), VerdictNotDue, check.Warning, "another certificate than the one on the disk, and not an older one")
}

// TestCheckFilesMust: what is not seen on the disk where renewal happens is no
// OK.
func TestCheckFilesMust(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	o := checking(p, serve(t, nil, p.leaf(t, spec{}), p.middle))
	o.FilesWhy = "no Docker engine"
	expect(t, Check(t.Context(), o), VerdictNotDue, check.OK, "were not looked at: no Docker engine")
	o.FilesMust = true
	expect(t, Check(t.Context(), o), VerdictNotDue, check.Warning, "were not looked at: no Docker engine", "certs.via")
	o.Files = HostFiles(t.TempDir())
	expect(t, Check(t.Context(), o), VerdictNotDue, check.Warning, "certbot has no certificate for escrow.test (it has: none)")
	o.Files = TarFiles{Dir: "/x", Open: func(context.Context, string) (io.ReadCloser, error) { return nil, errors.New("the engine hangs") }}
	expect(t, Check(t.Context(), o), VerdictNotDue, check.Warning, "could not be read: the engine hangs")
}

func TestCheckAddresses(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	one, two := p.leaf(t, spec{}), p.leaf(t, spec{from: at().Add(-80 * day), to: at().Add(10 * day)})
	a, b := serve(t, nil, one, p.middle), serve(t, nil, one, p.middle)
	o := Options{Host: host, Port: "443", Roots: p.roots(), Now: at, Network: Network{
		Resolve: names("192.0.2.1", "2001:db8::1", "192.0.2.1"),
		Dial:    routes(map[string]string{"192.0.2.1:443": a.addr, "[2001:db8::1]:443": b.addr}),
	}}
	r := Check(t.Context(), o)
	expect(t, r, VerdictNotDue, check.OK)
	if len(r.Served) != 2 || r.Served[0].Address != "192.0.2.1:443" || r.Served[1].Address != "[2001:db8::1]:443" {
		t.Errorf("served by %+v", r.Served)
	}
	// The worse of the two counts, wherever it is.
	b.set(two, p.middle)
	r = Check(t.Context(), o)
	expect(t, r, VerdictFailing, check.Critical, "ends in 10 d")
	if !slices.Contains(codes(r.Faults), CodeAddressesVary) {
		t.Errorf("faults %+v", r.Faults)
	}
	// One that refuses is no OK, though the other is sound.
	b.set(one, p.middle)
	o.Network.Dial = routes(map[string]string{"192.0.2.1:443": a.addr, "[2001:db8::1]:443": "127.0.0.1:1"})
	expect(t, Check(t.Context(), o), VerdictInvalid, check.Critical, "[2001:db8::1]:443 serves no TLS", "connection refused")

	o.Network.Resolve = names("192.0.2.1")
	o.Network.Dial = routes(map[string]string{"192.0.2.1:443": "127.0.0.1:1"})
	r = Check(t.Context(), o)
	expect(t, r, VerdictNotServed, check.Critical, "refused", "docker compose ps nginx")
	if r.Valid() {
		t.Error("what is not served counts as valid")
	}
}

func TestCheckUnknown(t *testing.T) {
	t.Parallel()
	o := Options{Host: "no-such-host.invalid", Port: "443", Now: at}
	expect(t, Check(t.Context(), o), VerdictUnknown, check.Unknown, "find the addresses of no-such-host.invalid")
	o = Options{File: "/no/such/file.pem", Now: at}
	expect(t, Check(t.Context(), o), VerdictUnknown, check.Unknown, "no such file")
	// A server that accepts and says nothing.
	silent := httptest.NewUnstartedServer(nil)
	defer silent.Close()
	o = Options{Host: host, Port: "443", Addresses: []string{silent.Listener.Addr().String()}, Now: at, Network: Network{Limit: 100 * time.Millisecond}}
	if r := Check(t.Context(), o); r.Status < check.Unknown || r.Known() {
		t.Errorf("a silent server is %s, %s", r.Status, r.Verdict)
	}
}

func TestCheckWeakProtocol(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	leaf := p.leaf(t, spec{})
	s := serve(t, &tls.Config{MinVersion: tls.VersionTLS10}, leaf, p.middle)
	r := Check(t.Context(), checking(p, s))
	expect(t, r, VerdictNotDue, check.Warning, "it also speaks TLS 1.1", "ssl_protocols")
	if r.Served[0].Version != "TLS 1.3" {
		t.Errorf("served with %s", r.Served[0].Version)
	}
}

// TestCheckClientCertificate: a server that refuses us for want of a client's
// certificate has shown its own by then.
func TestCheckClientCertificate(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	s := serve(t, &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, MaxVersion: tls.VersionTLS12}, p.leaf(t, spec{}), p.middle)
	expect(t, Check(t.Context(), checking(p, s)), VerdictNotDue, check.OK)
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	leaf := p.leaf(t, spec{crl: "http://crl.test/r1.crl"})
	s := serve(t, nil, leaf, p.middle)
	asked, body := 0, []byte(nil)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if body == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(body)
	}))
	defer web.Close()
	list := func(by *pair, next time.Time, revoked ...*big.Int) []byte {
		template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: at().Add(-time.Hour), NextUpdate: next}
		for _, n := range revoked {
			template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: at().Add(-2 * time.Hour), ReasonCode: 1})
		}
		der, err := x509.CreateRevocationList(rand.Reader, template, by.cert, by.key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	docs := &memory{}
	server1 := s // whose certificate is looked at
	look := func(after time.Duration) *Report {
		o := checking(p, server1)
		o.HTTP, o.Docs, o.Now = httpTo(web.Listener.Addr().String()), docs, func() time.Time { return at().Add(after) }
		return Check(t.Context(), o)
	}
	// Unreachable is said, and is no fault.
	expect(t, look(0), VerdictNotDue, check.OK, "revocation list could not be read", "503")
	// Signed by somebody else: not believed, either way.
	body = list(p.root, at().Add(day), leaf.cert.SerialNumber)
	expect(t, look(0), VerdictNotDue, check.OK, "not signed by")
	body = list(p.middle, at().Add(-time.Minute))
	expect(t, look(0), VerdictNotDue, check.OK, "out of date")
	// Good, and asked once an hour.
	body, asked = list(p.middle, at().Add(day), big.NewInt(5)), 0
	if r := look(0); r.Status != check.OK || len(r.Notes) != 0 {
		t.Errorf("%s %q", r.Summary, r.Notes)
	}
	look(30 * time.Minute)
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	body = nil
	expect(t, look(2*time.Hour), VerdictNotDue, check.OK, "as of 2027-03-01 12:00:00 UTC it did not list")
	body = list(p.middle, at().Add(day), leaf.cert.SerialNumber)
	expect(t, look(3*time.Hour), VerdictInvalid, check.Critical, "revoked at 2027-03-01 10:00:00 UTC (key compromise)", "--force")
	// A revocation is not forgotten because the list is away, not even when the
	// last one is out of date and that of another certificate is read.
	revoked := func(after time.Duration) {
		t.Helper()
		body = nil
		r := look(after)
		expect(t, r, VerdictInvalid, check.Critical, "revoked at 2027-03-01 10:00:00 UTC (key compromise)")
		if notes := strings.Join(r.Notes, "\n"); strings.Contains(notes, "did not list") {
			t.Errorf("%s on: %s", after, notes)
		}
	}
	revoked(5 * time.Hour)
	revoked(30 * time.Hour)
	server1, body = serve(t, nil, p.leaf(t, spec{crl: "http://crl.test/r2.crl"}), p.middle), list(p.middle, at().Add(3*day))
	expect(t, look(31*time.Hour), VerdictNotDue, check.OK)
	server1 = s
	revoked(32 * time.Hour)
}

func TestAskWindow(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	leaf := p.leaf(t, spec{})
	answer := `{"suggestedWindow":{"start":"2027-02-27T00:00:00Z","end":"2027-02-28T00:00:00Z"},"explanationURL":"https://ca.test/why"}`
	directory := `{"renewalInfo":"https://ca.test/renewal-info/"}`
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/dir" {
			fmt.Fprint(w, directory)
			return
		}
		fmt.Fprint(w, answer)
	}))
	defer web.Close()
	client := httpTo(web.Listener.Addr().String())
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	s := serve(t, nil, leaf, p.middle)
	o := checking(p, s)
	o.Files, o.HTTP = HostFiles(certbotDir(t, leaf, p.middle)), client
	// 80 days are left, but the CA wants it renewed: it means to revoke it.
	r := Check(t.Context(), o)
	expect(t, r, VerdictFailing, check.Warning, "due since 2027-02-27 00:00:00 UTC")
	if r.Window == nil || r.Window.Explanation != "https://ca.test/why" || !strings.Contains(r.Rule.String(), "as the CA suggests") {
		t.Errorf("window %+v, rule %s", r.Window, r.Rule)
	}
	answer = `{"suggestedWindow":{"start":"2027-02-27T00:00:00Z","end":"2027-02-20T00:00:00Z"}}`
	expect(t, Check(t.Context(), o), VerdictNotDue, check.OK, "no sensible window")
	directory = `{}`
	expect(t, Check(t.Context(), o), VerdictNotDue, check.OK, "offers no renewal information")
	if _, err := AskWindow(t.Context(), client, "https://ca.test/dir", leaf.cert); !errors.Is(err, errNoARI) {
		t.Errorf("error %v", err)
	}
}

// TestAriID is the example of RFC 9773, section 4.1.
func TestAriID(t *testing.T) {
	serial, _ := new(big.Int).SetString("8765432100", 16)
	cert := &x509.Certificate{SerialNumber: serial, AuthorityKeyId: []byte{0x69, 0x88, 0x5B, 0x6B, 0x87, 0x46, 0x40, 0x41, 0xE1, 0xB3, 0x7B, 0x84, 0x7B, 0xA0, 0xAE, 0x2C, 0xDE, 0x01, 0xC8, 0xD4}}
	cert.SerialNumber = big.NewInt(0x87654321)
	if id, err := ariID(cert); err != nil || id != "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE" {
		t.Errorf("%s, %v", id, err)
	}
}

func TestChange(t *testing.T) {
	docs := &memory{}
	tell := func(verdict Verdict, status check.Status) []string {
		t.Helper()
		worse, err := Change(docs, []*Report{{Target: "a:443", Verdict: verdict, Status: status, Summary: "a:443: " + verdict.Words()}}, at())
		if err != nil {
			t.Fatal(err)
		}
		return worse
	}
	if got := tell(VerdictNotDue, check.OK); len(got) != 0 {
		t.Errorf("well at first sight is told: %q", got)
	}
	if got := tell(VerdictFailing, check.Warning); len(got) != 1 || got[0] != "warning: a:443: renewal failing (was ok, not due)" {
		t.Errorf("worse is told as %q", got)
	}
	if got := tell(VerdictFailing, check.Warning); len(got) != 0 {
		t.Errorf("the same is told again: %q", got)
	}
	if got := tell(VerdictFailing, check.Critical); len(got) != 1 {
		t.Errorf("critical after warning is not told: %q", got)
	}
	if got := tell(VerdictNotDue, check.OK); len(got) != 0 {
		t.Errorf("better is told: %q", got)
	}
	worse, err := Change(&memory{}, []*Report{{Target: "b:443", Verdict: VerdictExpired, Status: check.Critical, Summary: "b:443: expired"}}, at())
	if err != nil || len(worse) != 1 {
		t.Errorf("bad at first sight is not told: %q, %v", worse, err)
	}
}
