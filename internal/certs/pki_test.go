package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

const (
	day  = 24 * time.Hour
	host = "escrow.test"
)

// at is the tests' now.
func at() time.Time { return time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC) }

// pair is a certificate with its key.
type pair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// spec is a certificate to be made; what is zero gets a sound default: valid
// from 10 days before at() to 80 days after, ECDSA P-256, for host.
type spec struct {
	name     string
	by       *pair // nil: itself
	key      crypto.Signer
	ca       bool
	from, to time.Time
	names    []string
	crl      string
}

func certify(t testing.TB, s spec) *pair {
	t.Helper()
	if s.key == nil {
		s.key = ecKey(t)
	}
	if s.from.IsZero() {
		s.from = at().Add(-10 * day)
	}
	if s.to.IsZero() {
		s.to = at().Add(80 * day)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: s.name}, NotBefore: s.from, NotAfter: s.to,
		BasicConstraintsValid: true, IsCA: s.ca, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if s.ca {
		template.KeyUsage |= x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	} else {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		template.DNSNames = s.names
		if s.names == nil {
			template.DNSNames = []string{host}
		}
		if s.crl != "" {
			template.CRLDistributionPoints = []string{s.crl}
		}
	}
	parent, signer := template, s.key
	if s.by != nil {
		parent, signer = s.by.cert, s.by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, s.key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &pair{cert, s.key}
}

func ecKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t testing.TB, bits int) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// pki is a root with one intermediate.
type pki struct{ root, middle *pair }

func newPKI(t testing.TB) pki {
	t.Helper()
	root := certify(t, spec{name: "Test Root", ca: true, from: at().Add(-1000 * day), to: at().Add(3000 * day)})
	middle := certify(t, spec{name: "Test R1", ca: true, by: root, from: at().Add(-500 * day), to: at().Add(800 * day)})
	return pki{root, middle}
}

func (p pki) roots() *x509.CertPool { return pool(p.root.cert) }

// leaf makes a leaf of the intermediate.
func (p pki) leaf(t testing.TB, s spec) *pair {
	t.Helper()
	s.by, s.name = p.middle, host
	return certify(t, s)
}

func pool(certs ...*x509.Certificate) *x509.CertPool {
	out := x509.NewCertPool()
	for _, c := range certs {
		out.AddCert(c)
	}
	return out
}

// pemOf writes certificates one after the other.
func pemOf(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func keyPEM(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// needOpenSSL returns openssl's path.
func needOpenSSL(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	testenv.Need(t, err == nil, "the program openssl", "apt-get install openssl")
	return path
}

// sha1Leaf makes a leaf that is signed with SHA-1, which Go refuses to make.
func sha1Leaf(t testing.TB, by *pair) *pair {
	t.Helper()
	openssl, dir := needOpenSSL(t), t.TempDir()
	file := func(name string, body []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := rsaKey(t, 2048)
	ca, caKey, leafKey := file("ca.pem", pemOf(by.cert)), file("ca.key", keyPEM(t, by.key)), file("leaf.key", keyPEM(t, key))
	ext := file("ext", []byte("subjectAltName=DNS:"+host+"\nextendedKeyUsage=serverAuth\n"))
	csr, out := filepath.Join(dir, "csr"), filepath.Join(dir, "leaf.pem")
	for _, args := range [][]string{
		{"req", "-new", "-key", leafKey, "-subj", "/CN=" + host, "-out", csr},
		{"x509", "-req", "-in", csr, "-CA", ca, "-CAkey", caKey, "-sha1", "-days", "3000", "-set_serial", "77", "-extfile", ext, "-out", out},
	} {
		if text, err := exec.Command(openssl, args...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, text)
		}
	}
	body, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := ParsePEM(body)
	if err != nil || len(certs) != 1 {
		t.Fatal(certs, err)
	}
	return &pair{certs[0], key}
}
