package health

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/schedule"
)

// ScheduleOptions say what is scheduled and what has run.
type ScheduleOptions struct {
	// Inspect reads the crontabs. What could not be read of them is an error
	// beside the rest.
	Inspect func(ctx context.Context) (schedule.Inspection, error)
	// Daemon says whether a cron daemon runs.
	Daemon func() (name string, running bool)
	Runs   func(job schedule.Job) ([]schedule.Run, error)
	// Installed returns since when the job's row is there; zero if not known.
	Installed func(job string) time.Time

	Limit time.Duration
	Now   func() time.Time
}

// ScheduleID is the check's ID.
const ScheduleID = "schedule"

// Schedule checks for each row of the runbook's crontab that it is in a crontab,
// that it ran when it was due, and when it is due next.
func Schedule(opt ScheduleOptions) check.Probe {
	return check.Probe{ID: ScheduleID, Limit: orLimit(opt.Limit), Run: (&scheduleCheck{opt}).run}
}

type scheduleCheck struct{ ScheduleOptions }

const installRows = "escrowctl cron install --dry-run"

func (x *scheduleCheck) run(ctx context.Context) check.Result {
	var f, host findings
	in, err := x.Inspect(ctx)
	if err != nil {
		host.unknown("escrowctl cron check", "the crontabs: %s", oneLine(err))
	}
	if name, running := x.Daemon(); running {
		host.fact("%s runs", name)
	} else {
		host.add(finding{status: check.Critical, alert: runbook.BackupFailed, text: "no cron daemon runs on this host, so no row does", action: "systemctl status cron"})
	}
	for _, found := range in.Findings { // of no job: a row of something else, a file
		if found.Job == "" && found.Status != check.OK {
			host.add(finding{status: found.Status, text: found.Where + ": " + found.Text, action: "escrowctl cron check"})
		}
	}
	f.bad = append(f.bad, host.bad...)
	parts := []check.Result{host.result("cron")}
	var next time.Time
	var nextJob string
	for _, j := range in.Jobs {
		p := x.job(j, in.Findings)
		parts = append(parts, p)
		if p.Status != check.OK {
			f.add(finding{status: p.Status, text: p.Summary, action: p.Action, alert: p.Alert, since: p.Since})
		}
		if !j.Next.IsZero() && (next.IsZero() || j.Next.Before(next)) {
			next, nextJob = j.Next, j.Name
		}
	}
	if !next.IsZero() {
		f.fact("%d jobs, next %s at %s UTC", len(in.Jobs), nextJob, clock(next))
	}
	r := f.result(ScheduleID)
	r.Detail, r.Parts = nil, parts // which say the rest
	return r
}

// job judges one row of the schedule.
func (x *scheduleCheck) job(j schedule.JobState, all []schedule.Finding) check.Result {
	var f findings
	for _, found := range all {
		if found.Job != j.Name || found.Status == check.OK {
			continue
		}
		b := finding{status: found.Status, text: j.Name + ": " + found.Text, action: installRows}
		if found.Where != "" {
			b.text = fmt.Sprintf("%s: %s: %s", j.Name, found.Where, found.Text)
			b.action = "escrowctl cron check"
		}
		if found.Code == schedule.Double || found.Code == schedule.OldScript {
			b.action = "crontab -e"
			if found.Code == schedule.OldScript {
				b.action = installRows
			}
		}
		if found.Status == check.Critical {
			b.alert = runbook.BackupFailed // only the backup's rows are as grave
		}
		f.add(b)
	}
	switch {
	case len(j.Rows) == 0 && len(j.Scripts) == 0 && !j.Available:
		f.add(finding{status: check.Warning, text: fmt.Sprintf("%s: no crontab runs %s, and this escrowctl cannot do it", j.Name, j.Script)})
	case len(j.Rows) == 0 && len(j.Scripts) > 0:
		f.fact("%s: the old script, which leaves no record, next %s UTC", j.Name, clock(j.Next))
	case j.Covered() && !j.Last.IsZero():
		x.lastDue(&f, j)
	case j.Covered():
		f.fact("%s: never due in the last year, next %s UTC", j.Name, clock(j.Next))
	}
	return f.result(j.Name)
}

// lastDue says what became of the last time that the job was due.
func (x *scheduleCheck) lastDue(f *findings, j schedule.JobState) {
	now := x.Now()
	next := fmt.Sprintf("next %s UTC", clock(j.Next))
	if since := x.Installed(j.Name); since.After(j.Last) {
		f.fact("%s: installed %s ago, %s", j.Name, span(now.Sub(since)), next)
		return
	}
	runs, err := x.Runs(j.Job)
	if err != nil {
		f.unknown("", "%s: the run records: %s", j.Name, oneLine(err))
		return
	}
	d := schedule.Match([]time.Time{j.Last}, j.Next, runs, now)[0]
	bad := func(format string, args ...any) {
		f.add(finding{status: check.Warning, since: j.Last, text: j.Name + ": " + fmt.Sprintf(format, args...), action: "escrowctl " + j.Command})
	}
	switch d.State {
	case schedule.Missed:
		bad("due %s UTC, and no run is recorded", clock(j.Last))
	case schedule.Late:
		bad("due %s UTC, begun %s late", clock(j.Last), span(d.Delay))
	case schedule.Skipped:
		bad("due %s UTC, while the run of %s was still going", clock(j.Last), clock(d.Run.Start))
	case schedule.Running:
		f.fact("%s: running since %s UTC, %s", j.Name, clock(d.Run.Start), next)
	case schedule.Pending:
		f.fact("%s: due just now, %s", j.Name, next)
	case schedule.Ran:
		x.ran(f, j, d, next)
	}
	if over := schedule.Overlaps(runs[:min(len(runs), 10)]); len(over) > 0 && now.Sub(over[len(over)-1].Second.Start) < runbook.Day {
		last := over[len(over)-1]
		bad("the run of %s began while that of %s was going", clock(last.Second.Start), clock(last.First.Start))
	}
}

func (x *scheduleCheck) ran(f *findings, j schedule.JobState, d schedule.Due, next string) {
	took := ""
	if !d.Run.End.IsZero() {
		took = " in " + span(d.Run.End.Sub(d.Run.Start))
	}
	// How it ended is for the job's own check; these two are nobody's.
	if slices.Contains([]string{"crashed", "interrupted"}, d.Run.Outcome) {
		f.add(finding{status: check.Warning, since: d.Run.Start, action: "escrowctl " + j.Command,
			text: fmt.Sprintf("%s: the run of %s UTC %s%s", j.Name, clock(d.Run.Start), map[string]string{"crashed": "crashed", "interrupted": "was interrupted"}[d.Run.Outcome], took)})
		return
	}
	f.fact("%s: ran %s UTC%s (%s), %s", j.Name, clock(d.Run.Start), took, d.Run.Outcome, next)
}
