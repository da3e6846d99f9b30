package services

import (
	"os/exec"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
)

// hanging is a make with which the engine swallows every request whose first line
// matches, after as many as skip.
func hanging(wire *kit.DockerWire, line string, skip int) func(*testing.T, *bed) func() {
	return func(*testing.T, *bed) func() {
		wire.Hang(line, skip)
		return wire.Clear
	}
}

func dockerDo(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("docker", args...).CombinedOutput(); err != nil {
		t.Fatalf("docker %v: %v: %s", args, err, out)
	}
}
