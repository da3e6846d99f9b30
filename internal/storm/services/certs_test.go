package services

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// TestStormCertsCheck has the check of a certificate lose the server, the
// engine, those that it reports to, its disk and its clock.
func TestStormCertsCheck(t *testing.T) {
	testenv.Long(t, "the packages' own tests have each fault")
	t.Parallel()
	addr, ca := tlsServer(t, time.Now().AddDate(0, 0, -10), time.Now().AddDate(0, 0, 80))
	wire := kit.NewDockerWire(t)
	engine := testenv.Docker(t)
	project := "escrowctlstorm" + engine.Run
	engine.Start(t, testenv.Container{Image: testenv.PostgresImage(t), Project: project, Service: "certbot", Cmd: []string{"sleep", "1000000"}})
	b := newBed(t, storm.World(t), "CERT_DOMAIN=escrow.test", "ESCROWCTL_CERTS_ADDRESS="+addr, "ESCROWCTL_CERTS_CA="+ca, "ESCROWCTL_CERTS_DIR=/nonexistent")
	check := []string{"certs", "check"}
	silent, connected := babbler(t, "")
	there := func(t *testing.T, _ *bed, run *kit.Running) { run.Until(t, "it waits for the server", connected) }
	noTLS, _ := babbler(t, "HTTP/1.1 400 Bad Request\r\n\r\n")
	inContainer := named("DOCKER_HOST", wire.Host, "COMPOSE_PROJECT_NAME", project, "ESCROWCTL_CERTS_VIA", "container")
	trials := []trial{
		{group: "nginx", fault: "dead", call: kit.Call{Args: check, Env: named("ESCROWCTL_CERTS_ADDRESS", "127.0.0.1:9")}, codes: []int{2}, says: []string{"connection refused", "docker compose ps nginx"}, after: wantsWorse("escrow.test")},
		{group: "nginx", fault: "silent", call: kit.Call{Args: check, Env: named("ESCROWCTL_CERTS_ADDRESS", silent)}, codes: []int{2}, says: []string{"serves no TLS", "deadline exceeded", "docker compose ps nginx"}},
		{group: "nginx", fault: "no TLS", call: kit.Call{Args: check, Env: named("ESCROWCTL_CERTS_ADDRESS", noTLS)}, codes: []int{2}, says: []string{"serves no TLS", "docker compose ps nginx"}},
		{group: "Docker", fault: "stopped", call: kit.Call{Args: check, Env: named("ESCROWCTL_CERTS_VIA", "container")}, codes: []int{1}, says: []string{"no such socket", "systemctl start docker"}},
		{group: "Docker", fault: "silent", call: kit.Call{Args: check, Env: inContainer}, make: hanging(wire, ".", 0), codes: []int{1}, says: []string{"the docker engine does not answer", "journalctl -u docker"}, within: 40 * time.Second, slow: true},
		{group: "Docker", fault: "silent after its first answer", call: kit.Call{Args: check, Env: inContainer}, make: hanging(wire, "containers/json", 1), codes: []int{1}, says: []string{"does not answer", "journalctl -u docker"}, within: 40 * time.Second},
		{group: "Docker", fault: "silent while certbot's files are read", call: kit.Call{Args: check, Env: inContainer}, make: hanging(wire, "/archive", 0), codes: []int{1}, says: []string{"not read within 1m", "does the docker engine answer?"}, within: 100 * time.Second, slow: true},
		{group: "Docker", fault: "slow", call: kit.Call{Args: check, Env: inContainer}, make: func(*testing.T, *bed) func() { wire.Slow(300 * time.Millisecond); return wire.Clear }, codes: []int{1}, says: []string{"escrow.test"}, slow: true},
		{group: "clock", fault: "stepped ahead by 100 days", call: atClock(t, 2400*time.Hour, kit.Call{Args: check}), codes: []int{2}, says: []string{"expired"}},
		{group: "clock", fault: "stepped back by 100 days", call: atClock(t, -2400*time.Hour, kit.Call{Args: check}), codes: []int{2}, says: []string{"it is valid only from", "check the clocks"}},
		twoAtOnce(check, named("ESCROWCTL_CERTS_ADDRESS", silent), connected, there),
	}
	trials = append(trials, reportTrials(t, check, "API_BASE_URL", "/api/metrics")...)
	trials = append(trials, stateFaults(check, 3, true)...)
	trials = append(trials, awaited(signalFaults(check, named("ESCROWCTL_CERTS_ADDRESS", silent), there), connected)...)
	b.matrix(t, "certs-check", kit.Call{Args: check}, trials)
}

// wantsWorse demands that people were told of a host.
func wantsWorse(host string) func(*testing.T, *bed, kit.Result) {
	return func(t *testing.T, b *bed, _ kit.Result) {
		t.Helper()
		texts := b.sink.Texts(t)
		if len(texts) == 0 || !strings.Contains(texts[len(texts)-1], host) {
			t.Errorf("nobody is told: %q", texts)
		}
	}
}

