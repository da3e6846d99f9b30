package perf

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/cache"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// redisNow asks a real Redis.
func redisNow(t *testing.T, r *testenv.RedisServer) *Redis {
	t.Helper()
	text, err := cache.Info(t.Context(), cache.Options{URL: r.URL()})
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseRedisInfo(text)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestRedis has a known hit rate: good for long, bad since the last analysis.
func TestRedis(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t, "slowlog-log-slower-than 0", "maxmemory 200mb")
	c := r.Client()
	defer c.Close()
	get := func(key string, n int) {
		for range n {
			c.Get(t.Context(), key)
		}
	}
	c.Set(t.Context(), "there", strings.Repeat("x", 100_000), 0)
	get("there", 9_000)
	get("missing", 1_000)
	at := time.Now().UTC().Truncate(time.Second)
	first := &Snapshot{SchemaVersion: SnapshotVersion, TakenAt: at, Redis: redisNow(t, r)}
	report := Analyse(first, nil, Options{Limits: DefaultLimits()})
	if rate := report.Redis.HitRate; rate == nil || *rate != 0.9 || len(report.Findings) != 0 {
		t.Errorf("hit rate %v, %d findings", rate, len(report.Findings))
	}
	// 65 % since then is a warning, though it is 85 % in total.
	get("there", 1_300)
	get("missing", 700)
	second := &Snapshot{SchemaVersion: SnapshotVersion, TakenAt: at.Add(time.Hour), Redis: redisNow(t, r)}
	report = Analyse(second, first, Options{Limits: DefaultLimits()})
	if rate := report.Redis.HitRate; rate == nil || *rate != 0.65 || report.Redis.Lookups != 2000 {
		t.Errorf("hit rate since the last analysis: %+v", report.Redis)
	}
	want(t, report, "redis.hit_rate", "redis", check.Warning, "65.0 %", "85.8 % in total")
	get("missing", 2_000)
	third := &Snapshot{SchemaVersion: SnapshotVersion, TakenAt: at.Add(2 * time.Hour), Redis: redisNow(t, r)}
	want(t, Analyse(third, second, Options{Limits: DefaultLimits()}), "redis.hit_rate", "redis", check.Critical, "0.0 %")
	// A reset in between: what there is since then counts.
	c.ConfigResetStat(t.Context())
	get("there", 50)
	fourth := &Snapshot{SchemaVersion: SnapshotVersion, TakenAt: at.Add(3 * time.Hour), Redis: redisNow(t, r)}
	report = Analyse(fourth, third, Options{Limits: DefaultLimits()})
	if report.Redis.HitRate == nil || *report.Redis.HitRate != 1 || report.Redis.Lookups != 50 || !strings.Contains(strings.Join(report.Notes, " "), "statistics of Redis were reset") {
		t.Errorf("after a reset: %+v %v", report.Redis, report.Notes)
	}
	slow, err := cache.SlowLog(t.Context(), cache.Options{URL: r.URL()}, 5)
	if err != nil || len(slow) != 5 {
		t.Fatalf("slow log: %v, %v", slow, err)
	}
	for _, s := range slow {
		if strings.Contains(s.Command, "there") || s.At.IsZero() {
			t.Errorf("the slow log shows data: %+v", s)
		}
	}
	c.Set(t.Context(), "small", "x", 0)
	keys, scanned, err := cache.Biggest(t.Context(), cache.Options{URL: r.URL()}, 1, 1000)
	if err != nil || scanned != 2 || len(keys) != 1 || keys[0].Name != "there" || keys[0].Bytes < 100_000 || keys[0].Type != "string" {
		t.Errorf("biggest keys: %+v of %d, %v", keys, scanned, err)
	}
}

func TestParseRedisInfoRefusesOthers(t *testing.T) {
	for _, text := range []string{"", "hello", "redis_version:7.0.0\r\n"} {
		if r, err := ParseRedisInfo(text); err == nil {
			t.Errorf("%q is taken for a Redis: %+v", text, r)
		}
	}
}

