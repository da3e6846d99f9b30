package cronhost

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Zone returns the zone that cron goes by: that of the host, whatever TZ says in
// this process's environment.
func (h Host) Zone() (*time.Location, error) {
	file := h.path("/etc/localtime")
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return time.UTC, nil // as the C library has it
	}
	if err != nil {
		return nil, fmt.Errorf("the host's time zone: %w", err)
	}
	name := "local time"
	if target, err := os.Readlink(file); err == nil {
		if _, zone, ok := strings.Cut(target, "zoneinfo/"); ok {
			name = zone
		}
	}
	if name == "Etc/UTC" || name == "UTC" {
		return time.UTC, nil
	}
	loc, err := time.LoadLocationFromTZData(name, data)
	if err != nil {
		return nil, fmt.Errorf("the host's time zone: %s: %w", file, err)
	}
	return loc, nil
}

// Daemon says whether a cron daemon runs here, and which.
func (h Host) Daemon() (name string, running bool) {
	// systemd-cron has no daemon: it makes timers of the crontabs.
	for _, g := range []string{"/lib/systemd/system-generators/systemd-crontab-generator", "/usr/lib/systemd/system-generators/systemd-crontab-generator"} {
		if _, err := os.Stat(h.path(g)); err == nil {
			return "systemd-cron", true
		}
	}
	entries, _ := os.ReadDir(h.path("/proc"))
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		comm, err := os.ReadFile(filepath.Join(h.path("/proc"), e.Name(), "comm"))
		if name := strings.TrimSpace(string(comm)); err == nil && slices.Contains([]string{"cron", "crond", "fcron"}, name) {
			return name, true
		}
	}
	return "", false
}

// Program says why name is no executable in the search path, or nil.
func (h Host) Program(name, searchPath string) error {
	if strings.Contains(name, "/") {
		return h.executable(name)
	}
	for _, dir := range filepath.SplitList(searchPath) {
		if h.executable(filepath.Join(dir, name)) == nil {
			return nil
		}
	}
	return fmt.Errorf("%s is in none of %s, where cron looks", name, searchPath)
}

func (h Host) executable(name string) error {
	info, err := os.Stat(h.path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist", name)
	case errors.Is(err, fs.ErrPermission):
		return nil // its user may see what we may not
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return fmt.Errorf("%s is no program that can be run", name)
	}
	return nil
}

// Writable says why a user could not append to a file, or nil. What cannot be
// found out, such as a path with a variable in it, is nil.
func (h Host) Writable(file, userName string) error {
	if !filepath.IsAbs(file) || strings.ContainsAny(file, "$`*?") {
		return nil
	}
	u, err := user.Lookup(userName)
	if err != nil {
		return fmt.Errorf("there is no user %s on this host", userName)
	}
	info, err := os.Stat(h.path(file))
	what := file
	if errors.Is(err, fs.ErrNotExist) {
		what = filepath.Dir(file)
		info, err = os.Stat(h.path(what))
		if err == nil && !info.IsDir() {
			return fmt.Errorf("%s is no directory", what)
		}
	} else if err == nil && info.IsDir() {
		return fmt.Errorf("%s is a directory", file)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the directory %s does not exist", what)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s is in no directory", file)
	case err != nil:
		return nil //nolint:nilerr // it cannot be seen from here
	case permits(info, u, mayWrite):
		return nil
	}
	return fmt.Errorf("%s may not write %s", userName, what)
}

// Config says why a user's run from cron could not read its configuration file,
// or nil. Without a name it is that of his home directory, else the system's,
// neither of which has to be there.
func (h Host) Config(file, userName string) error {
	u, err := user.Lookup(userName)
	if err != nil {
		return nil //nolint:nilerr // whoever looks at the log says so
	}
	if file != "" {
		if _, err := os.Stat(h.path(file)); filepath.IsAbs(file) && errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(file, "$`*?") {
			return fmt.Errorf("%s does not exist", file)
		}
		return h.readable(file, u)
	}
	home := filepath.Join(u.HomeDir, filepath.Base(systemConfig))
	if _, err := os.Stat(h.path(home)); err == nil {
		return h.readable(home, u)
	}
	return h.readable(systemConfig, u)
}

// systemConfig is the configuration file that is read where nothing names another.
const systemConfig = "/etc/escrowctl/escrowctl.yaml"

// readable says what keeps the user from reading a file, or nil. What cannot be
// seen from here is nil.
func (h Host) readable(file string, u *user.User) error {
	info, err := os.Stat(h.path(file))
	if err != nil || !filepath.IsAbs(file) {
		return nil //nolint:nilerr // it is not there, or not to be seen
	}
	if !permits(info, u, mayRead) {
		return fmt.Errorf("%s may not read %s", u.Username, file)
	}
	for dir := filepath.Dir(file); dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(h.path(dir)); err == nil && !permits(info, u, maySearch) {
			return fmt.Errorf("%s may not read %s: not below %s", u.Username, file, dir)
		}
	}
	return nil
}

// What a mode permits to everybody.
const (
	mayRead   fs.FileMode = 0o004
	mayWrite  fs.FileMode = 0o002
	maySearch fs.FileMode = 0o001
)

// permits says whether the mode lets the user do it, as it lets root do all.
// Access control lists are not looked at.
func permits(info fs.FileInfo, u *user.User, what fs.FileMode) bool {
	if u.Uid == "0" {
		return true
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	groups, err := u.GroupIds()
	if err != nil {
		return true
	}
	mode := info.Mode().Perm()
	switch {
	case u.Uid == strconv.Itoa(int(st.Uid)):
		return mode&(what<<6) != 0
	case slices.Contains(groups, strconv.Itoa(int(st.Gid))):
		return mode&(what<<3) != 0
	}
	return mode&what != 0
}