// reportTrials are those of a call that is well, and whose report finds its
// destination ill: a warning, told with its cause.
func reportTrials(t *testing.T, args []string, variable, destination string) []trial {
	t.Helper()
	var out []trial
	for _, illness := range append([]string{"dead"}, kit.Illnesses()...) {
		if illness == "garbage" || illness == "cut short" {
			continue // an answer of 200 is enough: what it says is not read
		}
		s := kit.NewIllHTTP(t, illness)
		says := map[string]string{"dead": "connection refused", "hanging": "no answer within 2s", "500": "HTTP 500", "redirect to itself": "not followed", "redirect elsewhere": "not followed", "huge answer": ""}[illness]
		c := trial{
			group: destination, fault: illness, call: kit.Call{Args: args, Env: named(variable, s.URL)},
			codes: []int{1}, says: []string{"report not delivered", destination, says}, within: 20 * time.Second,
			after: untouched(s),
		}
		if illness == "huge answer" {
			c.codes, c.says = []int{0}, nil
		}
		out = append(out, c)
	}
	return out
}

// webhookTrials are those of a run that fails, and whose message for people finds
// its destination ill. What it fails of is said all the same.
func webhookTrials(t *testing.T, failing trial) []trial {
	t.Helper()
	var out []trial
	for _, illness := range append([]string{"dead"}, kit.Illnesses()...) {
		if illness == "garbage" || illness == "cut short" {
			continue // an answer of 200 is enough
		}
		s, c := kit.NewIllHTTP(t, illness), failing
		c.group, c.fault, c.after = "webhook", illness, untouched(s)
		c.call.Env = append(slices.Clone(c.call.Env), "BACKUP_ALERT_WEBHOOK="+s.URL+"/services/T0/B0/s3cretW3bh00k")
		if illness != "huge answer" {
			c.says = append(slices.Clone(c.says), "report not delivered: report: webhook")
		}
		out = append(out, c)
	}
	return out
}

// TestStormCertsRenewCannot has a renewal that cannot begin. That is a failed
// renewal: recorded, told, and over in time.
func TestStormCertsRenewCannot(t *testing.T) {
	testenv.Long(t, "TestCertsRenewThatCannotBegin has the most frequent")
	t.Parallel()
	addr, ca := tlsServer(t, time.Now().AddDate(0, 0, -10), time.Now().AddDate(0, 0, 80))
	wire := kit.NewDockerWire(t)
	engine := testenv.Docker(t)
	project := "escrowctlstorm" + engine.Run
	engine.Start(t, testenv.Container{Image: testenv.PostgresImage(t), Project: project, Service: "certbot", Cmd: []string{"sleep", "1000000"}})
	b := newBed(t, storm.World(t), "CERT_DOMAIN=escrow.test", "ESCROWCTL_CERTS_ADDRESS="+addr, "ESCROWCTL_CERTS_CA="+ca, "ESCROWCTL_CERTS_VIA=container", "COMPOSE_PROJECT_NAME="+project)
	renew := []string{"certs", "renew"}
	wired := named("DOCKER_HOST", wire.Host)
	trials := []trial{
		{group: "Docker", fault: "stopped", call: kit.Call{Args: renew}, codes: []int{3}, says: []string{"no such socket", "systemctl start docker"}, after: wantsTold("no such socket")},
		{group: "Docker", fault: "silent", call: kit.Call{Args: renew, Env: wired}, make: hanging(wire, ".", 0), codes: []int{3}, says: []string{"the docker engine does not answer", "journalctl -u docker"}, after: wantsTold("does not answer"), within: 70 * time.Second, slow: true},
		{group: "Docker", fault: "silent after its first answer", call: kit.Call{Args: renew, Env: wired}, make: hanging(wire, "containers/json", 1), codes: []int{3}, says: []string{"does not answer", "journalctl -u docker"}, after: wantsTold("does not answer"), within: 70 * time.Second},
	}
	trials = append(trials, webhookTrials(t, trial{call: kit.Call{Args: renew}, codes: []int{3}, says: []string{"systemctl start docker"}})...)
	trials = append(trials, stateFaults(renew, 3, true)...)
	// certbot holds nothing of the domain: what is clean here is to say that.
	b.matrix(t, "certs", kit.Call{Args: []string{"certs", "check"}}, trials)
	if runs := runsOf(t, b, "certs"); len(runs) < 2 || !strings.Contains(runs[0], `"outcome":"unknown"`) && !strings.Contains(runs[1], `"outcome":"unknown"`) {
		t.Errorf("the failed renewals are not recorded: %q", runs)
	}
}
