package certs

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	maxCRL = 32 << 20 // bytes; CAs with shards stay far below
	// crlFresh is how long a good answer is taken as it is; a revocation is for
	// ever.
	crlFresh = time.Hour
	crlKept  = 100
	crlDoc   = "certs-crl"
)

// Documents keeps small documents between runs, as the state directory does.
type Documents interface {
	Load(name string, v any) (found bool, err error)
	Save(name string, v any) error
}

// crlAnswer is what a CRL said of one certificate.
type crlAnswer struct {
	Asked   time.Time `json:"asked"`
	Next    time.Time `json:"next_update"`
	Revoked time.Time `json:"revoked,omitzero"`
	Reason  int       `json:"reason,omitempty"`
}

// Revocation is what became of asking for a certificate's revocation.
type Revocation struct {
	Asked   bool      // its CA publishes a list, and it was read, now or lately
	Revoked time.Time // zero: not listed
	Reason  string
	Note    string // why it was not asked, or what was odd
}

// crls asks revocation lists, each at most once in an hour.
type crls struct {
	client *http.Client
	docs   Documents // nil: nothing is kept
	now    time.Time
}

// check looks for leaf in the lists that it names. issuer signs them. A list
// that cannot be had is said, and is no fault of the certificate's.
func (c crls) check(ctx context.Context, leaf, issuer *x509.Certificate) Revocation {
	var urls []string
	for _, u := range leaf.CRLDistributionPoints {
		if strings.HasPrefix(u, "http://") || strings.HasPrefix(u, "https://") {
			urls = append(urls, u)
		}
	}
	switch {
	case len(urls) == 0:
		return Revocation{Note: "the certificate names no revocation list"}
	case issuer == nil:
		return Revocation{Note: "revocation was not asked: the issuer is not known"}
	case c.client == nil:
		return Revocation{Note: "revocation was not asked"}
	}
	var last error
	for _, u := range urls {
		answer, err := c.ask(ctx, u, leaf, issuer)
		if err == nil {
			return answer
		}
		last = err
	}
	return Revocation{Note: "the revocation list could not be read: " + last.Error()}
}

func (c crls) ask(ctx context.Context, url string, leaf, issuer *x509.Certificate) (Revocation, error) {
	key := url + " " + Serial(leaf.SerialNumber)
	kept := c.load()
	before, had := kept[key]
	if had && (!before.Revoked.IsZero() || c.now.Sub(before.Asked) < crlFresh && c.now.Before(before.Next)) {
		return before.revocation(), nil
	}
	answer, err := c.fetch(ctx, url, leaf, issuer)
	if err != nil {
		if had && c.now.Before(before.Next) {
			r := before.revocation()
			r.Note = fmt.Sprintf("the revocation list could not be read now; as of %s it did not list the certificate", stamp(before.Asked))
			return r, nil
		}
		return Revocation{}, err
	}
	kept[key] = answer
	c.save(kept)
	return answer.revocation(), nil
}

func (c crls) fetch(ctx context.Context, url string, leaf, issuer *x509.Certificate) (crlAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	body, err := get(ctx, c.client, url, maxCRL)
	if err != nil {
		return crlAnswer{}, err
	}
	list, err := x509.ParseRevocationList(body)
	if err != nil {
		return crlAnswer{}, fmt.Errorf("%s: %w", url, err)
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		return crlAnswer{}, fmt.Errorf("%s: not signed by %s: %w", url, subject(issuer), err)
	}
	if c.now.After(list.NextUpdate) {
		return crlAnswer{}, fmt.Errorf("%s: out of date since %s", url, stamp(list.NextUpdate))
	}
	answer := crlAnswer{Asked: c.now, Next: list.NextUpdate}
	for _, entry := range list.RevokedCertificateEntries {
		if entry.SerialNumber.Cmp(leaf.SerialNumber) == 0 {
			answer.Revoked, answer.Reason = entry.RevocationTime, entry.ReasonCode
		}
	}
	return answer, nil
}

func (a crlAnswer) revocation() Revocation {
	r := Revocation{Asked: true, Revoked: a.Revoked}
	if !a.Revoked.IsZero() {
		r.Reason = crlReason(a.Reason)
	}
	return r
}

// crlReason words the reasons of RFC 5280, section 5.3.1.
func crlReason(code int) string {
	words := map[int]string{0: "unspecified", 1: "key compromise", 2: "CA compromise", 3: "affiliation changed", 4: "superseded", 5: "cessation of operation", 9: "privilege withdrawn"}
	if word, ok := words[code]; ok {
		return word
	}
	return fmt.Sprintf("reason %d", code)
}

func (c crls) load() map[string]crlAnswer {
	kept := map[string]crlAnswer{}
	if c.docs != nil {
		if _, err := c.docs.Load(crlDoc, &kept); err != nil || kept == nil {
			return map[string]crlAnswer{} // a cache: what it held is asked again
		}
	}
	return kept
}

func (c crls) save(kept map[string]crlAnswer) {
	if c.docs == nil {
		return
	}
	for key, a := range kept {
		if a.Revoked.IsZero() && (len(kept) > crlKept || c.now.After(a.Next)) {
			delete(kept, key)
		}
	}
	_ = c.docs.Save(crlDoc, kept) // a cache
}
