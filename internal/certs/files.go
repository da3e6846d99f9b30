package certs

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
)

// Files reads certbot's directory, usually /etc/letsencrypt: all that lies below
// live, archive and renewal. An empty or missing directory is no error.
type Files interface {
	Read(ctx context.Context) ([]File, error)
}

// File is one file of certbot's directory.
type File struct {
	Path string // below the directory, with slashes: live/example.org/cert.pem
	Mode fs.FileMode
	Link string // where a symbolic link points, as it is written
	Data []byte // of a regular file
}

// The parts of certbot's directory that matter.
const (
	liveDir    = "live"
	archiveDir = "archive"
	renewalDir = "renewal"
)

const (
	maxFile  = 1 << 20  // bytes of one file: certbot's have a few KiB
	maxFiles = 32 << 20 // bytes of all
	tarBlock = 512      // that each file takes of a tar stream at the least
)

// errTooBig is a directory that is hardly certbot's.
var errTooBig = errors.New("more than 32 MiB lie there: is it certbot's directory?")

// HostFiles are the files in a directory of this host.
type HostFiles string

// Read implements Files.
func (dir HostFiles) Read(ctx context.Context) ([]File, error) {
	var out []File
	total := int64(0)
	for _, sub := range []string{liveDir, archiveDir, renewalDir} {
		root := filepath.Join(string(dir), sub)
		err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(string(dir), name)
			if err != nil {
				return err
			}
			f := File{Path: filepath.ToSlash(rel), Mode: info.Mode()}
			switch {
			case info.Mode()&fs.ModeSymlink != 0:
				f.Link, err = os.Readlink(name)
			case info.Mode().IsRegular() && info.Size() <= maxFile:
				f.Data, err = os.ReadFile(name)
			}
			if total += int64(len(f.Data)); total > maxFiles {
				return errTooBig
			}
			out = append(out, f)
			return errors.Join(err, ctx.Err())
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return out, nil
}

// TarFiles are the files in a container. Open returns a directory of it as a tar
// stream, of which the names begin with the directory's own last part.
type TarFiles struct {
	Dir  string
	Open func(ctx context.Context, dir string) (io.ReadCloser, error)
}

// readLimit bounds the reading of a container's files: there are few and small.
const readLimit = time.Minute

// Read implements Files.
func (t TarFiles) Read(ctx context.Context) ([]File, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readLimit, fmt.Errorf("not read within %s: does the docker engine answer?", readLimit))
	defer cancel()
	var out []File
	for _, sub := range []string{liveDir, archiveDir, renewalDir} {
		stream, err := t.Open(ctx, path.Join(t.Dir, sub))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files, err := untar(stream)
		_ = stream.Close()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path.Join(t.Dir, sub), err)
		}
		out = append(out, files...)
	}
	return out, nil
}

func untar(stream io.Reader) ([]File, error) {
	var out []File
	total := 0
	in := tar.NewReader(stream)
	for {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		f := File{Path: path.Clean(head.Name), Mode: head.FileInfo().Mode()}
		switch {
		case head.Typeflag == tar.TypeSymlink:
			f.Link = head.Linkname
		case head.Typeflag == tar.TypeReg && head.Size <= maxFile:
			if f.Data, err = io.ReadAll(in); err != nil {
				return nil, err
			}
		}
		// Names take room too, and of empty files there may be millions.
		if total += tarBlock + len(f.Path) + len(f.Link) + len(f.Data); total > maxFiles {
			return nil, errTooBig
		}
		out = append(out, f)
	}
}

// Lineage is one of certbot's certificates, through its renewals.
type Lineage struct {
	Name   string
	Chain  []*x509.Certificate // of fullchain.pem; empty if it cannot be read
	Server string              // the CA's directory, from the renewal configuration
	Faults []Fault
}

// Leaf is the certificate itself; nil if it cannot be read.
func (l *Lineage) Leaf() *x509.Certificate {
	if l == nil || len(l.Chain) == 0 {
		return nil
	}
	return l.Chain[0]
}

// Lineages finds the certificates among certbot's files, each with what is wrong
// with its files, by name.
func Lineages(files []File) []*Lineage {
	byPath := map[string]File{}
	var names []string
	for _, f := range files {
		byPath[f.Path] = f
		dir, name := path.Split(f.Path)
		switch {
		case dir == liveDir+"/" && f.Mode.IsDir():
			names = append(names, name)
		case dir == renewalDir+"/" && strings.HasSuffix(name, ".conf"):
			names = append(names, strings.TrimSuffix(name, ".conf"))
		}
	}
	slices.Sort(names)
	var out []*Lineage
	for _, name := range slices.Compact(names) {
		out = append(out, newLineage(name, byPath))
	}
	return out
}

