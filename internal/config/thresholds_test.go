package config

import (
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// The runbook's limits are the defaults, whatever their unit.
func TestThresholdDefaults(t *testing.T) {
	l := mustLoad(t, "", Options{})
	for _, want := range runbook.Thresholds() {
		if got, ok := l.Threshold(want.ID); !ok || got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if _, ok := l.Threshold("nonsense"); ok {
		t.Error("a figure that is not there has limits")
	}
}

func TestThresholdsSet(t *testing.T) {
	l := mustLoad(t, "thresholds:\n  ttfb: {warning: 1s, critical: 1500ms}\n  disk_usage:\n    critical: 0.95\n  redis_hit_rate: {critical: 0.2}\n  db_slot_wal: {warning: 2GiB}\n",
		Options{Environ: []string{"ESCROWCTL_THRESHOLDS_DB_WRAPAROUND_WARNING=5e8", "ESCROWCTL_THRESHOLDS_DB_WRAPAROUND_CRITICAL=900000000"}})
	for id, want := range map[string]Limits{
		runbook.TTFB: {1, 1.5}, runbook.DiskUsage: {0.7, 0.95}, runbook.RedisHitRate: {0.7, 0.2}, runbook.DBSlotWAL: {2 << 30, 10e9}, runbook.DBWraparound: {500e6, 900e6},
	} {
		if got, _ := l.Threshold(id); got.Warning != want.Warning || got.Critical != want.Critical {
			t.Errorf("%s: %g and %g, want %+v", id, got.Warning, got.Critical, want)
		}
	}
	for _, e := range l.Entries() {
		if e.Key == "thresholds.db_slot_wal.warning" && (e.Value != "2GiB" || !strings.HasSuffix(e.Origin.String(), ":6")) {
			t.Errorf("shown as %q from %s", e.Value, e.Origin)
		}
	}
}

// Each fault names the value, where it stands and the way out.
func TestThresholdFaults(t *testing.T) {
	for text, want := range map[string]string{
		"disk_usage: {critical: 95}":                    `thresholds.disk_usage.critical: "95" (file escrowctl.yaml:2): out of range: write a share from 0 to 1`,
		"disk_usage: {critical: 95%}":                   `thresholds.disk_usage.critical: "95%" (file escrowctl.yaml:2): not a number`,
		"ttfb: {warning: 400}":                          `thresholds.ttfb.warning: "400" (file escrowctl.yaml:2): a duration without a unit`,
		"ttfb: {warning: 0s}":                           `"0s" (file escrowctl.yaml:2): out of range: write a duration from 1ms`,
		"db_slot_wal: {warning: 0}":                     `"0" (file escrowctl.yaml:2): out of range: write a size of at least 1B`,
		"db_wraparound: {warning: 1.5}":                 `"1.5" (file escrowctl.yaml:2): not a whole number`,
		"db_wraparound: {critical: 3000000000}":         `out of range: write a number from 1 to 2147483647`,
		"disk_usage: {warning: 0.9}":                    `thresholds.disk_usage.warning: "0.9" (file escrowctl.yaml:2): above the critical limit, 0.85: the warning must come first: set thresholds.disk_usage.critical too`,
		"disk_usage: {critical: 0.5}":                   `thresholds.disk_usage.critical: "0.5" (file escrowctl.yaml:2): below the warning limit, 0.7`,
		"redis_hit_rate: {warning: 0.3, critical: 0.4}": `thresholds.redis_hit_rate.warning: "0.3" (file escrowctl.yaml:2): below the critical limit, 0.4`,
		"disk_usage: 0.9":                               "a section in which there must be keys",
		"disc_usage: {warning: 0.9}":                    "did you mean thresholds.disk_usage",
		"certificate_lifetime: {warning: 9}":            "unknown key",
	} {
		_, err := load(t, "thresholds:\n  "+text+"\n", Options{})
		if got := strings.Join(faultsOf(t, err), "\n"); !strings.Contains(got, want) {
			t.Errorf("%s:\n%s\nwant %s", text, got, want)
		}
	}
}
