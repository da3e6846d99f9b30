package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/stellarescrow/escrowctl/internal/compose"
	"github.com/stellarescrow/escrowctl/internal/pgengine"
	"github.com/stellarescrow/escrowctl/internal/storm/kit"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

func open(t *testing.T) (*Engine, string) {
	t.Helper()
	image := testenv.PostgresImage(t)
	e, err := Open(t.Context(), "", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e, image
}

func start(t *testing.T, e *Engine, s pgengine.Spec) *instance {
	t.Helper()
	s.Run, s.Log = strings.ToLower(t.Name())+time.Now().UTC().Format("150405.000000"), t.Logf
	s.Owner = s.Run
	if s.Expires.IsZero() {
		s.Expires = time.Now().Add(time.Hour) // or a dr-test of another package removes it
	}
	in, err := e.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	own := in.(*instance)
	t.Cleanup(func() {
		if err := own.destroy(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return own
}

func ask(t *testing.T, in *instance, sql string) string {
	t.Helper()
	conn, err := in.Connect(t.Context(), "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	res := conn.ExecParams(t.Context(), sql, nil, nil, nil, nil).Read()
	if res.Err != nil {
		t.Fatal(res.Err)
	}
	return string(res.Rows[0][0])
}

// TestStart starts servers with either kind of storage, and reaches them through
// /proc as well as through exec.
func TestStart(t *testing.T) {
	t.Parallel()
	e, image := open(t)
	for _, storage := range []pgengine.Storage{pgengine.Memory, pgengine.Disk} {
		in := start(t, e, pgengine.Spec{Image: image, SQL: 10 << 20, Storage: storage})
		if in.Info().Storage != storage {
			t.Errorf("storage %s, want %s", in.Info().Storage, storage)
		}
		if got := ask(t, in, "SHOW fsync"); got != "off" {
			t.Errorf("fsync is %s", got)
		}
		in.socket = nil
		if got := ask(t, in, "SHOW listen_addresses"); got != "127.0.0.1" {
			t.Errorf("through exec: it listens on %s", got)
		}
		facts, err := e.client.ContainerInspect(t.Context(), in.id, client.ContainerInspectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		h := facts.Container.HostConfig
		if h.NetworkMode != "none" || !h.ReadonlyRootfs || h.Memory == 0 || h.NanoCPUs == 0 || len(h.PortBindings) > 0 || h.PublishAllPorts {
			t.Errorf("%+v", h)
		}
		if err := in.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := e.client.ContainerInspect(t.Context(), in.id, client.ContainerInspectOptions{}); err == nil {
			t.Error("the container is still there")
		}
	}
}

// TestFrozenEngine: an engine that freezes while a container is made is given up,
// long before the time of the test is over, and no container stays.
func TestFrozenEngine(t *testing.T) {
	t.Parallel()
	image := testenv.PostgresImage(t)
	for _, at := range []string{"/images/", "/containers/create", "/attach", "/start"} {
		wire := kit.NewDockerWire(t)
		e, err := Open(t.Context(), wire.Host, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close() })
		e.limit = time.Second
		wire.Hang(at, 0)
		run := "frozen" + time.Now().UTC().Format("150405.000000")
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		_, err = e.Start(ctx, pgengine.Spec{Image: image, SQL: 1 << 20, Storage: pgengine.Disk, Run: run, Owner: run, Log: t.Logf, Expires: time.Now().Add(time.Hour)})
		if !errors.Is(err, compose.ErrSilent) || ctx.Err() != nil {
			t.Errorf("%s: %v", at, err)
		}
		cancel()
		list, err := e.client.ContainerList(t.Context(), client.ContainerListOptions{All: true, Filters: make(client.Filters).Add("name", run)})
		if err != nil || len(list.Items) > 0 {
			t.Errorf("%s: left behind: %v %v", at, list.Items, err)
		}
	}
}

// TestReap: what goes is what has expired or lost its owner, and nothing else.
func TestReap(t *testing.T) {
	t.Parallel()
	e, image := open(t)
	running := start(t, e, pgengine.Spec{Image: image, SQL: 1 << 20, Storage: pgengine.Disk})
	kept := start(t, e, pgengine.Spec{Image: image, SQL: 1 << 20, Keep: true})
	if err := kept.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	here := func(in *instance) bool {
		_, err := e.client.ContainerInspect(t.Context(), in.id, client.ContainerInspectOptions{})
		return err == nil
	}
	nobody := func(string, bool) bool { return false } // others' tests run on this engine too
	if _, err := e.Reap(t.Context(), nobody); err != nil {
		t.Fatal(err)
	}
	if !here(running) || !here(kept) {
		t.Fatal("a server in use was removed")
	}
	gone, err := e.Reap(t.Context(), func(owner string, same bool) bool { return strings.HasSuffix(running.info.Name, owner) && same })
	if err != nil {
		t.Fatal(err)
	}
	if here(running) || len(gone) != 1 || !strings.Contains(gone[0], running.info.Name) {
		t.Errorf("removed %v", gone)
	}
	if !here(kept) {
		t.Error("the kept one is gone")
	}
	later := *e
	later.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	everybody := func(string, bool) bool { return true }
	unexpired := time.Now().Add(time.Minute).Format(time.RFC3339)
	if e.over(map[string]string{labelExpires: unexpired, labelKeep: "keep"}, everybody) || !e.over(map[string]string{labelExpires: unexpired}, everybody) {
		t.Error("a kept one goes by its time, any other with its owner")
	}
	if !later.over(map[string]string{labelExpires: time.Now().Add(time.Minute).Format(time.RFC3339), labelKeep: "keep"}, nobody) {
		t.Error("an expired one is not removed")
	}
}

// TestEndsByItself: a server ends when the connection of who started it does, and
// a kept one when its time is up.
func TestEndsByItself(t *testing.T) {
	t.Parallel()
	e, image := open(t)
	orphan := start(t, e, pgengine.Spec{Image: image, SQL: 1 << 20})
	kept := start(t, e, pgengine.Spec{Image: image, SQL: 1 << 20, Keep: true, Expires: time.Now().Add(30 * time.Second)})
	orphan.stream.Close()
	kept.stream.Close()
	for _, in := range []*instance{orphan, kept} {
		deadline := time.Now().Add(5 * time.Minute)
		for {
			_, err := e.client.ContainerInspect(t.Context(), in.id, client.ContainerInspectOptions{})
			if err != nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is still there", in.info.Name)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// TestStaysWithTheServer has a dump, which may run commands in the container, put
// a link to a server of this host in the place of its own's socket: no connection
// may follow it out.
func TestStaysWithTheServer(t *testing.T) {
	t.Parallel()
	e, image := open(t)
	outside, err := net.Listen("unix", filepath.Join(testenv.ShortDir(t, 0o700), "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = outside.Close() })
	called := make(chan struct{})
	go func() {
		if conn, err := outside.Accept(); err == nil {
			_ = conn.Close()
			close(called)
		}
	}()
	in := start(t, e, pgengine.Spec{Image: image, SQL: 10 << 20})
	if in.socket == nil {
		t.Skip("the engine is not on this host, or we may not look into its containers")
	}
	conn, err := in.Connect(t.Context(), "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	link := fmt.Sprintf("COPY (SELECT 1) TO PROGRAM 'ln -sf %s %s/.s.PGSQL.%d'", outside.Addr(), home, pgengine.Port)
	if _, err := conn.Exec(t.Context(), link).ReadAll(); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, in, "SHOW unix_socket_directories"); got != home {
		t.Errorf("asked another server than its own: %s", got)
	}
	select {
	case <-called:
		t.Error("a server of this host was called")
	default:
	}
}
