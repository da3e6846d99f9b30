package cronhost

import (
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// The real crontab command, on the crontab of a user who has none.
func TestRealCrontab(t *testing.T) {
	t.Parallel()
	_, err := exec.LookPath("crontab")
	testenv.Need(t, err == nil, "crontab", "install the package cron")
	testenv.Need(t, os.Geteuid() == 0, "root", "crontab -u is root's")
	const name = "games"
	if _, err := user.Lookup(name); err != nil {
		t.Skipf("SKIPPED: there is no user %s", name)
	}
	var h Host
	before, err := h.Read(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if before != "" {
		t.Skipf("SKIPPED: %s has a crontab", name)
	}
	t.Cleanup(func() { _ = exec.Command("crontab", "-u", name, "-r").Run() })
	text := "# kept\n0 0 31 2 * /nonexistent/escrowctl backup \\%\n"
	if err := h.Write(t.Context(), name, text); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Read(t.Context(), name); err != nil || got != text {
		t.Errorf("read %q, %v", got, err)
	}
	sources, err := h.Sources(t.Context())
	found := false
	for _, s := range sources {
		found = found || s.Name == "crontab of "+name && len(s.Rows) == 1 && s.User == name
	}
	if err != nil || !found {
		t.Errorf("sources: %+v, %v", sources, err)
	}
	if err := h.Write(t.Context(), name, "61 0 * * * x\n"); err == nil || !strings.Contains(err.Error(), "bad minute") {
		t.Errorf("a crontab that cron refuses: %v", err)
	}
	if got, _ := h.Read(t.Context(), name); got != text {
		t.Errorf("after a refusal the crontab is %q", got)
	}
	if err := h.Write(t.Context(), name, ""); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Read(t.Context(), name); err != nil || got != "" {
		t.Errorf("after its removal the crontab is %q, %v", got, err)
	}
}

func script(t *testing.T, body string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "crontab")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+body), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestCrontabFaults(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ body, want string }{
		"refused":     {"echo 'you may not' >&2; exit 1", "you may not"},
		"silent":      {"exit 3", "exit status 3"},
		"another's":   {`[ "$1" = -l ] && echo '0 1 * * * other'; exit 0`, "does not read back the same"},
		"reads never": {`[ "$1" = - ] && exit 0; echo broken >&2; exit 1`, "broken"},
	} {
		h := Host{Command: script(t, tt.body)}
		if err := h.Write(t.Context(), "", "0 2 * * * x\n"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if _, err := (Host{Command: "/nonexistent/crontab"}).Read(t.Context(), ""); !errors.Is(err, ErrNoCrontab) {
		t.Errorf("without the command: %v", err)
	}
}

// tree makes files below a new root.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestSystemCrontabs(t *testing.T) {
	t.Parallel()
	h := Host{Root: tree(t, map[string]string{
		"etc/crontab":            "0 1 * * * root a\n",
		"etc/cron.d/escrowctl":   "0 2 * * * root b\n",
		"etc/cron.d/old.bak":     "0 3 * * * root never read\n",
		"etc/cron.d/.escrowctl1": "0 3 * * * root never read\n",
	}), Command: script(t, "echo 'no crontab for you' >&2; exit 1")}
	sources, err := h.Sources(t.Context())
	var names []string
	for _, s := range sources {
		if len(s.Rows) > 0 {
			names = append(names, strings.TrimPrefix(s.Name, h.Root)+" "+s.Rows[0].Command)
		}
	}
	if got := strings.Join(names, ", "); err != nil || got != "/etc/crontab a, /etc/cron.d/escrowctl b" {
		t.Errorf("sources are %s, %v", got, err)
	}
	if err := h.WriteFile(h.SystemFile(), "0 9 * * * root c\n"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(h.SystemFile())
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v: cron ignores what others may write", info.Mode(), err)
	}
	if err := h.WriteFile(h.SystemFile(), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(h.SystemFile()); !os.IsNotExist(err) {
		t.Errorf("an empty file is not removed: %v", err)
	}
}

func TestFacts(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{
		"proc/1/comm": "systemd\n", "proc/77/comm": "cron\n", "bin/tool": "x", "bin/plain": "x", "var/log/old.log": "",
	})
	if err := os.Chmod(filepath.Join(root, "bin/tool"), 0o755); err != nil {
		t.Fatal(err)
	}
	h := Host{Root: root}
	if name, ok := h.Daemon(); !ok || name != "cron" {
		t.Errorf("the daemon is %q, %v", name, ok)
	}
	if name, ok := (Host{Root: t.TempDir()}).Daemon(); ok {
		t.Errorf("found the daemon %q where there is none", name)
	}
	for name, fails := range map[string]bool{"/bin/tool": false, "tool": false, "/bin/plain": true, "plain": true, "/bin/none": true, "none": true, "/bin": true} {
		if err := h.Program(name, "/sbin:/bin"); (err != nil) != fails {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, tt := range []struct {
		file, user string
		fails      bool
	}{
		{"/var/log/new.log", "root", false}, {"/var/log/old.log", "root", false}, {"/var/none/x.log", "root", true},
		{"/var/log", "root", true}, {"/var/log/old.log/x", "root", true}, {"/var/log/new.log", "nobody", true},
		{"/var/log/old.log", "nobody", true}, {"/var/log/new.log", "no-such-user", true}, {"$LOG/x", "nobody", false}, {"/dev/null/../x$Y", "nobody", false},
	} {
		if err := h.Writable(tt.file, tt.user); (err != nil) != tt.fails {
			t.Errorf("%s as %s: %v", tt.file, tt.user, err)
		}
	}
	if zone, err := h.Zone(); err != nil || zone != time.UTC {
		t.Errorf("without /etc/localtime: %v, %v", zone, err)
	}
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/usr/share/zoneinfo/Europe/Berlin", filepath.Join(root, "etc/localtime")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/usr/share/zoneinfo/Europe/Berlin"); err == nil {
		if zone, err := h.Zone(); err != nil || zone.String() != "Europe/Berlin" {
			t.Errorf("the zone is %v, %v", zone, err)
		}
	}
}
