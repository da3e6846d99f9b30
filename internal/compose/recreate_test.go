package compose

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestEnviron: what the .env file sets is not set again from outside, where it
// would go before the file.
func TestEnviron(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte("DATABASE_URL=in-the-file\nPATH=/in/the/file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	all := []string{"PATH=/bin", "DATABASE_URL=ours", "API_KEYS=ours", "OTHER=x"}
	if got := (Program{Project: &Project{dir: dir}, Hide: []string{"API_KEYS"}}).environ(all); !slices.Equal(got, []string{"PATH=/bin", "OTHER=x"}) {
		t.Errorf("%q", got)
	}
	if got := (Program{Project: &Project{dir: dir}, EnvFile: filepath.Join(dir, "none")}).environ(all); !slices.Equal(got, all) {
		t.Errorf("without a file: %q", got)
	}
}
