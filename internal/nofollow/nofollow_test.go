package nofollow

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestNoFollow: only a regular file is opened, at once, and no other is touched.
func TestNoFollow(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	victim := at("victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for name, made := range map[string]error{
		"link": os.Symlink(victim, at("link")), "dangling": os.Symlink(at("new"), at("dangling")), "device": os.Symlink("/dev/zero", at("device")),
		"pipe": syscall.Mkfifo(at("pipe"), 0o600), "directory": os.Mkdir(at("directory"), 0o700), "socket": nil,
	} {
		if made != nil {
			t.Fatal(made)
		}
		for _, flag := range []int{os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREATE | os.O_APPEND} {
			if f, err := Open(at(name), flag, 0o600); !errors.Is(err, ErrNotFile) {
				t.Errorf("%s with %#x: %v, %v", name, flag, f, err)
			}
		}
		if _, err := Read(at(name)); !errors.Is(err, ErrNotFile) {
			t.Errorf("%s is read: %v", name, err)
		}
		if err := Overwrite(at(name), []byte("x")); !errors.Is(err, ErrNotFile) {
			t.Errorf("%s is overwritten: %v", name, err)
		}
	}
	if _, err := os.Lstat(at("new")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a file was made where a link pointed to")
	}
	if b, err := Read(victim); err != nil || string(b) != "mine" {
		t.Errorf("%q, %v", b, err)
	}
	if err := Overwrite(victim, []byte("new")); err != nil {
		t.Error(err)
	}
	if b, err := Read(victim); err != nil || string(b) != "new" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := Read(at("none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
}
