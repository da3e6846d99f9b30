package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/store"
)

// nothingLeft: no object, no temporary file, no unfinished upload.
func nothingLeft(t *testing.T, s subject) {
	t.Helper()
	if got := names(t, s); len(got) != 0 {
		t.Errorf("objects left: %v", got)
	}
	onlyObjects(t, s)
}

// onlyObjects: no temporary file and no unfinished upload, the objects aside.
func onlyObjects(t *testing.T, s subject) {
	t.Helper()
	swept, err := s.Sweep(context.Background(), time.Now().Add(time.Hour), func(string) bool { return true })
	if err != nil || len(swept) != 0 {
		t.Errorf("left unfinished: %v, %v", swept, err)
	}
	if strings.HasPrefix(s.Location(), "s3:") {
		return
	}
	entries, err := os.ReadDir(s.root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if listed := names(t, s); len(entries) != len(listed) {
		t.Errorf("files %v, objects %v", entries, listed)
	}
}

func names(t *testing.T, s store.Reader) []string {
	t.Helper()
	list, err := s.List(context.Background())
	must(t, err)
	var out []string
	for _, o := range list {
		out = append(out, o.Name)
	}
	return out
}

func read(t *testing.T, s store.Reader, name string, off, n int64) []byte {
	t.Helper()
	rc, err := s.Open(t.Context(), name, off, n)
	if err != nil {
		t.Errorf("Open(%s, %d, %d): %v", name, off, n, err)
		return nil
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if err != nil {
		t.Errorf("read %s from %d: %v", name, off, err)
	}
	return b
}

func file(t *testing.T, body []byte) store.Source {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "src")
	must(t, err)
	t.Cleanup(func() { f.Close() })
	_, err = f.Write(body)
	must(t, err)
	src, err := store.FileSource(f)
	must(t, err)
	return src
}

func grow(t *testing.T) *store.Growing {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "growing")
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return store.NewGrowing(f)
}

func noise(n int) []byte {
	r := rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%032d", rand.Uint64()))))
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
