package health

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/httpx"
)

// countersDoc is the document with Prometheus' counters of the last check.
const countersDoc = "shift-check-alerts"

// promPath is what Prometheus says of the way to Alertmanager.
type promPath struct {
	err      error // the first source that did not answer
	managers int   // that it sends to
	rules    []promRule
	counters notifications
}

// promRule is an alerting rule of Prometheus.
type promRule struct {
	Name      string  `json:"name"`
	Duration  float64 `json:"duration"` // seconds that it must hold
	Health    string  `json:"health"`
	LastError string  `json:"lastError"`
	Alerts    []struct {
		State    string    `json:"state"`
		ActiveAt time.Time `json:"activeAt"`
	} `json:"alerts"`
}

// notifications are Prometheus' counters of what it sent, since its start.
type notifications struct {
	Sent    float64 `json:"sent"`
	Errors  float64 `json:"errors"`
	Dropped float64 `json:"dropped"`
}

// prometheus asks Prometheus all there is to ask, at once.
func (a *alerts) prometheus(ctx context.Context) promPath {
	var p promPath
	var managers struct {
		Data struct {
			Active *[]struct {
				URL string `json:"url"`
			} `json:"activeAlertmanagers"`
		} `json:"data"`
	}
	var rules struct {
		Data struct {
			Groups *[]struct {
				Rules []promRule `json:"rules"`
			} `json:"groups"`
		} `json:"data"`
	}
	base := strings.TrimRight(a.PrometheusURL, "/")
	errs := make([]error, 4)
	var wg sync.WaitGroup
	wg.Go(func() { _, errs[0] = a.Client.Get(ctx, httpx.Request{URL: base + "/-/ready"}) })
	wg.Go(func() { errs[1] = a.get(ctx, base, "/api/v1/alertmanagers", &managers) })
	wg.Go(func() { errs[2] = a.get(ctx, base, "/api/v1/rules?type=alert", &rules) })
	wg.Go(func() {
		var text httpx.Answer
		text, errs[3] = a.Client.Get(ctx, httpx.Request{URL: base + "/metrics", MaxBytes: maxAlertBytes})
		if errs[3] == nil {
			p.counters, errs[3] = parseNotifications(text.Body)
		}
	})
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			p.err = err
			return p
		}
	}
	if managers.Data.Active == nil || rules.Data.Groups == nil {
		p.err = fmt.Errorf("%s: what answers there is not the API of Prometheus", base)
		return p
	}
	p.managers = len(*managers.Data.Active)
	for _, g := range *rules.Data.Groups {
		p.rules = append(p.rules, g.Rules...)
	}
	return p
}

// parseNotifications reads the counters from Prometheus' own metrics, summed
// over its Alertmanagers.
func parseNotifications(text []byte) (notifications, error) {
	var n notifications
	into := map[string]*float64{
		"prometheus_notifications_sent_total": &n.Sent, "prometheus_notifications_errors_total": &n.Errors, "prometheus_notifications_dropped_total": &n.Dropped,
	}
	found := 0
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value := counter(lines.Text())
		if into[name] == nil {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || math.IsNaN(v) || v < 0 || *into[name]+v > math.MaxFloat64 {
			return n, fmt.Errorf("prometheus: /metrics: %s is %s", name, httpx.Quote([]byte(value)))
		}
		*into[name] += v
		found++
	}
	if lines.Err() != nil || found == 0 {
		return n, fmt.Errorf("prometheus: /metrics has no prometheus_notifications_ counters")
	}
	return n, nil
}

// counter is the name and the value of a line of the text format.
func counter(line string) (name, value string) {
	const blanks = " \t"
	line = strings.TrimLeft(line, blanks)
	end := strings.IndexAny(line, blanks+"{")
	if end < 0 {
		return line, ""
	}
	name, rest := line[:end], strings.TrimLeft(line[end:], blanks)
	if strings.HasPrefix(rest, "{") {
		rest = rest[labelsEnd(rest):]
	}
	if fields := strings.Fields(rest); len(fields) > 0 {
		value = fields[0] // a timestamp may follow
	}
	return name, value
}

// labelsEnd is where the labels end that s begins with: a brace within quotes
// closes nothing.
func labelsEnd(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == '}' && !quoted:
			return i + 1
		}
	}
	return len(s)
}

const promLogs = "docker compose logs --tail 50 prometheus"

