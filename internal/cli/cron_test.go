package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/cronhost"
	"github.com/stellarescrow/escrowctl/internal/schedule"
)

// fakeCrontab does what crontab does with a user's file below a root.
const fakeCrontab = `#!/bin/sh
root=$(dirname "$0")
user=$(id -un)
if [ "$1" = -u ]; then user=$2; shift 2; fi
file=$root/var/spool/cron/crontabs/$user
case $1 in
-l) [ -e "$file" ] || { echo "no crontab for $user" >&2; exit 1; }; cat "$file" ;;
-r) rm "$file" ;;
-) cat > "$file" ;;
esac
`

// cronTree is a host with a program, a log directory, a daemon and a crontab.
func cronTree(t *testing.T, inv *invocation, crontab string) (file string) {
	t.Helper()
	root := t.TempDir()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(root, "var/spool/cron/crontabs", me.Username)
	for name, text := range map[string]string{
		"crontab": fakeCrontab, "usr/local/bin/escrowctl": "x", "opt/stellarescrow/scripts/backup.sh": "x", "var/log/any.log": "", "proc/9/comm": "cron\n",
		"etc/cron.d/empty": "", "etc/%H.yaml": "", "var/spool/cron/crontabs/" + me.Username: crontab,
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if text == "" && path == file {
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	inv.cron = cronhost.Host{Root: root, Command: filepath.Join(root, "crontab")}
	return file
}

// rows are rows for every job that this program can do.
func cronRows(t *testing.T) string {
	t.Helper()
	jobs, err := cronJobs(false)
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, j := range jobs {
		if j.Available {
			text += fmt.Sprintf("%s /usr/local/bin/escrowctl %s >> %s 2>&1\n", j.Spec, strings.Join(append([]string{j.Command}, j.Args...), " "), j.Log)
		}
	}
	return text
}

// One fault each: only it is found.
func TestCronCheck(t *testing.T) {
	const backup = "0 2 * * * /usr/local/bin/escrowctl backup >> /var/log/stellar-backup.log 2>&1\n"
	sound := cronRows(t)
	if !strings.Contains(sound, backup) {
		t.Fatalf("no row of the backup's in %s", sound)
	}
	for _, tt := range []struct {
		name, crontab string
		code          schedule.Code // "" for none
		exit          int
		says          string
	}{
		{"sound", sound, "", 0, "nothing wrong"},
		{"row missing", strings.Replace(sound, backup, "", 1), schedule.Missing, 2, "backup: no crontab runs escrowctl backup"},
		{"row commented out", strings.Replace(sound, backup, "#"+backup, 1), schedule.Missing, 2, "backup: no crontab runs escrowctl backup"},
		{"program misspelt", strings.Replace(sound, "/escrowctl backup >>", "/escrowclt backup >>", 1), schedule.Misspelt, 2, `"/usr/local/bin/escrowclt" is probably meant to be escrowctl`},
		{"subcommand misspelt", strings.Replace(sound, "escrowctl backup >>", "escrowctl bakcup >>", 1), schedule.Misspelt, 2, `did you mean "backup"?`},
		{"flag misspelt", strings.Replace(sound, "escrowctl backup >>", "escrowctl backup --no-such >>", 1), schedule.Misspelt, 2, "--no-such"},
		{"time refused", strings.Replace(sound, "0 2 * * * ", "0 2 * * ", 1), schedule.Refused, 2, "cron refuses the row"},
		{"never", strings.Replace(sound, "0 2 * * * ", "0 2 30 2 * ", 1), schedule.Never, 2, "never comes"},
		{"odd", strings.Replace(sound, "0 2 * * * ", "0 2 * * *x ", 1), schedule.Odd, 1, `cron ignores "x"`},
		{"percent", strings.Replace(sound, "escrowctl backup >>", "escrowctl backup --config /etc/%H.yaml >>", 1), schedule.Percent, 2, `write \%`},
		{"percent escaped", strings.Replace(sound, "escrowctl backup >>", `escrowctl backup --config /etc/\%H.yaml >>`, 1), "", 0, "nothing wrong"},
		{"program gone", strings.Replace(sound, "/usr/local/bin/escrowctl backup >>", "/opt/escrowctl backup >>", 1), schedule.NoProgram, 2, "/opt/escrowctl does not exist"},
		{"program not in cron's path", strings.Replace(sound, "/usr/local/bin/escrowctl backup >>", "escrowctl backup >>", 1), schedule.NoProgram, 2, "in none of /usr/bin:/bin"},
		{"program in the crontab's path", "PATH=/usr/local/bin:/bin\n" + strings.ReplaceAll(sound, "/usr/local/bin/escrowctl", "escrowctl"), "", 0, "nothing wrong"},
		{"shell gone", "SHELL=/bin/none\n" + sound, schedule.NoShell, 2, "the crontab's SHELL: /bin/none does not exist"},
		{"shell of those who may not log in", "SHELL=/usr/sbin/nologin\n" + sound, schedule.NoShell, 2, "/usr/sbin/nologin runs no commands"},
		{"log's directory gone", strings.Replace(sound, "backup >> /var/log/", "backup >> /var/logs/", 1), schedule.NoLog, 2, "the directory /var/logs does not exist"},
		{"old script beside ours", sound + "0 2 * * * /opt/stellarescrow/scripts/backup.sh >> /var/log/stellar-backup.log 2>&1\n", schedule.Double, 1, "backup.sh still runs beside"},
		{"old script in the compose project", sound + "0 2 * * * cd /srv && docker compose run --rm backup bash /scripts/backup.sh\n", schedule.Double, 1, "backup.sh still runs beside"},
		{"old script instead", strings.Replace(sound, backup, "0 2 * * * /opt/stellarescrow/scripts/backup.sh\n", 1), schedule.OldScript, 1, "no run is recorded"},
		{"twice", sound + backup, schedule.Double, 1, "the same job at the same time"},
		{"seldom", strings.Replace(sound, "0 2 * * * ", "0 2 * * 1 ", 1), schedule.Seldom, 1, "up to 7d lie between two runs"},
		{"another time", strings.Replace(sound, "0 2 * * * ", "30 3 * * * ", 1), schedule.OtherTime, 0, "30 3 * * * in UTC is next"},
		{"no newline at the end", strings.TrimSuffix(sound, "\n"), schedule.Unfinished, 1, "no newline"},
		{"wrapped", strings.Replace(sound, "/usr/local/bin/escrowctl backup >>", "flock -n /run/b nice -n 5 /usr/local/bin/escrowctl -q backup >>", 1), "", 0, "nothing wrong"},
		{"our name as an argument", sound + "0 1 * * * tail /var/log/escrowctl /etc/logrotate.d/escrowctl\n", "", 0, "nothing wrong"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv := invoke(t)
			cronTree(t, inv, tt.crontab)
			code := inv.run(t, "cron", "check")
			if code != tt.exit || !strings.Contains(inv.out.String(), tt.says) {
				t.Errorf("exit %d, want %d: %s%s", code, tt.exit, &inv.out, &inv.errs)
			}
			again := invoke(t)
			again.cron = inv.cron
			again.run(t, "cron", "check", "--json")
			var doc struct{ Findings []schedule.Finding }
			if err := json.Unmarshal(again.out.Bytes(), &doc); err != nil {
				t.Fatal(err)
			}
			for _, f := range doc.Findings {
				// A name that is wrong is also the name of no program, a row that
				// cannot be read is none, and one that never comes comes seldom.
				also := f.Code == schedule.OtherTime && tt.code == schedule.Seldom || f.Code == schedule.NoProgram && tt.code == schedule.Misspelt || f.Code == schedule.Missing && tt.code == schedule.Misspelt
				if f.Code != tt.code && !also {
					t.Errorf("also found %+v", f)
				}
			}
			if tt.code != "" && len(doc.Findings) == 0 {
				t.Error("nothing found")
			}
		})
	}
}

// TestCronNoConfig: a row whose user may not read the configuration, as that of the
// package, ends at once every night. What is read elsewhere is not known.
func TestCronNoConfig(t *testing.T) {
	const may = "nobody may not read /etc/escrowctl/escrowctl.yaml"
	for _, tt := range []struct {
		row  string // of /etc/cron.d
		mode os.FileMode
		dir  os.FileMode
		says string
	}{
		{"nobody escrowctl backup", 0o640, 0o755, may},
		{"nobody escrowctl backup", 0o644, 0o750, may + ": not below /etc/escrowctl"},
		{"nobody escrowctl backup", 0o644, 0o755, ""},
		{"root escrowctl backup", 0o600, 0o700, ""},
		{"nobody sudo escrowctl backup", 0o640, 0o755, ""},
		{"nobody cd /srv && escrowctl backup", 0o640, 0o755, ""},
		{"nobody ESCROWCTL_CONFIG=/etc/other.yaml escrowctl backup", 0o640, 0o755, ""},
		{"nobody nice escrowctl --config /etc/other.yaml backup", 0o640, 0o755, ""},
		{"root escrowctl backup --config=/etc/none.yaml", 0o640, 0o755, "/etc/none.yaml does not exist"},
		{"nobody escrowctl backup --config /etc/escrowctl/escrowctl.yaml", 0o640, 0o755, may},
	} {
		inv := invoke(t)
		root := filepath.Join(cronTree(t, inv, ""), "../../../../..")
		dir := filepath.Join(root, "etc/escrowctl")
		err := errors.Join(
			os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "escrowctl.yaml"), nil, tt.mode), os.Chmod(dir, tt.dir),
			os.WriteFile(filepath.Join(root, "etc/other.yaml"), nil, 0o644),
			os.WriteFile(filepath.Join(root, "etc/cron.d/ours"), []byte("PATH=/usr/local/bin\n0 2 * * * "+tt.row+"\n"), 0o644),
		)
		if err != nil {
			t.Fatal(err)
		}
		inv.run(t, "cron", "check")
		if said := inv.out.String(); (tt.says != "") != strings.Contains(said, "/etc/cron.d/ours") || !strings.Contains(said, tt.says) {
			t.Errorf("%s, %o in %o: %s%s", tt.row, tt.mode, tt.dir, said, &inv.errs)
		}
	}
}

