package certs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/certs"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/cli"
	"github.com/stellarescrow/escrowctl/internal/compose"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// TestRenewal takes one project through all that may happen to it, in order:
// real certbot, real CA, real nginx. The containers are the costly part.
func TestRenewal(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	runbook := strings.Split(testenv.RunBy(t, "docs/certs.md", t.Name(), 1)[0], "\n")
	for _, step := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"no certificate yet", s.noCertificate},
		{"first issue", s.firstIssue},
		{"nothing due", s.nothingDue},
		{"same as openssl and certbot say", s.sameAsOthers},
		{"renewal information", s.renewalInformation},
		{"dry run", s.dryRun},
		{"due", s.due},
		{"runbook's renewal hangs", func(t *testing.T) { s.runbookRenewal(t, runbook[0], runbook[1]) }},
		{"forced", s.forced},
		{"forced too often", s.forcedTooOften},
		{"challenge fails", s.challengeFails},
		{"nginx refuses its configuration", s.nginxBroken},
		{"renewed but not reloaded", s.repaired},
		{"nginx is stopped", s.nginxStopped},
		{"time limit", s.timeLimit},
		{"CA is down", s.caDown},
	} {
		if !t.Run(step.name, step.run) {
			t.Fatalf("certbot said:\n%s", s.said)
		}
	}
}

func mention(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q: %v", w, err)
		}
	}
}

// proven holds what is served against the disk.
func (s *stack) proven(t *testing.T, r *certs.Renewal) {
	t.Helper()
	if !s.served(t).Equal(s.certificate(t)) {
		t.Error("what is served is not what is on the disk")
	}
	if r.Report == nil || r.Report.Verdict != certs.VerdictNotDue || r.Report.Status != check.OK {
		t.Errorf("the state in the end: %+v", r.Report)
	}
}

func (s *stack) noCertificate(t *testing.T) {
	r, err := s.renew(t, nil)
	mention(t, err, "no certificate for escrow.test (it has: none)", "--entrypoint certbot certbot certonly --webroot", "-d escrow.test")
	if r.Outcome != certs.Failed {
		t.Errorf("outcome %s", r.Outcome)
	}
}

// firstIssue issues as the error says, and lets renew bring it to nginx.
func (s *stack) firstIssue(t *testing.T) {
	var out strings.Builder
	code, err := oneoffCertbot{s.project.Service("certbot")}.Run(t.Context(), []string{
		"certonly", "--webroot", "-w", webroot, "-d", domain, "--server", caDir, "--agree-tos", "--register-unsafely-without-email", "--non-interactive",
	}, &out)
	if err != nil || code != 0 {
		t.Fatalf("certbot certonly: exit %d, %v: %s", code, err, &out)
	}
	s.configure(t, nginxConf(live))
	o := s.options()
	o.Check.HTTP = nil
	if rep := certs.Check(t.Context(), o.Check); rep.Verdict != certs.VerdictNotReloaded || rep.Status != check.Critical {
		t.Errorf("before the reload: %s, %s: %s", rep.Verdict, rep.Status, rep.Summary)
	}
	r, err := s.renew(t, nil)
	if err != nil || !r.Repaired || r.Outcome != certs.Unchanged {
		t.Fatalf("%+v, error %v", r, err)
	}
	s.proven(t, r)
}

