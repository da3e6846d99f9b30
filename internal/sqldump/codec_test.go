package sqldump

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
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

// TestIncompressible: rows of random bytes, in which a search for matches finds
// what costs more than it saves, take little more than the half of their digits,
// and text takes what it always took.
func TestIncompressible(t *testing.T) {
	t.Parallel()
	random := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{11}).Read(random)
	for name, c := range map[string]struct {
		sql  string
		most float64
	}{
		"bytea":  {`\\x` + hex.EncodeToString(random), 0.58},
		"base64": {base64.StdEncoding.EncodeToString(random), 0.77},
		"text":   {strings.Repeat("a trade\tof a buyer\tand a seller\n", 1<<14), 0.02},
		"short":  {"SET x = 1;\n", 10},
	} {
		for level := 1; level <= 9; level++ {
			w, err := newCompressor(Gzip, level)
			if err != nil {
				t.Fatal(err)
			}
			var member bytes.Buffer
			for _, first := range []bool{true, false} {
				member.Reset()
				if err := w.compress(&member, []byte(c.sql), first); err != nil {
					t.Fatal(err)
				}
				d, err := NewDecoder(Gzip)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := d.Decode(nil, member.Bytes(), int64(len(c.sql))); err != nil || string(got) != c.sql {
					t.Errorf("%s, level %d: %d bytes, %v", name, level, len(got), err)
				}
				if share := float64(member.Len()) / float64(len(c.sql)); share > c.most {
					t.Errorf("%s, level %d: %.3f of its size, want at most %.3f", name, level, share, c.most)
				}
				if Marked(member.Bytes()) != first {
					t.Errorf("%s, level %d: the mark of a first member: %t", name, level, !first)
				}
			}
		}
	}
}
