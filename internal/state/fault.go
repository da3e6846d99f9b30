package state

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

const elsewhere = "set state.dir (ESCROWCTL_STATE_DIR) to another place"

// fault wraps an error of the file system with what was tried and the way out.
func (s *Store) fault(tried string, err error) error {
	if remedy := s.remedy(err); remedy != "" {
		return fmt.Errorf("state: %s: %w: %s", tried, err, remedy)
	}
	return fmt.Errorf("state: %s: %w", tried, err)
}

func (s *Store) remedy(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Sprintf("no space for %s: free some, or %s", s.dir, elsewhere)
	case errors.Is(err, syscall.EROFS):
		return fmt.Sprintf("%s is on a read-only filesystem: remount it, or %s", s.dir, elsewhere)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		if uid, ok := ownerOf(s.dir); ok && uid != os.Geteuid() {
			return fmt.Sprintf("%s belongs to %s and this process is %s: run as the owner, chown it, or %s",
				s.dir, userName(uid), userName(os.Geteuid()), elsewhere)
		}
		return fmt.Sprintf("%s is not writable for %s: change its mode, or %s", s.dir, userName(os.Geteuid()), elsewhere)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EEXIST):
		return fmt.Sprintf("%s is no directory: move the file away, or %s", s.dir, elsewhere)
	case errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENXIO):
		return fmt.Sprintf("something that is no file stands in place of one in %s: look who put it there, and move it away", s.dir)
	case errors.Is(err, syscall.ENOLCK), errors.Is(err, syscall.EOPNOTSUPP):
		return fmt.Sprintf("the filesystem of %s has no file locks: %s, on a local disk", s.dir, elsewhere)
	}
	return ""
}

// refuseForeign stops root from leaving files of root's in the state directory
// of an unprivileged user, whose own runs would fail from then on.
func (s *Store) refuseForeign() error {
	uid, ok := ownerOf(s.dir)
	if !ok || os.Geteuid() != 0 || uid == 0 {
		return nil // an unprivileged process learns of its rights by trying
	}
	return s.fault("use the state directory", &os.PathError{Op: "open", Path: s.dir, Err: syscall.EPERM})
}

func ownerOf(path string) (uid int, ok bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return "uid " + strconv.Itoa(uid)
}
