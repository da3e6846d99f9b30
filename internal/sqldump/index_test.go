package sqldump

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// FuzzIndex: where nothing is found wrong with a file and its index, gunzip or
// unzstd read of the file what the index says. Checksums keep nobody out who
// makes the index as well: they are put right.
func FuzzIndex(f *testing.F) {
	for _, codec := range []Codec{Gzip, Zstd} {
		for _, size := range []int{300, 1 << 20} {
			var file bytes.Buffer
			x, err := Write(f.Context(), &file, strings.NewReader(awkward), Options{MemberSize: size, Codec: codec, Jobs: 1})
			if err != nil {
				f.Fatal(err)
			}
			text, err := json.Marshal(x)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text, file.Bytes())
		}
	}
	f.Add([]byte(`{"compression":"zstd","members":[{"section":"pre-data","lines":1,"size_bytes":5,"sql_bytes":9,"sha256":"x"}]}`), []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0xff})
	f.Fuzz(func(t *testing.T, text, file []byte) {
		var x Index
		if json.Unmarshal(text, &x) != nil {
			return
		}
		for i, m := range x.Members {
			if end := m.Offset + m.Size; m.Offset >= 0 && end >= m.Offset && end <= int64(len(file)) {
				sum := sha256.Sum256(file[m.Offset:end])
				x.Members[i].SHA256 = hex.EncodeToString(sum[:])
			}
		}
		faults, err := x.Check(t.Context(), bytesRanger(file), CheckOptions{Jobs: 1, Deep: true})
		if err != nil {
			t.Fatalf("the file can be read: %v", err)
		}
		if len(faults) > 0 {
			for _, fault := range faults {
				_ = fault.Error()
			}
			return
		}
		plain, err := unpacked(file, x.Codec)
		if err != nil {
			t.Fatalf("nothing is wrong, and it does not unpack: %v", err)
		}
		if int64(len(plain)) != x.SQLSize || int64(len(file)) != x.Size {
			t.Errorf("%d bytes unpack to %d, the index says %d and %d", len(file), len(plain), x.Size, x.SQLSize)
		}
		lines := int64(0)
		for _, m := range x.Members {
			lines += m.Lines
		}
		if n := int64(bytes.Count(plain, []byte{'\n'})); n != lines || x.Rows > n {
			t.Errorf("%d lines, the index says %d, %d of them rows", n, lines, x.Rows)
		}
	})
}

// unpacked is what other programs make of a file.
func unpacked(file []byte, c Codec) ([]byte, error) {
	if c == Zstd {
		d, err := zstd.NewReader(bytes.NewReader(file), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		defer d.Close()
		return io.ReadAll(d)
	}
	d, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(d)
}

// TestHugeWindow: a frame of some bytes that claims to refer gigabytes back is
// refused before any room is made.
func TestHugeWindow(t *testing.T) {
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 18 << 3, 1, 0, 0} // an empty block, with a window of 256 MiB
	r, err := Decompress(bufio.NewReader(bytes.NewReader(frame)), Zstd)
	if err == nil {
		_, err = io.ReadAll(r)
	}
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("%v", err)
	}
}

// TestClaimedRatio: an index that claims more than a codec can expand, or more
// bytes than its SQL can take, is none.
func TestClaimedRatio(t *testing.T) {
	for codec, most := range map[Codec]int64{Gzip: maxGzipRatio, Zstd: maxZstdRatio} {
		for name, m := range map[string]Member{"bomb": {Size: 10, SQLSize: 11*most + 10}, "ballast": {Size: 1 << 20, SQLSize: 10}} {
			m.Section, m.SHA256 = PreData, strings.Repeat("0", 64)
			x := Index{Codec: codec}
			x.add(m)
			if err := x.Validate(); !errors.Is(err, ErrBadIndex) {
				t.Errorf("%s of %s: %v", name, codec, err)
			}
		}
	}
}
