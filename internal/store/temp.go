package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// tempPrefix marks files of ours that are being written. The random part of
// the name comes after the final name, so that Sweep can tell whose it is.
const tempPrefix = ".escrowctl-tmp-"

// tempOf returns the name that a temporary file was to have.
func tempOf(file string) (string, bool) {
	rest, ok := strings.CutPrefix(file, tempPrefix)
	dot := strings.LastIndexByte(rest, '.')
	if !ok || dot < 0 {
		return "", false
	}
	return rest[:dot], true
}

// Temp is a file being written in a Dir. It gets its name by Commit.
type Temp struct {
	*os.File
	dir  *Dir
	name string
}

// Create begins a file that will be called name. The directory is made if
// missing, readable by its owner alone, as is the file.
func (d *Dir) Create(name string) (*Temp, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if err := makeDir(d.path); err != nil {
		return nil, fmt.Errorf("make directory %s: %w", d.path, err)
	}
	f, err := os.CreateTemp(d.path, tempPrefix+name+".*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("write to %s: %w", d.path, forOthers(err))
	}
	return &Temp{File: f, dir: d, name: name}, nil
}

// makeDir makes path and what is missing above it, and has each outlive a power
// cut: a new directory is only an entry in the one above.
func makeDir(path string) error {
	info, err := os.Stat(path)
	if err == nil {
		if !info.IsDir() {
			return errors.New("there is a file of that name")
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(path)
	if err := makeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := syncDir(parent); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err // a parent that may be passed but not read is left to the system
	}
	return nil
}

// Commit flushes the file to the disk and gives it its name; ErrExist if the
// name is taken. The file stays open for reading. On an error the name is as
// free as it was.
func (t *Temp) Commit() error {
	final := t.dir.Path(t.name)
	if err := t.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", final, err)
	}
	if err := rename(t.Name(), final); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("write %s: %w", final, ErrExist)
		}
		return fmt.Errorf("write %s: %w", final, err)
	}
	if err := syncDir(t.dir.path); err != nil {
		_ = os.Remove(final) // without it the name might be gone after a power cut
		return fmt.Errorf("write %s: %w", final, err)
	}
	return nil
}

// rename moves a file to a name that must be free.
func rename(from, to string) error {
	// A link, unlike a rename, does not replace what is there.
	err := os.Link(from, to)
	if err == nil {
		// Where this fails, the second name is one for Sweep.
		_ = os.Remove(from)
		return nil
	}
	if errors.Is(err, fs.ErrExist) || !unsupported(err) {
		return err
	}
	// FAT and some network file systems know no links. The kernel may yet do it
	// in one step; if not, looking first is the best there is.
	if err := renameExclusive(from, to); !unsupported(err) {
		return err
	}
	if _, err := os.Lstat(to); err == nil {
		return fs.ErrExist
	}
	return os.Rename(from, to)
}

// unsupported says that a file system does not know a call.
func unsupported(err error) bool {
	for _, no := range []error{errors.ErrUnsupported, syscall.EPERM, syscall.EINVAL, syscall.ENOSYS, syscall.EMLINK, syscall.EOPNOTSUPP} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// Discard closes the file and removes it unless it was committed.
func (t *Temp) Discard() {
	_ = t.Close()
	_ = os.Remove(t.Name())
}

// syncDir makes the entries of a directory outlive a power cut.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	if err := d.Sync(); err != nil && !unsupported(err) {
		return err
	}
	return nil
}
