package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// run makes one check as doctor does.
func run(t *testing.T, p check.Probe) check.Result {
	t.Helper()
	return check.Run(t.Context(), []check.Probe{p})[0]
}

// expect compares status, a part of what is said and a part of the fix.
func expect(t *testing.T, r check.Result, status check.Status, says, fix string) {
	t.Helper()
	if r.Status != status || !strings.Contains(r.Summary, says) || !strings.Contains(r.Action, fix) || (r.Status != check.OK) != (r.Action != "") {
		t.Errorf("%s: %s: %s; fix: %s\nwant %s: ...%s...; fix: ...%s...", r.ID, r.Status, r.Summary, r.Action, status, says, fix)
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	testenv.Need(t, os.Geteuid() == 0, "root", "changing owners is root's")
	dir := t.TempDir()
	file := func(name string, mode os.FileMode, uid int) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, uid, -1); err != nil {
			t.Fatal(err)
		}
		return path
	}
	folder := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	locked := readOnly(t)
	plainFile := file("plain", 0o600, 0)
	for name, tt := range map[string]struct {
		path      Path
		status    check.Status
		says, fix string
	}{
		"good":         {Path{Path: plainFile, Secret: true}, check.OK, "mode 0600", ""},
		"group":        {Path{Path: file("group", 0o640, 0), Secret: true}, check.OK, "mode 0640", ""},
		"world reads":  {Path{Path: file("read", 0o644, 0), Secret: true}, check.Warning, "can be read by every user of this host (mode 0644)", "chmod o= "},
		"no secret":    {Path{Path: file("public", 0o644, 0)}, check.OK, "mode 0644", ""},
		"world writes": {Path{Path: file("write", 0o666, 0)}, check.Critical, "can be changed by every user", "chmod o-w "},
		"another's":    {Path{Path: file("nobody", 0o600, 65534), Secret: true}, check.Warning, "is nobody's", "chown root "},
		"missing":      {Path{Path: filepath.Join(dir, "none")}, check.Critical, "does not exist", "write "},
		"missing dir":  {Path{Path: filepath.Join(dir, "none"), Dir: true}, check.Critical, "does not exist", "install -d -m 0700 -o root "},
		"made later":   {Path{Path: filepath.Join(dir, "a/b"), Dir: true, Made: true}, check.OK, "is not there yet", ""},
		"never made":   {Path{Path: filepath.Join(locked, "a/b"), Dir: true, Made: true}, check.Critical, "cannot be made in " + locked + ": read-only file system", "install -d"},
		"no dir":       {Path{Path: plainFile, Dir: true}, check.Critical, "is no directory", "name a directory"},
		"no file":      {Path{Path: dir}, check.Critical, "is no regular file", "name a file"},
		"written":      {Path{Path: folder("state", 0o700), Dir: true, Secret: true, Written: true}, check.OK, "mode 0700", ""},
		"open dir":     {Path{Path: folder("open", 0o755), Dir: true, Secret: true, Written: true}, check.Warning, "can be read by every user", "chmod o= "},
		"read only":    {Path{Path: locked, Dir: true, Written: true}, check.Critical, "cannot be written: read-only file system", "mounted for writing"},
		"not shared":   {Path{Path: folder("textfile", 0o750), Dir: true, Shared: true, Written: true}, check.Warning, "such as node exporter", "chmod o+rx "},
		"below a file": {Path{Path: filepath.Join(plainFile, "x")}, check.Unknown, "not a directory", "run escrowctl as"},
	} {
		tt.path.Name = name
		r := run(t, Files("files", []Path{tt.path}))
		expect(t, r.Parts[0], tt.status, tt.says, tt.fix)
		if r.Status != tt.status {
			t.Errorf("%s: the whole is %s, its part %s", name, r.Status, tt.status)
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, "state"))
	if err != nil || len(entries) > 0 {
		t.Errorf("the check left %v, %v", entries, err)
	}
}

// readOnly mounts a filesystem that cannot be written, whoever one is.
func readOnly(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_RDONLY, "size=64k,mode=700"); err != nil {
		testenv.Need(t, false, "a tmpfs", err.Error())
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// A full disk shows only to who writes.
func TestFullDirectory(t *testing.T) {
	t.Parallel()
	testenv.Need(t, os.Geteuid() == 0, "root", "mounting a tmpfs is root's")
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=700"); err != nil {
		testenv.Need(t, false, "a tmpfs", err.Error())
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(dir, "full"), make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, Files("files", []Path{{Name: "state", Path: dir, Dir: true, Written: true}}))
	expect(t, r, check.Critical, "no space left on device", "not full")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the check left %v, %v", entries, err)
	}
}

func TestGather(t *testing.T) {
	t.Parallel()
	parts := []check.Result{
		{ID: "a", Summary: "fine"},
		{ID: "b", Status: check.Warning, Summary: "odd", Action: "x"},
		{ID: "c", Status: check.Critical, Summary: "gone", Action: "y"},
	}
	expect(t, Gather("all", parts, "well"), check.Critical, "gone (and 1 more)", "y")
	expect(t, Gather("all", parts[:2], "well"), check.Warning, "odd", "x")
	expect(t, Gather("all", parts[:1], "well"), check.OK, "well", "")
	if r := Gather("all", nil, "well"); r.Status != check.Unknown {
		t.Errorf("of nothing it is %s", r.Status)
	}
}

func TestPsql(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		psql, server int
		status       check.Status
		says         string
	}{
		{150014, 150014, check.OK, "is 15.14, the server 15.14"},
		{170006, 150014, check.OK, "17.6"},
		{180000, 170000, check.OK, "18.0"},
		{150013, 150014, check.Warning, `\restrict`},
		{170005, 150014, check.Warning, `\restrict`},
		{120022, 120022, check.Warning, `\restrict`},
		{150014, 160010, check.Warning, "too old to read its dumps"},
	} {
		r := Psql("psql", "/usr/bin/psql", tt.psql, tt.server)
		expect(t, r, tt.status, tt.says, map[bool]string{true: "postgresql-client-"}[tt.status != check.OK])
	}
}
