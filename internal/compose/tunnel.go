package compose

import (
	"bytes"
	"context"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"net"
	"path"
	"strconv"
	"strings"

	"github.com/moby/moby/client"
)

var (
	//go:embed scripts/tunnel.sh
	tunnelScript string
	//go:embed scripts/pump.pl
	pumpPerl string
	//go:embed scripts/pump.bash
	pumpBash string
)

// tunnelTools are the programs that can pump, best first: perl is in every Debian
// image, busybox with its netcat in every Alpine one; both pass a half-close on,
// bash cannot. Other netcats are no use: OpenBSD's waits for its standard input
// when the server has hung up, so that a crash of the server would go unseen.
const tunnelTools = "perl busybox bash"

// Endpoint is a server as the programs inside a container reach it.
type Endpoint struct {
	Network string // tcp or unix
	Address string // host name or address for tcp, the socket's path for unix
	Port    string
	Tool    string // what would pump: perl, busybox or bash
}

// Host is what PGHOST must be for it: a host, or a socket's directory.
func (e Endpoint) Host() string {
	if e.Network == "unix" {
		return path.Dir(e.Address)
	}
	return e.Address
}

// Find tells what network and addr (as for Dial) mean inside the service's
// container. Errors: ErrUnreachable, and those of Exec.
func (p *Project) Find(ctx context.Context, service, network, addr string) (Endpoint, error) {
	args, err := tunnelArgs("find", network, addr, tunnelTools)
	if err != nil {
		return Endpoint{}, err
	}
	var stderr bytes.Buffer
	code, err := p.Exec(ctx, service, Spec{Cmd: args, Stderr: &stderr})
	if err != nil {
		return Endpoint{}, err
	}
	_, line, ok := strings.Cut(stderr.String(), "escrowctl: ready ")
	if code != 0 || !ok {
		return Endpoint{}, unreachable(service, addr, stderr.String())
	}
	return parseReady(strings.Fields(line), addr)
}

// Dial returns a dialler of connections into the service's container: they end
// at addr as seen from inside it, carried by `docker exec`, so that the server
// need not publish a port. It fits pgx's DialFunc.
//
// A host name that the container does not resolve, such as the service's name
// on a container without it, means the container itself, unless it has a dot
// (another machine's). Where the address is the container's own and refuses,
// 127.0.0.1 and then PostgreSQL's usual Unix sockets are tried. Note that the
// official image's first start has a temporary server on that socket. network
// "unix" with a path goes to that socket only.
//
// ctx bounds the dialling alone. Errors: ErrUnreachable and those of Exec.
func (p *Project) Dial(service string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return p.dial(ctx, service, network, addr, tunnelTools)
	}
}

func (p *Project) dial(ctx context.Context, service, network, addr, tools string) (net.Conn, error) {
	c, err := p.running(ctx, service)
	if err != nil {
		return nil, err
	}
	return p.dialInto(ctx, c, network, addr, tools)
}

// Tunnel returns a dialler like Project.Dial's into a container that need not
// belong to a project.
func Tunnel(engine *client.Client, id, name string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	p := &Project{engine: engine}
	c := Container{ID: id, Name: name, Service: name}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return p.dialInto(ctx, c, network, addr, tunnelTools)
	}
}

func (p *Project) dialInto(ctx context.Context, c Container, network, addr, tools string) (net.Conn, error) {
	args, err := tunnelArgs("pump", network, addr, tools)
	if err != nil {
		return nil, err
	}
	s, err := p.start(ctx, c, "", args, nil)
	if err != nil {
		return nil, err
	}
	// Without its standard input the script ends by itself, within seconds.
	interrupt := context.AfterFunc(ctx, func() { _ = s.raw.Close() })
	ready, err := s.await("ready")
	if !interrupt() {
		return nil, fmt.Errorf("compose: tunnel to %s in %s: %w", addr, c.Name, context.Cause(ctx))
	}
	if err == nil {
		var conn *tunnel
		if conn, err = newTunnel(s, ready, network, addr); err == nil {
			return conn, nil
		}
	}
	_ = s.raw.Close()
	var failed *startError
	if errors.As(err, &failed) {
		return nil, unreachable(c.Service, addr, failed.said)
	}
	return nil, fmt.Errorf("compose: tunnel to %s in %s: %w", addr, c.Name, err)
}

func unreachable(service, addr, said string) error {
	said = strings.ReplaceAll(strings.TrimSpace(strings.ReplaceAll(said, "\r", "")), "\n", "; ")
	return explain(ErrUnreachable, nil, "tunnel to %s in service %s: %s: is the server up, and is this its address inside the container?", addr, service, said)
}

func tunnelArgs(mode, network, addr, tools string) ([]string, error) {
	var host, port string
	switch network {
	case "unix":
		host = addr
		_, port, _ = strings.Cut(path.Base(addr), ".s.PGSQL.")
	case "tcp", "tcp4", "tcp6":
		var err error
		if host, port, err = net.SplitHostPort(addr); err != nil {
			return nil, fmt.Errorf("compose: tunnel to %q: %w", addr, err)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("compose: tunnel to %q: not a port number", addr)
		}
		network = "tcp"
	default:
		return nil, fmt.Errorf("compose: tunnel: network %q: %w", network, net.UnknownNetworkError(network))
	}
	if host == "" || host[0] == '-' || strings.ContainsAny(host, " \t\n") {
		return nil, fmt.Errorf("compose: tunnel to %q: not a host or path", addr)
	}
	return []string{"sh", "-c", tunnelScript, "escrowctl-tunnel", mode, network, host, port, tools, pumpPerl, pumpBash}, nil
}

func parseReady(fields []string, addr string) (Endpoint, error) {
	if len(fields) < 4 {
		return Endpoint{}, fmt.Errorf("compose: tunnel: unexpected status line %q", fields)
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		_, port, _ = strings.Cut(path.Base(addr), ".s.PGSQL.")
	}
	return Endpoint{Tool: fields[1], Network: fields[2], Address: fields[3], Port: port}, nil
}
