package cli

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	moby "github.com/moby/moby/client"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/health"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// yard is a compose project made by hand: its file has the services steady,
// plain and api, and the test breaks api.
type yard struct {
	docker  *testenv.DockerHost
	project string
	dir     string
	image   string
	deps    *deps
}

func newYard(t *testing.T) *yard {
	t.Helper()
	docker := testenv.Docker(t)
	y := &yard{docker: docker, project: "escrowctltest" + docker.Run, dir: t.TempDir(), image: testenv.PostgresImage(t)}
	file := filepath.Join(y.dir, "docker-compose.yml")
	write(t, file, "services:\n  steady: {image: '"+y.image+"'}\n  plain: {image: '"+y.image+"'}\n"+
		"  api: {image: '"+y.image+"', environment: {API_KEYS: '${API_KEYS}'}}\n  setup: {image: x, profiles: [setup]}\n")
	write(t, filepath.Join(y.dir, ".env"), "API_KEYS=new-key-hunter2\n")
	inv := invoke(t, "ESCROWCTL_COMPOSE_PROJECT="+y.project, "ESCROWCTL_COMPOSE_FILES="+file, "DOCKER_HOST="+os.Getenv("DOCKER_HOST"))
	inv.io.Now = time.Now
	d, err := inv.open(looks)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	y.deps = d
	y.start(t, "steady", func(c *container.Config, _ *container.HostConfig) { c.Healthcheck = checkWith("true") })
	y.start(t, "plain", nil)
	return y
}

func checkWith(cmd ...string) *container.HealthConfig {
	return &container.HealthConfig{Test: append([]string{"CMD"}, cmd...), Interval: 300 * time.Millisecond, Timeout: 5 * time.Second, Retries: 1}
}

// create makes a container of a service that sleeps, unless shape says other.
func (y *yard) create(t *testing.T, service string, shape func(*container.Config, *container.HostConfig)) string {
	t.Helper()
	c := &container.Config{Image: y.image, Entrypoint: []string{"sleep", "1000000"}, Env: []string{"API_KEYS=new-key-hunter2"}, Labels: map[string]string{
		"escrowctl.test": "1", "escrowctl.test.run": y.docker.Run,
		"com.docker.compose.project": y.project, "com.docker.compose.service": service,
		"com.docker.compose.container-number": "1", "com.docker.compose.oneoff": "False", "com.docker.compose.project.working_dir": y.dir,
	}}
	h := &container.HostConfig{NetworkMode: "none"}
	if shape != nil {
		shape(c, h)
	}
	made, err := y.docker.Client.ContainerCreate(t.Context(), moby.ContainerCreateOptions{Config: c, HostConfig: h})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { y.docker.Remove(t, made.ID) })
	return made.ID
}

func (y *yard) start(t *testing.T, service string, shape func(*container.Config, *container.HostConfig)) string {
	t.Helper()
	id := y.create(t, service, shape)
	if _, err := y.docker.Client.ContainerStart(t.Context(), id, moby.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	return id
}

// greedy shapes a container in which a process takes all memory. Its shell outlives
// what is killed by far: a container that dies at once is gone before Docker hears
// of it from the kernel.
func greedy(c *container.Config, h *container.HostConfig) {
	c.Entrypoint = []string{"sh", "-c", "tail /dev/zero; sleep 10; exit 137"}
	h.Memory, h.MemorySwap = 16<<20, 16<<20
}

// look runs the check until wanted says yes, and returns its parts.
func (y *yard) look(t *testing.T, wanted func(health.Entry, map[string]health.Entry) bool) (health.Entry, map[string]health.Entry) {
	t.Helper()
	var e health.Entry
	var parts map[string]health.Entry
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		probe := y.deps.containersProbe()
		probe.Limit = 20 * time.Second
		results := check.Run(t.Context(), []check.Probe{probe})
		e = health.Evaluate(results, nil, nil, time.Now()).Entries[0]
		parts = map[string]health.Entry{}
		for _, p := range e.Parts {
			parts[p.ID] = p
		}
		if wanted(e, parts) {
			return e, parts
		}
	}
	t.Fatalf("it stays %s: %s", e.Status, e.Summary)
	return e, parts
}

