package compose

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

const dbPassword = "tunnel-secret"

// patience is how long a test waits for what takes moments on an idle machine.
const patience = 5 * time.Minute

// testImage is a PostgreSQL image with sh, perl, bash and busybox.
func testImage(t testing.TB) string { return testenv.PostgresImage(t) }

// newContainer makes a container as Compose would; it is not started.
func newContainer(t testing.TB, docker *testenv.DockerHost, project, service string, labels map[string]string, cmd ...string) (id, name string) {
	t.Helper()
	all := map[string]string{
		"escrowctl.test": "1", "escrowctl.test.run": docker.Run, labelProject: project, labelService: service,
		labelNumber: "1", labelOneoff: "False",
	}
	for k, v := range labels {
		all[k] = v
	}
	name = fmt.Sprintf("%s-%s-%s", project, service, all[labelNumber])
	if all[labelOneoff] != "False" {
		name += "-run"
	}
	config := &container.Config{Image: testImage(t), Labels: all, Env: []string{"POSTGRES_PASSWORD=" + dbPassword}}
	if len(cmd) > 0 {
		config.Entrypoint = cmd
	}
	created, err := docker.Client.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Config: config, Name: name,
		HostConfig: &container.HostConfig{
			NetworkMode: "none",
			Tmpfs:       map[string]string{"/var/lib/postgresql/data": "mode=1777"},
		},
	})
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	t.Cleanup(func() { docker.Remove(t, created.ID) })
	return created.ID, name
}

func startContainer(t testing.TB, docker *testenv.DockerHost, id string) {
	t.Helper()
	if _, err := docker.Client.ContainerStart(t.Context(), id, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
}

// uniqueProject is a project name that no other run has.
func uniqueProject() string {
	return fmt.Sprintf("escrowctltest%d-%d", os.Getpid(), time.Now().UnixNano()%1e9)
}

// sleeper opens a project with one service "box" that does nothing.
func sleeper(t testing.TB) (*Project, string) {
	t.Helper()
	docker, project := testenv.Docker(t), uniqueProject()
	id, _ := newContainer(t, docker, project, "box", nil, "sleep", "1000000")
	startContainer(t, docker, id)
	return open(t, Options{Project: project}), id
}

func open(t testing.TB, opts Options) *Project {
	t.Helper()
	p, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// processes lists the command lines in a container.
func processes(t testing.TB, p *Project, id string) []string {
	t.Helper()
	top, err := p.engine.ContainerTop(context.Background(), id, client.ContainerTopOptions{Arguments: []string{"-o", "pid,args"}})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, row := range top.Processes {
		line := strings.Join(row[1:], " ")
		lines = append(lines, line[:min(len(line), 80)])
	}
	return lines
}

// waitProcesses waits until the container runs nothing but what allowed says.
func waitProcesses(t testing.TB, p *Project, id string, allowed func(string) bool) {
	t.Helper()
	var left []string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		left = slices.DeleteFunc(processes(t, p, id), allowed)
		if len(left) == 0 {
			return
		}
	}
	t.Fatalf("left in the container after %s:\n%s", patience, strings.Join(left, "\n"))
}

func isSleeper(s string) bool { return strings.HasPrefix(s, "sleep 1000000") }

// waitProcess waits until a process whose command line starts with cmd runs.
func waitProcess(t testing.TB, p *Project, id, cmd string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if slices.ContainsFunc(processes(t, p, id), func(s string) bool { return strings.HasPrefix(s, cmd) }) {
			return
		}
	}
	t.Fatalf("%q never ran in the container", cmd)
}
