package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/stellarescrow/escrowctl/internal/check"
	"golang.org/x/sys/unix"
)

// Path is a file or directory that escrowctl reads or writes.
type Path struct {
	Name string // what it is, the ID of its part: config, state, ...
	Path string
	Dir  bool
	// Secret says that nobody else may read it, Shared that others must.
	Secret, Shared bool
	// Written says that escrowctl writes in it, Made that it makes it if it is
	// missing.
	Written, Made bool
}

// Files checks rights and owners of paths, each a part.
func Files(id string, paths []Path) check.Probe {
	return check.Probe{ID: id, Limit: Limit, Run: func(context.Context) check.Result {
		parts := make([]check.Result, len(paths))
		for i, p := range paths {
			parts[i] = p.look()
		}
		all := fmt.Sprintf("owners and rights of %d paths are in order", len(paths))
		if len(parts) == 1 {
			all = parts[0].Summary
		}
		return Gather(id, parts, all)
	}}
}

func (p Path) result(status check.Status, action, format string, args ...any) check.Result {
	return check.Result{ID: p.Name, Status: status, Summary: fmt.Sprintf(format, args...), Action: action}
}

func (p Path) look() check.Result {
	info, err := os.Stat(p.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && p.Made:
		return p.missing()
	case errors.Is(err, fs.ErrNotExist):
		return p.result(check.Critical, p.create(), "%s does not exist", p.Path)
	case err != nil:
		return p.result(check.Unknown, "run escrowctl as the user that the platform's jobs run as", "%v", err)
	case p.Dir && !info.IsDir():
		return p.result(check.Critical, "name a directory, or move the file away", "%s is no directory", p.Path)
	case !p.Dir && !info.Mode().IsRegular():
		return p.result(check.Critical, "name a file", "%s is no regular file", p.Path)
	}
	if r, bad := p.rights(info); bad {
		return r
	}
	if p.Written {
		if err := p.write(); err != nil {
			return p.result(check.Critical, fmt.Sprintf("chown %s %s; see that its filesystem is mounted for writing and not full", me(), p.Path), "%s cannot be written: %v", p.Path, err)
		}
	}
	return p.result(check.OK, "", "%s is %s, mode %04o", p.Path, ownerName(info), info.Mode().Perm())
}

// create is how a person makes what is missing.
func (p Path) create() string {
	switch {
	case !p.Dir:
		return "write " + p.Path + ", or name another"
	case p.Shared:
		return fmt.Sprintf("install -d -m 0755 -o %s %s", me(), p.Path)
	}
	return fmt.Sprintf("install -d -m 0700 -o %s %s", me(), p.Path)
}

// missing judges a directory that the first run makes: whether it could.
func (p Path) missing() check.Result {
	at := Existing(p.Path)
	if err := unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
		return p.result(check.Critical, p.create(), "%s does not exist, and cannot be made in %s: %v", p.Path, at, err)
	}
	return p.result(check.OK, "", "%s is not there yet: the first run makes it", p.Path)
}

// Existing is the path, or the nearest directory above it that exists.
func Existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// rights judges owner and mode.
func (p Path) rights(info fs.FileInfo) (r check.Result, bad bool) {
	mode := info.Mode()
	uid := ownerOf(info)
	switch {
	case mode.Perm()&0o002 != 0 && mode&fs.ModeSticky == 0:
		return p.result(check.Critical, "chmod o-w "+p.Path, "%s can be changed by every user of this host (mode %04o)", p.Path, mode.Perm()), true
	case p.Secret && mode.Perm()&0o004 != 0:
		return p.result(check.Warning, "chmod o= "+p.Path, "%s can be read by every user of this host (mode %04o), and holds secrets or the platform's data", p.Path, mode.Perm()), true
	case uid != 0 && uid != os.Geteuid() && !p.Written:
		return p.result(check.Warning, fmt.Sprintf("chown root %s, or run escrowctl as %s", p.Path, ownerName(info)),
			"%s is %s's, who can change what %s runs with it", p.Path, ownerName(info), me()), true
	case p.Shared && mode.Perm()&0o005 != 0o005:
		return p.result(check.Warning, "chmod o+rx "+p.Path, "%s cannot be read by others (mode %04o), such as node exporter", p.Path, mode.Perm()), true
	}
	return check.Result{}, false
}

// write sees for itself that a file can be made, filled and removed.
func (p Path) write() error {
	f, err := os.CreateTemp(p.Path, ".escrowctl-tmp-doctor.*")
	if err != nil {
		return plain(err)
	}
	_, err = f.Write(make([]byte, 4096))
	return plain(errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name())))
}

// plain is the cause of an error without the path, which the result names.
func plain(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

func ownerOf(info fs.FileInfo) int {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return os.Geteuid()
	}
	return int(st.Uid)
}

func ownerName(info fs.FileInfo) string { return userName(ownerOf(info)) }

func me() string { return userName(os.Geteuid()) }

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}
