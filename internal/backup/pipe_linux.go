package backup

import (
	"os"
	"syscall"
)

// widen enlarges a pipe to 1 MiB, the most that Linux allows an unprivileged
// process by default: pg_dump then stops less often for its reader.
func widen(pipe *os.File) {
	const setPipeSize = 1031 // F_SETPIPE_SZ
	if conn, err := pipe.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) {
			_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, fd, setPipeSize, 1<<20) // it works without
		})
	}
}
