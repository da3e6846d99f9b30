package perf

import (
	"fmt"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// api judges the latency that the API tells of itself and that was measured.
func (a *analysis) api() {
	a.out.API, a.out.Endpoints = a.now.API, a.now.Endpoints
	if m := a.now.API; m != nil && m.RequestsTotal > 0 {
		status, limit := a.judge(runbook.TTFB, m.P95MS/1000)
		f := Finding{Object: m.URL, weight: m.P95MS}
		f.ID, f.Status, f.Action = "api.latency", status, limit.Action
		f.Summary = fmt.Sprintf("the API says that it answers in %s at p95, over %s", millis(m.P95MS/1000), passed(status, limit))
		f.Detail = []string{fmt.Sprintf("average %s, %.1f requests a minute, %.1f %% errors", millis(m.AvgMS/1000), m.RequestsPerMinute, 100*m.ErrorRate)}
		f.Figures = []check.Figure{figure("p95", m.P95MS/1000, limit)}
		a.add(f)
		a.apiErrors(m)
	}
	for _, e := range a.now.Endpoints {
		a.endpoint(e)
	}
}

func (a *analysis) apiErrors(m *API) {
	status, limit := a.judge(runbook.APIErrorRate, m.ErrorRate)
	f := Finding{Object: m.URL, weight: m.ErrorRate}
	f.ID, f.Status, f.Action = "api.errors", status, "see its log, and "+limit.Action
	f.Figures = []check.Figure{figure("error_rate", m.ErrorRate, limit)}
	f.Summary = fmt.Sprintf("the API says that %.1f %% of its requests end in errors, over %s", 100*m.ErrorRate, percent(limitPassed(status, limit)))
	a.add(f)
}

// limitPassed is the limit that a value of this status is beyond.
func limitPassed(status check.Status, limit runbook.Threshold) float64 {
	if status == check.Critical {
		return limit.Critical
	}
	return limit.Warning
}

func (a *analysis) endpoint(e Endpoint) {
	answered := e.Requests - e.Failed
	if answered > 0 {
		status, limit := a.judge(runbook.TTFB, e.TTFB.P95)
		f := Finding{Object: e.URL, weight: e.TTFB.P95 * 1000}
		f.ID, f.Status, f.Action = "endpoint.latency", status, limit.Action
		f.Summary = fmt.Sprintf("%s: the first byte takes %s at p95, over %s", e.URL, millis(e.TTFB.P95), passed(status, limit))
		f.Detail = []string{fmt.Sprintf("p50 %s, p99 %s; DNS %s, connect %s, TLS %s at p95; %d requests", millis(e.TTFB.P50), millis(e.TTFB.P99),
			millis(e.DNS.P95), millis(e.Connect.P95), millis(e.TLS.P95), answered)}
		f.Figures = []check.Figure{figure("ttfb_p95", e.TTFB.P95, limit)}
		a.add(f)
	}
	f := Finding{Object: e.URL, weight: 1}
	switch {
	case answered <= 0:
		f.ID, f.Status = "endpoint.dead", check.Unknown
		f.Summary = fmt.Sprintf("%s does not answer: %s", e.URL, e.Problem)
		f.Action = "see 'docker compose ps', and correct perf.urls if that is not its address"
	case e.Failed+e.Errors > 0:
		f.ID, f.Status = "endpoint.errors", check.Warning
		f.Summary = fmt.Sprintf("%s: %d of %d requests failed", e.URL, e.Failed+e.Errors, e.Requests)
		f.Action = "see the service's log, and RB-003"
		if e.Problem != "" {
			f.Detail = []string{e.Problem}
		}
	}
	a.add(f)
}

func (a *analysis) containers() {
	known := map[string]Container{}
	if a.before != nil {
		for _, c := range a.before.Containers {
			known[c.ID] = c
		}
	}
	l := a.opt.Limits
	for _, c := range a.now.Containers {
		periods, throttled, hits, restarts := c.Periods, c.Throttled, c.LimitHits, 0
		if p, ok := known[c.ID]; ok {
			if c.StartedAt.Equal(p.StartedAt) {
				periods, throttled, hits = since(c.Periods, p.Periods), since(c.Throttled, p.Throttled), since(c.LimitHits, p.LimitHits)
			}
			restarts = max(0, c.Restarts-p.Restarts)
		}
		part := share(float64(throttled), float64(periods))
		a.out.Containers = append(a.out.Containers, ContainerReport{
			Name: c.Name, Service: c.Service, CPUShare: c.CPUShare, MemoryBytes: c.MemoryBytes, LimitBytes: c.LimitBytes,
			CPULimit: c.CPULimit, Throttled: part, OOMKilled: c.OOMKilled, Restarts: c.Restarts,
		})
		say := func(id string, status check.Status, action, format string, args ...any) {
			f := Finding{Object: c.Name, weight: float64(c.MemoryBytes)}
			f.ID, f.Status, f.Action, f.Summary = "container."+id, status, action, fmt.Sprintf(format, args...)
			a.add(f)
		}
		if c.Service == l.IndexerService {
			a.indexerMemory(c)
		}
		if c.LimitBytes > 0 && share(float64(c.MemoryBytes), float64(c.LimitBytes)) > l.MemoryOfLimit {
			say("memory_limit", check.Warning, "find out why, or raise its limit", "%s uses %s of its limit of %s (%s)",
				c.Name, ui.Bytes(c.MemoryBytes), ui.Bytes(c.LimitBytes), percent(float64(c.MemoryBytes)/float64(c.LimitBytes)))
		}
		if part > l.Throttled && periods > 100 {
			say("throttled", check.Warning, "raise its CPU limit, or find out what it is busy with", "%s was held back by its CPU limit of %.2g cores in %s of the periods", c.Name, c.CPULimit, percent(part))
		}
		if c.OOMKilled {
			say("oom_killed", check.Critical, "raise its memory limit, or find the leak", "%s was killed for want of memory (limit %s)", c.Name, ui.Bytes(c.LimitBytes))
		} else if hits > 0 && c.LimitBytes > 0 && share(float64(c.MemoryBytes), float64(c.LimitBytes)) > 0.8 {
			say("limit_hits", check.Warning, "raise its memory limit", "%s ran into its memory limit of %s %d times", c.Name, ui.Bytes(c.LimitBytes), hits)
		}
		if restarts > 0 {
			say("restarted", check.Warning, "docker logs --tail 50 "+c.Name, "%s was restarted by the engine %d times since the last analysis", c.Name, restarts)
		}
	}
}

func (a *analysis) indexerMemory(c Container) {
	status, limit := a.judge(runbook.IndexerMemory, float64(c.MemoryBytes))
	f := Finding{Object: c.Name, weight: float64(c.MemoryBytes)}
	f.ID, f.Status, f.Action = "container.indexer_memory", status, limit.Action
	f.Figures = []check.Figure{figure("memory", float64(c.MemoryBytes), limit)}
	f.Summary = fmt.Sprintf("the indexer (%s) uses %.0f MB of memory, over %.0f MB", c.Name, float64(c.MemoryBytes)/1e6, limitPassed(status, limit)/1e6)
	a.add(f)
}

func (a *analysis) redis() {
	r := a.now.Redis
	if r == nil {
		return
	}
	l := a.opt.Limits
	out := &RedisReport{Redis: *r, Lookups: r.Hits + r.Misses, EvictedSince: r.Evicted}
	a.out.Redis = out
	if n := r.Hits + r.Misses; n > 0 {
		total := share(float64(r.Hits), float64(n))
		out.HitRateTotal = &total
	}
	hits, misses := r.Hits, r.Misses
	var rejected int64
	window := "since its start"
	if a.before != nil && a.before.Redis != nil {
		b := a.before.Redis
		switch {
		case b.RunID != r.RunID:
			a.note("Redis was restarted since the last analysis: its figures are since then")
		case r.Hits < b.Hits || r.Misses < b.Misses:
			a.note("the statistics of Redis were reset since the last analysis: its figures are since then")
		default:
			hits, misses, out.EvictedSince, rejected = r.Hits-b.Hits, r.Misses-b.Misses, since(r.Evicted, b.Evicted), since(r.Rejected, b.Rejected)
			window = "since the last analysis"
		}
	}
	out.Lookups = hits + misses
	if out.Lookups > 0 {
		rate := share(float64(hits), float64(out.Lookups))
		out.HitRate = &rate
	}
	if out.HitRate != nil && out.Lookups >= l.RedisLookups {
		status, limit := a.judge(runbook.RedisHitRate, *out.HitRate)
		f := Finding{Object: "redis", weight: 1}
		f.ID, f.Status, f.Action = "redis.hit_rate", status, limit.Action
		if status == check.Critical {
			f.Alert = "RedisHitRate"
		}
		f.Summary = fmt.Sprintf("the hit rate of Redis is %.1f %% %s, under %s", 100**out.HitRate, window, percent(limitPassed(status, limit)))
		f.Detail = []string{fmt.Sprintf("%d hits, %d misses; %.1f %% in total; %d keys evicted, policy %s", hits, misses, 100**out.HitRateTotal, out.EvictedSince, r.Policy)}
		f.Figures = []check.Figure{figure("hit_rate", *out.HitRate, limit)}
		a.add(f)
	}
	a.redisMemory(r, rejected)
}

func (a *analysis) redisMemory(r *Redis, rejected int64) {
	l := a.opt.Limits
	say := func(id string, status check.Status, action, format string, args ...any) {
		f := Finding{Object: "redis"}
		f.ID, f.Status, f.Action, f.Summary = "redis."+id, status, action, fmt.Sprintf(format, args...)
		a.add(f)
	}
	if used := share(float64(r.UsedBytes), float64(r.MaxBytes)); r.Policy == "noeviction" {
		status, limit := a.judge(runbook.RedisMemory, used)
		say("memory", status, limit.Action+", or set an eviction policy", "Redis uses %s of its %s (%s) and evicts nothing: writes will fail when it is full", ui.Bytes(r.UsedBytes), ui.Bytes(r.MaxBytes), percent(used))
	}
	if r.UsedBytes >= l.FragmentBytes && r.Fragmentation > l.Fragmentation {
		say("fragmentation", check.Warning, "CONFIG SET activedefrag yes, or restart it", "Redis holds %.1f times the memory that its data takes (%s for %s)", r.Fragmentation, ui.Bytes(r.RSSBytes), ui.Bytes(r.UsedBytes))
	}
	if rejected > 0 {
		say("rejected", check.Warning, "raise maxclients, or find who leaves connections open", "Redis refused %d connections since the last analysis", rejected)
	}
}

func (a *analysis) disks() {
	a.out.Disks = a.now.Disks
	for _, d := range a.now.Disks {
		for _, part := range []struct {
			name  string
			ratio float64
			left  string
		}{{"space", d.Used, ui.Bytes(int64(d.FreeBytes)) + " left"}, {"inodes", d.InodesUsed, "inodes"}} {
			status, limit := a.judge(runbook.DiskUsage, part.ratio)
			f := Finding{Object: d.Path, weight: part.ratio}
			f.ID, f.Status, f.Action = "disk."+part.name, status, limit.Action
			if status == check.Critical {
				f.Alert = runbook.DiskUsageAlert
			}
			f.Figures = []check.Figure{figure(part.name, part.ratio, limit)}
			f.Summary = fmt.Sprintf("the %s of %s (%s) is %s used, over %s: %s", part.name, d.Path, d.For, percent(part.ratio), percent(limitPassed(status, limit)), part.left)
			a.add(f)
		}
	}
}
