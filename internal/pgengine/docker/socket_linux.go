package docker

import (
	"context"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// socket is a server's unix socket, held by the file and not by its name: what
// runs in the container may put a link there, which would lead out of it.
type socket struct{ file *os.File }

// openSocket holds what is at a path now, which must be no link.
func openSocket(path string) (*socket, error) {
	file, err := os.OpenFile(path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && info.Mode().Type() != os.ModeSocket {
		err = fmt.Errorf("%s is no socket", path)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &socket{file}, nil
}

// dial connects to the socket, whatever address is asked for.
func (s *socket) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", s.file.Fd()))
}

func (s *socket) close() { _ = s.file.Close() }
