package health

import (
	"context"
	"sync"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
)

// CertHost is a host whose certificate is looked at.
type CertHost struct {
	Name string
	// Check says how it stands with the certificate.
	Check func(ctx context.Context) check.Result
}

// CertsOptions say which hosts there are.
type CertsOptions struct {
	Hosts []CertHost
	Limit time.Duration
}

// CertsID is the check's ID.
const CertsID = "certs"

// Certs checks the certificates that the platform's hosts serve.
func Certs(opt CertsOptions) check.Probe {
	return check.Probe{ID: CertsID, Limit: orLimit(opt.Limit), Run: (&certsCheck{opt}).run}
}

type certsCheck struct{ CertsOptions }

func (x *certsCheck) run(ctx context.Context) check.Result {
	ctx, cancel := withMargin(ctx)
	defer cancel()
	if len(x.Hosts) == 0 {
		return check.Result{ID: CertsID, Status: check.Unknown, Summary: "no host to look at", Action: "set certs.domain (CERT_DOMAIN)"}
	}
	results := make([]check.Result, len(x.Hosts))
	var wg sync.WaitGroup
	for i, h := range x.Hosts {
		wg.Go(func() {
			results[i] = h.Check(ctx)
			results[i].ID = h.Name
		})
	}
	wg.Wait()
	worst := results[0]
	for _, r := range results[1:] {
		if r.Status > worst.Status {
			worst = r
		}
	}
	worst.ID = CertsID
	if len(results) > 1 {
		worst.Parts, worst.Figures, worst.Detail = results, nil, nil
	}
	return worst
}
