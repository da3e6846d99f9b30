package docker

import (
	"bytes"
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"
	"github.com/stellarescrow/escrowctl/internal/compose"
	"github.com/stellarescrow/escrowctl/internal/pgengine"
)

//go:embed run.sh
var runScript string

const (
	// home is a directory in memory that no image has: runc gives a tmpfs on one
	// that is there the owner's rights of what it covers, and so to nobody else.
	home = "/escrowctl"
	// maxProcesses bounds what a hostile dump can start.
	maxProcesses = 512
	// lowWeight is the share of the processors against 1024 of other containers:
	// a test must not slow the platform down.
	lowWeight = 256
)

// instance is one container with its server.
type instance struct {
	engine *Engine
	id     string
	info   pgengine.Info
	keep   bool
	run    string
	socket *socket // the server's, where this process can reach it, or nil
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	stream client.HijackedResponse // its end is what ends the container
	said   *words

	mu     sync.Mutex
	closed bool
}

// launch makes the container, starts it and waits for its server.
func (e *Engine) launch(ctx context.Context, s pgengine.Spec, p plan, user string) (*instance, error) {
	name := "escrowctl-dr-test-" + s.Run
	config, host := e.container(s, p, user)
	made, err := compose.Ask(ctx, e.limit, func(ctx context.Context) (client.ContainerCreateResult, error) {
		return e.client.ContainerCreate(ctx, client.ContainerCreateOptions{Name: name, Config: config, HostConfig: host})
	})
	if err != nil {
		told := compose.EngineError(ctx, e.client, "create container "+name, err)
		if ctx.Err() == nil && !errors.Is(err, compose.ErrSilent) {
			return nil, told
		}
		// A request that was given up may have been carried out all the same.
		return nil, errors.Join(told, e.discard(ctx, name))
	}
	in := &instance{
		engine: e, id: made.ID, keep: s.Keep, run: s.Run, said: newWords(),
		info: pgengine.Info{Engine: e.Name(), Name: name, Image: s.Image, Storage: p.storage, Memory: p.memory},
		dial: compose.Tunnel(e.client, made.ID, name),
	}
	if err := in.start(ctx); err != nil {
		return nil, errors.Join(err, in.destroy(ctx))
	}
	return in, nil
}

// discard removes what a failed creation may have left.
func (e *Engine) discard(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
	defer cancel()
	list, err := e.client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: make(client.Filters).Add("name", "^/"+name+"$")})
	if err != nil {
		return err
	}
	for _, c := range list.Items {
		err = errors.Join(err, e.remove(ctx, c.ID))
	}
	return err
}

func (e *Engine) container(s pgengine.Spec, p plan, user string) (*container.Config, *container.HostConfig) {
	// The data's own memory is no memory for the server.
	settings := pgengine.Settings(p.memory-p.size, int(p.cpus+0.5))
	seconds := int64(s.Expires.Sub(e.now()).Seconds()) + 1
	keep := ""
	if s.Keep {
		keep = "keep"
	}
	args := []string{"sh", "-c", runScript, "escrowctl-dr-test", p.data, strconv.FormatInt(max(seconds, 1), 10), keep, home, s.Run, "-c", "listen_addresses=127.0.0.1"}
	for _, set := range settings {
		args = append(args, "-c", set.Name+"="+set.Value)
	}
	config := &container.Config{
		Image: s.Image, User: user, Entrypoint: args, Env: append([]string{"TZ=UTC"}, pgengine.Environment()...),
		OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true,
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
		Labels: map[string]string{
			labelRun: s.Run, labelHost: e.host, labelOwner: s.Owner, labelKeep: keep, labelExpires: s.Expires.UTC().Format(time.RFC3339),
		},
	}
	none := int64(maxProcesses)
	host := &container.HostConfig{
		NetworkMode: "none", AutoRemove: true, ReadonlyRootfs: true, CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges"},
		LogConfig: container.LogConfig{Type: "none"}, // what the server says may hold data
		ShmSize:   max(p.memory/2, 64<<20),
		Tmpfs:     map[string]string{home: fmt.Sprintf("mode=1777,size=%d", p.size+16<<20), "/tmp": "size=64m"},
		Resources: container.Resources{
			Memory: p.memory, MemorySwap: p.memory, NanoCPUs: int64(p.cpus * 1e9), CPUShares: lowWeight, PidsLimit: &none,
		},
	}
	if p.storage == pgengine.Memory {
		host.Tmpfs[p.volume] = "size=1m" // in place of a volume that nobody would use
	} else {
		// Without a name: it goes with the container.
		host.Mounts = []mount.Mount{{Type: mount.TypeVolume, Target: p.volume, VolumeOptions: &mount.VolumeOptions{Labels: config.Labels}}}
	}
	return config, host
}

