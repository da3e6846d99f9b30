package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	// servedWithin is how long after a reload the new certificate may take to be
	// served everywhere; nginx needs well under a second.
	servedWithin = 30 * time.Second
	servedPause  = 300 * time.Millisecond
	// nginxLimit bounds nginx -t and nginx -s reload.
	nginxLimit = 30 * time.Second
)

// errNotServed is a certificate that is on the disk and not in the handshakes.
var errNotServed = errors.New("not served")

// reload makes nginx read the certificate, and watches until every address
// serves it. A configuration that nginx refuses is not loaded: then the old one
// is left running, and nginx's own message is the error.
func (o RenewOptions) reload(ctx context.Context, want *x509.Certificate) error {
	if o.Nginx == nil {
		return fmt.Errorf("%w: nothing to reload: there is neither a container of nginx's service nor an nginx on this host", errNotServed)
	}
	for _, args := range [][]string{{"-t"}, {"-s", "reload"}} {
		if err := o.nginx(ctx, args); err != nil {
			return err
		}
	}
	return o.watch(ctx, want)
}

func (o RenewOptions) nginx(ctx context.Context, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, nginxLimit)
	defer cancel()
	words := "nginx " + strings.Join(args, " ")
	out := &capped{}
	code, err := o.Nginx.Run(ctx, args, out)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", words, err)
	case code == 0:
		return nil
	case args[0] == "-t":
		return fmt.Errorf("nginx refuses its configuration, and the old one, with the old certificate, is left running: %s: correct it, then escrowctl certs renew", nginxSays(out.String()))
	}
	return fmt.Errorf("%s ended with %d: %s", words, code, nginxSays(out.String()))
}

// nginxSays picks nginx's reason out of its output.
func nginxSays(output string) string {
	last := "it said nothing"
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "[emerg]") || strings.Contains(line, "[error]") || strings.Contains(line, "[alert]") {
			return line
		}
		if line != "" {
			last = line
		}
	}
	return last
}

// watch makes handshakes until every address serves the certificate, twice in a
// row: for a moment the workers of before answer too.
func (o RenewOptions) watch(ctx context.Context, want *x509.Certificate) error {
	limit := o.Patience
	if limit <= 0 {
		limit = servedWithin
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	inARow := 0
	for {
		served, err := o.Check.Network.Probe(ctx, o.Check.Host, o.Check.Port, o.Check.Addresses)
		why := stale(served, err, want)
		if why == "" {
			if inARow++; inARow == 2 {
				return nil
			}
		} else {
			inARow = 0
		}
		select {
		case <-time.After(servedPause):
			continue
		case <-ctx.Done():
		}
		if why == "" {
			continue // once seen, and no time for the second look: ctx makes it fail
		}
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return context.Cause(ctx)
		}
		return fmt.Errorf("%w within %s of the reload: %s: see nginx's error log, and whether it reads certbot's live directory", errNotServed, limit, why)
	}
}

// stale says which address does not serve the certificate; "" if all do.
func stale(served []Served, err error, want *x509.Certificate) string {
	if err != nil {
		return err.Error()
	}
	var why []string
	seen := 0
	for _, s := range served {
		switch {
		case s.NoRoute:
		case s.Err != nil:
			why = append(why, fmt.Sprintf("%s: %v", s.Address, s.Err))
		case !s.Chain[0].Equal(want):
			why = append(why, fmt.Sprintf("%s serves serial %s until %s", s.Address, Serial(s.Chain[0].SerialNumber), stamp(s.Chain[0].NotAfter)))
		default:
			seen++
		}
	}
	if seen == 0 && len(why) == 0 {
		return "no address could be asked"
	}
	return strings.Join(why, "; ")
}
