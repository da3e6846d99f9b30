// Package report carries the outcome of a run off the machine: an event to the
// platform's /api/metrics, a line to a webhook, and metrics to node_exporter's
// textfile directory or a Pushgateway. A destination that does not take its
// report is told as a Problem, never as the run's failure, and never holds the
// run up.
package report

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// Options say where reports go; an empty destination is off.
type Options struct {
	APIBaseURL  string        // events go to APIBaseURL/api/metrics
	Webhook     string        // Slack's form; the URL is a secret
	TextfileDir string        // node_exporter's --collector.textfile.directory
	Pushgateway string        // may hold user:password@
	Timeout     time.Duration // of one Send, all tries included; 0 is 5 s
	HTTP        *http.Client  // nil is a client of its own; redirects are not followed with either
	Now         func() time.Time
	Host        string // the Pushgateway's instance label; "" is the system's host name
	// Metrics are those that reports may have beside EveryJob; nil: any.
	Metrics []Metric
}

// Report is what one run has to say.
type Report struct {
	Job      string // metrics are named escrowctl_<job>_..., "dr-test" becoming dr_test
	Success  bool   // the work was done, perhaps with warnings
	ExitCode int
	// StartedAt and EndedAt bound the run; a zero EndedAt is now.
	StartedAt, EndedAt time.Time
	// LastSuccess is when an earlier run succeeded, if the caller knows. With a
	// failed run it stands in for a textfile or Pushgateway that lost it.
	LastSuccess time.Time
	Event       any    // JSON object for /api/metrics, a json.RawMessage going verbatim; nil for none
	Text        string // for the webhook; "" for none
	Gauges      []Gauge
}

// Gauge is one figure of a run, in base units (bytes, seconds, ratio).
type Gauge struct {
	Name   string // without escrowctl_<job>_
	Help   string // where Options.Metrics declares it, that one's
	Value  float64
	Labels map[string]string
}

// Kind is what went wrong with a destination.
type Kind string

// The kinds of problem.
const (
	Unserved    Kind = "unserved"    // the platform does not serve /api/metrics at all: tell it once
	Unreachable Kind = "unreachable" // no answer in time, or "not now": 429 and 5xx after all tries
	Rejected    Kind = "rejected"    // the destination answered and refused
	Local       Kind = "local"       // the report could not be made or written on this host
)

// The destinations as Problem names them.
const (
	ToAPI         = "/api/metrics"
	ToWebhook     = "webhook"
	ToTextfile    = "textfile"
	ToPushgateway = "pushgateway"
)

// Problem says that a destination did not take a report. No part of it holds a
// secret: of a webhook's URL it names the host only.
type Problem struct {
	Kind        Kind
	Destination string
	Cause       error
	Remedy      string
}

func (p Problem) Error() string {
	if p.Remedy == "" {
		return fmt.Sprintf("report: %s: %v", p.Destination, p.Cause)
	}
	return fmt.Sprintf("report: %s: %v: %s", p.Destination, p.Cause, p.Remedy)
}

func (p Problem) Unwrap() error { return p.Cause }

const (
	defaultTimeout = 5 * time.Second
	// grace is what a destination gets to return after the time limit before it
	// is left behind: a write to a hung network filesystem knows no deadline.
	grace = 250 * time.Millisecond
)

// Reporter sends reports. It is safe for concurrent use.
type Reporter struct {
	opt     Options
	client  *http.Client
	backoff time.Duration // before the second try; doubles
}

// New returns a reporter to the destinations of opt.
func New(opt Options) *Reporter {
	if opt.Timeout <= 0 {
		opt.Timeout = defaultTimeout
	}
	if opt.Now == nil {
		opt.Now = time.Now //nolint:forbidigo // the default
	}
	if opt.Host == "" {
		opt.Host, _ = os.Hostname()
	}
	return &Reporter{opt: opt, client: newClient(opt.HTTP), backoff: 200 * time.Millisecond}
}

// send is the way to one destination; it returns nil when the report arrived.
type send struct {
	to string
	do func(context.Context) *Problem
}

// Send carries rep to every destination at once and returns those that did not
// take it, in a fixed order. It returns within the time limit and a moment,
// whatever the destinations do. To report an interrupted run pass a context
// that is not cancelled (context.WithoutCancel).
func (r *Reporter) Send(ctx context.Context, rep Report) []Problem {
	if rep.EndedAt.IsZero() {
		rep.EndedAt = r.opt.Now()
	}
	if rep.StartedAt.IsZero() {
		rep.StartedAt = rep.EndedAt
	}
	ctx, cancel := context.WithTimeout(ctx, r.opt.Timeout)
	defer cancel()
	return gather(ctx, r.sends(rep))
}

func (r *Reporter) sends(rep Report) []send {
	var out []send
	if r.opt.APIBaseURL != "" && rep.Event != nil {
		out = append(out, send{ToAPI, func(ctx context.Context) *Problem { return r.event(ctx, rep.Event) }})
	}
	if r.opt.Webhook != "" && rep.Text != "" {
		out = append(out, send{ToWebhook, func(ctx context.Context) *Problem { return r.webhook(ctx, rep.Text) }})
	}
	if r.opt.TextfileDir != "" {
		out = append(out, send{ToTextfile, func(context.Context) *Problem { return r.textfile(rep) }})
	}
	if r.opt.Pushgateway != "" {
		out = append(out, send{ToPushgateway, func(ctx context.Context) *Problem { return r.pushgateway(ctx, rep) }})
	}
	return out
}

// gather runs all sends at once and leaves those behind that do not return.
func gather(ctx context.Context, sends []send) []Problem {
	type result struct {
		i int
		p *Problem
	}
	results := make(chan result, len(sends)) // room for all: a late one must not block for ever
	problems := make([]*Problem, len(sends))
	for i, s := range sends {
		problems[i] = &Problem{Kind: Unreachable, Destination: s.to, Cause: errLate}
		if s.to == ToTextfile {
			problems[i].Kind, problems[i].Remedy = Local, "check the filesystem of report.textfile_dir"
		}
		go func() { results <- result{i, s.do(ctx)} }()
	}
	var late <-chan time.Time
	done := ctx.Done()
	for pending := len(sends); pending > 0; {
		select {
		case res := <-results:
			problems[res.i] = res.p
			pending--
		case <-done:
			done, late = nil, time.After(grace)
		case <-late:
			pending = 0
		}
	}
	var out []Problem
	for _, p := range problems {
		if p != nil {
			out = append(out, *p)
		}
	}
	return out
}

var errLate = errors.New("it did not return in time and was left behind")
