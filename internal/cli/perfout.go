package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/perf"
	"github.com/stellarescrow/escrowctl/internal/report"
	"github.com/stellarescrow/escrowctl/internal/ui"
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
}

// showPerf writes the report for people: findings first, then the tables that
// they come from.
func (a *App) showPerf(r *perf.Report) error {
	p := &perfPage{io: a.io, report: r}
	p.head()
	p.findings()
	p.queries()
	p.tables()
	p.endpoints()
	p.containers()
	p.redis()
	p.disks()
	p.tail()
	_, err := io.WriteString(a.io.Out, p.b.String())
	return err
}

// perfPage is a report being written.
type perfPage struct {
	io     *ui.IO
	report *perf.Report
	b      strings.Builder
}

// line writes a line of text from outside, wrapped at 80 columns with a
// hanging indent.
func (p *perfPage) wrap(first, rest, text string) {
	const width = 80
	line := first
	empty := true
	for word := range strings.FieldsSeq(ui.Clean(text)) {
		if !empty && len([]rune(line))+1+len([]rune(word)) > width && word[0] != '%' { // a percent sign stays with its number
			p.b.WriteString(line + "\n")
			line, empty = rest, true
		}
		if !empty {
			line += " "
		}
		line, empty = line+word, false
	}
	p.b.WriteString(line + "\n")
}

func (p *perfPage) table(title string, t *ui.Table) {
	p.b.WriteString("\n" + p.io.Paint("bold", title) + "\n")
	_ = t.Write(p.io, &p.b) // a builder takes everything
}

func (p *perfPage) head() {
	r := p.report
	title := "performance"
	if db := r.Database; db != nil {
		version, _, _ := strings.Cut(db.Version, " (") // without the packager's own
		title = fmt.Sprintf("%s, PostgreSQL %s", db.Address, version)
	}
	p.wrap("", "", fmt.Sprintf("%s, %s", title, r.TakenAt.UTC().Format("2006-01-02 15:04 UTC")))
	if r.Since != nil {
		p.wrap("", "", fmt.Sprintf("compared with the analysis of %s, %s before", r.Since.UTC().Format("2006-01-02 15:04 UTC"), ui.Duration(time.Duration(r.Interval*float64(time.Second)))))
	}
	for _, n := range r.Notes {
		p.wrap("note: ", "      ", n)
	}
	p.b.WriteString("\n")
}

func (p *perfPage) findings() {
	if len(p.report.Findings) == 0 {
		p.b.WriteString(p.io.Paint("ok", "OK") + "  nothing found\n")
		return
	}
	const indent = "          "
	for _, f := range p.report.Findings {
		word := strings.ToUpper(f.Status.String())
		// Painted after wrapping: colour has no width.
		at := p.b.Len()
		p.wrap(fmt.Sprintf("%-10s", word), indent, f.Summary)
		text := p.b.String()
		p.b.Reset()
		p.b.WriteString(text[:at] + p.io.Paint(f.Status.String(), word) + text[at+len(word):])
		for _, d := range f.Detail {
			p.wrap(indent, indent+"  ", d)
		}
		if f.Action != "" {
			p.wrap(indent+"next: ", indent+"      ", f.Action)
		}
		for _, s := range f.SQL {
			p.b.WriteString(indent + "      " + ui.Clean(s) + "\n") // never broken: it is to be copied
		}
	}
}

func (p *perfPage) queries() {
	q := p.report.Queries
	if q == nil {
		return
	}
	window := "since the last reset"
	if q.Compared {
		window = "since the last analysis"
	}
	for _, list := range []struct {
		title string
		rows  []perf.Query
	}{
		{"queries by mean time, " + window, q.ByMean}, {"queries by total time, " + window, q.ByTotal},
		{"queries by calls, " + window, q.ByCalls}, {"queries by I/O, " + window, q.ByIO}, {"new queries", newOnly(q.New)},
	} {
		if len(list.rows) == 0 {
			continue
		}
		t := ui.NewTable("MEAN", "EVER", "CALLS", "TOTAL", "TIME", "READ", "QUERY")
		t.Right = map[int]bool{0: true, 1: true, 2: true, 3: true, 4: true, 5: true}
		for _, row := range list.rows {
			j := row.Judged
			t.Row(perfTime(j.Mean), perfTime(row.Total.Mean), ui.Count(j.Calls), perfTime(j.Total), fmt.Sprintf("%.0f%%", 100*j.TimeOf), ui.Bytes((j.Read+j.Temp)*8192), shorten(row.Text, 200))
		}
		p.table(list.title, t)
	}
}

