// Package hostdisk finds this host's filesystems and how full they are.
package hostdisk

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/shirou/gopsutil/v4/disk"
)

// Usage is how full a filesystem is, in bytes and inodes. Free is what ordinary
// users may still take. Inodes is 0 where there is no fixed number of them.
type Usage struct {
	Device             string
	Used, Free         uint64
	Inodes, InodesUsed uint64
}

// Mounts returns where filesystems that fill up are mounted: those on disks and
// on the network, not those the kernel makes up, nor what is read only, such as
// images that are always full.
func Mounts(ctx context.Context) ([]string, error) {
	all, err := disk.PartitionsWithContext(ctx, true)
	if err != nil {
		return nil, fmt.Errorf("list filesystems: %w", err)
	}
	var out []string
	for _, p := range all {
		if fills(p) && !slices.Contains(out, p.Mountpoint) {
			out = append(out, p.Mountpoint)
		}
	}
	return out, nil
}

// network are types without a device of this host.
const network = " nfs nfs4 cifs smb3 ceph glusterfs fuse.glusterfs fuse.sshfs fuse.s3fs 9p virtiofs beegfs lustre "

// never are types with a device that are full by nature.
const never = " squashfs iso9660 udf erofs cramfs "

func fills(p disk.PartitionStat) bool {
	kind := " " + p.Fstype + " "
	if slices.Contains(p.Opts, "ro") || strings.Contains(never, kind) {
		return false
	}
	if p.Mountpoint == "/" || strings.Contains(network, kind) || p.Fstype == "zfs" {
		return true
	}
	return strings.HasPrefix(p.Device, "/dev/")
}

// Read returns how full the filesystem of path is. On a dead network filesystem
// it does not return.
func Read(path string) (Usage, error) {
	u, err := disk.Usage(path)
	if err != nil {
		return Usage{}, fmt.Errorf("%s: %w", path, err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return Usage{}, fmt.Errorf("%s: %w", path, err)
	}
	if u.Total == 0 {
		return Usage{}, fmt.Errorf("%s: its filesystem (%s) has no size", path, u.Fstype)
	}
	return Usage{Device: fmt.Sprint(st.Dev), Used: u.Used, Free: u.Free, Inodes: u.InodesTotal, InodesUsed: u.InodesUsed}, nil
}
