package storm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
)

// diskFaults are those of this host's disks: of the backups, of the state, of
// temporary files.
func diskFaults() []fault {
	const group = "local disk"
	var faults []fault
	for _, d := range []struct {
		name, says string
		spoil      func(s *stage, dir string)
	}{
		{"full", "no space left on device", fill},
		{"read-only", "read-only file system", readOnly},
		{"no inodes", "no space left on device", noInodes},
	} {
		faults = append(faults,
			fault{group: group, name: "state " + d.name, before: func(s *stage) { d.spoil(s, s.State) }, says: []string{d.says, "state"},
				on: []cell{on("backup", 3), on("upload", 3), on("verify", 3), on("restore", 3), on("dr-test", 3)}},
			fault{group: group, name: "temporary files " + d.name, before: func(s *stage) { d.spoil(s, s.Tmp) },
				on: []cell{on("backup", 0), on("restore", 0), on("dr-test", 3, "TMPDIR")}})
	}
	faults = append(faults,
		fault{group: group, name: "backups full", before: func(s *stage) { fill(s, s.Backups) }, says: []string{"free some space", "BACKUP_DIR"},
			on: []cell{on("backup", 2), on("upload", 0), on("verify", 0), on("restore", 0)}},
		fault{group: group, name: "backups full in the middle", before: func(s *stage) { smallDisk(s, s.Backups) }, at: dumped(middle),
			act: func(s *stage, run *kit.Running) { fill(s, s.Backups); release(s, run) }, on: []cell{on("backup", 2, "no space left on device")}},
		fault{group: group, name: "backups read-only", before: func(s *stage) { readOnly(s, s.Backups) },
			on: []cell{on("backup", 2, "read-only file system"), on("upload", 0), on("verify", 0)}},
		fault{group: group, name: "backups without inodes", before: func(s *stage) { noInodes(s, s.Backups) },
			on: []cell{on("backup", 2, "no inodes left"), on("upload", 0), on("verify", 0)}},
		fault{group: group, name: "backups of another user", before: asNobody, says: []string{"permission denied", "give it to the user"},
			on: []cell{on("backup", 2)}},
		fault{group: group, name: "backups that may not be read", before: func(s *stage) { asNobody(s); chmod(s, s.Backups, 0o700) }, says: []string{"permission denied"},
			on: []cell{on("backup", 2), on("upload", 2), on("verify", 3)}},
		fault{group: group, name: "state of another user", before: func(s *stage) { asNobody(s); chown(s, s.State, 0) }, says: []string{"permission denied", "state"},
			on: []cell{on("backup", 3), on("verify", 3), on("restore", 3)}},
	)
	return quick(faults, "state full/backup", "backups full in the middle/backup")
}

// smallDisk puts a directory on a disk of its own, which has room again when the
// fault ends.
func smallDisk(s *stage, dir string) { ownDisk(s, dir, "40m") }

// ownDisk does so with a disk of a size, and few inodes.
func ownDisk(s *stage, dir, size string) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	kept := dir + ".kept"
	copyAll(s.t, dir, kept)
	kit.Tmpfs(s.t, dir, "size="+size+",nr_inodes=100")
	copyAll(s.t, kept+"/.", dir) // its mode too
	s.later(func() {
		fillers, _ := filepath.Glob(filepath.Join(dir, "fill*"))
		remount(s, dir, 0, "size="+roomy+",nr_inodes=10000")
		for _, file := range fillers {
			if err := os.Remove(file); err != nil {
				s.t.Error(err)
			}
		}
	})
}

func remount(s *stage, dir string, flags uintptr, options string) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|flags, options); err != nil {
		s.t.Error(err)
	}
}

// fill leaves a directory's disk no room.
func fill(s *stage, dir string) {
	if !mounted(dir) {
		smallDisk(s, dir)
	}
	err := os.WriteFile(filepath.Join(dir, "fill"), make([]byte, 64<<20), 0o600)
	if !errors.Is(err, syscall.ENOSPC) {
		s.t.Fatalf("the disk is not full: %v", err)
	}
}

// mounted says whether a file system begins there.
func mounted(dir string) bool {
	var here, above syscall.Stat_t
	return syscall.Stat(dir, &here) == nil && syscall.Stat(filepath.Dir(dir), &above) == nil && here.Dev != above.Dev
}

// roomy is enough for a recovery test, whose first question is how much is free.
const roomy = "1g"

func readOnly(s *stage, dir string) {
	ownDisk(s, dir, roomy)
	remount(s, dir, syscall.MS_RDONLY, "")
}

func noInodes(s *stage, dir string) {
	ownDisk(s, dir, roomy)
	for i := range 200 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("fill%03d", i)), nil, 0o600); errors.Is(err, syscall.ENOSPC) {
			return
		}
	}
	s.t.Fatal("there are inodes left")
}

// nobody is a user that owns nothing.
const nobody = 65534

// asNobody runs the command as a user to whom only the state directory belongs.
func asNobody(s *stage) {
	s.call.As = &syscall.Credential{Uid: nobody, Gid: nobody}
	if err := os.MkdirAll(s.State, 0o700); err != nil {
		s.t.Fatal(err)
	}
	chown(s, s.State, nobody)
	chmod(s, s.Backups, 0o755)
	chmod(s, s.Tmp, 0o777)
	s.later(func() {
		chown(s, s.State, 0)
		chmod(s, s.Backups, 0o700)
	})
}

func chown(s *stage, dir string, uid int) {
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, uid, uid))
	})
	if err != nil {
		s.t.Error(err)
	}
}

func chmod(s *stage, dir string, mode os.FileMode) {
	if err := os.Chmod(dir, mode); err != nil {
		s.t.Error(err)
	}
}
