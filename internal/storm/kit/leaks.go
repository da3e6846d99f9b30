package kit

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// leaksLimit is how long what is ending may take to be gone.
const leaksLimit = 15 * time.Second

// Leaks returns what the runs of this host left: processes, temporary files,
// unfinished uploads, sessions and locks in the database, databases besides
// DB and those that are expected, containers of recovery tests. What is just
// ending is waited for. Sessions that come through the wire are taken for the
// host's; let others use the socket (testenv's Psql does).
func (h *Host) Leaks(t testing.TB, expected ...string) []string {
	t.Helper()
	for limit := time.Now().Add(leaksLimit); ; time.Sleep(100 * time.Millisecond) {
		left := h.look(t, expected)
		if len(left) == 0 || time.Now().After(limit) {
			return left
		}
	}
}

func (h *Host) look(t testing.TB, expected []string) []string {
	t.Helper()
	return slices.Concat(h.leftProcesses(), h.leftFiles(), h.leftUploads(t), h.leftInDatabase(t, expected), h.leftContainers())
}

// NoLeaks fails the test for each of them.
func (h *Host) NoLeaks(t testing.TB, expected ...string) {
	t.Helper()
	for _, left := range h.Leaks(t, expected...) {
		t.Errorf("left behind: %s", left)
	}
}

// leftProcesses finds the processes that carry the host's mark.
func (h *Host) leftProcesses() (left []string) {
	for _, pid := range h.processes() {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		left = append(left, fmt.Sprintf("process %d: %s", pid, bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
	}
	return left
}

func (h *Host) processes() (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		env, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(env, []byte(h.mark)) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// killAll ends what a failed test left.
func (h *Host) killAll() {
	for _, pid := range h.processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// leftFiles finds what has the name of something temporary, and all in $TMPDIR.
func (h *Host) leftFiles() (left []string) {
	for _, dir := range []string{h.Backups, h.State, h.Tmp} {
		_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || path == dir {
				return nil //nolint:nilerr // it is gone, or was never there
			}
			name := entry.Name()
			if dir == h.Tmp || strings.Contains(name, ".tmp") || strings.Contains(name, "-tmp-") || strings.HasSuffix(name, ".partial") {
				left = append(left, "file "+path)
			}
			return nil
		})
	}
	return left
}

func (h *Host) leftUploads(t testing.TB) (left []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := h.S3.Client().ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: aws.String(h.Bucket)})
	if err != nil {
		return []string{fmt.Sprintf("perhaps unfinished uploads: %v", err)}
	}
	for _, u := range out.Uploads {
		left = append(left, "unfinished upload of "+aws.ToString(u.Key))
	}
	return left
}

func (h *Host) leftInDatabase(t testing.TB, expected []string) (left []string) {
	t.Helper()
	known := append([]string{"postgres", DB}, expected...)
	out := h.PG.Psql(t, "postgres", `
SELECT format('session %s of %s: %s', pid, application_name, left(query, 80)) FROM pg_stat_activity WHERE client_addr IS NOT NULL;
SELECT format('advisory lock of process %s', pid) FROM pg_locks WHERE locktype = 'advisory';
SELECT 'prepared transaction ' || gid FROM pg_prepared_xacts;
SELECT 'database ' || datname FROM pg_database WHERE NOT datistemplate AND datname NOT IN ('`+strings.Join(known, "', '")+`');`)
	for line := range strings.Lines(out) {
		left = append(left, strings.TrimSpace(line))
	}
	return left
}

// leftContainers finds containers of recovery tests whose owner is one of ours.
// Docker is not asked where no run could have made any.
func (h *Host) leftContainers() (left []string) {
	out, err := exec.Command("docker", "ps", "--all", "--filter", "label=escrowctl.dr-test.run",
		"--format", `{{.Names}} {{.Label "escrowctl.dr-test.owner"}}`).Output()
	if err != nil {
		return nil // no Docker, no containers
	}
	for line := range strings.Lines(string(out)) {
		name, owner, _ := strings.Cut(strings.TrimSpace(line), " ")
		pid, _, _ := strings.Cut(owner, ".")
		if n, err := strconv.Atoi(pid); err == nil && slices.Contains(h.pids, n) {
			left = append(left, "container "+name)
		}
	}
	return left
}
