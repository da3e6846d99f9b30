// Package year runs escrowctl through an accelerated year of nights: a program
// of its own each time, real servers, a database that changes every night, and
// a fault in a third of the runs. After each night a witness that shares no code
// with escrowctl looks at what is there.
//
// Time is moved by the program's own clock, the field ui.IO.Now, which is all
// that escrowctl asks for the date: names, ages, retention, notices and verdicts
// go by it. What others date, they date with the host's clock: files, objects,
// certificates. So the year begins tomorrow, and after each night the files of
// the state directory are made a day older.
package year

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/cli"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// clockVariable makes the test binary escrowctl, at this time.
const clockVariable = "STORM_AT"

func TestMain(m *testing.M) {
	if at := os.Getenv(clockVariable); at != "" {
		os.Exit(escrowctl(at))
	}
	os.Exit(m.Run())
}

// escrowctl is main of cmd/escrowctl, but for the clock.
func escrowctl(at string) int {
	begin, err := time.Parse(time.RFC3339, at)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	ahead := time.Until(begin)
	streams := ui.System()
	streams.Now = func() time.Time { return time.Now().Add(ahead) }
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		first := (<-signals).(syscall.Signal)
		cancel(&cli.Interrupted{Signal: first})
		<-signals
		os.Exit(cli.SignalExit(first))
	}()
	return cli.New(streams, os.Environ(), cli.Build{Version: "v0.0.0-storm", Commit: "storm", Date: at}).Run(ctx, os.Args[1:])
}
