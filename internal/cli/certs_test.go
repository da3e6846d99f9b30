package cli

import (
	"crypto/tls"
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/state"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// tlsServer serves a self-signed certificate for escrow.test on 127.0.0.1, and
// writes it to ca.pem in the working directory.
func tlsServer(t *testing.T, from, to time.Time) (addr string) {
	t.Helper()
	certPEM, keyPEM := testenv.SelfSigned(t, "escrow.test", from, to)
	pair, err := tls.X509KeyPair([]byte(certPEM), []byte(keyPEM))
	if err != nil {
		t.Fatal(err)
	}
	write(t, "ca.pem", certPEM)
	return testenv.ServeTLS(t, pair)
}

const certDay = 24 * time.Hour

// certsInvocation is an invocation whose domain is served at a local address.
func certsInvocation(t *testing.T, left time.Duration, env ...string) *invocation {
	t.Helper()
	inv := invoke(t)
	end := testNow().Add(left)
	addr := tlsServer(t, end.Add(-90*certDay), end)
	inv.environ = append(inv.environ, append([]string{
		"CERT_DOMAIN=escrow.test", "ESCROWCTL_CERTS_ADDRESS=" + addr, "ESCROWCTL_CERTS_CA=ca.pem", "DOCKER_HOST=unix:///no/such.sock", "ESCROWCTL_CERTS_DIR=none",
	}, env...)...)
	return inv
}

// again runs the same command line once more with streams of its own.
func (inv *invocation) again(t *testing.T, args ...string) int {
	t.Helper()
	inv.out.Reset()
	inv.errs.Reset()
	inv.App = New(&ui.IO{Out: &inv.out, Err: &inv.errs, Now: testNow}, inv.environ, inv.build)
	return inv.run(t, args...)
}

func TestCertsCheckReports(t *testing.T) {
	sink := testenv.NewSink(t)
	inv := certsInvocation(t, 80*certDay, "CERT_ALERT_WEBHOOK="+sink.WebhookURL(), "API_BASE_URL="+sink.URL,
		"ESCROWCTL_REPORT_API_METRICS=on", "ESCROWCTL_REPORT_TEXTFILE_DIR=.", "BACKUP_ALERT_WEBHOOK="+sink.URL+"/general")
	if code := inv.run(t, "certs", "check"); code != 0 {
		t.Fatalf("exit %d: %s%s", code, &inv.out, &inv.errs)
	}
	for _, want := range []string{"OK  escrow.test:443: not due: ends in 80 d (2026-03-23 03:04:05 UTC)", "serial abcdef", "lifetime 90 d: due with 30 d left (30 days)"} {
		if !strings.Contains(inv.out.String(), want) {
			t.Errorf("stdout lacks %q:\n%s", want, &inv.out)
		}
	}
	if !strings.HasSuffix(inv.errs.String(), "ok: escrow.test:443: not due: ends in 80 d (2026-03-23 03:04:05 UTC)\n") {
		t.Errorf("the log does not end with the verdict: %s", &inv.errs)
	}
	events := sink.Metrics(t)
	if len(events) != 1 {
		t.Fatalf("events %v", events)
	}
	want := map[string]any{"source": "ssl", "type": "cert_expiry_days", "value": 80.0, "domain": "escrow.test"}
	for key, value := range want {
		if events[0][key] != value {
			t.Errorf("the event has %s %v, want %v", key, events[0][key], value)
		}
	}
	metrics, err := os.ReadFile("escrowctl_cert.prom")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`escrowctl_cert_not_after_timestamp_seconds{host="escrow.test:443"} 1.774235045e+09`, `escrowctl_cert_valid{host="escrow.test:443"} 1`, `escrowctl_cert_status{host="escrow.test:443"} 0`,
	} {
		if !strings.Contains(string(metrics), want) {
			t.Errorf("the textfile lacks %q:\n%s", want, metrics)
		}
	}
	if texts := sink.Requests(); len(texts) != 1 {
		t.Errorf("a certificate that is well made %d requests, want the event alone", len(texts))
	}
}

// TestCertsCheckTellsWorse: the webhook of certificates hears once of what has
// become worse.
func TestCertsCheckTellsWorse(t *testing.T) {
	sink := testenv.NewSink(t)
	inv := certsInvocation(t, 20*certDay, "CERT_ALERT_WEBHOOK="+sink.WebhookURL(), "BACKUP_ALERT_WEBHOOK="+sink.URL+"/general")
	for i := range 2 {
		if code := inv.again(t, "certs", "check"); code != 1 {
			t.Fatalf("exit %d: %s%s", code, &inv.out, &inv.errs)
		}
		if texts := sink.Texts(t); len(texts) != 1 || !strings.Contains(texts[0], "warning: escrow.test:443: renewal failing: ends in 20 d") {
			t.Errorf("after run %d the webhook has %q", i+1, texts)
		}
	}
	if len(sink.Requests("/general")) != 0 {
		t.Error("the general webhook got it")
	}
}

