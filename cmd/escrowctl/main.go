// Command escrowctl runs and proves the operations of a docker compose
// platform.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/stellarescrow/escrowctl/internal/cli"
)

// Set by the linker: see the Makefile.
var (
	version = "dev"     // written by -ldflags -X
	commit  = "unknown" //nolint:gochecknoglobals // likewise
	date    = "unknown" //nolint:gochecknoglobals // likewise
)

func main() {
	ctx := interruptible(context.Background())
	os.Exit(cli.Main(ctx, os.Args[1:], cli.Build{Version: version, Commit: commit, Date: date}))
}

// interruptible returns a context that the first signal cancels, so that what
// was begun is cleaned up. A second one ends the process at once.
func interruptible(parent context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		// nohup and a shell's & have a signal ignored: it stays so.
		if !signal.Ignored(sig) {
			signal.Notify(signals, sig)
		}
	}
	go func() {
		first, ok := (<-signals).(syscall.Signal)
		if !ok {
			return
		}
		cancel(&cli.Interrupted{Signal: first})
		<-signals
		os.Exit(cli.SignalExit(first))
	}()
	// The program that reads our log may end: that is no reason to end a backup.
	// Writing then fails with EPIPE instead. Child processes start with the
	// default again, which they would not if SIGPIPE were ignored.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	return ctx
}
