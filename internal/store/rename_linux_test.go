package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestRenameExclusive: the way for file systems without links replaces nothing
// either.
func TestRenameExclusive(t *testing.T) {
	dir := t.TempDir()
	from, to, taken := filepath.Join(dir, "from"), filepath.Join(dir, "to"), filepath.Join(dir, "taken")
	for _, path := range []string{from, taken} {
		if err := os.WriteFile(path, []byte(path), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := renameExclusive(from, taken)
	if unsupported(err) {
		t.Skipf("this file system does not rename exclusively: %v", err)
	}
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("rename to a name that is taken: %v", err)
	}
	if err := renameExclusive(from, to); err != nil {
		t.Errorf("rename: %v", err)
	}
	for path, want := range map[string]string{to: from, taken: taken} {
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%s holds %q, %v", path, b, err)
		}
	}
}