func TestCertsCheckArguments(t *testing.T) {
	inv := certsInvocation(t, 10*certDay, "ESCROWCTL_REPORT_TEXTFILE_DIR=.")
	address := ""
	for _, e := range inv.environ {
		if v, ok := strings.CutPrefix(e, "ESCROWCTL_CERTS_ADDRESS="); ok {
			address = v
		}
	}
	_, port, _ := net.SplitHostPort(address)
	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"escrow.test", 2, "renewal failing: ends in 10 d"},
		{"escrow.test:8443 --address " + address, 2, "escrow.test:8443: renewal failing"},
		{"other.test --address 127.0.0.1:" + port, 2, "not for other.test but for escrow.test"},
		{"ca.pem", 2, "CRITICAL  ca.pem: renewal failing: ends in 10 d"},
		{"127.0.0.1:1", 2, "not_served"},
		{"./none.pem", 3, "no such file"},
	} {
		code := inv.again(t, strings.Fields("certs check --offline --json "+tt.args)...)
		var doc struct {
			Hosts []struct{ Summary, Verdict string }
		}
		if err := json.Unmarshal(inv.out.Bytes(), &doc); err != nil || len(doc.Hosts) != 1 {
			t.Fatalf("%s: %v: %s", tt.args, err, &inv.out)
		}
		says := strings.TrimPrefix(tt.says, "CRITICAL  ")
		if code != tt.code || !strings.Contains(doc.Hosts[0].Summary+doc.Hosts[0].Verdict, says) {
			t.Errorf("%s: exit %d, want %d: %+v", tt.args, code, tt.code, doc.Hosts[0])
		}
	}
	if _, err := os.Stat("escrowctl_cert.prom"); err == nil {
		t.Error("a check with arguments was reported")
	}
	for args, want := range map[string]string{
		"https://escrow.test": `"https://escrow.test" is a URL: write HOST or HOST:PORT`,
		"escrow.test:none":    `"none" is no port`,
		"--ca none.pem":       "roots (--ca, certs.ca): open none.pem: no such file or directory",
	} {
		if code := inv.again(t, strings.Fields("certs check "+args)...); code != 3 || !strings.Contains(inv.errs.String(), want) {
			t.Errorf("%s: exit %d: %s", args, code, &inv.errs)
		}
	}
	inv.environ = append(inv.environ, "ESCROWCTL_CERTS_WARN_DAYS=5", "ESCROWCTL_CERTS_CRITICAL_DAYS=7")
	if code := inv.again(t, "certs", "check"); code != 3 || !strings.Contains(inv.errs.String(), "certs.critical_days (7) is more than certs.warn_days (5)") {
		t.Errorf("exit %d: %s", code, &inv.errs)
	}
}

// TestShiftCheckSeesNotReloaded: a certificate on the disk that is newer than
// the one served.
func TestShiftCheckSeesNotReloaded(t *testing.T) {
	inv := certsInvocation(t, 40*certDay)
	tlsServer(t, testNow().Add(-certDay), testNow().Add(89*certDay)) // writes ca.pem
	fresh, err := os.ReadFile("ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"cert", "chain", "fullchain"} {
		name := "none/archive/escrow.test/" + kind + "1.pem"
		for _, dir := range []string{"none/archive/escrow.test", "none/live/escrow.test", "none/renewal"} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		write(t, name, string(fresh))
		if err := os.Symlink("../../archive/escrow.test/"+kind+"1.pem", "none/live/escrow.test/"+kind+".pem"); err != nil {
			t.Fatal(err)
		}
	}
	if r := shiftOnly(t, inv, "certs"); r.Status == check.OK || !strings.Contains(r.Summary, "renewed but not reloaded") {
		t.Errorf("%+v", r)
	}
}

// TestCertsRenewThatCannotBegin: without an engine there is no certbot. That is a
// failed renewal like any other: on record, and told.
func TestCertsRenewThatCannotBegin(t *testing.T) {
	sink := testenv.NewSink(t)
	inv := certsInvocation(t, 60*certDay, "ESCROWCTL_CERTS_VIA=container", "BACKUP_ALERT_WEBHOOK="+sink.WebhookURL())
	if code := inv.run(t, "certs", "renew"); code != 3 || !strings.Contains(inv.errs.String(), "no such socket") {
		t.Errorf("exit %d: %s", code, &inv.errs)
	}
	if texts := sink.Texts(t); len(texts) != 1 || !strings.HasPrefix(texts[0], "FAILED on ") || !strings.Contains(texts[0], "no such socket") {
		t.Errorf("webhook got %q", texts)
	}
	st, err := state.Open("state", state.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if last, found, err := st.Last(certsJob); err != nil || !found || last.Outcome != state.Unknown {
		t.Errorf("recorded %+v, %v, %v", last, found, err)
	}
}
