package health

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/httpx"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// APIID is the ID of the check.
const APIID = "api"

// APIOptions say where the API gateway is.
type APIOptions struct {
	URL string // of the api: /health is below it
	// MetricsURL is the base of the service whose /health/metrics counts the
	// requests, where the api itself has none: the indexer.
	MetricsURL string

	Client *httpx.Client
	Limits Limits
	Limit  time.Duration // 0: 3 s
}

// API checks that the API gateway is well, how soon its first byte comes, and
// from /health/metrics the share of errors and the 95th percentile of response
// times.
func API(opt APIOptions) check.Probe {
	x := api{opt}
	return check.Probe{ID: APIID, Limit: orLimit(opt.Limit), Run: x.run}
}

type api struct{ APIOptions }

const (
	apiLogs = "docker compose logs --tail 50 api"
	rbAPI   = "RB-003"
)

func (x *api) run(ctx context.Context) check.Result {
	ctx, cancel := withMargin(ctx)
	defer cancel()
	base := strings.TrimSuffix(x.URL, "/")
	metrics := x.Client.Begin(ctx, httpx.Request{URL: base + "/health/metrics", AnyStatus: true})
	f := findings{limits: x.Limits}
	if x.health(ctx, &f, base+"/health") {
		x.traffic(ctx, &f, metrics)
	}
	return f.result(APIID)
}

// health judges /health and the time to its first byte. It is false if the api
// does not answer.
func (x *api) health(ctx context.Context, f *findings, address string) bool {
	r, err := x.Client.Get(ctx, httpx.Request{URL: address, AnyStatus: true})
	if err != nil {
		f.add(serviceFault(err, apiLogs, rbAPI))
		return false
	}
	defer x.ttfb(ctx, f, r, address)
	status, err := parseStatus(r.Body)
	bad := badStatus(r, "the api", "api.url", apiLogs, rbAPI)
	switch {
	case bad != nil:
		if err == nil {
			bad.text += ", status " + status
		}
		f.add(*bad)
	case err != nil:
		f.unknown(apiLogs, "%s: %v", r.URL, err)
	case !slices.Contains([]string{"ok", "healthy", "up"}, strings.ToLower(status)):
		f.add(finding{status: check.Warning, text: "the api says that it is " + clean(status), action: apiLogs, runbooks: []string{rbAPI}})
	default:
		f.fact("ok")
	}
	return true
}

// ttfb judges the time to the first byte. One slow answer may be chance: only
// then two more are asked for, and the middle one of the three counts.
func (x *api) ttfb(ctx context.Context, f *findings, r httpx.Answer, address string) {
	took := []time.Duration{r.FirstByte}
	if limit := f.limits.of(runbook.TTFB); r.FirstByte.Seconds() > limit.Warning {
		for range 2 {
			again, err := x.Client.Get(ctx, httpx.Request{URL: address, AnyStatus: true})
			if err != nil {
				break // out of time: what was seen must do
			}
			took = append(took, again.FirstByte)
		}
		slices.Sort(took)
	}
	middle := took[len(took)/2]
	text := "first byte after " + span(middle)
	bad := finding{text: text, action: "escrowctl perf", runbooks: []string{"4.1"}}
	if !f.judge("ttfb", runbook.TTFB, middle.Seconds(), bad) {
		f.fact("%s", text)
	}
}

// traffic judges what /health/metrics says of the requests served: the api's
// own, or where it has none those of MetricsURL.
func (x *api) traffic(ctx context.Context, f *findings, own func() (httpx.Answer, error)) {
	a, err := own()
	if err == nil && slices.Contains([]int{http.StatusNotFound, http.StatusUnauthorized, http.StatusForbidden}, a.Status) && x.MetricsURL != "" {
		a, err = x.Client.Get(ctx, httpx.Request{URL: strings.TrimSuffix(x.MetricsURL, "/") + "/health/metrics", AnyStatus: true})
	}
	var t traffic
	switch {
	case err == nil && a.Status != http.StatusOK:
		err = fmt.Errorf("%s answers %d", a.URL, a.Status)
	case err == nil:
		if t, err = parseTraffic(a.Body); err != nil {
			err = fmt.Errorf("%s: %w", a.URL, err)
		}
	}
	if err != nil {
		f.unknown(apiLogs, "error rate and p95 are not known: %v", err)
		return
	}
	bad := finding{text: "errors " + percent(t.errorRate), action: apiLogs, runbooks: []string{rbAPI}}
	if !f.judge("error_rate", runbook.APIErrorRate, t.errorRate, bad) {
		f.fact("errors %s", percent(t.errorRate))
	}
	// The page's limit for the first byte is the only one for response times.
	bad = finding{text: "p95 " + span(t.p95), action: "escrowctl perf", runbooks: []string{"4.1"}}
	if !f.judge("p95", runbook.TTFB, t.p95.Seconds(), bad) {
		f.fact("p95 %s", span(t.p95))
	}
	f.figure("requests_per_minute", "count", t.perMinute)
}

// traffic is what /health/metrics says of the requests served.
type traffic struct {
	errorRate float64 // 0 to 1
	p95       time.Duration
	perMinute float64
}

func parseTraffic(body []byte) (traffic, error) {
	o, err := parseObject(body)
	if err != nil {
		return traffic{}, err
	}
	const dayMS, many = 24 * 3600 * 1000, 1e12
	var t traffic
	if t.errorRate, err = o.number("error_rate", 0, 1); err != nil {
		return t, err
	}
	p95, err := o.number("p95_response_ms", 0, dayMS)
	if err != nil {
		return t, err
	}
	t.p95 = seconds(p95 / 1000)
	t.perMinute, err = o.number("requests_per_minute", 0, many)
	return t, err
}

// parseStatus reads the status of an answer of /health.
func parseStatus(body []byte) (string, error) {
	o, err := parseObject(body)
	if err != nil {
		return "", err
	}
	return o.text("status")
}
