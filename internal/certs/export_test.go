package certs

import (
	"context"
	"crypto/x509"
)

// ReloadForTest is the reload of a renewal, alone.
func ReloadForTest(ctx context.Context, o RenewOptions, want *x509.Certificate) error {
	return o.reload(ctx, want)
}
