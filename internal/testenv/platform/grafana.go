package platform

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// GrafanaSettings are what a Grafana says of itself.
type GrafanaSettings struct {
	Database   string   `json:"database"`   // of /api/health: ok, or failing, which answers 503
	Dashboards []string `json:"dashboards"` // titles
}

// Grafana is the service `grafana`: /api/health for everyone, and with the
// password of the user admin /api/search, /api/dashboards/uid/..., /api/user,
// PUT /api/user/password and PUT /api/admin/users/1/password. As in the real one
// five wrong passwords within five minutes shut the user out for that long, with
// the right one too; the names of others do not count.
type Grafana struct {
	standIn[GrafanaSettings]
	file string

	mu       sync.Mutex
	password string
	wrong    []time.Time
}

const (
	wrongLimit  = 5
	wrongWindow = 5 * time.Minute
)

// NewGrafana returns one with all the runbook's dashboards. Where dir is given
// it keeps its password there, and as in Grafana the one from the environment
// counts only for the first start.
func NewGrafana(password, dir string) (*Grafana, error) {
	g := &Grafana{password: password}
	if dir != "" {
		g.file = filepath.Join(dir, "admin-password")
		if kept, err := os.ReadFile(g.file); err == nil {
			g.password = string(kept)
			if body, err := os.ReadFile(g.file + ".wrong"); err == nil {
				_ = json.Unmarshal(body, &g.wrong)
			}
		} else if err := g.change(password); err != nil {
			return nil, err
		}
	}
	g.setup(GrafanaSettings{Database: "ok", Dashboards: []string{
		"Infrastructure Overview", "Indexer Performance", "API Latency", "Database Metrics", "Trade Analytics", "Web Vitals",
	}})
	g.mux.HandleFunc("GET /api/health", g.health)
	g.mux.HandleFunc("GET /api/search", g.guarded(func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, g.list()) }))
	g.mux.HandleFunc("GET /api/dashboards/uid/{uid}", g.guarded(g.dashboard))
	g.mux.HandleFunc("GET /api/user", g.guarded(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"id": 1, "login": "admin", "isGrafanaAdmin": true})
	}))
	g.mux.HandleFunc("PUT /api/user/password", g.guarded(g.setPassword))
	g.mux.HandleFunc("PUT /api/admin/users/1/password", g.guarded(g.setPassword))
	return g, nil
}

// Password is the one that admin has now.
func (g *Grafana) Password() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.password
}

func (g *Grafana) change(password string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.file != "" {
		if err := os.WriteFile(g.file, []byte(password), 0o600); err != nil {
			return fmt.Errorf("keeping the password: %w", err)
		}
	}
	g.password = password
	return nil
}

func (g *Grafana) health(w http.ResponseWriter, _ *http.Request) {
	code := http.StatusOK
	database := g.Settings().Database
	if database != "ok" {
		code = http.StatusServiceUnavailable
	}
	answer(w, code, map[string]string{"commit": "0000000", "database": database, "version": "11.4.0"})
}

func (g *Grafana) guarded(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		if !ok || user != "admin" || !g.login(password, time.Now()) {
			message(w, http.StatusUnauthorized, "Invalid username or password")
			return
		}
		next(w, r)
	}
}

// login tries a password of admin.
func (g *Grafana) login(password string, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := len(g.wrong); n >= wrongLimit && now.Sub(g.wrong[n-wrongLimit]) < wrongWindow {
		return false
	}
	if password != g.password {
		g.wrong = append(g.wrong, now)
		g.keepWrong()
		return false
	}
	return true
}

// keepWrong lets a start not forget who was wrong: Grafana has it in its
// database.
func (g *Grafana) keepWrong() {
	if body, err := json.Marshal(g.wrong); err == nil && g.file != "" {
		_ = os.WriteFile(g.file+".wrong", body, 0o600) // then it forgets
	}
}

type dashboard struct {
	ID    int    `json:"id"`
	UID   string `json:"uid"`
	Title string `json:"title"`
	Type  string `json:"type"`
	URL   string `json:"url"`
}

func (g *Grafana) list() []dashboard {
	out := []dashboard{}
	for i, title := range g.Settings().Dashboards {
		uid := strings.ReplaceAll(strings.ToLower(title), " ", "-")
		out = append(out, dashboard{ID: i + 1, UID: uid, Title: title, Type: "dash-db", URL: "/d/" + uid})
	}
	return out
}

func (g *Grafana) dashboard(w http.ResponseWriter, r *http.Request) {
	for _, d := range g.list() {
		if d.UID == r.PathValue("uid") {
			answer(w, http.StatusOK, map[string]any{"meta": map[string]string{"url": d.URL}, "dashboard": d})
			return
		}
	}
	message(w, http.StatusNotFound, "Dashboard not found")
}

func (g *Grafana) setPassword(w http.ResponseWriter, r *http.Request) {
	var body struct {
		OldPassword string `json:"oldPassword"`
		NewPassword string `json:"newPassword"`
		Password    string `json:"password"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&body); err != nil {
		message(w, http.StatusBadRequest, "bad request data")
		return
	}
	own, fresh := strings.HasPrefix(r.URL.Path, "/api/user/"), body.Password
	if own {
		fresh = body.NewPassword
	}
	switch {
	case own && body.OldPassword != g.Password():
		message(w, http.StatusUnauthorized, "Invalid old password")
	case len(fresh) < 4:
		message(w, http.StatusBadRequest, "New password is too short")
	default:
		if err := g.change(fresh); err != nil {
			message(w, http.StatusInternalServerError, err.Error())
			return
		}
		message(w, http.StatusOK, "User password changed")
	}
}

func message(w http.ResponseWriter, code int, text string) {
	answer(w, code, map[string]string{"message": text})
}
