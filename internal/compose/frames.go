package compose

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// stream is the first byte of a frame: which of the process's streams it carries.
type stream byte

const (
	streamStdout stream = 1
	streamStderr stream = 2
	streamEngine stream = 3 // an error of the engine itself
)

const (
	frameHeader = 8
	// readBuffer takes several of the engine's frames (at most 32 KiB each) a
	// system call.
	readBuffer = 256 << 10
	// maxFrame is far above any engine's: more means that this is no such stream.
	maxFrame = 64 << 20
	// tailBytes is how much of a process's standard error is kept.
	tailBytes = 4 << 10
)

// frames reads the engine's multiplexed output: 8 bytes of header {stream,
// 0, 0, 0, length big-endian}, then as many bytes. It copies straight into the
// caller's buffer, and a read that fails half way (a deadline) loses nothing.
type frames struct {
	r    *bufio.Reader
	from stream
	left int
}

func newFrames(r io.Reader) *frames {
	return &frames{r: bufio.NewReaderSize(r, readBuffer)}
}

// next reads bytes of one stream into p. io.EOF comes only between frames.
func (f *frames) next(p []byte) (stream, int, error) {
	for f.left == 0 {
		header, err := f.r.Peek(frameHeader)
		if err != nil {
			if errors.Is(err, io.EOF) && len(header) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return 0, 0, err
		}
		f.from = stream(header[0])
		length := binary.BigEndian.Uint32(header[4:])
		if f.from > streamEngine || length > maxFrame {
			return 0, 0, fmt.Errorf("not a multiplexed stream (header %x): a proxy between here and the engine?", header)
		}
		f.left = int(length)
		_, _ = f.r.Discard(frameHeader) // it is in the buffer
	}
	n, err := f.r.Read(p[:min(len(p), f.left)])
	f.left -= n
	if n > 0 {
		return f.from, n, nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return 0, 0, err
}

// tail keeps the last bytes written to it. Safe for use by many.
type tail struct {
	mu  sync.Mutex
	buf []byte
	cut bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailBytes; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
		t.cut = true
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cut {
		return "..." + string(t.buf)
	}
	return string(t.buf)
}
