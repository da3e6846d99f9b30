package inflate

import (
	"bytes"
	stdgzip "compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/klauspost/compress/gzip"
)

// texts are inputs that lead to each kind of block and of match.
func texts() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 300<<10)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	var rows bytes.Buffer
	for i := range 9000 {
		fmt.Fprintf(&rows, "%d\t%x\t{\"seq\": %d, \"memo\": \"escrow event of the platform\"}\n", i, r.Uint64(), i*i)
	}
	skewed := make([]byte, 200<<10) // codes of every length
	for i := range skewed {
		skewed[i] = byte(min(r.ExpFloat64()*8, 255))
	}
	var far bytes.Buffer // matches at every distance and length
	for i := range 4000 {
		from := r.IntN(len(noise) - 300)
		far.Write(noise[from : from+1+i%280])
		far.Write(bytes.Repeat([]byte{byte(i)}, i%37))
	}
	return map[string][]byte{
		"empty": {}, "one": {'x'}, "short": []byte("a short text, a short text"), "zeros": make([]byte, 1<<20), "noise": noise,
		"rows": rows.Bytes(), "skewed": skewed, "far": far.Bytes(), "pairs": bytes.Repeat([]byte("ab"), 50_000),
	}
}

// packed compresses in every way that the two encoders know.
func packed(t testing.TB, text []byte, level int) [][]byte {
	t.Helper()
	var ours, std bytes.Buffer
	w, err := gzip.NewWriterLevel(&ours, level)
	if err != nil {
		t.Fatal(err)
	}
	w.Comment = "a comment"
	s, err := stdgzip.NewWriterLevel(&std, level)
	if err != nil {
		t.Fatal(err)
	}
	s.Name = "a name"
	for i, part := range [][]byte{text[:len(text)/3], text[len(text)/3:]} {
		for _, w := range []io.Writer{w, s} {
			if _, err := w.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		if i == 0 { // an empty stored block between
			_, _ = w.Flush(), s.Flush()
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return [][]byte{ours.Bytes(), std.Bytes()}
}

// TestMember: what the encoders make comes back, into exactly its size.
func TestMember(t *testing.T) {
	t.Parallel()
	var d Decoder
	for name, text := range texts() {
		for level := stdgzip.HuffmanOnly; level <= 9; level++ {
			for i, member := range packed(t, text, level) {
				dst := bytes.Repeat([]byte{0xa5}, len(text)+9)
				if err := d.Member(dst[:len(text):len(text)], member); err != nil || !bytes.Equal(dst[:len(text)], text) {
					t.Fatalf("%s, level %d, encoder %d: %v", name, level, i, err)
				}
				if d.Member(dst[:len(text)+1], member) == nil || len(text) > 0 && d.Member(dst[:len(text)-1], member) == nil {
					t.Fatalf("%s, level %d, encoder %d: a wrong size is taken", name, level, i)
				}
				if d.Member(dst[:len(text)], append(bytes.Clone(member), 0)) == nil || d.Member(dst[:len(text)], member[:len(member)-1]) == nil {
					t.Fatalf("%s, level %d, encoder %d: a byte too many or too few is taken", name, level, i)
				}
			}
		}
	}
}

// TestFlips: no flipped bit of the data passes.
func TestFlips(t *testing.T) {
	t.Parallel()
	var d Decoder
	text := texts()["rows"][:3000]
	for _, member := range packed(t, text, 6) {
		dst := make([]byte, len(text))
		n, _ := headerSize(member)
		for bit := n * 8; bit < len(member)*8; bit++ {
			bad := bytes.Clone(member)
			bad[bit/8] ^= 1 << (bit % 8)
			if d.Member(dst, bad) == nil && !bytes.Equal(dst, text) {
				t.Fatalf("bit %d of %d", bit, len(member)*8)
			}
		}
	}
}

// FuzzMember: whatever the stream, it is what the standard library makes of it,
// or refused.
func FuzzMember(f *testing.F) {
	for _, text := range texts() {
		for _, level := range []int{stdgzip.HuffmanOnly, 0, 1, 6} {
			for _, member := range packed(f, text[:min(len(text), 2000)], level) {
				f.Add(member)
			}
		}
	}
	var d Decoder
	f.Fuzz(func(t *testing.T, member []byte) {
		want, wantErr := reference(member)
		dst := make([]byte, len(want), len(want)+1)
		err := d.Member(dst, member)
		if err == nil && (wantErr != nil || !bytes.Equal(dst, want)) {
			t.Fatalf("taken, where the standard library says %v", wantErr)
		}
		if n, ok := headerSize(member); ok && wantErr == nil && err != nil && len(member)-n >= 8 {
			t.Fatalf("refused: %v", err)
		}
	})
}

// reference reads one member with the standard library.
func reference(member []byte) ([]byte, error) {
	in := bytes.NewReader(member)
	r, err := stdgzip.NewReader(in)
	if err != nil {
		return nil, err
	}
	r.Multistream(false)
	const most = 1 << 22
	out, err := io.ReadAll(io.LimitReader(r, most))
	if err == nil && (in.Len() > 0 || len(out) == most) {
		err = ErrCorrupt
	}
	return out, err
}

// BenchmarkMember decompresses rows in 4 MiB members; set INFLATE_FILE to use
// the SQL of a file. BenchmarkStream is the decoder of streams beside it.
func BenchmarkMember(b *testing.B) {
	text, member := sample(b)
	var d Decoder
	dst := make([]byte, len(text))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if err := d.Member(dst, member); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStream(b *testing.B) {
	text, member := sample(b)
	var r gzip.Reader
	dst := make([]byte, len(text))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if err := r.Reset(bytes.NewReader(member)); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(&r, dst); err != nil {
			b.Fatal(err)
		}
	}
}

func sample(b *testing.B) (text, member []byte) {
	b.Helper()
	text = bytes.Repeat(texts()["rows"], 6)[:4<<20]
	if name := os.Getenv("INFLATE_FILE"); name != "" {
		var err error
		if text, err = os.ReadFile(name); err != nil {
			b.Fatal(err)
		}
	}
	return text, packed(b, text, 3)[0]
}
