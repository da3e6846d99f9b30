package check

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// DefaultLimit is the time limit of a probe that sets none.
const DefaultLimit = 10 * time.Second

// grace is how long a probe that has been told to stop may take to say what it
// was waiting for. That is worth more than "took too long".
const grace = 250 * time.Millisecond

// stackLines is how much of a panic's stack a result shows.
const stackLines = 12

// Result is what a check found.
type Result struct {
	// ID is stable over releases: scripts refer to it.
	ID     string `json:"id"`
	Status Status `json:"status"`
	// Summary is one line: the figure seen and the limit it was held against.
	Summary string   `json:"summary"`
	Detail  []string `json:"detail,omitempty"`
	// Action is what to do next; empty when there is nothing to do.
	Action string `json:"action,omitempty"`
	// Since is when the state began, where that is known.
	Since time.Time `json:"since,omitzero"`

	// Alert names the row of the runbook's table of alerts that applies, as
	// ServiceDown. From it come Priority, Deadline and Runbooks where they are
	// empty.
	Alert    string    `json:"alert,omitempty"`
	Priority string    `json:"priority,omitempty"` // P1 to P4
	Deadline time.Time `json:"deadline,omitzero"`  // by when to have responded
	Runbooks []string  `json:"runbooks,omitempty"` // RB-001, or a section

	// Figures are what was measured.
	Figures []Figure `json:"figures,omitempty"`
	// Parts are the things that one check looked at, where it is several: each
	// container, alert or filesystem that deserves a line of its own. The status
	// of the whole is never better than the worst part's.
	Parts []Result `json:"parts,omitempty"`
}

// Figure is a measured value and the limits it is held against.
type Figure struct {
	Name     string   `json:"name"` // as lag or used; unique within a result
	Unit     string   `json:"unit"` // seconds, bytes, ratio (0 to 1), days or count
	Value    float64  `json:"value"`
	Warning  *float64 `json:"warning,omitempty"`
	Critical *float64 `json:"critical,omitempty"`
}

// Probe is a check that can be run.
type Probe struct {
	ID string
	// Limit is the time after which the probe is given up; 0 is DefaultLimit.
	Limit time.Duration
	Run   func(ctx context.Context) Result
}

// WorstOf returns the gravest status of the results. Of no results it is
// Unknown: nothing was looked at, so nothing can be good.
func WorstOf(results []Result) Status {
	if len(results) == 0 {
		return Unknown
	}
	worst := OK
	for _, r := range results {
		worst = Worst(worst, r.Status)
	}
	return worst
}

// Run runs all probes at once and returns their results in the order of the
// probes. A probe that panics, overruns its limit or is interrupted with ctx is
// Unknown with the reason; a probe that does not heed its context is left
// behind, so Run returns soon after the longest limit at the latest. A late
// answer is kept only if it is Unknown or Critical.
func Run(ctx context.Context, probes []Probe) []Result {
	results := make([]Result, len(probes))
	var wg sync.WaitGroup
	for i, p := range probes {
		wg.Go(func() { results[i] = runOne(ctx, p) })
	}
	wg.Wait()
	return results
}

func runOne(parent context.Context, p Probe) Result {
	limit := p.Limit
	if limit <= 0 {
		limit = DefaultLimit
	}
	ctx, cancel := context.WithTimeout(parent, limit)
	defer cancel()

	answer := make(chan Result, 1)
	go guarded(ctx, p, answer)

	select {
	case r := <-answer:
		// Both may be ready at once: the limit decides, not the scheduler.
		if ctx.Err() == nil {
			return r
		}
		return late(ctx, p.ID, limit, &r)
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case r := <-answer:
		return late(ctx, p.ID, limit, &r)
	case <-timer.C:
		return late(ctx, p.ID, limit, nil)
	}
}

// late is the result of a probe that did not answer in time.
func late(ctx context.Context, id string, limit time.Duration, answer *Result) Result {
	if answer != nil && answer.Status >= Unknown {
		return *answer
	}
	r := Result{ID: id, Status: Unknown, Summary: fmt.Sprintf("no answer within %s", limit)}
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		r.Summary = "interrupted before it answered"
	}
	if answer != nil && answer.Summary != "" {
		r.Detail = []string{fmt.Sprintf("answered too late: %s: %s", answer.Status, answer.Summary)}
	}
	return r
}

// guarded runs the probe and sends its result, whatever the probe does: a panic
// and a goroutine that ends itself become results too.
func guarded(ctx context.Context, p Probe, answer chan<- Result) {
	var r Result
	returned := false
	defer func() {
		cause := recover()
		switch {
		case cause != nil:
			r = Result{Status: Unknown, Summary: fmt.Sprintf("the check itself failed: panic: %v", cause), Detail: stack()}
		case !returned:
			r = Result{Status: Unknown, Summary: "the check itself failed: it ended without a result"}
		}
		if r.ID == "" {
			r.ID = p.ID
		}
		answer <- r
	}()
	if p.Run == nil {
		r = Result{Status: Unknown, Summary: "the check itself failed: there is nothing to run"}
	} else {
		r = p.Run(ctx)
	}
	returned = true
}

func stack() []string {
	lines := strings.Split(strings.TrimSpace(string(debug.Stack())), "\n")
	return lines[:min(len(lines), stackLines)]
}