func newLineage(name string, files map[string]File) *Lineage {
	l := &Lineage{Name: name}
	read := map[string][]byte{}
	var versions []string
	for _, kind := range []string{"cert", "chain", "fullchain", "privkey"} {
		target, version, ok := l.follow(kind, files)
		if !ok {
			continue
		}
		if version != "" {
			versions = append(versions, version)
		}
		read[kind] = target.Data
		if kind == "privkey" && target.Mode.Perm()&0o007 != 0 {
			l.fault(CodeKeyPermissions, check.Warning, "chmod 600 "+target.Path, "everybody may read its private key %s (mode %04o)", target.Path, target.Mode.Perm())
		}
	}
	slices.Sort(versions)
	if len(slices.Compact(versions)) > 1 {
		l.fault(CodeBrokenLink, check.Critical, "make the four links in live/"+name+" point to files of one number", "its links point to versions that do not belong together")
	}
	l.pair(read)
	conf, found := files[renewalDir+"/"+name+".conf"]
	if !found {
		l.fault(CodeNoRenewalConf, check.Critical, "issue it again with certbot certonly", "renewal/%s.conf is missing: certbot will never renew it", name)
	}
	l.Server = setting(conf.Data, "server")
	return l
}

func (l *Lineage) fault(code string, status check.Status, action, format string, args ...any) {
	l.Faults = append(l.Faults, Fault{code, status, fmt.Sprintf(format, args...), action})
}

var versionInName = regexp.MustCompile(`^[a-z]+([0-9]+)\.pem$`)

// follow goes from live/NAME/KIND.pem to the file that it means.
func (l *Lineage) follow(kind string, files map[string]File) (target File, version string, ok bool) {
	const remedy = "restore certbot's directory from a backup, or issue the certificate again with certbot certonly"
	name := path.Join(liveDir, l.Name, kind+".pem")
	link, found := files[name]
	if !found {
		l.fault(CodeBrokenLink, check.Critical, remedy, "%s is missing", name)
		return File{}, "", false
	}
	if link.Mode&fs.ModeSymlink == 0 {
		l.fault(CodeBrokenLink, check.Critical, remedy, "%s is no symbolic link: certbot refuses to renew it", name)
		return link, "", link.Data != nil
	}
	where := path.Join(path.Dir(name), link.Link)
	if path.IsAbs(link.Link) {
		// Absolute links go wrong when the directory is mounted elsewhere, but
		// within it they are as good.
		if _, rest, cut := strings.Cut(link.Link, "/"+archiveDir+"/"); cut {
			where = path.Join(archiveDir, rest)
		}
	}
	target, found = files[where]
	if !found || target.Data == nil {
		l.fault(CodeBrokenLink, check.Critical, remedy, "%s points to %s, which is not there", name, link.Link)
		return File{}, "", false
	}
	if m := versionInName.FindStringSubmatch(path.Base(where)); m != nil {
		version = m[1]
	}
	return target, version, true
}

// pair compares the certificate with its chain file and its key.
func (l *Lineage) pair(read map[string][]byte) {
	if body := read["fullchain"]; body != nil {
		chain, err := ParsePEM(body)
		if err != nil {
			l.fault(CodeNoCertificate, check.Critical, "issue it again with certbot certonly", "fullchain.pem: %v", err)
		}
		l.Chain = chain
	}
	leaf := l.Leaf()
	if leaf == nil {
		return
	}
	if body := read["cert"]; body != nil {
		if alone, err := ParsePEM(body); err != nil || !alone[0].Equal(leaf) {
			l.fault(CodeKeyMismatch, check.Critical, "issue it again with certbot certonly", "cert.pem is another certificate than fullchain.pem's")
		}
	}
	body := read["privkey"]
	if body == nil {
		return
	}
	public, err := publicOf(body)
	if err != nil {
		l.fault(CodeKeyMismatch, check.Critical, "issue it again with certbot certonly", "privkey.pem: %v", err)
		return
	}
	if have, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !have.Equal(public) {
		l.fault(CodeKeyMismatch, check.Critical, "issue it again with certbot certonly: nginx will not start with it", "privkey.pem is not the key of this certificate")
	}
}

// publicOf returns the public half of a private key in PEM form. No error holds
// any of the key.
func publicOf(body []byte) (crypto.PublicKey, error) {
	block := keyBlock(body)
	if block == nil {
		return nil, errors.New("it holds no key in PEM form")
	}
	var key any
	var err error
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, errors.New("it holds no key that can be read")
	}
	return signer.Public(), nil
}

// keyBlock is the first private key of a PEM file. What stands before it, the
// parameters of a curve say, a server passes over as well.
func keyBlock(body []byte) *pem.Block {
	for {
		var block *pem.Block
		block, body = pem.Decode(body)
		if block == nil || block.Type == "PRIVATE KEY" || strings.HasSuffix(block.Type, " PRIVATE KEY") {
			return block
		}
	}
}

// setting returns the value of a line "name = value".
func setting(conf []byte, name string) string {
	for line := range bytes.Lines(conf) {
		key, value, found := strings.Cut(string(line), "=")
		if found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// lineageFor returns the lineage that serves a name: the one called so if it
// covers it, else the newest that does; nil if there is none.
func lineageFor(all []*Lineage, name string) *Lineage {
	var best *Lineage
	for _, l := range all {
		leaf := l.Leaf()
		switch {
		case l.Name == name && (leaf == nil || leaf.VerifyHostname(name) == nil):
			return l
		case leaf == nil || leaf.VerifyHostname(name) != nil:
		case best == nil || leaf.NotBefore.After(best.Leaf().NotBefore):
			best = l
		}
	}
	return best
}