// delivery judges whether an alert of Prometheus gets to Alertmanager: the parts
// that say why not, or in a few words what proves it.
func (a *alerts) delivery(src alertSources) (parts []check.Result, proof string) {
	add := func(id string, status check.Status, action, format string, args ...any) {
		parts = append(parts, check.Result{
			ID: id, Status: status, Summary: fmt.Sprintf(format, args...), Action: action, Alert: "ServiceDown", Runbooks: []string{"5.2"},
		})
	}
	p := src.path
	if p.err != nil {
		add("prometheus", check.Unknown, promLogs+"; if it is elsewhere set prometheus.url", "%v", p.err)
		return parts, ""
	}
	if len(p.rules) == 0 {
		add("rules", check.Unknown, "load the alerting rules into Prometheus", "Prometheus has no alerting rule: that nothing fires proves nothing")
	}
	for _, rule := range p.rules {
		if rule.Health == "err" {
			add("rule:"+clean(rule.Name), check.Unknown, promLogs, "the rule %s cannot be evaluated: %s", clean(rule.Name), clean(rule.LastError))
		}
	}
	if p.managers == 0 {
		add("delivery", check.Critical, "set alerting.alertmanagers in prometheus.yml", "Prometheus sends its alerts nowhere: it knows no Alertmanager")
		return parts, ""
	}
	if src.amErr != nil {
		return parts, ""
	}
	failed := a.failedSince(p.counters)
	arrived, lost := a.arrivals(src)
	switch {
	case len(lost) > 0:
		add("delivery", check.Critical, promLogs, "alerts of Prometheus do not get to Alertmanager: %s (%.0f notifications failed)", strings.Join(lost, ", "), p.counters.Errors)
	case arrived == "" && p.counters.Errors > 0:
		add("delivery", check.Critical, promLogs, "Prometheus fails to send to Alertmanager: %.0f notifications failed, %.0f dropped", p.counters.Errors, p.counters.Dropped)
	case failed > 0:
		parts = append(parts, check.Result{
			ID: "delivery", Status: check.Warning, Action: promLogs, Runbooks: []string{"5.2"},
			Summary: fmt.Sprintf("%.0f notifications failed since the last check; they arrive now (%s)", failed, arrived),
		})
	case arrived != "":
		return parts, "delivery proven by " + arrived
	case a.Watchdog != "":
		add("watchdog", check.Unknown, "add a rule "+a.Watchdog+" (expr: vector(1)) to Prometheus, or set alertmanager.watchdog: off",
			"nothing fires, and nothing proves that an alert would arrive: no alert %s", a.Watchdog)
	default:
		proof = "delivery not proven: alertmanager.watchdog is off"
	}
	return parts, proof
}

// arrivals compares what fires in Prometheus with what Alertmanager has: the
// name of one that arrived, the watchdog first, and of those that did not.
func (a *alerts) arrivals(src alertSources) (arrived string, lost []string) {
	have := map[string]bool{}
	for _, al := range src.alerts {
		have[al.name()] = true
	}
	for _, rule := range src.path.rules {
		firing := false
		for _, al := range rule.Alerts {
			since := al.ActiveAt.Add(seconds(rule.Duration) + a.Grace)
			firing = firing || al.State == "firing" && since.Before(a.Now())
		}
		switch {
		case have[rule.Name] && (arrived == "" || rule.Name == a.Watchdog) && fires(rule):
			arrived = clean(rule.Name)
		case firing && !have[rule.Name] && len(lost) < maxAlerts:
			lost = append(lost, clean(rule.Name))
		}
	}
	return arrived, lost
}

func fires(rule promRule) bool {
	for _, al := range rule.Alerts {
		if al.State == "firing" {
			return true
		}
	}
	return false
}

// failedSince is how many notifications failed or were dropped since the last
// check; 0 if none is known, or if Prometheus has started anew.
func (a *alerts) failedSince(now notifications) float64 {
	if a.Memory == nil {
		return 0
	}
	var before notifications
	found, err := a.Memory.Load(countersDoc, &before)
	_ = a.Memory.Save(countersDoc, now) // then the next check has nothing to compare with
	failed := now.Errors + now.Dropped - before.Errors - before.Dropped
	if !found || err != nil || now.Sent < before.Sent || failed < 0 {
		return 0
	}
	return failed
}
