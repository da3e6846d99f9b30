package certs

import (
	"archive/tar"
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
)

// FuzzParsePEM: what is taken for a chain reads the same when it is written
// anew, and is never well without a root to trust.
func FuzzParsePEM(f *testing.F) {
	p := newPKI(f)
	leaf := p.leaf(f, spec{})
	f.Add(pemOf(certsOf(leaf, p.middle)...), at().Unix())
	f.Add(pemOf(certify(f, spec{name: host, ca: true}).cert), at().Unix())
	f.Add(append(keyPEM(f, leaf.key), pemOf(leaf.cert)...), at().Add(200*day).Unix())
	f.Add(pemOf(backwards(f)), at().Unix())
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), int64(0))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nA: b\n\n-----END CERTIFICATE-----\n\x1b"), int64(-1<<62))
	f.Fuzz(func(t *testing.T, body []byte, now int64) {
		chain, err := ParsePEM(body)
		if err != nil {
			if text := err.Error(); len(text) > 500 || strings.ContainsAny(text, "\x1b\x00\n") {
				t.Errorf("error %q", text)
			}
			return
		}
		again, err := ParsePEM(pemOf(chain...))
		if err != nil || !slices.EqualFunc(chain, again, (*x509.Certificate).Equal) {
			t.Fatalf("written anew it has %d certificates, not %d: %v", len(again), len(chain), err)
		}
		j := Judge(chain, Trust{Roots: x509.NewCertPool(), Names: []string{host}, Now: time.Unix(now, 0)})
		if len(j.Faults) == 0 || j.Path != nil {
			t.Errorf("well without a root: %+v", j)
		}
		for _, fault := range j.Faults {
			if fault.Code == "" || fault.Text == "" || fault.Status == check.OK {
				t.Errorf("a fault that says nothing: %+v", fault)
			}
		}
		r := NewRule(chain[0].NotBefore, chain[0].NotAfter, j.Expiry, nil, Overrides{})
		if stage, status := r.Stage(r.Expiry, 0); stage != Ended || status != check.Critical {
			t.Errorf("at its end it is %v, %v", stage, status)
		}
		if r.String() == "" {
			t.Error("a rule without words")
		}
	})
}

// FuzzLineages: files in which nothing is found amiss are a certificate and key
// that a server starts with.
func FuzzLineages(f *testing.F) {
	p := newPKI(f)
	leaf, other := p.leaf(f, spec{}), p.leaf(f, spec{})
	chain := pemOf(certsOf(leaf, p.middle)...)
	f.Add(pemOf(leaf.cert), chain, keyPEM(f, leaf.key), "server = https://ca.test/directory\n", "../../archive/"+host+"/privkey1.pem")
	f.Add(pemOf(leaf.cert), chain, keyPEM(f, other.key), "", "/etc/letsencrypt/archive/"+host+"/privkey1.pem")
	f.Add(pemOf(other.cert), chain, append([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"), keyPEM(f, leaf.key)...), "server=", "privkey1.pem")
	f.Add([]byte("x"), []byte{}, []byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"), "\x00=", "../privkey.pem")
	f.Fuzz(func(t *testing.T, cert, chain, key []byte, conf, link string) {
		stream := certbotTar(t, link, map[string][]byte{
			"archive/" + host + "/cert1.pem": cert, "archive/" + host + "/chain1.pem": chain, "archive/" + host + "/fullchain1.pem": chain,
			"archive/" + host + "/privkey1.pem": key, "renewal/" + host + ".conf": []byte(conf),
		})
		files, err := untar(stream)
		if err != nil {
			t.Skip(err) // a link that a tar file cannot have
		}
		all := Lineages(files)
		if len(all) != 1 || all[0].Name != host {
			t.Fatalf("lineages %+v", all)
		}
		l := all[0]
		if strings.Contains(l.Server, "\n") {
			t.Errorf("server %q", l.Server)
		}
		if l.Leaf() == nil && len(l.Faults) == 0 {
			t.Error("no certificate, and nothing is amiss")
		}
		if _, err := tls.X509KeyPair(chain, key); err != nil && len(l.Faults) == 0 && path.Base(link) == "privkey1.pem" {
			t.Errorf("nothing is amiss, where a server says %v", err)
		}
	})
}

// certbotTar is certbot's directory as a tar stream: the files and the four
// links to them, that of the key as given.
func certbotTar(t *testing.T, link string, files map[string][]byte) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h *tar.Header, body []byte) {
		h.Size, h.Mode = int64(len(body)), h.Mode|0o600
		if err := w.WriteHeader(h); err != nil {
			t.Skip(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	add(&tar.Header{Name: "live/" + host + "/", Typeflag: tar.TypeDir}, nil)
	for name, body := range files {
		add(&tar.Header{Name: name, Typeflag: tar.TypeReg}, body)
	}
	for _, kind := range []string{"cert", "chain", "fullchain"} {
		add(&tar.Header{Name: "live/" + host + "/" + kind + ".pem", Typeflag: tar.TypeSymlink, Linkname: "../../archive/" + host + "/" + kind + "1.pem"}, nil)
	}
	add(&tar.Header{Name: "live/" + host + "/privkey.pem", Typeflag: tar.TypeSymlink, Linkname: link}, nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// TestKeyBehindParameters: what OpenSSL writes before a key is no fault of it,
// and what is no key is none by any name.
func TestKeyBehindParameters(t *testing.T) {
	t.Parallel()
	leaf := newPKI(t).leaf(t, spec{})
	body := keyPEM(t, leaf.key)
	parameters := []byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n")
	if public, err := publicOf(append(parameters, body...)); err != nil || !leaf.cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(public) {
		t.Errorf("%v, %v", public, err)
	}
	block, _ := pem.Decode(body)
	block.Type = "CERTIFICATE"
	if _, err := publicOf(pem.EncodeToMemory(block)); err == nil {
		t.Error("a key that is called a certificate is taken, and no server would")
	}
}

// TestEndlessTar: a container that has files without end is given up.
func TestEndlessTar(t *testing.T) {
	t.Parallel()
	var one bytes.Buffer
	if err := tar.NewWriter(&one).WriteHeader(&tar.Header{Name: "live/x", Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	read := int64(0)
	_, err := untar(readerFunc(func(p []byte) (int, error) {
		if read > 1<<30 {
			return 0, io.ErrUnexpectedEOF
		}
		n := copy(p, one.Bytes()[read%512:512])
		read += int64(n)
		return n, nil
	}))
	if !errors.Is(err, errTooBig) {
		t.Errorf("after %d bytes: %v", read, err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// backwards is a certificate that ends as long before it begins as can be.
func backwards(t testing.TB) *x509.Certificate {
	return certify(t, spec{name: host, from: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), to: time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)}).cert
}

// TestBackwards: so long a time can be said.
func TestBackwards(t *testing.T) {
	t.Parallel()
	c := backwards(t)
	r := NewRule(c.NotBefore, c.NotAfter, c.NotAfter, nil, Overrides{})
	if text := r.String(); !strings.HasPrefix(text, "lifetime -106752 d") {
		t.Errorf("%s", text)
	}
}
