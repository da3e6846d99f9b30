package testenv

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestMonitoring: a rule's alert gets from Prometheus to Alertmanager.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	am := Alertmanager(t, "")
	Prometheus(t, strings.TrimPrefix(am.URL, "http://"), "  - {alert: Watchdog, expr: vector(1)}\n")
	am.Post(t, Alert{Labels: map[string]string{"alertname": "ByHand"}})
	id := am.Silence(t, "ByHand", "ops", "test", time.Now(), time.Now().Add(time.Hour))
	var body string
	for end := time.Now().Add(startLimit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		resp, err := http.Get(am.URL + "/api/v2/alerts")
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if body = string(text); strings.Contains(body, `"Watchdog"`) && strings.Contains(body, id) {
			return
		}
	}
	t.Errorf("neither Watchdog nor the silence %s: %s", id, body)
}
