package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
)

// Options are what a check needs to know and to use. Host and Port, or File, are
// a must; the rest may be zero.
type Options struct {
	Host string
	Port string
	File string // judged instead of a host

	Addresses []string       // "address:port" to connect to, instead of the host's own
	Roots     *x509.CertPool // nil: the system's
	Network   Network
	// Files are certbot's; nil if they are not to be looked at, and FilesWhy
	// says why.
	Files    Files
	FilesWhy string
	// FilesMust says that certbot's files are where the host's certificate is
	// renewed: that they cannot be read, or lack it, is then a warning.
	FilesMust bool
	// HTTP asks the CA for renewal information and revocation; nil asks neither.
	HTTP *http.Client
	Docs Documents // history and cache; nil: none
	Over Overrides
	Now  func() time.Time
}

// Check finds out how it stands with one certificate. It always returns a
// report: what could not be found out stands in it.
func Check(ctx context.Context, o Options) *Report {
	r := &Report{Target: net.JoinHostPort(o.Host, o.Port), Domain: o.Host, Checked: o.Now()}
	if o.File != "" {
		r.Target, r.Domain = o.File, ""
		r.readFile(o)
	} else {
		r.look(ctx, o)
	}
	if r.Leaf == nil && r.Verdict == "" {
		r.Leaf = r.Disk.Leaf()
	}
	r.judge(ctx, o)
	r.conclude()
	return r
}

// look probes the host and reads the disk, at once.
func (r *Report) look(ctx context.Context, o Options) {
	var wg sync.WaitGroup
	var lineages []*Lineage
	var filesErr, probeErr error
	wg.Go(func() { r.Served, probeErr = o.Network.Probe(ctx, o.Host, o.Port, o.Addresses) })
	if o.Files != nil {
		wg.Go(func() {
			files, err := o.Files.Read(ctx)
			lineages, filesErr = Lineages(files), err
		})
	}
	wg.Wait()
	r.reached(probeErr)
	switch {
	case o.Files == nil && o.FilesWhy != "":
		r.noFiles(o, "see certs.via and certs.service", "certbot's files were not looked at: %s", o.FilesWhy)
	case filesErr != nil:
		r.noFiles(o, "run it as one who may read them, or see certs.dir", "certbot's files could not be read: %v", filesErr)
	case o.Files != nil:
		if r.Disk = lineageFor(lineages, o.Host); r.Disk == nil {
			r.noFiles(o, "issue it there with certbot certonly, or it will not be renewed", "certbot has no certificate for %s (it has: %s)", o.Host, lineageNames(lineages))
		}
	}
}

// noFiles is what could not be seen on the disk.
func (r *Report) noFiles(o Options, action, format string, args ...any) {
	if !o.FilesMust {
		r.note(format, args...)
		return
	}
	r.fault(CodeNoFiles, check.Warning, action, format, args...)
}