// nothingDue goes through the command line, as cron does.
func (s *stack) nothingDue(t *testing.T) {
	before := s.certificate(t)
	sink := testenv.NewSink(t)
	code, stdout, stderr := s.escrowctl(t, sink, "certs", "renew")
	if code != 0 || !strings.HasPrefix(stdout, "OK  nothing due: ends in 90 d") || strings.Count(stdout, "\n") != 1 {
		t.Fatalf("exit %d, stdout %q, stderr %s", code, stdout, stderr)
	}
	if !s.certificate(t).Equal(before) || !s.served(t).Equal(before) {
		t.Error("it was renewed")
	}
	if texts := sink.Texts(t); len(texts) != 0 {
		t.Errorf("people are told that nothing is due: %q", texts)
	}
	if events := sink.Metrics(t); len(events) != 1 || events[0]["type"] != "cert_expiry_days" || events[0]["domain"] != domain || events[0]["value"] != 89.0 {
		t.Errorf("events %v", events)
	}
	code, stdout, stderr = s.escrowctl(t, sink, "certs", "check")
	if code != 0 || !strings.Contains(stdout, "on disk      lineage escrow.test") || !strings.Contains(stdout, "rule         lifetime 90 d: due with 30 d left") {
		t.Errorf("exit %d, stdout %s, stderr %s", code, stdout, stderr)
	}
}

// escrowctl runs the command line on this stack.
func (s *stack) escrowctl(t *testing.T, sink *testenv.Sink, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.home, "ESCROWCTL_STATE_DIR=" + s.home, "COMPOSE_PROJECT_NAME=" + s.project.Name(), "CERT_DOMAIN=" + domain,
		"ESCROWCTL_CERTS_ADDRESS=" + s.addr, "ESCROWCTL_CERTS_CA=" + s.rootFile, "CERT_ALERT_WEBHOOK=" + sink.WebhookURL(), "API_BASE_URL=" + sink.URL,
		"ESCROWCTL_CONFIG=" + filepath.Join(s.home, "escrowctl.yaml"),
	}
	app := cli.New(&ui.IO{Out: &out, Err: &errs, Now: time.Now}, env, cli.Build{Version: "test"})
	code = app.Run(t.Context(), args)
	t.Logf("escrowctl %s: exit %d\n%s%s", strings.Join(args, " "), code, &out, &errs)
	return code, out.String(), errs.String()
}

// sameAsOthers compares our dates, serial and verdict with those of openssl and
// of certbot itself.
func (s *stack) sameAsOthers(t *testing.T) {
	rep := certs.Check(t.Context(), s.options().Check)
	script := `openssl s_client -connect "$1" -servername "$2" -CAfile "$3" -verify_hostname "$2" </dev/null 2>/dev/null | tee /dev/stderr | openssl x509 -noout -serial -dates`
	cmd := exec.Command("sh", "-c", script, "sh", s.addr, domain, s.rootFile)
	var session strings.Builder
	cmd.Stderr = &session
	out, err := cmd.Output()
	testenv.Need(t, err == nil, "the program openssl", "apt-get install openssl")
	const layout = "Jan _2 15:04:05 2006 GMT"
	for _, want := range []string{
		"serial=" + strings.ToUpper(certs.Serial(rep.Leaf.SerialNumber)), "notBefore=" + rep.Leaf.NotBefore.UTC().Format(layout), "notAfter=" + rep.Leaf.NotAfter.UTC().Format(layout),
	} {
		if !strings.Contains(strings.ReplaceAll(string(out), "serial=0", "serial="), strings.ReplaceAll(want, "serial=0", "serial=")) {
			t.Errorf("openssl does not say %q:\n%s", want, out)
		}
	}
	if ok := strings.Contains(session.String(), "Verify return code: 0 (ok)"); !ok || rep.Verdict != certs.VerdictNotDue {
		t.Errorf("openssl accepts it: %v; we say %s", ok, rep.Verdict)
	}
	var own strings.Builder
	if code, err := (oneoffCertbot{s.project.Service("certbot")}).Run(t.Context(), []string{"certificates"}, &own); err != nil || code != 0 {
		t.Fatalf("certbot certificates: exit %d, %v", code, err)
	}
	for _, want := range []string{
		"Serial Number: " + strings.TrimLeft(certs.Serial(rep.Disk.Leaf().SerialNumber), "0"), "Expiry Date: " + rep.Disk.Leaf().NotAfter.UTC().Format("2006-01-02 15:04:05+00:00"),
	} {
		if !strings.Contains(own.String(), want) {
			t.Errorf("certbot does not say %q:\n%s", want, &own)
		}
	}
}

