package health

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/httpx"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// AlertsID is the ID of the check of alerts.
const AlertsID = "alerts"

const (
	// DefaultShift is how long a shift is. The runbook does not say.
	DefaultShift = 8 * time.Hour
	// deliveryGrace is how long an alert may take from Prometheus to Alertmanager.
	deliveryGrace = time.Minute
	// maxAlerts is how many alerts get a part of their own.
	maxAlerts = 50
	// maxAlertBytes bounds each answer of Alertmanager and Prometheus.
	maxAlertBytes = 8 << 20
)

// AlertsOptions say where the alerts are and how they get there.
type AlertsOptions struct {
	AlertmanagerURL string
	PrometheusURL   string
	// Watchdog names the alert that always fires, to prove the way from
	// Prometheus to Alertmanager; empty: there is none.
	Watchdog string
	Shift    time.Duration // a silence that ends in it is told; 0 is DefaultShift
	Grace    time.Duration // from Prometheus to Alertmanager; 0 is one minute
	Limit    time.Duration
	Memory   Memory // keeps Prometheus' counters; nil keeps none
	Client   *httpx.Client
	Now      func() time.Time
}

// Alerts checks what fires: active, silenced and inhibited alerts apart, each
// with its row of the runbook. That nothing fires is said only where something
// proves that an alert would arrive.
func Alerts(opt AlertsOptions) check.Probe {
	opt.Shift, opt.Grace = cmp.Or(opt.Shift, DefaultShift), cmp.Or(opt.Grace, deliveryGrace)
	a := &alerts{AlertsOptions: opt}
	return check.Probe{ID: AlertsID, Limit: opt.Limit, Run: a.run}
}

type alerts struct{ AlertsOptions }

// amAlert is an alert as Alertmanager's API v2 has it.
type amAlert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
	Fingerprint string            `json:"fingerprint"`
	Status      struct {
		State       string   `json:"state"`
		SilencedBy  []string `json:"silencedBy"`
		InhibitedBy []string `json:"inhibitedBy"`
	} `json:"status"`
}

func (a amAlert) name() string { return a.Labels["alertname"] }

// amSilence is a silence as Alertmanager's API v2 has it.
type amSilence struct {
	ID        string      `json:"id"`
	StartsAt  time.Time   `json:"startsAt"`
	EndsAt    time.Time   `json:"endsAt"`
	CreatedBy string      `json:"createdBy"`
	Comment   string      `json:"comment"`
	Matchers  []amMatcher `json:"matchers"`
	Status    struct {
		State string `json:"state"`
	} `json:"status"`
}

// alertSources are the answers of all sources, each or why there is none.
type alertSources struct {
	alerts   []amAlert
	silences []amSilence
	amErr    error
	path     promPath
}

func (a *alerts) run(ctx context.Context) check.Result {
	ctx, cancel := withMargin(ctx)
	defer cancel()
	var src alertSources
	var silErr error
	var wg sync.WaitGroup
	wg.Go(func() { src.amErr = a.get(ctx, a.AlertmanagerURL, "/api/v2/alerts", &src.alerts) })
	wg.Go(func() { silErr = a.get(ctx, a.AlertmanagerURL, "/api/v2/silences", &src.silences) })
	wg.Go(func() { src.path = a.prometheus(ctx) })
	wg.Wait()
	if src.amErr == nil {
		src.amErr = silErr
	}
	if src.amErr == nil {
		src.amErr = sound(src.alerts)
	}
	return a.judge(src)
}

// get reads a JSON document below a base URL.
func (a *alerts) get(ctx context.Context, base, path string, v any) error {
	_, err := a.Client.JSON(ctx, httpx.Request{URL: strings.TrimRight(base, "/") + path, MaxBytes: maxAlertBytes}, v)
	return err
}

// sound says what makes a list of alerts implausible.
func sound(list []amAlert) error {
	for _, al := range list {
		switch al.Status.State {
		case "active", "suppressed", "unprocessed":
		default:
			return fmt.Errorf("alertmanager: /api/v2/alerts has an alert in the state %q", clean(al.Status.State))
		}
		if len(al.Labels) == 0 {
			return fmt.Errorf("alertmanager: /api/v2/alerts has an alert without labels")
		}
	}
	return nil
}

