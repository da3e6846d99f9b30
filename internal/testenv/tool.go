package testenv

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// toolList is read by scripts/lib.sh too, so that a version stands in one place.
//
//go:embed tools.txt
var toolList string

// Tool returns the path of a tool that `make tools` built, in the version that
// tools.txt names. The cache is $ESCROWCTL_TOOLS, else escrowctl-tools in the
// user's cache directory.
func Tool(t testing.TB, name string) string {
	t.Helper()
	version, err := toolVersion(toolList, name)
	if err != nil {
		t.Fatalf("testenv: %v", err)
	}
	dir, err := cacheDir()
	if err != nil {
		t.Fatalf("testenv: finding the tools cache: %v", err)
	}
	path := filepath.Join(dir, name+"@"+version, name)
	Need(t, isExecutable(path), "the tool "+path, "run `make tools`")
	return path
}

// toolVersion looks a tool up in the text of tools.txt.
func toolVersion(list, name string) (string, error) {
	for line := range strings.Lines(list) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == name {
			return fields[2], nil
		}
	}
	return "", fmt.Errorf("tools.txt names no tool %q", name)
}

func cacheDir() (string, error) {
	if dir := os.Getenv("ESCROWCTL_TOOLS"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("%w (or set ESCROWCTL_TOOLS)", err)
	}
	return filepath.Join(dir, "escrowctl-tools"), nil
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