// renewalInformation: the CA's suggestion, for a certificate in three ages.
func (s *stack) renewalInformation(t *testing.T) {
	rep := certs.Check(t.Context(), s.options().Check)
	if rep.Window == nil {
		t.Fatalf("no window: %q", rep.Notes)
	}
	if left := rep.Leaf.NotAfter.Sub(rep.Window.Start); left < 20*24*time.Hour || left > 40*24*time.Hour || !rep.Rule.Due.Equal(rep.Window.Start) {
		t.Errorf("pebble suggests %+v, the rule is %s", rep.Window, rep.Rule)
	}
	for left, want := range map[time.Duration]certs.Verdict{
		60 * 24 * time.Hour: certs.VerdictNotDue, rep.Leaf.NotAfter.Sub(rep.Window.Start) - time.Hour: certs.VerdictDue, 10 * 24 * time.Hour: certs.VerdictFailing, -time.Hour: certs.VerdictExpired,
	} {
		o := s.options().Check
		o.Now = func() time.Time { return rep.Leaf.NotAfter.Add(-left) }
		o.Docs = nil
		if aged := certs.Check(t.Context(), o); aged.Verdict != want {
			t.Errorf("with %s left: %s: %s", left, aged.Verdict, aged.Summary)
		}
	}
}

func (s *stack) dryRun(t *testing.T) {
	before := s.certificate(t)
	r, err := s.renew(t, func(o *certs.RenewOptions) { o.DryRun = true })
	if err != nil || r.Outcome != certs.Rehearsed || !strings.Contains(s.said.String(), "all simulated renewals succeeded") {
		t.Fatalf("%+v, error %v", r, err)
	}
	if !s.certificate(t).Equal(before) {
		t.Error("a dry run renewed it")
	}
}

// due makes certbot find it due, as it would after two months.
func (s *stack) due(t *testing.T) {
	before := s.certificate(t)
	conf := "/etc/letsencrypt/renewal/" + domain + ".conf"
	s.docker.Exec(t, s.nginx, "sed", "-i", "1i renew_before_expiry = 200 days", conf)
	r, err := s.renew(t, nil)
	s.docker.Exec(t, s.nginx, "sed", "-i", "/^renew_before_expiry/d", conf)
	if err != nil || r.Outcome != certs.Renewed || !r.Proven || strings.Join(r.Changed, " ") != domain || !strings.HasPrefix(r.Summary, "renewed escrow.test, and every address serves it") {
		t.Fatalf("%+v, error %v", r, err)
	}
	if s.certificate(t).Equal(before) {
		t.Error("it was not renewed")
	}
	s.proven(t, r)
}

// runbookRenewal is the regression that this command is for: the runbook's own
// two commands. The first goes to sleep for half a day and renews nothing; the
// second ends well and does nothing, with a configuration that nginx refuses.
func (s *stack) runbookRenewal(t *testing.T, renew, reload string) {
	dockerCompose := s.composeFile(t)
	typed := func(ctx context.Context, line string) (string, error) {
		words := strings.Fields(line)
		return dockerCompose(ctx, slices.Insert(words[2:], 1, "-T")...) // there is no terminal
	}
	before := s.certificate(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan string, 1)
	go func() {
		out, err := typed(ctx, renew)
		ended <- fmt.Sprintf("%v: %s", err, out)
	}()
	s.eventually(t, "the command sleeps", func() bool {
		select {
		case said := <-ended:
			t.Fatalf("it ended: %s", said)
		default:
		}
		left := s.oneoffs(t)
		return len(left) == 1 && strings.Contains(s.top(t, left[0]), "sleep 12h")
	})
	cancel()
	<-ended
	if !s.certificate(t).Equal(before) {
		t.Error("it renewed")
	}
	for _, id := range s.oneoffs(t) { // which a killed docker compose run leaves
		s.docker.Remove(t, id)
	}

	s.configure(t, nginxConf("/etc/nginx/placeholder", unbindable))
	out, err := typed(t.Context(), reload)
	if err != nil {
		t.Errorf("nginx -s reload was expected to end well: %v: %s", err, out)
	}
	s.eventually(t, "nginx refuses its configuration", func() bool {
		said, err := exec.Command("docker", "logs", "--tail", "20", s.nginx).CombinedOutput()
		return err == nil && strings.Contains(string(said), "bind() to 192.0.2.1:444 failed")
	})
	if !s.served(t).Equal(before) {
		t.Error("it reloaded a configuration that it refuses")
	}
	s.configure(t, nginxConf(live))
}

