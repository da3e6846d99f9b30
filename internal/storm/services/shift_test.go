package services

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/testenv/platform"
)

// shiftWithin is the limit of a check, 2 s, and a margin that is wide for a busy
// machine, and too narrow for the limits of all checks one after the other.
const shiftWithin = 20 * time.Second

// shiftBed is a host on which all that is checked is well, or a warning.
func shiftBed(t *testing.T) (b *bed, containers []string, wire *kit.DockerWire) {
	t.Helper()
	addr, ca := tlsServer(t, time.Now().AddDate(0, 0, -10), time.Now().AddDate(0, 0, 80))
	grafana, err := platform.NewGrafana("hunter2-of-grafana", "")
	if err != nil {
		t.Fatal(err)
	}
	wire = kit.NewDockerWire(t)
	engine := testenv.Docker(t)
	project := "escrowctlstorm" + engine.Run
	for _, service := range []string{"api", "indexer"} {
		containers = append(containers, engine.Start(t, testenv.Container{Image: testenv.PostgresImage(t), Project: project, Service: service, Cmd: []string{"sleep", "1000000"}}))
	}
	b = newBed(t, storm.World(t))
	compose := filepath.Join(b.Dir, "docker-compose.yml")
	write0(t, compose, "services:\n  api: {image: 'escrowctl-sandbox/postgres:15'}\n  indexer: {image: 'escrowctl-sandbox/postgres:15'}\n")
	b.Env = append(b.Env, named(
		"CERT_DOMAIN", "escrow.test", "ESCROWCTL_CERTS_ADDRESS", addr, "ESCROWCTL_CERTS_CA", ca, "ESCROWCTL_CERTS_DIR", "/nonexistent", "ESCROWCTL_CERTS_VIA", "host",
		"REDIS_URL", testenv.Redis(t).URL(), "API_BASE_URL", testenv.Serve(t, platform.NewIndexer(time.Now)), "HORIZON_URL", testenv.Serve(t, platform.NewHorizon(time.Now)),
		"ESCROWCTL_API_URL", testenv.Serve(t, platform.NewAPI("key", "")), "ESCROWCTL_GRAFANA_URL", testenv.Serve(t, grafana), "GRAFANA_ADMIN_PASSWORD", "hunter2-of-grafana",
		"DOCKER_HOST", wire.Host, "ESCROWCTL_COMPOSE_PROJECT", project, "ESCROWCTL_COMPOSE_FILES", compose,
		"ESCROWCTL_SHIFT_CHECK_TIMEOUT", "2s", "ESCROWCTL_SHIFT_CHECK_SKIP", "schedule,secrets,disk,alerts,reviews",
		"ESCROWCTL_THRESHOLDS_TTFB_WARNING", "5s", "ESCROWCTL_THRESHOLDS_TTFB_CRITICAL", "10s",
	)...)
	if res := b.Run(t, "backup"); res.Code > 1 {
		t.Fatalf("backup: exit %d: %s", res.Code, res.Stderr)
	}
	return b, containers, wire
}

// shiftDoc is what a check says of itself as JSON.
type shiftDoc struct {
	Status string `json:"status"`
	Checks []struct {
		ID      string   `json:"id"`
		Status  string   `json:"status"`
		Summary string   `json:"summary"`
		Detail  []string `json:"detail"`
	} `json:"checks"`
}

// notOK is an after that demands of these lines that they are not ok, and of all
// others that they are, or a warning.
func notOK(ids ...string) func(*testing.T, *bed, kit.Result) {
	return func(t *testing.T, _ *bed, res kit.Result) {
		t.Helper()
		var doc shiftDoc
		if err := json.Unmarshal([]byte(res.Stdout), &doc); err != nil {
			t.Fatalf("%v: %s", err, res.Stdout)
		}
		faulty := map[string]bool{}
		for _, id := range ids {
			faulty[id] = true
		}
		seen := map[string]bool{}
		for _, c := range doc.Checks {
			seen[c.ID] = true
			bad := c.Status != "ok" && c.Status != "warning"
			if faulty[c.ID] && !bad {
				t.Errorf("%s is %s under the fault: %s", c.ID, c.Status, c.Summary)
			}
			if !faulty[c.ID] && bad {
				t.Errorf("%s, which the fault does not touch, is %s: %s", c.ID, c.Status, c.Summary)
			}
			if bad && c.Summary == "" {
				t.Errorf("%s: %s without a word", c.ID, c.Status)
			}
		}
		for id := range faulty {
			if !seen[id] {
				t.Errorf("no line %s", id)
			}
		}
	}
}

