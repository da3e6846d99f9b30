package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stellarescrow/escrowctl/internal/store"
	"github.com/stellarescrow/escrowctl/internal/store/s3store"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// subject is a store under test and the directory its objects really lie in:
// versitygw keeps them as plain files.
type subject struct {
	store.Store
	root string
}

const partSize = 5 << 20 // S3's least

func TestDir(t *testing.T) {
	suite(t, newDir)
}

func TestS3(t *testing.T) {
	server := testenv.S3(t)
	server.Setenv(t)
	for _, prefix := range []string{"", "pre/fix"} {
		t.Run("prefix="+prefix, func(t *testing.T) {
			suite(t, func(t *testing.T) subject { return newS3(t, server, prefix) })
		})
	}
}

// suite holds every store to the same promises.
func suite(t *testing.T, open func(*testing.T) subject) {
	for name, test := range map[string]func(*testing.T, subject){
		"Put":           testPut,
		"Upload":        testUpload,
		"CreateOnly":    testCreateOnly,
		"OneWinner":     testOneWinner,
		"Growing":       testGrowing,
		"SourceFails":   testSourceFails,
		"Cancelled":     testCancelled,
		"SourceCut":     testSourceCut,
		"Ranges":        testRanges,
		"Missing":       testMissing,
		"BadNames":      testBadNames,
		"List":          testList,
		"ListThousands": testListThousands,
		"CheckWritable": testCheckWritable,
		"CancelledRead": testCancelledRead,
		"SweepObjects":  testSweepLeavesObjects,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func newDir(t *testing.T) subject {
	root := filepath.Join(t.TempDir(), "a", "b")
	return subject{store.NewDir(root), root}
}

func newS3(t *testing.T, s3 *testenv.S3Server, prefix string) subject {
	t.Helper()
	bucket := s3.Bucket(t)
	st, err := s3store.New(t.Context(), s3store.Options{
		Bucket: bucket, Prefix: prefix, PartSize: partSize, Attempts: 2, Pause: time.Millisecond, Stall: 20 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return subject{st, filepath.Join(s3.Root, bucket, filepath.FromSlash(prefix))}
}

func testPut(t *testing.T, s subject) {
	body := []byte("{\"a\":1}\n")
	before := time.Now().Add(-2 * time.Second)
	must(t, s.Put(t.Context(), "a.json", body))
	if got := read(t, s, "a.json", 0, -1); !bytes.Equal(got, body) {
		t.Errorf("read %q, wrote %q", got, body)
	}
	o, err := s.Stat(t.Context(), "a.json")
	must(t, err)
	if o.Name != "a.json" || o.Size != int64(len(body)) || o.ModTime.Before(before) || o.ModTime.After(time.Now().Add(2*time.Second)) {
		t.Errorf("Stat: %+v", o)
	}
	must(t, s.Put(t.Context(), "empty", nil))
	if got := read(t, s, "empty", 0, -1); len(got) != 0 {
		t.Errorf("an empty object reads %q", got)
	}
	must(t, s.Delete(t.Context(), "a.json"))
	must(t, s.Delete(t.Context(), "a.json")) // twice is no error
	if _, err := s.Stat(t.Context(), "a.json"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("Stat after Delete: %v", err)
	}
	if got := names(t, s); !slices.Equal(got, []string{"empty"}) {
		t.Errorf("objects left: %v", got)
	}
}

func testUpload(t *testing.T, s subject) {
	for _, size := range []int{0, 1, partSize - 1, partSize, partSize + 1, 3 * partSize, 3*partSize + 12345} {
		name := fmt.Sprintf("dump-%d.sql.gz", size)
		body := noise(size)
		rcpt, err := s.Upload(t.Context(), name, file(t, body))
		must(t, err)
		parts := 1
		if strings.HasPrefix(s.Location(), "s3:") && size > partSize {
			parts = (size + partSize - 1) / partSize
		}
		want := store.Receipt{Size: int64(size), Parts: parts, Evidence: store.BySHA256}
		if !strings.HasPrefix(s.Location(), "s3:") {
			want.Evidence = store.BySize
		}
		if diff := cmp.Diff(want, rcpt); diff != "" {
			t.Errorf("%s: receipt (-want +got):\n%s", name, diff)
		}
		if got := read(t, s, name, 0, -1); !bytes.Equal(got, body) {
			t.Errorf("%s: read %d bytes that are not the %d sent", name, len(got), size)
		}
	}
	onlyObjects(t, s)
}

func testCreateOnly(t *testing.T, s subject) {
	must(t, s.Put(t.Context(), "x", []byte("first")))
	if err := s.Put(t.Context(), "x", []byte("second")); !errors.Is(err, store.ErrExist) || !strings.Contains(err.Error(), s.Location()) {
		t.Errorf("Put over an object: %v", err)
	}
	for _, size := range []int{3, 2*partSize + 1} {
		if _, err := s.Upload(t.Context(), "x", file(t, noise(size))); !errors.Is(err, store.ErrExist) {
			t.Errorf("Upload of %d bytes over an object: %v", size, err)
		}
	}
	if got := read(t, s, "x", 0, -1); string(got) != "first" {
		t.Errorf("the object was changed to %d bytes", len(got))
	}
	onlyObjects(t, s)
}

// testOneWinner: of many writers of one name, one succeeds and its object is
// the one that stays.
func testOneWinner(t *testing.T, s subject) {
	const writers = 4
	for _, size := range []int{1000, partSize + 1000} {
		name := fmt.Sprintf("one-%d", size)
		bodies, errs := make([][]byte, writers), make([]error, writers)
		var wg sync.WaitGroup
		for i := range writers {
			bodies[i] = noise(size)
			src := file(t, bodies[i])
			wg.Go(func() { _, errs[i] = s.Upload(t.Context(), name, src) })
		}
		wg.Wait()
		won := -1
		for i, err := range errs {
			switch {
			case err == nil && won >= 0:
				t.Errorf("writers %d and %d both won", won, i)
			case err == nil:
				won = i
			case !errors.Is(err, store.ErrExist):
				t.Errorf("writer %d lost for another reason: %v", i, err)
			}
		}
		if won < 0 {
			t.Fatal("nobody won")
		}
		if !bytes.Equal(read(t, s, name, 0, -1), bodies[won]) {
			t.Errorf("the object is not the winner's")
		}
	}
	onlyObjects(t, s)
}

func testGrowing(t *testing.T, s subject) {
	body := noise(4*partSize + 777)
	g := grow(t)
	result := make(chan error, 1)
	var rcpt store.Receipt
	go func() {
		var err error
		rcpt, err = s.Upload(t.Context(), "g", g)
		result <- err
	}()
	for rest := body; len(rest) > 0; {
		n := min(len(rest), 1+rand.IntN(2<<20))
		if _, err := g.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
		time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
	}
	if got := names(t, s); len(got) != 0 {
		t.Errorf("listed before it was whole: %v", got)
	}
	select {
	case err := <-result:
		t.Fatalf("ended before the file did: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	g.Finish(nil)
	must(t, <-result)
	if rcpt.Size != int64(len(body)) {
		t.Errorf("receipt of %d bytes for %d", rcpt.Size, len(body))
	}
	if !bytes.Equal(read(t, s, "g", 0, -1), body) {
		t.Error("the object is not the file")
	}
	onlyObjects(t, s)
}

func testSourceFails(t *testing.T, s subject) {
	boom := errors.New("pg_dump was killed")
	for _, size := range []int{10, 2*partSize + 5} {
		g := grow(t)
		if _, err := g.Write(noise(size)); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(50*time.Millisecond, func() { g.Finish(boom) })
		_, err := s.Upload(t.Context(), "f", g)
		if !errors.Is(err, boom) || !errors.Is(err, store.ErrSource) || errors.Is(err, context.Canceled) {
			t.Errorf("Upload of a failed file of %d bytes: %v", size, err)
		}
	}
	nothingLeft(t, s)
}

func testCancelled(t *testing.T, s subject) {
	interrupted := errors.New("interrupted by SIGTERM")
	for _, size := range []int{10, 3*partSize + 5} {
		ctx, cancel := context.WithCancelCause(t.Context())
		g := grow(t) // never finished
		if _, err := g.Write(noise(size)); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(100*time.Millisecond, func() { cancel(interrupted) })
		if _, err := s.Upload(ctx, "c", g); !errors.Is(err, interrupted) {
			t.Errorf("cancelled Upload: %v", err)
		}
		if _, err := s.Upload(ctx, "c", file(t, noise(size))); !errors.Is(err, interrupted) {
			t.Errorf("Upload with a context that has ended: %v", err)
		}
	}
	nothingLeft(t, s)
}

// testSourceCut: a file that is shorter than it said must not go up as whole.
func testSourceCut(t *testing.T, s subject) {
	if strings.HasPrefix(s.Location(), "/") {
		t.Skip("a directory store reads to the end and says how much it was")
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(2*partSize))
	src, err := store.FileSource(f)
	must(t, err)
	must(t, f.Truncate(partSize+10))
	if _, err := s.Upload(t.Context(), "cut", src); err == nil || !strings.Contains(err.Error(), "cut while being read") {
		t.Errorf("Upload of a file that was cut: %v", err)
	}
	nothingLeft(t, s)
}

func testRanges(t *testing.T, s subject) {
	body := noise(100_000)
	must(t, s.Put(t.Context(), "r", body))
	for _, c := range []struct{ off, n, from, to int64 }{
		{0, -1, 0, 100_000}, {0, 1, 0, 1}, {0, 100_000, 0, 100_000}, {99_999, 1, 99_999, 100_000}, {5, 10, 5, 15},
		{50_000, -1, 50_000, 100_000}, {90_000, 20_000, 90_000, 100_000}, {0, 200_000, 0, 100_000},
		{100_000, -1, 0, 0}, {100_000, 5, 0, 0}, {200_000, -1, 0, 0}, {200_000, 5, 0, 0}, {0, 0, 0, 0}, {7, 0, 0, 0},
	} {
		if got := read(t, s, "r", c.off, c.n); !bytes.Equal(got, body[c.from:c.to]) {
			t.Errorf("Open(%d, %d): %d bytes that are not bytes %d to %d", c.off, c.n, len(got), c.from, c.to)
		}
	}
	if rc, err := s.Open(t.Context(), "r", -1, 5); err == nil {
		rc.Close()
		t.Error("Open before the start succeeded")
	}
}

func testMissing(t *testing.T, s subject) {
	for _, length := range []int64{-1, 0, 10} {
		if _, err := s.Open(t.Context(), "none", 0, length); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("Open of %d bytes of nothing: %v", length, err)
		}
	}
	if _, err := s.Stat(t.Context(), "none"); !errors.Is(err, store.ErrNotExist) || !strings.Contains(err.Error(), s.Location()+"/none") {
		t.Errorf("Stat: %v", err)
	}
	must(t, s.Delete(t.Context(), "none"))
	if got := names(t, s); len(got) != 0 {
		t.Errorf("List of nothing: %v", got)
	}
	swept, err := s.Sweep(t.Context(), time.Now(), func(string) bool { return true })
	if err != nil || len(swept) != 0 {
		t.Errorf("Sweep of nothing: %v, %v", swept, err)
	}
}

func testBadNames(t *testing.T, s subject) {
	ctx := t.Context()
	for _, name := range []string{"", ".", "..", "a/b", "../x", "/etc/passwd", `a\b`, "a\nb", "a\x00b", "a\x1b[2J", "\xff", strings.Repeat("x", 201)} {
		_, statErr := s.Stat(ctx, name)
		_, openErr := s.Open(ctx, name, 0, -1)
		_, uploadErr := s.Upload(ctx, name, file(t, nil))
		for what, err := range map[string]error{
			"Put": s.Put(ctx, name, nil), "Delete": s.Delete(ctx, name), "Stat": statErr, "Open": openErr, "Upload": uploadErr,
		} {
			if err == nil || !strings.Contains(err.Error(), "not allowed") {
				t.Errorf("%s(%q): %v", what, name, err)
			}
		}
	}
	for _, name := range []string{"a b.sql", "ünïcode+%20&?#=.gz", strings.Repeat("x", 200), "..a", "-rf"} {
		must(t, s.Put(ctx, name, []byte(name)))
		if got := read(t, s, name, 0, -1); string(got) != name {
			t.Errorf("%q reads %q", name, got)
		}
		must(t, s.Delete(ctx, name))
	}
	nothingLeft(t, s)
}

func testList(t *testing.T, s subject) {
	for _, name := range []string{"b", "a.json", "c.sql.gz"} {
		must(t, s.Put(t.Context(), name, []byte(name)))
	}
	// Deeper objects and what is no file do not count.
	must(t, os.MkdirAll(filepath.Join(s.root, "sub"), 0o755))
	must(t, os.WriteFile(filepath.Join(s.root, "sub", "deep"), []byte("x"), 0o644))
	list, err := s.List(t.Context())
	must(t, err)
	var got []string
	for _, o := range list {
		got = append(got, fmt.Sprint(o.Name, " ", o.Size))
		if o.ModTime.IsZero() {
			t.Errorf("%s has no time", o.Name)
		}
	}
	if want := []string{"a.json 6", "b 1", "c.sql.gz 8"}; !slices.Equal(got, want) {
		t.Errorf("List: %v, want %v", got, want)
	}
}

func testListThousands(t *testing.T, s subject) {
	must(t, s.Put(t.Context(), "zz", nil)) // makes the directory
	const n = 2500                         // S3 gives 1,000 at once
	for i := range n {
		must(t, os.WriteFile(filepath.Join(s.root, fmt.Sprintf("o-%04d", i)), nil, 0o644))
	}
	got := names(t, s)
	if len(got) != n+1 || got[0] != "o-0000" || got[n-1] != "o-2499" || got[n] != "zz" || !slices.IsSorted(got) {
		t.Errorf("List: %d objects, want %d in order", len(got), n+1)
	}
}

func testCheckWritable(t *testing.T, s subject) {
	must(t, s.CheckWritable(t.Context()))
	nothingLeft(t, s)
}

func testCancelledRead(t *testing.T, s subject) {
	must(t, s.Put(t.Context(), "x", noise(1<<20)))
	ctx, cancel := context.WithCancelCause(t.Context())
	rc, err := s.Open(ctx, "x", 0, -1)
	must(t, err)
	defer rc.Close()
	if _, err := io.ReadFull(rc, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	interrupted := errors.New("interrupted")
	cancel(interrupted)
	if _, err := io.Copy(io.Discard, rc); !errors.Is(err, interrupted) {
		t.Errorf("read on after cancelling: %v", err)
	}
}

func testSweepLeavesObjects(t *testing.T, s subject) {
	must(t, s.Put(t.Context(), "x", nil))
	must(t, s.Put(t.Context(), store.ProbeName, nil))
	swept, err := s.Sweep(t.Context(), time.Now().Add(time.Hour), func(string) bool { return true })
	if err != nil || len(swept) != 0 {
		t.Errorf("Sweep: %v, %v", swept, err)
	}
	if got := names(t, s); len(got) != 2 {
		t.Errorf("objects left: %v", got)
	}
}
