package perf

import (
	"embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/ui"
)

//go:embed report.html
var pages embed.FS

// plot is a small chart, as the points of SVG elements in a box of plotWidth by
// plotHeight.
type plot struct {
	Title, Low, High, Last, From, To string
	Line                             string    // of a polyline; "" for bars
	Dots                             []plotDot // of single points
	Bars                             []plotBar
}

type plotDot struct {
	X, Y float64
	Text string
}

type plotBar struct {
	Y, Width     float64
	Label, Value string
}

const (
	plotWidth, plotHeight = 300.0, 80.0
	barStep               = 22.0
)

// WriteHTML writes the report as one page that needs nothing else: no network,
// no script. points are the history of its figures.
func WriteHTML(w io.Writer, r *Report, points []Point) error {
	t, err := template.New("report.html").Funcs(template.FuncMap{
		"bytes": ui.Bytes, "millis": millis, "percent": percent, "count": ui.Count, "upper": strings.ToUpper,
		"time":     func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") },
		"optional": func(n *int64) string { return optional(n, ui.Bytes) },
		"height":   func(bars []plotBar) float64 { return barStep * float64(len(bars)) },
		"ago":      func(t *time.Time) string { return ago(t, r.TakenAt) },
	}).ParseFS(pages, "report.html")
	if err != nil {
		return fmt.Errorf("the report's template: %w", err)
	}
	history := historyPlots(points)
	return t.Execute(w, struct {
		*Report
		History bool // there are plots of it
		Plots   []plot
	}{r, len(history) > 0, append(history, distributions(r)...)})
}

func optional[T any](v *T, text func(T) string) string {
	if v == nil {
		return "-"
	}
	return text(*v)
}

// historyPlots draws each figure that was read at least twice.
func historyPlots(points []Point) []plot {
	var out []plot
	for _, f := range []struct {
		title string
		value func(Point) *float64
		text  func(float64) string
	}{
		{"mean query time", func(p Point) *float64 { return p.QueryMean }, millis},
		{"cache hit ratio", func(p Point) *float64 { return p.CacheHit }, percent},
		{"connections", func(p Point) *float64 { return p.Connections }, func(v float64) string { return fmt.Sprintf("%.0f", v) }},
		{"database size", func(p Point) *float64 { return p.SizeBytes }, func(v float64) string { return ui.Bytes(int64(v)) }},
		{"time to first byte, p95", func(p Point) *float64 { return p.TTFB }, millis},
		{"Redis hit rate", func(p Point) *float64 { return p.RedisHit }, percent},
		{"indexer memory", func(p Point) *float64 { return p.Indexer }, func(v float64) string { return ui.Bytes(int64(v)) }},
	} {
		if p, ok := drawLine(f.title, points, f.value, f.text); ok {
			out = append(out, p)
		}
	}
	return out
}

func drawLine(title string, points []Point, value func(Point) *float64, text func(float64) string) (plot, bool) {
	low, high, n := math.Inf(1), math.Inf(-1), 0
	var first, last Point
	for _, p := range points {
		if v := value(p); v != nil {
			low, high = math.Min(low, *v), math.Max(high, *v)
			if n == 0 {
				first = p
			}
			last = p
			n++
		}
	}
	if n < 2 {
		return plot{}, false
	}
	span, height := last.At.Sub(first.At).Seconds(), high-low
	out := plot{Title: title, Low: text(low), High: text(high), Last: text(*value(last)), From: first.At.UTC().Format("2006-01-02"), To: last.At.UTC().Format("2006-01-02")}
	var line []string
	for _, p := range points {
		v := value(p)
		if v == nil {
			continue
		}
		x, y := 0.0, plotHeight/2
		if span > 0 {
			x = plotWidth * p.At.Sub(first.At).Seconds() / span
		}
		if height > 0 {
			y = plotHeight * (1 - (*v-low)/height)
		}
		line = append(line, fmt.Sprintf("%.1f,%.1f", x, y))
		out.Dots = append(out.Dots, plotDot{x, y, p.At.UTC().Format("2006-01-02 15:04") + ": " + text(*v)})
	}
	out.Line = strings.Join(line, " ")
	return out, true
}

// distributions are the tables' sizes and the requests' latencies.
func distributions(r *Report) []plot {
	var out []plot
	bars := func(title string, n int, at func(int) (string, float64, string)) {
		p := plot{Title: title}
		most := 0.0
		for i := range n {
			_, v, _ := at(i)
			most = math.Max(most, v)
		}
		for i := range n {
			label, v, text := at(i)
			p.Bars = append(p.Bars, plotBar{barStep * float64(i), math.Max(1, plotWidth*share(v, most)), label, text})
		}
		if n > 0 {
			out = append(out, p)
		}
	}
	bars("largest tables", min(10, len(r.Tables)), func(i int) (string, float64, string) {
		t := r.Tables[i]
		return t.Name, float64(t.TotalBytes), ui.Bytes(t.TotalBytes)
	})
	for _, e := range r.Endpoints {
		counts := latencyCounts(e.Samples)
		bars("latency of "+e.URL, len(counts), func(i int) (string, float64, string) {
			return counts[i].label, float64(counts[i].n), ui.Plural(counts[i].n, "request", "requests")
		})
	}
	return out
}

type latencyCount struct {
	label string
	n     int
}

// latencyCounts sorts the samples into steps; empty ones at the ends are left out.
func latencyCounts(samples []float64) []latencyCount {
	steps := []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, math.Inf(1)}
	counts := make([]latencyCount, len(steps))
	first, last := len(steps), -1
	for i, step := range steps {
		counts[i].label = "up to " + millis(step)
		if math.IsInf(step, 1) {
			counts[i].label = "over " + millis(steps[i-1])
		}
	}
	for _, s := range samples {
		for i, step := range steps {
			if s <= step {
				counts[i].n++
				first, last = min(first, i), max(last, i)
				break
			}
		}
	}
	if last < 0 {
		return nil
	}
	return counts[first : last+1]
}
