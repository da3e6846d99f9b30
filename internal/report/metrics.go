package report

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/push"
	"github.com/prometheus/common/model"
)

const lastSuccessName = "last_success_timestamp_seconds"

var notInNames = regexp.MustCompile(`[^a-zA-Z0-9_]`)

// base is what a job's metrics and textfile are named after: escrowctl_dr_test.
func base(job string) string { return "escrowctl_" + notInNames.ReplaceAllString(job, "_") }

// Metric declares a metric: a gauge named escrowctl_<job>_<name>.
type Metric struct {
	Job    string
	Name   string
	Labels []string // sorted
	Help   string   // one line, with the unit's meaning
}

// FullName is what Prometheus knows it by.
func (m Metric) FullName() string { return base(m.Job) + "_" + m.Name }

// EveryJob returns the metrics that each job has beside its own.
func EveryJob() []Metric {
	return []Metric{
		{Name: "last_run_timestamp_seconds", Help: "When the last run ended, Unix time."},
		{Name: lastSuccessName, Help: "When the last successful run ended, Unix time; 0 if none is known."},
		{Name: "duration_seconds", Help: "How long the last run took."},
		{Name: "exit_code", Help: "Exit code of the last run: 0 ok, 1 warning, 2 critical or failed, 3 unknown."},
	}
}

// ofRun are the metrics of EveryJob with their values.
func ofRun(rep Report, lastSuccess *float64) []Gauge {
	values := map[string]float64{
		"last_run_timestamp_seconds": unix(rep.EndedAt),
		"duration_seconds":           rep.EndedAt.Sub(rep.StartedAt).Seconds(),
		"exit_code":                  float64(rep.ExitCode),
	}
	if lastSuccess != nil {
		values[lastSuccessName] = *lastSuccess
	}
	var out []Gauge
	for _, m := range EveryJob() {
		if v, ok := values[m.Name]; ok {
			out = append(out, Gauge{Name: m.Name, Help: m.Help, Value: v})
		}
	}
	return out
}

// registry builds the metrics of one run. A gauge that was not declared, or that
// Prometheus would not take, is left out and named in the error; the registry is
// good all the same.
func (r *Reporter) registry(rep Report, lastSuccess *float64) (*prometheus.Registry, error) {
	gauges := ofRun(rep, lastSuccess)
	var faults []error
	for _, g := range rep.Gauges {
		if err := declare(&g, rep.Job, r.opt.Metrics); err != nil {
			faults = append(faults, fmt.Errorf("metric %q is left out: %w", g.Name, err))
			continue
		}
		gauges = append(gauges, g)
	}
	reg := prometheus.NewRegistry()
	vecs := map[string]*prometheus.GaugeVec{}
	seen := map[string]bool{}
	for _, g := range gauges {
		key := fmt.Sprint(g.Name, g.Labels) // fmt sorts maps
		if seen[key] {
			faults = append(faults, fmt.Errorf("metric %q is given twice", g.Name))
			continue
		}
		seen[key] = true
		if err := add(reg, vecs, base(rep.Job)+"_", g); err != nil {
			faults = append(faults, fmt.Errorf("metric %q is left out: %w", g.Name, err))
		}
	}
	return reg, errors.Join(faults...)
}

// declare gives g the help of its declaration. It is an error that there is none,
// or one with other labels; where nothing is declared at all, anything goes.
func declare(g *Gauge, job string, metrics []Metric) error {
	if metrics == nil {
		return nil
	}
	i := slices.IndexFunc(metrics, func(m Metric) bool { return m.Job == job && m.Name == g.Name })
	if i < 0 {
		return fmt.Errorf("nobody declared it for %s", job)
	}
	if labels := slices.Sorted(maps.Keys(g.Labels)); !slices.Equal(labels, metrics[i].Labels) {
		return fmt.Errorf("it has the labels %q, and was declared with %q", labels, metrics[i].Labels)
	}
	g.Help = metrics[i].Help
	return nil
}

func add(reg *prometheus.Registry, vecs map[string]*prometheus.GaugeVec, prefix string, g Gauge) error {
	// Prometheus 3 takes any UTF-8, quoted; older ones and node_exporters would
	// refuse the whole file.
	if !model.LegacyValidation.IsValidMetricName(prefix + g.Name) {
		return errors.New("its name is not valid")
	}
	labels := slices.Sorted(maps.Keys(g.Labels))
	for _, l := range labels {
		if !model.LegacyValidation.IsValidLabelName(l) {
			return fmt.Errorf("label name %q is not valid", l)
		}
	}
	vec, ok := vecs[g.Name]
	if !ok {
		vec = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + g.Name, Help: g.Help}, labels)
		if err := reg.Register(vec); err != nil {
			return err
		}
		vecs[g.Name] = vec
	}
	m, err := vec.GetMetricWith(g.Labels)
	if err != nil {
		return err
	}
	m.Set(g.Value)
	return nil
}

// pushgateway adds the metrics to the group of this job and host. Adding (POST),
// unlike replacing (PUT), leaves metrics standing that this run does not send:
// the last success, when it failed.
func (r *Reporter) pushgateway(ctx context.Context, rep Report) *Problem {
	u, err := pushURL(r.opt.Pushgateway)
	if err != nil {
		return &Problem{Kind: Local, Destination: ToPushgateway, Cause: err, Remedy: "correct report.pushgateway"}
	}
	var last *float64 // unknown is not 0 here: it would overwrite the known
	switch at := rep.LastSuccess; {
	case rep.Success:
		last = ptr(unix(rep.EndedAt))
	case !at.IsZero():
		last = ptr(unix(at))
	}
	reg, faults := r.registry(rep, last)
	err = push.New(u.String(), base(rep.Job)).Grouping("instance", r.opt.Host).
		Client(r.courier(u, false)).Gatherer(reg).AddContext(ctx)
	if err == nil {
		return problemOf(ToPushgateway, faults)
	}
	p := problemOf(ToPushgateway, err)
	switch p.Kind {
	case Unreachable:
		p.Remedy = "start it, or correct report.pushgateway"
	case Rejected:
		p.Remedy = "check that report.pushgateway names a Pushgateway and its credentials"
	}
	return p
}

// pushURL reads the Pushgateway's address, to which its client adds the scheme.
func pushURL(raw string) (*url.URL, error) {
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	return parseURL(raw)
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func ptr(f float64) *float64 { return &f }
