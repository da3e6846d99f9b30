package postgres

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
)

// Execer runs commands in a container, which end when ctx or this process does.
// A command's exit code is no error.
type Execer interface {
	Exec(ctx context.Context, cmd, env []string, stdout, stderr io.Writer) (exitCode int, err error)
	// Reach tells the host, or socket directory, by which programs inside the
	// container reach a server, given its address as DATABASE_URL has it.
	Reach(ctx context.Context, network, addr string) (host string, err error)
}

// ContainerDumper runs the pg_dump of a container.
type ContainerDumper struct {
	Execer Execer
	Name   string // of the container's service, for messages
	Target *Target
	DumpOptions

	warnings
}

// Version is that of the container's pg_dump.
func (d *ContainerDumper) Version(ctx context.Context) (Tool, error) {
	var stdout, stderr bytes.Buffer
	code, err := d.Execer.Exec(ctx, []string{"pg_dump", "--version"}, nil, &stdout, &stderr)
	if err != nil {
		return Tool{}, fmt.Errorf("pg_dump: %w", err)
	}
	if code != 0 {
		return Tool{}, fmt.Errorf("pg_dump: not in the container of service %s (exit status %d: %s): set dump.service to one that has it", d.Name, code, strings.TrimSpace(stderr.String()))
	}
	tool, err := parseTool(d.Name+":pg_dump", stdout.String())
	if err != nil {
		return Tool{}, fmt.Errorf("pg_dump: %w", err)
	}
	return tool, nil
}

// Dump is as HostDumper's.
func (d *ContainerDumper) Dump(ctx context.Context, w io.Writer, snapshot string) error {
	return d.run(ctx, "pg_dump", d.dumpArgs(snapshot), w)
}

// Globals is as HostDumper's.
func (d *ContainerDumper) Globals(ctx context.Context, w io.Writer) error {
	return d.run(ctx, "pg_dumpall", d.globalsArgs(d.Target.Database()), w)
}

func (d *ContainerDumper) run(ctx context.Context, tool string, args []string, w io.Writer) error {
	network, addr := d.Target.Address()
	host, err := d.Execer.Reach(ctx, network, addr)
	if err != nil {
		return fmt.Errorf("%s: %w", tool, err)
	}
	var stderr stderrBuffer
	code, err := d.Execer.Exec(ctx, append([]string{tool}, args...), d.Target.envInside(host), w, &stderr)
	said := stderr.text(d.Target.config.Password)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", tool, err)
	case code != 0:
		return &ToolError{Tool: tool, ExitCode: code, Stderr: said}
	}
	d.add(said)
	return nil
}
