package health

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/schedule"
)

// nightly is a host with a row for the backup at 02:00 UTC.
func nightly(t *testing.T, rows string) (schedule.Inspection, schedule.Job) {
	t.Helper()
	spec, err := schedule.ParseSpec("0 2 * * *")
	if err != nil {
		t.Fatal(err)
	}
	job := schedule.Job{Name: "backup", Spec: spec, Command: "backup", Script: "backup.sh", Available: true, Vital: true, MaxGap: 26 * hour}
	return schedule.Inspect(
		[]schedule.Source{{Name: "crontab of root", User: "root", Crontab: schedule.Parse(rows, schedule.Format{})}},
		[]schedule.Job{job},
		schedule.Host{
			Zone: time.UTC, Now: now(), Misspelt: func(string) bool { return false },
			Command:  func(args []string) (string, error) { return strings.Join(args, " "), nil },
			Program:  func(string, string) error { return nil },
			Writable: func(string, string) error { return nil },
		},
	), job
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	const row = "0 2 * * * escrowctl backup\n"
	done := func(begun, took time.Duration, outcome string) schedule.Run {
		return schedule.Run{Start: at(begun), End: at(begun - took), Outcome: outcome}
	}
	onTime := done(14*hour, hour, "ok")
	for _, tt := range []struct {
		name      string
		rows      string
		runs      []schedule.Run
		installed time.Duration // before now
		daemon    bool
		err       error
		runsErr   error
		want      want
	}{
		{name: "ran", rows: row, runs: []schedule.Run{onTime}, daemon: true, want: want{check.OK, "1 jobs, next backup at 2026-11-25 02:00 UTC", "", ""}},
		{name: "missed", rows: row, runs: []schedule.Run{done(38*hour, hour, "ok")}, daemon: true, want: want{check.Warning, "backup: due 2026-11-24 02:00 UTC, and no run is recorded", "", "escrowctl backup"}},
		{name: "never ran", rows: row, daemon: true, want: want{check.Warning, "no run is recorded", "", ""}},
		{name: "installed since", rows: row, installed: 3 * hour, daemon: true, want: want{check.OK, "next backup at", "", ""}},
		{name: "late", rows: row, runs: []schedule.Run{done(10*hour, hour, "ok")}, daemon: true, want: want{check.Warning, "begun 4.0 h late", "", ""}},
		{name: "still going", rows: row, runs: []schedule.Run{{Start: at(14 * hour), Running: true, Outcome: "running"}}, daemon: true, want: want{check.OK, "next backup at", "", ""}},
		{name: "the one before still going", rows: row, runs: []schedule.Run{{Start: at(38 * hour), Running: true, Outcome: "running"}}, daemon: true, want: want{check.Warning, "while the run of 2026-11-23 02:00 was still going", "", ""}},
		{name: "overlapping", rows: row, runs: []schedule.Run{onTime, done(14*hour-10*time.Minute, time.Minute, "ok")}, daemon: true, want: want{check.Warning, "began while that of", "", ""}},
		{name: "crashed", rows: row, runs: []schedule.Run{{Start: at(14 * hour), Outcome: "crashed"}}, daemon: true, want: want{check.Warning, "crashed", "", ""}},
		{name: "failed, which is told elsewhere", rows: row, runs: []schedule.Run{done(14*hour, hour, "critical")}, daemon: true, want: want{check.OK, "next backup at", "", ""}},
		{name: "row missing", rows: "", runs: []schedule.Run{onTime}, daemon: true, want: want{check.Critical, "no crontab runs escrowctl backup", "BackupFailed", "escrowctl cron install"}},
		{name: "row refused", rows: "61 2 * * * escrowctl backup\n", runs: []schedule.Run{onTime}, daemon: true, want: want{check.Critical, "crontab of root, line 1: cron refuses the row: bad minute", "BackupFailed", "escrowctl cron check"}},
		{name: "percent", rows: "0 2 * * * escrowctl backup >> /var/log/%d\n", runs: []schedule.Run{onTime}, daemon: true, want: want{check.Critical, "a % without a backslash", "BackupFailed", "escrowctl cron check"}},
		{name: "old script beside it", rows: row + "0 2 * * * /opt/backup.sh\n", runs: []schedule.Run{onTime}, daemon: true, want: want{check.Warning, "backup.sh still runs beside", "", "crontab -e"}},
		{name: "no daemon", rows: row, runs: []schedule.Run{onTime}, want: want{check.Critical, "no cron daemon runs", "BackupFailed", "systemctl"}},
		{name: "crontab not readable", rows: row, runs: []schedule.Run{onTime}, daemon: true, err: errors.New("denied"), want: want{check.Unknown, "the crontabs: denied", "", "escrowctl cron check"}},
		{name: "records not readable", rows: row, runsErr: errors.New("damaged"), daemon: true, want: want{check.Unknown, "the run records: damaged", "", ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in, _ := nightly(t, tt.rows)
			tt.want.check(t, look(t, Schedule(ScheduleOptions{
				Inspect: func(context.Context) (schedule.Inspection, error) { return in, tt.err },
				Daemon:  func() (string, bool) { return "cron", tt.daemon },
				Runs:    func(schedule.Job) ([]schedule.Run, error) { return tt.runs, tt.runsErr },
				Installed: func(string) time.Time {
					if tt.installed == 0 {
						return time.Time{}
					}
					return at(tt.installed)
				},
				Now: now,
			})))
		})
	}
}
