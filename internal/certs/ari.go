package certs

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	askLimit  = 5 * time.Second // of one question to the CA, its directory included
	maxAnswer = 64 << 10        // bytes of an answer in JSON
)

// errNoARI is a CA that gives no renewal information.
var errNoARI = errors.New("the CA offers no renewal information (ARI)")

// AskWindow asks the CA, whose ACME directory is given, when it suggests to
// renew the certificate (RFC 9773).
func AskWindow(ctx context.Context, client *http.Client, directory string, leaf *x509.Certificate) (*Window, error) {
	id, err := ariID(leaf)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	var dir struct {
		RenewalInfo string `json:"renewalInfo"`
	}
	if err := getJSON(ctx, client, directory, &dir); err != nil {
		return nil, err
	}
	if dir.RenewalInfo == "" {
		return nil, errNoARI
	}
	var info struct {
		Suggested struct {
			Start time.Time `json:"start"`
			End   time.Time `json:"end"`
		} `json:"suggestedWindow"`
		Explanation string `json:"explanationURL"`
	}
	if err := getJSON(ctx, client, strings.TrimRight(dir.RenewalInfo, "/")+"/"+id, &info); err != nil {
		return nil, err
	}
	w := &Window{Start: info.Suggested.Start, End: info.Suggested.End, Explanation: info.Explanation}
	if w.Start.IsZero() || !w.End.After(w.Start) {
		return nil, fmt.Errorf("the CA's renewal information has no sensible window (%s to %s)", stamp(w.Start), stamp(w.End))
	}
	return w, nil
}

// ariID names a certificate to its CA: the issuer's key identifier and the
// serial number's DER bytes (RFC 9773, section 4.1).
func ariID(leaf *x509.Certificate) (string, error) {
	if len(leaf.AuthorityKeyId) == 0 {
		return "", errors.New("the certificate has no authority key identifier, so that the CA cannot be asked about it")
	}
	serial := leaf.SerialNumber.Bytes()
	if len(serial) == 0 || serial[0]&0x80 != 0 {
		serial = append([]byte{0}, serial...)
	}
	enc := base64.RawURLEncoding
	return enc.EncodeToString(leaf.AuthorityKeyId) + "." + enc.EncodeToString(serial), nil
}

func getJSON(ctx context.Context, client *http.Client, url string, into any) error {
	body, err := get(ctx, client, url, maxAnswer)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: not the JSON that was expected: %w", url, err)
	}
	return nil
}

// get fetches a document of at most limit bytes.
func get(ctx context.Context, client *http.Client, url string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "escrowctl")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err // names the URL
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: HTTP %s", url, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", url, limit)
	}
	return body, nil
}
