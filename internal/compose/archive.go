package compose

import (
	"context"
	"io"
	"io/fs"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// Archive returns a file or directory of the service's container, which need not
// run, as a tar stream with volumes and symbolic links as they are. Names in it
// begin with the last part of path. What is not there is fs.ErrNotExist.
func (p *Project) Archive(ctx context.Context, service, path string) (io.ReadCloser, error) {
	c, err := p.anyContainer(ctx, service)
	if err != nil {
		return nil, err
	}
	got, err := p.engine.CopyFromContainer(ctx, c.ID, client.CopyFromContainerOptions{SourcePath: path})
	if err != nil {
		if errdefs.IsNotFound(err) {
			return nil, explain(fs.ErrNotExist, err, "%s is not in container %s", path, c.Name)
		}
		return nil, engineError(ctx, "read "+path+" in "+c.Name, p.engine.DaemonHost(), err)
	}
	return got.Content, nil
}

// Archive reads a file or directory as Project.Archive does.
func (s *Service) Archive(ctx context.Context, path string) (io.ReadCloser, error) {
	return s.project.Archive(ctx, s.name, path)
}

// Run runs a command in a new container as Project.Run does.
func (s *Service) Run(ctx context.Context, entrypoint, cmd []string, stdout, stderr io.Writer) (exitCode int, err error) {
	return s.project.Run(ctx, s.name, RunSpec{Entrypoint: entrypoint, Cmd: cmd, Stdout: stdout, Stderr: stderr})
}

// Container is the service's container: the running one with the lowest number,
// else a stopped one.
func (s *Service) Container(ctx context.Context) (Container, error) {
	return s.project.anyContainer(ctx, s.name)
}
