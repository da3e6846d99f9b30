package platform

import (
	"crypto/subtle"
	"net/http"
	"strings"
)

// APISettings are what an API says of itself.
type APISettings struct {
	Status string `json:"status"` // of /health: ok or degraded, which answers 503
}

// API is the service `api`. It knows the keys that it was made with and takes
// no others, as the real one reads API_KEYS and ADMIN_KEYS when it starts.
//
//	/health             for everyone
//	/api/admin/...      with an admin key
//	everything else     with a key of either kind
//
// A key comes as X-API-Key or as Authorization: Bearer. Who has none, or a wrong
// one, gets 401.
type API struct {
	standIn[APISettings]
	keys, admin []string
}

// NewAPI returns one that takes these keys, separated by commas.
func NewAPI(apiKeys, adminKeys string) *API {
	a := &API{keys: split(apiKeys), admin: split(adminKeys)}
	a.setup(APISettings{Status: "ok"})
	a.mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		code := http.StatusOK
		status := a.Settings().Status
		if status != "ok" {
			code = http.StatusServiceUnavailable
		}
		answer(w, code, map[string]string{"status": status})
	})
	a.mux.HandleFunc("/api/admin/", a.guarded(func() []string { return a.admin }))
	a.mux.HandleFunc("/", a.guarded(func() []string { return append(append([]string{}, a.keys...), a.admin...) }))
	return a
}

func split(keys string) []string {
	var out []string
	for _, key := range strings.Split(keys, ",") {
		if key = strings.TrimSpace(key); key != "" {
			out = append(out, key)
		}
	}
	return out
}

func (a *API) guarded(keys func() []string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		given := r.Header.Get("X-API-Key")
		if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && given == "" {
			given = bearer
		}
		for _, key := range keys() {
			if subtle.ConstantTimeCompare([]byte(key), []byte(given)) == 1 {
				answer(w, http.StatusOK, map[string]bool{"ok": true})
				return
			}
		}
		answer(w, http.StatusUnauthorized, map[string]string{"error": "invalid API key"})
	}
}
