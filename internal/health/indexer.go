package health

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/httpx"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// platformLimit is the time limit of a check of one of the platform's services.
const platformLimit = 3 * time.Second

// ledgerTime is how often a ledger of the Stellar network closes.
const ledgerTime = 5 * time.Second

// IndexerID is the ID of the check.
const IndexerID = "indexer"

// IndexerOptions say where the indexer and what it is compared with are.
type IndexerOptions struct {
	URL        string // of the indexer: /health and so on are below it
	HorizonURL string // empty: none
	// EventAge returns the age of the newest row of the table of events, as the
	// database sees it; found is false if the table is empty. nil: no database.
	EventAge func(ctx context.Context) (age time.Duration, found bool, err error)

	Client *httpx.Client
	Limits Limits
	Limit  time.Duration // 0: 3 s
	Now    func() time.Time
}

// Indexer checks that the indexer is well and how far it lags behind the
// network: by what /health says of the lag, else by the last ledger it has
// processed against Horizon's latest, else by the newest row of the table of
// events. A source that is there and talks nonsense makes it Unknown; the next
// one is asked only where a source is not there.
func Indexer(opt IndexerOptions) check.Probe {
	x := indexer{opt}
	return check.Probe{ID: IndexerID, Limit: orLimit(opt.Limit), Run: x.run}
}

func orLimit(d time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return platformLimit
}

type indexer struct{ IndexerOptions }

// asked waits for the answer to a request that was sent.
type asked func() (httpx.Answer, error)

const (
	indexerLogs = "docker compose logs --tail 50 indexer"
	rbIndexer   = "RB-002"
	rbNetwork   = "RB-007"
)

func (x *indexer) run(ctx context.Context) check.Result {
	ctx, cancel := withMargin(ctx)
	defer cancel()
	base := strings.TrimSuffix(x.URL, "/")
	get := func(ctx context.Context, url string) asked {
		return x.Client.Begin(ctx, httpx.Request{URL: url, AnyStatus: true})
	}
	health, ready, metrics := get(ctx, base+"/health"), get(ctx, base+"/health/ready"), get(ctx, base+"/health/metrics")
	var horizon asked
	if x.HorizonURL != "" {
		// Half of the time: what Horizon does not say the events may.
		hctx, cancel := context.WithTimeout(ctx, orLimit(x.Limit)/2)
		defer cancel()
		horizon = get(hctx, x.HorizonURL)
	}
	f := findings{limits: x.Limits}
	h, ok := x.health(&f, health)
	if ok {
		x.ready(&f, ready)
		x.lag(ctx, &f, h, metrics, horizon)
	}
	return f.result(IndexerID)
}

// health judges the answer of /health. It is not ok if nothing further can be
// learnt from this indexer.
func (x *indexer) health(f *findings, asked asked) (indexerHealth, bool) {
	a, err := asked()
	if err != nil {
		f.add(serviceFault(err, indexerLogs, rbIndexer))
		return indexerHealth{}, false
	}
	if bad := badStatus(a, "the indexer", "report.api_base_url", indexerLogs, rbIndexer); bad != nil && a.Status != http.StatusServiceUnavailable {
		f.add(*bad)
		return indexerHealth{}, false
	}
	h, err := parseHealth(a.Body)
	if err != nil {
		x := finding{status: check.Unknown, text: fmt.Sprintf("%s: %v", a.URL, err), action: indexerLogs}
		if a.Status >= 500 {
			x.status, x.alert, x.runbooks = check.Critical, runbook.ServiceDown, []string{rbIndexer}
			x.text = fmt.Sprintf("%s answers %d, and %v", a.URL, a.Status, err)
		}
		f.add(x)
		return indexerHealth{}, false
	}
	if age := x.Now().Sub(h.at); !h.at.IsZero() && age > staleAnswer {
		f.unknown("", "%s: the answer is %s old: something answers in the indexer's place, or a clock is wrong", a.URL, span(age))
		return indexerHealth{}, false
	}
	down := finding{status: check.Critical, action: indexerLogs, alert: runbook.ServiceDown, runbooks: []string{rbIndexer}}
	switch {
	case h.database != "connected":
		down.text = "the indexer has no database: " + clean(h.database)
		down.runbooks = []string{"RB-001", rbIndexer}
		f.add(down)
	case a.Status != http.StatusOK:
		down.text = fmt.Sprintf("%s answers %d, status %s", a.URL, a.Status, h.status)
		f.add(down)
	case h.status != "ok":
		f.add(finding{status: check.Warning, text: "the indexer says that it is " + h.status, action: indexerLogs, runbooks: []string{rbIndexer}})
	default:
		f.fact("ok")
	}
	return h, true
}

// staleAnswer is the age from which an answer was not made for this question.
const staleAnswer = 5 * time.Minute

// ready adds what /health/ready says of the indexer's parts. Releases without
// it are left alone.
func (x *indexer) ready(f *findings, asked asked) {
	a, err := asked()
	if err == nil && a.Status == http.StatusNotFound {
		return
	}
	var r indexerReady
	if err == nil {
		if r, err = parseReady(a.Body); err != nil {
			err = fmt.Errorf("%s: %w", a.URL, err)
		}
	}
	if err != nil {
		f.unknown(indexerLogs, "%v", err)
		return
	}
	bad := finding{action: indexerLogs, runbooks: []string{rbIndexer}, text: "the indexer is " + r.status + r.ill()}
	switch r.status {
	case "healthy":
		return
	case "degraded":
		bad.status = check.Warning
	default:
		bad.status, bad.alert = check.Critical, runbook.ServiceDown
	}
	f.add(bad)
}

