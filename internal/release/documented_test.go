package main

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// TestDocumentedMachine types the blocks of README and docs that change a whole
// machine, each on a new Debian that systemd has started, as an administrator who
// may use sudo.
func TestDocumentedMachine(t *testing.T) {
	readme := testenv.RunBy(t, "README.md", t.Name(), 1)
	install := testenv.RunBy(t, "docs/install.md", t.Name(), 3)
	cron := testenv.RunBy(t, "docs/cron.md", t.Name(), 1)
	migrate := testenv.RunBy(t, "docs/migrate.md", t.Name(), 1)
	privileges := testenv.RunBy(t, "docs/privileges.md", t.Name(), 1)
	deb := release(t, top, "v1.0.0").deb
	for name, types := range map[string]func(administered){
		"install":    func(m administered) { m.installs(readme[0], install[0]) },
		"cron":       func(m administered) { m.schedules(install[1], cron[0]) },
		"timers":     func(m administered) { m.enables(install[2]) },
		"migrate":    func(m administered) { m.migrates(migrate[0]) },
		"privileges": func(m administered) { m.makesUser(privileges[0]) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			types(administer(t, deb))
		})
	}
}

// administered is a machine with systemd, and an administrator with the package
// in his home directory and in dist below it.
type administered struct{ machine }

func administer(t *testing.T, deb string) administered {
	t.Helper()
	d := testenv.Docker(t)
	id := d.Start(t, testenv.Container{
		Image: testenv.Image(t, "host"), Env: []string{"container=docker"}, Tmpfs: map[string]string{"/run": ""},
		Systemd: true, Cmd: []string{"sh", "-c", "mount -o remount,rw /sys/fs/cgroup && exec /lib/systemd/systemd"},
	})
	m := administered{machine{t, d, id}}
	out, err := m.sh("for i in $(seq 600); do systemctl is-system-running | grep -E 'running|degraded' && exit; sleep 0.2; done; exit 1")
	testenv.Need(t, err == nil, "systemd as PID 1 of a container: "+out, "a Docker Engine whose containers may mount")
	m.must("useradd --create-home --shell /bin/bash admin && echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin && mkdir /home/admin/dist && echo \"127.0.0.1 $(hostname)\" >>/etc/hosts")
	for _, dir := range []string{"/home/admin/", "/home/admin/dist/"} {
		m.copy(deb, dir)
	}
	return m
}

// types runs a block as a user in his home directory, with yes to all questions.
// escrowctl may end with an exit code up to worst.
func (m administered) types(user, block string, worst int, says ...string) {
	m.t.Helper()
	block = strings.ReplaceAll(block, "_amd64.deb", "_"+runtime.GOARCH+".deb") // of this machine
	const answered = `cd && yes yes | SUDO_EDITOR=/home/editor bash -c "$0"`
	out, err := exec.Command("docker", "exec", m.id, "su", "-", user, "-s", "/bin/bash", "-c", answered, "--", testenv.Script(block, worst)).CombinedOutput()
	if err != nil {
		m.t.Errorf("%v\n%s\n%s", err, block, out)
	}
	for _, s := range says {
		if !strings.Contains(string(out), s) {
			m.t.Errorf("it does not say %q:\n%s\n%s", s, block, out)
		}
	}
}

// installs: doctor is not content with a machine that has a package and no more.
func (m administered) installs(readme, page string) {
	const missing = "no crontab runs escrowctl backup"
	m.types("admin", readme, 2, "Setting up escrowctl (1.0.0)", missing, "escrowctl cron install")
	m.must("dpkg -P escrowctl; printf '#!/bin/sh\\necho \"env: staging # by hand\" >>\"$1\"\\n' >/home/editor; chmod 0755 /home/editor")
	m.types("admin", page, 2, "Setting up escrowctl (1.0.0)", missing, "escrowctl cron install")
	m.must("stat -c '%a %U' /etc/escrowctl/escrowctl.yaml; tail -n 1 /etc/escrowctl/escrowctl.yaml; escrowctl config show", "640 root\nenv: staging # by hand\n", "staging")
}

