package cli

import (
	"fmt"
	"time"

	"github.com/stellarescrow/escrowctl/internal/perf"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// perfTable is one of the report's tables; lines of text follow it.
type perfTable struct {
	title string
	table *ui.Table // nil: only lines
	lines []string
}

// perfTables are the figures behind the findings.
func perfTables(r *perf.Report) []perfTable {
	var out []perfTable
	for _, part := range []func(*perf.Report) []perfTable{queryTables, relationTables, endpointTables, containerTables, redisTables, diskTables} {
		out = append(out, part(r)...)
	}
	return out
}

// rightOf makes a table whose first column is a name and whose next n are numbers.
func rightOf(n int, head ...string) *ui.Table {
	t := ui.NewTable(head...)
	for i := range n {
		t.Right[i+1] = true
	}
	return t
}

func queryTables(r *perf.Report) []perfTable {
	q := r.Queries
	if q == nil {
		return nil
	}
	window := "since the last reset"
	if q.Compared {
		window = "since the last analysis"
	}
	var out []perfTable
	for _, list := range []struct {
		title string
		rows  []perf.Query
	}{
		{"queries by mean time, " + window, q.ByMean}, {"queries by total time, " + window, q.ByTotal},
		{"queries by calls, " + window, q.ByCalls}, {"queries by I/O, " + window, q.ByIO}, {"new queries", q.New[:min(5, len(q.New))]},
	} {
		if len(list.rows) == 0 {
			continue
		}
		t := rightOf(5, "MEAN", "EVER", "CALLS", "TOTAL", "TIME", "READ", "QUERY")
		t.Right[0] = true
		for _, row := range list.rows {
			j := row.Judged
			t.Row(perfTime(j.Mean), perfTime(row.Total.Mean), ui.Count(j.Calls), perfTime(j.Total), fmt.Sprintf("%.0f%%", 100*j.TimeOf), ui.Bytes((j.Read+j.Temp)*8192), shorten(row.Text, 200))
		}
		out = append(out, perfTable{title: list.title, table: t})
	}
	if o := q.Outsiders; len(o) > 0 {
		text := "left out, since their roles have no rights on a table of this database:"
		for i, role := range o {
			if i > 0 {
				text += ","
			}
			text += fmt.Sprintf(" %s of %s (%s in all)", ui.Plural(role.Statements, "statement", "statements"), role.Name, perfTime(role.Total))
		}
		out = append(out, perfTable{lines: []string{text}})
	}
	return out
}

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

func relationTables(r *perf.Report) []perfTable {
	var out []perfTable
	if len(r.Tables) > 0 {
		t := rightOf(6, "TABLE", "SIZE", "GROWTH", "BLOAT", "ROWS", "DEAD", "VACUUM")
		for _, row := range r.Tables {
			t.Row(row.Name, ui.Bytes(row.TotalBytes), signed(row.GrowthBytes), optionalBytes(row.BloatBytes), ui.Count(row.Rows), ui.Count(row.DeadRows), agoText(row.Vacuumed, r.TakenAt))
		}
		out = append(out, perfTable{title: "largest tables", table: t})
	}
	if len(r.Indexes) > 0 {
		t := rightOf(3, "INDEX", "SIZE", "BLOAT", "SCANS", "TABLE")
		for _, row := range r.Indexes {
			t.Row(row.Name, ui.Bytes(row.Bytes), optionalBytes(row.BloatBytes), ui.Count(row.Scans), row.Table)
		}
		out = append(out, perfTable{title: "largest indexes", table: t})
	}
	return out
}

func signed(n *int64) string {
	if n != nil && *n > 0 {
		return "+" + ui.Bytes(*n)
	}
	return optionalBytes(n)
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

func endpointTables(r *perf.Report) []perfTable {
	var out perfTable
	if len(r.Endpoints) > 0 {
		t := rightOf(7, "URL", "P50", "P95", "P99", "DNS", "CONNECT", "TLS", "FAILED")
		for _, e := range r.Endpoints {
			t.Row(e.URL, perfTime(e.TTFB.P50), perfTime(e.TTFB.P95), perfTime(e.TTFB.P99), perfTime(e.DNS.P95), perfTime(e.Connect.P95), perfTime(e.TLS.P95),
				fmt.Sprintf("%d/%d", e.Failed+e.Errors, e.Requests))
		}
		out = perfTable{title: "time to first byte, measured from here (DNS, connect and TLS at p95)", table: t}
	}
	if m := r.API; m != nil {
		out.lines = []string{fmt.Sprintf("%s: average %s, p95 %s, %.1f requests/min, %.2f %% errors", m.URL, perfTime(m.AvgMS/1000), perfTime(m.P95MS/1000), m.RequestsPerMinute, 100*m.ErrorRate)}
	}
	if out.table == nil && out.lines == nil {
		return nil
	}
	return []perfTable{out}
}

func containerTables(r *perf.Report) []perfTable {
	if len(r.Containers) == 0 {
		return nil
	}
	t := rightOf(4, "CONTAINER", "CPU", "MEMORY", "LIMIT", "THROTTLED", "OOM", "RESTARTS")
	t.Right[6] = true
	for _, c := range r.Containers {
		limit, oom := "-", "no"
		if c.LimitBytes > 0 {
			limit = ui.Bytes(c.LimitBytes)
		}
		if c.OOMKilled {
			oom = "KILLED"
		}
		t.Row(c.Name, fmt.Sprintf("%.1f%%", 100*c.CPUShare), ui.Bytes(c.MemoryBytes), limit, fmt.Sprintf("%.0f%%", 100*c.Throttled), oom, fmt.Sprint(c.Restarts))
	}
	return []perfTable{{title: "containers", table: t}}
}

func redisTables(r *perf.Report) []perfTable {
	if r.Redis == nil {
		return nil
	}
	return []perfTable{{title: "redis", lines: redisLines(r.Redis)}}
}

func redisLines(r *perf.RedisReport) []string {
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
	lines := []string{text + fmt.Sprintf("; %s evicted, fragmentation %.2f", ui.Count(r.EvictedSince), r.Fragmentation)}
	for _, s := range r.Slow[:min(3, len(r.Slow))] {
		lines = append(lines, fmt.Sprintf("slow: %s took %s at %s", s.Command, perfTime(s.Seconds), s.At.UTC().Format(time.RFC3339)))
	}
	for _, k := range r.Biggest {
		lines = append(lines, fmt.Sprintf("big: %s %s (%s)", ui.Bytes(k.Bytes), k.Name, k.Type))
	}
	if r.Scanned > 0 {
		lines = append(lines, ui.Count(r.Scanned)+" keys looked at")
	}
	return lines
}

func diskTables(r *perf.Report) []perfTable {
	if len(r.Disks) == 0 {
		return nil
	}
	t := rightOf(4, "DISK", "SIZE", "FREE", "USED", "INODES", "HOLDS")
	for _, d := range r.Disks {
		t.Row(d.Path, ui.Bytes(int64(d.TotalBytes)), ui.Bytes(int64(d.FreeBytes)), fmt.Sprintf("%.0f%%", 100*d.Used), fmt.Sprintf("%.0f%%", 100*d.InodesUsed), d.For) //nolint:gosec // bytes of a disk
	}
	return []perfTable{{title: "disks", table: t}}
}

// perfHead says what was looked at, when, and what it is compared with.
func perfHead(r *perf.Report) []string {
	const form = "2006-01-02 15:04 UTC"
	title := "performance"
	if db := r.Database; db != nil {
		title = fmt.Sprintf("%s, PostgreSQL %s", db.Address, db.ShortVersion())
	}
	lines := []string{fmt.Sprintf("%s, %s", title, r.TakenAt.UTC().Format(form))}
	if r.Since != nil {
		lines = append(lines, fmt.Sprintf("compared with the analysis of %s, %s before", r.Since.UTC().Format(form), ui.Duration(time.Duration(r.Interval*float64(time.Second)))))
	}
	return lines
}

// perfTail is the server in one line, and what the analysis cost.
func perfTail(r *perf.Report) []string {
	var lines []string
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
		lines = append(lines, text)
	}
	cost := "took " + perfTime(r.TookSeconds)
	if c := r.Cost; c != nil {
		cost += fmt.Sprintf("; cost the database %d queries in %s (slowest: %s, %s), %s of answers", c.Queries, perfTime(c.Seconds), c.Slowest, perfTime(c.SlowestS), ui.Bytes(c.Bytes))
	}
	return append(lines, cost)
}