// lag judges the lag by the first source that there is; horizon is nil if none
// is configured.
func (x *indexer) lag(ctx context.Context, f *findings, h indexerHealth, metrics, horizon asked) {
	if h.lagErr != nil {
		f.unknown(indexerLogs, "the lag in /health: %v", h.lagErr)
		return
	}
	if h.lagFrom != "" {
		x.judge(f, h.lag, "/health "+h.lagFrom)
		return
	}
	if horizon != nil {
		lag, there, err := x.ledgerLag(metrics, horizon)
		var network *networkError
		switch {
		case errors.As(err, &network):
			// What the events prove holds all the same.
			f.add(finding{status: check.Warning, text: network.says, runbooks: []string{rbNetwork}, action: "curl -sS -m 5 " + x.HorizonURL})
		case err != nil:
			f.unknown(indexerLogs, "%v", err)
			return
		case there:
			x.judge(f, lag, "ledger against Horizon's")
			return
		}
	}
	x.eventLag(ctx, f)
}

func (x *indexer) judge(f *findings, lag time.Duration, source string) {
	bad := finding{
		text: fmt.Sprintf("%s behind (%s)", span(lag), source), action: indexerLogs,
		alert: runbook.IndexerLagAlert, since: x.Now().Add(-lag),
	}
	if !f.judge("lag", runbook.IndexerLag, lag.Seconds(), bad) {
		f.fact("%s behind (%s)", span(lag), source)
	}
}

// networkError is that Horizon, not the indexer, is at fault.
type networkError struct{ says string }

func (e *networkError) Error() string { return e.says }

// ledgerLag compares the last ledger processed with Horizon's latest. there is
// false for an indexer that does not tell its ledger.
func (x *indexer) ledgerLag(metrics, horizon asked) (lag time.Duration, there bool, err error) {
	a, err := metrics()
	switch {
	case err != nil:
		return 0, false, err
	case a.Status == http.StatusNotFound:
		return 0, false, nil
	case a.Status != http.StatusOK:
		return 0, false, fmt.Errorf("%s answers %d", a.URL, a.Status)
	}
	last, there, err := parseLastLedger(a.Body)
	if err != nil {
		return 0, false, fmt.Errorf("%s: %w", a.URL, err)
	}
	if !there {
		return 0, false, nil
	}
	latest, err := x.latest(horizon)
	if err != nil {
		return 0, false, err
	}
	behind := time.Duration(latest-last) * ledgerTime
	if behind < -staleAnswer {
		return 0, false, fmt.Errorf("the indexer is %d ledgers ahead of Horizon (%s): is horizon.url of the same network?", last-latest, x.HorizonURL)
	}
	return max(0, behind), true, nil
}

// latest is Horizon's latest ledger, if Horizon itself is up to date. Its error
// is a networkError.
func (x *indexer) latest(horizon asked) (int64, error) {
	fault := func(format string, args ...any) error {
		return &networkError{"Horizon: " + fmt.Sprintf(format, args...)}
	}
	a, err := horizon()
	if err != nil {
		return 0, fault("%v", err)
	}
	if a.Status != http.StatusOK {
		return 0, fault("%s answers %d", a.URL, a.Status)
	}
	h, err := parseHorizon(a.Body)
	if err != nil {
		return 0, fault("%s: %v", a.URL, err)
	}
	if age := x.Now().Sub(h.closedAt); !h.closedAt.IsZero() && age > staleAnswer {
		return 0, fault("%s: its latest ledger closed %s ago", a.URL, span(age))
	}
	return h.latest, nil
}

// eventLag judges by the newest row of the table of events.
func (x *indexer) eventLag(ctx context.Context, f *findings) {
	const wayOut = "set HORIZON_URL, so that ledgers can be compared"
	if x.EventAge == nil {
		f.unknown(wayOut, "the lag is not known: /health does not tell it, and there is no ledger, Horizon or database to go by")
		return
	}
	age, found, err := x.EventAge(ctx)
	switch {
	case err != nil:
		f.unknown(wayOut, "the lag is not known: newest event: %s", clean(err.Error()))
	case !found:
		f.unknown(wayOut, "the lag is not known: there are no events yet")
	case age < -staleAnswer:
		f.unknown(wayOut, "the newest event is %s in the future", span(-age))
	default:
		x.judge(f, max(0, age), "newest event")
	}
}

// withMargin ends a little before ctx does, so that there is time to say what
// was waited for.
func withMargin(ctx context.Context) (context.Context, context.CancelFunc) {
	const margin = 50 * time.Millisecond
	if end, ok := ctx.Deadline(); ok {
		return context.WithDeadline(ctx, end.Add(-margin))
	}
	return context.WithCancel(ctx)
}

// serviceFault is the finding for a service of the platform that gave no answer
// which can be read.
func serviceFault(err error, action, rb string) finding {
	x := finding{status: check.Unknown, text: err.Error(), action: action}
	if httpx.Down(err) {
		x.status, x.alert, x.runbooks = check.Critical, runbook.ServiceDown, []string{rb}
	}
	return x
}

// badStatus is the finding for an answer that is no 200, nil for one that is.
// setting names where the address comes from.
func badStatus(r httpx.Answer, who, setting, action, rb string) *finding {
	switch {
	case r.Status == http.StatusOK:
		return nil
	case r.Status >= 500:
		return &finding{
			status: check.Critical, text: fmt.Sprintf("%s answers %d %s", r.URL, r.Status, http.StatusText(r.Status)),
			action: action, alert: runbook.ServiceDown, runbooks: []string{rb},
		}
	default:
		return &finding{
			status: check.Unknown, text: fmt.Sprintf("%s answers %d %s", r.URL, r.Status, http.StatusText(r.Status)),
			action: fmt.Sprintf("check that %s is the address of %s", setting, who),
		}
	}
}