// unbindable makes a configuration that nginx -s reload does not mind, and that
// nginx then refuses to load: the address is not this container's.
const unbindable = "listen 192.0.2.1:444 ssl;"

// composeFile writes the project's compose file and returns what runs Compose on
// it.
func (s *stack) composeFile(t *testing.T) func(ctx context.Context, args ...string) (string, error) {
	t.Helper()
	program := []string{"docker", "compose"}
	if exec.Command("docker", "compose", "version").Run() != nil {
		program = []string{"docker-compose"}
		_, err := exec.LookPath(program[0])
		testenv.Need(t, err == nil, "docker compose", "make deps")
	}
	dir := t.TempDir()
	labels := "    labels: {escrowctl.test: \"1\", escrowctl.test.run: " + s.docker.Run + "}\n"
	volumes := "    volumes: [\"letsencrypt:/etc/letsencrypt\", \"webroot:/var/www/certbot\"]\n"
	text := "version: \"3.7\"\nservices:\n" +
		"  nginx:\n    image: escrowctl-sandbox/nginx:latest\n" + volumes + labels +
		"  certbot:\n    image: escrowctl-sandbox/certbot:latest\n    entrypoint: [\"sh\", \"-c\", \"" + strings.ReplaceAll(loop, "$", "$$") + "\"]\n    environment: [REQUESTS_CA_BUNDLE=/etc/letsencrypt/pebble-ca.pem]\n" + volumes + labels +
		"volumes:\n  letsencrypt: {external: true, name: " + s.letsencrypt + "}\n  webroot: {external: true, name: " + s.challenge + "}\n" +
		"networks:\n  default: {external: true, name: " + s.network + "}\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-compose.yml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context, args ...string) (string, error) {
		args = append(append(program[1:len(program):len(program)], "-p", s.project.Name()), args...)
		cmd := exec.CommandContext(ctx, program[0], args...)
		cmd.Dir = dir
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
}

func (s *stack) forced(t *testing.T) {
	before := s.certificate(t)
	r, err := s.renew(t, func(o *certs.RenewOptions) { o.Force = true })
	if err != nil || r.Outcome != certs.Renewed || !r.Proven {
		t.Fatalf("%+v, error %v", r, err)
	}
	if s.certificate(t).Equal(before) {
		t.Error("it was not renewed")
	}
	s.proven(t, r)
}

func (s *stack) forcedTooOften(t *testing.T) {
	// As if the second had been five hours ago.
	var doc struct {
		Attempts []certs.Attempt `json:"attempts"`
	}
	if _, err := s.docs.Load("certs-attempts", &doc); err != nil || len(doc.Attempts) == 0 || !doc.Attempts[len(doc.Attempts)-1].Forced {
		t.Fatalf("history %+v, %v", doc, err)
	}
	doc.Attempts = append(doc.Attempts, certs.Attempt{At: time.Now().Add(-5 * time.Hour), Outcome: certs.Renewed, Forced: true, Lineage: domain})
	if err := s.docs.Save("certs-attempts", doc); err != nil {
		t.Fatal(err)
	}
	before := s.certificate(t)
	_, err := s.renew(t, func(o *certs.RenewOptions) { o.Force = true })
	if !errors.Is(err, certs.ErrTooOften) {
		t.Fatalf("the third: %v", err)
	}
	mention(t, err, "2 forced renewals of escrow.test within a day", "--yes")
	if s.said.Len() > 0 || !s.certificate(t).Equal(before) {
		t.Error("certbot was run all the same")
	}
}

