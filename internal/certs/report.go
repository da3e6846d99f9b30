package certs

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// Verdict is what a check comes to.
type Verdict string

// The verdicts.
const (
	VerdictNotDue      Verdict = "not_due"
	VerdictDue         Verdict = "due"
	VerdictFailing     Verdict = "renewal_failing"
	VerdictNotReloaded Verdict = "renewed_not_reloaded"
	VerdictExpired     Verdict = "expired"
	VerdictInvalid     Verdict = "invalid"
	VerdictNotServed   Verdict = "not_served" // the address answers, but not with TLS, or refuses
	VerdictUnknown     Verdict = "unknown"
)

// Words are the verdict as people read it.
func (v Verdict) Words() string {
	return strings.ReplaceAll(strings.ReplaceAll(string(v), "_not_", " but not "), "_", " ")
}

// Report is what is known of one host's certificate, or of one file.
type Report struct {
	Target  string // HOST:PORT or a file
	Domain  string // the host's name; empty for a file
	Verdict Verdict
	Status  check.Status
	Summary string // one line
	Action  string

	// Leaf is the certificate that was judged: the one served, of several the
	// one that ends first, else the one on the disk. Nil if there is none.
	Leaf       *x509.Certificate
	Expiry     time.Time // of the whole chain's earliest
	EndsFirst  string    // what ends then, if not the leaf
	Left       time.Duration
	Rule       Rule
	Window     *Window // what the CA suggests
	Attempts   int     // since it was due, that changed nothing
	LastFailed *Attempt

	Served  []Served
	Disk    *Lineage // nil if it was not looked at or there is none
	Faults  []Fault
	Notes   []string
	Checked time.Time
}

// DaysLeft is the whole number of days left, negative once it has expired.
func (r *Report) DaysLeft() int {
	n := int(r.Left / runbook.Day)
	if r.Left < 0 {
		n--
	}
	return n
}

// Valid says whether what every address serves was seen to be what clients
// accept.
func (r *Report) Valid() bool {
	answered := slices.ContainsFunc(r.Served, func(s Served) bool { return s.Err == nil })
	grave := slices.ContainsFunc(r.Faults, func(f Fault) bool { return f.Status >= check.Unknown })
	return answered && r.Left > 0 && !grave
}

// NotReloaded says whether an address still serves what has been renewed. It is
// not known where no address answers, or certbot's files could not be read.
func (r *Report) NotReloaded() (pending, known bool) {
	answered := slices.ContainsFunc(r.Served, func(s Served) bool { return s.Err == nil })
	return r.Verdict == VerdictNotReloaded, answered && r.Disk.Leaf() != nil
}

// Known says whether there is a certificate of which to speak.
func (r *Report) Known() bool { return r.Leaf != nil }

// Result is the report as a check among others.
func (r *Report) Result() check.Result {
	res := check.Result{ID: "certs", Status: r.Status, Summary: r.Summary, Action: r.Action}
	for _, f := range r.Faults {
		res.Detail = append(res.Detail, f.Text)
	}
	if !r.Known() {
		return res
	}
	res.Detail = append(res.Detail, r.Rule.String())
	warn, crit := r.Rule.Expiry.Sub(r.Rule.Warn).Hours()/24, r.Rule.Expiry.Sub(r.Rule.Critical).Hours()/24
	res.Figures = []check.Figure{{Name: "left", Unit: "days", Value: r.Left.Hours() / 24, Warning: &warn, Critical: &crit}}
	res.Detail = append(res.Detail, r.Notes...)
	r.alert(&res)
	return res
}

// alert adds the runbook's row where the certificate is as near to its end, or
// as broken, as it means.
func (r *Report) alert(res *check.Result) {
	a, ok := runbook.AlertNamed("TLSCertExpiringSoon")
	near := !r.Checked.Before(r.Rule.Alert)
	if !ok || r.Status == check.OK || !near && r.Status != check.Critical {
		return
	}
	res.Alert, res.Priority, res.Runbooks = a.Name, a.Priority.String(), a.Runbooks
	if near {
		res.Since = r.Rule.Alert
		res.Deadline = r.Rule.Alert.Add(a.SLA)
	}
}

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}
