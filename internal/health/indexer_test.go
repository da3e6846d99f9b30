package health

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/httpx"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/testenv/platform"
)

// rig is an indexer and a Horizon, and the check of them.
type rig struct {
	indexer *platform.Indexer
	horizon *platform.Horizon
	opt     IndexerOptions
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{indexer: platform.NewIndexer(time.Now), horizon: platform.NewHorizon(time.Now)}
	r.opt = IndexerOptions{
		URL: testenv.Serve(t, r.indexer), HorizonURL: testenv.Serve(t, r.horizon) + "/",
		EventAge: fixedAge(time.Minute, true, nil),
		Client:   httpx.New(), Limit: 30 * time.Second, Now: time.Now,
	}
	return r
}

func TestIndexer(t *testing.T) {
	t.Parallel()
	const logs = "docker compose logs --tail 50 indexer"
	ill := func(edit func(*platform.IndexerSettings)) func(*rig) {
		return func(r *rig) { r.indexer.Set(edit) }
	}
	fault := func(path, fault string) func(*rig) {
		return func(r *rig) { r.indexer.SetFault(path, fault) }
	}
	lag := func(key, value string) func(*rig) {
		return fault("/health", platform.Body+`{"status":"ok","database":"connected","`+key+`":`+value+`}`)
	}
	for name, tt := range map[string]struct {
		set  func(*rig)
		want want
	}{
		"healthy":             {func(*rig) {}, want{check.OK, " s behind (ledger against Horizon's)", "", ""}},
		"one ledger behind":   {ill(func(s *platform.IndexerSettings) { s.LedgersBehind = 1 }), want{check.OK, "behind (ledger", "", ""}},
		"behind":              {ill(func(s *platform.IndexerSettings) { s.LedgersBehind = 84 }), want{check.Critical, "7 min behind (ledger against Horizon's), limit 5 min", "IndexerLag", logs}},
		"lag in seconds":      {lag("lag_seconds", "12.5"), want{check.OK, "12 s behind (/health lag_seconds)", "", ""}},
		"long lag in seconds": {lag("lag_seconds", "301"), want{check.Critical, "5 min behind (/health lag_seconds)", "IndexerLag", logs}},
		"lag in ledgers":      {lag("ledger_lag", "2"), want{check.OK, "10 s behind (/health ledger_lag)", "", ""}},
		"long lag in ledgers": {lag("ledger_lag", "61"), want{check.Critical, "/health ledger_lag", "IndexerLag", logs}},
		"lag is null":         {lag("lag_seconds", "null"), want{check.Unknown, "lag_seconds is null", "", logs}},
		"lag is negative":     {lag("lag_seconds", "-3"), want{check.Unknown, "cannot be", "", logs}},
		"lag is a text":       {lag("lag_seconds", `"12"`), want{check.Unknown, "not a number", "", logs}},
		"lag is huge":         {lag("ledger_lag", "9007199254740991"), want{check.Unknown, "cannot be", "", logs}},
		"lag is half":         {lag("ledger_lag", "1.5"), want{check.Unknown, "not a whole number", "", logs}},

		"503": {ill(func(s *platform.IndexerSettings) { s.Status = "degraded" }), want{check.Critical, "answers 503, status degraded", "ServiceDown", logs}},
		"no database": {ill(func(s *platform.IndexerSettings) {
			s.Status, s.Database = "degraded", "error: password authentication failed"
		}), want{check.Critical, "the indexer has no database: error: password", "ServiceDown", logs}},
		"503 of a proxy":   {fault("*", platform.Status+"503"), want{check.Critical, "answers 503, and HTML in place of JSON", "ServiceDown", logs}},
		"502 of a proxy":   {fault("/health", platform.Status+"502"), want{check.Critical, "answers 502 Bad Gateway", "ServiceDown", logs}},
		"404":              {fault("/health", platform.Status+"404"), want{check.Unknown, "answers 404", "", "report.api_base_url"}},
		"301":              {fault("/health", platform.Status+"301"), want{check.Unknown, "answers 301", "", "report.api_base_url"}},
		"unhealthy part":   {ill(func(s *platform.IndexerSettings) { s.Ready = "unhealthy" }), want{check.Critical, "the indexer is unhealthy", "ServiceDown", logs}},
		"degraded part":    {ill(func(s *platform.IndexerSettings) { s.Ready = "degraded" }), want{check.Warning, "the indexer is degraded", "", logs}},
		"no ready":         {fault("/health/ready", platform.Status+"404"), want{check.OK, "behind (ledger", "", ""}},
		"ready is broken":  {fault("/health/ready", platform.Truncated), want{check.Unknown, "/health/ready: the answer breaks off", "", logs}},
		"stale answer":     {fault("/health", platform.Body+`{"status":"ok","database":"connected","timestamp":"2026-01-01T00:00:00Z"}`), want{check.Unknown, "days old: something answers in the indexer's place", "", ""}},
		"says fine":        {fault("/health", platform.Body+`{"status":"fine","database":"connected"}`), want{check.Unknown, `"fine", neither ok nor degraded`, "", logs}},
		"no status":        {fault("/health", platform.Body+`{}`), want{check.Unknown, "no status", "", logs}},
		"null":             {fault("/health", platform.Body+`null`), want{check.Unknown, `"null" in place of a JSON object`, "", logs}},
		"a list":           {fault("/health", platform.Body+`["ok"]`), want{check.Unknown, "in place of a JSON object", "", logs}},
		"HTML":             {fault("/health", platform.HTML), want{check.Unknown, "HTML in place of JSON", "", logs}},
		"binary":           {fault("/health", platform.Binary), want{check.Unknown, "bytes that are no text", "", logs}},
		"empty":            {fault("/health", platform.Empty), want{check.Unknown, "an empty answer", "", logs}},
		"truncated":        {fault("/health", platform.Truncated), want{check.Unknown, "the answer breaks off", "", logs}},
		"endless":          {fault("/health", platform.Endless), want{check.Unknown, "longer than 1048576 bytes", "", logs}},
		"hangs up":         {fault("/health", platform.Drop), want{check.Critical, "the connection was closed before the end of an answer", "ServiceDown", logs}},
		"escape sequences": {fault("/health", platform.Body+`{"status":"ok","database":"\u001b[2Jgone\u0000"}`), want{check.Critical, "no database:  [2Jgone", "ServiceDown", logs}},

		"null ledger":          {ill(func(s *platform.IndexerSettings) { s.NoLedger = true }), want{check.Unknown, "last_ledger_processed is null: it has processed nothing since its start", "", logs}},
		"ledger is a text":     {fault("/health/metrics", platform.Body+`{"last_ledger_processed":"51"}`), want{check.Unknown, "not a number", "", logs}},
		"ledger 0":             {fault("/health/metrics", platform.Body+`{"last_ledger_processed":0}`), want{check.Unknown, "cannot be", "", logs}},
		"another network":      {ill(func(s *platform.IndexerSettings) { s.LedgersBehind = -1_000_000 }), want{check.Unknown, "1000000 ledgers ahead of Horizon", "", logs}},
		"metrics fail":         {fault("/health/metrics", platform.Status+"500"), want{check.Unknown, "/health/metrics answers 500", "", logs}},
		"metrics are HTML":     {fault("/health/metrics", platform.HTML), want{check.Unknown, "/health/metrics: HTML in place of JSON", "", logs}},
		"no metrics":           {fault("/health/metrics", platform.Status+"404"), want{check.OK, "60 s behind (newest event)", "", ""}},
		"Horizon down":         {func(r *rig) { r.opt.HorizonURL = "http://127.0.0.1:1/" }, want{check.Warning, "Horizon: http://127.0.0.1:1/: connection refused", "", "curl"}},
		"Horizon is nonsense":  {func(r *rig) { r.horizon.SetFault("/", platform.HTML) }, want{check.Warning, "HTML in place of JSON", "", "curl"}},
		"Horizon null":         {func(r *rig) { r.horizon.Set(func(s *platform.HorizonSettings) { s.NoLedger = true }) }, want{check.Warning, "history_latest_ledger is null", "", "curl"}},
		"Horizon behind":       {func(r *rig) { r.horizon.Set(func(s *platform.HorizonSettings) { s.LedgersBehind = 100 }) }, want{check.Warning, "its latest ledger closed 8 min ago", "", "curl"}},
		"Horizon down, events": {func(r *rig) { r.opt.HorizonURL, r.opt.EventAge = "http://127.0.0.1:1/", fixedAge(time.Hour, true, nil) }, want{check.Critical, "60 min behind (newest event)", "IndexerLag", logs}},
		"no Horizon":           {func(r *rig) { r.opt.HorizonURL = "" }, want{check.OK, "60 s behind (newest event)", "", ""}},
		"old events":           {func(r *rig) { r.opt.HorizonURL, r.opt.EventAge = "", fixedAge(301*time.Second, true, nil) }, want{check.Critical, "5 min behind (newest event)", "IndexerLag", logs}},
		"future events":        {func(r *rig) { r.opt.HorizonURL, r.opt.EventAge = "", fixedAge(-time.Hour, true, nil) }, want{check.Unknown, "in the future", "", "HORIZON_URL"}},
		"no events":            {func(r *rig) { r.opt.HorizonURL, r.opt.EventAge = "", fixedAge(0, false, nil) }, want{check.Unknown, "no events yet", "", "HORIZON_URL"}},
		"events fail":          {func(r *rig) { r.opt.HorizonURL, r.opt.EventAge = "", fixedAge(0, false, errors.New("no table")) }, want{check.Unknown, "no table", "", "HORIZON_URL"}},
		"nothing to go by":     {func(r *rig) { r.opt.HorizonURL, r.opt.EventAge = "", nil }, want{check.Unknown, "the lag is not known", "", "HORIZON_URL"}},
		"down":                 {func(r *rig) { r.opt.URL = "http://127.0.0.1:1" }, want{check.Critical, "127.0.0.1:1/health: connection refused", "ServiceDown", logs}},
		"unresolvable":         {func(r *rig) { r.opt.URL = "http://indexer.invalid:3000" }, want{check.Unknown, "indexer.invalid", "", logs}},
		"no URL":               {func(r *rig) { r.opt.URL = "::" }, want{check.Unknown, "not a URL", "", logs}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			tt.set(r)
			tt.want.check(t, look(t, Indexer(r.opt)))
		})
	}
}

