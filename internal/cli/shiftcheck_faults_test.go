package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	moby "github.com/moby/moby/client"
	"github.com/stellarescrow/escrowctl/internal/backup"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/testenv/platform"
)

// stageFault is one thing that goes wrong, and the one line that tells.
type stageFault struct {
	name  string
	check string
	// make breaks it, and returns what of the environment changes with it.
	make func(t *testing.T, s *stage) map[string]string

	status   check.Status
	says     string
	priority string // and with it the time to respond; "" is none of both
	action   string
	sla      time.Duration // 0: that of the priority's row
}

// TestOneFaultOneLine breaks a whole platform in one way at a time, for real
// where it can be. The line that it belongs to says so, with priority, time to
// respond and next command, and no other line changes.
func TestOneFaultOneLine(t *testing.T) {
	s := putOnStage(t)
	if bad := others(s.until(t, nil, func(all map[string]shiftResult) bool { return len(others(all, "")) == 0 }), ""); len(bad) > 0 {
		t.Fatalf("not all is well to begin with:\n%s", strings.Join(bad, "\n"))
	}
	for range 20 { // no false alarm; `make quiet` asks the sandbox 200 times
		for _, alarm := range others(s.look(t, nil), "") {
			t.Errorf("a false alarm: %s", alarm)
		}
	}
	for _, tt := range append(stageContainerFaults(), append(stageAlertFaults(), stageFaults()...)...) {
		t.Run(tt.check+" "+tt.name, func(t *testing.T) {
			begun := time.Now()
			change := tt.make(t, s)
			all := s.until(t, change, func(all map[string]shiftResult) bool {
				r := all[tt.check]
				return r.Status == tt.status && strings.Contains(r.said(), tt.says) && len(others(all, tt.check)) == 0
			})
			r := all[tt.check]
			if next := r.next(); r.Status != tt.status || !strings.Contains(r.said(), tt.says) || !strings.Contains(next, tt.action) || (tt.action == "") != (next == "") {
				t.Errorf("%s, next %q: %s\nwant %s, next %q: ...%s...", r.Status, next, r.said(), tt.status, tt.action, tt.says)
			}
			if r.Priority != tt.priority || r.Deadline.IsZero() != (tt.priority == "") {
				t.Errorf("priority %q by %s, want %q", r.Priority, r.Deadline, tt.priority)
			}
			if tt.sla > 0 && (r.Deadline.Before(begun.Add(tt.sla-time.Second)) || r.Deadline.After(time.Now().Add(tt.sla))) {
				t.Errorf("to respond by %s, want %s from %s on", r.Deadline, tt.sla, begun)
			}
			for _, other := range others(all, tt.check) {
				t.Errorf("another line changed: %s", other)
			}
		})
	}
}

// said is all that a line and its details say.
func (r shiftResult) said() string {
	return strings.Join(append([]string{r.Summary}, r.Detail...), "\n")
}

// next is the command to type: the line's, or that of its worst part.
func (r shiftResult) next() string {
	if r.Action == "" && r.Status != check.OK && len(r.Parts) > 0 {
		return r.Parts[0].Action
	}
	return r.Action
}

