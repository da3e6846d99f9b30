package hostdisk

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/shirou/gopsutil/v4/disk"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

func TestFills(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		p    disk.PartitionStat
		want bool
	}{
		{disk.PartitionStat{Device: "/dev/sda1", Mountpoint: "/data", Fstype: "ext4", Opts: []string{"rw"}}, true},
		{disk.PartitionStat{Device: "overlay", Mountpoint: "/", Fstype: "overlay", Opts: []string{"rw"}}, true},
		{disk.PartitionStat{Device: "overlay", Mountpoint: "/var/lib/docker/overlay2/x/merged", Fstype: "overlay"}, false},
		{disk.PartitionStat{Device: "host:/export", Mountpoint: "/mnt", Fstype: "nfs4", Opts: []string{"rw"}}, true},
		{disk.PartitionStat{Device: "tank/data", Mountpoint: "/tank", Fstype: "zfs"}, true},
		{disk.PartitionStat{Device: "/dev/loop0", Mountpoint: "/snap/core/1", Fstype: "squashfs", Opts: []string{"ro"}}, false},
		{disk.PartitionStat{Device: "/dev/sr0", Mountpoint: "/media", Fstype: "iso9660"}, false},
		{disk.PartitionStat{Device: "/dev/sdb1", Mountpoint: "/archive", Fstype: "ext4", Opts: []string{"ro"}}, false},
		{disk.PartitionStat{Device: "tmpfs", Mountpoint: "/run", Fstype: "tmpfs"}, false},
		{disk.PartitionStat{Device: "proc", Mountpoint: "/proc", Fstype: "proc"}, false},
	} {
		if got := fills(tt.p); got != tt.want {
			t.Errorf("%+v: %v, want %v", tt.p, got, tt.want)
		}
	}
}

func TestThisHost(t *testing.T) {
	t.Parallel()
	mounts, err := Mounts(t.Context())
	if err != nil || len(mounts) == 0 {
		t.Fatalf("%v, %v", mounts, err)
	}
	for _, m := range mounts {
		if _, err := Read(m); err != nil {
			t.Errorf("%v", err)
		}
	}
	if slices.Contains(mounts, "/proc") {
		t.Error("/proc is no disk")
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a path that does not exist has a usage")
	}
}

// A small filesystem, filled for real.
func TestReadSmallFilesystem(t *testing.T) {
	t.Parallel()
	testenv.Need(t, os.Geteuid() == 0, "root", "mounting a tmpfs is root's")
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,nr_inodes=20"); err != nil {
		testenv.Need(t, false, "a tmpfs", err.Error())
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(dir, "full"), make([]byte, 960<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	u, err := Read(dir)
	if err != nil || u.Used != 960<<10 || u.Free != 64<<10 || u.Inodes != 20 || u.InodesUsed != 2 {
		t.Errorf("%+v, %v", u, err)
	}
	outside, err := Read(filepath.Dir(dir))
	if err != nil || outside.Device == u.Device {
		t.Errorf("%+v is the same device as %+v, %v", outside, u, err)
	}
}
