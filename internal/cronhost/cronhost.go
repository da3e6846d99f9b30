// Package cronhost reads and writes the crontabs of this host: the users' ones
// through the crontab command, /etc/crontab and /etc/cron.d.
package cronhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/stellarescrow/escrowctl/internal/schedule"
)

// Host is where the crontabs are; the zero value is this host.
type Host struct {
	Root    string // of the file system; "" is /
	Command string // "" is crontab, searched for in PATH
}

const (
	systemFile = "/etc/crontab"
	systemDir  = "/etc/cron.d"
	ownFile    = "escrowctl" // in systemDir
	// maxCrontab bounds what is read of a crontab, in bytes.
	maxCrontab = 4 << 20
	// commandLimit bounds a call of the crontab command.
	commandLimit = 5 * time.Second
)

// ErrNoCrontab says that this host has no crontab command.
var ErrNoCrontab = errors.New("there is no crontab command on this host")

func (h Host) path(p string) string { return filepath.Join("/", h.Root, p) }

// SystemFile is the path of our file in /etc/cron.d.
func (h Host) SystemFile() string { return h.path(systemDir + "/" + ownFile) }

// spool returns the directories of the users' crontabs, which root may read.
func (h Host) spool() []string {
	return []string{h.path("/var/spool/cron/crontabs"), h.path("/var/spool/cron")}
}

// Sources reads every crontab that this user may read. What could not be read
// is an error beside the others.
func (h Host) Sources(ctx context.Context) ([]schedule.Source, error) {
	zones := h.Zones()
	var out []schedule.Source
	var errs []error
	users, err := h.users()
	if err != nil {
		errs = append(errs, err)
	}
	for _, name := range users {
		text, err := h.Read(ctx, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		who := name
		if who == "" {
			who = currentUser()
		}
		out = append(out, schedule.Source{Name: "crontab of " + who, User: who, Crontab: schedule.Parse(text, schedule.Format{Zones: zones})})
	}
	files, err := h.systemFiles()
	if err != nil {
		errs = append(errs, err)
	}
	for _, file := range files {
		text, err := h.ReadFile(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, schedule.Source{Name: file, Crontab: schedule.Parse(text, schedule.Format{System: true, Zones: zones})})
	}
	return out, errors.Join(errs...)
}

// users returns whose crontabs there are to be read: all for root, else one's
// own, which is "".
func (h Host) users() ([]string, error) {
	if os.Geteuid() != 0 {
		return []string{""}, nil
	}
	for _, dir := range h.spool() {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("crontabs: %w", err)
		}
		var users []string
		for _, e := range entries {
			if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(e.Name(), "tmp.") {
				users = append(users, e.Name())
			}
		}
		return users, nil
	}
	return nil, nil // nobody has one
}

// validFile are the names that cron reads in /etc/cron.d.
var validFile = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func (h Host) systemFiles() ([]string, error) {
	var files []string
	if _, err := os.Stat(h.path(systemFile)); err == nil {
		files = append(files, h.path(systemFile))
	}
	entries, err := os.ReadDir(h.path(systemDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return files, fmt.Errorf("crontabs: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() && validFile.MatchString(e.Name()) {
			files = append(files, filepath.Join(h.path(systemDir), e.Name()))
		}
	}
	return files, nil
}

// Zones says whether this host's cron honours CRON_TZ, as cronie does.
func (h Host) Zones() bool {
	for _, p := range []string{"/usr/bin/cronnext", "/etc/sysconfig/crond"} { // both only cronie's
		if _, err := os.Stat(h.path(p)); err == nil {
			return true
		}
	}
	return false
}

// ReadFile reads a system crontab; "" if there is none.
func (h Host) ReadFile(name string) (string, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("crontab: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxCrontab+1))
	if err != nil {
		return "", fmt.Errorf("crontab: %w", err)
	}
	if len(b) > maxCrontab {
		return "", fmt.Errorf("crontab: %s is longer than %d bytes", name, maxCrontab)
	}
	return string(b), nil
}

// WriteFile replaces a system crontab, as cron wants it: root's, mode 0644. An
// empty text removes it.
func (h Host) WriteFile(name, text string) error {
	if text == "" {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("crontab: %w", err)
		}
		return nil
	}
	// The temporary name begins with a dot: cron does not read it.
	if err := renameio.WriteFile(name, []byte(text), 0o644, renameio.WithTempDir(filepath.Dir(name)), renameio.WithStaticPermissions(0o644)); err != nil {
		return fmt.Errorf("crontab: write %s: %w", name, err)
	}
	back, err := h.ReadFile(name)
	if err == nil && back != text {
		err = fmt.Errorf("crontab: %s does not hold what was written: does something else write it?", name)
	}
	return err
}

// Read returns a user's crontab, "" if there is none. The user "" is oneself.
func (h Host) Read(ctx context.Context, name string) (string, error) {
	out, stderr, err := h.run(ctx, "", h.forUser(name, "-l")...)
	if err != nil && strings.Contains(stderr, "no crontab for") {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("crontab -l: %w", err)
	}
	return out, nil
}

// Write replaces a user's crontab, and reads it back. An empty text removes it.
func (h Host) Write(ctx context.Context, name, text string) error {
	args := h.forUser(name, "-")
	if text == "" {
		args = h.forUser(name, "-r")
	}
	if _, _, err := h.run(ctx, text, args...); err != nil {
		return fmt.Errorf("crontab: install: %w", err)
	}
	back, err := h.Read(ctx, name)
	if err == nil && back != text {
		err = errors.New("crontab: what was installed does not read back the same: does something else write it?")
	}
	return err
}

func (h Host) forUser(name string, args ...string) []string {
	if name == "" {
		return args
	}
	return append([]string{"-u", name}, args...)
}

func (h Host) run(ctx context.Context, stdin string, args ...string) (stdout, stderr string, err error) {
	program := h.Command
	if program == "" {
		program = "crontab"
	}
	if _, err := exec.LookPath(program); err != nil {
		return "", "", fmt.Errorf("%w: install the package cron, or write with --system", ErrNoCrontab)
	}
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdin = strings.NewReader(stdin)
	cmd.WaitDelay = time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	stderr = strings.TrimSpace(errs.String())
	switch {
	case ctx.Err() != nil && err != nil:
		err = fmt.Errorf("no answer within %s: %w", commandLimit, err)
	case err != nil && stderr != "":
		err = fmt.Errorf("%s: %w", strings.Join(strings.Fields(stderr), " "), err)
	}
	return out.String(), stderr, err
}

func currentUser() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprintf("uid %d", os.Geteuid())
}

// User returns the name of the user that this process runs as.
func (Host) User() string { return currentUser() }
