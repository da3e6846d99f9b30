package storm

import (
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/testenv/s3fault"
)

// inContainer is a recovery test in a container.
const inContainer = "dr-test in a container"

// withImage tells which image there is for recovery tests, here.
func withImage(s *stage) {
	s.Env = append(s.Env, "ESCROWCTL_DR_TEST_IMAGE="+testenv.PostgresImage(s.t))
}

// dockerFaults are those of the engine and of the container that a recovery test
// runs in. Commands that need neither do not notice.
func dockerFaults() []fault {
	const group = "Docker"
	wired := func(rule func(*kit.DockerWire)) func(*stage) {
		return func(s *stage) {
			wire := kit.NewDockerWire(s.t)
			rule(wire)
			s.set("DOCKER_HOST=" + wire.Host)
			s.later(wire.Clear)
		}
	}
	hangs := func(line string) func(*stage) {
		return wired(func(w *kit.DockerWire) { w.Hang(line, 0) })
	}
	return []fault{
		{group: group, name: "stopped", before: func(s *stage) { s.set("DOCKER_HOST=unix:///nowhere/docker.sock") }, says: []string{"docker", "nowhere"},
			on: []cell{on(inContainer, 3), on("dr-test", 0), on("backup", 0)}},
		{group: group, name: "paused", before: hangs("."), limit: 2 * time.Minute, says: []string{"does not answer"},
			on: []cell{on(inContainer, 3), on("dr-test", 0), on("backup", 0)}},
		{group: group, name: "paused at the start", before: hangs("/start"), limit: 2 * time.Minute, leaves: true, says: []string{"takes the request and does not answer"}, on: []cell{on(inContainer, 3)}},
		{group: group, name: "slow", before: wired(func(w *kit.DockerWire) { w.Slow(100 * time.Millisecond) }), on: []cell{on(inContainer, 0)}},
		{group: group, name: "container killed", at: dumpRead, act: containerKilled, on: []cell{on(inContainer, 3)}},
	}
}

// dumpRead is the moment when a dump in the bucket is first read; it is held.
func dumpRead(s *stage) <-chan struct{} {
	g := s3fault.NewGate()
	s.Faults.On("Get", 0, -1, func(p *s3fault.Proxy, w http.ResponseWriter, r *http.Request) {
		if filepath.Ext(r.URL.Path) != ".gz" {
			p.Pass(w, r)
			return
		}
		g.Hold(p, w, r)
	})
	s.later(g.Open)
	return g.Reached()
}

func containerKilled(s *stage, run *kit.Running) {
	var id string
	kit.Eventually(s.t, "the test's container runs", func() bool {
		out, _ := exec.Command("docker", "ps", "--filter", "label=escrowctl.dr-test.run", "--format", `{{.ID}} {{.Label "escrowctl.dr-test.owner"}}`).Output()
		for line := range strings.Lines(string(out)) {
			var owner string
			if n, _ := fmt.Sscan(line, &id, &owner); n == 2 && strings.HasPrefix(owner, fmt.Sprint(run.PID, ".")) {
				return true
			}
		}
		return false
	})
	if out, err := exec.Command("docker", "kill", id).CombinedOutput(); err != nil {
		s.t.Errorf("docker kill: %v: %s", err, out)
	}
	s.clear()
}
