package compose

import (
	"context"
	"io"
	"net"
)

// Service is one service of a project, with nothing but standard types in its
// methods, so that others can name what they need of it as an interface of
// their own.
type Service struct {
	project *Project
	name    string
}

// Service returns the named service; whether it runs shows in its use.
func (p *Project) Service(name string) *Service { return &Service{project: p, name: name} }

// Exec runs a command as Project.Exec does, without standard input.
func (s *Service) Exec(ctx context.Context, cmd, env []string, stdout, stderr io.Writer) (exitCode int, err error) {
	return s.project.Exec(ctx, s.name, Spec{Cmd: cmd, Env: env, Stdout: stdout, Stderr: stderr})
}

// Reach tells the host by which a program inside the container reaches the
// server at host and port (see Project.Dial): a name, an address, or the
// directory of a Unix socket.
func (s *Service) Reach(ctx context.Context, network, addr string) (host string, err error) {
	end, err := s.project.Find(ctx, s.name, network, addr)
	if err != nil {
		return "", err
	}
	return end.Host(), nil
}

// Dial connects to addr as seen from inside the container: see Project.Dial.
func (s *Service) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return s.project.Dial(s.name)(ctx, network, addr)
}
