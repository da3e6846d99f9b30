package health

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/httpx"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// ClockSource is another clock.
type ClockSource struct {
	Name string
	// Outside says that it is another machine's: one of this host's containers
	// has this host's clock, and proves nothing.
	Outside bool
	// Read returns its time, and how coarsely it is told: the true time lies
	// from there to that much later.
	Read func(ctx context.Context) (at time.Time, coarse time.Duration, err error)
}

// ClockOptions say which clocks to compare with.
type ClockOptions struct {
	Sources []ClockSource
	Limits  Limits
	Limit   time.Duration
	Now     func() time.Time
}

// ClockID is the check's ID.
const ClockID = "clock"

// Clock compares this host's clock with others. What the network took is given
// as benefit of the doubt.
func Clock(opt ClockOptions) check.Probe {
	return check.Probe{ID: ClockID, Limit: orLimit(opt.Limit), Run: (&clockCheck{opt}).run}
}

type clockCheck struct{ ClockOptions }

// reading is what one source said.
type reading struct {
	offset time.Duration // this clock minus the other's, at the least
	err    error
}

func (x *clockCheck) run(ctx context.Context) check.Result {
	ctx, cancel := withMargin(ctx)
	defer cancel()
	r := check.Result{ID: ClockID, Status: check.OK}
	readings := x.read(ctx)
	var agree, silent []string
	outside := false
	worst := time.Duration(0)
	for i, s := range x.Sources {
		got := readings[i]
		if got.err != nil {
			silent = append(silent, s.Name+": "+oneLine(got.err))
			continue
		}
		outside = outside || s.Outside
		agree = append(agree, s.Name)
		r.Detail = append(r.Detail, fmt.Sprintf("%s: %s", s.Name, offsetText(got.offset)))
		if got.offset.Abs() > worst.Abs() {
			worst = got.offset
		}
	}
	limit := x.Limits.of(runbook.ClockOffset)
	if len(agree) == 0 {
		r.Status, r.Summary, r.Action, r.Detail = check.Unknown, "no other clock answered", "timedatectl", silent
		if len(x.Sources) == 0 {
			r.Summary = "there is no other clock to compare with: set database.url, horizon.url or s3.bucket"
		}
		return r
	}
	r.Figures = []check.Figure{{Name: "offset", Unit: "seconds", Value: worst.Seconds(), Warning: &limit.Warning, Critical: &limit.Critical}}
	switch level, _ := limit.Judge(worst.Abs().Seconds()); level {
	case runbook.Critical:
		r.Status = check.Critical
	case runbook.Warning:
		r.Status = check.Warning
	}
	if r.Status != check.OK {
		r.Summary = fmt.Sprintf("this host's clock is %s, limit %s", offsetText(worst), inUnit(limit.Unit, limit.Warning))
		r.Action = "timedatectl; chronyc tracking"
	} else {
		r.Summary = "agrees with " + strings.Join(agree, " and ")
		if len(agree) > 2 { // which they are, the details say
			r.Summary = fmt.Sprintf("agrees with %d clocks", len(agree))
		}
		if !outside {
			r.Summary += " (on this host: no outside clock)"
		}
	}
	for _, s := range silent {
		r.Detail = append(r.Detail, "not asked: "+s)
	}
	return r
}

func (x *clockCheck) read(ctx context.Context) []reading {
	out := make([]reading, len(x.Sources))
	var wg sync.WaitGroup
	for i, s := range x.Sources {
		wg.Go(func() {
			before := x.Now()
			at, coarse, err := s.Read(ctx)
			out[i] = reading{offset: least(before, x.Now(), at, coarse), err: err}
		})
	}
	wg.Wait()
	return out
}

// least is the least offset of this clock, which showed before and after the
// reading, that explains what the other said: it read some time from at to
// coarse later.
func least(before, after, at time.Time, coarse time.Duration) time.Duration {
	switch {
	case at.After(after): // ours is behind, at least by
		return after.Sub(at)
	case at.Add(coarse).Before(before): // ours is ahead
		return before.Sub(at.Add(coarse))
	}
	return 0
}

func offsetText(d time.Duration) string {
	switch {
	case d > 0:
		return exact(d) + " ahead"
	case d < 0:
		return exact(-d) + " behind"
	}
	return "the same"
}

// exact writes an offset to the second, or finer where it is small.
func exact(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1f s", math.Floor(d.Seconds()*10)/10)
	}
	return span(d)
}

// HTTPClock reads the Date header of an HTTP server's answer, whatever the
// answer is.
func HTTPClock(client *httpx.Client, address string) func(ctx context.Context) (time.Time, time.Duration, error) {
	return func(ctx context.Context) (time.Time, time.Duration, error) {
		answer, err := client.Get(ctx, httpx.Request{URL: address, AnyStatus: true})
		if err == nil && answer.Date.IsZero() {
			err = errors.New("its answer has no Date that can be read")
		}
		return answer.Date, time.Second, err
	}
}