// installed is the package, and a way to begin anew.
func (m administered) installed() { m.must("dpkg -i /home/admin/*.deb") }

func (m administered) schedules(install, page string) {
	m.installed()
	m.types("admin", install, 0, "5 rows of the schedule, nothing wrong")
	m.must("crontab -l", "/usr/bin/escrowctl backup >>", "/usr/bin/escrowctl dr-test >>")
	m.must("escrowctl cron remove")
	// As one who may read the configuration. The user of --system may not, nor
	// write the logs, which is told.
	m.types("root", page, 1, "+0 2 * * * /usr/bin/escrowctl backup >> ", "5 rows in the crontab of root", "5 rows in the /etc/cron.d/escrowctl",
		"backup may not read /etc/escrowctl/escrowctl.yaml", "backup may not write /var/log")
	m.must("crontab -l", "\n0 2 * * * /usr/bin/escrowctl backup >>")
	m.must("cat /etc/cron.d/escrowctl", "\n0 2 * * * backup /usr/bin/escrowctl backup >>")
}

// enables: the timers are on, and count as rows.
func (m administered) enables(page string) {
	m.installed()
	timers := []string{"escrowctl-backup.timer", "escrowctl-backup-verify.timer", "escrowctl-certs.timer", "escrowctl-perf.timer", "escrowctl-dr-test.timer"}
	m.types("admin", page, 0, append(timers, "5 timers listed")...)
	m.must("systemctl is-active " + strings.Join(timers, " ") + " && systemctl is-enabled " + strings.Join(timers, " "))
	m.must("escrowctl cron check", "5 rows of the schedule, nothing wrong")
	m.must("dpkg -r escrowctl && ! systemctl list-timers --all | grep escrowctl")
}

// migrates a machine with the old scripts in root's crontab. shift-check finds no
// platform beside it.
func (m administered) migrates(page string) {
	m.installed()
	m.copy(top+"/internal/migrate/testdata/scripts", "/opt/scripts")
	m.must(`printf '%s\n' DATABASE_URL=postgres://indexer:hidden@127.0.0.1:5432/stellar_escrow >/opt/.env && chmod 0600 /opt/.env && crontab - <<-'ROWS'
		0 2 * * * /opt/scripts/backup.sh >> /var/log/stellar-backup.log 2>&1
		0 4 1 * * /opt/scripts/dr-test.sh >> /var/log/stellar-dr-test.log 2>&1
	ROWS`)
	const last = "sudo escrowctl shift-check\n"
	block, found := strings.CutSuffix(page, last)
	if !found {
		m.t.Fatalf("it does not end with %s: %s", last, page)
	}
	m.types("admin", block, 0, "dry run: nothing is changed", "/usr/bin/escrowctl migrate compare >>", "5 rows of the schedule, nothing wrong")
	m.types("admin", last, 2, "respond by")
	m.must("crontab -l", "# replaced by escrowctl: 0 2 * * * /opt/scripts/backup.sh >>", "\n0 2 * * * /usr/bin/escrowctl backup >>", "\n0 4 1 * * /usr/bin/escrowctl dr-test >>")
	m.must("escrowctl config show", "/opt/.env")
}

// makesUser: the user may read the configuration, write the backups and the logs,
// and use Docker's socket.
func (m administered) makesUser(page string) {
	m.installed()
	m.must("groupadd --system docker && echo 'database: {url: postgres://indexer@127.0.0.1/app}' >escrowctl.yaml && mv escrowctl.yaml /root/")
	m.types("root", page, 0)
	const as = "sudo -u escrowctl escrowctl "
	m.must("id -nG escrowctl", "docker")
	m.must(as+"config check", "/etc/escrowctl/escrowctl.yaml")
	m.must(as+"cron install && "+as+"cron check", "5 rows of the schedule, nothing wrong")
	m.must("sudo -u escrowctl touch /var/backups/stellarescrow/file && stat -c '%a %U' /var/backups/stellarescrow", "700 escrowctl")
}
