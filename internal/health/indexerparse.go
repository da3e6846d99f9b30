package health

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxLag is the longest lag that is believed, in seconds: the network is younger.
const maxLag = 20 * 365 * 24 * 3600

// indexerHealth is the answer of /health.
type indexerHealth struct {
	status   string // ok or degraded
	database string // connected, or what is wrong
	at       time.Time

	// The lag where the release tells it: lagFrom is the key, lagErr what is
	// wrong with its value.
	lag     time.Duration
	lagFrom string
	lagErr  error
}

func parseHealth(body []byte) (indexerHealth, error) {
	o, err := parseObject(body)
	if err != nil {
		return indexerHealth{}, err
	}
	var h indexerHealth
	if h.status, err = o.text("status"); err != nil {
		return h, err
	}
	if h.status != "ok" && h.status != "degraded" {
		return h, fmt.Errorf("status is %s, neither ok nor degraded", excerpt([]byte(h.status)))
	}
	if h.database, err = o.text("database"); err != nil {
		return h, err
	}
	if o.has("timestamp") {
		if h.at, err = o.time("timestamp"); err != nil {
			return h, err
		}
	}
	switch {
	case o.has("lag_seconds"):
		var n float64
		n, h.lagErr = o.number("lag_seconds", 0, maxLag)
		h.lag, h.lagFrom = seconds(n), "lag_seconds"
	case o.has("ledger_lag"):
		var n int64
		n, h.lagErr = o.whole("ledger_lag", 0)
		if h.lagErr == nil && n > maxLag/5 {
			h.lagErr = fmt.Errorf("ledger_lag is %d, which cannot be", n)
		}
		h.lag, h.lagFrom = time.Duration(min(n, maxLag))*ledgerTime, "ledger_lag"
	}
	return h, nil
}

// parseLastLedger reads last_ledger_processed of /health/metrics; there is false
// if the release has no such key. null, which is what an indexer says that has
// processed nothing since its start, is an error.
func parseLastLedger(body []byte) (last int64, there bool, err error) {
	o, err := parseObject(body)
	if err != nil {
		return 0, false, err
	}
	const key = "last_ledger_processed"
	if !o.has(key) {
		return 0, false, nil
	}
	last, err = o.whole(key, 1)
	if err != nil && string(o[key]) == "null" {
		err = errors.New(key + " is null: it has processed nothing since its start")
		if up, uerr := o.number("uptime_seconds", 0, maxLag); uerr == nil {
			err = fmt.Errorf("%w %s ago", err, span(seconds(up)))
		}
	}
	return last, true, err
}

// indexerReady is the answer of /health/ready.
type indexerReady struct {
	status     string // healthy, degraded or unhealthy
	components []component
}

type component struct{ name, status, message string }

// maxComponents is how many parts of an answer are looked at.
const maxComponents = 20

func parseReady(body []byte) (indexerReady, error) {
	o, err := parseObject(body)
	if err != nil {
		return indexerReady{}, err
	}
	var r indexerReady
	if r.status, err = o.text("status"); err != nil {
		return r, err
	}
	if !slices.Contains([]string{"healthy", "degraded", "unhealthy"}, r.status) {
		return r, fmt.Errorf("status is %s, neither healthy, degraded nor unhealthy", excerpt([]byte(r.status)))
	}
	parts, err := o.objects("components")
	if err != nil {
		return r, err
	}
	for _, part := range parts[:min(len(parts), maxComponents)] {
		var c component
		if c.name, err = part.text("name"); err != nil {
			return r, fmt.Errorf("components: %w", err)
		}
		if c.status, err = part.text("status"); err != nil {
			return r, fmt.Errorf("components: %w", err)
		}
		c.message, _ = part.text("message") // for people only
		r.components = append(r.components, c)
	}
	return r, nil
}

// ill names the parts that are not healthy.
func (r indexerReady) ill() string {
	var ill []string
	for _, c := range r.components {
		if c.status != "healthy" {
			ill = append(ill, strings.TrimSpace(fmt.Sprintf("%s %s %s", clean(c.name), clean(c.status), clean(c.message))))
		}
	}
	if len(ill) == 0 {
		return ""
	}
	return ": " + strings.Join(ill, "; ")
}

// horizonRoot is what Horizon says of itself.
type horizonRoot struct {
	latest   int64
	closedAt time.Time // of the latest ledger; zero if it does not say
}

func parseHorizon(body []byte) (horizonRoot, error) {
	o, err := parseObject(body)
	if err != nil {
		return horizonRoot{}, err
	}
	var h horizonRoot
	if h.latest, err = o.whole("history_latest_ledger", 1); err != nil {
		return h, err
	}
	if o.has("history_latest_ledger_closed_at") {
		h.closedAt, err = o.time("history_latest_ledger_closed_at")
	}
	return h, err
}
