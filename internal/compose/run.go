package compose

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

const (
	labelSlug = "com.docker.compose.slug"
	// interruptGrace is how long a one-off container has to clean up after SIGINT
	// before it is removed by force.
	interruptGrace = 10 * time.Second
)

// RunSpec is a command for Run.
type RunSpec struct {
	Entrypoint []string // in place of the service's: its own may be a loop that drops the command
	Cmd        []string
	Env        []string  // NAME=value, besides the service's
	Stdout     io.Writer // nil: dropped
	Stderr     io.Writer // nil: dropped
}

// Run runs a command in a new container of the service, as `docker compose run
// --rm --no-deps -T --entrypoint` does: same image, environment, volumes and
// networks as the service's own container, which must exist but need not run.
// It returns the exit code; a code other than 0 is not an error.
//
// When ctx ends the command gets SIGINT, which programs in the place of process
// 1 hear more often than SIGTERM, and 10 s later its container is removed by
// force. If this process dies, the command runs to its end and its container
// goes with it.
func (p *Project) Run(ctx context.Context, service string, spec RunSpec) (exitCode int, err error) {
	if len(spec.Entrypoint)+len(spec.Cmd) == 0 {
		return unknownExit, errors.New("compose: run: no command")
	}
	model, err := p.model(ctx, service)
	if err != nil {
		return unknownExit, err
	}
	oneoff, err := p.createOneoff(ctx, model, spec)
	if err != nil {
		return unknownExit, err
	}
	defer p.removeOneoff(oneoff.ID)
	code, err := p.runOneoff(ctx, oneoff, spec)
	if err != nil {
		return unknownExit, fmt.Errorf("compose: run %s in %s: %w", strings.Join(append(slices.Clone(spec.Entrypoint), spec.Cmd...), " "), oneoff.Name, err)
	}
	return code, nil
}

// model is the service's own container, running or not.
func (p *Project) model(ctx context.Context, service string) (container.InspectResponse, error) {
	c, err := p.anyContainer(ctx, service)
	if err != nil {
		return container.InspectResponse{}, err
	}
	got, err := inspect(ctx, p.engine, c.ID)
	if err != nil {
		return container.InspectResponse{}, engineError(ctx, "inspect "+c.Name, p.engine.DaemonHost(), err)
	}
	return got.Container, nil
}

// anyContainer is the service's running container with the lowest number, else
// a stopped one.
func (p *Project) anyContainer(ctx context.Context, service string) (Container, error) {
	all, err := p.Containers(ctx)
	if err != nil {
		return Container{}, err
	}
	at := slices.IndexFunc(all, func(c Container) bool { return c.Service == service && c.State == "running" })
	if at < 0 {
		at = slices.IndexFunc(all, func(c Container) bool { return c.Service == service })
	}
	if at < 0 {
		var known []string
		for _, c := range all {
			known = addOnce(known, c.Service)
		}
		return Container{}, explain(ErrNoService, nil, "project %s has no container of service %s (it has: %s): make one with docker compose -p %s up --no-start %s, or correct the service's name in the configuration",
			p.name, service, orNone(known), p.name, service)
	}
	return all[at], nil
}

func (p *Project) createOneoff(ctx context.Context, model container.InspectResponse, spec RunSpec) (Container, error) {
	slug := make([]byte, 6)
	_, _ = rand.Read(slug) // never fails
	service := model.Config.Labels[labelService]
	name := fmt.Sprintf("%s-%s-run-%s", p.name, service, hex.EncodeToString(slug))
	host := oneoffHost(model)
	networks := oneoffNetworks(model)
	first, rest := splitNetworks(networks, string(host.NetworkMode))
	created, err := p.engine.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: name, Config: oneoffConfig(model, spec, hex.EncodeToString(slug)), HostConfig: host,
		NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: first},
	})
	if err != nil {
		return Container{}, engineError(ctx, "create "+name, p.engine.DaemonHost(), err)
	}
	for net, settings := range rest {
		if _, err := p.engine.NetworkConnect(ctx, net, client.NetworkConnectOptions{Container: created.ID, EndpointConfig: settings}); err != nil {
			p.removeOneoff(created.ID)
			return Container{}, engineError(ctx, "connect "+name+" to network "+net, p.engine.DaemonHost(), err)
		}
	}
	return Container{ID: created.ID, Name: name, Service: service}, nil
}

