package runbook

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// The page's own crontab, section 1.2, with the scripts replaced by commands.
const crontab = `0 2 * * * escrowctl backup >> /var/log/stellar-backup.log 2>&1
0 4 1 * * escrowctl dr-test >> /var/log/stellar-dr-test.log 2>&1
0 0,12 * * * escrowctl certs renew >> /var/log/cert-renewal.log 2>&1
0 3 * * 0 escrowctl perf analyze >> /var/log/perf-report.log 2>&1`

func TestScheduleIsThePagesCrontab(t *testing.T) {
	var lines []string
	for _, task := range Schedule() {
		if task.Spec != "" {
			lines = append(lines, task.Spec+" "+task.Command+" >> "+task.Log+" 2>&1")
		}
		if task.MaxAge <= 0 {
			t.Errorf("%s has no maximum age", task.Name)
		}
	}
	if got := strings.Join(lines, "\n"); got != crontab {
		t.Errorf("got\n%s\nwant\n%s", got, crontab)
	}
	if Schedule()[0].MaxAge != 26*time.Hour || BackupMaxAge != 26*time.Hour {
		t.Error("a daily backup is not late after 26 h")
	}
}

// The page's table of section 4.1, and the two limits given elsewhere.
func TestJudge(t *testing.T) {
	tests := []struct {
		id               string
		good, warn, crit float64
	}{
		{TTFB, 0.400, 0.401, 0.801},
		{DBQueryMean, 0.020, 0.021, 0.051},
		{RedisHitRate, 0.70, 0.69, 0.59},
		{IndexerMemory, 200e6, 200e6 + 1, 400e6 + 1},
		{DiskUsage, 0.70, 0.71, 0.86},
		{PostgresConnections, 8.0 / 10, 9.0 / 10, 9.5 / 10},
		{CertificateLifetime, 30, 29, 13},
		{IndexerLag, 300, math.NaN(), 301},
		{APIErrorRate, 0.01, 0.02, 0.06},
		{DBTransaction, 900, 901, 3601},
		{DBSlotWAL, 1e9, 1e9 + 1, 1e10 + 1},
		{DBWraparound, 500e6, 500e6 + 1, 1e9 + 1},
		{RedisMemory, 0.8, 0.81, 0.96},
		{ClockOffset, 5, 5.1, 61},
	}
	if len(tests) != len(Thresholds()) {
		t.Errorf("%d thresholds, %d tested", len(Thresholds()), len(tests))
	}
	for _, tt := range tests {
		threshold, ok := ThresholdFor(tt.id)
		if !ok {
			t.Errorf("no threshold %s", tt.id)
			continue
		}
		for value, want := range map[float64]Level{tt.good: Within, tt.warn: Warning, tt.crit: Critical} {
			level, ok := threshold.Judge(value)
			if ok == math.IsNaN(value) || (ok && level != want) {
				t.Errorf("%s: %g is %s, %v, want %s", tt.id, value, level, ok, want)
			}
		}
	}
	if _, ok := ThresholdFor("nonsense"); ok {
		t.Error("found a threshold that is not there")
	}
}

func TestThresholdsAreWellFormed(t *testing.T) {
	var ids []string
	for _, th := range Thresholds() {
		if th.Below != (th.Warning > th.Critical) && th.Warning != th.Critical {
			t.Errorf("%s: the warning does not come before the critical level", th.ID)
		}
		if th.Unit == "ratio" && (th.Warning > 1 || th.Critical > 1) {
			t.Errorf("%s: a ratio above 1", th.ID)
		}
		if slices.Contains(ids, th.ID) || th.Title == "" || th.Action == "" || th.Section == "" {
			t.Errorf("%s: given twice or incomplete", th.ID)
		}
		ids = append(ids, th.ID)
	}
}

func TestAlerts(t *testing.T) {
	want := map[string]struct {
		priority Priority
		sla      time.Duration
	}{
		"ServiceDown":         {P1, 15 * time.Minute},
		"IndexerLag":          {P2, time.Hour},
		"TLSCertExpiringSoon": {P2, 4 * time.Hour},
		"DBQueryLatency":      {P3, 4 * time.Hour},
		"RedisHitRate":        {P3, 4 * time.Hour},
		"BackupFailed":        {P2, time.Hour},
		"DiskUsage":           {P2, 2 * time.Hour},
	}
	var known []string
	for _, p := range Procedures() {
		known = append(known, p.ID)
	}
	if len(Alerts()) != len(want) {
		t.Errorf("%d alerts, want %d", len(Alerts()), len(want))
	}
	for name, w := range want {
		a, ok := AlertNamed(name)
		if !ok || a.Priority != w.priority || a.SLA != w.sla || a.Title == "" || len(a.Runbooks) == 0 {
			t.Errorf("%s: %+v, want %+v", name, a, w)
		}
		for _, rb := range a.Runbooks {
			if strings.HasPrefix(rb, "RB-") && !slices.Contains(known, rb) {
				t.Errorf("%s refers to %s, which is not there", name, rb)
			}
		}
	}
	if _, ok := AlertNamed("Nonsense"); ok {
		t.Error("found an alert that is not there")
	}
}

