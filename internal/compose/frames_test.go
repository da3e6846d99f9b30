package compose

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func frame(from stream, payload string) []byte {
	header := make([]byte, frameHeader)
	header[0] = byte(from)
	binary.BigEndian.PutUint32(header[4:], uint32(len(payload)))
	return append(header, payload...)
}

func readFrames(r io.Reader, size int) (out, errs string, err error) {
	f, buf := newFrames(r), make([]byte, size)
	var texts [streamEngine + 1]strings.Builder
	for {
		from, n, err := f.next(buf)
		if err != nil {
			return texts[streamStdout].String(), texts[streamStderr].String(), err
		}
		texts[from].Write(buf[:n])
	}
}

func TestFrames(t *testing.T) {
	big := strings.Repeat("0123456789", 100_000)
	raw := bytes.Join([][]byte{
		frame(streamStdout, "one"), frame(streamStderr, "oops"), frame(streamStdout, ""),
		frame(streamStdout, big), frame(streamStderr, "end"),
	}, nil)
	for name, r := range map[string]io.Reader{
		"whole":        bytes.NewReader(raw),
		"byte by byte": iotest.OneByteReader(bytes.NewReader(raw)),
		"half":         iotest.HalfReader(bytes.NewReader(raw)),
		"data and EOF": iotest.DataErrReader(bytes.NewReader(raw)),
	} {
		out, errs, err := readFrames(r, 1000)
		if out != "one"+big || errs != "oopsend" || err != io.EOF {
			t.Errorf("%s: %d bytes of output, errors %q, %v", name, len(out), errs, err)
		}
	}
	for cut := 1; cut < 30; cut++ { // a stream that breaks off never looks complete
		_, _, err := readFrames(bytes.NewReader(raw[:cut]), 1000)
		atBorder := cut == 11 || cut == 23
		if atBorder != (err == io.EOF) || (!atBorder && !errors.Is(err, io.ErrUnexpectedEOF)) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	if _, _, err := readFrames(strings.NewReader("HTTP/1.1 400 Bad Request"), 10); err == nil || !strings.Contains(err.Error(), "not a multiplexed stream") {
		t.Errorf("error %v", err)
	}
}

// interrupted fails each read once before it lets it through.
type interrupted struct {
	r   io.Reader
	now bool
}

func (i *interrupted) Read(p []byte) (int, error) {
	if i.now = !i.now; i.now {
		return 0, errBroken
	}
	return i.r.Read(p[:min(len(p), 3)])
}

// TestFramesInterrupted: a read past a deadline loses nothing.
func TestFramesInterrupted(t *testing.T) {
	raw := append(frame(streamStdout, "hello "), frame(streamStdout, "world")...)
	f, buf := newFrames(&interrupted{r: bytes.NewReader(raw)}), make([]byte, 100)
	var out []byte
	for {
		_, n, err := f.next(buf)
		out = append(out, buf[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
	}
	if string(out) != "hello world" {
		t.Fatalf("got %q", out)
	}
}

func TestTail(t *testing.T) {
	var kept tail
	for range 3 {
		_, _ = kept.Write([]byte(strings.Repeat("x", 3000)))
	}
	_, _ = kept.Write([]byte("last words"))
	if got := kept.String(); len(got) != tailBytes+3 || !strings.HasPrefix(got, "...x") || !strings.HasSuffix(got, "last words") {
		t.Errorf("%d bytes: %.10q ... %.10q", len(got), got, got[len(got)-10:])
	}
}