func newOnly(list []perf.Query) []perf.Query { return list[:min(5, len(list))] }

func shorten(text string, n int) string {
	if r := []rune(text); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return text
}

func perfTime(seconds float64) string {
	switch {
	case seconds == 0:
		return "-"
	case seconds < 0.1:
		return fmt.Sprintf("%.1fms", 1000*seconds)
	}
	return ui.Duration(time.Duration(seconds * float64(time.Second)))
}

func (p *perfPage) tables() {
	r := p.report
	if len(r.Tables) > 0 {
		t := ui.NewTable("TABLE", "SIZE", "GROWTH", "BLOAT", "ROWS", "DEAD", "VACUUM")
		t.Right = map[int]bool{1: true, 2: true, 3: true, 4: true, 5: true, 6: true}
		for _, row := range r.Tables {
			t.Row(row.Name, ui.Bytes(row.TotalBytes), signed(row.GrowthBytes), optionalBytes(row.BloatBytes), ui.Count(row.Rows), ui.Count(row.DeadRows), agoText(row.Vacuumed, r.TakenAt))
		}
		p.table("largest tables", t)
	}
	if len(r.Indexes) > 0 {
		t := ui.NewTable("INDEX", "SIZE", "BLOAT", "SCANS", "TABLE")
		t.Right = map[int]bool{1: true, 2: true, 3: true}
		for _, row := range r.Indexes {
			t.Row(row.Name, ui.Bytes(row.Bytes), optionalBytes(row.BloatBytes), ui.Count(row.Scans), row.Table)
		}
		p.table("largest indexes", t)
	}
}

func signed(n *int64) string {
	switch {
	case n == nil:
		return "-"
	case *n > 0:
		return "+" + ui.Bytes(*n)
	}
	return ui.Bytes(*n)
}

func optionalBytes(n *int64) string {
	if n == nil {
		return "-"
	}
	return ui.Bytes(*n)
}

func agoText(t *time.Time, now time.Time) string {
	if t == nil {
		return "never"
	}
	return ui.Age(now.Sub(*t))
}

func (p *perfPage) endpoints() {
	r := p.report
	if len(r.Endpoints) > 0 {
		t := ui.NewTable("URL", "P50", "P95", "P99", "DNS", "CONNECT", "TLS", "FAILED")
		t.Right = map[int]bool{1: true, 2: true, 3: true, 4: true, 5: true, 6: true, 7: true}
		for _, e := range r.Endpoints {
			t.Row(e.URL, perfTime(e.TTFB.P50), perfTime(e.TTFB.P95), perfTime(e.TTFB.P99), perfTime(e.DNS.P95), perfTime(e.Connect.P95), perfTime(e.TLS.P95),
				fmt.Sprintf("%d/%d", e.Failed+e.Errors, e.Requests))
		}
		p.table("time to first byte, measured from here (DNS, connect and TLS at p95)", t)
	}
	if m := r.API; m != nil {
		p.wrap("", "  ", fmt.Sprintf("%s: average %s, p95 %s, %.1f requests/min, %.2f %% errors", m.URL, perfTime(m.AvgMS/1000), perfTime(m.P95MS/1000), m.RequestsPerMinute, 100*m.ErrorRate))
	}
}

