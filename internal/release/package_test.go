package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// built is what scripts/release.sh made in one run.
type built struct{ dist, deb string }

// release runs scripts/release.sh of a tree, for this machine's architecture.
func release(t *testing.T, tree, version string) built {
	t.Helper()
	testenv.Tool(t, "nfpm")
	dist := t.TempDir()
	cmd := exec.Command("scripts/release.sh", runtime.GOARCH)
	cmd.Dir = tree
	cmd.Env = append(os.Environ(), "DIST="+dist, "VERSION="+version, "COMMIT=0123456789abcdef0123456789abcdef01234567", "SOURCE_DATE_EPOCH=1767225600")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("release.sh: %v: %s", err, out)
	}
	debs, _ := filepath.Glob(filepath.Join(dist, "*.deb"))
	if len(debs) != 1 {
		t.Fatalf("packages: %q", debs)
	}
	return built{dist, debs[0]}
}

// elsewhere copies the tree to a path of another length.
func elsewhere(t *testing.T) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "another", "place")
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", "-c", "cd "+top+" && cp -r [!.]* "+to+" && rm -rf "+to+"/dist "+to+"/bin").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return to
}

// machine is a Debian without Go, with the host's image.
type machine struct {
	t      *testing.T
	docker *testenv.DockerHost
	id     string
}

func newMachine(t *testing.T) machine {
	t.Helper()
	d := testenv.Docker(t)
	return machine{t, d, d.Start(t, testenv.Container{Image: testenv.Image(t, "host"), Cmd: []string{"sleep", "1000000"}})}
}

// sh runs a script as root and returns all that it says.
func (m machine) sh(script string) (string, error) {
	out, err := exec.Command("docker", "exec", m.id, "sh", "-c", script).CombinedOutput()
	return string(out), err
}

// must runs a script that must end well and say something.
func (m machine) must(script string, says ...string) string {
	m.t.Helper()
	out, err := m.sh(script)
	if err != nil {
		m.t.Fatalf("%s: %v: %s", script, err, out)
	}
	for _, s := range says {
		if !strings.Contains(out, s) {
			m.t.Errorf("%s does not say %q: %s", script, s, out)
		}
	}
	return out
}

func (m machine) copy(file, to string) {
	m.t.Helper()
	if out, err := exec.Command("docker", "cp", file, m.id+":"+to).CombinedOutput(); err != nil {
		m.t.Fatalf("%v: %s", err, out)
	}
}

// paths are all files with mode and owner, but those of dpkg itself.
func (m machine) paths() map[string]bool {
	m.t.Helper()
	out := m.must(`find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /var/lib/dpkg -o -path /var/cache \) -prune -o ! -path /var/log/dpkg.log -printf '%p %y %m %u:%g\n'`)
	all := map[string]bool{}
	for line := range strings.Lines(out) {
		all[strings.TrimSpace(line)] = true
	}
	return all
}

// changes are the paths that only one of two has, without those below data.
func changes(before, after map[string]bool, data ...string) []string {
	var out []string
	for _, pair := range []struct {
		mark      string
		these, of map[string]bool
	}{{"+", before, after}, {"-", after, before}} {
	next:
		for path := range pair.of {
			for _, d := range data {
				if pair.mark == "+" && strings.HasPrefix(path, d) {
					continue next
				}
			}
			if !pair.these[path] {
				out = append(out, pair.mark+" "+path)
			}
		}
	}
	return out
}

// TestPackage builds twice, in two places, and compares; then installs, uses,
// upgrades, removes and purges the package on a Debian without Go, and at last
// has a platform adopt it.
func TestPackage(t *testing.T) {
	one := release(t, top, "v0.9.0")
	t.Run("reproducible", func(t *testing.T) {
		two := release(t, elsewhere(t), "v0.9.0")
		if out, err := exec.Command("diff", "-r", one.dist, two.dist).CombinedOutput(); err != nil {
			t.Errorf("two builds differ: %s", out)
		}
	})
	t.Run("life", func(t *testing.T) { life(t, one, release(t, top, "v0.9.1")) })
	t.Run("adopt", func(t *testing.T) {
		testenv.Docker(t)
		testenv.Image(t, "host")
		cmd := exec.Command("scripts/adopt.sh", one.deb)
		cmd.Dir = top
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("adopt.sh: %v: %s", err, out)
		}
		t.Logf("%s", out)
	})
}

