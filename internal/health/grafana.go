package health

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/httpx"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// GrafanaID is the ID of the check of Grafana.
const GrafanaID = "grafana"

// GrafanaOptions say where Grafana is.
type GrafanaOptions struct {
	URL            string
	User, Password string        // without a password the dashboards are not looked at
	Limit          time.Duration // of the whole check
	Client         *httpx.Client
}

// Grafana checks that Grafana's database is well, by /api/health, and with
// credentials that it has the runbook's dashboards. A mere 200 proves nothing.
func Grafana(opt GrafanaOptions) check.Probe {
	g := &grafana{opt}
	return check.Probe{ID: GrafanaID, Limit: opt.Limit, Run: g.run}
}

type grafana struct{ opt GrafanaOptions }

func (g *grafana) url(path string) string { return strings.TrimRight(g.opt.URL, "/") + path }

func (g *grafana) run(ctx context.Context) check.Result {
	r := check.Result{ID: GrafanaID, Runbooks: []string{"5.1"}}
	var well struct {
		Database string `json:"database"`
		Version  string `json:"version"`
	}
	// With a broken database it answers 503, and says so.
	a, err := g.opt.Client.JSON(ctx, httpx.Request{URL: g.url("/api/health"), Statuses: []int{http.StatusOK, http.StatusServiceUnavailable}}, &well)
	if err != nil {
		r.Status, r.Summary, r.Alert = check.Unknown, err.Error(), "ServiceDown"
		r.Action = "docker compose logs --tail 50 grafana; if it is elsewhere set grafana.url"
		return r
	}
	if well.Database != "ok" || a.Status != http.StatusOK {
		r.Status, r.Alert = check.Critical, "ServiceDown"
		r.Summary = fmt.Sprintf("/api/health: HTTP %d, database %q, want \"ok\"", a.Status, well.Database)
		r.Action = "docker compose logs --tail 50 grafana"
		return r
	}
	r.Summary = "database ok"
	if g.opt.Password == "" {
		r.Summary += "; dashboards not looked at: no grafana.admin_password"
		return r
	}
	return g.dashboards(ctx, r)
}

// dashboards looks for the runbook's dashboards by their titles.
func (g *grafana) dashboards(ctx context.Context, r check.Result) check.Result {
	var found []struct {
		Title string `json:"title"`
	}
	_, err := g.opt.Client.JSON(ctx, httpx.Request{
		URL: g.url("/api/search?type=dash-db&limit=5000"), User: g.opt.User, Password: g.opt.Password, MaxBytes: 4 << 20,
	}, &found)
	if err != nil {
		r.Status, r.Summary = check.Unknown, "database ok, but no list of dashboards: "+err.Error()
		r.Action = "docker compose logs --tail 50 grafana"
		if e, ok := errors.AsType[*httpx.Error](err); ok && e.Status == http.StatusUnauthorized {
			r.Action = "correct grafana.admin_password (GRAFANA_ADMIN_PASSWORD), section 3.3"
		}
		return r
	}
	has := map[string]bool{}
	for _, d := range found {
		has[strings.ToLower(strings.TrimSpace(d.Title))] = true
	}
	var missing []string
	for _, d := range runbook.Dashboards() {
		if !has[strings.ToLower(d.Title)] {
			missing = append(missing, d.Title)
		}
	}
	total := len(runbook.Dashboards())
	r.Figures = []check.Figure{{Name: "dashboards", Unit: "count", Value: float64(total - len(missing))}}
	if len(missing) > 0 {
		r.Status, r.Priority = check.Warning, runbook.P4.String()
		r.Summary = fmt.Sprintf("database ok, %d of %d dashboards missing", len(missing), total)
		r.Detail = []string{"missing: " + strings.Join(missing, ", ")}
		r.Action = "import what is missing in Grafana (Dashboards, New, Import)"
		return r
	}
	r.Summary += fmt.Sprintf(", all %d dashboards there", total)
	return r
}