// TestStormShiftCheck has everything that a shift check asks ill at once, and
// each for itself. What is faulty is never ok, and it is over with its limit.
func TestStormShiftCheck(t *testing.T) {
	testenv.Long(t, "TestOneFaultOneLine has the faults of a whole platform")
	t.Parallel()
	b, containers, wire := shiftBed(t)
	check := []string{"shift-check", "--json"}
	var trials []trial
	for _, illness := range kit.Illnesses() {
		s := kit.NewIllHTTP(t, illness)
		env := named("API_BASE_URL", s.URL, "ESCROWCTL_API_URL", s.URL, "HORIZON_URL", s.URL, "ESCROWCTL_GRAFANA_URL", s.URL, "ESCROWCTL_ALERTMANAGER_URL", s.URL,
			"ESCROWCTL_PROMETHEUS_URL", s.URL, "AWS_ENDPOINT_URL_S3", s.URL, "AWS_MAX_ATTEMPTS", "1", "ESCROWCTL_SHIFT_CHECK_SKIP", "schedule,secrets,disk,reviews,clock")
		trials = append(trials, trial{
			group: "every HTTP service", fault: illness, call: kit.Call{Args: check, Env: env}, codes: []int{2, 3}, within: shiftWithin, slow: illness == "garbage" || illness == "cut short" || illness == "500",
			after: func(t *testing.T, b *bed, res kit.Result) {
				notOK("indexer", "api", "alerts", "grafana", "backup")(t, b, res)
				if s.Carried.Load() > 0 {
					t.Error("a redirect to another host was given credentials")
				}
				if s.Requests.Load() == 0 {
					t.Error("nothing was asked")
				}
				if res.PeakRSS > 256<<20 {
					t.Errorf("it held %d MiB", res.PeakRSS>>20)
				}
			},
		})
	}
	garbage, _ := babbler(t, "HTTP/1.1 400 Bad Request\r\n\r\n")
	silent, connected := babbler(t, "")
	trials = append(trials,
		trial{group: "every other server", fault: "another server", call: kit.Call{Args: check, Env: named("DATABASE_URL", "postgres://u:p@"+garbage+"/d", "REDIS_URL", "redis://"+garbage, "ESCROWCTL_CERTS_ADDRESS", garbage, "DOCKER_HOST", notDocker(t))}, codes: []int{2}, within: shiftWithin, after: notOK("database", "redis", "certs", "containers")},
		trial{group: "every other server", fault: "silent", call: kit.Call{Args: check, Env: named("DATABASE_URL", "postgres://u:p@"+silent+"/d", "REDIS_URL", "redis://"+silent, "ESCROWCTL_CERTS_ADDRESS", silent)}, make: hanging(wire, ".", 0), codes: []int{2, 3}, within: shiftWithin, after: notOK("database", "redis", "certs", "containers")},
		trial{group: "PostgreSQL", fault: "silent in its midst", call: kit.Call{Args: check}, make: func(*testing.T, *bed) func() { b.Wire.HoldDown(700); return b.Wire.Clear }, codes: []int{2, 3}, within: shiftWithin, after: notOK("database")},
		trial{group: "PostgreSQL", fault: "resets", call: kit.Call{Args: check}, make: func(*testing.T, *bed) func() { b.Wire.Shut(); return b.Wire.Clear }, codes: []int{2, 3}, within: shiftWithin, after: notOK("database")},
		trial{group: "PostgreSQL", fault: "stopped", call: kit.Call{Args: check}, make: func(t *testing.T, b *bed) func() { b.PG.Stop(t); return func() { b.PG.Start(t) } }, codes: []int{2}, within: shiftWithin, after: notOK("database"), slow: true},
		trial{group: "Docker", fault: "silent while it inspects", call: kit.Call{Args: check}, make: hanging(wire, `containers/[0-9a-f]{64}/json`, 0), codes: []int{3}, within: shiftWithin, after: notOK("containers")},
		trial{group: "Docker", fault: "stopped", call: kit.Call{Args: check, Env: named("DOCKER_HOST", "unix:///nonexistent/docker.sock")}, codes: []int{3}, within: shiftWithin, after: notOK("containers"), slow: true},
		trial{group: "Docker", fault: "slow, in time", call: kit.Call{Args: check}, make: func(*testing.T, *bed) func() { wire.Slow(100 * time.Millisecond); return wire.Clear }, codes: []int{0, 1}, within: shiftWithin, after: notOK(), slow: true},
		trial{group: "Docker", fault: "slow, too slow", call: kit.Call{Args: check}, make: func(*testing.T, *bed) func() { wire.Slow(5 * time.Second); return wire.Clear }, codes: []int{3}, within: shiftWithin, after: notOK("containers")},
		trial{group: "container", fault: "paused", call: kit.Call{Args: check}, make: func(t *testing.T, _ *bed) func() {
			dockerDo(t, "pause", containers[0])
			return func() { dockerDo(t, "unpause", containers[0]) }
		}, codes: []int{2}, says: []string{"docker unpause"}, within: shiftWithin, after: notOK("containers"), slow: true},
		trial{group: "clock", fault: "stepped back by two hours", call: atClock(t, -2*time.Hour, kit.Call{Args: check}), codes: []int{2, 3}, says: []string{"is a clock wrong?"}, within: shiftWithin, after: notOK("backup", "clock")},
		trial{group: "clock", fault: "stepped ahead by 40 days", call: atClock(t, 960*time.Hour, kit.Call{Args: check}), codes: []int{2}, says: []string{"limit 26.0 h", "or a clock is wrong"}, within: shiftWithin, after: notOK("backup", "clock", "indexer"), slow: true},
		trial{group: "two at once", fault: "ten on one host", call: kit.Call{Args: check}, codes: []int{0, 1}, within: time.Minute, after: notOK(), during: tenMore(check)},
	)
	for i, d := range badDisks() {
		for _, dir := range []string{"state directory", "textfiles"} {
			says := map[string]string{"state directory": "this check is not kept for the next", "textfiles": "report not delivered: report: textfile"}[dir]
			trials = append(trials, trial{
				group: dir, fault: d.name, call: kit.Call{Args: check}, codes: []int{0, 1, 2}, says: []string{says, d.says}, within: shiftWithin, slow: i > 0,
				make: func(t *testing.T, b *bed) func() {
					return d.make(t, map[string]string{"state directory": b.State, "textfiles": b.textfiles}[dir])
				},
			})
		}
	}
	waiting := named("DATABASE_URL", "postgres://u:p@"+silent+"/d", "ESCROWCTL_SHIFT_CHECK_TIMEOUT", "50s")
	trials = append(trials, awaited(signalFaults(check, waiting, func(t *testing.T, _ *bed, run *kit.Running) {
		run.Until(t, "it waits for the database", connected)
	}), connected)...)
	clean := kit.Call{Args: check}
	if res := b.Call(t, clean); res.Code > 1 {
		t.Fatalf("without a fault: exit %d: %s%s", res.Code, res.Stdout, res.Stderr)
	}
	b.matrix(t, "shift-check", clean, trials)
}

// tenMore runs ten checks beside another one.
func tenMore(args []string) func(*testing.T, *bed, *kit.Running) {
	return func(t *testing.T, b *bed, _ *kit.Running) {
		var runs []*kit.Running
		for range 10 {
			runs = append(runs, b.Start(t, kit.Call{Args: args, Env: named("ESCROWCTL_SHIFT_CHECK_TIMEOUT", "30s")}))
		}
		for _, run := range runs {
			if res := run.Wait(t); res.Code > 1 {
				t.Errorf("one of ten: exit %d: %s%s", res.Code, res.Stdout, res.Stderr)
			}
		}
		history := b.Run(t, "shift-check", "history", "--json", "--limit", "0")
		if history.Code != 0 || !json.Valid([]byte(history.Stdout)) {
			t.Errorf("the history after ten at once: exit %d: %s%s", history.Code, history.Stdout, history.Stderr)
		}
	}
}

// notDocker is a socket behind which another HTTP server answers.
func notDocker(t *testing.T) (host string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "d.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte("<html>\x1b[2J</html>\n"), 100))
	})}
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		_ = server.Close()
		served.Wait()
	})
	return "unix://" + path
}
