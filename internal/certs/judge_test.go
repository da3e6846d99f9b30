package certs

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"
)

func codes(faults []Fault) []string {
	var out []string
	for _, f := range faults {
		out = append(out, f.Code)
	}
	return out
}

// TestJudgeFaults gives each fault of the issue a chain that has it, and no
// other.
func TestJudgeFaults(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	good := p.leaf(t, spec{})
	deadMiddle := certify(t, spec{name: "Test R1", ca: true, by: p.root, key: p.middle.key, from: at().Add(-500 * day), to: at().Add(-day)})
	oldRoot := certify(t, spec{name: "Old Root", ca: true, from: at().Add(-4000 * day), to: at().Add(-30 * day)})
	crossed := certify(t, spec{name: "Test Root", ca: true, by: oldRoot, key: p.root.key, from: at().Add(-900 * day), to: at().Add(-30 * day)})
	rsaRoot := certify(t, spec{name: "RSA Root", ca: true, key: rsaKey(t, 2048), from: at().Add(-10000 * day), to: at().Add(10000 * day)})
	sha1 := sha1Leaf(t, rsaRoot)
	selfSigned := certify(t, spec{name: host})
	stranger := newPKI(t)
	chain := func(leaf *pair, rest ...*pair) []*x509.Certificate {
		out := []*x509.Certificate{leaf.cert}
		for _, r := range rest {
			out = append(out, r.cert)
		}
		return out
	}
	for _, tt := range []struct {
		name string
		sent []*x509.Certificate
		when time.Time
		want []string
		says string
	}{
		{"sound", chain(good, p.middle), at(), nil, ""},
		{"sound, root sent along", chain(good, p.middle, p.root), at(), nil, ""},
		{"sound, wrong order", chain(good, p.root, p.middle), at(), nil, ""},
		{"expired", chain(p.leaf(t, spec{to: at().Add(-36 * time.Hour)}), p.middle), at(), []string{CodeExpired}, "expired 36 h ago, at 2027-02-28 00:00:00 UTC"},
		{"not yet valid", chain(p.leaf(t, spec{from: at().Add(2 * time.Hour)}), p.middle), at(), []string{CodeNotYetValid}, "in 2 h"},
		{"wrong name", chain(p.leaf(t, spec{names: []string{"other.test", "www.other.test"}}), p.middle), at(), []string{CodeWrongName}, "not for escrow.test but for other.test, www.other.test"},
		{"wildcard of another level", chain(p.leaf(t, spec{names: []string{"*.escrow.test"}}), p.middle), at(), []string{CodeWrongName}, ""},
		{"self-signed", chain(selfSigned), at(), []string{CodeSelfSigned}, "self-signed"},
		{"missing intermediate", chain(good), at(), []string{CodeIncomplete}, `whose issuer CN=Test R1 is neither sent nor a known root`},
		{"expired intermediate", chain(good, deadMiddle), at(), []string{CodeChainExpired}, `"Test R1" of its chain expired at 2027-02-28`},
		{"expired cross-signed root, and a valid path", chain(good, p.middle, crossed), at(), nil, ""},
		{"expired cross-signed root with its own root", chain(good, p.middle, crossed, oldRoot), at(), nil, ""},
		{"unknown root", chain(stranger.leaf(t, spec{}), stranger.middle, stranger.root), at(), []string{CodeUnknownRoot}, `"Test Root" is not trusted`},
		{"RSA 1024", chain(p.leaf(t, spec{key: rsaKey(t, 1024)}), p.middle), at(), []string{CodeWeakKey}, "its key is RSA 1024"},
		{"SHA-1", chain(sha1), sha1.cert.NotBefore.Add(time.Hour), []string{CodeWeakSignature}, "SHA1-RSA"},
		{"expired and of an unknown root", chain(stranger.leaf(t, spec{to: at().Add(-time.Hour)}), stranger.middle, stranger.root), at(), []string{CodeExpired, CodeUnknownRoot}, ""},
		{"nothing", nil, at(), []string{CodeNoCertificate}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := Judge(tt.sent, Trust{Roots: pool(p.root.cert, rsaRoot.cert), Names: []string{host}, Now: tt.when})
			if !slices.Equal(codes(j.Faults), tt.want) {
				t.Fatalf("faults %+v, want %v", j.Faults, tt.want)
			}
			if len(tt.want) > 0 && !strings.Contains(j.Faults[0].Text, tt.says) {
				t.Errorf("it says %q, not %q", j.Faults[0].Text, tt.says)
			}
			if verified := slices.Contains([]string{"", CodeExpired, CodeNotYetValid, CodeWrongName, CodeWeakKey}, strings.Join(tt.want, "")); verified != (j.Path != nil) {
				t.Errorf("path of %d certificates with faults %v", len(j.Path), tt.want)
			}
			if j.EndsFirst != "" {
				t.Errorf("%s ends first", j.EndsFirst)
			}
		})
	}
}

// TestJudgeEarliestExpiry: what counts is the end of whatever ends first, on
// the path that holds longest.
func TestJudgeEarliestExpiry(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	leaf := p.leaf(t, spec{})
	short := certify(t, spec{name: "Test R1", ca: true, by: p.root, key: p.middle.key, from: at().Add(-500 * day), to: at().Add(20 * day)})
	trust := Trust{Roots: p.roots(), Names: []string{host}, Now: at()}

	j := Judge([]*x509.Certificate{leaf.cert, short.cert}, trust)
	if !j.Expiry.Equal(short.cert.NotAfter) || j.EndsFirst != `"Test R1"` || len(j.Faults) != 0 {
		t.Errorf("expiry %s by %s, want the intermediate's %s: %+v", j.Expiry, j.EndsFirst, short.cert.NotAfter, j.Faults)
	}
	// A second, longer intermediate of the same key is a way round it.
	j = Judge([]*x509.Certificate{leaf.cert, short.cert, p.middle.cert}, trust)
	if !j.Expiry.Equal(leaf.cert.NotAfter) || j.EndsFirst != "" {
		t.Errorf("expiry %s by %s, want the leaf's own %s", j.Expiry, j.EndsFirst, leaf.cert.NotAfter)
	}
}
