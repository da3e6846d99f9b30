//go:build !linux

package docker

import (
	"context"
	"errors"
	"net"
)

// socket is Linux's alone: elsewhere containers run in another kernel.
type socket struct{}

func openSocket(string) (*socket, error) { return nil, errors.ErrUnsupported }

func (*socket) dial(context.Context, string, string) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

func (*socket) close() {}
