package testenv

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// Labels of the containers that tests make. The first says that a test made
// it, the second which one.
const (
	testLabel = "escrowctl.test"
	runLabel  = "escrowctl.test.run"
)

// DockerHost is the Docker Engine as a test uses it: what it makes carries
// its labels, and goes with the test.
type DockerHost struct {
	Client *client.Client
	// Run is the value of the label escrowctl.test.run. What carries it is
	// removed if the test process dies, whoever made it.
	Run string

	watchdog *watchdog
	count    atomic.Int64
}

// Docker connects to the engine and removes the test's containers, with
// their volumes, at its end.
func Docker(t testing.TB) *DockerHost {
	t.Helper()
	engine, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatalf("testenv: docker: %v", err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = engine.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	Need(t, err == nil, fmt.Sprint("a Docker Engine that answers: ", err), "start docker, and be root or in its group")
	_, err = exec.LookPath("docker")
	Need(t, err == nil, "the docker command in PATH", "apt-get install docker.io")

	d := &DockerHost{Client: engine, Run: strings.ToLower(rand.Text()[:12])}
	d.watchdog = newWatchdog(t, "")
	d.watchdog.tell(t, "label %s=%s", runLabel, d.Run)
	return d
}

// PostgresImage is the tag of the image that `make images` builds from Debian
// packages: PostgreSQL 15 with the official image's variables, and Redis.
func PostgresImage(t testing.TB) string {
	t.Helper()
	const tag = "escrowctl-sandbox/postgres:15"
	err := exec.Command("docker", "image", "inspect", tag).Run()
	Need(t, err == nil, "the image "+tag, "make images")
	return tag
}

// Container is what a test wants to run.
type Container struct {
	Image   string
	Project string // of Compose; with Service it labels the container as Compose would
	Service string
	Env     []string
	Cmd     []string // instead of the image's own entrypoint, if given
	Labels  map[string]string
	Tmpfs   map[string]string // path to options
	Network string            // "none" if empty: few of the things a test runs need more
	Aliases []string          // names in that network, besides the service's
	Volumes map[string]string // of DockerHost.Volume, to the path where it is mounted
	Publish []int             // TCP ports, on a free port of 127.0.0.1 each: see Port
	Files   map[string]string // path to content, put in before the start
	Systemd bool              // is what it runs: it may mount, and has a tree of cgroups of its own
}

// Start makes and starts a container and returns its id.
func (d *DockerHost) Start(t testing.TB, c Container) string {
	t.Helper()
	labels := map[string]string{testLabel: "1", runLabel: d.Run}
	if c.Project != "" {
		labels["com.docker.compose.project"] = c.Project
		labels["com.docker.compose.service"] = c.Service
		labels["com.docker.compose.container-number"] = "1"
		labels["com.docker.compose.oneoff"] = "False"
	}
	for name, value := range c.Labels {
		labels[name] = value
	}
	config := &container.Config{Image: c.Image, Labels: labels, Env: c.Env}
	if len(c.Cmd) > 0 {
		config.Entrypoint = c.Cmd
	}
	network := c.Network
	if network == "" {
		network = "none"
	}
	host := &container.HostConfig{
		NetworkMode: container.NetworkMode(network), Tmpfs: c.Tmpfs, Binds: binds(c.Volumes), PortBindings: ports(t, config, c.Publish),
	}
	if c.Systemd {
		host.CapAdd, host.CgroupnsMode = []string{"SYS_ADMIN"}, container.CgroupnsModePrivate
	}
	name := fmt.Sprintf("escrowctl-test-%s-%d", d.Run, d.count.Add(1))
	made, err := d.Client.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Name: name, Config: config, NetworkingConfig: endpoints(c),
		HostConfig: host,
	})
	if err != nil {
		t.Fatalf("testenv: docker: create %s: %v", name, err)
	}
	t.Cleanup(func() { d.Remove(t, made.ID) })
	if len(c.Files) > 0 {
		d.Put(t, made.ID, c.Files)
	}
	if _, err := d.Client.ContainerStart(t.Context(), made.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatalf("testenv: docker: start %s: %v", name, err)
	}
	return made.ID
}

