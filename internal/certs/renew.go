package certs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

const (
	// forcedADay is how many forced renewals a day pass without a word: Let's
	// Encrypt issues the same names five times in a week.
	forcedADay = 2
	detailKept = 60 // lines of certbot's output that the history keeps
	// DefaultDir is certbot's directory where nothing else is said.
	DefaultDir  = "/etc/letsencrypt"
	letsEncrypt = ".letsencrypt.org/"
)

// ErrTooOften refuses a forced renewal.
var ErrTooOften = errors.New("forced too often")

// RenewOptions say what is renewed and by whom.
type RenewOptions struct {
	Check   Options // of the host; Files is a must
	Certbot Command
	Nginx   Command // nil: there is none to reload
	Dir     string  // certbot's directory, where it is not DefaultDir
	ByHand  string  // how a person runs this certbot, for messages

	Force  bool // renew the host's certificate although it is not due
	Yes    bool // however often it was forced
	DryRun bool // certbot's own rehearsal; nothing is reloaded
	// Person says that somebody waits: certbot then does not sleep before it
	// asks the CA, as it does to spread the load of cron jobs.
	Person   bool
	Timeout  time.Duration // of certbot
	Patience time.Duration // for the new certificate to be served; 0 is 30 s
	// Tell is given what happens, line by line, and Said certbot's output; both
	// may be nil.
	Tell func(format string, args ...any)
	Said func(line string)
}

// Renewal is what a run came to.
type Renewal struct {
	Outcome  string   // renewed, not_due or failed; rehearsed after a dry run
	Changed  []string // lineages with a new certificate
	Proven   bool     // the host's own certificate was renewed, and every address serves it
	Repaired bool     // a reload at the beginning made a renewed certificate served
	Reason   Reason   // of a failure of certbot's
	Summary  string   // one line
	Report   *Report  // how it stands in the end
}

// Rehearsed is the outcome of a dry run that went well.
const Rehearsed = "rehearsed"

// Renew lets certbot renew what is due, and proves it: renewed is only what has
// another serial on the disk, and done only what every address serves. The
// renewal is there, as far as it got, with an error too.
func Renew(ctx context.Context, o RenewOptions) (*Renewal, error) {
	r := &Renewal{Outcome: Failed}
	before, err := o.read(ctx)
	if err != nil {
		return r, &check.Error{Status: check.Unknown, Err: fmt.Errorf("certbot's files cannot be read, so no renewal could be proven: %w", err)}
	}
	own := lineageFor(before, o.Check.Host)
	if own == nil {
		return r, o.noCertificate(before)
	}
	if err := o.guard(own.Name); err != nil {
		return r, err
	}
	if !o.DryRun {
		if err := o.repair(ctx, r, own); err != nil {
			r.Report = Check(ctx, o.Check)
			return r, err
		}
	}
	err = o.certbot(ctx, r, before, own)
	if ctx.Err() == nil {
		r.Report = Check(ctx, o.Check)
	}
	if err == nil {
		r.sum()
	}
	return r, err
}

func (o RenewOptions) tell(format string, args ...any) {
	if o.Tell != nil {
		o.Tell(format, args...)
	}
}

func (o RenewOptions) read(ctx context.Context) ([]*Lineage, error) {
	if o.Check.Files == nil {
		return nil, errors.New(o.Check.FilesWhy)
	}
	files, err := o.Check.Files.Read(ctx)
	if err != nil {
		return nil, err
	}
	return Lineages(files), nil
}

// noCertificate is the error of a host whose first certificate is still to be
// issued: certbot renew would do nothing, and end with 0.
func (o RenewOptions) noCertificate(all []*Lineage) error {
	return fmt.Errorf("certbot has no certificate for %s (it has: %s), and renews only what it has: issue the first one: "+
		"%s certonly --webroot -w /var/www/certbot -d %s, "+
		"then escrowctl certs renew, which reloads nginx and shows that it is served", o.Check.Host, lineageNames(all), o.ByHand, o.Check.Host)
}

