package testenv

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// monitor is a running Alertmanager, Prometheus or exporter.
type monitor struct {
	URL string

	process  *process
	watchdog *watchdog
}

// Stop ends the server, as a fault of a test.
func (m *monitor) Stop(t testing.TB) {
	t.Helper()
	if m.process == nil {
		return
	}
	m.process.stop(syscall.SIGKILL) // nothing of it is kept
	m.watchdog.tell(t, "pid 0 KILL")
	m.process = nil
}

// start runs a tool with further environment and the arguments that args gives
// for a port, until path answers 200.
func (m *monitor) start(t testing.TB, name, dir, path string, env []string, args func(port int) []string) {
	t.Helper()
	tool, err := exec.LookPath(name)
	Need(t, err == nil, name+" in PATH", "make deps, or apt-get install "+name)
	m.watchdog = newWatchdog(t, dir)
	t.Cleanup(func() { m.Stop(t) })
	onFreePort(t, func(port int) error {
		cmd := exec.Command(tool, args(port)...)
		cmd.Env = append(os.Environ(), env...)
		p, err := launch(cmd, dir, name, nil)
		if err != nil {
			return err
		}
		m.watchdog.tell(t, "pid %d KILL", p.cmd.Process.Pid)
		m.URL = fmt.Sprintf("http://127.0.0.1:%d", port)
		if err := p.ready(func() error { return answers(m.URL + path) }); err != nil {
			m.watchdog.tell(t, "pid 0 KILL")
			return err
		}
		m.process = p
		return nil
	})
}

func answers(url string) error {
	client := &http.Client{Timeout: 20 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}

func writeIn(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatalf("testenv: %v", err)
	}
	return path
}

// AlertmanagerServer is an Alertmanager of a test's own.
type AlertmanagerServer struct{ monitor }

// Alertmanager starts one that notifies nobody, with further lines of
// configuration, such as inhibit_rules.
func Alertmanager(t testing.TB, config string) *AlertmanagerServer {
	t.Helper()
	return AlertmanagerWith(t, "route:\n  receiver: nobody\n  group_wait: 0s\nreceivers:\n- name: nobody\n"+config)
}

// AlertmanagerWith starts one with a whole configuration.
func AlertmanagerWith(t testing.TB, config string) *AlertmanagerServer {
	t.Helper()
	a := new(AlertmanagerServer)
	dir := tempDir(t, "alertmanager", nil)
	file := writeIn(t, dir, "alertmanager.yml", config)
	a.start(t, "prometheus-alertmanager", dir, "/-/ready", nil, func(port int) []string {
		return []string{
			"--config.file=" + file, "--storage.path=" + dir, fmt.Sprintf("--web.listen-address=127.0.0.1:%d", port),
			"--cluster.listen-address=", "--log.level=warn",
		}
	})
	return a
}

// Alert is an alert as Prometheus posts it.
type Alert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	StartsAt     time.Time         `json:"startsAt,omitzero"`
	EndsAt       time.Time         `json:"endsAt,omitzero"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

// Post posts alerts.
func (a *AlertmanagerServer) Post(t testing.TB, alerts ...Alert) {
	t.Helper()
	a.post(t, "/api/v2/alerts", alerts, nil)
}

// Silence silences the alerts of a name and returns the silence's ID.
func (a *AlertmanagerServer) Silence(t testing.TB, alertname, by, comment string, from, until time.Time) string {
	t.Helper()
	var made struct {
		ID string `json:"silenceID"`
	}
	a.post(t, "/api/v2/silences", map[string]any{
		"matchers": []map[string]any{{"name": "alertname", "value": alertname, "isRegex": false, "isEqual": true}},
		"startsAt": from, "endsAt": until, "createdBy": by, "comment": comment,
	}, &made)
	return made.ID
}

func (a *AlertmanagerServer) post(t testing.TB, path string, v, into any) {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(a.URL+path, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatalf("testenv: alertmanager: %v", err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("testenv: alertmanager: %s: %s: %s", path, resp.Status, text)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("testenv: alertmanager: %v", err)
		}
	}
}

// PrometheusServer is a Prometheus of a test's own.
type PrometheusServer struct{ monitor }

// Prometheus starts one that sends its alerts to the Alertmanager at an address
// (host:port), and evaluates the rules of a group every second. It scrapes
// nothing.
func Prometheus(t testing.TB, alertmanager, rules string) *PrometheusServer {
	t.Helper()
	file := writeIn(t, t.TempDir(), "rules.yml", "groups:\n- name: test\n  rules:\n"+rules)
	return PrometheusWith(t, "global: {evaluation_interval: 1s}\nrule_files: ["+file+"]\n"+
		"alerting: {alertmanagers: [{static_configs: [{targets: ['"+alertmanager+"']}]}]}\n")
}

// PrometheusWith starts one with a whole configuration, whose paths are absolute.
func PrometheusWith(t testing.TB, config string) *PrometheusServer {
	t.Helper()
	p := new(PrometheusServer)
	dir := tempDir(t, "prometheus", nil)
	file := writeIn(t, dir, "prometheus.yml", config)
	p.start(t, "prometheus", dir, "/-/ready", nil, func(port int) []string {
		return []string{
			"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"),
			fmt.Sprintf("--web.listen-address=127.0.0.1:%d", port), "--log.level=warn",
			// Four of these without a word, and Alertmanager takes an alert for over.
			"--rules.alert.resend-delay=5s",
		}
	})
	return p
}

// ExporterServer is an exporter of a test's own.
type ExporterServer struct{ monitor }

// Exporter starts one of Debian's prometheus-<name>-exporter, with further
// environment and arguments.
func Exporter(t testing.TB, name string, env []string, args ...string) *ExporterServer {
	t.Helper()
	e := new(ExporterServer)
	e.start(t, "prometheus-"+name+"-exporter", tempDir(t, name+"-exporter", nil), "/metrics", env, func(port int) []string {
		return append(args, fmt.Sprintf("--web.listen-address=127.0.0.1:%d", port))
	})
	return e
}
