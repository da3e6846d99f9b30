package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// TestSudoRule: with the rule of docs/privileges.md, to the letter, sudo lets the
// user run that one command as root, with no variable of his, and nothing else.
func TestSudoRule(t *testing.T) {
	t.Parallel()
	rule := testenv.RunBy(t, "docs/privileges.md", t.Name(), 1)[0]
	d := testenv.Docker(t)
	image := testenv.Image(t, "host")
	// In escrowctl's place a program that says as whom and with what it was run.
	const program = "#!/bin/sh\necho \"ran as $(id -u) with $*\"\nenv\n"
	id := d.Start(t, testenv.Container{Image: image, Cmd: []string{"sleep", "1000000"}, Files: map[string]string{"/usr/bin/escrowctl": program, "/etc/sudoers.d/escrowctl": rule}})
	if exec.Command("docker", "exec", id, "sh", "-c", "command -v sudo").Run() != nil {
		testenv.Need(t, false, "sudo in the image "+image, "make images")
	}
	d.Exec(t, id, "sh", "-c", "chmod 0755 /usr/bin/escrowctl && chmod 0440 /etc/sudoers.d/escrowctl && chown root:root /usr/bin/escrowctl /etc/sudoers.d/escrowctl &&"+
		"useradd --system --create-home escrowctl && useradd --create-home other && ln -s /bin/sh /home/escrowctl/link && printf '#!/bin/sh\\necho another ran as $(id -u)\\n' >/home/escrowctl/escrowctl && chmod 0755 /home/escrowctl/escrowctl")
	if out := d.Exec(t, id, "visudo", "-cf", "/etc/sudoers.d/escrowctl"); !strings.Contains(out, "parsed OK") {
		t.Errorf("visudo: %s", out)
	}
	as := func(user, script string) (string, error) {
		out, err := exec.Command("docker", "exec", "-u", user, "-e", "HOME=/home/"+user, "-w", "/home/"+user, id, "sh", "-c", script).CombinedOutput()
		return string(out), err
	}
	for _, script := range []string{
		"sudo -n /usr/bin/escrowctl certs renew", "sudo -n escrowctl certs renew",
		"ESCROWCTL_CONFIG=/tmp/mine AWS_ACCESS_KEY_ID=x BASH_ENV=/tmp/x sudo -n /usr/bin/escrowctl certs renew",
		"PATH=/home/escrowctl:$PATH sudo -n escrowctl certs renew",
	} {
		out, err := as("escrowctl", script)
		if err != nil || !strings.Contains(out, "ran as 0 with certs renew\n") {
			t.Errorf("%s: %v: %s", script, err, out)
		}
		for _, passed := range []string{"ESCROWCTL_CONFIG", "AWS_ACCESS_KEY_ID", "BASH_ENV", "PATH=/home"} {
			if strings.Contains(out, passed) {
				t.Errorf("%s: root gets %s of the user: %s", script, passed, out)
			}
		}
	}
	refused := map[string][]string{
		"escrowctl": {
			"sudo -n /usr/bin/escrowctl", "sudo -n /usr/bin/escrowctl certs", "sudo -n /usr/bin/escrowctl certs check", "sudo -n /usr/bin/escrowctl backup",
			"sudo -n /usr/bin/escrowctl certs renew --force", "sudo -n /usr/bin/escrowctl certs renew --config /tmp/mine", "sudo -n /usr/bin/escrowctl --config /tmp/mine certs renew",
			"sudo -n /usr/bin/escrowctl certs renew ''", "sudo -n /usr/bin/escrowctl certs  'renew --force'",
			"sudo -n ESCROWCTL_CONFIG=/tmp/mine /usr/bin/escrowctl certs renew", "sudo -n -E /usr/bin/escrowctl certs renew", "ESCROWCTL_CONFIG=/tmp/mine sudo -n --preserve-env=ESCROWCTL_CONFIG /usr/bin/escrowctl certs renew",
			"sudo -n /home/escrowctl/escrowctl certs renew", "sudo -n ./escrowctl certs renew", "sudo -n ./link certs renew",
			"sudo -n -u other /usr/bin/escrowctl certs renew", "sudo -n -g root /usr/bin/escrowctl certs renew",
			"sudo -n -i", "sudo -n -s", "sudo -n sh", "sudo -n id", "sudo -n cat /etc/shadow", "sudo -n -e /etc/shadow", "sudo -n visudo", "sudo -n /usr/bin/../bin/sh",
		},
		"other": {"sudo -n /usr/bin/escrowctl certs renew", "sudo -n id", "sudo -n -u escrowctl id"},
	}
	for user, scripts := range refused {
		for _, script := range scripts {
			if out, err := as(user, script+" </dev/null"); err == nil || strings.Contains(out, "ran as") || strings.Contains(out, "uid=0") {
				t.Errorf("%s may %s: %v: %s", user, script, err, out)
			}
		}
	}
	list, err := as("escrowctl", "sudo -n -l")
	_, allowed, found := strings.Cut(list, "may run the following commands")
	if err != nil || !found || strings.Count(allowed, "(") != 1 || !strings.Contains(allowed, "(root) NOPASSWD: /usr/bin/escrowctl certs renew\n") {
		t.Errorf("sudo -l: %v: %s", err, list)
	}
}
