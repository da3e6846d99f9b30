package testenv

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
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

	program []string
}

// ComposeProject writes the files, by name, into a directory of the project and
// brings it up. Its containers go with the test. Give each service the label
// ${TEST_LABEL}, which Expand fills in, so that they go too if the test dies.
func (d *DockerHost) ComposeProject(t testing.TB, files map[string]string) *Project {
	t.Helper()
	p := &Project{Name: "escrowctl-test-" + d.Run, Dir: t.TempDir(), program: composeProgram(t)}
	for name, text := range files {
		text = strings.ReplaceAll(text, "${TEST_LABEL}", runLabel+"="+d.Run)
		if err := os.WriteFile(filepath.Join(p.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatalf("testenv: %v", err)
		}
	}
	t.Cleanup(func() {
		if _, err := p.Run("down", "-v", "--remove-orphans", "-t", "1"); err != nil {
			t.Errorf("testenv: compose down: %v", err)
		}
	})
	if _, err := p.Run("up", "-d"); err != nil {
		t.Fatalf("testenv: compose up: %v", err)
	}
	return p
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

// Run runs the compose program on the project.
func (p *Project) Run(args ...string) (string, error) {
	words := append(append([]string{}, p.program[1:]...), "-p", p.Name)
	cmd := exec.Command(p.program[0], append(words, args...)...)
	cmd.Dir = p.Dir
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
