package services

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// cronRow is the command of a job's row as cron install writes it.
func cronRow(t *testing.T, b *bed, logs, job string) string {
	t.Helper()
	res := b.Run(t, "cron", "install", "--dry-run", "--program", storm.Binary(t), "--log-dir", logs)
	row := regexp.MustCompile(`(?m)^\+(?:\S+ ){5}(.* ` + job + ` .*)$`).FindStringSubmatch(res.Stdout)
	if row == nil {
		t.Fatalf("no row of %s: exit %d: %s%s", job, res.Code, res.Stdout, res.Stderr)
	}
	return row[1]
}

// underCron runs a row's command with what cron gives it, and no more.
func underCron(b *bed, command string) *exec.Cmd {
	cmd := exec.Command("/bin/sh", "-c", command)
	cmd.Dir = filepath.Join(b.Dir, "home")
	cmd.Env = []string{"SHELL=/bin/sh", "PATH=/usr/bin:/bin", "HOME=" + cmd.Dir, "LOGNAME=root", markOf(b)}
	return cmd
}

// markOf is what marks the processes of a host.
func markOf(b *bed) string {
	for _, pair := range b.Env {
		if strings.HasPrefix(pair, "STORM_MARK=") {
			return pair
		}
	}
	panic("the host has no mark")
}

