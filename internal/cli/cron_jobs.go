package cli

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/schedule"
	"github.com/stellarescrow/escrowctl/internal/state"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// verifyTask is a row that the runbook lacks, whose verification is by hand.
func verifyTask() runbook.Task {
	return runbook.Task{
		Name: "backup-verify", Title: "Verification of the newest backup", Spec: "0 5 * * 0",
		Command: "escrowctl backup verify", Log: "/var/log/stellar-backup.log", MaxAge: 7*runbook.Day + 2*time.Hour,
	}
}

// cronJobs returns what is to be scheduled: the runbook's rows, and ours.
func cronJobs(bucket bool) ([]schedule.Job, error) {
	var jobs []schedule.Job
	for _, t := range append(runbook.Schedule(), verifyTask()) {
		if t.Spec == "" {
			continue
		}
		spec, err := schedule.ParseSpec(t.Spec)
		if err != nil {
			return nil, err
		}
		j := schedule.Job{
			Name: t.Name, Title: t.Title, Spec: spec, Command: strings.TrimPrefix(t.Command, schedule.Program+" "), Log: t.Log,
			Script: t.Script(), Vital: t.Name == backupJob, MaxGap: t.MaxAge,
		}
		if t.Name == verifyTask().Name {
			j.Args = []string{"latest"}
			if bucket {
				j.Args = []string{"latest", "--s3"}
			}
		}
		command, err := commandOf(strings.Fields(j.Command))
		j.Available = err == nil && command == j.Command
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// runsOf is the job's name in the state directory.
func runsOf(j schedule.Job) string { return j.Name }

// commandOf returns the subcommand that arguments call, or what is wrong with
// them.
func commandOf(args []string) (string, error) {
	app := New(&ui.IO{Out: io.Discard, Err: io.Discard, Now: time.Now}, nil, Build{})
	app.lookup = true
	root := app.Root()
	cmd, rest, err := root.Find(args)
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	name := ""
	if cmd != nil {
		name = strings.TrimSpace(strings.TrimPrefix(cmd.CommandPath(), root.Name()))
	}
	return name, err
}

// misspelt says whether a program's name is nearly ours.
func misspelt(name string) bool {
	const letters = 2
	return name != schedule.Program && distance(name, schedule.Program) <= letters
}

// cronView is what the crontabs of this host do.
type cronView struct {
	schedule.Inspection
	host    schedule.Host
	jobs    []schedule.Job
	daemon  string
	unread  error // what could not be read of them
	sources []schedule.Source
}

// onlyTimers says whether systemd's timers do all that is done: then no cron daemon
// is needed.
func (v *cronView) onlyTimers() bool {
	rows := slices.Clone(v.Others)
	for _, j := range v.Jobs {
		rows = slices.Concat(rows, j.Rows, j.Scripts)
	}
	return len(rows) > 0 && !slices.ContainsFunc(rows, func(p schedule.Placed) bool { return !strings.Contains(p.Where, ".timer, ") })
}

// inspectCron reads and judges the crontabs.
func (d *deps) inspectCron(ctx context.Context) (*cronView, error) {
	h := d.app.cron
	zone, err := h.Zone()
	if err != nil {
		return nil, err
	}
	jobs, err := cronJobs(d.cfg.S3.Bucket != "")
	if err != nil {
		return nil, err
	}
	v := &cronView{jobs: jobs, host: schedule.Host{
		Zone: zone, Now: d.app.io.Now(), Command: commandOf, Misspelt: misspelt, Program: h.Program, Writable: h.Writable, Config: h.Config,
	}}
	v.daemon, _ = h.Daemon()
	v.sources, v.unread = h.Sources(ctx)
	timers, err := h.Timers()
	v.sources, v.unread = append(v.sources, timers...), errors.Join(v.unread, err)
	v.Inspection = schedule.Inspect(v.sources, jobs, v.host)
	if v.daemon == "" && v.onlyTimers() {
		v.daemon = "systemd"
	}
	return v, nil
}

// scheduledRuns are the recorded runs of a job, the newest first.
func (d *deps) scheduledRuns(j schedule.Job, limit int) ([]schedule.Run, error) {
	records, err := d.state.Runs(runsOf(j), limit)
	if err != nil {
		return nil, err
	}
	runs := make([]schedule.Run, 0, len(records))
	for _, r := range records {
		runs = append(runs, schedule.Run{
			Start: r.StartedAt, End: r.EndedAt, Running: r.Outcome == state.Running, Outcome: string(r.Outcome),
		})
	}
	return runs, nil
}

// absolute returns a path that cron's jobs, which run elsewhere, can use.
func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}
