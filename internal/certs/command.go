package certs

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"time"
)

// Command runs one program, certbot or nginx, where it belongs, with both its
// outputs in one. An exit code other than 0 is no error; an error means that the
// program did not run to its end.
type Command interface {
	Run(ctx context.Context, args []string, out io.Writer) (exitCode int, err error)
}

// HostCommand is a program of this host.
type HostCommand string

// interruptGrace is how long a program may take to clean up after SIGINT.
const interruptGrace = 10 * time.Second

// Run implements Command. When ctx ends the program gets SIGINT, and 10 s later
// SIGKILL.
func (name HostCommand) Run(ctx context.Context, args []string, out io.Writer) (int, error) {
	cmd := exec.CommandContext(ctx, string(name), args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = interruptGrace
	err := cmd.Run()
	if ctx.Err() != nil {
		return -1, context.Cause(ctx)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return cmd.ProcessState.ExitCode(), err
}

// capped keeps the last bytes of a program's output, and hands on its lines.
type capped struct {
	buf  []byte
	line []byte
	each func(line string)
}

const maxOutput = 256 << 10 // bytes of a program's output that are kept

func (c *capped) Write(p []byte) (int, error) {
	c.buf = append(c.buf, p...)
	if over := len(c.buf) - maxOutput; over > 0 {
		c.buf = append(c.buf[:0], c.buf[over:]...)
	}
	if c.each == nil {
		return len(p), nil
	}
	for _, b := range p {
		if b != '\n' {
			c.line = append(c.line, b)
			continue
		}
		c.each(string(c.line))
		c.line = c.line[:0]
	}
	return len(p), nil
}

func (c *capped) String() string { return string(c.buf) }
