package compose

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/client"
)

const (
	// termGrace is how long a process may take over SIGTERM before SIGKILL; the
	// scripts keep to the same.
	termGrace = 5 * time.Second
	// engineGrace is for the engine's own answers about a process that has ended.
	engineGrace = 5 * time.Second
	// unknownExit is the exit code where none is known.
	unknownExit = -1
)

// session is one process in a container, with its streams.
type session struct {
	engine    *client.Client
	container Container
	user      string
	id        string // the engine's ID of the exec
	raw       net.Conn
	out       *frames
}

// start runs cmd in the container. Secrets belong in env, which the engine does
// not show, never in cmd, which everybody on the host can read.
func (p *Project) start(ctx context.Context, c Container, user string, cmd, env []string) (*session, error) {
	created, err := ask(ctx, func(ctx context.Context) (client.ExecCreateResult, error) {
		return p.engine.ExecCreate(ctx, c.ID, client.ExecCreateOptions{
			User: user, Cmd: cmd, Env: env,
			AttachStdin: true, AttachStdout: true, AttachStderr: true,
		})
	})
	if err != nil {
		return nil, engineError(ctx, "exec in "+c.Name, p.engine.DaemonHost(), err)
	}
	attached, err := p.engine.ExecAttach(ctx, created.ID, client.ExecAttachOptions{})
	if err != nil {
		return nil, engineError(ctx, "exec in "+c.Name, p.engine.DaemonHost(), err)
	}
	return &session{
		engine: p.engine, container: c, user: user, id: created.ID,
		raw: attached.Conn, out: newFrames(attached.Reader),
	}, nil
}

// closeWrite ends the process's standard input and leaves its output open.
func (s *session) closeWrite() error {
	half, ok := s.raw.(client.CloseWriter)
	if !ok {
		return fmt.Errorf("the engine's connection cannot be half-closed: %w", errors.ErrUnsupported)
	}
	return half.CloseWrite()
}

// opening is what a process wrote before and with its first status line.
type opening struct {
	fields         []string // of the status line, after its keyword
	stdout, stderr []byte   // what else there was
}

// await reads until the script's line "escrowctl: KEYWORD ..." on standard
// error. An error says what the process, or the engine in its place, said.
func (s *session) await(keyword string) (opening, error) {
	const openingLimit = 1 << 20
	mark := []byte("escrowctl: " + keyword + " ")
	var got opening
	buf := make([]byte, 4<<10)
	for len(got.stdout)+len(got.stderr) < openingLimit {
		from, n, err := s.out.next(buf)
		if err != nil {
			return got, s.neverStarted(got, err)
		}
		if from == streamStdout {
			got.stdout = append(got.stdout, buf[:n]...)
			continue
		}
		got.stderr = append(got.stderr, buf[:n]...)
		if at := bytes.Index(got.stderr, mark); at >= 0 {
			if line, rest, whole := bytes.Cut(got.stderr[at+len(mark):], []byte("\n")); whole {
				got.fields = strings.Fields(string(line))
				got.stderr = append(got.stderr[:at:at], rest...)
				return got, nil
			}
		}
	}
	return got, fmt.Errorf("no word from the script in its first %d bytes", openingLimit)
}

func (s *session) neverStarted(got opening, err error) error {
	said := strings.TrimSpace(string(got.stderr) + string(got.stdout))
	if !errors.Is(err, io.EOF) || said == "" {
		return err
	}
	return &startError{said: said}
}

// startError is a command that ended before its status line.
type startError struct{ said string }

func (e *startError) Error() string { return e.said }

// exitCode asks the engine for the code of a process whose output has ended.
func (s *session) exitCode(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, engineGrace)
	defer cancel()
	for {
		state, err := s.engine.ExecInspect(ctx, s.id, client.ExecInspectOptions{})
		if err != nil {
			return unknownExit, engineError(ctx, "exit code of exec in "+s.container.Name, s.engine.DaemonHost(), err)
		}
		if !state.Running {
			return state.ExitCode, nil
		}
		select {
		case <-ctx.Done():
			return unknownExit, fmt.Errorf("compose: exec in %s: its output ended, but the engine says that it still runs", s.container.Name)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

const killScript = `kill -TERM "$1" || exit 0
n=0
while kill -0 "$1" && [ "$n" -lt 25 ]; do sleep 0.2 || sleep 1; n=$((n + 1)); done
kill -KILL "$1"`

// kill ends the session's process, by its ID inside the container: at once if
// it obeys, after termGrace if not. Its children, if any, are left alone (see
// scripts/watch.sh). It uses a context of its own, because it is called when
// the caller's is over, and does not wait for the end.
func (s *session) kill(pid int) error {
	ctx, cancel := context.WithTimeout(context.Background(), engineGrace)
	defer cancel()
	created, err := s.engine.ExecCreate(ctx, s.container.ID, client.ExecCreateOptions{
		User: s.user,
		Cmd:  []string{"sh", "-c", killScript, "escrowctl-kill", strconv.Itoa(pid)},
	})
	if err != nil {
		return err
	}
	_, err = s.engine.ExecStart(ctx, created.ID, client.ExecStartOptions{Detach: true})
	return err
}