// guard keeps the CA's rate limits from being spent.
func (o RenewOptions) guard(lineage string) error {
	if !o.Force || o.DryRun || o.Yes {
		return nil
	}
	all, err := loadAttempts(o.Check.Docs)
	if err != nil {
		return err
	}
	if n := forcedWithin(all, lineage, o.Check.Now(), runbook.Day); n >= forcedADay {
		return fmt.Errorf("%w: %d forced renewals of %s within a day: CAs limit them (Let's Encrypt: 5 a week for the same names): "+
			"wait, find out why the last ones did not help, or add --yes", ErrTooOften, n, lineage)
	}
	return nil
}

// repair reloads nginx if what is on the disk is newer than what is served:
// often that is all there is to do.
func (o RenewOptions) repair(ctx context.Context, r *Renewal, own *Lineage) error {
	quick := o.Check
	quick.HTTP = nil
	state := Check(ctx, quick)
	if state.Verdict != VerdictNotReloaded {
		return nil
	}
	o.tell("the disk is newer than what is served: reloading nginx first")
	if err := o.reload(ctx, own.Leaf()); err != nil {
		return fmt.Errorf("renewed before, but not reloaded: %w", err)
	}
	o.tell("served now: serial %s until %s", Serial(own.Leaf().SerialNumber), stamp(own.Leaf().NotAfter))
	r.Repaired = true
	return nil
}

// certbot runs certbot and draws the conclusions.
func (o RenewOptions) certbot(ctx context.Context, r *Renewal, before []*Lineage, own *Lineage) error {
	output, code, err := o.runCertbot(ctx, own)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if o.DryRun {
		return o.rehearsed(r, output, code, err)
	}
	after, readErr := o.read(ctx)
	if readErr != nil {
		return &check.Error{Status: check.Unknown, Err: fmt.Errorf("certbot ran, but its files cannot be read any more: %w", readErr)}
	}
	r.Changed = changed(before, after)
	own = lineageFor(after, o.Check.Host)
	if err == nil && code != 0 {
		r.Reason = ReasonOf(output)
		err = fmt.Errorf("certbot did not renew: %s", r.Reason.Text)
	}
	ownChanged := own != nil && slices.Contains(r.Changed, own.Name)
	switch {
	case ownChanged:
		r.Outcome = Renewed
	case err == nil:
		r.Outcome = Unchanged
	}
	if rerr := o.record(r, own, output, err); rerr != nil {
		o.tell("the attempt is not on record: %v", rerr)
	}
	lerr := o.spread(ctx, r, own, ownChanged)
	switch {
	case lerr == nil && r.Proven && r.Reason.Kind == ReasonLocked:
		return nil // the other certbot has renewed it
	case lerr == nil && r.Reason.Kind == ReasonLocked:
		return &check.Error{Status: check.Warning, Err: err}
	case lerr == nil:
		return err
	case err == nil:
		return fmt.Errorf("renewed %s, but not reloaded: %w", strings.Join(r.Changed, ", "), lerr)
	}
	return fmt.Errorf("renewed %s, but not reloaded: %w; and %w", strings.Join(r.Changed, ", "), lerr, err)
}

// spread brings what was renewed to nginx.
func (o RenewOptions) spread(ctx context.Context, r *Renewal, own *Lineage, ownChanged bool) error {
	switch {
	case ownChanged:
		o.tell("renewed: serial %s until %s: reloading nginx", Serial(own.Leaf().SerialNumber), stamp(own.Leaf().NotAfter))
		if err := o.reload(ctx, own.Leaf()); err != nil {
			return err
		}
		r.Proven = true
	case len(r.Changed) > 0 && o.Nginx != nil:
		// Another host's certificate: nginx must read it too, but what it serves
		// there is for certs check to say.
		for _, args := range [][]string{{"-t"}, {"-s", "reload"}} {
			if err := o.nginx(ctx, args); err != nil {
				return err
			}
		}
	}
	return nil
}

