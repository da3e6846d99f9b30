package prometheus_test

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// TestDocumentedSetup types the blocks of docs/monitoring.md that set up Prometheus
// and Alertmanager, on a machine where both are installed and Prometheus runs.
func TestDocumentedSetup(t *testing.T) {
	t.Parallel()
	docker := testenv.Docker(t)
	files := map[string]string{"/etc/prometheus/prometheus.yml": read(t, "prometheus.yml"), "/etc/alertmanager/alertmanager.yml": read(t, "alertmanager.yml")}
	for _, rules := range glob(t, "rules/*.yml") {
		files["/src/deploy/prometheus/"+rules] = read(t, rules)
	}
	id := docker.Start(t, testenv.Container{
		Image: testenv.Image(t, "monitoring"), Files: files, Tmpfs: map[string]string{"/etc/prometheus/rules": "mode=1777"},
		Cmd: []string{"prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/tmp/data"},
	})
	ask := func(path string) (string, error) {
		out, err := exec.Command("docker", "exec", id, "busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:9090"+path).CombinedOutput()
		return string(out), err
	}
	within(t, time.Minute, "Prometheus is ready", func() (bool, string) { out, err := ask("/-/ready"); return err == nil, out })
	if out, err := ask("/api/v1/rules"); err != nil || strings.Contains(out, "BackupMissing") {
		t.Fatalf("it has the rules already, or does not answer: %v: %s", err, out)
	}
	for i, block := range testenv.RunBy(t, "docs/monitoring.md", t.Name(), 3) {
		out, err := exec.Command("docker", "exec", "-w", "/src", id, "bash", "-c", testenv.Script(block, 0)).CombinedOutput()
		if want := []string{"", "SUCCESS", "pager-and-chat"}[i]; err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v: %s", block, err, out)
		}
	}
	within(t, time.Minute, "the rules are loaded", func() (bool, string) {
		out, err := ask("/api/v1/rules")
		return err == nil && strings.Contains(out, "BackupMissing") && strings.Contains(out, "ServiceDown"), out
	})
}
