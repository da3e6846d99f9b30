package storm

import (
	"syscall"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
)

// signalFaults end a command in its midst, while what it waits for does not
// answer: it must not wait any longer.
func signalFaults() []fault {
	ended := func(name string, sig syscall.Signal, at func(*stage) <-chan struct{}, c cell) fault {
		f := fault{group: "signals", name: name, at: at, on: []cell{c}, leaves: sig == syscall.SIGKILL, act: func(_ *stage, run *kit.Running) { run.Signal(sig) }}
		if !f.leaves {
			f.says = []string{"interrupted by SIG"}
		}
		return f
	}
	return []fault{
		ended("SIGTERM in the dump", syscall.SIGTERM, dumped(middle), on("backup", 143).soon()),
		ended("SIGKILL in the dump", syscall.SIGKILL, dumped(middle), on("backup", -1).soon()),
		ended("SIGINT while a part is sent", syscall.SIGINT, gate("Part"), on("backup", 130).soon()),
		ended("SIGHUP in the load", syscall.SIGHUP, loaded(2<<20), on("restore", 129)),
	}
}
