package platform

import (
	"net/http"
	"time"
)

// HorizonSettings are what a Horizon says of the network.
type HorizonSettings struct {
	NoLedger bool `json:"no_ledger"` // history_latest_ledger is null
	// LedgersBehind is how far the latest ledger is behind Ledger.
	LedgersBehind int64 `json:"ledgers_behind"`
}

// Horizon is the Stellar network's API, of which only the root is there.
type Horizon struct {
	standIn[HorizonSettings]
}

// NewHorizon returns one whose ledgers close every 5 s.
func NewHorizon(now func() time.Time) *Horizon {
	h := &Horizon{}
	h.setup(HorizonSettings{})
	h.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		s, at := h.Settings(), now().UTC().Truncate(5*time.Second)
		var latest any
		if !s.NoLedger {
			latest = Ledger(at) - s.LedgersBehind
		}
		answer(w, http.StatusOK, map[string]any{
			"horizon_version": "2.32.0", "core_version": "stellar-core 22.1.0", "network_passphrase": "Test SDF Network ; September 2015",
			"ingest_latest_ledger": latest, "history_latest_ledger": latest, "core_latest_ledger": latest,
			"history_latest_ledger_closed_at": at.Add(-time.Duration(s.LedgersBehind) * 5 * time.Second).Format(time.RFC3339),
		})
	})
	return h
}
