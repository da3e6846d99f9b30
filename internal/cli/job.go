package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/report"
	"github.com/stellarescrow/escrowctl/internal/state"
)

// Outcome is what a job has to say when it is done.
type Outcome struct {
	Status  check.Status
	Done    bool   // all the work was done: a success, even if what was found is bad
	Verdict string // one line
	Figures map[string]any
	Report  report.Report // Job, times, exit code and success are filled in
}

// job runs fn as the recorded, locked and reported run of a command: only one
// at a time on this host, its outcome in the state directory, and its report
// sent, none of them with a secret in it. A report that nobody takes makes it a
// warning. Without a terminal stderr becomes its log, which ends with the
// verdict.
func (a *App) job(ctx context.Context, d *deps, job string, fn func(ctx context.Context) (Outcome, error)) error {
	a.logged = true
	if name := lockOf(job); name != "" {
		lock, err := d.state.Lock(name)
		if err != nil {
			return a.unbegun(ctx, d, job, err)
		}
		defer func() { _ = lock.Unlock() }()
	}
	if last, ok, err := d.state.Last(job); err == nil && ok && last.Outcome == state.Crashed {
		a.io.Warn("the last %s, begun %s, crashed: its process is gone without a word", job, last.StartedAt.Format(time.RFC3339))
	}
	run, err := d.state.Begin(job)
	if err != nil {
		return a.unbegun(ctx, d, job, err)
	}
	out, err := fn(ctx)
	if err = interruption(ctx, err); err != nil {
		err = d.scrub(err)
		out.Status = failure(err)
		if out.Verdict == "" {
			out.Verdict = job + " failed: " + err.Error()
		}
	}
	d.scrubOutcome(&out)
	d.journalJob(ctx, job, out, err)
	out.Status = check.Worst(out.Status, a.send(ctx, d, job, run.StartedAt(), &out, err))
	if ferr := finishRun(run, out, err); ferr != nil {
		a.io.Warn("the run is not recorded: %v", ferr)
		out.Status = check.Worst(out.Status, check.Warning)
	}
	if err != nil {
		return err // the root tells it, as the log's last line
	}
	a.verdict(out)
	if out.Status != check.OK {
		return &told{out.Status}
	}
	return nil
}

// unbegun reports a run whose state directory did not let it begin, on a full
// disk say: nothing was done, and somebody must hear of it. One that another run
// holds the lock of is no news.
func (a *App) unbegun(ctx context.Context, d *deps, job string, err error) error {
	if errors.Is(err, state.ErrLocked) {
		return err // the run that holds the lock reports for itself
	}
	err = &check.Error{Status: check.Unknown, Err: d.scrub(err)}
	out := Outcome{Status: check.Unknown, Verdict: job + " did not begin: " + err.Error()}
	a.send(ctx, d, job, a.io.Now(), &out, err)
	return err
}

// failure is the status of a run that ended with err.
func failure(err error) check.Status {
	switch exitCode(err) {
	case check.Unknown.ExitCode():
		return check.Unknown
	case check.Warning.ExitCode(), exitLocked:
		return check.Warning
	default:
		return check.Critical
	}
}

// finishRun records how the run ended.
func finishRun(run *state.Active, out Outcome, err error) error {
	code := out.Status.ExitCode()
	if err != nil {
		code = exitCode(err)
	}
	outcome := map[check.Status]state.Outcome{check.OK: state.OK, check.Warning: state.Warning, check.Unknown: state.Unknown, check.Critical: state.Critical}[out.Status]
	var sig *Interrupted
	if errors.As(err, &sig) {
		outcome = state.Interrupted
	}
	if out.Done && err == nil {
		run.WorkDone()
	}
	return run.Finish(string(outcome), code, out.Figures, err)
}

// verdict ends the log of a run with one line. On a terminal the result on
// stdout has said it. What is not OK is told to the quiet too.
func (a *App) verdict(out Outcome) {
	switch {
	case a.io.OutTTY && a.io.ErrTTY:
	case out.Status != check.OK:
		a.io.Line("%s: %s", out.Status, out.Verdict)
	default:
		a.io.Log("ok: %s", out.Verdict)
	}
}

// lockOf returns the lock that a job takes: what writes to the stores takes
// turns, what only reads need not. "" is none: each test has a server of its own.
func lockOf(job string) string {
	switch job {
	case drTestJob:
		return ""
	case pruneJob, uploadJob:
		return backupJob
	}
	return job
}

// send reports the run and returns the status that the problems make.
func (a *App) send(ctx context.Context, d *deps, name string, began time.Time, out *Outcome, runErr error) check.Status {
	if errors.Is(runErr, state.ErrLocked) {
		return check.OK // the run that holds the lock reports for itself
	}
	rep := out.Report
	rep.Job, rep.StartedAt, rep.EndedAt = name, began, a.io.Now()
	if last, ok, err := d.state.LastSuccess(name); err == nil && ok {
		rep.LastSuccess = last.EndedAt
	}
	rep.Success = runErr == nil && (out.Done || out.Status < check.Unknown)
	rep.ExitCode = out.Status.ExitCode()
	if runErr != nil {
		rep.ExitCode = exitCode(runErr)
		host, _ := os.Hostname() // only for the message
		rep.Text = fmt.Sprintf("FAILED on %s: %s", host, out.Verdict)
	}
	// A run that was interrupted still says so.
	return a.tellProblems(d, d.reporter.Send(context.WithoutCancel(ctx), rep))
}

// tellProblems tells which reports nobody took, and returns the status that
// makes.
func (a *App) tellProblems(d *deps, problems []report.Problem) check.Status {
	status := check.OK
	for _, p := range problems {
		if p.Kind == report.Unserved && d.cfg.Report.APIMetrics != config.On {
			if !d.firstUnserved(p) {
				continue
			}
			a.io.Log("%v", p)
			continue
		}
		a.io.Warn("report not delivered: %v", p)
		status = check.Warning
	}
	return status
}

const unservedDoc = "api-metrics-unserved"

// firstUnserved says whether it is news that nobody serves /api/metrics.
func (d *deps) firstUnserved(p report.Problem) bool {
	var seen struct {
		Message string `json:"message"`
	}
	if found, err := d.state.Load(unservedDoc, &seen); err == nil && found && seen.Message == p.Error() {
		return false
	}
	seen.Message = p.Error()
	_ = d.state.Save(unservedDoc, seen) // then it is told again
	return true
}
