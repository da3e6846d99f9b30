package cli

import (
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/health"
	"github.com/stellarescrow/escrowctl/internal/httpx"
)

// shiftProbe is one check of the shift check: how it is built, and whether the
// configuration says that it is off.
type shiftProbe struct {
	id    string
	build func(*deps) check.Probe
	// off returns the key that says so, or ""; nil is never off.
	off func(*deps) string
}

// shiftProbes returns all checks, in the order in which equals are shown.
func shiftProbes() []shiftProbe {
	return []shiftProbe{
		{id: health.ContainersID, build: (*deps).containersProbe},
		{id: health.AlertsID, build: (*deps).alertsProbe, off: func(d *deps) string { return offKey(d.cfg.Alertmanager.URL, "alertmanager.url") }},
		{id: health.IndexerID, build: (*deps).indexerProbe},
		{id: health.APIID, build: (*deps).apiProbe, off: func(d *deps) string { return offKey(d.cfg.API.URL, "api.url") }},
		{id: health.DatabaseID, build: (*deps).databaseProbe},
		{id: health.RedisID, build: (*deps).redisProbe},
		{id: health.BackupID, build: (*deps).backupProbe},
		{id: health.DRTestID, build: (*deps).drTestProbe},
		{id: health.ScheduleID, build: (*deps).scheduleProbe},
		{id: health.DiskID, build: (*deps).diskProbe},
		{id: health.CertsID, build: (*deps).certsProbe, off: func(d *deps) string { return offKey(d.cfg.Certs.Domain, "certs.domain") }},
		{id: health.SecretsID, build: (*deps).secretsProbe},
		{id: health.ReviewsID, build: (*deps).reviewsProbe},
		{id: health.ClockID, build: (*deps).clockProbe},
		{id: health.GrafanaID, build: (*deps).grafanaProbe, off: func(d *deps) string { return offKey(d.cfg.Grafana.URL, "grafana.url") }},
	}
}

// offKey returns the key if its value says that the check is off.
func offKey(value, key string) string {
	if value == config.Off {
		return key + ": off"
	}
	return ""
}

// checkIDs returns the IDs of all checks.
func checkIDs() []string { return idsOf(shiftProbes()) }

func idsOf(probes []shiftProbe) []string {
	var ids []string
	for _, p := range probes {
		ids = append(ids, p.id)
	}
	return ids
}

func (d *deps) grafanaProbe() check.Probe {
	return health.Grafana(health.GrafanaOptions{
		URL: d.cfg.Grafana.URL, User: d.cfg.Grafana.User, Password: d.cfg.Grafana.AdminPassword.Reveal(),
		Limit: d.cfg.ShiftCheck.Timeout, Client: httpx.New(),
	})
}

func (d *deps) alertsProbe() check.Probe {
	watchdog := d.cfg.Alertmanager.Watchdog
	if watchdog == config.Off {
		watchdog = ""
	}
	return health.Alerts(health.AlertsOptions{
		AlertmanagerURL: d.cfg.Alertmanager.URL, PrometheusURL: d.cfg.Prometheus.URL, Watchdog: watchdog, Shift: d.cfg.ShiftCheck.Shift, Grace: d.cfg.ShiftCheck.DeliverWithin,
		Limit: d.cfg.ShiftCheck.Timeout, Memory: d.state, Client: httpx.New(), Now: d.app.io.Now,
	})
}
