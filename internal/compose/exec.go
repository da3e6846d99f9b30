package compose

import (
	"context"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

var (
	//go:embed scripts/watch.sh
	watchScript string
	//go:embed scripts/feed.sh
	feedScript string
)

// copyBuffer is how much output is handed to a writer at once, at most.
const copyBuffer = 256 << 10

// Spec is a command for Exec. The container needs a POSIX sh.
type Spec struct {
	Cmd    []string // program and arguments: visible to all in ps, so no secrets
	Env    []string // NAME=value; here secrets may stand
	User   string   // "": the container's own
	Stdin  io.Reader
	Stdout io.Writer // nil: dropped
	Stderr io.Writer // nil: dropped
}

// Exec runs a command in the service's running container and returns its exit
// code. A code other than 0 is not an error; an error means that the command
// did not run to its end, or that its output could not all be delivered.
//
// The command ends with its caller: when ctx is cancelled or a writer fails, it
// gets SIGTERM and 5 s later SIGKILL, and Exec returns once it is gone. When
// this process dies, even by SIGKILL, the same happens inside the container, if
// Stdin is nil. With a Stdin the command sees the end of its input then, which
// it cannot tell from a complete one: let the input itself say where it ends
// (BEGIN ... COMMIT). An error of the Stdin reader, though, never looks like an
// end: the command is killed first.
//
// Only the command itself is signalled, not what it may have started: a group
// killed from outside leaves orphans, and a PostgreSQL server that is the
// container's process 1 takes an orphan's death by a signal for a crash of a
// backend and restarts all sessions. So do not run commands here that leave
// children behind.
//
// Exec may return while a Read of Stdin is still blocked.
func (p *Project) Exec(ctx context.Context, service string, spec Spec) (exitCode int, err error) {
	if len(spec.Cmd) == 0 {
		return unknownExit, errors.New("compose: exec: no command")
	}
	c, err := p.running(ctx, service)
	if err != nil {
		return unknownExit, err
	}
	script, name := watchScript, "escrowctl-watch"
	if spec.Stdin != nil {
		script, name = feedScript, "escrowctl-feed"
	}
	s, err := p.start(ctx, c, spec.User, append([]string{"sh", "-c", script, name}, spec.Cmd...), spec.Env)
	if err != nil {
		return unknownExit, err
	}
	defer s.raw.Close()
	code, err := s.run(ctx, spec)
	if err != nil {
		return unknownExit, fmt.Errorf("compose: exec %s in %s: %w", spec.Cmd[0], c.Name, err)
	}
	return code, nil
}

// run carries the streams until the process has ended.
func (s *session) run(ctx context.Context, spec Spec) (int, error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	hurry := context.AfterFunc(ctx, func() { s.giveUpReading(engineGrace) })
	start, err := s.await("started")
	cancelled := !hurry()
	pid, err := start.pid(err)
	if cancelled {
		// One whose standard input is data does not see that the caller is gone.
		if err == nil && spec.Stdin != nil {
			_ = s.kill(pid)
		}
		return unknownExit, context.Cause(ctx)
	}
	if err != nil {
		return unknownExit, err
	}
	stop := context.AfterFunc(ctx, func() { s.abort(spec.Stdin != nil, pid) })
	defer stop()
	if spec.Stdin != nil {
		go s.feed(spec.Stdin, fail)
	}
	err = s.deliver(ctx, spec, start, fail)
	if cause := context.Cause(ctx); cause != nil {
		return unknownExit, cause
	}
	if err != nil {
		return unknownExit, fmt.Errorf("read output: %w", err)
	}
	return s.exitCode(ctx)
}

// pid reads the process ID from the status line, unless err says that there is
// none.
func (o opening) pid(err error) (int, error) {
	if err != nil {
		return 0, err
	}
	if len(o.fields) != 1 {
		return 0, fmt.Errorf("unexpected status line %q", o.fields)
	}
	pid, err := strconv.Atoi(o.fields[0])
	if err != nil {
		return 0, fmt.Errorf("unexpected status line %q", o.fields)
	}
	return pid, nil
}

// abort makes the process end: with its lifeline, or by its ID if its standard
// input is data, the end of which would look like a complete one.
func (s *session) abort(fed bool, pid int) {
	if fed {
		_ = s.kill(pid)
	} else {
		_ = s.closeWrite()
	}
	s.giveUpReading(termGrace + engineGrace)
}

func (s *session) giveUpReading(after time.Duration) {
	_ = s.raw.SetReadDeadline(time.Now().Add(after))
}

// feed copies the caller's input to the process.
func (s *session) feed(r io.Reader, fail context.CancelCauseFunc) {
	buf := make([]byte, copyBuffer)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := s.raw.Write(buf[:n]); err != nil {
				return // the process has ended: its exit code tells
			}
		}
		if errors.Is(err, io.EOF) {
			_ = s.closeWrite()
			return
		}
		if err != nil {
			fail(fmt.Errorf("read standard input: %w", err))
			return
		}
	}
}

// deliver hands the output to the caller's writers until it ends. After a
// failure the rest is read and dropped, so that the process is not held up.
func (s *session) deliver(ctx context.Context, spec Spec, start opening, fail context.CancelCauseFunc) error {
	var engineSaid tail
	writers := map[stream]io.Writer{streamStdout: spec.Stdout, streamStderr: spec.Stderr, streamEngine: &engineSaid}
	write := func(from stream, p []byte) {
		w := writers[from]
		if w == nil || len(p) == 0 || ctx.Err() != nil {
			return
		}
		if _, err := w.Write(p); err != nil {
			fail(err)
		}
	}
	write(streamStdout, start.stdout)
	write(streamStderr, start.stderr)
	buf := make([]byte, copyBuffer)
	for {
		from, n, err := s.out.next(buf)
		switch {
		case errors.Is(err, io.EOF) && engineSaid.String() != "":
			return fmt.Errorf("docker engine: %s", engineSaid.String())
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		write(from, buf[:n])
	}
}