func life(t *testing.T, one, two built) {
	m := newMachine(t)
	if out, err := m.sh("command -v go gcc"); err == nil {
		t.Fatalf("the machine has a compiler: %s", out)
	}
	m.must("install -d /etc/systemd/system/timers.target.wants")
	before := m.paths()
	m.copy(one.deb, "/tmp/one.deb")
	m.copy(two.deb, "/tmp/two.deb")

	m.must("dpkg -i /tmp/one.deb", "escrowctl cron install")
	m.must("escrowctl version", "escrowctl v0.9.0 (commit 0123456")
	m.must("stat -c '%a %U:%G' /etc/escrowctl/escrowctl.yaml /var/lib/escrowctl", "640 root:root\n700 root:root")
	m.must("dpkg -V escrowctl; dpkg -L escrowctl", "/usr/share/man/man1/escrowctl-backup.1.gz", "/usr/share/zsh/vendor-completions/_escrowctl",
		"/usr/share/fish/vendor_completions.d/escrowctl.fish", "/usr/lib/systemd/system/escrowctl-backup.timer", "/etc/logrotate.d/escrowctl")
	m.must("logrotate -d /etc/logrotate.conf 2>&1", "/var/log/stellar-backup.log")
	m.must("bash -c '. /usr/share/bash-completion/completions/escrowctl && complete -p escrowctl'", "__start_escrowctl")
	m.must("escrowctl config check", "/etc/escrowctl/escrowctl.yaml")
	if out, err := m.sh("escrowctl doctor"); err == nil || !strings.Contains(out, "database     no database is configured") {
		t.Errorf("doctor is content with a bare machine: %v: %s", err, out)
	}
	if out, err := m.sh("ls /etc/systemd/system/timers.target.wants | grep escrowctl"); err == nil {
		t.Errorf("timers are enabled: %s", out)
	}

	// Used: rows for root and another, in both places, beside somebody's own; a run on record;
	// a timer enabled; the configuration edited.
	m.must("echo '0 1 * * * true # mine' | crontab -; echo '0 1 * * * true' | crontab -u games -")
	m.must("escrowctl cron install; escrowctl cron install --user games; escrowctl cron install --system; crontab -l", "/usr/bin/escrowctl backup >> /var/log/stellar-backup.log 2>&1")
	m.must("escrowctl shift-check --only disk; escrowctl shift-check history | grep 20")
	m.must("ln -s /usr/lib/systemd/system/escrowctl-backup.timer /etc/systemd/system/timers.target.wants/")
	m.must("echo 'env: staging # by hand' >> /etc/escrowctl/escrowctl.yaml")

	m.must("dpkg -i /tmp/two.deb </dev/null", "Unpacking escrowctl (0.9.1) over (0.9.0)")
	m.must("escrowctl version", "v0.9.1")
	m.must("cat /etc/escrowctl/escrowctl.yaml; stat -c %a /etc/escrowctl/escrowctl.yaml", "env: staging # by hand", "640")
	m.must("crontab -l; crontab -u games -l; cat /etc/cron.d/escrowctl", "escrowctl backup")
	m.must("escrowctl shift-check history | grep 20")

	m.must("dpkg -r escrowctl")
	if out, err := m.sh("command -v escrowctl"); err == nil {
		t.Errorf("still there: %s", out)
	}
	if got := m.must("crontab -l; crontab -u games -l; ls /etc/cron.d /etc/systemd/system/timers.target.wants"); strings.Contains(got, "escrowctl") || !strings.Contains(got, "# mine") {
		t.Errorf("after its removal: %s", got)
	}
	m.must("grep 'by hand' /etc/escrowctl/escrowctl.yaml; ls /var/lib/escrowctl/runs", "shift-check.jsonl")
	m.must("crontab -r; crontab -u games -r; dpkg -P escrowctl")
	if left := changes(before, m.paths(), "/var/lib/escrowctl"); len(left) > 0 {
		t.Errorf("left behind, or gone: %s", strings.Join(left, "\n"))
	}

	m.must("rm -r /var/lib/escrowctl; dpkg -i /tmp/two.deb && escrowctl version && dpkg -P escrowctl", "v0.9.1")
	if left := changes(before, m.paths()); len(left) > 0 {
		t.Errorf("without use it leaves: %s", strings.Join(left, "\n"))
	}
}
