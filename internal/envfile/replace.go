package envfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// lockWait is how long an edit waits for another writer that locks the same
// directory.
const lockWait = 2 * time.Minute

// Editor replaces .env files. The zero value serves.
type Editor struct {
	// Step, if set, is called before every system call that changes something:
	// for tests that end the process there.
	Step func(name string)
}

func (w Editor) step(name string) {
	if w.Step != nil {
		w.Step(name)
	}
}

// Read reads and parses the file, through symbolic links.
func Read(path string) (*File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("envfile: %w", err)
	}
	f, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// Apply reads the file, hands it to edit and puts what comes back in its place,
// as a whole: whenever the process or the machine dies, the old file or the new
// one is there. Mode and owner stay, a symbolic link stays one, and its target
// is replaced. An edit that changes nothing writes nothing.
//
// The directory is locked meanwhile (flock), and a file that somebody else
// changes nevertheless is left as they wrote it, with an error.
func (w Editor) Apply(ctx context.Context, path string, edit func(*File) (*File, error)) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("envfile: %w", err)
	}
	lock, err := Lock(ctx, filepath.Dir(real), lockWait)
	if err != nil {
		return err
	}
	defer lock.Close()
	before, err := Read(real)
	if err != nil {
		return err
	}
	after, err := edit(before)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if bytes.Equal(before.data, after.data) {
		return nil
	}
	return w.replace(real, before.data, after.data)
}

// Copy keeps the file's contents in another file of mode 0600, which must not
// be there yet.
func (w Editor) Copy(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("envfile: back up: %w", err)
	}
	return w.Write(to, data)
}

// Write makes a file of mode 0600, whole or not at all. One that is there with
// other contents is an error.
func (w Editor) Write(path string, data []byte) error {
	if have, err := os.ReadFile(path); err == nil {
		if bytes.Equal(have, data) {
			return nil
		}
		return fmt.Errorf("envfile: %s: %w with other contents: look at it and move it away", path, fs.ErrExist)
	}
	tmp, err := w.temp(path, data, 0o600, nil)
	if err != nil {
		return err
	}
	w.step("link " + filepath.Base(path))
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(fmt.Errorf("envfile: %w", err), os.Remove(tmp))
	}
	return syncDir(filepath.Dir(path))
}

func (w Editor) replace(path string, before, after []byte) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("envfile: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.Mode().IsRegular() || !ok {
		return fmt.Errorf("envfile: %s is no regular file", path)
	}
	if st.Nlink > 1 {
		return fmt.Errorf("envfile: %s has %d names (hard links), which a replacement would part: leave one, or make the others symbolic links", path, st.Nlink)
	}
	tmp, err := w.temp(path, after, info.Mode().Perm(), st)
	if err != nil {
		return err
	}
	now, err := os.ReadFile(path)
	if err == nil && !bytes.Equal(now, before) {
		err = errors.New("it was changed by somebody else just now: look at it and try again")
	}
	if err == nil {
		w.step("rename")
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("envfile: %s: %w", path, err), os.Remove(tmp))
	}
	w.step("sync directory")
	return syncDir(filepath.Dir(path))
}

// temp writes data beside path under a fixed name, so that what a killed
// process leaves is overwritten by the next one.
func (w Editor) temp(path string, data []byte, mode fs.FileMode, owner *syscall.Stat_t) (string, error) {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".escrowctl-tmp")
	fail := func(f *os.File, err error) (string, error) {
		if f != nil {
			_ = f.Close()
			_ = os.Remove(tmp)
		}
		return "", fmt.Errorf("envfile: write beside %s: %w", path, err)
	}
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(nil, err)
	}
	w.step("make temporary file")
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fail(nil, err)
	}
	w.step("write")
	if _, err := f.Write(data); err != nil {
		return fail(f, err)
	}
	w.step("owner and mode")
	if owner != nil && (int(owner.Uid) != os.Geteuid() || int(owner.Gid) != os.Getegid()) {
		if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return fail(f, fmt.Errorf("keep its owner: %w: run as the owner or as root", err))
		}
	}
	if err := f.Chmod(mode); err != nil {
		return fail(f, err)
	}
	w.step("sync")
	if err := f.Sync(); err != nil {
		return fail(f, err)
	}
	return tmp, f.Close()
}

// Sweep removes what a killed process left beside the file.
func Sweep(path string) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	_ = os.Remove(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".escrowctl-tmp"))
}

// Lock locks a directory against other processes of ours until the file that it
// returns is closed. It leaves nothing behind; a child process that is given the
// file holds the lock as well.
func Lock(ctx context.Context, dir string, wait time.Duration) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("envfile: lock: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return d, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case !errors.Is(err, syscall.EWOULDBLOCK):
			_ = d.Close()
			return nil, fmt.Errorf("envfile: lock %s: %w", dir, err)
		}
		select {
		case <-ctx.Done():
			_ = d.Close()
			return nil, fmt.Errorf("envfile: lock %s: another process has held it for %s, perhaps a compose command: %w: try again when it has ended", dir, wait, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("envfile: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("envfile: sync %s: %w", path, err)
	}
	return nil
}
