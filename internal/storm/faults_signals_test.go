package storm

import (
	"syscall"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
)

// signalFaults end a command at each of its stages, while what it waits for does
// not answer: it must not wait any longer.
func signalFaults() []fault {
	var faults []fault
	for _, sig := range []struct {
		name string
		code int
		sig  syscall.Signal
	}{{"SIGINT", 130, syscall.SIGINT}, {"SIGTERM", 143, syscall.SIGTERM}, {"SIGHUP", 129, syscall.SIGHUP}, {"SIGKILL", -1, syscall.SIGKILL}} {
		at := func(where string, moment func(*stage) <-chan struct{}, cmds ...string) {
			f := fault{group: "signals", name: sig.name + " " + where, at: moment, leaves: sig.sig == syscall.SIGKILL,
				act: func(_ *stage, run *kit.Running) { run.Signal(sig.sig) }}
			if !f.leaves {
				f.says = []string{"interrupted by " + sig.name}
			}
			for _, cmd := range cmds {
				f.on = append(f.on, on(cmd, sig.code))
			}
			faults = append(faults, f)
		}
		at("in the dump", dumped(middle), "backup")
		at("in the load", loaded(2<<20), "restore")
		at("while a part is sent", gate("Part"), "backup", "upload")
		at("while the manifest is sent", gate("Put"), "backup", "upload")
		at("while the bucket is read", gate("Get"), "verify --s3", "restore", "dr-test")
		at("while the bucket is listed", gate("List"), "verify --s3", "upload")
	}
	return quick(faults, "SIGTERM in the dump/backup", "SIGKILL in the dump/backup")
}
