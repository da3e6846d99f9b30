package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
)

// Fault is something wrong with a certificate, its chain or its files.
type Fault struct {
	Code   string       `json:"code"` // stable over releases
	Status check.Status `json:"status"`
	Text   string       `json:"text"`
	Action string       `json:"action,omitempty"`
}

// The codes of faults of a chain.
const (
	CodeExpired        = "expired"
	CodeNotYetValid    = "not_yet_valid"
	CodeWrongName      = "wrong_name"
	CodeSelfSigned     = "self_signed"
	CodeIncomplete     = "missing_intermediate"
	CodeChainExpired   = "chain_expired"
	CodeUnknownRoot    = "unknown_authority"
	CodeUnverified     = "not_verified"
	CodeWeakKey        = "weak_key"
	CodeWeakSignature  = "weak_signature"
	CodeWeakProtocol   = "weak_protocol"
	CodeRevoked        = "revoked"
	CodeAddressesVary  = "addresses_differ"
	CodeOtherThanDisk  = "differs_from_disk"
	CodeUnreachable    = "unreachable"
	CodeNoCertificate  = "no_certificate"
	CodeKeyMismatch    = "key_mismatch"
	CodeKeyPermissions = "key_permissions"
	CodeBrokenLink     = "broken_link"
	CodeNoRenewalConf  = "no_renewal_config"
	CodeNoFiles        = "no_files"
)

// minRSABits is the CA/Browser Forum's minimum; P-256 is that for curves.
const (
	minRSABits   = 2048
	minCurveBits = 256
)

// Trust is what a chain is judged against.
type Trust struct {
	Roots *x509.CertPool // nil: the system's
	Names []string       // that the certificate must cover
	Now   time.Time
}

// Judgement is what a chain turned out to be.
type Judgement struct {
	// Path is the verified chain, leaf first, root last; nil if there is none.
	Path []*x509.Certificate
	// Expiry is when the first certificate of Path ends; the leaf's end without
	// one.
	Expiry time.Time
	// EndsFirst names the certificate that ends first, if it is not the leaf.
	EndsFirst string
	Faults    []Fault
}

// Judge judges a chain as it was sent, leaf first, whatever its state.
func Judge(sent []*x509.Certificate, trust Trust) Judgement {
	if len(sent) == 0 {
		return Judgement{Faults: []Fault{{Code: CodeNoCertificate, Status: check.Critical, Text: "there is no certificate"}}}
	}
	leaf := sent[0]
	j := Judgement{Expiry: leaf.NotAfter}
	j.validity(leaf, trust.Now)
	for _, name := range trust.Names {
		if leaf.VerifyHostname(name) != nil {
			j.add(CodeWrongName, "issue a certificate that covers "+name+", or correct the server's configuration",
				"the certificate is not for %s but for %s", name, orNone(Names(leaf)))
		}
	}
	j.path(sent, trust)
	j.strength(sent)
	return j
}

func (j *Judgement) add(code, action, format string, args ...any) {
	j.Faults = append(j.Faults, Fault{Code: code, Status: check.Critical, Text: fmt.Sprintf(format, args...), Action: action})
}

