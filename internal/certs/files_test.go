package certs

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func writeFile(t testing.TB, name string, body []byte, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, body, mode); err != nil {
		t.Fatal(err)
	}
}

// addVersion adds a renewal to a lineage and points the links to it.
func addVersion(t testing.TB, dir string, n int, leaf *pair, rest ...*pair) {
	t.Helper()
	all := certsOf(leaf, rest...)
	for kind, body := range map[string][]byte{
		"cert": pemOf(all[0]), "chain": pemOf(all[1:]...), "fullchain": pemOf(all...), "privkey": keyPEM(t, leaf.key),
	} {
		name := fmt.Sprintf("%s%d.pem", kind, n)
		mode := fs.FileMode(0o644)
		if kind == "privkey" {
			mode = 0o600
		}
		writeFile(t, filepath.Join(dir, "archive", host, name), body, mode)
		link := filepath.Join(dir, "live", host, kind+".pem")
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(link)
		if err := os.Symlink("../../archive/"+host+"/"+name, link); err != nil {
			t.Fatal(err)
		}
	}
}

// asTar serves a directory as the engine's archive call does.
func asTar(t testing.TB, root string) TarFiles {
	return TarFiles{Dir: "/etc/letsencrypt", Open: func(_ context.Context, dir string) (io.ReadCloser, error) {
		sub := strings.TrimPrefix(dir, "/etc/letsencrypt/")
		if _, err := os.Stat(filepath.Join(root, sub)); err != nil {
			return nil, err
		}
		out, err := exec.Command("tar", "-C", root, "-c", sub).Output()
		return io.NopCloser(bytes.NewReader(out)), err
	}}
}

func TestLineages(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	leaf := p.leaf(t, spec{})
	other := p.leaf(t, spec{})
	live := func(dir, name string) string { return filepath.Join(dir, "live", host, name) }
	archived := func(dir, name string) string { return filepath.Join(dir, "archive", host, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		break_ func(dir string)
		want   []string
		says   string
	}{
		{"whole", func(string) {}, nil, ""},
		{"renewed once", func(dir string) { addVersion(t, dir, 2, other, p.middle) }, nil, ""},
		{"key of another", func(dir string) { writeFile(t, archived(dir, "privkey1.pem"), keyPEM(t, other.key), 0o600) }, []string{CodeKeyMismatch}, "not the key"},
		{"key that cannot be read", func(dir string) {
			writeFile(t, archived(dir, "privkey1.pem"), []byte("-----BEGIN PRIVATE KEY-----\nTU9PTg==\n-----END PRIVATE KEY-----\n"), 0o600)
		}, []string{CodeKeyMismatch}, "no key that can be read"},
		{"key for everybody", func(dir string) { must(os.Chmod(archived(dir, "privkey1.pem"), 0o644)) }, []string{CodeKeyPermissions}, "archive/escrow.test/privkey1.pem (mode 0644)"},
		{"link to nothing", func(dir string) { must(os.Remove(archived(dir, "chain1.pem"))) }, []string{CodeBrokenLink}, "points to ../../archive/escrow.test/chain1.pem, which is not there"},
		{"link is gone", func(dir string) { must(os.Remove(live(dir, "cert.pem"))) }, []string{CodeBrokenLink}, "live/escrow.test/cert.pem is missing"},
		{"file in place of a link", func(dir string) {
			must(os.Remove(live(dir, "cert.pem")))
			writeFile(t, live(dir, "cert.pem"), pemOf(leaf.cert), 0o644)
		}, []string{CodeBrokenLink}, "no symbolic link: certbot refuses"},
		{"links of two versions", func(dir string) {
			addVersion(t, dir, 2, leaf, p.middle)
			must(os.Remove(live(dir, "privkey.pem")))
			must(os.Symlink("../../archive/"+host+"/privkey1.pem", live(dir, "privkey.pem")))
		}, []string{CodeBrokenLink}, "do not belong together"},
		{"renewal configuration missing", func(dir string) { must(os.Remove(filepath.Join(dir, "renewal", host+".conf"))) }, []string{CodeNoRenewalConf}, "certbot will never renew it"},
		{"not a certificate", func(dir string) { writeFile(t, archived(dir, "fullchain1.pem"), []byte("nothing"), 0o644) }, []string{CodeNoCertificate}, "fullchain.pem: it holds no certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := certbotDir(t, leaf, p.middle)
			tt.break_(dir)
			for kind, files := range map[string]Files{"host": HostFiles(dir), "container": asTar(t, dir)} {
				read, err := files.Read(t.Context())
				if err != nil {
					t.Fatal(kind, err)
				}
				all := Lineages(read)
				if len(all) != 1 || all[0].Name != host {
					t.Fatalf("%s: lineages %+v", kind, all)
				}
				if got := codes(all[0].Faults); !slices.Equal(got, tt.want) {
					t.Fatalf("%s: faults %+v, want %v", kind, all[0].Faults, tt.want)
				}
				if len(tt.want) > 0 && !strings.Contains(all[0].Faults[0].Text, tt.says) {
					t.Errorf("%s: it says %q, not %q", kind, all[0].Faults[0].Text, tt.says)
				}
				if tt.want == nil && (all[0].Server != "https://ca.test/dir" || all[0].Leaf() == nil) {
					t.Errorf("%s: server %q, leaf %v", kind, all[0].Server, all[0].Leaf())
				}
			}
		})
	}
	t.Run("empty", func(t *testing.T) {
		for _, files := range []Files{HostFiles(t.TempDir()), asTar(t, t.TempDir())} {
			if read, err := files.Read(t.Context()); err != nil || len(Lineages(read)) != 0 {
				t.Errorf("%v, error %v", read, err)
			}
		}
	})
}

// TestUntarDamaged: half a stream is no empty directory.
func TestUntarDamaged(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "live/x", Size: 5000, Mode: 0o600, Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 5000)); err != nil {
		t.Fatal(err)
	}
	if files, err := untar(bytes.NewReader(b.Bytes()[:2000])); err == nil {
		t.Errorf("half a stream read as %d files", len(files))
	}
}
