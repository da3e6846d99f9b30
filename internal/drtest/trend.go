package drtest

import (
	"fmt"
	"math"
	"time"
)

// Past is an earlier test that passed.
type Past struct {
	At      time.Time
	Restore time.Duration
	Size    int64 // bytes of the backup
	Rows    int64
	Engine  string
}

// Trend is how the time of a restore changes from test to test.
type Trend struct {
	Runs   int           // looked at
	PerRun time.Duration // by which it grows
	Runway int           // tests until the RTO is reached; -1 for never
	Until  time.Time     // when that is, at the pace of the tests so far
	RTO    time.Duration
	Last   time.Duration
	Warn   bool
}

const (
	// trendRuns is how many tests a trend looks at: a year of months.
	trendRuns = 12
	// LeastRuns is from how many there is a trend: fewer are noise.
	LeastRuns = 4
	// soonRuns is the number of tests before which reaching the RTO is a warning.
	soonRuns = 3
	// nearRatio is the share of the RTO from which a growing time is a warning.
	nearRatio = 0.8
)

// TrendOf fits a line to the tests, newest first, that the newest one's engine
// made. It is nil if there are too few.
func TrendOf(tests []Past, rto time.Duration) *Trend {
	var used []Past
	for _, t := range tests {
		if t.Restore > 0 && t.Engine == tests[0].Engine && len(used) < trendRuns {
			used = append(used, t)
		}
	}
	n := len(used)
	if n < LeastRuns {
		return nil
	}
	// x is the number of the test, the oldest first.
	var sx, sy, sxx, sxy float64
	for i, t := range used {
		x, y := float64(n-1-i), t.Restore.Seconds()
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	slope := (float64(n)*sxy - sx*sy) / (float64(n)*sxx - sx*sx)
	t := &Trend{Runs: n, PerRun: time.Duration(slope * float64(time.Second)), RTO: rto, Last: used[0].Restore, Runway: -1}
	fitted := (sy-slope*sx)/float64(n) + slope*float64(n-1) // of the newest test
	if rto > 0 && slope > 0 {
		left := math.Ceil((rto.Seconds() - max(fitted, t.Last.Seconds())) / slope)
		t.Runway = int(min(max(left, 0), 1e6))
		every := used[0].At.Sub(used[n-1].At) / time.Duration(n-1)
		if t.Runway < 1000 {
			t.Until = used[0].At.Add(every * time.Duration(t.Runway))
		}
		grows := slope*float64(n-1) > 0.05*t.Last.Seconds() // more than what one test differs from the next
		t.Warn = grows && (t.Runway <= soonRuns || t.Last.Seconds() > nearRatio*rto.Seconds())
	}
	return t
}

// String says it in one line.
func (t *Trend) String() string {
	share := t.PerRun.Seconds() / max(t.Last.Seconds(), 0.001)
	if math.Abs(share) < 0.01 {
		return fmt.Sprintf("the time of a restore stays as it is (%s over %d tests)", exactly(t.Last), t.Runs)
	}
	if t.PerRun < 0 {
		return fmt.Sprintf("a restore gets faster by %s a test, over %d tests", exactly(-t.PerRun), t.Runs)
	}
	text := fmt.Sprintf("a restore takes %s longer with each test, over %d tests", exactly(t.PerRun), t.Runs)
	switch {
	case t.RTO == 0:
	case t.Runway == 0:
		text += fmt.Sprintf(": the RTO of %s is reached", roughly(t.RTO))
	case t.Until.IsZero():
		text += fmt.Sprintf(": the RTO of %s is far", roughly(t.RTO))
	default:
		text += fmt.Sprintf(": the RTO of %s is reached in %d tests, about %s", roughly(t.RTO), t.Runway, t.Until.UTC().Format("2006-01-02"))
	}
	return text
}