func (in *instance) start(ctx context.Context) error {
	e := in.engine
	attached, err := compose.Ask(ctx, e.limit, func(ctx context.Context) (client.ContainerAttachResult, error) {
		return e.client.ContainerAttach(ctx, in.id, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	})
	if err != nil {
		return compose.EngineError(ctx, e.client, "attach to container "+in.info.Name, err)
	}
	in.stream = attached.HijackedResponse
	go func() {
		_, _ = io.Copy(in.said, in.stream.Reader)
		in.said.end()
	}()
	_, err = compose.Ask(ctx, e.limit, func(ctx context.Context) (client.ContainerStartResult, error) {
		return e.client.ContainerStart(ctx, in.id, client.ContainerStartOptions{})
	})
	if err != nil {
		return compose.EngineError(ctx, e.client, "start container "+in.info.Name, err)
	}
	select {
	case <-in.said.ready:
		in.shortcut(ctx)
		return nil
	case <-in.said.over:
		return fmt.Errorf("PostgreSQL did not start in image %s: %s", in.info.Image, in.said.last())
	case <-ctx.Done():
		return fmt.Errorf("start PostgreSQL in container %s: %w", in.info.Name, context.Cause(ctx))
	}
}

// shortcut finds the server's socket through /proc, where the container runs on
// this host and we may look into it: that spares the copies that exec makes, a
// third of the time of a load. The file with the run's name tells the container
// from another process that happens to have its number.
func (in *instance) shortcut(ctx context.Context) {
	facts, err := compose.Ask(ctx, in.engine.limit, func(ctx context.Context) (client.ContainerInspectResult, error) {
		return in.engine.client.ContainerInspect(ctx, in.id, client.ContainerInspectOptions{})
	})
	if err != nil || facts.Container.State == nil || facts.Container.State.Pid <= 1 {
		return
	}
	dir := fmt.Sprintf("/proc/%d/root%s", facts.Container.State.Pid, home)
	if run, err := os.ReadFile(dir + "/run"); err != nil || strings.TrimSpace(string(run)) != in.run {
		return
	}
	socket, err := openSocket(fmt.Sprintf("%s/.s.PGSQL.%d", dir, pgengine.Port))
	if err != nil {
		return
	}
	conn, err := socket.dial(ctx, "", "")
	if err != nil {
		socket.close()
		return
	}
	_ = conn.Close()
	in.socket = socket
}

// Info implements pgengine.Instance.
func (in *instance) Info() pgengine.Info { return in.info }

// Connect implements pgengine.Instance.
func (in *instance) Connect(ctx context.Context, database string) (*pgconn.PgConn, error) {
	dial := in.dial
	if in.socket != nil {
		dial = in.socket.dial
	}
	return pgengine.Connect(ctx, "127.0.0.1", database, dial)
}

// Psql implements pgengine.Instance.
func (in *instance) Psql(database string) string {
	return fmt.Sprintf("docker exec -it %s psql -h %s -U %s %s", in.info.Name, home, pgengine.User, database)
}

// Died implements pgengine.Instance.
func (in *instance) Died() string {
	select {
	case <-in.said.over:
		return in.said.last()
	default:
		return in.said.crash()
	}
}

// Close implements pgengine.Instance.
func (in *instance) Close(ctx context.Context) error {
	if in.keep {
		return nil
	}
	return in.destroy(ctx)
}

// destroy removes the container, whatever became of ctx.
func (in *instance) destroy(ctx context.Context) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
	defer cancel()
	if err := in.engine.remove(ctx, in.id); err != nil {
		return err
	}
	if in.stream.Conn != nil {
		in.stream.Close()
	}
	if in.socket != nil {
		in.socket.close()
	}
	in.closed = true
	return nil
}

// words are the end of what a container said, and the moment at which its
// server takes connections.
type words struct {
	ready, over chan struct{}
	began       sync.Once

	mu  sync.Mutex
	buf []byte
}

const (
	readyLine = "database system is ready to accept connections"
	keptWords = 8 << 10
)

func newWords() *words { return &words{ready: make(chan struct{}), over: make(chan struct{})} }

func (w *words) end() { close(w.over) }

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf, p...)
	if bytes.Contains(w.buf, []byte(readyLine)) {
		w.began.Do(func() { close(w.ready) })
	}
	if over := len(w.buf) - keptWords; over > 0 {
		w.buf = append(w.buf[:0], w.buf[over:]...)
	}
	return len(p), nil
}

// last is the last of what was said, for a message.
func (w *words) last() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return pgengine.LastLines(w.buf)
}

// crash is the line by which the server says that one of its processes was
// killed.
func (w *words) crash() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return pgengine.Crash(w.buf)
}
