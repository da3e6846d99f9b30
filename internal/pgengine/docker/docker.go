// Package docker starts throwaway PostgreSQL servers in containers: without a
// network, without a published port, without capabilities, on a root filesystem
// that cannot be written. Everything goes through the Docker API, so the engine
// may be on another machine.
package docker

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/stellarescrow/escrowctl/internal/compose"
	"github.com/stellarescrow/escrowctl/internal/pgengine"
)

// The labels of the containers.
const (
	labelRun     = "escrowctl.dr-test.run"
	labelHost    = "escrowctl.dr-test.host"
	labelOwner   = "escrowctl.dr-test.owner"
	labelExpires = "escrowctl.dr-test.expires" // RFC 3339
	labelKeep    = "escrowctl.dr-test.keep"
)

const (
	// closeLimit bounds the removal of a container.
	closeLimit = 30 * time.Second
	// answerLimit is for each request that makes one: an engine that freezes in the
	// midst of it would hold up the whole time of a test.
	answerLimit = time.Minute
)

// Engine is a Docker engine.
type Engine struct {
	client *client.Client
	host   string // this host's name
	info   system.Info
	now    func() time.Time
	limit  time.Duration // of an answer
}

// Open connects to the engine at host ("" is as the environment says). Error:
// compose.ErrNoDaemon.
func Open(ctx context.Context, host string, now func() time.Time) (*Engine, error) {
	c, err := compose.Engine(host)
	if err != nil {
		return nil, err
	}
	result, err := c.Info(ctx, client.InfoOptions{})
	if err != nil {
		err = compose.EngineError(ctx, c, "ask for its memory", err)
		_ = c.Close()
		return nil, err
	}
	name, _ := os.Hostname() // "" where there is none
	return &Engine{client: c, host: name, info: result.Info, now: now, limit: answerLimit}, nil
}

// Close ends the connection to the engine.
func (e *Engine) Close() error { return e.client.Close() }

// Name is what this engine is called.
func (e *Engine) Name() string { return "docker" }

// Start starts a server and returns when it takes connections. On an error
// nothing is left.
func (e *Engine) Start(ctx context.Context, s pgengine.Spec) (pgengine.Instance, error) {
	if s.Image == "" {
		if s.Major == 0 {
			return nil, fmt.Errorf("%w: the dump does not say which PostgreSQL it is from: name an image (--image, dr_test.image)", pgengine.ErrNoImage)
		}
		s.Image = defaultImage(s.Major)
	}
	image, err := e.image(ctx, s)
	if err != nil {
		return nil, err
	}
	plan := e.plan(s, image)
	in, err := e.launch(ctx, s, plan, User)
	if err != nil && strings.Contains(err.Error(), "unable to find user") {
		in, err = e.launch(ctx, s, plan, "") // an image of another make: as whom it runs by itself
	}
	if err != nil {
		return nil, err
	}
	return in, nil
}

// User is whom the server runs as, in the images of PostgreSQL.
const User = "postgres"

// plan is how a container is made.
type plan struct {
	storage pgengine.Storage
	data    string // the server's directory
	volume  string // of the image, for data on disk
	size    int64  // of the memory for the data, in bytes
	memory  int64  // limit
	cpus    float64
}

// serverMemory is the memory in bytes that the server has for itself, where
// there is enough.
const serverMemory = 2 << 30

func (e *Engine) plan(s pgengine.Spec, image imageFacts) plan {
	p := plan{storage: s.Storage, volume: image.data, data: image.data + "/escrowctl-dr-test", memory: s.Memory, cpus: s.CPUs}
	if p.cpus <= 0 || p.cpus > float64(e.info.NCPU) {
		p.cpus = float64(e.info.NCPU)
	}
	need := pgengine.Footprint(s.SQL)
	own := min(serverMemory, e.info.MemTotal/2)
	if p.storage != pgengine.Memory && p.storage != pgengine.Disk {
		p.storage = pgengine.Disk
		if s.SQL > 0 && s.Memory == 0 && float64(need+own) <= 0.6*float64(e.available()) {
			p.storage = pgengine.Memory
		}
	}
	if p.storage == pgengine.Memory {
		p.size, p.data = need, home+"/data"
		own += need
	}
	if p.memory == 0 {
		p.memory = own
	}
	return p
}

// available is the memory in bytes that nobody uses; 0 for an engine elsewhere,
// which does not tell.
func (e *Engine) available() int64 {
	if !strings.HasPrefix(e.client.DaemonHost(), "unix://") {
		return 0
	}
	v, err := mem.VirtualMemory()
	if err != nil {
		return 0
	}
	return min(int64(v.Available), e.info.MemTotal)
}

// Reap removes the containers that no run needs any more: those whose owner is
// dead, and those that have expired. It returns their names.
func (e *Engine) Reap(ctx context.Context, dead func(owner string, sameHost bool) bool) ([]string, error) {
	list, err := e.client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: make(client.Filters).Add("label", labelRun)})
	if err != nil {
		return nil, compose.EngineError(ctx, e.client, "list containers", err)
	}
	var gone []string
	for _, c := range list.Items {
		if !e.over(c.Labels, dead) {
			continue
		}
		if err := e.remove(ctx, c.ID); err != nil {
			return gone, err
		}
		name := c.ID[:12]
		if len(c.Names) > 0 {
			name = strings.TrimPrefix(c.Names[0], "/")
		}
		gone = append(gone, "container "+name)
	}
	volumes, err := e.reapVolumes(ctx, dead)
	return append(gone, volumes...), err
}

// reapVolumes removes volumes whose container went without them, as when the
// engine itself was killed.
func (e *Engine) reapVolumes(ctx context.Context, dead func(owner string, sameHost bool) bool) ([]string, error) {
	list, err := e.client.VolumeList(ctx, client.VolumeListOptions{Filters: make(client.Filters).Add("label", labelRun)})
	if err != nil {
		return nil, compose.EngineError(ctx, e.client, "list volumes", err)
	}
	var gone []string
	for _, v := range list.Items {
		if !e.over(v.Labels, dead) {
			continue
		}
		_, err := e.client.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{})
		switch {
		case err == nil:
			gone = append(gone, "volume "+v.Name)
		case !strings.Contains(err.Error(), "in use") && !strings.Contains(err.Error(), "no such volume"):
			return gone, compose.EngineError(ctx, e.client, "remove volume "+v.Name, err)
		}
	}
	return gone, nil
}

func (e *Engine) over(labels map[string]string, dead func(owner string, sameHost bool) bool) bool {
	expires, err := time.Parse(time.RFC3339, labels[labelExpires])
	if err != nil || !e.now().Before(expires) {
		return true
	}
	return labels[labelKeep] == "" && dead(labels[labelOwner], labels[labelHost] == e.host)
}

// remove removes a container with its volumes, and waits until it is gone.
func (e *Engine) remove(ctx context.Context, id string) error {
	for {
		_, err := e.client.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		switch {
		case err == nil, isGone(err):
			return nil
		case !strings.Contains(err.Error(), "is already in progress"):
			return compose.EngineError(ctx, e.client, "remove container "+id[:12], err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove container %s: %w", id[:12], context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func isGone(err error) bool { return strings.Contains(err.Error(), "No such container") }
