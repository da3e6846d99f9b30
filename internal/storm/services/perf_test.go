package services

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stellarescrow/escrowctl/internal/storm/kit"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// TestStormTending has the commands that tend the platform meet their faults, one
// after the other in one world.
func TestStormTending(t *testing.T) {
	testenv.Long(t, "the packages' own tests have most of the faults")
	t.Parallel()
	w := storm.World(t, testenv.PGSetting("max_connections", "12"),
		testenv.PGSetting("fsync", "on"), testenv.PGSetting("full_page_writes", "on")) // else they are what perf analyze finds
	t.Run("perf_analyze", func(t *testing.T) { stormPerf(t, w) })
	t.Run("rotate-keys", func(t *testing.T) { stormRotateKeys(t, w) })
	t.Run("certs_renew", func(t *testing.T) { stormCertsRenew(t, w) })
}

// stormPerf has an analysis lose each of what it reads, those that it reports to,
// its disk and its clock. What could not be read is said, and never passes for
// well.
func stormPerf(t *testing.T, w *kit.World) {
	wire := kit.NewDockerWire(t)
	engine := testenv.Docker(t)
	project := "escrowctlstorm" + engine.Run
	api := engine.Start(t, testenv.Container{Image: testenv.PostgresImage(t), Project: project, Service: "api", Cmd: []string{"sleep", "1000000"}})
	b := newBed(t, w, named(
		"ESCROWCTL_PERF_SOURCES", "database,statements,containers,disk", "DOCKER_HOST", wire.Host, "ESCROWCTL_COMPOSE_PROJECT", project)...)
	analyze := []string{"perf", "analyze"}
	silent, connected := babbler(t, "")
	waiting := named("DATABASE_URL", "postgres://u:p@"+silent+"/d?sslmode=disable")
	there := func(t *testing.T, _ *bed, run *kit.Running) { run.Until(t, "it waits for the database", connected) }

	trials := append(perfDatabase(analyze), perfDocker(analyze, wire, api)...)
	trials = append(trials,
		trial{group: "clock", fault: "stepped ahead by 40 days", call: atClock(t, 960*time.Hour, kit.Call{Args: analyze}), codes: []int{0, 1}, slow: true},
		trial{group: "clock", fault: "stepped back by 40 days", call: atClock(t, -960*time.Hour, kit.Call{Args: analyze}), codes: []int{0, 1}, slow: true},
		twoAtOnce(analyze, waiting, connected, there),
	)
	for _, illness := range append([]string{"dead"}, kit.Illnesses()...) {
		s := kit.NewIllHTTP(t, illness)
		trials = append(trials, trial{
			group: "API", fault: illness, call: kit.Call{Args: analyze, Env: named("API_BASE_URL", s.URL, "ESCROWCTL_REPORT_API_METRICS", "off", "ESCROWCTL_PERF_SOURCES", "api")},
			codes: []int{2, 3}, says: []string{"api"}, after: untouched(s), slow: illness != "500",
		})
	}
	for _, c := range reportTrials(t, analyze, "API_BASE_URL", "/api/metrics") {
		c.codes, c.slow = []int{0, 1}, c.fault != "500" // the database has what is worth a warning
		trials = append(trials, c)
	}
	trials = append(trials, stateFaults(analyze, 3, true)...)
	trials = append(trials, awaited(signalFaults(analyze, waiting, there), connected)...)
	b.matrix(t, "perf", kit.Call{Args: analyze}, trials)
}

// perfDatabase are the faults of the server whose statistics are read.
func perfDatabase(analyze []string) []trial {
	midst := func(then func(t *testing.T, b *bed)) (func(*testing.T, *bed) func(), func(*testing.T, *bed, *kit.Running)) {
		var hold *kit.Hold
		return func(_ *testing.T, b *bed) func() {
				hold = b.Wire.HoldDown(4 << 10)
				return b.Wire.Clear
			}, func(t *testing.T, b *bed, run *kit.Running) {
				run.Until(t, "it reads", hold.Reached())
				then(t, b)
				b.Wire.Clear()
			}
	}
	crash, crashed := midst(func(t *testing.T, b *bed) { b.PG.Kill(t); b.PG.Start(t) })
	restart, restarted := midst(func(t *testing.T, b *bed) { b.PG.Stop(t); b.PG.Start(t) })
	call := kit.Call{Args: analyze}
	says := []string{"UNKNOWN", "database could not be read"}
	return []trial{
		{group: pgGroup, fault: "down", call: call, make: func(t *testing.T, b *bed) func() {
			b.PG.Stop(t)
			return func() { b.PG.Start(t) }
		}, codes: []int{3}, says: says, slow: true},
		{group: pgGroup, fault: "killed in its midst", call: call, make: crash, during: crashed, codes: []int{3}, says: says[:1]},
		{group: pgGroup, fault: "restarted in its midst", call: call, make: restart, during: restarted, codes: []int{3}, says: says[:1], slow: true},
		{group: pgGroup, fault: "out of connections", call: call, make: hogged, codes: []int{2}, says: []string{"no PostgreSQL connection is left"}, slow: true},
		{group: pgGroup, fault: "statements cancelled", call: call, make: locked, during: cancelled, codes: []int{1, 3}, says: []string{"canceling statement"}},
		{group: pgGroup, fault: "resets", call: call, make: func(_ *testing.T, b *bed) func() { b.Wire.Shut(); return b.Wire.Clear }, codes: []int{3}, says: says, slow: true},
		{group: pgGroup, fault: "silent in its midst", call: call, make: func(_ *testing.T, b *bed) func() {
			b.Wire.HoldDown(4 << 10)
			return b.Wire.Clear
		}, codes: []int{3}, says: says[:1], within: 150 * time.Second, slow: true},
	}
}