// TestStormCron runs rows as cron does, with its environment and without a
// terminal: logs that cannot be written, and runs that meet.
func TestStormCron(t *testing.T) {
	t.Parallel()
	b := newBed(t, storm.World(t))
	silent, connected := babbler(t, "")
	// cron gives none of the environment: all is in the file.
	config := filepath.Join(b.Dir, "escrowctl.yaml")
	settings := func(database string) {
		write0(t, config, fmt.Sprintf("env: staging\ndump: {via: host}\ndatabase: {url: %q}\nstate: {dir: %s}\nperf: {sources: [database, disk]}\nredis: {url: \"\"}\nreport: {api_metrics: \"off\", webhook: %q}\n",
			database, b.State, b.sink.WebhookURL()))
	}
	settings(b.URL(kit.DB))
	logs := filepath.Join(b.Dir, "logs")
	if err := os.Mkdir(logs, 0o755); err != nil {
		t.Fatal(err)
	}
	row := cronRow(t, b, logs, "perf analyze")
	log := regexp.MustCompile(`>> (\S+)`).FindStringSubmatch(row)[1]
	last := func(t *testing.T, outcome string) {
		t.Helper()
		runs := runsOf(t, b, "perf")
		if len(runs) == 0 || !strings.Contains(runs[len(runs)-1], `"outcome":"`+outcome+`"`) {
			t.Errorf("the last record, want %s: %q", outcome, runs)
		}
	}
	run := func(t *testing.T) int {
		t.Helper()
		cmd := underCron(b, row)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		storm.Report.Record(t, "cron", t.Name(), kit.Result{Args: []string{"perf", "analyze"}, Code: cmd.ProcessState.ExitCode(), Took: cmd.ProcessState.UserTime()})
		if len(out) > 0 {
			t.Logf("to cron's mail: %s", out)
		}
		return cmd.ProcessState.ExitCode()
	}
	t.Run("well", func(t *testing.T) {
		if code := run(t); code > 2 {
			t.Errorf("exit %d", code)
		}
		text, _ := os.ReadFile(log)
		if !regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (ok|warning|critical): `).Match(text) || strings.Contains(string(text), "\x1b") {
			t.Errorf("the log has no verdict: %s", text)
		}
	})
	t.Run("the disk of the log is full", func(t *testing.T) {
		undo := badDisks()[0].make(t, logs)
		defer undo()
		// What it found is on no disk: that is a failure, and people hear of it.
		before := len(b.sink.Texts(t))
		code := run(t)
		if runs := runsOf(t, b, "perf"); len(runs) < 2 || code == 0 && !strings.Contains(runs[1], `"outcome":"ok"`) {
			t.Errorf("exit %d, recorded %q", code, runs)
		}
		if code != 0 && code != 1 && len(b.failures(t, before)) == 0 && code != 2 {
			t.Errorf("exit %d, and nobody is told", code)
		}
	})
	t.Run("it meets the one before", func(t *testing.T) {
		settings("postgres://u:p@" + silent + "/x?sslmode=disable&connect_timeout=100")
		first := b.Start(t, kit.Call{Args: []string{"perf", "analyze", "--config", config}, Env: named("DATABASE_URL", "postgres://u:p@"+silent+"/x?sslmode=disable")})
		first.Until(t, "it waits for the database", connected)
		if code := run(t); code != 75 {
			t.Errorf("exit %d", code)
		}
		text, _ := os.ReadFile(log)
		if lines := strings.Split(strings.TrimSpace(string(text)), "\n"); !strings.Contains(lines[len(lines)-1], "another run is in progress") {
			t.Errorf("the log ends: %s", lines[len(lines)-1])
		}
		first.Signal(15)
		if res := first.Wait(t); res.Code != 143 {
			t.Errorf("the first: exit %d: %s", res.Code, res.Stderr)
		}
		last(t, "interrupted")
		settings(b.URL(kit.DB))
	})
	t.Run("well again", func(t *testing.T) {
		if code := run(t); code > 2 {
			t.Errorf("exit %d", code)
		}
		b.NoLeaks(t)
	})
}

// night is one in which the clocks change.
type night struct {
	zone, row string
	due, next time.Time // when the row is due in it, and the time after
}

func nights() []night {
	at := func(text string) time.Time {
		when, err := time.Parse("2006-01-02 15:04", text)
		if err != nil {
			panic(err)
		}
		return when
	}
	return []night{
		{"Europe/Berlin", "30 2 * * *", at("2026-03-29 01:00"), at("2026-03-30 00:30")},    // the hour is left out: right after it
		{"Europe/Berlin", "30 2 * * *", at("2026-10-25 00:30"), at("2026-10-26 01:30")},    // it comes twice: once
		{"America/New_York", "30 2 * * *", at("2026-03-08 07:00"), at("2026-03-09 06:30")}, // left out
		{"America/New_York", "30 1 * * *", at("2026-11-01 05:30"), at("2026-11-02 06:30")}, // twice
	}
}

// TestStormClockChange goes through the nights in which the clocks change: a job
// that ran when cron ran it is no missed one and not due again in the hour that
// comes twice, and one that did not run is missed.
func TestStormClockChange(t *testing.T) {
	t.Parallel()
	testenv.Need(t, os.Geteuid() == 0, "root", "another /etc is root's to mount")
	_, err := os.Stat("/usr/share/zoneinfo/Europe/Berlin")
	testenv.Need(t, err == nil, "time zones in /usr/share/zoneinfo", "apt-get install tzdata")
	w := storm.World(t)
	for i, n := range nights() {
		t.Run(n.zone+" "+n.due.Format(time.DateOnly), func(t *testing.T) {
			if i%3 != 0 && !kit.Full() {
				t.Skip("only with STORM=full")
			}
			clockChange(t, newBed(t, w, "ESCROWCTL_PERF_SOURCES=disk", "DATABASE_URL="), n)
		})
	}
}

func clockChange(t *testing.T, b *bed, n night) {
	t.Helper()
	etc := filepath.Join(b.Dir, "etc")
	if out, err := exec.Command("cp", "-a", "/etc", etc).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_ = os.Remove(filepath.Join(etc, "localtime"))
	if err := os.Symlink("/usr/share/zoneinfo/"+n.zone, filepath.Join(etc, "localtime")); err != nil {
		t.Fatal(err)
	}
	write0(t, filepath.Join(etc, "crontab"), n.row+" root "+storm.Binary(t)+" perf analyze\n")
	in := func(when time.Time, args ...string) kit.Result {
		t.Helper()
		call := atClock(t, time.Until(when), kit.Call{Args: args})
		call.Wrap = []string{"unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc && exec "$@"`, etc}
		return b.Call(t, call)
	}
	perf := func(when time.Time) (status, summary string) {
		t.Helper()
		res := in(when, "shift-check", "--only", "schedule", "--json")
		var doc struct {
			Checks []struct {
				Parts []struct{ ID, Status, Summary string }
			}
		}
		if err := json.Unmarshal([]byte(res.Stdout), &doc); err != nil || len(doc.Checks) != 1 {
			t.Fatalf("%v: exit %d: %s%s", err, res.Code, res.Stdout, res.Stderr)
		}
		for _, p := range doc.Checks[0].Parts {
			if p.ID == "perf" {
				storm.Report.Record(t, "clock change", n.zone+" "+n.due.Format(time.DateOnly), res)
				return p.Status, p.Summary
			}
		}
		t.Fatalf("no job perf: %s", res.Stdout)
		return "", ""
	}
	missed := fmt.Sprintf("due %s UTC, and no run is recorded", n.due.Format("2006-01-02 15:04"))
	morning := n.due.Add(6 * time.Hour)
	if status, text := perf(morning); status != "warning" || !strings.Contains(text, "no run is recorded") {
		t.Errorf("without a run: %s: %s, want %s", status, text, missed)
	}
	if res := in(n.due.Add(5*time.Second), "perf", "analyze"); res.Code > 2 {
		t.Fatalf("the night's run: exit %d: %s", res.Code, res.Stderr)
	}
	for _, when := range []time.Time{n.due.Add(20 * time.Minute), n.due.Add(80 * time.Minute), morning} {
		if status, text := perf(when); status != "ok" {
			t.Errorf("at %s, after its run of %s: %s: %s", when.Format(time.DateTime), n.due.Format(time.DateTime), status, text)
		}
	}
	res := in(morning, "cron", "list", "--json")
	var list struct {
		Rows []struct {
			Job  string    `json:"job"`
			Next time.Time `json:"next"`
		} `json:"rows"`
	}
	if err := json.Unmarshal([]byte(res.Stdout), &list); err != nil {
		t.Fatalf("%v: %s%s", err, res.Stdout, res.Stderr)
	}
	for _, r := range list.Rows {
		if r.Job == "perf" && !r.Next.Equal(n.next) {
			t.Errorf("next at %s, want %s", r.Next, n.next)
		}
	}
	if status, _ := perf(n.next.Add(6 * time.Hour)); status != "warning" {
		t.Errorf("the next night, without a run: %s", status)
	}
}
