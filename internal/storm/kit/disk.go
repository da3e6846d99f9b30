package kit

import (
	"os"
	"syscall"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// Tmpfs mounts a small file system over a directory and returns what ends it.
func Tmpfs(t testing.TB, dir, options string) (undo func()) {
	t.Helper()
	testenv.Need(t, os.Geteuid() == 0, "root", "mounting a tmpfs is root's")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		testenv.Need(t, false, "a tmpfs", err.Error())
	}
	gone := false
	undo = func() {
		if !gone {
			gone = true
			_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		}
	}
	t.Cleanup(undo)
	return undo
}