const pgGroup = "PostgreSQL"

// hogged takes every connection that there is.
func hogged(t *testing.T, b *bed) (undo func()) {
	t.Helper()
	var conns []*pgx.Conn
	for {
		conn, err := pgx.Connect(context.Background(), b.PG.SocketURL(kit.DB))
		if err != nil && strings.Contains(err.Error(), "53300") {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	return func() {
		for _, conn := range conns {
			_ = conn.Close(context.Background())
		}
	}
}

// locked holds the statistics of the statements, so that whoever reads them waits.
func locked(t *testing.T, b *bed) (undo func()) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), b.PG.SocketURL(kit.DB))
	if err == nil {
		_, err = conn.Exec(context.Background(), "BEGIN; LOCK TABLE pg_stat_statements")
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = conn.Close(context.Background()) }
}

// cancelled cancels every statement that waits for the lock.
func cancelled(t *testing.T, b *bed, run *kit.Running) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), b.PG.SocketURL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for count := 0; ; {
		var n int
		if err := conn.QueryRow(context.Background(), "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		count += n
		select {
		case <-run.Ended():
			if count == 0 {
				t.Error("nothing was cancelled")
			}
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// perfDocker are the faults of the engine whose containers are measured, and of
// one of them.
func perfDocker(analyze []string, wire *kit.DockerWire, container string) []trial {
	call := kit.Call{Args: analyze}
	return []trial{
		{group: "Docker", fault: "stopped", call: kit.Call{Args: analyze, Env: named("DOCKER_HOST", "unix:///nonexistent/docker.sock")}, codes: []int{3}, says: []string{"no such socket", "systemctl start docker"}},
		{group: "Docker", fault: "silent", call: call, make: hanging(wire, ".", 0), codes: []int{3}, says: []string{"does not answer"}, within: 70 * time.Second, slow: true},
		{group: "Docker", fault: "silent while it measures", call: call, make: hanging(wire, "/stats", 0), codes: []int{3}, says: []string{"containers"}, within: 70 * time.Second, slow: true},
		{group: "Docker", fault: "slow", call: call, make: func(*testing.T, *bed) func() { wire.Slow(300 * time.Millisecond); return wire.Clear }, codes: []int{0, 1}, slow: true},
		{group: "container", fault: "paused", call: call, make: func(t *testing.T, _ *bed) func() {
			dockerDo(t, "pause", container)
			return func() { dockerDo(t, "unpause", container) }
		}, codes: []int{0, 1, 3}, slow: true},
		{group: "container", fault: "killed", call: call, make: func(t *testing.T, _ *bed) func() {
			dockerDo(t, "kill", container)
			return func() { dockerDo(t, "start", container) }
		}, codes: []int{0, 1, 2, 3}, says: []string{"api"}, slow: true},
	}
}

// twoAtOnce has a second run meet one that waits.
func twoAtOnce(args, waiting []string, connected <-chan struct{}, there func(*testing.T, *bed, *kit.Running)) trial {
	return trial{
		group: "two at once", fault: "on one host", call: kit.Call{Args: args, Env: waiting}, codes: []int{143}, make: forget(connected),
		during: func(t *testing.T, b *bed, run *kit.Running) {
			there(t, b, run)
			secondRefused(t, b, kit.Call{Args: args})
			run.Signal(syscall.SIGTERM)
		},
	}
}

// secondRefused demands that a run beside another of its kind is refused.
func secondRefused(t *testing.T, b *bed, call kit.Call) {
	t.Helper()
	if second := b.Call(t, call); second.Code != 75 || !strings.Contains(second.Stderr, "another run is in progress") {
		t.Errorf("the second: exit %d after %s: %s", second.Code, second.Took, second.Stderr)
	}
}

// awaited are trials whose make forgets who has connected.
func awaited(trials []trial, connected <-chan struct{}) []trial {
	for i := range trials {
		trials[i].make = forget(connected)
	}
	return trials
}