func TestIndexerHangs(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		set  func(*testing.T, *rig)
		want want
	}{
		"takes connections": {func(t *testing.T, r *rig) { r.opt.URL = "http://" + testenv.Silent(t) }, want{check.Critical, "no answer within", "ServiceDown", "logs"}},
		"takes requests":    {func(_ *testing.T, r *rig) { r.indexer.SetFault("*", platform.Hang) }, want{check.Critical, "/health: no answer within", "ServiceDown", "logs"}},
		"metrics hang":      {func(_ *testing.T, r *rig) { r.indexer.SetFault("/health/metrics", platform.Hang) }, want{check.Unknown, "/health/metrics: no answer within", "", "logs"}},
		"Horizon hangs":     {func(_ *testing.T, r *rig) { r.horizon.SetFault("*", platform.Hang) }, want{check.Warning, "Horizon: ", "", "curl"}},
		"slow, but in time": {func(_ *testing.T, r *rig) { r.indexer.SetFault("/health", platform.Slow+"50ms") }, want{check.OK, "behind (ledger", "", ""}},
		"Horizon not needed": {func(_ *testing.T, r *rig) {
			r.horizon.SetFault("*", platform.Hang)
			zero := 0.0
			r.indexer.Set(func(s *platform.IndexerSettings) { s.LagSeconds = &zero })
		}, want{check.OK, "/health lag_seconds", "", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.opt.Limit = testLimit
			tt.set(t, r)
			tt.want.check(t, look(t, Indexer(r.opt)))
		})
	}
}

