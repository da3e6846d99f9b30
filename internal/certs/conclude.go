package certs

import (
	"fmt"
	"slices"

	"github.com/stellarescrow/escrowctl/internal/check"
)

// conclude comes to verdict, status, summary and action.
func (r *Report) conclude() {
	var grave *Fault
	for i, f := range r.Faults {
		r.Status = check.Worst(r.Status, f.Status)
		if grave == nil || f.Status > grave.Status {
			grave = &r.Faults[i]
		}
	}
	answered := slices.ContainsFunc(r.Served, func(s Served) bool { return s.Err == nil })
	switch {
	case !answered:
		r.silent(grave)
	case r.Verdict == VerdictNotReloaded:
		r.notReloaded(grave)
	case grave != nil && grave.Status == check.Critical:
		r.broken(*grave)
	default:
		r.standing(grave)
	}
	if r.Action == "" && grave != nil {
		r.Action = grave.Action
	}
}

// silent is a host of which no address gave a certificate.
func (r *Report) silent(grave *Fault) {
	r.Verdict = VerdictUnknown
	if grave == nil {
		r.Status, r.Summary = check.Unknown, r.Target+": it has no address to be asked"
		return
	}
	if grave.Status == check.Critical && grave.Code == CodeUnreachable {
		r.Verdict = VerdictNotServed
	}
	r.Summary = r.Target + ": " + grave.Text
	if disk := r.Disk.Leaf(); disk != nil {
		r.Summary += fmt.Sprintf("; on the disk lies one until %s", stamp(disk.NotAfter))
	}
}

// notReloaded is a host that still serves what has been renewed.
func (r *Report) notReloaded(grave *Fault) {
	r.Status = check.Worst(r.Status, check.Warning)
	if _, status := r.Rule.Stage(r.Checked, 0); status == check.Critical {
		r.Status = check.Critical
	}
	r.Summary = fmt.Sprintf("%s: renewed but not reloaded: the one served ends %s", r.Target, r.ends())
	if grave != nil && grave.Status == check.Critical {
		r.Summary += "; " + grave.Text
	}
	r.Action = "reload nginx: escrowctl certs renew does so first, and shows that it helped"
}

// broken is a certificate that clients refuse.
func (r *Report) broken(grave Fault) {
	r.Verdict = VerdictInvalid
	if slices.ContainsFunc(r.Faults, func(f Fault) bool { return f.Code == CodeExpired }) {
		r.Verdict = VerdictExpired
	}
	r.Summary = r.Target + ": " + grave.Text
	if n := len(r.Faults); n > 1 {
		r.Summary += fmt.Sprintf(" (and %d more)", n-1)
	}
	r.Action = grave.Action
	if r.Verdict == VerdictExpired {
		r.whyNotRenewed()
	}
}

// standing is a valid certificate: what matters is when it ends.
func (r *Report) standing(grave *Fault) {
	stage, status := r.Rule.Stage(r.Checked, r.Attempts)
	r.Verdict = map[Stage]Verdict{NotDue: VerdictNotDue, Due: VerdictDue, Failing: VerdictFailing, Ended: VerdictExpired}[stage]
	r.Status = check.Worst(r.Status, status)
	r.Summary = fmt.Sprintf("%s: %s: ends %s", r.Target, r.Verdict.Words(), r.ends())
	if r.EndsFirst != "" {
		r.Summary += ", with " + r.EndsFirst + " of its chain"
	}
	switch stage {
	case Due:
		r.Action = "nothing yet: the next run of escrowctl certs renew should renew it"
	case Failing, Ended:
		r.Summary += fmt.Sprintf("; due since %s", stamp(r.Rule.Due))
		r.whyNotRenewed()
	case NotDue:
		if status != check.OK {
			r.Action = "renew it: escrowctl certs renew --force (certs.warn_days says that it is time)"
		}
	}
	if grave != nil && status < grave.Status {
		r.Summary += "; " + grave.Text
		r.Action = grave.Action
	}
}

// whyNotRenewed adds what the attempts came to.
func (r *Report) whyNotRenewed() {
	switch {
	case r.LastFailed != nil:
		r.Summary += fmt.Sprintf("; %d attempts changed nothing, the last said: %s", r.Attempts, r.LastFailed.Reason)
		r.Action = "mend what certbot says, then escrowctl certs renew"
	case r.Attempts > 0:
		r.Summary += fmt.Sprintf("; %d attempts changed nothing", r.Attempts)
		r.Action = "certbot thinks that it is not due: escrowctl certs renew --force, and see renew_before_expiry in its renewal configuration"
	default:
		r.Summary += "; no attempt is on record"
		r.Action = "run escrowctl certs renew, and see whether cron runs it twice a day"
	}
}

// ends words the end of the certificate.
func (r *Report) ends() string {
	if r.Left < 0 {
		return fmt.Sprintf("%s ago (%s)", spanText(r.Left)[1:], stamp(r.Expiry))
	}
	return fmt.Sprintf("in %s (%s)", spanText(r.Left), stamp(r.Expiry))
}
