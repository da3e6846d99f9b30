package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/stellarescrow/escrowctl/internal/cache"
	"github.com/stellarescrow/escrowctl/internal/compose"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/health"
	"github.com/stellarescrow/escrowctl/internal/postgres"
)

// way is how a server of the platform is spoken to: directly, or through its
// container.
type way struct {
	via     string // auto, host or container
	own     bool   // the address is the service's name, which only containers know
	direct  func(ctx context.Context) error
	through func(ctx context.Context) error
}

// take tries the ways that there are. Where both fail, the error is that of the
// way that leads to a server.
func (w way) take(ctx context.Context) error {
	switch {
	case w.via == config.ViaHost:
		return w.direct(ctx)
	case w.via == config.ViaContainer:
		return w.through(ctx)
	case w.own:
		err := w.through(ctx)
		if err == nil || !noWay(err) {
			return err
		}
		if derr := w.direct(ctx); !notThere(derr) {
			return derr
		}
		return err
	default:
		err := w.direct(ctx)
		if !notThere(err) {
			return err
		}
		if cerr := w.through(ctx); cerr == nil || !noWay(cerr) {
			return cerr
		}
		return err
	}
}

// notThere says whether an error means that nothing listens at an address.
func notThere(err error) bool {
	var lookup *net.DNSError
	return errors.As(err, &lookup) || errors.Is(err, syscall.ECONNREFUSED)
}

// noWay says whether an error means that there is no container to go through.
func noWay(err error) bool {
	return errors.Is(err, compose.ErrNoDaemon) || errors.Is(err, compose.ErrNoProject) || errors.Is(err, compose.ErrNoService)
}

// into returns a dialler into a service's container, and a function that returns
// its last error. Libraries word the error of a connection in their own way;
// this one says whether the server is down or Docker does not answer.
func (d *deps) into(service string) (dial postgres.DialFunc, failed func() error) {
	var mu sync.Mutex
	var last error
	dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := d.dialInto(ctx, service, network, addr)
		mu.Lock()
		defer mu.Unlock()
		last = err
		return conn, err
	}
	return dial, func() error {
		mu.Lock()
		defer mu.Unlock()
		return last
	}
}

func (d *deps) dialInto(ctx context.Context, service, network, addr string) (net.Conn, error) {
	p, err := d.composeProject(ctx)
	if err != nil {
		return nil, &marked{err, health.ErrUnclear}
	}
	conn, err := p.Service(service).Dial(ctx, network, addr)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, compose.ErrNotRunning), errors.Is(err, compose.ErrUnreachable), errors.Is(err, compose.ErrNoService):
		return nil, &marked{err, health.ErrDown}
	default:
		return nil, &marked{err, health.ErrUnclear}
	}
}

// marked is an error that is of a further sort, with its text as it was.
type marked struct{ err, sort error }

func (e *marked) Error() string   { return e.err.Error() }
func (e *marked) Unwrap() []error { return []error{e.sort, e.err} }

// databaseSession returns a session on the database for a check. All checks of
// a run share one: through a container each would cost an exec.
func (d *deps) databaseSession(ctx context.Context) (health.Session, error) {
	return d.session.get(ctx, d.openSession)
}

// sharedSession is a session for all who ask. Who asks first opens it, within
// its own time limit.
type sharedSession struct {
	mu  sync.Mutex
	now *sessionAttempt
}

type sessionAttempt struct {
	done    chan struct{}
	session health.Session
	err     error
	turn    chan struct{} // holds one while somebody asks
}

func (o *sharedSession) get(ctx context.Context, open func(context.Context) (health.Session, error)) (health.Session, error) {
	o.mu.Lock()
	a := o.now
	first := a == nil
	if first {
		a = &sessionAttempt{done: make(chan struct{}), turn: make(chan struct{}, 1)}
		o.now = a
	}
	o.mu.Unlock()
	if first {
		a.session, a.err = open(ctx)
		o.opened(a)
	} else if !a.await(ctx) {
		return nil, fmt.Errorf("the database does not answer: %w", context.Cause(ctx))
	}
	if a.err != nil {
		return nil, a.err
	}
	return a, nil
}