// TestMeasure times a server that takes its time for one request in ten.
func TestMeasure(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch i := n.Add(1); {
		case r.URL.Path == "/broken" && i%2 == 0:
			w.WriteHeader(http.StatusBadGateway)
		case r.URL.Path == "/slow" && i%10 == 0:
			time.Sleep(450 * time.Millisecond)
		case r.URL.Path == "/health/metrics":
			w.Write([]byte(`{"requests_total":10,"requests_per_minute":1.5,"avg_response_ms":300,"p95_response_ms":900,"error_rate":0.2,"uptime_seconds":5}`))
		}
	}))
	t.Cleanup(server.Close)
	slow := Measure(t.Context(), server.Client(), server.URL+"/slow", 20, time.Now)
	if slow.Requests != 20 || slow.Failed != 0 || slow.TTFB.P50 > 0.4 || slow.TTFB.P95 < 0.45 || slow.TLS.P50 <= 0 || slow.Connect.P50 <= 0 || len(slow.Samples) != 20 {
		t.Errorf("%+v", slow)
	}
	broken := Measure(t.Context(), server.Client(), server.URL+"/broken", 4, time.Now)
	dead := Measure(t.Context(), server.Client(), "http://127.0.0.1:1/", 2, time.Now)
	api, err := APIMetrics(t.Context(), server.Client(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	report := Analyse(&Snapshot{TakenAt: time.Now(), API: api, Endpoints: []Endpoint{slow, broken, dead}}, nil, Options{Limits: DefaultLimits()})
	want(t, report, "endpoint.latency", "/slow", check.Warning, "400 ms")
	want(t, report, "endpoint.errors", "/broken", check.Warning, "2 of 4")
	want(t, report, "endpoint.dead", "127.0.0.1:1", check.Unknown, "connection refused")
	want(t, report, "api.latency", server.URL, check.Critical, "900 ms")
	want(t, report, "api.errors", server.URL, check.Critical, "20.0 %", "over 5 %")
	if _, err := APIMetrics(t.Context(), server.Client(), server.URL+"/other"); err == nil {
		t.Error("an empty answer is taken for figures")
	}
	if f := find(report, "endpoint.latency", "127.0.0.1:1"); f != nil {
		t.Error("a dead endpoint has a latency")
	}
}

// TestMeasureGivesUp: who never answers costs a few time limits, not one for each
// request; and what the end of all time cuts off is not held against a server.
func TestMeasureGivesUp(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if i := n.Add(1); r.URL.Path == "/hangs" || i%3 == 0 {
			<-r.Context().Done()
		}
	}))
	t.Cleanup(server.Close)
	client := &http.Client{Timeout: 200 * time.Millisecond}
	hangs := Measure(t.Context(), client, server.URL+"/hangs", 20, time.Now)
	if hangs.Requests != 3 || hangs.Failed != 3 || hangs.Problem != "no answer in time" {
		t.Errorf("of a server that hangs: %+v", hangs)
	}
	n.Store(0)
	sometimes := Measure(t.Context(), client, server.URL+"/sometimes", 9, time.Now)
	if sometimes.Requests != 9 || sometimes.Failed != 3 {
		t.Errorf("of one that hangs for one in three: %+v", sometimes)
	}
	n.Store(0)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	cut := Measure(ctx, &http.Client{Timeout: time.Minute}, server.URL+"/sometimes", 9, time.Now)
	if cut.Requests != 2 || cut.Failed != 0 || cut.Problem != "" {
		t.Errorf("what time was left for: %+v", cut)
	}
}

func TestContainersAndDisks(t *testing.T) {
	at := time.Now().UTC().Truncate(time.Second)
	started := at.Add(-time.Hour)
	before := &Snapshot{SchemaVersion: SnapshotVersion, TakenAt: at.Add(-time.Minute), Containers: []Container{
		{ID: "1", Name: "api", Service: "api", StartedAt: started, Periods: 1000, Throttled: 900},
		{ID: "2", Name: "worker", Service: "worker", StartedAt: started, Restarts: 1},
	}}
	now := &Snapshot{SchemaVersion: SnapshotVersion, TakenAt: at, Containers: []Container{
		{ID: "1", Name: "api", Service: "api", StartedAt: started, Periods: 2000, Throttled: 910}, // throttled once, not now
		{ID: "2", Name: "worker", Service: "worker", StartedAt: started, Restarts: 3, Periods: 400, Throttled: 200, CPULimit: 0.5},
		{ID: "3", Name: "indexer-1", Service: "indexer", MemoryBytes: 401e6},
		{ID: "4", Name: "indexer-2", Service: "indexer", MemoryBytes: 201e6},
		{ID: "5", Name: "indexer-3", Service: "indexer", MemoryBytes: 200e6},
		{ID: "6", Name: "redis", Service: "redis", MemoryBytes: 95 << 20, LimitBytes: 100 << 20, OOMKilled: true},
	}, Disks: []Disk{
		{Path: "/", For: "system", Used: 0.70, InodesUsed: 0.86}, {Path: "/data", For: "Docker", Used: 0.71}, {Path: "/full", For: "backups", Used: 0.86},
	}}
	report := Analyse(now, before, Options{Limits: DefaultLimits()})
	want(t, report, "container.indexer_memory", "indexer-1", check.Critical, "401 MB", "investigate leak")
	want(t, report, "container.indexer_memory", "indexer-2", check.Warning, "201 MB")
	want(t, report, "container.throttled", "worker", check.Warning, "50 %")
	want(t, report, "container.restarted", "worker", check.Warning, "2 times")
	want(t, report, "container.memory_limit", "redis", check.Warning, "95 %")
	want(t, report, "container.oom_killed", "redis", check.Critical)
	want(t, report, "disk.inodes", "/", check.Critical)
	want(t, report, "disk.space", "/data", check.Warning)
	want(t, report, "disk.space", "/full", check.Critical, "prune volumes")
	if len(report.Findings) != 9 {
		t.Errorf("%d findings, want 9", len(report.Findings))
		logFindings(t, report)
	}
}

