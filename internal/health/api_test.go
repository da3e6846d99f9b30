package health

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/httpx"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/testenv/platform"
)

// forEver is an answer that does not come.
const forEver time.Duration = 1<<63 - 1

// pace lets the answers of /health take time on a clock that else stands still,
// one after the other: a busy machine makes none of them slow.
type pace struct {
	http.RoundTripper
	delays []time.Duration
	clock  atomic.Int64
	asked  atomic.Int32
}

func (p *pace) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Path != "/health" {
		return p.RoundTripper.RoundTrip(req)
	}
	n := int(p.asked.Add(1)) - 1
	if n < len(p.delays) {
		if p.delays[n] == forEver {
			<-req.Context().Done()
			return nil, context.Cause(req.Context())
		}
		p.clock.Add(int64(p.delays[n]))
	}
	return p.RoundTripper.RoundTrip(req)
}

// paced is a client that sees /health take so long.
func paced(delays ...time.Duration) *httpx.Client {
	p := &pace{RoundTripper: httpx.New().Transport, delays: delays}
	return &httpx.Client{Transport: p, Now: func() time.Time { return time.Unix(0, p.clock.Load()) }}
}

func TestAPI(t *testing.T) {
	t.Parallel()
	const logs = "docker compose logs --tail 50 api"
	type rig struct {
		api     *platform.API
		indexer *platform.Indexer
		opt     APIOptions
		pace    []time.Duration
	}
	const slow, verySlow = 450 * time.Millisecond, 850 * time.Millisecond
	api := func(path, fault string) func(*testing.T, *rig) {
		return func(_ *testing.T, r *rig) { r.api.SetFault(path, fault) }
	}
	served := func(edit func(*platform.IndexerSettings)) func(*testing.T, *rig) {
		return func(_ *testing.T, r *rig) { r.indexer.Set(edit) }
	}
	metrics := func(body string) func(*testing.T, *rig) {
		return func(_ *testing.T, r *rig) { r.indexer.SetFault("/health/metrics", body) }
	}
	for name, tt := range map[string]struct {
		set  func(*testing.T, *rig)
		want want
	}{
		"healthy":   {func(*testing.T, *rig) {}, want{check.OK, "errors 0.1 %, p95 38 ms", "", ""}},
		"slow":      {func(_ *testing.T, r *rig) { r.pace = []time.Duration{slow, slow, slow} }, want{check.Warning, "first byte after 450 ms", "", "escrowctl perf"}},
		"very slow": {func(_ *testing.T, r *rig) { r.pace = []time.Duration{verySlow, verySlow, verySlow} }, want{check.Critical, "first byte after 850 ms, limit 800 ms", "", "escrowctl perf"}},
		// One slow answer between quick ones is no alarm.
		"once slow": {func(_ *testing.T, r *rig) {
			r.pace = []time.Duration{slow, 7 * time.Millisecond, 20 * time.Millisecond}
		}, want{check.OK, "first byte after 20 ms", "", ""}},
		"slow to the end": {func(_ *testing.T, r *rig) { r.pace, r.opt.Limit = []time.Duration{verySlow, forEver}, testLimit }, want{check.Critical, ", limit 800 ms", "", "escrowctl perf"}},
		"really slow":     {api("/health", platform.Slow+"850ms"), want{check.Critical, ", limit 800 ms", "", "escrowctl perf"}},
		"errors":          {served(func(s *platform.IndexerSettings) { s.ErrorRate = 0.02 }), want{check.Warning, "errors 2 %, warning from 1 %", "", logs}},
		"many errors":     {served(func(s *platform.IndexerSettings) { s.ErrorRate = 0.25 }), want{check.Critical, "errors 25 %, limit 5 %", "", logs}},
		"slow answers":    {served(func(s *platform.IndexerSettings) { s.P95ResponseMS = 900 }), want{check.Critical, "p95 900 ms, limit 800 ms", "", "escrowctl perf"}},
		"500":             {api("/health", platform.Status+"500"), want{check.Critical, "/health answers 500 Internal Server Error", "ServiceDown", logs}},
		"502":             {api("*", platform.Status+"502"), want{check.Critical, "answers 502 Bad Gateway", "ServiceDown", logs}},
		"degraded":        {func(_ *testing.T, r *rig) { r.api.Set(func(s *platform.APISettings) { s.Status = "degraded" }) }, want{check.Critical, "answers 503 Service Unavailable, status degraded", "ServiceDown", logs}},
		"degraded, 200":   {api("/health", platform.Body+`{"status":"degraded"}`), want{check.Warning, "says that it is degraded", "", logs}},
		"404":             {api("/health", platform.Status+"404"), want{check.Unknown, "answers 404", "", "api.url"}},
		"HTML":            {api("/health", platform.HTML), want{check.Unknown, "HTML in place of JSON", "", logs}},
		"truncated":       {api("/health", platform.Truncated), want{check.Unknown, "the answer breaks off", "", logs}},
		"endless":         {api("/health", platform.Endless), want{check.Unknown, "longer than 1048576 bytes", "", logs}},
		"own metrics":     {api("/health/metrics", platform.Body+`{"error_rate":0,"p95_response_ms":5,"requests_per_minute":1}`), want{check.OK, "errors 0 %, p95 5 ms", "", ""}},
		"metrics 500":     {api("/health/metrics", platform.Status+"500"), want{check.Unknown, "error rate and p95 are not known", "", logs}},
		"rate of 3":       {metrics(platform.Body + `{"error_rate":3,"p95_response_ms":5,"requests_per_minute":1}`), want{check.Unknown, "error_rate is \"3\", which cannot be", "", logs}},
		"rate is null":    {metrics(platform.Body + `{"error_rate":null}`), want{check.Unknown, "error_rate is null", "", logs}},
		"p95 is missing":  {metrics(platform.Body + `{"error_rate":0}`), want{check.Unknown, "no p95_response_ms", "", logs}},
		"down":            {func(_ *testing.T, r *rig) { r.opt.URL = "http://127.0.0.1:1" }, want{check.Critical, "connection refused", "ServiceDown", logs}},
		"hangs":           {func(_ *testing.T, r *rig) { r.api.SetFault("*", platform.Hang); r.opt.Limit = testLimit }, want{check.Critical, "/health: no answer within", "ServiceDown", logs}},
		"silent":          {func(t *testing.T, r *rig) { r.opt.URL, r.opt.Limit = "http://"+testenv.Silent(t), testLimit }, want{check.Critical, "no answer within", "ServiceDown", logs}},
		"metrics hang":    {func(_ *testing.T, r *rig) { r.indexer.SetFault("*", platform.Hang); r.opt.Limit = testLimit }, want{check.Unknown, "no answer within", "", logs}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &rig{api: platform.NewAPI("key", ""), indexer: platform.NewIndexer(time.Now)}
			r.opt = APIOptions{
				URL: testenv.Serve(t, r.api), MetricsURL: testenv.Serve(t, r.indexer),
				Limit: 30 * time.Second,
			}
			tt.set(t, r)
			r.opt.Client = paced(r.pace...)
			if name == "really slow" {
				r.opt.Client = httpx.New()
			}
			tt.want.check(t, look(t, API(r.opt)))
		})
	}
}
