package testenv

import (
	"net/http"
	"os"
	"testing"
	"time"
)

// ShortDir makes a directory of so much access, whatever the umask, with a path
// that leaves room for a unix socket's name: t.TempDir's is too long for one, and
// closed to the user that a server runs as.
func ShortDir(t testing.TB, mode os.FileMode) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "et")
	if err != nil {
		t.Fatalf("testenv: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatalf("testenv: %v", err)
	}
	return dir
}

// NextSecond waits for it: two backups of one second would have one name.
func NextSecond() { time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) }

// Answer is the status with which an API answers to a key within a limit, 0 if it
// does not.
func Answer(url, key string, limit time.Duration) int {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return -1
	}
	req.Close = true
	req.Header.Set("X-API-Key", key)
	resp, err := (&http.Client{Timeout: limit}).Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