// TestRunbookLimits holds values just beyond the runbook's limits, and the limits
// themselves, which are good still.
func TestRunbookLimits(t *testing.T) {
	limit := func(id string) runbook.Threshold {
		l, ok := runbook.ThresholdFor(id)
		if !ok {
			t.Fatal(id)
		}
		return l
	}
	at := func(id string, critical bool, past float64) float64 {
		if critical {
			return limit(id).Critical * past
		}
		return limit(id).Warning * past
	}
	for _, critical := range []bool{false, true} {
		for _, past := range []float64{1, 1.001} {
			long, xid := at(runbook.DBTransaction, critical, past), int64(at(runbook.DBWraparound, critical, past))
			now := time.Now().UTC()
			snap := &Snapshot{TakenAt: now,
				Database: &Database{
					Server:   Server{Database: "d", At: now, StartedAt: now.Add(-time.Hour), XIDAge: xid},
					Sessions: []Session{{PID: 7, State: "active", XactSeconds: &long}},
					Tables:   []Table{{Schema: "public", Name: "old", XIDAge: xid}},
				},
				API:   &API{URL: "http://api", RequestsTotal: 1, ErrorRate: at(runbook.APIErrorRate, critical, past)},
				Redis: &Redis{Policy: "noeviction", UsedBytes: int64(1e9 * at(runbook.RedisMemory, critical, past)), MaxBytes: 1e9},
			}
			report := Analyse(snap, nil, Options{Limits: DefaultLimits()})
			status := map[[2]bool]check.Status{{false, true}: check.Warning, {true, false}: check.Warning, {true, true}: check.Critical}[[2]bool{critical, past > 1}]
			ids := []string{"session.long_transaction", "server.wraparound", "table.wraparound", "api.errors", "redis.memory"}
			if status == check.OK {
				ids = nil
			}
			for _, id := range ids {
				want(t, report, id, "", status)
			}
			if len(report.Findings) != len(ids) {
				t.Errorf("critical %v, past %v: %d findings", critical, past, len(report.Findings))
				logFindings(t, report)
			}
		}
	}
}

// TestCollect has a source that hangs, one that panics and one that answers.
func TestCollect(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	snap := Collect(t.Context(), time.Now, []Collector{
		{Name: "deaf", Limit: 10 * time.Millisecond, Run: func(_ context.Context, s *Snapshot) []Source { <-release; s.Redis = &Redis{}; return nil }},
		{Name: "broken", Run: func(context.Context, *Snapshot) []Source { panic("boom") }},
		{Name: "good", Run: func(_ context.Context, s *Snapshot) []Source {
			s.Disks = []Disk{{Path: "/"}}
			return []Source{{Name: "good", State: Read}}
		}},
	})
	if len(snap.Sources) != 3 || snap.Sources[0].State != Failed || snap.Sources[1].State != Failed || len(snap.Disks) != 1 {
		t.Errorf("%+v", snap)
	}
	report := Analyse(snap, nil, Options{Limits: DefaultLimits()})
	want(t, report, "source.deaf", "", check.Unknown, "no answer within 10ms")
	want(t, report, "source.broken", "", check.Unknown, "boom")
	if report.Status != check.Unknown {
		t.Errorf("status %s", report.Status)
	}
}