func TestSecrets(t *testing.T) {
	want := map[string]time.Duration{
		"POSTGRES_PASSWORD": Year, "REDIS_PASSWORD": Year, "API_KEYS": Quarter, "ADMIN_KEYS": Quarter,
		"GRAFANA_ADMIN_PASSWORD": Quarter, "S3 credentials": 0,
	}
	if len(Secrets()) != len(want) {
		t.Errorf("%d secrets, want %d", len(Secrets()), len(want))
	}
	for _, s := range Secrets() {
		if every, ok := want[s.Name]; !ok || s.Every != every || s.Procedure == "" {
			t.Errorf("%+v, want every %s", s, every)
		}
	}
	// A rotation on the same date of each quarter must never be late.
	for month := time.January; month <= time.December; month++ {
		from := time.Date(2026, month, 1, 0, 0, 0, 0, time.UTC)
		if got := from.AddDate(0, 3, 0).Sub(from); got > Quarter {
			t.Errorf("the quarter from %s is longer than Quarter", month)
		}
	}
}

func TestTablesAreCopies(t *testing.T) {
	Alerts()[0].Runbooks[0] = "changed"
	ProofTables()[0] = "changed"
	if Alerts()[0].Runbooks[0] != "RB-001" || ProofTables()[0] != "trades" {
		t.Error("a table can be changed from outside")
	}
}

func TestJSON(t *testing.T) {
	for _, tt := range []struct {
		value any
		want  map[string]any
	}{
		{Alerts()[0], map[string]any{"name": "ServiceDown", "title": "A service is down", "priority": "P1", "sla_seconds": 900.0,
			"runbooks": []any{"RB-001", "RB-002", "RB-003", "RB-004", "RB-005"}}},
		{Secrets()[5], map[string]any{"name": "S3 credentials", "frequency": "per IAM policy",
			"procedure": "update the AWS credentials or the IAM role attached to the instance"}},
		{Schedule()[0], map[string]any{"name": "backup", "title": "Database backup to S3", "spec": "0 2 * * *",
			"command": "escrowctl backup", "log": "/var/log/stellar-backup.log", "max_age_seconds": 93600.0}},
	} {
		text, err := json.Marshal(tt.value)
		var got map[string]any
		if err != nil || json.Unmarshal(text, &got) != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("got %s, %v, want %v", text, err, tt.want)
		}
	}
	var p Priority
	if err := p.UnmarshalText([]byte("P2")); err != nil || p != P2 {
		t.Errorf("P2 reads as %v, %v", p, err)
	}
	if err := p.UnmarshalText([]byte("P5")); err == nil {
		t.Error("P5 was taken for a priority")
	}
	if _, err := Priority(0).MarshalText(); err == nil {
		t.Error("no priority was written")
	}
}

func TestOtherFigures(t *testing.T) {
	if RetentionDays != 30 || DRTestMinTables != 3 || APIKeyBytes != 32 || RotationNotice != 7*Day || PostIncidentReviewWithin != 48*time.Hour {
		t.Error("a figure differs from the page")
	}
	if len(Changes()) != 5 || len(ReviewItems()) != 7 {
		t.Error("a row of section 6 is missing")
	}
	ended := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for p, want := range map[Priority]time.Time{P1: ended.Add(48 * time.Hour), P2: ended.Add(48 * time.Hour), P3: {}, P4: {}} {
		if due := ReviewDue(p, ended); !due.Equal(want) || NeedsReview(p) == want.IsZero() {
			t.Errorf("the review of a %s is due %s, want %s", p, due, want)
		}
	}
}

func TestPriorityDeadline(t *testing.T) {
	friday := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for p, want := range map[Priority]time.Time{
		P1: friday.Add(15 * time.Minute), P2: friday.Add(time.Hour), P3: friday.Add(4 * time.Hour),
		P4: time.Date(2026, 1, 5, 23, 59, 0, 0, time.UTC),
	} {
		if got := p.Deadline(friday); !got.Equal(want) {
			t.Errorf("%s: %s, want %s", p, got, want)
		}
	}
	if got, want := P4.Deadline(friday.AddDate(0, 0, -1)), time.Date(2026, 1, 2, 23, 59, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("P4 on a Thursday: %s, want %s", got, want)
	}
}