// EmptyImage makes an image of nothing but settings, each an instruction of a
// Dockerfile, and returns its id.
func (d *DockerHost) EmptyImage(t testing.TB, settings ...string) string {
	t.Helper()
	args := []string{"import"}
	for _, s := range settings {
		args = append(args, "--change", s)
	}
	cmd := exec.Command("docker", append(args, "-")...)
	cmd.Stdin = bytes.NewReader(make([]byte, 1024)) // the end of a tar
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("testenv: docker import: %v", err)
	}
	id := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if _, err := d.Client.ImageRemove(context.Background(), id, client.ImageRemoveOptions{}); err != nil {
			t.Errorf("testenv: docker: remove image %s: %v", id, err)
		}
	})
	return id
}

// Remove removes a container and its volumes; one that is gone is no error.
func (d *DockerHost) Remove(t testing.TB, id string) {
	t.Helper()
	_, err := d.Client.ContainerRemove(context.Background(), id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !strings.Contains(err.Error(), "No such container") {
		t.Errorf("testenv: docker: remove %s: %v", id, err)
	}
}

// Exec runs a command in a container and returns its standard output.
func (d *DockerHost) Exec(t testing.TB, id string, cmd ...string) string {
	t.Helper()
	out, err := dockerExec(id, "", cmd...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func dockerExec(id, stdin string, cmd ...string) (string, error) {
	run := exec.Command("docker", append([]string{"exec", "-i", id}, cmd...)...)
	run.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	run.Stdout, run.Stderr = &stdout, &stderr
	if err := run.Run(); err != nil {
		return "", fmt.Errorf("testenv: docker exec %s: %w: %s", cmd[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// PGContainer is a PostgreSQL server in a container that publishes no port,
// as the service `postgres` of a compose project.
type PGContainer struct {
	ID       string
	Project  string
	User     string // superuser, the role that POSTGRES_USER names
	Password string
	Database string

	docker *DockerHost
}

// Postgres starts the platform's postgres service in a project of its own:
// role indexer, database stellar_escrow, data on a tmpfs.
func (d *DockerHost) Postgres(t testing.TB) *PGContainer {
	t.Helper()
	c := &PGContainer{
		Project: "escrowctl-test-" + d.Run, User: "indexer", Password: rand.Text(),
		Database: "stellar_escrow", docker: d,
	}
	c.ID = d.Start(t, Container{
		Image: PostgresImage(t), Project: c.Project, Service: "postgres",
		Env: []string{
			"POSTGRES_USER=" + c.User, "POSTGRES_PASSWORD=" + c.Password, "POSTGRES_DB=" + c.Database,
		},
		Tmpfs: map[string]string{"/var/lib/postgresql/data": "mode=1777"},
	})
	// Over TCP: during its first start the server listens on its socket only.
	deadline := time.Now().Add(startLimit)
	for {
		_, err := dockerExec(c.ID, "", "pg_isready", "-q", "-h", "127.0.0.1")
		if err == nil {
			return c
		}
		if time.Now().After(deadline) {
			logs, _ := exec.Command("docker", "logs", "--tail", "50", c.ID).CombinedOutput()
			t.Fatalf("testenv: postgres in a container: not ready: %v\n%s", err, logs)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// URL is the database as the services of the project name it.
func (c *PGContainer) URL() string {
	return "postgres://" + c.User + ":" + c.Password + "@postgres:5432/" + c.Database + "?sslmode=disable"
}

// Psql runs statements and returns the rows as PG.Psql does.
func (c *PGContainer) Psql(t testing.TB, db, sql string) string {
	t.Helper()
	out, err := dockerExec(c.ID, sql, "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1",
		"-U", c.User, "-d", db, "-f", "-")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(out, "\n")
}
