package storm

import (
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// unprivileged is a host whose user is nobody, with directories of his own and,
// as docs/privileges.md has it, in the group that may speak to Docker.
type unprivileged struct {
	*kit.Host
	uid, gid uint32
	docker   uint32 // the group of the engine's socket
}

func newUnprivileged(t *testing.T) *unprivileged {
	t.Helper()
	testenv.Need(t, os.Geteuid() == 0, "root", "to become another user is root's")
	nobody, err := user.Lookup("nobody")
	testenv.Need(t, err == nil, "the user nobody", "every Debian has it")
	u := &unprivileged{Host: storm.World(t).Host(t), uid: number(t, nobody.Uid), gid: number(t, nobody.Gid)}
	testenv.Docker(t)
	socket, err := os.Stat("/var/run/docker.sock")
	if err != nil {
		t.Fatal(err)
	}
	u.docker = socket.Sys().(*syscall.Stat_t).Gid
	testenv.Need(t, socket.Mode().Perm()&0o060 == 0o060 && u.docker != 0, "a group that may speak to the Docker engine", "groupadd docker, and start it again")
	for _, dir := range []string{u.Backups, u.State, u.Tmp, filepath.Join(u.Dir, "home")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, int(u.uid), int(u.gid)); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

func number(t *testing.T, text string) uint32 {
	t.Helper()
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

// run runs escrowctl as nobody, in group docker if member, and demands how it
// ends and what it says.
func (u *unprivileged) run(t *testing.T, member bool, args string, env []string, code int, says ...string) kit.Result {
	t.Helper()
	as := &syscall.Credential{Uid: u.uid, Gid: u.gid, Groups: []uint32{}}
	if member {
		as.Groups = []uint32{u.docker}
	}
	res := u.Call(t, kit.Call{Args: strings.Fields(args), Env: env, As: as})
	if res.Code != code {
		t.Errorf("%s: exit %d, want %d: %s%s", args, res.Code, code, res.Stdout, res.Stderr)
	}
	for _, want := range says {
		if !strings.Contains(res.Stdout+res.Stderr, want) {
			t.Errorf("%s does not say %q: %s%s", args, want, res.Stdout, res.Stderr)
		}
	}
	return res
}

// TestUnprivilegedUser: a user of its own needs no root, and what it leaves is
// for nobody else to read.
func TestUnprivilegedUser(t *testing.T) {
	t.Parallel()
	u := newUnprivileged(t)
	engine := testenv.Docker(t)
	image := testenv.PostgresImage(t)
	project := "escrowctlstorm" + engine.Run
	engine.Start(t, testenv.Container{Image: image, Project: project, Service: "api", Cmd: []string{"sleep", "1000000"}})
	compose := filepath.Join(u.Dir, "docker-compose.yml")
	if err := os.WriteFile(compose, []byte("services: {api: {image: '"+image+"'}}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	u.Env = append(u.Env, "TMPDIR="+u.scratch(t), "ESCROWCTL_COMPOSE_FILES="+compose, "ESCROWCTL_COMPOSE_PROJECT="+project, "ESCROWCTL_DR_TEST_IMAGE="+image, "ESCROWCTL_SHIFT_CHECK_TIMEOUT=30s")

	u.run(t, true, "backup", nil, 0, "in the bucket")
	u.run(t, true, "backup list", nil, 0, "indexed", "both")
	u.run(t, true, "backup verify latest", nil, 0, "PASS")
	u.run(t, true, "backup verify latest --s3", nil, 0, "PASS")
	u.run(t, true, "dr-test latest --engine docker", nil, 0, "PASS")
	u.run(t, true, "dr-test latest --engine local", nil, 0, "PASS")
	res := u.run(t, true, "shift-check --only containers,backup,database,disk", nil, 0, "containers", "backup", "database")
	if strings.Contains(res.Stderr, "is not kept") {
		t.Errorf("the check is not kept: %s", res.Stderr)
	}
	u.NoLeaks(t)
	u.owned(t)

	// Without the group, all is told but what Docker knows.
	u.run(t, false, "shift-check --only containers", nil, 3, "permission denied", "docker")
	u.run(t, false, "dr-test latest --engine docker", nil, 3, "permission denied", "group docker")
	u.run(t, false, "backup verify latest", nil, 0, "PASS")
	u.run(t, false, "dr-test latest --engine local", nil, 0, "PASS")
}

// scratch is a directory of the user's with a path that is short enough for the
// socket of a server.
func (u *unprivileged) scratch(t *testing.T) string {
	t.Helper()
	dir := testenv.ShortDir(t, 0o700)
	if err := os.Chown(dir, int(u.uid), int(u.gid)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// owned looks at all that escrowctl made: it is the user's, and closed.
func (u *unprivileged) owned(t *testing.T) {
	t.Helper()
	seen := 0
	for _, dir := range []string{u.Backups, u.State} {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			seen++
			if owner := info.Sys().(*syscall.Stat_t).Uid; owner != u.uid || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s is of user %d with mode %04o", path, owner, info.Mode().Perm())
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if seen < 8 {
		t.Errorf("only %d files were looked at", seen)
	}
}

// TestOpenSecrets: a secret that everybody can read is a warning, each time.
func TestOpenSecrets(t *testing.T) {
	t.Parallel()
	u := newUnprivileged(t)
	config := filepath.Join(u.Dir, "open.yaml")
	for _, mode := range []fs.FileMode{0o644, 0o640} {
		if err := os.WriteFile(config, []byte("env: staging\ndump: {via: host}\ns3: {storage_class: \"\"}\nreport: {api_metrics: \"off\", webhook: \"http://127.0.0.1:9/s3cretW3bh00k\"}\n"), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(config, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(config, 0, int(u.gid)); err != nil {
			t.Fatal(err)
		}
		res := u.run(t, false, "backup list --local", []string{"ESCROWCTL_CONFIG=" + config}, 1, "no backups")
		if warned := strings.Contains(res.Stderr, config) && strings.Contains(res.Stderr, "chmod"); warned != (mode == 0o644) {
			t.Errorf("mode %04o: %s", mode, res.Stderr)
		}
	}
}

// TestForeignState: a state directory of another user's is told with both names,
// the way out and exit 3, whoever it is that meets it.
func TestForeignState(t *testing.T) {
	t.Parallel()
	u := newUnprivileged(t)
	for _, mode := range []fs.FileMode{0o700, 0o755} {
		dir := filepath.Join(u.Dir, "roots")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		env := []string{"ESCROWCTL_STATE_DIR=" + dir}
		u.run(t, false, "backup", env, 3, dir+" belongs to root and this process is nobody", "run as the owner", "ESCROWCTL_STATE_DIR")
		u.run(t, false, "shift-check --only backup", env, 2, "is not kept for the next", "belongs to root")
	}
	res := u.Run(t, "backup") // root, in nobody's
	if want := u.State + " belongs to nobody and this process is root"; res.Code != 3 || !strings.Contains(res.Stderr, want) {
		t.Errorf("exit %d, want 3 and %q: %s", res.Code, want, res.Stderr)
	}
	if left, err := os.ReadDir(u.State); err != nil || len(left) > 0 {
		t.Errorf("root left %v in it, %v", left, err)
	}
}
