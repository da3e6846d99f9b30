package certs

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
)

// lifetimes are those of the issue and a few that are stranger.
func lifetimes() []time.Duration {
	return []time.Duration{12 * time.Hour, day, 6 * day, 160 * time.Hour, 10 * day, 45 * day, 47 * day, 64 * day, 90 * day, 398 * day, 3650 * day}
}

const step = time.Hour

// attempts is the number of cron's attempts in (from, to].
func attempts(from, to time.Time) int {
	const every = 12 * time.Hour
	return int(to.Unix()/int64(every.Seconds()) - from.Unix()/int64(every.Seconds()))
}

// windows are the CA's suggestions tried for each lifetime: none, around the
// rule's moment, early and late.
func windows(notBefore time.Time, life time.Duration) map[string]*Window {
	around := func(share float64) *Window {
		middle := notBefore.Add(time.Duration(float64(life) * share))
		return &Window{Start: middle.Add(-life / 50), End: middle.Add(life / 50)}
	}
	return map[string]*Window{"no ARI": nil, "ARI at two thirds": around(2.0 / 3), "ARI at half": around(0.5)}
}

// TestNormalCycle walks through every hour of every lifetime: as long as the
// renewal comes with cron's second attempt at the latest, nothing alarms.
func TestNormalCycle(t *testing.T) {
	t.Parallel()
	for _, life := range lifetimes() {
		for name, window := range windows(at(), life) {
			t.Run(fmt.Sprint(life, " ", name), func(t *testing.T) {
				r := NewRule(at(), at().Add(life), at().Add(life), window, Overrides{})
				// A client goes by the CA's window or by the lifetime.
				last := r.Expiry.Add(-r.DueSpan)
				if window != nil {
					last = window.End
				}
				for now := at(); !now.After(r.Expiry); now = now.Add(step) {
					failed := attempts(last, now)
					if now.Before(last) {
						failed = 0
					}
					if failed >= 2 || now.Sub(last) > r.Expiry.Sub(last)/4 {
						break // renewed by then
					}
					if stage, status := r.Stage(now, failed); status != check.OK || stage > Due {
						t.Fatalf("alarm in a normal cycle, with %s left: %s after %d attempts: %s", r.Expiry.Sub(now), status, failed, r)
					}
				}
			})
		}
	}
}

// TestFailingRenewal walks through the rest of the life when renewal fails. The
// first alarm must come 24 h, or a third of what was left when it became due,
// before the end, whether or not the attempts are recorded; it must get graver
// and never go away.
func TestFailingRenewal(t *testing.T) {
	t.Parallel()
	for _, life := range lifetimes() {
		for name, window := range windows(at(), life) {
			for _, recorded := range []bool{true, false} {
				t.Run(fmt.Sprint(life, " ", name, " recorded ", recorded), func(t *testing.T) {
					r := NewRule(at(), at().Add(life), at().Add(life), window, Overrides{})
					need := min(day, r.Expiry.Sub(r.Due)/3)
					var warned, critical time.Time
					worst := check.OK
					for now := at(); !now.After(r.Expiry.Add(day)); now = now.Add(10 * time.Minute) {
						failed := 0
						if recorded && now.After(r.Due) {
							failed = attempts(r.Due, now)
						}
						stage, status := r.Stage(now, failed)
						if status < worst {
							t.Fatalf("with %s left the alarm went from %s to %s", r.Expiry.Sub(now), worst, status)
						}
						worst = status
						if status >= check.Warning && warned.IsZero() {
							warned = now
						}
						if status == check.Critical && critical.IsZero() {
							critical = now
						}
						if now.After(r.Expiry) && (stage != Ended || status != check.Critical) {
							t.Fatalf("expired, and it says %v, %s", stage, status)
						}
					}
					if left := r.Expiry.Sub(warned); warned.IsZero() || left < need {
						t.Errorf("first alarm with %s left, want %s: %s", left, need, r)
					}
					half := r.DueSpan / 2
					if window != nil {
						half = min(half, max(r.Expiry.Sub(window.End), half)/2)
					}
					if left := r.Expiry.Sub(critical); left < half-10*time.Minute {
						t.Errorf("critical only with %s left: %s", left, r)
					}
				})
			}
		}
	}
}

// TestWindowTooLate: no suggestion of the CA's can put the alarm off for ever.
func TestWindowTooLate(t *testing.T) {
	end := at().Add(90 * day)
	for _, late := range []time.Duration{-10 * day, -day, day, 400 * day} {
		r := NewRule(at(), end, end, &Window{Start: end.Add(late - day), End: end.Add(late)}, Overrides{})
		if _, status := r.Stage(end.Add(-10*day), 0); status < check.Warning {
			t.Errorf("with 10 days left and a window that ends %s after the end: %s: %s", late, status, r)
		}
		if stage, status := r.Stage(end.Add(-5*day), 0); status != check.Critical || stage != Failing {
			t.Errorf("with 5 days left and a window that ends %s after the end: %s: %s", late, status, r)
		}
	}
}

// TestHardThirtyDays shows what the rule replaces: it would alarm in half of a
// 45-day certificate's normal cycle.
func TestHardThirtyDays(t *testing.T) {
	life := 45 * day
	r := NewRule(at(), at().Add(life), at().Add(life), nil, Overrides{WarnDays: 30, CriticalDays: 14})
	alarmed := 0
	for now := at(); now.Before(r.Due); now = now.Add(step) {
		if _, status := r.Stage(now, 0); status != check.OK {
			alarmed++
		}
	}
	if share := float64(alarmed) / float64(30*24); share < 0.45 || share > 0.55 {
		t.Errorf("a hard 30 days alarm in %.0f %% of a 45-day certificate's normal cycle", 100*share)
	}
}

func TestRuleFigures(t *testing.T) {
	for _, tt := range []struct {
		life                time.Duration
		due, warn, crit, p2 time.Duration // left
	}{
		{6 * day, 72 * time.Hour, 48 * time.Hour, 36 * time.Hour, 36 * time.Hour},
		{45 * day, 15 * day, 14 * day, 7*day + 12*time.Hour, 14 * day},
		{64 * day, 512 * time.Hour, 488 * time.Hour, 256 * time.Hour, 14 * day},
		{90 * day, 30 * day, 29 * day, 15 * day, 15 * day},
		{398 * day, 30 * day, 29 * day, 15 * day, 15 * day},
	} {
		r := NewRule(at(), at().Add(tt.life), at().Add(tt.life), nil, Overrides{})
		left := func(m time.Time) time.Duration { return r.Expiry.Sub(m) }
		if left(r.Due) != tt.due || left(r.Warn) != tt.warn || left(r.Critical) != tt.crit || left(r.Alert) != tt.p2 {
			t.Errorf("%s: %s, P2 with %s; want due %s, warning %s, critical %s, P2 %s", tt.life, r, left(r.Alert), tt.due, tt.warn, tt.crit, tt.p2)
		}
	}
	r := NewRule(at(), at().Add(90*day), at().Add(90*day), nil, Overrides{WarnDays: 40, CriticalDays: 10})
	if _, status := r.Stage(at().Add(55*day), 0); status != check.Warning {
		t.Errorf("35 days left with warn_days 40 is %s", status)
	}
	if _, status := r.Stage(at().Add(76*day), 0); status != check.Warning {
		t.Errorf("14 days left with critical_days 10 is %s", status)
	}
	if !strings.Contains(r.String(), "warning with 40 d, critical with 10 d") || !strings.Contains(r.String(), "of the configuration") {
		t.Errorf("the rule reads %q", r)
	}
}