// judge makes the result of what the sources said.
func (a *alerts) judge(src alertSources) check.Result {
	r := check.Result{ID: AlertsID}
	var active, silenced, inhibited int
	if src.amErr != nil {
		r.Parts = append(r.Parts, check.Result{
			ID: "alertmanager", Status: check.Unknown, Summary: src.amErr.Error(), Alert: "ServiceDown", Runbooks: []string{"5.2"},
			Action: "docker compose logs --tail 50 alertmanager; if it is elsewhere set alertmanager.url",
		})
	}
	ids := map[string]bool{}
	for _, al := range src.alerts {
		if src.amErr != nil || a.Watchdog != "" && al.name() == a.Watchdog {
			continue
		}
		part := a.part(al, src.silences)
		if ids[part.ID] {
			part.ID += ":" + al.Fingerprint[:min(6, len(al.Fingerprint))]
		}
		ids[part.ID] = true
		switch kindOf(al) {
		case isSilenced:
			silenced++
		case isInhibited:
			inhibited++
		default:
			active++
		}
		r.Parts = append(r.Parts, part)
	}
	r.Parts = shortened(r.Parts)
	r.Detail = a.endingSilences(src)
	path, proof := a.delivery(src)
	r.Parts = append(path, r.Parts...)
	r.Status = check.Worst(check.OK, check.WorstOf(append(r.Parts, check.Result{})))
	r.Figures = []check.Figure{
		{Name: "active", Unit: "count", Value: float64(active)},
		{Name: "silenced", Unit: "count", Value: float64(silenced)},
		{Name: "inhibited", Unit: "count", Value: float64(inhibited)},
	}
	r.Summary = alertsSummary(r.Parts, active, silenced, inhibited, proof, src.amErr)
	return r
}

// alertsSummary names the gravest first.
func alertsSummary(parts []check.Result, active, silenced, inhibited int, proof string, amErr error) string {
	counts := fmt.Sprintf("%d active, %d silenced, %d inhibited", active, silenced, inhibited)
	var worst *check.Result
	for i := range parts {
		if worst == nil || parts[i].Status > worst.Status {
			worst = &parts[i]
		}
	}
	switch {
	case amErr != nil:
		return amErr.Error()
	case worst == nil || worst.Status == check.OK:
		return cmp.Or(map[bool]string{true: "none"}[active+silenced+inhibited == 0], counts) + "; " + proof
	}
	return worst.Summary + " (" + counts + ")"
}

// The kinds of alert by what has become of it.
const (
	isActive = iota
	isSilenced
	isInhibited
)

func kindOf(al amAlert) int {
	switch {
	case len(al.Status.SilencedBy) > 0:
		return isSilenced
	case len(al.Status.InhibitedBy) > 0:
		return isInhibited
	case al.Status.State == "suppressed":
		return isSilenced // muted by a time interval
	}
	return isActive
}

// part is an alert as a part of the check.
func (a *alerts) part(al amAlert, silences []amSilence) check.Result {
	u := urgencyOf(al.Labels)
	p := check.Result{ID: alertID(al.Labels), Since: al.StartsAt, Summary: alertText(al, u.row)}
	switch kindOf(al) {
	case isSilenced:
		a.hush(&p, al, silences, u)
		return p
	case isInhibited:
		p.Summary += ": inhibited by another alert"
		return p
	}
	p.Action = a.next(al.name())
	u.apply(&p, al.Labels["severity"])
	return p
}

// hush words a silenced alert. That a P1 is hidden, or that one comes back in
// this shift, is worth a look.
func (a *alerts) hush(p *check.Result, al amAlert, silences []amSilence, u urgent) {
	var until time.Time
	for _, s := range silences {
		if slices.Contains(al.Status.SilencedBy, s.ID) && s.EndsAt.After(until) {
			until = s.EndsAt
			p.Detail = []string{fmt.Sprintf("silence %s by %s until %s: %s", s.ID, clean(s.CreatedBy), s.EndsAt.UTC().Format("2006-01-02 15:04 UTC"), clean(s.Comment))}
		}
	}
	switch {
	case until.IsZero():
		p.Status, p.Summary = check.Warning, p.Summary+": suppressed, and no silence tells until when"
	case u.known && u.row.Priority == runbook.P1:
		p.Status, p.Summary = check.Warning, p.Summary+": a P1 hidden by a silence"
	case until.Sub(a.Now()) < a.Shift:
		p.Status, p.Summary = check.Warning, fmt.Sprintf("%s: its silence ends in %s", p.Summary, span(until.Sub(a.Now())))
	default:
		p.Summary += ": silenced"
	}
	u.tell(p)
	if p.Status != check.OK && len(al.Status.SilencedBy) > 0 {
		p.Action = "amtool --alertmanager.url=" + a.AlertmanagerURL + " silence query"
	}
}

