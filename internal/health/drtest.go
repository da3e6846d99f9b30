package health

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// DRTestOptions say what is known of the recovery tests.
type DRTestOptions struct {
	Runs   Runs
	MaxAge time.Duration // 0: the runbook's
	Limit  time.Duration
	Now    func() time.Time
}

// DRTestID is the check's ID.
const DRTestID = "dr-test"

// testsLookedAt is how many of the latest tests are searched for one that
// passed.
const testsLookedAt = 100

// DRTest checks that the last recovery test passed, and that it is not older
// than the schedule has it.
func DRTest(opt DRTestOptions) check.Probe {
	opt.MaxAge = cmp.Or(opt.MaxAge, runbook.DRTestMaxAge)
	return check.Probe{ID: DRTestID, Limit: orLimit(opt.Limit), Run: (&drTestCheck{opt}).run}
}

type drTestCheck struct{ DRTestOptions }

func (x *drTestCheck) run(context.Context) check.Result {
	const again = "escrowctl dr-test"
	var f findings
	runs, err := x.Runs(testsLookedAt)
	if err != nil {
		f.unknown("", "the run records: %s", oneLine(err))
		return f.result(DRTestID)
	}
	if len(runs) > 0 && runs[0].Running() {
		f.fact("a test goes on since %s", clock(runs[0].Start))
		runs = runs[1:]
	}
	if len(runs) == 0 {
		f.add(finding{status: check.Warning, text: "no recovery test is recorded on this host: nothing shows that a backup can be restored", action: again, runbooks: []string{"2.3"}})
		return f.result(DRTestID)
	}
	x.last(&f, runs[0], again)
	for _, r := range runs {
		if !r.Good() {
			continue
		}
		age := x.Now().Sub(r.Start)
		name, _ := r.Figures["name"].(string) // "" in a record of another version
		f.figure("age", "seconds", age.Seconds())
		text := fmt.Sprintf("passed %s ago%s", span(age), withName(name))
		switch {
		case age > x.MaxAge:
			f.add(finding{status: check.Warning, since: r.Start.Add(x.MaxAge), text: fmt.Sprintf("last %s, limit %s", text, span(x.MaxAge)), action: again, runbooks: []string{"2.3"}})
		case age < -aheadBy:
			f.unknown("timedatectl", "the last test is dated %s ahead: is a clock wrong?", span(-age))
		default:
			f.fact("%s", text)
		}
		return f.result(DRTestID)
	}
	f.add(finding{status: check.Warning, text: fmt.Sprintf("none of the last %d tests passed", len(runs)), action: again, runbooks: []string{"2.3"}})
	return f.result(DRTestID)
}

func withName(name string) string {
	if name == "" {
		return ""
	}
	return ": " + clean(name)
}

// last judges how the last test ended.
func (x *drTestCheck) last(f *findings, r JobRun, again string) {
	text := fmt.Sprintf("the test of %s UTC ended %s", clock(r.Start), r.Outcome)
	if r.Error != "" {
		text += ": " + clean(r.Error)
	}
	since := r.End
	if since.IsZero() {
		since = r.Start
	}
	b := finding{text: text, since: since, action: again, runbooks: []string{"2.3"}}
	switch r.Outcome {
	case "ok":
		return
	case "critical":
		// The backup cannot be restored: that is a failed backup.
		name, _ := r.Figures["name"].(string)
		b.status, b.alert, b.runbooks, b.text = check.Critical, runbook.BackupFailed, nil, text+withName(name)
	case "unknown":
		b.status, b.text = check.Unknown, text+": it could not be verified"
	default: // warning, crashed, interrupted
		b.status = check.Warning
	}
	f.add(b)
}
