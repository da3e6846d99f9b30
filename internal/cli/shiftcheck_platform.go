package cli

import (
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/health"
	"github.com/stellarescrow/escrowctl/internal/httpx"
)

func (d *deps) indexerProbe() check.Probe {
	opt := health.IndexerOptions{
		URL: d.cfg.Report.APIBaseURL, HorizonURL: d.cfg.Horizon.URL, Client: httpx.New(),
		Limits: d.cfg.Threshold, Limit: d.cfg.ShiftCheck.Timeout, Now: d.app.io.Now,
	}
	if !d.cfg.Database.URL.IsZero() {
		opt.EventAge = health.EventAge(d.databaseSession, d.cfg.Indexer.EventsTable, d.cfg.Indexer.EventsColumn)
	}
	return health.Indexer(opt)
}

func (d *deps) apiProbe() check.Probe {
	return health.API(health.APIOptions{
		URL: d.cfg.API.URL, MetricsURL: d.cfg.Report.APIBaseURL, Client: httpx.New(),
		Limits: d.cfg.Threshold, Limit: d.cfg.ShiftCheck.Timeout,
	})
}

func (d *deps) databaseProbe() check.Probe {
	return health.Database(health.DatabaseOptions{
		Connect: d.databaseSession, Service: d.cfg.Dump.Service, Limits: d.cfg.Threshold, Limit: d.cfg.ShiftCheck.Timeout,
	})
}

func (d *deps) redisProbe() check.Probe {
	return health.Redis(health.RedisOptions{
		Info: d.redisInfo, Service: d.cfg.Redis.Service, Memory: d.state,
		Limits: d.cfg.Threshold, Limit: d.cfg.ShiftCheck.Timeout, Now: d.app.io.Now,
	})
}
