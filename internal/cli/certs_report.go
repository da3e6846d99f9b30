package cli

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/stellarescrow/escrowctl/internal/certs"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/report"
)

// certJob names the metrics of certificates: escrowctl_cert_...
const certJob = "cert"

// expiryEvent is what goes to /api/metrics for each host.
type expiryEvent struct {
	Source  string        `json:"source"`
	Type    string        `json:"type"`
	Value   int           `json:"value"`
	Domain  string        `json:"domain"`
	TS      int64         `json:"ts"`
	Verdict certs.Verdict `json:"verdict"`
	Status  check.Status  `json:"status"`
}

// certsOutcome reports the hosts one by one and makes the outcome of their
// check. The webhook hears of what has become worse.
func (a *App) certsOutcome(ctx context.Context, d *deps, reports []*certs.Report) Outcome {
	worst := gravest(reports)
	out := Outcome{Status: certsStatus(reports), Verdict: worst.Summary, Figures: map[string]any{"hosts": len(reports), "verdict": worst.Verdict}}
	if worst.Known() {
		out.Figures["days_left"] = worst.DaysLeft()
	}
	out.Status = check.Worst(out.Status, a.sendCerts(ctx, d, reports))
	worse, err := certs.Change(d.state, reports, a.io.Now())
	if err != nil {
		a.io.Warn("%v", err)
		out.Status = check.Worst(out.Status, check.Warning)
	}
	out.Report.Text = a.worseText(worse)
	return out
}

// worseText is the message for people; empty if nothing has become worse.
func (a *App) worseText(worse []string) string {
	if len(worse) == 0 {
		return ""
	}
	host, _ := os.Hostname() // only for the message
	return fmt.Sprintf("certs on %s: %s", host, strings.Join(worse, "\n"))
}

// sendCerts sends each host's days left to the platform, and the metrics of all
// to the textfile. It returns the status that problems make.
func (a *App) sendCerts(ctx context.Context, d *deps, reports []*certs.Report) check.Status {
	ctx = context.WithoutCancel(ctx) // an interrupted run has found these all the same
	now := a.io.Now()
	status := check.OK
	events := d.reportOptions()
	events.Webhook, events.TextfileDir, events.Pushgateway = "", "", ""
	metrics := d.reportOptions()
	metrics.Webhook, metrics.APIBaseURL = "", ""
	rep := report.Report{Job: certJob, Success: true, StartedAt: now, EndedAt: now, ExitCode: certsStatus(reports).ExitCode()}
	for _, r := range reports {
		rep.Gauges = append(rep.Gauges, certGauges(r)...)
		rep.Success = rep.Success && r.Known()
		if r.Known() {
			event := expiryEvent{"ssl", "cert_expiry_days", r.DaysLeft(), r.Domain, now.Unix(), r.Verdict, r.Status}
			status = check.Worst(status, a.tellProblems(d, report.New(events).Send(ctx, report.Report{Job: certJob, Event: event})))
		}
	}
	return check.Worst(status, a.tellProblems(d, report.New(metrics).Send(ctx, rep)))
}

func certGauges(r *certs.Report) []report.Gauge {
	labels := map[string]string{"host": r.Target}
	out := []report.Gauge{
		{Name: "valid", Value: boolValue(r.Valid()), Labels: labels},
		{Name: "status", Value: float64(r.Status.ExitCode()), Labels: labels},
	}
	if pending, known := r.NotReloaded(); known {
		out = append(out, report.Gauge{Name: "renewed_not_served", Value: boolValue(pending), Labels: labels})
	}
	if !r.Known() {
		return out
	}
	return append(out,
		report.Gauge{Name: "not_after_timestamp_seconds", Value: float64(r.Expiry.Unix()), Labels: labels},
		report.Gauge{Name: "not_before_timestamp_seconds", Value: float64(r.Leaf.NotBefore.Unix()), Labels: labels},
		report.Gauge{Name: "renewal_due_timestamp_seconds", Value: float64(r.Rule.Due.Unix()), Labels: labels},
		report.Gauge{Name: "alert_timestamp_seconds", Value: float64(r.Rule.Alert.Unix()), Labels: labels},
	)
}