func lineageNames(all []*Lineage) string {
	var names []string
	for _, l := range all {
		names = append(names, l.Name)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// reached sorts what was not reached into faults and notes.
func (r *Report) reached(err error) {
	if err != nil {
		r.fault(CodeUnreachable, check.Unknown, "check the name and this host's resolver, or name the address with --address (certs.address)", "%v", err)
		return
	}
	answered := slices.ContainsFunc(r.Served, func(s Served) bool { return s.Err == nil })
	for _, s := range r.Served {
		switch {
		case s.Err == nil:
		case s.NoRoute && answered:
			r.note("%s was not checked: this host has no route to it", s.Address)
		case s.NoRoute:
			r.fault(CodeUnreachable, check.Unknown, "check from a host with a route there", "%s: no route: %v", s.Address, s.Err)
		case errors.Is(s.Err, syscall.ECONNREFUSED), strings.Contains(s.Err.Error(), "TLS handshake"):
			r.fault(CodeUnreachable, check.Critical, "see whether nginx runs and listens there: docker compose ps nginx, docker compose logs nginx", "%s serves no TLS: %v", s.Address, s.Err)
		default:
			r.fault(CodeUnreachable, check.Unknown, "check the network between here and there", "%s does not answer: %v", s.Address, s.Err)
		}
	}
}

func (r *Report) fault(code string, status check.Status, action, format string, args ...any) {
	r.Faults = append(r.Faults, Fault{code, status, fmt.Sprintf(format, args...), action})
}

// readFile takes the chain from a file in place of a server.
func (r *Report) readFile(o Options) {
	body, err := os.ReadFile(o.File)
	if err == nil {
		var chain []*x509.Certificate
		if chain, err = ParsePEM(body); err == nil {
			r.Served = []Served{{Address: o.File, Chain: chain}}
			return
		}
	}
	r.fault(CodeUnreachable, check.Unknown, "name a file with a certificate in PEM form, as fullchain.pem", "%s: %v", o.File, err)
}

// judge judges every chain there is, and takes the one that ends first for the
// host's.
func (r *Report) judge(ctx context.Context, o Options) {
	var names []string
	if r.Domain != "" {
		names = []string{r.Domain}
	}
	trust := Trust{Roots: o.Roots, Names: names, Now: r.Checked}
	var path []*x509.Certificate
	take := func(chain []*x509.Certificate, j Judgement) {
		if r.Leaf == nil || j.Expiry.Before(r.Expiry) {
			r.Leaf, r.Expiry, r.EndsFirst, path = chain[0], j.Expiry, j.EndsFirst, j.Path
		}
	}
	r.Leaf = nil
	told := map[string]bool{}
	for _, s := range r.Served {
		if s.Err != nil {
			continue
		}
		j := Judge(s.Chain, trust)
		take(s.Chain, j)
		if s.Weak != "" {
			j.Faults = append(j.Faults, Fault{CodeWeakProtocol, check.Warning, "it also speaks " + s.Weak, "set ssl_protocols TLSv1.2 TLSv1.3; in nginx.conf"})
		}
		for _, f := range j.Faults {
			if !told[f.Code+f.Text] { // each once, not for every address
				r.Faults = append(r.Faults, f)
			}
			told[f.Code+f.Text] = true
		}
	}
	if disk := r.Disk.Leaf(); disk != nil && r.Leaf == nil {
		take(r.Disk.Chain, Judge(r.Disk.Chain, trust))
	}
	if r.Disk != nil {
		r.Faults = append(r.Faults, r.Disk.Faults...)
	}
	if r.Leaf == nil {
		return
	}
	r.askCA(ctx, o, path)
	r.compare()
	r.measure(o)
}

// askCA asks for revocation and renewal information, at once.
func (r *Report) askCA(ctx context.Context, o Options, path []*x509.Certificate) {
	if o.HTTP == nil {
		return
	}
	var issuer *x509.Certificate
	if len(path) > 1 {
		issuer = path[1]
	}
	var wg sync.WaitGroup
	var revoked Revocation
	var windowErr error
	wg.Go(func() { revoked = crls{o.HTTP, o.Docs, r.Checked}.check(ctx, r.Leaf, issuer) })
	if r.Disk != nil && r.Disk.Server != "" {
		wg.Go(func() { r.Window, windowErr = AskWindow(ctx, o.HTTP, r.Disk.Server, r.Leaf) })
	}
	wg.Wait()
	if !revoked.Revoked.IsZero() {
		r.fault(CodeRevoked, check.Critical, "issue a new one with a new key: escrowctl certs renew --force", "it was revoked at %s (%s)", stamp(revoked.Revoked), revoked.Reason)
	}
	if revoked.Note != "" {
		r.note("%s", revoked.Note)
	}
	if windowErr != nil {
		r.note("no renewal information: %v", windowErr)
	}
}

// compare holds what is served against the other addresses and the disk.
func (r *Report) compare() {
	disk := r.Disk.Leaf()
	prints := map[string][]string{}
	var old, other []string
	for _, s := range r.Served {
		if s.Err != nil {
			continue
		}
		prints[Fingerprint(s.Chain[0])] = append(prints[Fingerprint(s.Chain[0])], s.Address)
		switch {
		case disk == nil || disk.Equal(s.Chain[0]):
		case disk.NotBefore.After(s.Chain[0].NotBefore) || r.Checked.After(s.Chain[0].NotAfter) && r.Checked.Before(disk.NotAfter):
			old = append(old, s.Address)
		default:
			other = append(other, s.Address)
		}
	}
	if len(prints) > 1 {
		r.fault(CodeAddressesVary, check.Warning, "bring all to the same certificate", "its addresses serve %d different certificates: %s", len(prints), differences(prints))
	}
	if len(old) > 0 {
		r.Verdict = VerdictNotReloaded
		r.note("the disk has serial %s of %s; %s still serves serial %s of %s", Serial(disk.SerialNumber), stamp(disk.NotBefore), strings.Join(old, ", "), Serial(r.Leaf.SerialNumber), stamp(r.Leaf.NotBefore))
	}
	if len(other) > 0 {
		r.fault(CodeOtherThanDisk, check.Warning, "see what ends TLS there: a proxy, or an nginx that reads other files", "%s serves another certificate than the one on the disk, and not an older one", strings.Join(other, ", "))
	}
}

func differences(prints map[string][]string) string {
	var parts []string
	for print, where := range prints {
		parts = append(parts, fmt.Sprintf("%s at %s", print[:16], strings.Join(where, ", ")))
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}

// measure applies the rule.
func (r *Report) measure(o Options) {
	r.Left = r.Expiry.Sub(r.Checked)
	r.Rule = NewRule(r.Leaf.NotBefore, r.Leaf.NotAfter, r.Expiry, r.Window, o.Over)
	all, err := loadAttempts(o.Docs)
	if err != nil {
		r.note("the history of attempts could not be read: %v", err)
	}
	if r.Checked.After(r.Rule.Due) && r.Domain != "" {
		lineage := ""
		if r.Disk != nil {
			lineage = r.Disk.Name
		}
		r.Attempts, r.LastFailed = failedSince(all, lineage, r.Rule.Due)
	}
}
