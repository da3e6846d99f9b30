package sqldump

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// TestDecompressTellsDamage: whatever is wrong with a file, it is the file that
// is at fault; if it could not be read, it is not.
func TestDecompressTellsDamage(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("INSERT INTO t VALUES (1, 'some text'); -- and more\n", 400)
	dump := "--\n-- PostgreSQL database dump\n--\n\n" + text + "\n--\n-- PostgreSQL database dump complete\n--\n\n"
	for _, codec := range []Codec{Gzip, Zstd} {
		var file bytes.Buffer
		if _, err := Write(context.Background(), &file, strings.NewReader(dump), Options{Codec: codec}); err != nil {
			t.Fatal(err)
		}
		good := file.Bytes()
		for at := range 8 * len(good) {
			bad := bytes.Clone(good)
			bad[at/8] ^= 1 << (at % 8)
			r, err := Decompress(bufio.NewReader(bytes.NewReader(bad)), codec)
			var got []byte
			if err == nil {
				got, err = io.ReadAll(r)
				r.Close()
			}
			if err == nil && string(got) != dump || err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrTruncated) {
				t.Errorf("%s, bit %d: %d bytes, %v", codec, at, len(got), err)
			}
		}
		broken := errors.New("the network is down")
		r, err := Decompress(bufio.NewReader(io.MultiReader(bytes.NewReader(good[:len(good)/2]), iotest.ErrReader(broken))), codec)
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if !errors.Is(err, broken) || errors.Is(err, ErrDamaged) || errors.Is(err, ErrTruncated) {
			t.Errorf("%s: %v", codec, err)
		}
	}
}