// TestContainerFaults breaks the service api in every way, for real. Each gives
// its own status and next command, and changes no other line.
func TestContainerFaults(t *testing.T) {
	y := newYard(t)
	up := "docker compose -p " + y.project + " up -d api"
	steady := func(p map[string]health.Entry) bool {
		return p["steady"].Summary == "healthy" && p["plain"].Summary == "running, no healthcheck" && len(p) == 3
	}
	for _, tt := range []struct {
		name   string
		make   func(t *testing.T)
		status check.Status
		says   string
		next   string
	}{
		{"well", func(t *testing.T) {
			y.start(t, "api", func(c *container.Config, _ *container.HostConfig) { c.Healthcheck = checkWith("true") })
		},
			check.OK, "healthy", ""},
		{"removed", func(*testing.T) {}, check.Critical, "has no container", up},
		{"one-off only", func(t *testing.T) {
			y.start(t, "api", func(c *container.Config, _ *container.HostConfig) { c.Labels["com.docker.compose.oneoff"] = "True" })
		}, check.Critical, "has no container", up},
		{"never started", func(t *testing.T) { y.create(t, "api", nil) }, check.Critical, "never started", up},
		{"stopped", func(t *testing.T) {
			y.start(t, "api", func(c *container.Config, _ *container.HostConfig) { c.Entrypoint = []string{"true"} })
		}, check.Critical, "stopped: exited with 0", up},
		{"failed", func(t *testing.T) {
			y.start(t, "api", func(c *container.Config, _ *container.HostConfig) { c.Entrypoint = []string{"sh", "-c", "exit 7"} })
		}, check.Critical, "stopped: exited with 7", "docker logs --tail 50 "},
		{"paused", func(t *testing.T) {
			id := y.start(t, "api", nil)
			if _, err := y.docker.Client.ContainerPause(t.Context(), id, moby.ContainerPauseOptions{}); err != nil {
				t.Fatal(err)
			}
		}, check.Critical, "paused", "docker unpause "},
		{"unhealthy", func(t *testing.T) {
			y.start(t, "api", func(c *container.Config, _ *container.HostConfig) {
				c.Healthcheck = checkWith("sh", "-c", "echo broken; exit 1")
			})
		}, check.Critical, "unhealthy: ", "docker logs --tail 50 "},
		{"starting", func(t *testing.T) {
			y.start(t, "api", func(c *container.Config, _ *container.HostConfig) {
				c.Healthcheck = checkWith("sleep", "1000")
				c.Healthcheck.Timeout = time.Hour
			})
		}, check.Warning, "not yet healthy", "docker logs --tail 50 "},
		{"restart loop", func(t *testing.T) {
			y.start(t, "api", func(c *container.Config, h *container.HostConfig) {
				c.Entrypoint = []string{"sh", "-c", "sleep 0.1; exit 3"}
				h.RestartPolicy.Name = container.RestartPolicyAlways
			})
		}, check.Critical, "in a restart loop: restarted ", "docker logs --tail 50 "},
		{"killed for memory", func(t *testing.T) { y.start(t, "api", greedy) }, check.Critical, "killed for memory (OOM), exit 137", up},
		{"another image than the file's", func(t *testing.T) {
			y.start(t, "api", func(c *container.Config, _ *container.HostConfig) { c.Image = "escrowctl-sandbox/redis:7" })
		}, check.Warning, "runs escrowctl-sandbox/redis:7, the compose file has " + y.image, up},
		{"older than .env", func(t *testing.T) {
			y.start(t, "api", func(c *container.Config, _ *container.HostConfig) { c.Env = []string{"API_KEYS=old-key-hunter2"} })
		}, check.Warning, "API_KEYS is sha256:", up},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.make(t)
			e, parts := y.look(t, func(_ health.Entry, p map[string]health.Entry) bool {
				return steady(p) && p["api"].Status == tt.status && strings.Contains(p["api"].Summary, tt.says)
			})
			api := parts["api"]
			if !strings.Contains(api.Action, tt.next) || (tt.next == "") != (api.Action == "") {
				t.Errorf("next command %q, want %q", api.Action, tt.next)
			}
			if e.Status != tt.status {
				t.Errorf("the whole is %s: %s", e.Status, e.Summary)
			}
			critical := tt.status == check.Critical
			if (api.Priority == "P1") != critical || api.Deadline.IsZero() == critical || critical && strings.Join(api.Runbooks, " ") != "RB-003" {
				t.Errorf("priority %q, deadline %s, runbooks %q", api.Priority, api.Deadline, api.Runbooks)
			}
			if strings.Contains(fmt.Sprint(e), "hunter2") {
				t.Error("a secret is shown")
			}
		})
	}
}