func forcedAgain(o *certs.RenewOptions) { o.Force, o.Yes = true, true }

func (s *stack) challengeFails(t *testing.T) {
	before := s.certificate(t)
	s.configure(t, strings.Replace(nginxConf(live), "root "+webroot, "root /nowhere", 1))
	s.reload(t)
	r, err := s.renew(t, forcedAgain)
	mention(t, err, "challenge failed for escrow.test", "http://escrow.test:80/.well-known/acme-challenge/", "404")
	if r.Outcome != certs.Failed || r.Reason.Kind != certs.ReasonChallenge || strings.Contains(err.Error(), "\n") || !s.certificate(t).Equal(before) || !s.served(t).Equal(before) {
		t.Errorf("%+v", r)
	}
	if r.Report == nil || r.Report.Verdict != certs.VerdictNotDue {
		t.Errorf("the state in the end: %+v", r.Report)
	}
	s.configure(t, nginxConf(live))
	s.reload(t)
}

func (s *stack) nginxBroken(t *testing.T) {
	before := s.certificate(t)
	s.configure(t, nginxConf(live, unbindable))
	r, err := s.renew(t, forcedAgain)
	mention(t, err, "renewed escrow.test, but not reloaded", `[emerg]`, "bind() to 192.0.2.1:444 failed", "the old certificate, is left running")
	if r.Outcome != certs.Renewed || r.Proven || s.certificate(t).Equal(before) || !s.served(t).Equal(before) {
		t.Errorf("%+v", r)
	}
	if r.Report.Verdict != certs.VerdictNotReloaded || r.Report.Status != check.Warning {
		t.Errorf("the state in the end: %s, %s", r.Report.Verdict, r.Report.Status)
	}
	// The configuration still broken, the next run says it again and renews
	// nothing more.
	onDisk := s.certificate(t)
	s.configure(t, nginxConf(live, "no_such_directive on;"))
	_, err = s.renew(t, nil)
	mention(t, err, "renewed before, but not reloaded", `unknown directive "no_such_directive"`)
	if !s.certificate(t).Equal(onDisk) {
		t.Error("it was renewed again")
	}
	// What nginx -t does not see either, a port that is taken: only the handshakes
	// tell.
	if out, err := exec.Command("docker", "exec", "-d", s.nginx, "busybox", "nc", "-ll", "-p", "8443", "-e", "true").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.eventually(t, "port 8443 is taken", func() bool {
		return exec.Command("docker", "exec", s.nginx, "grep", "-q", ":20FB .* 0A ", "/proc/net/tcp", "/proc/net/tcp6").Run() == nil
	})
	s.configure(t, nginxConf(live, "listen 8443 ssl;"))
	o := s.options()
	o.Patience = 5 * time.Second
	mention(t, certs.ReloadForTest(t.Context(), o, onDisk), "not served within 5s of the reload", s.addr+" serves serial "+certs.Serial(before.SerialNumber))
}

// repaired goes through the command line: a reload is a change, and journalled.
func (s *stack) repaired(t *testing.T) {
	s.configure(t, nginxConf(live))
	before := s.certificate(t)
	sink := testenv.NewSink(t)
	code, stdout, stderr := s.escrowctl(t, sink, "certs", "renew")
	const done = "reloaded what was renewed before, and every address serves it; nothing due: ends in 90 d"
	if code != 0 || !strings.HasPrefix(stdout, "OK  "+done) {
		t.Fatalf("exit %d, stdout %q, stderr %s", code, stdout, stderr)
	}
	if !s.certificate(t).Equal(before) || !s.served(t).Equal(before) {
		t.Error("it was renewed, where a reload was enough, or it is not served")
	}
	if texts := sink.Texts(t); len(texts) != 1 || !strings.Contains(texts[0], done) {
		t.Errorf("people are told %q", texts)
	}
	changes, err := os.ReadFile(filepath.Join(s.home, "journal", "changes.jsonl"))
	if err != nil || strings.Count(string(changes), "\n") != 1 || !strings.Contains(string(changes), "the disk was newer than what was served") || !strings.Contains(string(changes), certs.Fingerprint(before)[:8]) {
		t.Errorf("the journal: %v: %s", err, changes)
	}
}

