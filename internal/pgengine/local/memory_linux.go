package local

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// freeSharedMemory removes a segment that a killed server left; an orderly one
// has removed it itself.
func freeSharedMemory(id int) {
	if id >= 0 {
		_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	}
}

// dieWithParent has the kernel end the server when the thread that started it
// ends.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
