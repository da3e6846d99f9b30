package health

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// SecretsOptions say which rotations are known.
type SecretsOptions struct {
	// Rotated returns the last rotation of each secret by its name in the
	// runbook.
	Rotated func() (map[string]time.Time, error)
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
	rotated, err := x.Rotated()
	if err != nil {
		f.unknown("", "the records of rotations: %s", oneLine(err))
		return f.result(SecretsID)
	}
	now := x.Now()
	var unrecorded []string
	known := 0
	var nextAt time.Time
	var nextName string
	for _, s := range runbook.Secrets() {
		if s.Every == 0 {
			continue // the runbook names no time
		}
		last, ok := rotated[s.Name]
		if !ok || last.IsZero() {
			unrecorded = append(unrecorded, s.Name)
			continue
		}
		known++
		due := last.Add(s.Every)
		left := due.Sub(now)
		f.figure(strings.ToLower(s.Name)+"_left", "seconds", left.Seconds())
		b := finding{status: check.Warning, action: x.Rotate(s.Name), runbooks: []string{"3.3"}}
		switch {
		case last.Sub(now) > aheadBy:
			f.unknown("timedatectl", "the last rotation of %s is dated %s ahead: is a clock wrong?", s.Name, span(last.Sub(now)))
			continue
		case left < 0:
			b.text, b.since = fmt.Sprintf("%s was due for rotation %s ago (%s, last %s)", s.Name, span(-left), s.Frequency, last.UTC().Format(time.DateOnly)), due
			f.add(b)
		case left < runbook.RotationNotice && consumers(s.Name):
			b.text, b.runbooks = fmt.Sprintf("%s is due in %s: its consumers need %s of notice", s.Name, span(left), span(runbook.RotationNotice)), []string{"3.2"}
			f.add(b)
		}
		if nextAt.IsZero() || due.Before(nextAt) {
			nextAt, nextName = due, s.Name
		}
	}
	if len(unrecorded) > 0 {
		f.add(finding{status: check.Warning, text: "no rotation recorded: " + strings.Join(unrecorded, ", "), action: x.Record(unrecorded[0]), runbooks: []string{"3.3"}})
	}
	if known > 0 && nextAt.After(now) {
		f.fact("%d rotations recorded, next due %s on %s", known, cmp.Or(nextName, "none"), nextAt.UTC().Format(time.DateOnly))
	}
	return f.result(SecretsID)
}

// consumers says whether others use the secret, who are told before it changes
// (section 3.2).
func consumers(name string) bool { return name == "API_KEYS" || name == "ADMIN_KEYS" }
