package certs

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// errNoPEM is a file without a certificate.
var errNoPEM = errors.New("it holds no certificate in PEM form")

// ParsePEM reads the certificates of a PEM file, in order. Other blocks, keys
// say, are passed over; one that is damaged is an error.
func ParsePEM(body []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, body = pem.Decode(body); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return out, fmt.Errorf("certificate %d: %w", len(out)+1, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errNoPEM
	}
	return out, nil
}
