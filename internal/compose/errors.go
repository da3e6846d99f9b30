package compose

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/client"
)

// What callers choose by; every error that wraps one of these says more.
var (
	// ErrNoDaemon: the Docker engine does not answer.
	ErrNoDaemon = errors.New("docker engine not reachable")
	// ErrNoProject: no container on the engine belongs to the project meant,
	// or more than one project could be meant.
	ErrNoProject = errors.New("no such compose project")
	// ErrNoService: the project has no container of that service.
	ErrNoService = errors.New("no such service")
	// ErrNotRunning: the service's containers are stopped, paused or restarting.
	ErrNotRunning = errors.New("service not running")
	// ErrUnreachable: nothing listens at the address inside the container.
	ErrUnreachable = errors.New("not reachable inside the container")
)

// explained is an error of the caller's sort whose text is the whole story.
type explained struct {
	text string
	sort error // one of the sentinels
	err  error // what came back, or nil
}

func (e *explained) Error() string { return e.text }

func (e *explained) Unwrap() []error {
	if e.err == nil {
		return []error{e.sort}
	}
	return []error{e.sort, e.err}
}

func explain(sort, err error, format string, args ...any) error {
	return &explained{text: "compose: " + fmt.Sprintf(format, args...), sort: sort, err: err}
}

// engineError tells a dead engine apart from one that refuses, and says what to do.
func engineError(ctx context.Context, doing, host string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("compose: %s: %w", doing, context.Cause(ctx))
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return explain(ErrNoDaemon, err, "%s: docker engine at %s: %v: put the certificate of its authority into DOCKER_CERT_PATH as ca.pem", doing, host, cert)
	}
	if !client.IsErrConnectionFailed(err) && !strings.Contains(err.Error(), "cannot connect to the Docker daemon") {
		return fmt.Errorf("compose: %s: %w", doing, err)
	}
	why, remedy := diagnose(ctx, host)
	return explain(ErrNoDaemon, err, "%s: docker engine at %s: %s: %s", doing, host, why, remedy)
}

// answerLimit is for what an engine answers within milliseconds. One that takes
// the request and stays silent would hold up for ever who has no limit of its
// own, and with it whoever waits for its lock.
const answerLimit = 15 * time.Second

// ErrSilent is of an engine that did not answer in time. What it was asked for it
// may do all the same.
var ErrSilent = errors.New("the docker engine takes the request and does not answer: see journalctl -u docker")

// ask calls the engine for such an answer.
func ask[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	return Ask(ctx, answerLimit, call)
}

// Ask calls the engine and gives it up after limit. Error: ErrSilent.
func Ask[T any](ctx context.Context, limit time.Duration, call func(context.Context) (T, error)) (T, error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	got, err := call(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = ErrSilent
	}
	return got, err
}

// inspect asks for a container in detail.
func inspect(ctx context.Context, engine *client.Client, id string) (client.ContainerInspectResult, error) {
	return ask(ctx, func(ctx context.Context) (client.ContainerInspectResult, error) {
		return engine.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	})
}

// diagnose asks the engine's socket itself: the client's error keeps no cause.
func diagnose(ctx context.Context, host string) (why, remedy string) {
	const elsewhere = "or set compose.docker_host (DOCKER_HOST) to where it listens"
	path, isUnix := strings.CutPrefix(host, "unix://")
	if !isUnix {
		return "no answer", "check that it runs and that compose.docker_host (DOCKER_HOST) and its TLS settings are right"
	}
	dialer := net.Dialer{Timeout: 2 * time.Second}
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		return "it listens but does not answer", "see journalctl -u docker"
	case errors.Is(err, fs.ErrPermission):
		return "permission denied", "run as root or as a member of the group docker, " + elsewhere
	case errors.Is(err, fs.ErrNotExist):
		return "no such socket", "start Docker (systemctl start docker), " + elsewhere
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused", "start Docker (systemctl start docker), " + elsewhere
	default:
		return err.Error(), "see journalctl -u docker"
	}
}