func oneoffConfig(model container.InspectResponse, spec RunSpec, slug string) *container.Config {
	c := *model.Config
	c.Image = model.Image // the very image, even if its tag has moved on
	c.Entrypoint, c.Cmd = spec.Entrypoint, spec.Cmd
	if len(spec.Entrypoint) == 0 {
		c.Entrypoint = model.Config.Entrypoint
	}
	c.Env = append(slices.Clone(c.Env), spec.Env...)
	c.Hostname, c.Domainname = "", ""
	c.Tty, c.OpenStdin, c.AttachStdin, c.StdinOnce = false, false, false, false
	c.AttachStdout, c.AttachStderr = true, true
	c.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}}
	c.Labels = maps.Clone(c.Labels)
	c.Labels[labelOneoff], c.Labels[labelSlug], c.Labels[labelNumber] = "True", slug, "1"
	return &c
}

func oneoffHost(model container.InspectResponse) *container.HostConfig {
	h := *model.HostConfig
	h.PortBindings, h.PublishAllPorts = nil, false
	h.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyDisabled}
	h.AutoRemove = true
	h.ContainerIDFile = ""
	// Volumes without a name are the service's data too.
	h.Binds = slices.Clone(h.Binds)
	for _, m := range model.Mounts {
		named := slices.ContainsFunc(h.Binds, func(b string) bool { return slices.Contains(strings.Split(b, ":"), m.Destination) })
		for _, have := range h.Mounts {
			named = named || have.Target == m.Destination
		}
		if !named && m.Type == "volume" && m.Name != "" {
			h.Binds = append(h.Binds, m.Name+":"+m.Destination)
		}
	}
	return &h
}

// oneoffNetworks are the service's networks, without its names in them: the
// one-off must not be found in the place of the service.
func oneoffNetworks(model container.InspectResponse) map[string]*network.EndpointSettings {
	mode := model.HostConfig.NetworkMode
	if mode.IsNone() || mode.IsHost() || mode.IsContainer() || model.NetworkSettings == nil {
		return nil
	}
	out := map[string]*network.EndpointSettings{}
	for name, have := range model.NetworkSettings.Networks {
		out[name] = &network.EndpointSettings{NetworkID: have.NetworkID, DriverOpts: have.DriverOpts, GwPriority: have.GwPriority}
	}
	return out
}

// splitNetworks divides the networks into the one that the container is made
// with, and those it is connected to afterwards: engines before API 1.44 take
// only one.
func splitNetworks(all map[string]*network.EndpointSettings, mode string) (first, rest map[string]*network.EndpointSettings) {
	names := slices.Sorted(maps.Keys(all))
	if len(names) == 0 {
		return nil, nil
	}
	chosen := names[0]
	for _, n := range names {
		if n == mode || all[n].NetworkID == mode {
			chosen = n
		}
	}
	rest = maps.Clone(all)
	delete(rest, chosen)
	return map[string]*network.EndpointSettings{chosen: all[chosen]}, rest
}

// runOneoff starts the container, carries its output, and returns its code.
func (p *Project) runOneoff(ctx context.Context, c Container, spec RunSpec) (int, error) {
	host := p.engine.DaemonHost()
	attached, err := p.engine.ContainerAttach(ctx, c.ID, client.ContainerAttachOptions{Stream: true, Stdout: true, Stderr: true})
	if err != nil {
		return unknownExit, engineError(ctx, "attach to "+c.Name, host, err)
	}
	defer attached.Conn.Close()
	// The answer to this must not end with ctx: it says that the command is gone.
	waiting, unwait := context.WithCancel(context.WithoutCancel(ctx))
	defer unwait()
	ended := p.engine.ContainerWait(waiting, c.ID, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	if _, err := p.engine.ContainerStart(ctx, c.ID, client.ContainerStartOptions{}); err != nil {
		return unknownExit, engineError(ctx, "start "+c.Name, host, err)
	}

	run, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	stop := context.AfterFunc(run, func() { p.interrupt(c.ID); _ = attached.Conn.SetReadDeadline(time.Now().Add(interruptGrace)) })
	defer stop()
	s := &session{engine: p.engine, container: c, raw: attached.Conn, out: newFrames(attached.Reader)}
	err = s.deliver(run, Spec{Stdout: spec.Stdout, Stderr: spec.Stderr}, opening{}, fail)
	if cause := context.Cause(run); cause != nil {
		return unknownExit, cause
	}
	if err != nil {
		return unknownExit, fmt.Errorf("read output: %w", err)
	}
	select {
	case result := <-ended.Result:
		return int(result.StatusCode), nil
	case err := <-ended.Error:
		return unknownExit, engineError(ctx, "exit code of "+c.Name, host, err)
	case <-run.Done(): // it has closed its output and runs on
		return unknownExit, context.Cause(run)
	}
}

func (p *Project) interrupt(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), engineGrace)
	defer cancel()
	_, _ = p.engine.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "SIGINT"}) // removal follows
}

// removeOneoff sees to it that nothing is left. A container that has ended
// removes itself.
func (p *Project) removeOneoff(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*engineGrace)
	defer cancel()
	_, _ = p.engine.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true})
}