func TestCronNoDaemon(t *testing.T) {
	inv := invoke(t)
	file := cronTree(t, inv, cronRows(t))
	if err := os.RemoveAll(filepath.Join(file, "../../../../../proc")); err != nil {
		t.Fatal(err)
	}
	if code := inv.run(t, "cron", "check"); code != 2 || !strings.Contains(inv.out.String(), "no cron daemon runs") {
		t.Errorf("exit %d: %s", code, &inv.out)
	}
}

func TestCronInstallAndRemove(t *testing.T) {
	const before = "# mine \n\n\tMAILTO = x\n5 4 * * * true %a\\%\r\n"
	inv := invoke(t)
	file := cronTree(t, inv, before)
	read := func() string {
		t.Helper()
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	run := func(args ...string) (int, string) {
		t.Helper()
		next := invoke(t)
		next.cron = inv.cron
		code := next.run(t, args...)
		return code, next.out.String() + next.errs.String()
	}
	const program = "--program=/usr/local/bin/escrowctl"
	code, said := run("cron", "install", "--dry-run", program)
	// 1: what sets the test's state directory is not there under cron.
	if code != 1 || read() != before || !strings.Contains(said, "\n 5 4 * * * true %a\\%") || !strings.Contains(said, "\n+0 2 * * * /usr/local/bin/escrowctl backup >> /var/log/stellar-backup.log 2>&1\n") {
		t.Errorf("dry run: exit %d: %s", code, said)
	}
	if code, said = run("cron", "install", program); code != 1 || !strings.HasPrefix(read(), before+"# BEGIN escrowctl") {
		t.Errorf("exit %d: %s\n%s", code, said, read())
	}
	installed := read()
	if code, said = run("cron", "install", program); code != 1 || read() != installed || !strings.Contains(said, "already") {
		t.Errorf("again: exit %d: %s", code, said)
	}
	if code, said = run("cron", "check"); code != 0 {
		t.Errorf("check: exit %d: %s", code, said)
	}
	if code, said = run("cron", "list"); code != 0 || !strings.Contains(said, "2026-01-03 02:00") {
		t.Errorf("list: exit %d: %s", code, said)
	}
	if code, said = run("cron", "remove", "--dry-run"); code != 0 || read() != installed || !strings.Contains(said, "\n-0 2 * * * ") {
		t.Errorf("dry run of remove: exit %d: %s", code, said)
	}
	if code, said = run("cron", "remove"); code != 0 || read() != before {
		t.Errorf("remove: exit %d: %s\n%q", code, said, read())
	}
	if code, said = run("cron", "remove"); code != 1 || !strings.Contains(said, "nothing to remove") {
		t.Errorf("remove twice: exit %d: %s", code, said)
	}
}

func TestCronInstallWarns(t *testing.T) {
	const script = "0 2 * * * /opt/stellarescrow/scripts/backup.sh\n"
	inv := invoke(t, "DATABASE_URL=postgres://u:secret@db/x", "AWS_ACCESS_KEY_ID=AKIA")
	cronTree(t, inv, script)
	code := inv.run(t, "cron", "install", "--program=/usr/local/bin/escrowctl")
	said := inv.errs.String()
	for _, want := range []string{"AWS_ACCESS_KEY_ID, DATABASE_URL", "backup.sh still runs beside"} {
		if code != 1 || !strings.Contains(said, want) {
			t.Errorf("exit %d, no %q in %s", code, want, said)
		}
	}
	if strings.Contains(said, "secret") {
		t.Error("a password is shown")
	}
	written, err := os.ReadFile("state/journal/changes.jsonl")
	if err != nil || !strings.Contains(string(written), `"command":"cron install"`) || !strings.Contains(string(written), "in the crontab of ") {
		t.Errorf("the journal has %s, %v", written, err)
	}
}

func TestCronSystemFile(t *testing.T) {
	inv := invoke(t)
	cronTree(t, inv, "")
	write(t, "escrowctl.yaml", "env: staging\n")
	if code := inv.run(t, "cron", "install", "--system", "--user", "root", "--program", "/usr/local/bin/escrowctl", "--log-dir", "logs"); code > 1 {
		t.Fatalf("exit %d: %s", code, &inv.errs)
	}
	text, err := os.ReadFile(inv.cron.SystemFile())
	dir, _ := os.Getwd()
	want := fmt.Sprintf("0 2 * * * root /usr/local/bin/escrowctl --config %s/escrowctl.yaml backup >> %s/logs/stellar-backup.log 2>&1\n", dir, dir)
	if err != nil || !strings.Contains(string(text), want) {
		t.Errorf("the file is\n%s, %v, want\n%s", text, err, want)
	}
	next := invoke(t)
	next.cron = inv.cron
	if code := next.run(t, "cron", "remove", "--system"); code != 0 {
		t.Errorf("remove: exit %d: %s", code, &next.errs)
	}
	if _, err := os.Stat(inv.cron.SystemFile()); !os.IsNotExist(err) {
		t.Errorf("the empty file stays: %v", err)
	}
}

// The host's zone is not UTC, the runbook's times are.
func TestCronInAnotherZone(t *testing.T) {
	const berlin = "/usr/share/zoneinfo/Europe/Berlin"
	if _, err := os.Stat(berlin); err != nil {
		t.Skip("SKIPPED: no zones on this machine")
	}
	inv := invoke(t)
	file := cronTree(t, inv, "0 2 * * * /usr/local/bin/escrowctl backup\n")
	if err := os.Symlink(berlin, filepath.Join(file, "../../../../../etc/localtime")); err != nil {
		t.Fatal(err)
	}
	inv.run(t, "cron", "check")
	if want := "0 2 * * * in Europe/Berlin is next 2026-01-03 01:00 UTC, the runbook's 0 2 * * * is next 2026-01-03 02:00 UTC"; !strings.Contains(inv.out.String(), want) {
		t.Errorf("check says %s", &inv.out)
	}
	next := invoke(t)
	next.cron = inv.cron
	next.run(t, "cron", "install", "--dry-run", "--program=/usr/local/bin/escrowctl")
	if said := next.out.String() + next.errs.String(); !strings.Contains(said, "+0 3 * * * /usr/local/bin/escrowctl backup") || !strings.Contains(said, "in winter and 1h0m0s earlier in summer") {
		t.Errorf("install says %s", said)
	}
}

func TestCronMisuse(t *testing.T) {
	for args, want := range map[string]string{
		"cron install --program escrowctl":    "absolute path",
		"cron install --program /usr/bin/ctl": "whose last part is escrowctl",
		"cron install":                        "install it as escrowctl",
	} {
		inv := invoke(t)
		cronTree(t, inv, "")
		if code := inv.run(t, strings.Fields(args)...); code != 3 || !strings.Contains(inv.errs.String(), want) {
			t.Errorf("%s: exit %d: %s", args, code, &inv.errs)
		}
	}
}

// TestCronTimers: the timers of the package do what the rows do, without a cron
// daemon, and beside the rows they do it twice.
func TestCronTimers(t *testing.T) {
	top, err := filepath.Abs(repository) // before the working directory changes
	if err != nil {
		t.Fatal(err)
	}
	inv := invoke(t)
	cronTree(t, inv, "")
	root := inv.cron.Root
	place := func(name string, body []byte) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, body, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	place("usr/bin/escrowctl", nil)
	place("run/systemd/system/.keep", nil)
	units, err := filepath.Glob(filepath.Join(top, "deploy/systemd/*"))
	if err != nil || len(units) != 10 {
		t.Fatalf("%q, %v", units, err)
	}
	for _, unit := range units {
		body, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		place("usr/lib/systemd/system/"+filepath.Base(unit), body)
		if strings.HasSuffix(unit, ".timer") {
			place("etc/systemd/system/timers.target.wants/"+filepath.Base(unit), nil)
		}
	}
	if err := os.RemoveAll(filepath.Join(root, "proc")); err != nil {
		t.Fatal(err)
	}
	again := func() *invocation {
		next := invoke(t)
		next.cron = inv.cron
		next.io.Now = time.Now
		return next
	}
	run := again()
	if code := run.run(t, "cron", "check"); code != 0 || !strings.Contains(run.out.String(), "5 rows of the schedule, nothing wrong") {
		t.Errorf("exit %d: %s%s", code, &run.out, &run.errs)
	}
	run = again()
	run.environ = []string{"HOME=" + t.TempDir()} // of the environment nothing gets to timers
	if c := runDoctor(t, run, "--only", "schedule").named(t, "schedule"); c.Status != check.OK || !strings.HasPrefix(c.Summary, "systemd runs, 5 rows") {
		t.Errorf("doctor: %+v", c)
	}
	if c := shiftOnly(t, again(), "schedule"); c.Status != check.OK {
		t.Errorf("shift-check: %+v", c)
	}
	place("proc/9/comm", []byte("cron\n"))
	place("etc/cron.d/escrowctl", []byte("0 2 * * * root /usr/bin/escrowctl backup >> /var/log/stellar-backup.log 2>&1\n"))
	run = again()
	if code := run.run(t, "cron", "check"); code != 1 || !strings.Contains(run.out.String(), "the same job at the same time") {
		t.Errorf("twice: exit %d: %s%s", code, &run.out, &run.errs)
	}
	if err := os.RemoveAll(filepath.Join(root, "proc")); err != nil {
		t.Fatal(err)
	}
	run = again()
	if code := run.run(t, "cron", "check"); code != 2 || !strings.Contains(run.out.String(), "no cron daemon runs") {
		t.Errorf("a row without cron: exit %d: %s%s", code, &run.out, &run.errs)
	}
}

// TestScheduledJobsAreFound: the runs that a job's command records are those that
// its row is judged by.
func TestScheduledJobsAreFound(t *testing.T) {
	jobs, err := cronJobs(true)
	if err != nil {
		t.Fatal(err)
	}
	recorded := map[string]string{"backup": backupJob, "dr-test": drTestJob, "certs renew": certsJob, "perf analyze": perfJob, "backup verify": verifyJob}
	for _, j := range jobs {
		if runsOf(j) != recorded[j.Command] {
			t.Errorf("%s records its runs as %q, its row is judged by those of %q", j.Command, recorded[j.Command], runsOf(j))
		}
	}
}