// runCertbot returns certbot's output and exit code. An error is that it did not
// run to its end.
func (o RenewOptions) runCertbot(ctx context.Context, own *Lineage) (output string, code int, err error) {
	args := []string{"renew", "--non-interactive"}
	if o.Dir != "" && o.Dir != DefaultDir {
		args = append(args, "--config-dir", o.Dir)
	}
	if o.Person || o.Force || o.DryRun {
		args = append(args, "--no-random-sleep-on-renew")
	}
	if o.Force {
		args = append(args, "--force-renewal", "--cert-name", own.Name)
	}
	if o.DryRun {
		args = append(args, "--dry-run")
		// certbot rehearses with Let's Encrypt's staging server, which says
		// nothing of another CA.
		if own.Server != "" && !strings.Contains(own.Server, letsEncrypt) {
			args = append(args, "--server", own.Server)
		}
	}
	o.tell("certbot %s", strings.Join(args, " "))
	limited, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	out := &capped{each: o.Said}
	code, err = o.Certbot.Run(limited, args, out)
	switch {
	case ctx.Err() == nil && limited.Err() != nil:
		err = fmt.Errorf("certbot did not end within %s (certs.timeout), and was ended", o.Timeout)
	case err != nil:
		err = fmt.Errorf("certbot: %w", err)
	}
	return out.String(), code, err
}

func (o RenewOptions) rehearsed(r *Renewal, output string, code int, err error) error {
	if err == nil && code != 0 {
		r.Reason = ReasonOf(output)
		err = fmt.Errorf("certbot's dry run failed: %s", r.Reason.Text)
	}
	if err == nil {
		r.Outcome = Rehearsed
	}
	return err
}

// changed are the lineages whose certificate is another than before.
func changed(before, after []*Lineage) []string {
	was := map[string]string{}
	for _, l := range before {
		if leaf := l.Leaf(); leaf != nil {
			was[l.Name] = Serial(leaf.SerialNumber) + Fingerprint(leaf)
		}
	}
	var out []string
	for _, l := range after {
		if leaf := l.Leaf(); leaf != nil && was[l.Name] != Serial(leaf.SerialNumber)+Fingerprint(leaf) {
			out = append(out, l.Name)
		}
	}
	return out
}

// record keeps the attempt, with the end of certbot's output if it failed.
func (o RenewOptions) record(r *Renewal, own *Lineage, output string, err error) error {
	a := Attempt{At: o.Check.Now().UTC(), Outcome: r.Outcome, Forced: o.Force}
	if own != nil {
		a.Lineage = own.Name
		if leaf := own.Leaf(); leaf != nil {
			a.Serial = Serial(leaf.SerialNumber)
		}
	}
	if err != nil {
		a.Reason = err.Error()
		if r.Reason.Text != "" {
			a.Reason = r.Reason.Text
		}
		a.Detail = strings.Split(strings.TrimSpace(output), "\n")
		if len(a.Detail) > detailKept {
			a.Detail = a.Detail[len(a.Detail)-detailKept:]
		}
	}
	return record(o.Check.Docs, a)
}

// sum words a run that went well.
func (r *Renewal) sum() {
	rep := r.Report
	left := "no certificate"
	if rep != nil && rep.Known() {
		left = "ends " + rep.ends()
	}
	switch {
	case r.Outcome == Rehearsed:
		r.Summary = "certbot's dry run went well; nothing was changed"
	case r.Proven:
		r.Summary = fmt.Sprintf("renewed %s, and every address serves it: %s", strings.Join(r.Changed, ", "), left)
	case len(r.Changed) > 0:
		r.Summary = fmt.Sprintf("renewed %s, and reloaded; whether it is served certs check can say", strings.Join(r.Changed, ", "))
	case r.Repaired:
		r.Summary = fmt.Sprintf("reloaded what was renewed before, and every address serves it; nothing due: %s", left)
	case rep != nil && rep.Known() && !rep.Checked.Before(rep.Rule.Due):
		r.Summary = fmt.Sprintf("certbot found nothing due, though by the rule it is since %s: %s", stamp(rep.Rule.Due), left)
	default:
		r.Summary = "nothing due: " + left
	}
	if rep == nil || rep.Status == check.OK {
		return
	}
	r.Summary += "; but " + rep.Summary
}
