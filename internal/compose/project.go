package compose

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/client"
)

// Options say which project is meant. The first of Project, Files and Dir that
// is set decides; with none set it is the project of the current directory, or
// else the only one on the engine.
type Options struct {
	Project    string   // the project's name, as given to compose -p
	Dir        string   // the project's directory
	Files      []string // its compose files; relative ones are relative to Dir
	DockerHost string   // unix:///path, tcp://host:port; "": as the environment says (DOCKER_HOST, DOCKER_TLS_VERIFY, ...)
}

// Project is one compose project on one Docker engine. It holds no container:
// each call looks them up again, since they are recreated at any time.
type Project struct {
	name   string
	dir    string
	files  []string // compose files, as the labels have them
	engine *client.Client
}

// Open connects to the engine and finds the project. Errors: ErrNoDaemon,
// ErrNoProject.
func Open(ctx context.Context, opts Options) (*Project, error) {
	engine, err := Engine(opts.DockerHost)
	if err != nil {
		return nil, err
	}
	found, err := listProjects(ctx, engine)
	if err == nil {
		var chosen candidate
		if chosen, err = choose(found, opts); err == nil {
			return &Project{name: chosen.name, dir: chosen.dir(), files: chosen.files, engine: engine}, nil
		}
	}
	_ = engine.Close()
	return nil, err
}

// Engine returns a client of the Docker engine at host ("" is as the environment
// says); it does not connect yet. Error: ErrNoDaemon.
func Engine(host string) (*client.Client, error) {
	if strings.HasPrefix(host, "ssh://") {
		return nil, explain(ErrNoDaemon, nil, "docker_host %s: ssh is not supported: forward the socket (ssh -L /run/remote-docker.sock:/var/run/docker.sock HOST) and set unix:///run/remote-docker.sock", host)
	}
	opts := []client.Opt{client.WithHostFromEnv(), client.WithAPIVersionFromEnv()}
	if dir := os.Getenv("DOCKER_CERT_PATH"); dir != "" {
		// Whatever DOCKER_TLS_VERIFY says: who is believed without a look may be
		// anybody, and is sent what root does on that host.
		opts = append(opts, client.WithTLSClientConfig(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")))
	}
	if host != "" {
		opts = append(opts, client.WithHost(host))
	}
	engine, err := client.New(opts...)
	if err != nil {
		return nil, explain(ErrNoDaemon, err, "docker client: %v: check compose.docker_host and the DOCKER_ variables", err)
	}
	return engine, nil
}

// EngineError says what to do about an error of the engine: one that does not
// answer is told from one that refuses. doing is what was tried.
func EngineError(ctx context.Context, engine *client.Client, doing string, err error) error {
	return engineError(ctx, doing, engine.DaemonHost(), err)
}

// Name is the project's name on the engine.
func (p *Project) Name() string { return p.name }

// Dir is the project's directory as its containers' labels have it; empty when
// they do not say (Compose before 1.25).
func (p *Project) Dir() string { return p.dir }

// Close releases idle connections to the engine.
func (p *Project) Close() error { return p.engine.Close() }

// Container is one container of the project.
type Container struct {
	ID      string
	Name    string
	Service string
	Number  int // 1, 2, ... of a scaled service
	Image   string
	State   string // created, running, paused, restarting, exited, dead, removing
	Status  string // as docker ps words it: "Up 2 hours (healthy)"
	Health  string // healthy, unhealthy, starting; empty without a healthcheck, which is not healthy
}

// Containers lists the project's containers, stopped ones too, by service and
// number. Those of `compose run` are left out.
func (p *Project) Containers(ctx context.Context) ([]Container, error) {
	items, err := list(ctx, p.engine, labelProject+"="+p.name)
	if err != nil {
		return nil, err
	}
	containers := make([]Container, 0, len(items))
	for _, item := range items {
		containers = append(containers, describe(item))
	}
	slices.SortFunc(containers, func(a, b Container) int {
		if c := strings.Compare(a.Service, b.Service); c != 0 {
			return c
		}
		return a.Number - b.Number
	})
	return containers, nil
}

// running is the service's running container with the lowest number.
func (p *Project) running(ctx context.Context, service string) (Container, error) {
	all, err := p.Containers(ctx)
	if err != nil {
		return Container{}, err
	}
	var known []string
	var idle *Container
	for i, c := range all {
		if !slices.Contains(known, c.Service) {
			known = append(known, c.Service)
		}
		if c.Service != service {
			continue
		}
		if c.State == "running" {
			return c, nil
		}
		if idle == nil {
			idle = &all[i]
		}
	}
	if idle == nil {
		return Container{}, explain(ErrNoService, nil, "project %s has no container of service %s (it has: %s): start it with docker compose -p %s up -d %s, or correct the service's name in the configuration",
			p.name, service, orNone(known), p.name, service)
	}
	return Container{}, p.notRunning(*idle)
}

func (p *Project) notRunning(c Container) error {
	remedy := fmt.Sprintf("start it with docker compose -p %s up -d %s", p.name, c.Service)
	switch c.State {
	case "paused":
		remedy = "docker unpause " + c.Name
	case "restarting":
		remedy = "it keeps failing to start: docker logs --tail 50 " + c.Name
	case "exited", "dead":
		remedy += ", and see docker logs --tail 50 " + c.Name
	}
	return explain(ErrNotRunning, nil, "service %s of project %s: container %s is %s (%s): %s", c.Service, p.name, c.Name, c.State, c.Status, remedy)
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// absolute resolves a path as Compose does for its labels, and as far as the
// file system allows through symbolic links as well.
func absolute(dir, path string) string {
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return resolveLinks(path)
}

// resolveLinks also takes a file that is not there, by its directory.
func resolveLinks(path string) string {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		return resolved
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(dir, filepath.Base(path))
	}
	return filepath.Clean(path)
}