func TestIndexerFigure(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.indexer.Set(func(s *platform.IndexerSettings) { s.LedgersBehind = 100 })
	got := look(t, Indexer(r.opt))
	if lag := figure(t, got, "lag"); lag < 495 || lag > 560 || *got.Figures[0].Critical != 300 {
		t.Errorf("lag of 100 ledgers: %+v", got.Figures[0])
	}
	if since := time.Since(got.Since); since < 490*time.Second || since > 600*time.Second {
		t.Errorf("behind since %s", got.Since)
	}
}

func FuzzParseHealth(f *testing.F) {
	f.Add([]byte(`{"status":"ok","database":"connected","lag_seconds":12,"timestamp":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"status":"degraded","database":"error: x","ledger_lag":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := parseHealth(body)
		if err != nil {
			plain(t, err)
			return
		}
		if h.status != "ok" && h.status != "degraded" {
			t.Errorf("status %q", h.status)
		}
		if h.lagErr == nil && (h.lag < 0 || h.lag > maxLag*time.Second) {
			t.Errorf("lag %s", h.lag)
		}
	})
}

func FuzzParseLastLedger(f *testing.F) {
	f.Add([]byte(`{"last_ledger_processed":51,"uptime_seconds":4}`))
	f.Add([]byte(`{"last_ledger_processed":null,"uptime_seconds":1e300}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		last, there, err := parseLastLedger(body)
		if err != nil {
			plain(t, err)
		} else if there && (last < 1 || last > 1<<53) {
			t.Errorf("ledger %d", last)
		}
	})
}

func FuzzParseReady(f *testing.F) {
	f.Add([]byte(`{"status":"healthy","components":[{"name":"database","status":"healthy","latency_ms":1,"message":"ok"}],"metrics":{}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parseReady(body)
		if err != nil {
			plain(t, err)
			return
		}
		if len(r.components) > maxComponents || strings.ContainsAny(r.ill(), "\x1b\x00\n") {
			t.Errorf("%d components, %q", len(r.components), r.ill())
		}
	})
}

func FuzzParseHorizon(f *testing.F) {
	f.Add([]byte(`{"history_latest_ledger":51,"history_latest_ledger_closed_at":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"history_latest_ledger":5.1e9}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := parseHorizon(body)
		if err != nil {
			plain(t, err)
		} else if h.latest < 1 {
			t.Errorf("ledger %d", h.latest)
		}
	})
}

func FuzzParseTraffic(f *testing.F) {
	f.Add([]byte(`{"error_rate":0.1,"p95_response_ms":12,"requests_per_minute":4}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := parseTraffic(body)
		if err != nil {
			plain(t, err)
		} else if got.errorRate < 0 || got.errorRate > 1 || math.IsNaN(got.errorRate) || got.p95 < 0 {
			t.Errorf("%+v", got)
		}
	})
}

// plain holds that an error about foreign bytes is short and safe to print.
func plain(t *testing.T, err error) {
	t.Helper()
	if text := err.Error(); len(text) > 400 || strings.ContainsAny(text, "\x1b\x00\n\r") {
		t.Errorf("error %q", text)
	}
}
