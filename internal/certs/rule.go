package certs

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// Window is when the CA suggests to renew (RFC 9773).
type Window struct {
	Start       time.Time
	End         time.Time
	Explanation string // a page of the CA's, where it gives one
}

// Overrides replace figures of the rule; 0 keeps the rule's own.
type Overrides struct {
	WarnDays     int // left from which it is a warning
	CriticalDays int // left from which it is critical
}

// Rule says when a certificate's renewal is due, and when its absence is an
// alarm. A hard number of days would cry wolf on short-lived certificates, so
// all figures follow from the lifetime.
type Rule struct {
	Lifetime time.Duration
	Expiry   time.Time
	// DueSpan is how long before the expiry renewal is due by the lifetime alone.
	DueSpan time.Duration
	// Due is when renewal becomes due: by the CA's word, or by DueSpan.
	Due time.Time
	// Warn is when two attempts have been missed, Critical when half of the due
	// span has passed, or what the overrides say.
	Warn, Critical time.Time
	// Alert is when the runbook's TLSCertExpiringSoon holds.
	Alert time.Time
	// Why words where Due comes from.
	Why string
	// Overridden says that the configuration has set Warn or Critical.
	Overridden bool
}

// missedAttempts is how many attempts in a row may pass without a renewal
// before it is a warning: one may meet a CA in maintenance.
const missedAttempts = 2

// NewRule makes the rule for a certificate that is valid from notBefore to
// notAfter, and of which the whole chain ends at expiry. window may be nil.
func NewRule(notBefore, notAfter, expiry time.Time, window *Window, over Overrides) Rule {
	r := Rule{Lifetime: notAfter.Sub(notBefore), Expiry: expiry}
	r.DueSpan, r.Why = dueSpan(r.Lifetime)
	r.Due = expiry.Add(-r.DueSpan)

	// A client that goes by the CA's window renews somewhere in it: until its
	// end nothing has been missed. A window that leaves less than half of the due
	// span would put the alarm off too far, and is cut there.
	base := r.Due
	if window != nil {
		r.Due, r.Why = window.Start, "as the CA suggests (ARI)"
		base = window.End
		if latest := expiry.Add(-r.DueSpan / 2); base.After(latest) {
			base = latest
		}
		if r.Due.After(base) {
			r.Due = base
		}
	}
	span := min(r.DueSpan, expiry.Sub(base))
	r.Warn = base.Add(min(missedAttempts*runbook.CertRenewEvery, span/3))
	r.Critical = expiry.Add(-span / 2)
	r.Alert = r.Critical
	// The runbook's 14 days mean something where no normal cycle comes near.
	if alert := days(runbook.CertAlertDays); span-missedAttempts*runbook.CertRenewEvery >= alert && expiry.Add(-alert).Before(r.Alert) {
		r.Alert = expiry.Add(-alert)
	}
	r.override(over)
	return r
}

func (r *Rule) override(over Overrides) {
	if over.WarnDays > 0 {
		r.Warn, r.Overridden = r.Expiry.Add(-days(over.WarnDays)), true
	}
	if over.CriticalDays > 0 {
		r.Critical, r.Overridden = r.Expiry.Add(-days(over.CriticalDays)), true
	}
	if r.Critical.Before(r.Alert) {
		r.Alert = r.Critical
	}
}

func days(n int) time.Duration { return time.Duration(n) * runbook.Day }

// dueSpan is how long before its end a certificate of that lifetime is due.
func dueSpan(lifetime time.Duration) (span time.Duration, why string) {
	switch third := lifetime / runbook.CertDueShare; {
	case lifetime < runbook.CertShortLifetime:
		return lifetime / 2, "half of the lifetime, which is under 10 days"
	case third < days(runbook.CertDueDays):
		return third, "a third of the lifetime"
	default:
		return days(runbook.CertDueDays), fmt.Sprintf("%d days", runbook.CertDueDays)
	}
}

// Stage is how far a certificate's life has got.
type Stage uint8

// The stages.
const (
	NotDue  Stage = iota
	Due           // renewal is due and may be expected any time
	Failing       // renewal is due and does not happen
	Ended         // expired
)

// Stage says where a certificate stands at now, and how grave that is. failed is
// the number of attempts since Due that changed nothing.
func (r Rule) Stage(now time.Time, failed int) (Stage, check.Status) {
	status := check.OK
	switch {
	case !now.Before(r.Expiry):
		return Ended, check.Critical
	case !now.Before(r.Critical):
		status = check.Critical
	case !now.Before(r.Warn), !now.Before(r.Due) && failed >= missedAttempts:
		status = check.Warning
	}
	switch {
	case now.Before(r.Due): // an alarm can only be the configuration's
		return NotDue, status
	case status == check.OK:
		return Due, status
	}
	return Failing, status
}

// String prints the rule and its figures: what becomes of the certificate with
// how much time left.
func (r Rule) String() string {
	left := func(t time.Time) string { return spanText(r.Expiry.Sub(t)) }
	parts := []string{
		fmt.Sprintf("lifetime %s: due with %s left (%s)", spanText(r.Lifetime), left(r.Due), r.Why),
		"warning with " + left(r.Warn),
		"critical with " + left(r.Critical),
	}
	if !r.Alert.Equal(r.Critical) {
		parts = append(parts, "P2 with "+left(r.Alert))
	} else {
		parts[2] += " (P2)"
	}
	text := strings.Join(parts, ", ")
	if r.Overridden {
		text += "; warn_days or critical_days of the configuration"
	}
	return text
}

// spanText writes a time span in days, or in hours where there are few.
func spanText(d time.Duration) string {
	if d < 0 {
		return "-" + spanText(-max(d, -math.MaxInt64)) // the least has no opposite
	}
	if d < 2*runbook.Day {
		return trimZero(fmt.Sprintf("%.1f", d.Hours())) + " h"
	}
	return trimZero(fmt.Sprintf("%.1f", d.Hours()/24)) + " d"
}

func trimZero(s string) string { return strings.TrimSuffix(s, ".0") }
