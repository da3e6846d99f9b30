package local

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// prefix begins the names of our directories. All that Reap must know stands in
// the name: whatever kills us, there is no directory that does not say whose it
// is.
const prefix = "escrowctl-dr-test-"

// dirName is PREFIX EXPIRES(base 36) MODE OWNER RANDOM, joined by dashes. It is
// short, because the path of a unix socket may have no more than 107 bytes.
func dirName(expires time.Time, keep bool, owner string) string {
	mode := "run"
	if keep {
		mode = "keep"
	}
	return prefix + strings.Join([]string{strconv.FormatInt(expires.Unix(), 36), mode, owner, strings.ToLower(rand.Text()[:5])}, "-")
}

// parseDir takes such a name apart.
func parseDir(name string) (expires time.Time, keep bool, owner string, ok bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	parts := strings.Split(rest, "-")
	if !ok || len(parts) != 4 {
		return time.Time{}, false, "", false
	}
	seconds, err := strconv.ParseInt(parts[0], 36, 64)
	if err != nil {
		return time.Time{}, false, "", false
	}
	return time.Unix(seconds, 0), parts[1] == "keep", parts[2], true
}

// Reap removes the directories, and ends the servers in them, that no run needs
// any more: those whose owner is dead, and those that have expired. Directories
// of other users are left alone.
func (e *Engine) Reap(dead func(owner string, sameHost bool) bool) ([]string, error) {
	entries, err := os.ReadDir(e.Dir)
	if err != nil {
		return nil, fmt.Errorf("look for what was left in %s: %w", e.Dir, err)
	}
	var gone []string
	for _, entry := range entries {
		expires, keep, owner, ok := parseDir(entry.Name())
		info, err := entry.Info()
		if !ok || err != nil || !info.IsDir() || !ours(info) {
			continue
		}
		if e.Now().Before(expires) && (keep || !dead(owner, true)) {
			continue
		}
		dir := filepath.Join(e.Dir, entry.Name())
		if err := remove(dir); err != nil {
			return gone, err
		}
		gone = append(gone, "directory "+dir)
	}
	return gone, nil
}

// ours says whether a directory was made by this user: /tmp belongs to all.
func ours(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

const (
	// quitLimit is how long a server may take over SIGQUIT, on which it ends
	// without looking after its data, before SIGKILL.
	quitLimit   = 5 * time.Second
	removeLimit = 20 * time.Second
	pause       = 10 * time.Millisecond
)

// remove ends whatever runs in the directory and removes it.
func remove(dir string) error {
	if err := endProcesses(filepath.Join(dir, dataDir)); err != nil {
		return err
	}
	deadline := time.Now().Add(removeLimit) //nolint:forbidigo // of the kernel's, not the program's
	for {
		err := os.RemoveAll(dir)
		if err == nil {
			return nil
		}
		// A process that is just ending may still have written a file.
		if time.Now().After(deadline) { //nolint:forbidigo // see above
			return fmt.Errorf("remove %s: %w", dir, err)
		}
		time.Sleep(pause)
	}
}

// endProcesses ends the server whose data directory is data, in which each of
// its processes stays, and frees its shared memory.
func endProcesses(data string) error {
	memory := sharedMemory(data)
	begun := time.Now() //nolint:forbidigo // of the kernel's, not the program's
	for quit := false; ; {
		pids := processesIn(data)
		if len(pids) == 0 {
			break
		}
		sig := syscall.SIGQUIT
		spent := time.Since(begun) //nolint:forbidigo // see above
		switch {
		case spent > removeLimit:
			return fmt.Errorf("processes %v of the server in %s do not end", pids, data)
		case spent > quitLimit:
			sig = syscall.SIGKILL
		case quit:
			time.Sleep(pause)
			continue
		}
		quit = true
		for _, pid := range pids {
			if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("end process %d of the server in %s: %w", pid, data, err)
			}
		}
		time.Sleep(pause)
	}
	freeSharedMemory(memory)
	return nil
}

// processesIn lists the processes whose working directory is data.
func processesIn(data string) []int {
	var pids []int
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || strings.TrimSuffix(target, " (deleted)") != data {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// sharedMemory is the ID of the small System V segment that the server in data
// made, -1 if none is known. It stands on line 7 of its pid file.
func sharedMemory(data string) int {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return -1
	}
	lines := strings.Split(string(text), "\n")
	const line = 7
	if len(lines) < line {
		return -1
	}
	if fields := strings.Fields(lines[line-1]); len(fields) == 2 {
		if id, err := strconv.Atoi(fields[1]); err == nil {
			return id
		}
	}
	return -1
}
