package health

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// Rotation is when a secret is due for rotation.
type Rotation struct {
	Secret    string // by its name in the runbook
	Frequency string
	Every     time.Duration // 0: the runbook names none
	Last, Due time.Time     // zero if no rotation is known
	Left      time.Duration // until Due; negative is overdue
}

// SecretsOptions say which rotations are known.
type SecretsOptions struct {
	// Due returns every secret of the runbook.
	Due func() ([]Rotation, error)
	// Rotate and Record are the commands that rotate a secret, and that note a
	// rotation that was done by hand.
	Rotate, Record func(secret string) string
	Limit          time.Duration
	Now            func() time.Time
}

// SecretsID is the check's ID.
const SecretsID = "secrets"

// Secrets checks which rotations of the runbook's secrets are due. A secret of
// which no rotation is recorded is a warning: how old it is, nobody can say.
func Secrets(opt SecretsOptions) check.Probe {
	return check.Probe{ID: SecretsID, Limit: orLimit(opt.Limit), Run: (&secretsCheck{opt}).run}
}

type secretsCheck struct{ SecretsOptions }

func (x *secretsCheck) run(context.Context) check.Result {
	var f findings
	all, err := x.Due()
	if err != nil {
		f.unknown("", "the records of rotations: %s", oneLine(err))
		return f.result(SecretsID)
	}
	var unrecorded []string
	var next *Rotation
	known := 0
	for i := range all {
		r := &all[i]
		switch {
		case r.Every == 0:
		case r.Due.IsZero():
			unrecorded = append(unrecorded, r.Secret)
		case r.Last.Sub(x.Now()) > aheadBy:
			known++
			f.unknown("timedatectl", "the last rotation of %s is dated %s ahead: is a clock wrong?", r.Secret, span(r.Last.Sub(x.Now())))
		default:
			known++
			x.judge(&f, r)
			if next == nil || r.Due.Before(next.Due) {
				next = r
			}
		}
	}
	if len(unrecorded) > 0 {
		f.add(finding{status: check.Warning, text: "no rotation recorded: " + strings.Join(unrecorded, ", "), action: x.Record(unrecorded[0]), runbooks: []string{"3.3"}})
	}
	if next != nil && next.Left > 0 {
		f.fact("%d rotations recorded, next due %s on %s", known, next.Secret, next.Due.UTC().Format(time.DateOnly))
	}
	return f.result(SecretsID)
}

// judge judges one secret of which a rotation is known.
func (x *secretsCheck) judge(f *findings, r *Rotation) {
	f.figure(strings.ToLower(r.Secret)+"_left", "seconds", r.Left.Seconds())
	b := finding{status: check.Warning, action: x.Rotate(r.Secret), runbooks: []string{"3.3"}}
	switch {
	case r.Left < 0:
		b.text, b.since = fmt.Sprintf("%s was due for rotation %s ago (%s, last %s)", r.Secret, span(-r.Left), r.Frequency, r.Last.UTC().Format(time.DateOnly)), r.Due
		f.add(b)
	case r.Left < runbook.RotationNotice && consumers(r.Secret):
		b.text, b.runbooks = fmt.Sprintf("%s is due in %s: its consumers need %s of notice", r.Secret, span(r.Left), span(runbook.RotationNotice)), []string{"3.2"}
		f.add(b)
	}
}

// consumers says whether others use the secret, who are told before it changes
// (section 3.2).
func consumers(name string) bool { return name == "API_KEYS" || name == "ADMIN_KEYS" }
