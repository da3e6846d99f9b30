package cli

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

const oldGrafana = "0ld-graf4na-m4rk3r"

// The real Grafana is no Debian package: this is the stand-in, which answers in
// the shapes of Grafana's HTTP API, keeps its password and shuts out who was
// wrong five times.
const grafanaProject = `services:
  grafana:
    image: escrowctl-sandbox/platform:latest
    command: ["grafana"]
    stop_grace_period: 2s
    environment: {GRAFANA_ADMIN_PASSWORD: "${GRAFANA_ADMIN_PASSWORD}", GRAFANA_DATA: /data}
    volumes: ["data:/data"]
    ports: ["127.0.0.1:PORT:3000"]
    labels: ["${TEST_LABEL}"]
  dashboards:
    image: escrowctl-sandbox/platform:latest
    command: ["horizon"]
    stop_grace_period: 1s
    environment: {GRAFANA: "http://admin:${GRAFANA_ADMIN_PASSWORD}@grafana:3000"}
    labels: ["${TEST_LABEL}"]
volumes:
  data:
`

type grafanaBed struct{ *rotationBed }

func newGrafanaBed(t *testing.T) *grafanaBed {
	t.Helper()
	docker := testenv.Docker(t)
	testenv.PlatformImage(t)
	port := testenv.FreePort(t)
	b := &rotationBed{url: fmt.Sprintf("http://127.0.0.1:%d", port), state: filepath.Join(t.TempDir(), "state"), sink: testenv.NewSink(t)}
	b.project = docker.ComposeProject(t, map[string]string{
		"docker-compose.yml": strings.ReplaceAll(grafanaProject, "PORT", fmt.Sprint(port)),
		".env":               "A=1\nGRAFANA_ADMIN_PASSWORD='" + oldGrafana + "' # Grafana\r\n",
	})
	b.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "ESCROWCTL_STATE_DIR=" + b.state, "COMPOSE_PROJECT_NAME=" + b.project.Name,
		"ESCROWCTL_GRAFANA_URL=" + b.url, "ESCROWCTL_API_URL=off", "BACKUP_ALERT_WEBHOOK=" + b.sink.WebhookURL(), "ESCROWCTL_REPORT_API_METRICS=off", "ESCROWCTL_KEYS_TIMEOUT=60s", testenv.ComposePatience,
	}
	g := &grafanaBed{b}
	limit := time.Now().Add(patience)
	for g.login(oldGrafana) != http.StatusOK {
		if time.Now().After(limit) {
			t.Fatalf("Grafana answers %d", g.login(oldGrafana))
		}
		time.Sleep(100 * time.Millisecond)
	}
	return g
}

// login is what the API answers to admin with this password, 0 if nothing.
func (g *grafanaBed) login(password string) int {
	req, err := http.NewRequest(http.MethodGet, g.url+"/api/search", nil)
	if err != nil {
		return -1
	}
	req.SetBasicAuth("admin", password)
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func (g *grafanaBed) value(t *testing.T) string {
	t.Helper()
	_, rest, _ := strings.Cut(read(t, g.project.EnvFile()), "GRAFANA_ADMIN_PASSWORD='")
	value, _, _ := strings.Cut(rest, "'")
	return value
}

// TestGrafanaPassword changes it and proves it, puts the old one back where
// something fails, and does not shut the user out meanwhile.
func TestGrafanaPassword(t *testing.T) {
	t.Parallel()
	g := newGrafanaBed(t)
	original := read(t, g.project.EnvFile())
	if out := g.must(t, 0, "rotate-keys", "GRAFANA_ADMIN_PASSWORD", "--dry-run"); !strings.Contains(out, "would recreate grafana, dashboards, in this order") {
		t.Errorf("it says %s", out)
	}
	if read(t, g.project.EnvFile()) != original || g.login(oldGrafana) != http.StatusOK {
		t.Error("a dry run changed something")
	}

	// What holds the password does not come up: the old one is put back.
	file := filepath.Join(g.project.Dir, "docker-compose.yml")
	compose := read(t, file)
	if err := os.WriteFile(file, []byte(strings.Replace(compose, `["horizon"]`, `["none"]`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	g.env = append(g.env, "ESCROWCTL_KEYS_TIMEOUT=3s")
	if out := g.must(t, 2, "rotate-keys", "GRAFANA_ADMIN_PASSWORD"); !strings.Contains(out, "service dashboards is not ready") {
		t.Errorf("it says %s", out)
	}
	if read(t, g.project.EnvFile()) != original || g.login(oldGrafana) != http.StatusOK {
		t.Errorf("not as before: Grafana answers %d", g.login(oldGrafana))
	}
	if err := os.WriteFile(file, []byte(compose), 0o600); err != nil {
		t.Fatal(err)
	}
	g.env = append(g.env, "ESCROWCTL_KEYS_TIMEOUT=60s")
	g.must(t, 0, "rotate-keys", "rollback", "GRAFANA_ADMIN_PASSWORD") // it could not end for want of dashboards

	out := g.must(t, 0, "rotate-keys", "GRAFANA_ADMIN_PASSWORD", "--why", "quarterly")
	fresh := g.value(t)
	if len(fresh) != 64 || read(t, g.project.EnvFile()) != strings.Replace(original, oldGrafana, fresh, 1) || !strings.Contains(out, "made anew: grafana, dashboards") {
		t.Errorf("not only the password changed in .env, or it says %s", out)
	}
	if new, old := g.login(fresh), g.login(oldGrafana); new != http.StatusOK || old != http.StatusUnauthorized {
		t.Errorf("the new one is answered with %d, the old one with %d", new, old)
	}
	if out := g.must(t, 3, "rotate-keys", "due"); !strings.Contains(out, "GRAFANA_ADMIN_PASSWORD") {
		t.Errorf("due says %s", out)
	}
	g.must(t, 0, "changes", "verify")
	g.noSecrets(t, oldGrafana, fresh)

	// Changed in Grafana by hand and not in .env: nothing can be proven.
	if err := os.WriteFile(g.project.EnvFile(), []byte(original), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := g.must(t, 3, "rotate-keys", "GRAFANA_ADMIN_PASSWORD"); !strings.Contains(out, "does not log in") || !strings.Contains(out, "nothing is changed") {
		t.Errorf("it says %s", out)
	}
}