// opened lets in who waits. A session that nobody waits for any more is ended:
// close has come and gone.
func (o *sharedSession) opened(a *sessionAttempt) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(a.done)
	if o.now != a && a.err == nil {
		a.end()
	}
}

// await waits until the session is open or could not be opened. Both who opens
// it and who waits may be out of time at once: what the first found out, that it
// is Docker which is silent, say, is worth the moment that it takes to say so.
func (a *sessionAttempt) await(ctx context.Context) bool {
	const moment = 50 * time.Millisecond
	select {
	case <-a.done:
		return true
	case <-ctx.Done():
	}
	select {
	case <-a.done:
		return true
	case <-time.After(moment):
		return false
	}
}

// Row asks when it is this one's turn.
func (a *sessionAttempt) Row(ctx context.Context, query string, dest ...any) error {
	select {
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("the database is still busy with another question: %w", context.Cause(ctx))
	}
	defer func() { <-a.turn }()
	return a.session.Row(ctx, query, dest...)
}

// Close leaves the session to the others; sharedSession.close ends it.
func (*sessionAttempt) Close(context.Context) error { return nil }

// close ends the session: the next who asks opens another.
func (o *sharedSession) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	a := o.now
	o.now = nil
	if a == nil {
		return
	}
	select {
	case <-a.done:
	default:
		return // being opened still: who does ends it
	}
	if a.err == nil {
		a.end()
	}
}

func (a *sessionAttempt) end() {
	ctx, cancel := context.WithTimeout(context.Background(), goodbyeLimit)
	defer cancel()
	_ = a.session.Close(ctx) // the server notices without it too
}

// goodbyeLimit bounds the end of a session.
const goodbyeLimit = 100 * time.Millisecond

// openSession opens a session on the database.
func (d *deps) openSession(ctx context.Context) (health.Session, error) {
	if d.cfg.Database.URL.IsZero() {
		return nil, errors.New("no database is configured: set DATABASE_URL, or database.url in escrowctl.yaml")
	}
	target, err := postgres.Parse(d.cfg.Database.URL.Reveal())
	if err != nil {
		return nil, fmt.Errorf("database.url (%s): %w", d.cfg.Origin("database.url"), err)
	}
	const app = "escrowctl shift-check"
	var s *postgres.Session
	err = way{
		via: d.cfg.Dump.Via, own: hostIs(target.Address, d.cfg.Dump.Service),
		direct: func(ctx context.Context) (err error) {
			s, err = postgres.Open(ctx, target, app)
			return err
		},
		through: func(ctx context.Context) (err error) {
			dial, failed := d.into(d.cfg.Dump.Service)
			if s, err = postgres.Open(ctx, target.WithDial(dial), app); err != nil && failed() != nil {
				return failed()
			}
			return err
		},
	}.take(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// hostIs says whether an address is a service by its name.
func hostIs(address func() (network, addr string), service string) bool {
	_, addr := address()
	host, _, err := net.SplitHostPort(addr)
	return err == nil && host == service
}

// redisInfo asks Redis for its statistics.
func (d *deps) redisInfo(ctx context.Context) (string, error) {
	url, service := d.cfg.Redis.URL.Reveal(), d.cfg.Redis.Service
	if url == "" {
		return "", errors.New("no Redis is configured: set REDIS_URL, or redis.url in escrowctl.yaml")
	}
	var text string
	err := way{
		via: d.cfg.Redis.Via, own: cache.Host(url) == service,
		direct: func(ctx context.Context) (err error) {
			text, err = cache.Info(ctx, cache.Options{URL: url})
			return err
		},
		through: func(ctx context.Context) (err error) {
			dial, failed := d.into(service)
			if text, err = cache.Info(ctx, cache.Options{URL: url, Dial: dial}); err != nil && failed() != nil {
				return failed()
			}
			return err
		},
	}.take(ctx)
	return text, err
}
