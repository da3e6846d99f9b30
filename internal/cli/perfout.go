package cli

import (
	"encoding/json"
	"fmt"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/perf"
	"github.com/stellarescrow/escrowctl/internal/report"
)

// perfOutcome is what is recorded and reported of an analysis.
func perfOutcome(r *perf.Report, status check.Status) Outcome {
	count := map[check.Status]int{}
	for _, f := range r.Findings {
		count[f.Status]++
	}
	verdict := "nothing found"
	if len(r.Findings) > 0 {
		verdict = fmt.Sprintf("%d critical, %d warnings, %d unknown; first: %s", count[check.Critical], count[check.Warning], count[check.Unknown], r.Findings[0].Summary)
	}
	figures := map[string]any{"critical": count[check.Critical], "warning": count[check.Warning], "unknown": count[check.Unknown], "took_seconds": r.TookSeconds}
	event := map[string]any{
		"source": "perf", "type": "perf_analysis", "status": r.Status.String(), "ts": r.TakenAt.Unix(),
		"critical": count[check.Critical], "warning": count[check.Warning], "unknown": count[check.Unknown],
	}
	gauges := perfGauges(r, count)
	for _, g := range gauges {
		if len(g.Labels) == 0 {
			event[g.Name] = g.Value
		}
	}
	return Outcome{Status: status, Done: r.Whole(), Verdict: verdict, Figures: figures, Report: report.Report{Event: event, Gauges: gauges}}
}

func perfGauges(r *perf.Report, count map[check.Status]int) []report.Gauge {
	var gauges []report.Gauge
	for _, s := range []check.Status{check.Warning, check.Unknown, check.Critical} {
		gauges = append(gauges, report.Gauge{Name: "findings", Value: float64(count[s]), Labels: map[string]string{"status": s.String()}})
	}
	add := func(name string, value float64) {
		gauges = append(gauges, report.Gauge{Name: name, Value: value})
	}
	ratio := func(name string, value *float64) {
		if value != nil {
			add(name, *value)
		}
	}
	if q := r.Queries; q != nil && len(q.ByMean) > 0 {
		add("slowest_query_mean_seconds", q.ByMean[0].Judged.Mean)
		add("regressed_queries", float64(len(q.Regressed)))
	}
	if db := r.Database; db != nil {
		add("database_size_bytes", float64(db.SizeBytes))
		ratio("cache_hit_ratio", db.CacheHit)
		if db.MaxConnections > 0 {
			add("connections_ratio", float64(db.Connections)/float64(db.MaxConnections))
		}
	}
	if r.Redis != nil {
		ratio("redis_hit_ratio", r.Redis.HitRate)
	}
	var bloat int64
	for _, t := range r.Tables {
		if t.BloatBytes != nil {
			bloat += *t.BloatBytes
		}
	}
	if r.Tables != nil {
		add("table_bloat_bytes", float64(bloat))
	}
	return gauges
}

// scrubReport takes secrets out of what servers said.
func (d *deps) scrubReport(r *perf.Report) {
	doc, err := json.Marshal(r)
	if err != nil || d.scrubber.Scrub(string(doc)) == string(doc) {
		return
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		f.Summary, f.Action = d.scrubber.Scrub(f.Summary), d.scrubber.Scrub(f.Action)
		for j := range f.Detail {
			f.Detail[j] = d.scrubber.Scrub(f.Detail[j])
		}
	}
	for i := range r.Sources {
		r.Sources[i].Reason = d.scrubber.Scrub(r.Sources[i].Reason)
	}
	for i := range r.Plans {
		p := &r.Plans[i]
		p.Missing = d.scrubber.Scrub(p.Missing)
		for j := range p.Lines {
			p.Lines[j] = d.scrubber.Scrub(p.Lines[j])
		}
	}
}
