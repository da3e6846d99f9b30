package platform

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// IndexerSettings are what an Indexer says of itself.
type IndexerSettings struct {
	Status   string `json:"status"`   // of /health: ok or degraded, which answers 503
	Ready    string `json:"ready"`    // of /health/ready: healthy, degraded or unhealthy
	Database string `json:"database"` // connected, or error: ...
	Version  string `json:"version"`

	// What /health says of the lag; most releases say nothing.
	LagSeconds *float64 `json:"lag_seconds"`
	LedgerLag  *int64   `json:"ledger_lag"`

	// LedgersBehind is how far last_ledger_processed is behind Ledger.
	LedgersBehind int64 `json:"ledgers_behind"`
	// NoLedger makes last_ledger_processed null, as after a start.
	NoLedger bool `json:"no_ledger"`

	RequestsPerMinute float64 `json:"requests_per_minute"`
	AvgResponseMS     float64 `json:"avg_response_ms"`
	P95ResponseMS     float64 `json:"p95_response_ms"`
	ErrorRate         float64 `json:"error_rate"` // 0 to 1
}

// Indexer is the service `indexer`: /health, /health/metrics, /health/ready,
// and POST /api/metrics, which keeps what it gets (GET shows it).
type Indexer struct {
	standIn[IndexerSettings]
	now     func() time.Time
	started time.Time

	events struct {
		sync.Mutex
		all      []json.RawMessage
		requests int64
	}
}

// maxEvents bounds what is kept of the events, the newest.
const maxEvents = 1000

// NewIndexer returns one in good health.
func NewIndexer(now func() time.Time) *Indexer {
	x := &Indexer{now: now, started: now()}
	x.setup(IndexerSettings{
		Status: "ok", Ready: "healthy", Database: "connected", Version: "1.8.2",
		RequestsPerMinute: 42, AvgResponseMS: 11.5, P95ResponseMS: 38, ErrorRate: 0.001,
	})
	x.mux.HandleFunc("GET /health", x.health)
	x.mux.HandleFunc("GET /health/metrics", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, x.metrics()) })
	x.mux.HandleFunc("GET /health/ready", x.ready)
	x.mux.HandleFunc("POST /api/metrics", x.take)
	x.mux.HandleFunc("GET /api/metrics", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, x.Events()) })
	return x
}

func (x *Indexer) uptime() int64 { return int64(x.now().Sub(x.started) / time.Second) }

func (x *Indexer) health(w http.ResponseWriter, _ *http.Request) {
	s := x.Settings()
	body := map[string]any{
		"status": s.Status, "node_env": "staging", "uptime_seconds": x.uptime(),
		"database": s.Database, "timestamp": x.now().UTC().Format(time.RFC3339Nano),
	}
	if s.LagSeconds != nil {
		body["lag_seconds"] = *s.LagSeconds
	}
	if s.LedgerLag != nil {
		body["ledger_lag"] = *s.LedgerLag
	}
	code := http.StatusOK
	if s.Status != "ok" {
		code = http.StatusServiceUnavailable
	}
	answer(w, code, body)
}

func (x *Indexer) metrics() map[string]any {
	s := x.Settings()
	x.events.Lock()
	x.events.requests++
	requests := x.events.requests
	x.events.Unlock()
	var last any
	if !s.NoLedger {
		last = Ledger(x.now()) - s.LedgersBehind
	}
	return map[string]any{
		"requests_total": requests, "requests_per_minute": s.RequestsPerMinute,
		"avg_response_ms": s.AvgResponseMS, "p95_response_ms": s.P95ResponseMS, "error_rate": s.ErrorRate,
		"active_ws_connections": 3, "events_indexed_total": 40_000 + x.uptime()/80,
		"last_ledger_processed": last, "uptime_seconds": x.uptime(),
	}
}

func (x *Indexer) ready(w http.ResponseWriter, _ *http.Request) {
	s := x.Settings()
	database := map[string]any{"name": "database", "status": "healthy", "latency_ms": 2, "message": s.Database}
	if s.Database != "connected" {
		database["status"] = "unhealthy"
	}
	code := http.StatusOK
	if s.Ready == "unhealthy" {
		code = http.StatusServiceUnavailable
	}
	answer(w, code, map[string]any{
		"status": s.Ready, "version": s.Version,
		"components": []any{database, map[string]any{"name": "stellar_horizon", "status": "healthy", "latency_ms": 61, "message": "ok"}},
		"metrics":    x.metrics(),
	})
}

func (x *Indexer) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	var object map[string]any
	if err != nil || json.Unmarshal(body, &object) != nil || object["source"] == nil || object["type"] == nil {
		answer(w, http.StatusBadRequest, map[string]string{"error": "want a JSON object with source and type"})
		return
	}
	x.events.Lock()
	defer x.events.Unlock()
	x.events.all = append(x.events.all, body)
	if len(x.events.all) > maxEvents {
		x.events.all = slices.Clone(x.events.all[1:])
	}
	answer(w, http.StatusCreated, map[string]bool{"ok": true})
}

// Events returns what was posted to /api/metrics, in order.
func (x *Indexer) Events() []json.RawMessage {
	x.events.Lock()
	defer x.events.Unlock()
	return append([]json.RawMessage{}, x.events.all...)
}
