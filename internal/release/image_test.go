package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// TestDocumentedImage builds the image as docs/container.md does, in a copy of the
// tree, on the base that is here in the place of a registry's.
func TestDocumentedImage(t *testing.T) {
	block := testenv.RunBy(t, "docs/container.md", t.Name(), 1)[0]
	d := testenv.Docker(t)
	const base = "escrowctl-sandbox/client:15"
	testenv.Need(t, exec.Command("docker", "image", "inspect", base).Run() == nil, "the image "+base, "make images")
	name := "escrowctl-test-" + d.Run
	t.Cleanup(func() {
		if out, err := exec.Command("docker", "image", "rm", name).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	const documented = "docker build -t escrowctl "
	if !strings.Contains(block, documented) {
		t.Fatalf("it does not %s: %s", documented, block)
	}
	here := "docker build -t " + name + " --label escrowctl.test=1 --build-arg BASE=" + base + " "
	cmd := exec.Command("bash", "-e", "-c", strings.Replace(block, documented, here, 1))
	cmd.Dir = elsewhere(t)
	cmd.Env = append(os.Environ(), "DOCKER_BUILDKIT=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	id := d.Start(t, testenv.Container{Image: name, Cmd: []string{"sleep", "1000000"}})
	if out := d.Exec(t, id, "sh", "-c", "escrowctl version && pg_dump --version && id -u"); !strings.HasPrefix(out, "escrowctl ") || !strings.HasSuffix(out, "\n10001\n") {
		t.Errorf("in the image: %s", out)
	}
}
