// Command clocked is escrowctl with a clock that can be set: it reads the
// difference to the right time from the file $STORM_CLOCK, each time it looks.
// Only the clock that the commands are given is set; time limits, signatures of
// requests and the kernel keep the right time.
//
// Only tests run it.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/cli"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

func main() {
	io := ui.System()
	right := io.Now
	io.Now = func() time.Time { return right().Add(difference(os.Getenv("STORM_CLOCK"))) }
	os.Exit(cli.New(io, os.Environ(), cli.Build{Version: "clocked"}).Run(context.Background(), os.Args[1:]))
}

func difference(path string) time.Duration {
	text, err := os.ReadFile(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, "clocked:", err)
		os.Exit(64)
	}
	d, err := time.ParseDuration(strings.TrimSpace(string(text)))
	if err != nil {
		fmt.Fprintln(os.Stderr, "clocked:", err)
		os.Exit(64)
	}
	return d
}