// endingSilences are the silences that end in this shift and hide nothing now.
func (a *alerts) endingSilences(src alertSources) []string {
	var out []string
	for _, s := range src.silences {
		used := slices.ContainsFunc(src.alerts, func(al amAlert) bool { return slices.Contains(al.Status.SilencedBy, s.ID) })
		if s.Status.State == "active" && !used && s.EndsAt.Sub(a.Now()) < a.Shift && len(out) < maxAlerts {
			out = append(out, fmt.Sprintf("a silence by %s ends at %s: %s", clean(s.CreatedBy), s.EndsAt.UTC().Format("2006-01-02 15:04 UTC"), clean(s.Comment)))
		}
	}
	return out
}

// alertID names an alert so that it is the same the next time, and another for
// another thing it is about.
func alertID(labels map[string]string) string {
	id := cmp.Or(labels["alertname"], "unnamed")
	for _, name := range []string{"host", "secret", "task", "id", "metric", "service", "instance", "job", "mountpoint", "domain", "name"} {
		if v := labels[name]; v != "" {
			return clean(id + ":" + v)
		}
	}
	return clean(id)
}

func alertText(al amAlert, row runbook.Alert) string {
	text := clean(cmp.Or(al.Annotations["summary"], al.Annotations["description"], row.Title))
	if text == "" {
		return alertID(al.Labels)
	}
	return alertID(al.Labels) + ": " + text
}

// next is the command that shows more of an alert. What the alert itself advises
// is not repeated: whoever can post one would have it typed here.
func (a *alerts) next(name string) string {
	return cmp.Or(nextCommands()[name], "amtool --alertmanager.url="+a.AlertmanagerURL+" alert query "+clean(name))
}

// nextCommands are for the runbook's alerts, and those of deploy/prometheus.
func nextCommands() map[string]string {
	return map[string]string{
		"ServiceDown": "docker compose ps -a", "IndexerLag": "escrowctl shift-check --only indexer", "TLSCertExpiringSoon": "escrowctl certs check",
		"DBQueryLatency": "escrowctl perf analyze", "RedisHitRate": "escrowctl shift-check --only redis", "BackupFailed": "escrowctl backup list",
		"DiskUsage": "df -h; df -i; docker system df",

		"BackupMissing": "escrowctl backup list", "BackupShrank": "escrowctl backup list", "BackupUnverified": "escrowctl backup verify latest --s3",
		"DRTestFailed": "escrowctl dr-test", "DRTestOverdue": "escrowctl dr-test history", "RTOAtRisk": "escrowctl dr-test history",
		"CertNotServed": "escrowctl certs renew", "CertNotValid": "escrowctl certs check",
		"RotationOverdue": "escrowctl rotate-keys due", "RotationUnknown": "escrowctl rotate-keys due", "CronRunMissed": "escrowctl cron check", "ReviewOverdue": "escrowctl incident list", "ClockAhead": "escrowctl shift-check --only clock",
	}
}

// shortened keeps the gravest of many parts, and says how many are left out.
func shortened(parts []check.Result) []check.Result {
	slices.SortStableFunc(parts, func(x, y check.Result) int { return cmp.Compare(y.Status, x.Status) })
	if len(parts) <= maxAlerts {
		return parts
	}
	rest := parts[maxAlerts:]
	return append(parts[:maxAlerts:maxAlerts], check.Result{
		ID: "more", Status: rest[0].Status, Summary: fmt.Sprintf("%d further alerts", len(rest)), Action: "see Alertmanager itself",
	})
}
