package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

const (
	// killAfter is how long a program may take over SIGTERM before SIGKILL.
	killAfter = 5 * time.Second
	// pipeBytes is the size of the pipe from pg_dump: Linux's limit for
	// unprivileged users. The default 64 KiB make it wait more often.
	pipeBytes = 1 << 20
)

// HostDumper runs the host's pg_dump.
type HostDumper struct {
	Path   string // of pg_dump, as FindPgDump gives it; pg_dumpall is beside it
	Target *Target
	DumpOptions

	warnings
}

// Version is pg_dump's own.
func (d *HostDumper) Version(ctx context.Context) (Tool, error) {
	tool, err := toolAt(ctx, d.Path)
	if err != nil {
		return Tool{}, fmt.Errorf("pg_dump: %w", err)
	}
	return tool, nil
}

// Dump writes the database as SQL to w, of the exported snapshot if one is
// given. It fails with a *ToolError if pg_dump does, and with w's error if that
// fails; what pg_dump merely remarked is in Warnings. When ctx is cancelled or
// this process dies, pg_dump gets SIGTERM, and after 5 s SIGKILL.
func (d *HostDumper) Dump(ctx context.Context, w io.Writer, snapshot string) error {
	return d.run(ctx, d.Path, "pg_dump", d.dumpArgs(snapshot), w)
}

// Globals writes roles, without their passwords, and tablespaces as SQL to w.
func (d *HostDumper) Globals(ctx context.Context, w io.Writer) error {
	path := filepath.Join(filepath.Dir(d.Path), "pg_dumpall")
	return d.run(ctx, path, "pg_dumpall", d.globalsArgs(d.Target.Database()), w)
}

func (d *HostDumper) run(ctx context.Context, path, tool string, args []string, w io.Writer) error {
	var stderr stderrBuffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(CleanEnv(os.Environ()), d.Target.Env()...)
	cmd.Stderr = &stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = killAfter
	endWithParent(cmd)
	copyErr, err := stream(cmd, w)
	if err != nil && cmd.ProcessState == nil {
		return fmt.Errorf("%s: start: %w", tool, err)
	}
	said := stderr.text(d.Target.config.Password)
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", tool, context.Cause(ctx))
	case copyErr != nil: // then it was our closed pipe that ended the program
		return fmt.Errorf("%s: output: %w", tool, copyErr)
	case errors.As(err, &exit):
		return &ToolError{Tool: tool, ExitCode: exit.ExitCode(), Stderr: said}
	case err != nil:
		return fmt.Errorf("%s: %w", tool, err)
	}
	d.add(said)
	return nil
}

// stream runs cmd and hands its output to w. If w fails, the program finds its
// pipe closed and ends. No deadline on the pipe: when the program has ended, a
// slow w still has to get the last MiB.
func stream(cmd *exec.Cmd, w io.Writer) (copyErr, err error) {
	r, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	widen(r, pipeBytes)
	cmd.Stdout = out
	wait, err := start(cmd)
	_ = out.Close()
	if err != nil {
		return nil, err
	}
	_, copyErr = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, pipeBytes))
	_ = r.Close()
	return copyErr, wait()
}

// start starts cmd from a thread that stays until it has ended: Linux sends the
// parent-death signal when the thread that started the child ends.
func start(cmd *exec.Cmd) (wait func() error, err error) {
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	return func() error { return <-ended }, <-started
}