func (j *Judgement) validity(leaf *x509.Certificate, now time.Time) {
	switch {
	case now.After(leaf.NotAfter):
		j.add(CodeExpired, "renew it now: escrowctl certs renew", "it expired %s ago, at %s", spanText(now.Sub(leaf.NotAfter)), stamp(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		j.add(CodeNotYetValid, "check the clocks of this host and of the CA", "it is valid only from %s, in %s", stamp(leaf.NotBefore), spanText(leaf.NotBefore.Sub(now)))
	}
}

// path looks for a chain to a root. Where there is none it says why.
func (j *Judgement) path(sent []*x509.Certificate, trust Trust) {
	leaf := sent[0]
	at := trust.Now
	// What is wrong with the leaf's own dates is told already; the rest of the
	// chain is judged as if they were right.
	if at.After(leaf.NotAfter) {
		at = leaf.NotAfter
	}
	if at.Before(leaf.NotBefore) {
		at = leaf.NotBefore
	}
	paths, err := verify(sent, trust.Roots, at)
	if err == nil {
		j.choose(paths)
		return
	}
	if weak := weakSignature(sent); weak != nil {
		return // it cannot be verified for that alone, which strength tells
	}
	if when, ok := commonTime(sent); ok {
		if _, err := verify(sent, trust.Roots, when); err == nil {
			j.outOfDate(sent, at)
			return
		}
	}
	j.broken(sent, err)
}

func verify(sent []*x509.Certificate, roots *x509.CertPool, at time.Time) ([][]*x509.Certificate, error) {
	intermediates := x509.NewCertPool()
	for _, c := range sent[1:] {
		intermediates.AddCert(c)
	}
	return sent[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// choose takes the path that holds longest: a client finds it too.
func (j *Judgement) choose(paths [][]*x509.Certificate) {
	for _, p := range paths {
		first := slices.MinFunc(p, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
		if j.Path != nil && !first.NotAfter.After(j.Expiry) {
			continue
		}
		j.Path, j.Expiry, j.EndsFirst = p, first.NotAfter, ""
		if first != p[0] {
			j.EndsFirst = subject(first)
		}
	}
}

// commonTime is a moment at which all of the chain was valid, if there was one.
func commonTime(chain []*x509.Certificate) (time.Time, bool) {
	begin, end := chain[0].NotBefore, chain[0].NotAfter
	for _, c := range chain[1:] {
		if isSelfSigned(c) {
			continue // a root that was sent along decides nothing
		}
		if c.NotBefore.After(begin) {
			begin = c.NotBefore
		}
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end, !end.Before(begin)
}

func (j *Judgement) outOfDate(sent []*x509.Certificate, at time.Time) {
	const action = "serve the chain that the CA gives now (fullchain.pem), and reload"
	for _, c := range sent[1:] {
		switch {
		case at.After(c.NotAfter):
			j.add(CodeChainExpired, action, "the intermediate %s of its chain expired at %s, and there is no other way to a root", subject(c), stamp(c.NotAfter))
		case at.Before(c.NotBefore):
			j.add(CodeChainExpired, action, "the intermediate %s of its chain is valid only from %s", subject(c), stamp(c.NotBefore))
		}
	}
	if len(j.Faults) == 0 { // a root of ours it must be
		j.add(CodeChainExpired, "update the roots (ca-certificates), or name the right ones with --ca", "the root of its chain is not valid now")
	}
}

// broken says why a chain leads nowhere, whatever the time.
func (j *Judgement) broken(sent []*x509.Certificate, err error) {
	leaf := sent[0]
	last := top(sent)
	var unknown x509.UnknownAuthorityError
	switch {
	case isSelfSigned(leaf):
		j.add(CodeSelfSigned, "issue a certificate of a CA, and have nginx read it", "it is self-signed, by %s", subject(leaf))
	case !errors.As(err, &unknown):
		j.add(CodeUnverified, "serve the chain that the CA gives (fullchain.pem)", "its chain does not verify: %v", err)
	case !isSelfSigned(last):
		j.add(CodeIncomplete, "serve fullchain.pem, not cert.pem, and reload; if the CA is your own, name its root with --ca (certs.ca)",
			"the chain ends at %s (%d sent), whose issuer %s is neither sent nor a known root", subject(last), len(sent), last.Issuer)
	default:
		j.add(CodeUnknownRoot, "name the CA's root with --ca (certs.ca) if it is to be trusted", "its root %s is not trusted here", subject(last))
	}
}

// top follows the issuers from the leaf as far as they were sent.
func top(sent []*x509.Certificate) *x509.Certificate {
	at := sent[0]
	for range sent {
		next := slices.IndexFunc(sent, func(c *x509.Certificate) bool {
			return c != at && bytes.Equal(c.RawSubject, at.RawIssuer)
		})
		if next < 0 || isSelfSigned(at) {
			break
		}
		at = sent[next]
	}
	return at
}

func (j *Judgement) strength(sent []*x509.Certificate) {
	used := sent
	if j.Path != nil {
		used = j.Path[:max(1, len(j.Path)-1)] // a root is trusted for what it is
	}
	for i, c := range used {
		who := "its key"
		if i > 0 {
			who = "the key of " + subject(c)
		}
		if kind, bits, least := keyOf(c); bits < least {
			j.add(CodeWeakKey, "issue a certificate with a new key (certbot --key-type ecdsa)", "%s is %s, and %d bits are the least", who, kind, least)
		}
	}
	if weak := weakSignature(used); weak != nil {
		j.add(CodeWeakSignature, "issue a new certificate", "%s is signed with %s, which nobody accepts any more", subject(weak), weak.SignatureAlgorithm)
	}
}

// weakSignature returns the first of the chain with a broken signature
// algorithm; that of a self-signed root is never looked at.
func weakSignature(chain []*x509.Certificate) *x509.Certificate {
	for i, c := range chain {
		if i > 0 && isSelfSigned(c) {
			continue
		}
		switch c.SignatureAlgorithm {
		case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
			return c
		}
	}
	return nil
}

func isSelfSigned(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }

// keyOf returns the kind of key, its size, and the least size that will do.
func keyOf(c *x509.Certificate) (kind string, bits, least int) {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen()), k.N.BitLen(), minRSABits
	case *ecdsa.PublicKey:
		n := k.Curve.Params().BitSize
		return fmt.Sprintf("ECDSA P-%d", n), n, minCurveBits
	case ed25519.PublicKey:
		return "Ed25519", minCurveBits, minCurveBits
	}
	return c.PublicKeyAlgorithm.String() + " of a kind not known here", 0, 0
}

// Key is the kind and size of a certificate's key: "RSA 2048".
func Key(c *x509.Certificate) string {
	kind, _, _ := keyOf(c)
	return kind
}

// Fingerprint is the SHA-256 of the whole certificate, in hexadecimal.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// Serial is the serial number in hexadecimal, as openssl and certbot print it.
func Serial(n *big.Int) string {
	b := n.Bytes()
	if len(b) == 0 {
		b = []byte{0}
	}
	return hex.EncodeToString(b)
}

// Names are the host names and addresses that a certificate is for.
func Names(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

func subject(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return fmt.Sprintf("%q", c.Subject.CommonName)
	}
	if len(c.DNSNames) > 0 {
		return fmt.Sprintf("%q", c.DNSNames[0])
	}
	return fmt.Sprintf("%q", c.Subject.String())
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "no name at all"
	}
	return strings.Join(list, ", ")
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
