// Package platform stands in for the platform's own services: indexer, api,
// Horizon and Grafana, each a handler that answers in the shapes of the real
// one. What it answers can be set, and each path can be given a fault, so that
// a test sees how escrowctl takes a service that is late, ill or talks nonsense.
//
// Tests serve the handlers in their own process (testenv.Serve); the sandbox
// runs the same ones as containers (package serve).
package platform

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// AdminPath is where a stand-in is set from outside: POST merges a JSON object
// into its settings, GET shows them.
const AdminPath = "/_standin"

// standIn is what all stand-ins are: settings, faults and paths.
type standIn[S any] struct {
	mux *http.ServeMux

	mu       sync.Mutex
	settings S
	faults   map[string]string
}

// setup makes the stand-in ready; faults are found in the settings.
func (s *standIn[S]) setup(settings S) {
	s.settings, s.faults = settings, make(map[string]string)
	s.mux = http.NewServeMux()
	s.mux.HandleFunc("GET "+AdminPath, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, s.Settings()) })
	s.mux.HandleFunc("POST "+AdminPath, s.admin)
}

// Settings returns the settings in force.
func (s *standIn[S]) Settings() S {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settings
}

// Set changes the settings.
func (s *standIn[S]) Set(edit func(*S)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	edit(&s.settings)
}

// SetFault gives a path a fault, one of those of Faults; "" takes it away. Path
// "*" means every path that has none of its own.
func (s *standIn[S]) SetFault(path, fault string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[path] = fault
}

func (s *standIn[S]) fault(path string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.faults[path]; ok {
		return f
	}
	return s.faults["*"]
}

// Merge merges a JSON object into the settings. Its key "faults" holds faults
// by path.
func (s *standIn[S]) Merge(object []byte) error {
	var extra struct {
		Faults map[string]string `json:"faults"`
	}
	if err := json.Unmarshal(object, &extra); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	for path, fault := range extra.Faults {
		if err := known(fault); err != nil {
			return fmt.Errorf("settings: fault of %s: %w", path, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.settings
	if err := json.Unmarshal(object, &next); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	s.settings = next
	for path, fault := range extra.Faults {
		s.faults[path] = fault
	}
	return nil
}

func (s *standIn[S]) admin(w http.ResponseWriter, r *http.Request) {
	var object json.RawMessage
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&object)
	if err == nil {
		err = s.Merge(object)
	}
	if err != nil {
		answer(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	answer(w, http.StatusOK, s.Settings())
}

// ServeHTTP answers, or shows the fault that the path has.
func (s *standIn[S]) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == AdminPath || !show(s.fault(r.URL.Path), w, r, s.mux) {
		s.mux.ServeHTTP(w, r)
	}
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the client may have left
}

// Ledger is the number of the ledger that is the latest at a time: one closes
// every 5 s. All stand-ins agree on it, wherever they run.
func Ledger(now time.Time) int64 {
	return 50_000_000 + (now.Unix()-time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Unix())/5
}