func (s *stack) nginxStopped(t *testing.T) {
	s.docker.Stop(t, s.nginx)
	r, err := s.renew(t, nil)
	if err != nil || r.Report.Verdict != certs.VerdictNotServed || r.Report.Status != check.Critical || !strings.Contains(r.Summary, "nothing due") || !strings.Contains(r.Summary, "serves no TLS") {
		t.Errorf("%+v, error %v", r, err)
	}
	// Renewed by another way meanwhile: there is nobody to reload it.
	o := s.options()
	err = certs.ReloadForTest(t.Context(), o, r.Report.Disk.Leaf())
	if !errors.Is(err, compose.ErrNotRunning) {
		t.Errorf("error %v", err)
	}
	mention(t, err, "up -d nginx")
	s.docker.Restart(t, s.nginx)
	s.eventually(t, "nginx serves again", func() bool {
		return certs.Check(t.Context(), o.Check).Verdict == certs.VerdictNotDue
	})
}

// timeLimit: a certbot that does not end is ended, and leaves nothing.
func (s *stack) timeLimit(t *testing.T) {
	r, err := s.renew(t, func(o *certs.RenewOptions) {
		o.Certbot, o.Timeout = hanging{s.project.Service("certbot")}, time.Second
	})
	mention(t, err, "did not end within 1s (certs.timeout)")
	if r.Outcome != certs.Failed {
		t.Errorf("outcome %s", r.Outcome)
	}
	s.eventually(t, "no one-off is left", func() bool { return len(s.oneoffs(t)) == 0 })
}

type hanging struct{ *compose.Service }

func (h hanging) Run(ctx context.Context, _ []string, out io.Writer) (int, error) {
	return h.Service.Run(ctx, []string{"sh", "-c"}, []string{"trap exit INT; while :; do sleep 0.1; done"}, out, out)
}

// caDown goes through the command line too: a failure must reach people.
func (s *stack) caDown(t *testing.T) {
	before := s.certificate(t)
	s.docker.Stop(t, s.pebble)
	sink := testenv.NewSink(t)
	code, stdout, stderr := s.escrowctl(t, sink, "certs", "renew", "--force")
	const reason = "certbot did not renew: the CA at pebble:14000 cannot be reached"
	if code != 2 || stdout != "" || !strings.Contains(stderr, "escrowctl: "+reason) {
		t.Errorf("exit %d, stdout %q, stderr %s", code, stdout, stderr)
	}
	if texts := sink.Texts(t); len(texts) != 1 || !strings.Contains(texts[0], "FAILED on ") || !strings.Contains(texts[0], reason) {
		t.Errorf("people are told %q", texts)
	}
	// The certificate itself is as good as before, and the platform is told so.
	if events := sink.Metrics(t); len(events) != 1 || events[0]["verdict"] != "not_due" || events[0]["status"] != "ok" {
		t.Errorf("events %v", events)
	}
	if !s.certificate(t).Equal(before) || !s.served(t).Equal(before) {
		t.Error("the certificate has changed")
	}
	history, err := os.ReadFile(filepath.Join(s.home, "documents", "certs-attempts.json"))
	if err != nil || !strings.Contains(string(history), `"outcome": "failed"`) || !strings.Contains(string(history), "Max retries exceeded") {
		t.Errorf("the detail is not kept: %v: %s", err, history)
	}
}
