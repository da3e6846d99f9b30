package cli

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// seen is what a shift check said of one check.
type seen struct {
	ID       string `json:"id"`
	Status   string `json:"status"`
	Summary  string `json:"summary"`
	Action   string `json:"action"`
	Alert    string `json:"alert"`
	Priority string `json:"priority"`
}

// shiftCheck runs a shift check of some checks and returns what was said of each.
func shiftCheck(t *testing.T, only string, env ...string) (map[string]seen, int) {
	t.Helper()
	inv := invoke(t, env...)
	code := inv.run(t, "shift-check", "--json", "--only", only)
	var doc struct{ Checks []seen }
	if err := json.Unmarshal(inv.out.Bytes(), &doc); err != nil {
		t.Fatalf("%v: %s%s", err, &inv.out, &inv.errs)
	}
	all := map[string]seen{}
	for _, c := range doc.Checks {
		all[c.ID] = c
	}
	for _, e := range env {
		for _, secret := range []string{"s3cret-redis", "s3cret-wrong"} {
			if strings.Contains(e, secret) && strings.Contains(inv.out.String()+inv.errs.String(), secret) {
				t.Errorf("the password is told: %s%s", &inv.out, &inv.errs)
			}
		}
	}
	return all, code
}

// TestShiftCheckInContainers looks at a database and a Redis that publish no
// port, and takes Redis away in every way that containers go away. The database
// stays as it is.
func TestShiftCheckInContainers(t *testing.T) {
	d := testenv.Docker(t)
	pg := d.Postgres(t)
	// Every image of the sandbox has all of its servers.
	redis := d.Start(t, testenv.Container{
		Image: testenv.PostgresImage(t), Project: pg.Project, Service: "redis",
		Cmd: []string{"redis-server", "--bind", "127.0.0.1", "--requirepass", "s3cret-redis"},
	})
	env := []string{
		"COMPOSE_PROJECT_NAME=" + pg.Project, "DATABASE_URL=" + strings.TrimSuffix(pg.URL(), "?sslmode=disable"),
		"REDIS_URL=redis://:s3cret-redis@redis:6379",
	}
	docker := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("docker", args...).CombinedOutput(); err != nil {
			t.Fatalf("docker %s: %v: %s", args[0], err, out)
		}
	}
	step := func(name, status, alert, says string, code int, env []string) {
		t.Helper()
		got, exit := shiftCheck(t, "database,redis", env...)
		r := got["redis"]
		if r.Status != status || r.Alert != alert || !strings.Contains(r.Summary, says) || exit != code || status != "ok" && r.Action == "" {
			t.Errorf("%s: exit %d, %+v", name, exit, r)
		}
		if alert == "ServiceDown" && r.Priority != "P1" {
			t.Errorf("%s: priority %s", name, r.Priority)
		}
		if got["database"].Status != "ok" || !strings.Contains(got["database"].Summary, "of 100 connections") {
			t.Errorf("%s: the database: %+v", name, got["database"])
		}
	}
	// Redis answers soon after its container has started.
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		if got, _ := shiftCheck(t, "redis", env...); got["redis"].Status == "ok" || time.Now().After(end) {
			break
		}
	}
	step("healthy", "ok", "", "Redis 7", 0, env)
	wrong := append([]string{}, env...)
	wrong[2] = "REDIS_URL=redis://:s3cret-wrong@redis:6379"
	step("wrong password", "unknown", "", "WRONGPASS", 3, wrong)
	elsewhere := append([]string{"ESCROWCTL_REDIS_SERVICE=cache"}, env...)
	step("no such service", "critical", "ServiceDown", "has no container of service cache", 2, append(elsewhere, "ESCROWCTL_REDIS_VIA=container"))
	docker("pause", redis)
	step("paused", "critical", "ServiceDown", "paused", 2, env)
	docker("unpause", redis)
	docker("kill", redis)
	step("killed", "critical", "ServiceDown", "is exited", 2, env)
	docker("rm", "-v", redis)
	step("removed", "critical", "ServiceDown", "has no container of service redis", 2, env)
}

// Where Docker does not answer, nobody knows whether the services do.
func TestShiftCheckWithoutDocker(t *testing.T) {
	for name, tt := range map[string]struct{ host, says string }{
		"silent": {"tcp://" + testenv.Silent(t), "docker engine does not answer"},
		"none":   {"unix:///nonexistent/docker.sock", "no such socket"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			got, code := shiftCheck(t, "database,redis", "DOCKER_HOST="+tt.host,
				"DATABASE_URL=postgres://u:p@postgres/d", "REDIS_URL=redis://redis", "ESCROWCTL_SHIFT_CHECK_TIMEOUT=2s",
				"ESCROWCTL_DUMP_VIA=container", "ESCROWCTL_REDIS_VIA=container")
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %s", took)
			}
			for _, id := range []string{"database", "redis"} {
				if r := got[id]; r.Status != "unknown" || !strings.Contains(r.Summary, tt.says) || code != 3 {
					t.Errorf("%s: exit %d, %+v", id, code, r)
				}
			}
		})
	}
}

// The variables of the old scripts alone lead to the platform's own services.
func TestShiftCheckDirect(t *testing.T) {
	pg, redis := testenv.Postgres(t), testenv.Redis(t)
	env := []string{"DATABASE_URL=" + pg.URL("postgres"), "REDIS_URL=" + redis.URL(), "DOCKER_HOST=unix:///nonexistent/docker.sock"}
	got, code := shiftCheck(t, "database,redis", env...)
	if code != 0 || got["database"].Status != "ok" || got["redis"].Status != "ok" {
		t.Errorf("exit %d: %+v", code, got)
	}
	port := redis.Port
	redis.Stop(t)
	got, code = shiftCheck(t, "database,redis", env...)
	if r := got["redis"]; code != 2 || r.Status != "critical" || !strings.Contains(r.Summary, fmt.Sprintf("127.0.0.1:%d: connect: connection refused", port)) || got["database"].Status != "ok" {
		t.Errorf("Redis down: exit %d: %+v", code, got)
	}
}
