package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/stellarescrow/escrowctl/internal/compose"
)

// projectOpener opens the compose project once, for all who ask at the same
// time. None of them waits longer than its own context allows, also where the
// Docker engine takes the connection and stays silent.
type projectOpener struct {
	mu  sync.Mutex
	now *projectAttempt
}

// errEngineSilent is why an engine is given up.
var errEngineSilent = errors.New("the docker engine does not answer: see journalctl -u docker")

type projectAttempt struct {
	done    chan struct{}
	project *compose.Project
	err     error
}

// get returns the project. After a failure the next call tries again.
func (o *projectOpener) get(ctx context.Context, opts compose.Options) (*compose.Project, error) {
	o.mu.Lock()
	a := o.now
	if a == nil {
		a = &projectAttempt{done: make(chan struct{})}
		o.now = a
		go o.open(context.WithoutCancel(ctx), a, opts)
	}
	o.mu.Unlock()
	select {
	case <-a.done:
		return a.project, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("compose: the docker engine does not answer: %w", context.Cause(ctx))
	}
}

func (o *projectOpener) open(ctx context.Context, a *projectAttempt, opts compose.Options) {
	ctx, cancel := context.WithTimeoutCause(ctx, connectLimit, errEngineSilent)
	defer cancel()
	a.project, a.err = compose.Open(ctx, opts)
	if a.err != nil {
		o.mu.Lock()
		o.now = nil
		o.mu.Unlock()
	}
	close(a.done)
}

// close ends the project's connections; an attempt still under way ends by
// itself.
func (o *projectOpener) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.now == nil {
		return
	}
	select {
	case <-o.now.done:
		_ = o.now.project.Close()
	default:
	}
}