func stageContainerFaults() []stageFault {
	// with replaces the service client, which nothing else depends on.
	with := func(shape func(*container.Config, *container.HostConfig), then func(*testing.T, *yard, string)) func(*testing.T, *stage) map[string]string {
		return func(t *testing.T, s *stage) map[string]string {
			t.Helper()
			file := filepath.Join(t.TempDir(), "docker-compose.yml")
			write(t, file, "services:\n  client: {image: '"+s.yard.image+"'}\n  steady: {image: '"+s.yard.image+"'}\n")
			id := s.yard.start(t, "client", shape)
			if then != nil {
				then(t, s.yard, id)
			}
			return map[string]string{"ESCROWCTL_COMPOSE_FILES": file}
		}
	}
	kill := func(t *testing.T, y *yard, id string) {
		if _, err := y.docker.Client.ContainerKill(t.Context(), id, moby.ContainerKillOptions{Signal: "KILL"}); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(t *testing.T, y *yard, id string) { y.docker.Remove(t, id) }
	pause := func(t *testing.T, y *yard, id string) {
		// On a busy machine the kernel may not freeze it at the first call.
		for try := 1; ; try++ {
			_, err := y.docker.Client.ContainerPause(t.Context(), id, moby.ContainerPauseOptions{})
			if err == nil {
				return
			}
			if try == 10 {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
	}
	const p1, minutes = "P1", 15 * time.Minute
	logs := "docker logs --tail 50 "
	return []stageFault{
		{"stopped", "containers", with(nil, kill), check.Critical, "client: stopped: exited with 137", p1, "up -d client", minutes},
		{"removed", "containers", with(nil, remove), check.Critical, "client: defined in the compose file, and has no container", p1, "up -d client", minutes},
		{"paused", "containers", with(nil, pause), check.Critical, "client: paused", p1, "docker unpause ", minutes},
		{"unhealthy", "containers", with(func(c *container.Config, _ *container.HostConfig) { c.Healthcheck = checkWith("false") }, nil),
			check.Critical, "client: unhealthy", p1, logs, minutes},
		{"restart loop", "containers", with(func(c *container.Config, h *container.HostConfig) {
			c.Entrypoint = []string{"sh", "-c", "sleep 0.1; exit 3"}
			h.RestartPolicy.Name = container.RestartPolicyAlways
		}, nil), check.Critical, "client: in a restart loop", p1, logs, minutes},
		{"killed for memory", "containers", with(greedy, nil), check.Critical, "client: killed for memory (OOM)", p1, "up -d client", minutes},
	}
}

func stageAlertFaults() []stageFault {
	fire := func(name string, labels ...string) func(*testing.T, *stage) map[string]string {
		return func(t *testing.T, s *stage) map[string]string {
			t.Helper()
			s.fire(t, name, labels...)
			return nil
		}
	}
	silenced := func(name string, span time.Duration) func(*testing.T, *stage) map[string]string {
		return func(t *testing.T, s *stage) map[string]string {
			t.Helper()
			s.alerts.Silence(t, name, "ops", "known", time.Now(), time.Now().Add(span))
			s.fire(t, name)
			return nil
		}
	}
	return []stageFault{
		{"P1", "alerts", fire("ServiceDown", "service", "client"), check.Critical, "ServiceDown:client", "P1", "docker compose ps -a", 15 * time.Minute},
		{"P2", "alerts", fire("IndexerLag"), check.Critical, "IndexerLag", "P2", "shift-check --only indexer", time.Hour},
		{"P3", "alerts", fire("DBQueryLatency"), check.Warning, "DBQueryLatency", "P3", "escrowctl perf analyze", 4 * time.Hour},
		{"P4", "alerts", fire("Untidy", "priority", "P4"), check.Warning, "P4 by its label", "P4", "alert query Untidy", 0},
		{"unmapped", "alerts", fire("Strange"), check.Warning, "no row of the runbook", "", "alert query Strange", 0},
		{"silenced for long", "alerts", silenced("DiskUsage", 72*time.Hour), check.OK, "1 silenced", "", "", 0},
		{"inhibited", "alerts", fire("Noise"), check.OK, "1 inhibited", "", "", 0},
		{"Prometheus does not reach Alertmanager", "alerts", func(t *testing.T, s *stage) map[string]string {
			prometheus := testenv.Prometheus(t, "127.0.0.1:9", "  - {alert: Watchdog, expr: vector(1)}\n  - {alert: TheOtherOne, expr: vector(1)}\n")
			return map[string]string{"ESCROWCTL_PROMETHEUS_URL": prometheus.URL}
		}, check.Critical, "do not get to Alertmanager: TheOtherOne", "P1", "logs --tail 50 prometheus", 15 * time.Minute},
	}
}

// fire posts an alert that ends with the test.
func (s *stage) fire(t *testing.T, name string, labels ...string) {
	t.Helper()
	alert := testenv.Alert{Labels: map[string]string{"alertname": name}, StartsAt: time.Now(), EndsAt: time.Now().Add(time.Hour)}
	for i := 0; i < len(labels); i += 2 {
		alert.Labels[labels[i]] = labels[i+1]
	}
	s.alerts.Post(t, alert)
	t.Cleanup(func() {
		alert.EndsAt = time.Now().Add(-time.Millisecond)
		s.alerts.Post(t, alert)
	})
}

func stageFaults() []stageFault {
	const escrow = "escrowctl backup"
	ill := func(edit func(*platform.IndexerSettings)) func(*testing.T, *stage) map[string]string {
		return func(t *testing.T, s *stage) map[string]string {
			before := s.indexer.Settings()
			s.indexer.Set(edit)
			t.Cleanup(func() { s.indexer.Set(func(now *platform.IndexerSettings) { *now = before }) })
			return nil
		}
	}
	crontab := func(edit func(string) string) func(*testing.T, *stage) map[string]string {
		return func(t *testing.T, s *stage) map[string]string {
			before := s.crontab
			s.crontab = edit(before)
			t.Cleanup(func() { s.crontab = before })
			return nil
		}
	}
	fill := func(files, size int) func(*testing.T, *stage) map[string]string {
		return func(t *testing.T, s *stage) map[string]string {
			dir := filepath.Join(s.backups, "fill")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			for i := range files {
				if os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), make([]byte, size), 0o600) != nil {
					break // full
				}
			}
			return nil
		}
	}
	return []stageFault{
		{"missed", "backup", func(t *testing.T, s *stage) map[string]string {
			s.forget(t)
			s.remember(t, 2)
			return s.without(t, 3, 4)
		}, check.Critical, "days old, limit 26.0 h", "P2", escrow, 0},
		{"failed", "backup", func(t *testing.T, s *stage) map[string]string {
			s.forget(t)
			s.remember(t, 0)
			recordRun(t, s.state, "backup", "critical", time.Now(), nil, errors.New("pg_dump: server closed the connection"))
			return nil
		}, check.Critical, "pg_dump: server closed the connection", "P2", escrow, time.Hour},
		{"too small", "backup", func(t *testing.T, s *stage) map[string]string {
			taken := time.Now().Add(-time.Minute)
			for _, dir := range []string{s.bucket, s.backups} {
				name := putBackup(t, dir, taken, 300, true)
				t.Cleanup(func() {
					mustRemove(t, filepath.Join(dir, name))
					mustRemove(t, filepath.Join(dir, backup.ManifestName(name)))
				})
			}
			return nil
		}, check.Critical, "is too small: 300 B is 30 % of the median", "P2", "escrowctl backup ack", 0},
		{"disk full", "disk", fill(1, 4<<20), check.Critical, "(backups) 100 % full", "P2", "du -xh", 2 * time.Hour},
		{"inodes used up", "disk", fill(400, 0), check.Critical, "(backups) has 100 % of its inodes used", "P2", "du --inodes", 2 * time.Hour},
		{"behind", "indexer", ill(func(x *platform.IndexerSettings) { x.LedgersBehind = 84 }), check.Critical, "7 min behind", "P2", "logs --tail 50 indexer", 0},
		{"503", "indexer", ill(func(x *platform.IndexerSettings) { x.Status = "degraded" }), check.Critical, "answers 503", "P1", "logs --tail 50 indexer", 15 * time.Minute},
		{"nonsense", "indexer", func(t *testing.T, s *stage) map[string]string {
			s.indexer.SetFault("/health", platform.HTML)
			t.Cleanup(func() { s.indexer.SetFault("/health", "") })
			return nil
		}, check.Unknown, "HTML in place of JSON", "", "logs --tail 50 indexer", 0},
		{"null ledger", "indexer", ill(func(x *platform.IndexerSettings) { x.NoLedger = true }), check.Unknown, "last_ledger_processed is null", "", "logs --tail 50 indexer", 0},
		{"row missing", "schedule", crontab(func(rows string) string { return withoutLine(rows, "escrowctl backup >>") }),
			check.Critical, "no crontab runs escrowctl backup", "P2", "escrowctl cron install --dry-run", time.Hour},
		{"row misspelled", "schedule", crontab(func(rows string) string {
			return strings.Replace(rows, "/escrowctl backup >>", "/escrowctl bakcup >>", 1)
		}), check.Critical, "bakcup", "P2", "escrowctl cron check", time.Hour},
		{"row with %", "schedule", crontab(func(rows string) string {
			return strings.Replace(rows, "escrowctl backup >> /var/log/", "escrowctl backup >> /var/log/%d-", 1)
		}), check.Critical, "a % without a backslash", "P2", "escrowctl cron check", time.Hour},
		{"wrong password", "redis", func(_ *testing.T, s *stage) map[string]string {
			return map[string]string{"REDIS_URL": strings.Replace(s.redis.URL(), "redis://:", "redis://:wrong", 1)}
		}, check.Unknown, "the password in REDIS_URL is wrong (WRONGPASS)", "", "compare REDIS_URL with REDIS_PASSWORD", 0},
		{"down", "grafana", func(*testing.T, *stage) map[string]string {
			return map[string]string{"ESCROWCTL_GRAFANA_URL": "http://127.0.0.1:9"}
		}, check.Unknown, "connection refused", "P1", "logs --tail 50 grafana", 15 * time.Minute},
		{"a dashboard missing", "grafana", func(t *testing.T, s *stage) map[string]string {
			before := s.grafana.Settings()
			s.grafana.Set(func(g *platform.GrafanaSettings) { g.Dashboards = g.Dashboards[1:] })
			t.Cleanup(func() { s.grafana.Set(func(g *platform.GrafanaSettings) { *g = before }) })
			return nil
		}, check.Warning, "missing: Infrastructure Overview", "P4", "import what is missing", 0},
		{"expired", "certs", func(t *testing.T, _ *stage) map[string]string {
			address, ca := serveCertificate(t, time.Now().AddDate(0, 0, -91), time.Now().AddDate(0, 0, -1))
			return map[string]string{"ESCROWCTL_CERTS_ADDRESS": address, "ESCROWCTL_CERTS_CA": ca}
		}, check.Critical, "expired", "P2", "escrowctl certs renew", 0},
		{"off", "clock", func(t *testing.T, s *stage) map[string]string {
			s.now = func() time.Time { return time.Now().Add(90 * time.Second) }
			t.Cleanup(func() { s.now = time.Now })
			return nil
		}, check.Critical, "ahead", "", "timedatectl", 0},
	}
}

// without takes backups away from both places until the end of the test.
func (s *stage) without(t *testing.T, which ...int) map[string]string {
	t.Helper()
	for _, n := range which {
		for _, path := range []string{
			filepath.Join(s.bucket, s.names[n]), filepath.Join(s.bucket, backup.ManifestName(s.names[n])),
			filepath.Join(s.backups, s.names[n]), filepath.Join(s.backups, backup.ManifestName(s.names[n])),
		} {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			mustRemove(t, path)
			t.Cleanup(func() {
				if err := os.WriteFile(path, text, 0o600); err != nil {
					t.Error(err)
				}
			})
		}
	}
	return nil
}

// forget begins with an empty state directory until the end of the test.
func (s *stage) forget(t *testing.T) {
	t.Helper()
	before := s.state
	s.state = t.TempDir()
	t.Cleanup(func() { s.state = before })
}

func withoutLine(text, with string) string {
	var out []string
	for line := range strings.Lines(text) {
		if !strings.Contains(line, with) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// TestThresholdsReachTheChecks sets every limit to something odd and looks for
// it in the figures of every check that has limits.
func TestThresholdsReachTheChecks(t *testing.T) {
	indexer := testenv.Serve(t, platform.NewIndexer(time.Now))
	redis := testenv.Redis(t, "maxmemory 100mb", "maxmemory-policy noeviction")
	env := []string{
		"DATABASE_URL=" + testenv.Postgres(t).URL("postgres"), "REDIS_URL=" + redis.URL(), "DOCKER_HOST=unix:///nonexistent/docker.sock",
		"API_BASE_URL=" + indexer, "ESCROWCTL_API_URL=" + testenv.Serve(t, platform.NewAPI("key", "")), "HORIZON_URL=" + testenv.Serve(t, platform.NewHorizon(time.Now)),
	}
	for i, th := range runbook.Thresholds() {
		if th.ID == runbook.CertificateLifetime {
			continue
		}
		value := map[string]string{"seconds": fmt.Sprintf("%ds", 1000+i), "ratio": fmt.Sprintf("0.99%d", i), "bytes": fmt.Sprintf("%dkB", 1000+i), "count": fmt.Sprint(1000 + i)}[th.Unit]
		for _, level := range []string{"WARNING", "CRITICAL"} {
			env = append(env, "ESCROWCTL_THRESHOLDS_"+strings.ToUpper(th.ID)+"_"+level+"="+value)
		}
	}
	inv := invoke(t, env...)
	inv.io.Now = time.Now
	inv.run(t, "shift-check", "--json", "--only", "indexer,api,database,redis,disk,clock")
	got := map[string]bool{}
	var doc struct {
		Checks []struct {
			ID      string
			Figures []check.Figure
			Parts   []struct{ Figures []check.Figure }
		}
	}
	if err := json.Unmarshal(inv.out.Bytes(), &doc); err != nil {
		t.Fatalf("%v: %s%s", err, &inv.out, &inv.errs)
	}
	for _, c := range doc.Checks {
		figures := c.Figures
		for _, p := range c.Parts {
			figures = append(figures, p.Figures...)
		}
		for _, f := range figures {
			if f.Warning == nil || f.Critical == nil {
				continue
			}
			got[c.ID] = true
			odd := *f.Warning == *f.Critical && (*f.Critical > 0.99 && *f.Critical < 1 || *f.Critical > 999)
			if !odd {
				t.Errorf("%s: the figure %s has the limits %g and %g", c.ID, f.Name, *f.Warning, *f.Critical)
			}
		}
	}
	for _, id := range []string{"indexer", "api", "database", "redis", "disk", "clock"} {
		if !got[id] {
			t.Errorf("%s has no figure with limits", id)
		}
	}
}