// TestContainerDrift: an image that was rebuilt under its name, and a container
// that has restarted since.
func TestContainerDrift(t *testing.T) {
	y := newYard(t)
	tag := "escrowctl-test-drift:" + strings.ToLower(y.docker.Run)
	retag := func(from string) {
		if _, err := y.docker.Client.ImageTag(t.Context(), moby.ImageTagOptions{Source: from, Target: tag}); err != nil {
			t.Fatal(err)
		}
	}
	retag(y.image)
	t.Cleanup(func() { _, _ = y.docker.Client.ImageRemove(context.Background(), tag, moby.ImageRemoveOptions{}) })
	y.image = tag
	y.start(t, "api", func(c *container.Config, h *container.HostConfig) {
		// It ends once, and then stays.
		c.Entrypoint = []string{"sh", "-c", "[ -e /tmp/x ] && exec sleep 1000000; touch /tmp/x; exit 1"}
		h.RestartPolicy.Name = container.RestartPolicyAlways
	})
	_, parts := y.look(t, func(_ health.Entry, p map[string]health.Entry) bool {
		return strings.Contains(p["api"].Summary, "restarted once since")
	})
	if api := parts["api"]; api.Status != check.Warning || api.Since.IsZero() {
		t.Errorf("restarted: %+v", api.Result)
	}
	retag("escrowctl-sandbox/redis:7")
	_, parts = y.look(t, func(_ health.Entry, p map[string]health.Entry) bool {
		return strings.Contains(strings.Join(p["api"].Detail, "\n"), "runs an older build of its image "+tag)
	})
	if ids := maps.Keys(parts); ids == nil || parts["steady"].Status != check.OK {
		t.Errorf("another line changed: %+v", parts["steady"].Result)
	}
}

// TestNoContainers: a project that is defined and has not one container, one
// whose definition is not known, and no engine.
func TestNoContainers(t *testing.T) {
	testenv.Docker(t)
	look := func(env ...string) health.Entry {
		inv := invoke(t, env...)
		write(t, "docker-compose.yml", "services: {api: {image: x}, redis: {image: y}}\n")
		d, err := inv.open(looks)
		if err != nil {
			t.Fatal(err)
		}
		defer d.close()
		return health.Evaluate(check.Run(t.Context(), []check.Probe{d.containersProbe()}), nil, nil, testNow()).Entries[0]
	}
	if e := look("ESCROWCTL_COMPOSE_PROJECT=no-such-project", "ESCROWCTL_COMPOSE_DIR=."); e.Status != check.Critical || len(e.BrokenParts()) != 2 || !strings.HasPrefix(e.Parts[0].Action, "docker compose -p no-such-project up -d ") {
		t.Errorf("nothing runs: %s %s %+v", e.Status, e.Summary, e.Parts)
	}
	if e := look("ESCROWCTL_COMPOSE_PROJECT=no-such-project"); e.Status != check.Unknown || !strings.Contains(e.Summary, "no project no-such-project") {
		t.Errorf("nothing known: %s %s", e.Status, e.Summary)
	}
	if e := look("ESCROWCTL_COMPOSE_PROJECT=x", "DOCKER_HOST=unix:///nonexistent.sock"); e.Status != check.Unknown || !strings.Contains(e.Summary, "no such socket") || e.Priority != "P1" {
		t.Errorf("no engine: %s %s", e.Status, e.Summary)
	}
	if e := look("ESCROWCTL_COMPOSE_PROJECT=x", "DOCKER_HOST=tcp://"+testenv.Silent(t), "ESCROWCTL_SHIFT_CHECK_TIMEOUT=1s"); e.Status != check.Unknown || e.Summary == "" {
		t.Errorf("a silent engine: %s %s", e.Status, e.Summary)
	}
}
