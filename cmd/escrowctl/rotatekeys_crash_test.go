package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// killInCompose starts escrowctl, waits until the program that it runs is
// recreating, lets that work for a while, and kills escrowctl, and the program
// too if all is set. It says whether it came in time.
func (p *platform) killInCompose(t *testing.T, after time.Duration, all bool, args ...string) bool {
	t.Helper()
	cmd := p.command(args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	for {
		select {
		case <-ended:
			return false
		case <-time.After(5 * time.Millisecond):
		}
		compose := recreating(cmd.Process.Pid)
		if compose == 0 {
			continue
		}
		time.Sleep(after)
		_ = cmd.Process.Kill()
		if all {
			_ = syscall.Kill(-compose, syscall.SIGKILL) // it leads a group of its own
		}
		<-ended
		return cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	}
}

// recreating is the child of a process that runs "up -d", 0 if there is none.
func recreating(parent int) int {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range files {
		stat, _ := os.ReadFile(f) // the process may be gone
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 2 || fields[1] != strconv.Itoa(parent) {
			continue
		}
		if line, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "cmdline")); strings.Contains(string(line), "\x00up\x00-d") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			return pid
		}
	}
	return 0
}

// whole sees that .env is one of these versions, to the byte.
func (p *platform) whole(t *testing.T, what string, versions ...string) {
	t.Helper()
	got := p.envFile(t)
	for _, v := range versions {
		if got == v {
			return
		}
	}
	t.Fatalf("%s: .env is neither version", what)
}

// TestKilledInCompose kills escrowctl, alone and together with Compose, at
// several moments of a real recreate. The next command goes on or rolls back, and
// in the end .env, containers and what is answered say the same.
func TestKilledInCompose(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	before := p.envFile(t)
	run := func(code int, args ...string) {
		t.Helper()
		if got, out, errs := p.run(t, args...); got != code {
			t.Fatalf("%q: exit %d, want %d: %s%s", args, got, code, out, errs)
		}
	}
	run(0, "rotate-keys", "start", "API_KEYS", "--out", t.TempDir())
	run(0, "rotate-keys", "notify", "API_KEYS", "--manual")
	start := time.Now()
	run(0, "rotate-keys", "activate", "API_KEYS")
	undisturbed := time.Since(start)
	run(0, "rotate-keys", "rollback", "API_KEYS")
	t.Logf("undisturbed it takes %s", undisturbed)
	kills := 0
	moments := []time.Duration{0, undisturbed / 4, undisturbed / 2}
	for i, after := range moments {
		all := i != 1
		what := fmt.Sprintf("killed %s into the recreate, Compose too: %v", after, all)
		handed := t.TempDir()
		run(0, "rotate-keys", "start", "API_KEYS", "--out", handed)
		run(0, "rotate-keys", "notify", "API_KEYS", "--manual")
		body, err := os.ReadFile(filepath.Join(handed, "API_KEYS-1.key"))
		if err != nil {
			t.Fatal(err)
		}
		fresh := strings.TrimSpace(string(body))
		both := strings.Replace(before, markerAPIKey, markerAPIKey+","+fresh, 1)
		if p.killInCompose(t, after, all, "rotate-keys", "activate", "API_KEYS") {
			kills++
			p.whole(t, what, before, both)
			if i%2 == 0 {
				run(0, "rotate-keys", "activate", "API_KEYS")
			}
		}
		if i%2 == 0 {
			p.whole(t, what, both)
			if p.ask(markerAPIKey) != http.StatusOK || p.ask(fresh) != http.StatusOK || p.ask("none") != http.StatusUnauthorized {
				t.Errorf("%s, then activate: the old key is answered with %d, the new one with %d", what, p.ask(markerAPIKey), p.ask(fresh))
			}
		}
		run(0, "rotate-keys", "rollback", "API_KEYS")
		p.whole(t, what, before)
		if p.ask(markerAPIKey) != http.StatusOK || p.ask(fresh) != http.StatusUnauthorized {
			t.Errorf("%s, rolled back: the old key is answered with %d, the new one with %d", what, p.ask(markerAPIKey), p.ask(fresh))
		}
		p.one(t, what, "api")
	}

	// A password, whose server is what is being recreated.
	for i, name := range []string{"REDIS_PASSWORD", "POSTGRES_PASSWORD"} {
		what := name + " killed in the recreate"
		if p.killInCompose(t, undisturbed/4, true, "rotate-keys", name) {
			kills++
		}
		if i == 0 {
			run(0, "rotate-keys", name)
		} else {
			run(0, "rotate-keys", "rollback", name)
		}
		p.one(t, what, "redis", "postgres", "backup")
		p.worksWithItsOwn(t, what)
		if strings.Contains(p.envFile(t), markerRedis) || !strings.Contains(p.envFile(t), markerPostgres) {
			t.Errorf("%s: .env holds the wrong password", what)
		}
	}
	t.Logf("%d of %d came while Compose was at work", kills, len(moments)+2)
	if kills < 3 {
		t.Errorf("only %d kills came while Compose was at work", kills)
	}
}

// one sees that each service has one container, and that it runs.
func (p *platform) one(t *testing.T, what string, services ...string) {
	t.Helper()
	for _, service := range services {
		if all, running := p.containers(service), p.containers(service, "status=running"); len(all) != 1 || len(running) != 1 {
			t.Errorf("%s: %s has %d containers, %d run", what, service, len(all), len(running))
		}
	}
}

// worksWithItsOwn has the service backup ask the database and Redis with what it
// was made with.
func (p *platform) worksWithItsOwn(t *testing.T, what string) {
	t.Helper()
	script := `psql -X -q "$DATABASE_URL" -c "select 1" && pw=${REDIS_URL#*//:} && REDISCLI_AUTH=${pw%@*} redis-cli -h redis ping | grep PONG`
	var out []byte
	var err error
	for end := time.Now().Add(soon); time.Now().Before(end); time.Sleep(500 * time.Millisecond) { // it may be starting
		ids := p.containers("backup")
		if len(ids) != 1 {
			t.Fatalf("%s: backup has %d containers", what, len(ids))
		}
		if out, err = exec.Command("docker", "exec", ids[0], "sh", "-c", script).CombinedOutput(); err == nil {
			return
		}
	}
	t.Errorf("%s: the service backup: %v: %s", what, err, out)
}
