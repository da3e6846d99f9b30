package sqldump

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"
)

// TestSplit: however many parts are asked for, laid end to end they are the
// table, each begins on its own line, and none is much larger than its share.
func TestSplit(t *testing.T) {
	t.Parallel()
	var x Index
	x.add(Member{Section: PreData, Lines: 7, Size: 11, SQLSize: 20})
	for i := range 40 {
		x.add(Member{Section: Data, Table: "public.t", Rows: int64(i), Lines: int64(i + 2), Size: int64(100 + i%7), SQLSize: 500})
	}
	src := IndexedSource(&x, func(context.Context, int64, int64) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader("")), nil
	})
	whole := src.Tables()[0]
	for n := 1; n <= 45; n++ {
		parts := src.Split(whole, n)
		if len(parts) > n || n <= 10 && len(parts) != n {
			t.Fatalf("%d parts for %d", len(parts), n)
		}
		at, line, rows, size := whole.span.from, whole.span.line, int64(0), int64(0)
		for _, p := range parts {
			if p.span.from != at || p.span.line != line || p.Table != whole.Table || p.Members() < 1 {
				t.Fatalf("of %d: part %+v, wanted from %d at line %d", n, p, at, line)
			}
			for _, m := range x.Members[p.span.from:p.span.to] {
				line += m.Lines
			}
			at, rows, size = p.span.to, rows+p.Rows, size+p.Size
			if p.Size > whole.Size/int64(n)+2*106 {
				t.Errorf("of %d: a part of %d bytes", n, p.Size)
			}
		}
		if at != whole.span.to || rows != whole.Rows || size != whole.Size {
			t.Errorf("of %d: %d rows in %d bytes, not %d in %d", n, rows, size, whole.Rows, whole.Size)
		}
	}
}

// TestCheckLooksInside: what checksums cannot tell, rows that are not as many as
// the index says, is found unless the rows are left to a load.
func TestCheckLooksInside(t *testing.T) {
	t.Parallel()
	var file bytes.Buffer
	x, err := Write(t.Context(), &file, strings.NewReader(awkward), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range x.Members {
		if m.Rows > 1 {
			x.Members[i].Rows--
			x.Rows--
			x.Tables[slices.IndexFunc(x.Tables, func(t Table) bool { return t.Table == m.Table })].Rows--
			break
		}
	}
	for _, bytesOnly := range []bool{false, true} {
		faults, err := x.Check(t.Context(), bytesRanger(file.Bytes()), CheckOptions{BytesOnly: bytesOnly})
		if err != nil || (len(faults) == 0) != bytesOnly {
			t.Errorf("bytes only %v: %v %v", bytesOnly, faults, err)
		}
	}
}
