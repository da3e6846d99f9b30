package testenv

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"
)

// PlatformImage is the tag of the image with the platform's stand-ins.
func PlatformImage(t testing.TB) string {
	t.Helper()
	const tag = "escrowctl-sandbox/platform:latest"
	err := exec.Command("docker", "image", "inspect", tag).Run()
	Need(t, err == nil, "the image "+tag, "make images")
	return tag
}

// Project is a compose project of a test's own, run by the compose program that
// is there.
type Project struct {
	Name string
	Dir  string

	docker  *DockerHost
	program []string
}

// ComposeProject writes the files, by name, into a directory of the project and
// brings it up. Its containers go with the test. Give each service the label
// ${TEST_LABEL}, which Expand fills in, so that they go too if the test dies.
func (d *DockerHost) ComposeProject(t testing.TB, files map[string]string) *Project {
	t.Helper()
	p := &Project{Name: "escrowctl-test-" + d.Run, Dir: t.TempDir(), docker: d, program: composeProgram(t)}
	d.watchdog.tell(t, "label com.docker.compose.project=%s", p.Name)
	for name, text := range files {
		text = strings.ReplaceAll(text, "${TEST_LABEL}", runLabel+"="+d.Run)
		if err := os.WriteFile(filepath.Join(p.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatalf("testenv: %v", err)
		}
	}
	volumes := p.followVolumes(t)
	t.Cleanup(func() {
		names := append(volumes(), p.anonymous(t)...)
		if _, err := p.Run("down", "-v", "--remove-orphans", "-t", "1"); err != nil {
			t.Errorf("testenv: compose down: %v", err)
		}
		d.removeVolumes(t, names)
	})
	if _, err := p.Run("up", "-d"); err != nil {
		t.Fatalf("testenv: compose up: %v", err)
	}
	return p
}

// followVolumes notes the volumes without a name of every container that the
// project gets. Compose hands them on to the container that takes another's place,
// and spares them in the end, or leaves the old ones behind right then. It returns
// what stops it and tells.
func (p *Project) followVolumes(t testing.TB) (stop func() []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	made := make(client.Filters).Add("type", "container").Add("event", "create").Add("label", "com.docker.compose.project="+p.Name)
	stream := p.docker.Client.Events(ctx, client.EventsListOptions{Filters: made})
	var names []string
	var following sync.WaitGroup
	following.Go(func() {
		for {
			select {
			case e := <-stream.Messages:
				got, err := p.docker.Client.ContainerInspect(ctx, e.Actor.ID, client.ContainerInspectOptions{})
				if err != nil {
					continue // gone meanwhile
				}
				for _, m := range got.Container.Mounts {
					if m.Type == mount.TypeVolume && nameless(m.Name) {
						names = append(names, m.Name)
						p.docker.watchdog.tell(t, "volume %s", m.Name)
					}
				}
			case <-stream.Err: //nolint:errcheck // the engine is gone, and the volumes with it
				return
			}
		}
	})
	return func() []string {
		cancel()
		following.Wait()
		return names
	}
}

// anonymous are the volumes without a name that the project's containers have
// mounted now.
func (p *Project) anonymous(t testing.TB) []string {
	t.Helper()
	ctx := context.Background() // also after the test
	mine := make(client.Filters).Add("label", "com.docker.compose.project="+p.Name)
	list, err := p.docker.Client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: mine})
	if err != nil {
		t.Errorf("testenv: docker: the containers of %s: %v", p.Name, err)
	}
	var names []string
	for _, c := range list.Items {
		for _, m := range c.Mounts {
			if m.Type == mount.TypeVolume && nameless(m.Name) {
				names = append(names, m.Name)
			}
		}
	}
	return names
}

// nameless says whether Docker itself gave a volume its name.
func nameless(volume string) bool {
	id, err := hex.DecodeString(volume)
	return err == nil && len(id) == 32
}

// removeVolumes removes volumes; one that is gone is no error.
func (d *DockerHost) removeVolumes(t testing.TB, names []string) {
	t.Helper()
	for _, name := range names {
		if _, err := d.Client.VolumeRemove(context.Background(), name, client.VolumeRemoveOptions{Force: true}); err != nil {
			t.Errorf("testenv: docker: remove volume %s: %v", name, err)
		}
	}
}

func composeProgram(t testing.TB) []string {
	t.Helper()
	if exec.Command("docker", "compose", "version").Run() == nil {
		return []string{"docker", "compose"}
	}
	_, err := exec.LookPath("docker-compose")
	Need(t, err == nil, "docker compose or docker-compose", "apt-get install docker-compose, or the docker-compose-plugin")
	return []string{"docker-compose"}
}

// ComposePatience is what docker-compose needs in its environment to wait for the
// engine of a busy machine.
const ComposePatience = "COMPOSE_HTTP_TIMEOUT=600"

// Run runs the compose program on the project.
func (p *Project) Run(args ...string) (string, error) {
	words := append(append([]string{}, p.program[1:]...), "-p", p.Name)
	cmd := exec.Command(p.program[0], append(words, args...)...)
	cmd.Dir = p.Dir
	cmd.Env = append(os.Environ(), ComposePatience)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// EnvFile is the project's .env.
func (p *Project) EnvFile() string { return filepath.Join(p.Dir, ".env") }

// FreePort is a port of 127.0.0.1 that nothing listens on now, and that no other
// test takes until the end of this one.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := freePort(t)
	if err != nil {
		t.Fatalf("testenv: %v", err)
	}
	return port
}