func (p *perfPage) containers() {
	if len(p.report.Containers) == 0 {
		return
	}
	t := ui.NewTable("CONTAINER", "CPU", "MEMORY", "LIMIT", "THROTTLED", "OOM", "RESTARTS")
	t.Right = map[int]bool{1: true, 2: true, 3: true, 4: true, 6: true}
	for _, c := range p.report.Containers {
		limit, oom := "-", "no"
		if c.LimitBytes > 0 {
			limit = ui.Bytes(c.LimitBytes)
		}
		if c.OOMKilled {
			oom = "KILLED"
		}
		t.Row(c.Name, fmt.Sprintf("%.1f%%", 100*c.CPUShare), ui.Bytes(c.MemoryBytes), limit, fmt.Sprintf("%.0f%%", 100*c.Throttled), oom, fmt.Sprint(c.Restarts))
	}
	p.table("containers", t)
}

func (p *perfPage) redis() {
	r := p.report.Redis
	if r == nil {
		return
	}
	p.b.WriteString("\n" + p.io.Paint("bold", "redis") + "\n")
	text := fmt.Sprintf("Redis %s, %s keys, %s in use", r.Version, ui.Count(r.Keys), ui.Bytes(r.UsedBytes))
	if r.MaxBytes > 0 {
		text += fmt.Sprintf(" of %s (%s)", ui.Bytes(r.MaxBytes), r.Policy)
	}
	switch {
	case r.HitRate != nil:
		text += fmt.Sprintf("; hit rate %.1f %% of %s lookups, %.1f %% in total", 100**r.HitRate, ui.Count(r.Lookups), 100**r.HitRateTotal)
	case r.HitRateTotal != nil:
		text += fmt.Sprintf("; no lookups since the last analysis, hit rate %.1f %% in total", 100**r.HitRateTotal)
	default:
		text += "; no lookups yet, so no hit rate"
	}
	p.wrap("", "  ", text+fmt.Sprintf("; %s evicted, fragmentation %.2f", ui.Count(r.EvictedSince), r.Fragmentation))
	for _, s := range r.Slow[:min(3, len(r.Slow))] {
		p.wrap("  slow: ", "    ", fmt.Sprintf("%s took %s at %s", s.Command, perfTime(s.Seconds), s.At.UTC().Format(time.RFC3339)))
	}
	for _, k := range r.Biggest {
		p.wrap("  big: ", "    ", fmt.Sprintf("%s %s (%s)", ui.Bytes(k.Bytes), k.Name, k.Type))
	}
	if r.Scanned > 0 {
		p.wrap("  ", "    ", ui.Count(r.Scanned)+" keys looked at")
	}
}

func (p *perfPage) disks() {
	if len(p.report.Disks) == 0 {
		return
	}
	t := ui.NewTable("DISK", "SIZE", "FREE", "USED", "INODES", "HOLDS")
	t.Right = map[int]bool{1: true, 2: true, 3: true, 4: true}
	for _, d := range p.report.Disks {
		t.Row(d.Path, ui.Bytes(int64(d.TotalBytes)), ui.Bytes(int64(d.FreeBytes)), fmt.Sprintf("%.0f%%", 100*d.Used), fmt.Sprintf("%.0f%%", 100*d.InodesUsed), d.For) //nolint:gosec // bytes of a disk
	}
	p.table("disks", t)
}

// tail is the server in one line, and what the analysis cost.
func (p *perfPage) tail() {
	r := p.report
	p.b.WriteString("\n")
	if db := r.Database; db != nil {
		text := fmt.Sprintf("server: %s, %d of %d connections", ui.Bytes(db.SizeBytes), db.Connections, db.MaxConnections)
		if db.CacheHit != nil {
			text += fmt.Sprintf(", cache hit %.1f %%", 100**db.CacheHit)
		}
		if db.TransactionsRate != nil {
			text += fmt.Sprintf(", %.1f transactions/s", *db.TransactionsRate)
		}
		if db.WALRate != nil {
			text += fmt.Sprintf(", WAL %s/s", ui.Bytes(int64(*db.WALRate)))
		}
		p.wrap("", "  ", text)
	}
	cost := fmt.Sprintf("took %s", perfTime(r.TookSeconds))
	if c := r.Cost; c != nil {
		cost += fmt.Sprintf("; cost the database %d queries in %s (slowest: %s, %s), %s of answers", c.Queries, perfTime(c.Seconds), c.Slowest, perfTime(c.SlowestS), ui.Bytes(c.Bytes))
	}
	p.wrap("", "  ", cost)
}
