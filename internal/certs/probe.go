package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// handshakeLimit bounds one handshake with one address, dialling included.
const handshakeLimit = 10 * time.Second

// Network is how hosts are found and reached; nil functions are the system's.
type Network struct {
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	Dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	Limit   time.Duration // of one handshake; 0 is 10 s
}

// Served is what one address answered.
type Served struct {
	Address string // address and port
	Chain   []*x509.Certificate
	Version string // of TLS, as "TLS 1.3"
	Weak    string // a version before TLS 1.2 that it takes as well; "" for none
	// Err is why there is no chain. NoRoute says that this host has no way to
	// addresses of the kind, which is no fault of the server's.
	Err     error
	NoRoute bool
}

// resolve returns every address of host, IPv4 first.
func (n Network) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	lookup := n.Resolve
	if lookup == nil {
		lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, n.limit())
	defer cancel()
	found, err := lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	slices.SortFunc(found, netip.Addr.Compare)
	return slices.Compact(found), nil
}

func (n Network) limit() time.Duration {
	if n.Limit > 0 {
		return n.Limit
	}
	return handshakeLimit
}

// Probe takes the chain of host from each of its addresses at once, or from the
// given ones ("address:port" each) in their place. The chain is taken as it is:
// nothing is verified here. An error is that no address is known.
func (n Network) Probe(ctx context.Context, host, port string, addresses []string) ([]Served, error) {
	if len(addresses) == 0 {
		found, err := n.resolve(ctx, host)
		if err != nil {
			return nil, fmt.Errorf("find the addresses of %s: %w", host, err)
		}
		for _, ip := range found {
			addresses = append(addresses, net.JoinHostPort(ip.String(), port))
		}
	}
	out := make([]Served, len(addresses))
	var wg sync.WaitGroup
	for i, addr := range addresses {
		wg.Go(func() { out[i] = n.one(ctx, host, addr) })
	}
	wg.Wait()
	return out, nil
}

func (n Network) one(ctx context.Context, host, addr string) Served {
	s := Served{Address: addr}
	s.Chain, s.Version, s.Err = n.handshake(ctx, addr, &tls.Config{ServerName: host, MinVersion: tls.VersionTLS10})
	if s.Err != nil {
		s.NoRoute = errors.Is(s.Err, syscall.ENETUNREACH) || errors.Is(s.Err, syscall.EAFNOSUPPORT) || errors.Is(s.Err, syscall.EADDRNOTAVAIL)
		return s
	}
	// What is asked for here no client should get; that it fails is the rule.
	old := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	for _, suites := range [][]*tls.CipherSuite{tls.CipherSuites(), tls.InsecureCipherSuites()} {
		for _, suite := range suites {
			old.CipherSuites = append(old.CipherSuites, suite.ID)
		}
	}
	if _, version, err := n.handshake(ctx, addr, old); err == nil {
		s.Weak = version
	}
	return s
}

// handshake returns the chain even if the server goes on to refuse us, for want
// of a client's certificate say.
func (n Network) handshake(ctx context.Context, addr string, conf *tls.Config) (chain []*x509.Certificate, version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, n.limit())
	defer cancel()
	dial := n.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	raw, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, "", err
	}
	defer raw.Close()
	conf.InsecureSkipVerify = true // an invalid chain is what we are here to see; Judge verifies it
	conf.VerifyConnection = func(state tls.ConnectionState) error {
		chain, version = state.PeerCertificates, tls.VersionName(state.Version)
		return nil
	}
	err = tls.Client(raw, conf).HandshakeContext(ctx)
	if len(chain) > 0 {
		return chain, version, nil
	}
	if err == nil {
		err = errors.New("the server sent no certificate")
	}
	return nil, "", fmt.Errorf("TLS handshake: %w", err)
}
