// Package state keeps what escrowctl remembers on this host: a record of every
// run, locks, and small documents. It is one directory of JSON files that a
// person can read, copy and delete; everything works with an empty one.
//
//	runs/JOB.jsonl        one line when a run begins, one when it ends
//	locks/NAME.lock       held with flock; holds who has it
//	documents/NAME.json   replaced as a whole
package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

const (
	runsDir      = "runs"
	locksDir     = "locks"
	documentsDir = "documents"

	// defaultKeep runs of a job are kept: nearly three years of nights.
	defaultKeep = 1_000
	// staleTemp is the age at which a temporary file of a killed writer goes.
	// Writers of ours are done within seconds.
	staleTemp = time.Hour
)

// Options adjust a Store; the zero value serves.
type Options struct {
	Now     func() time.Time // nil is time.Now
	Host    string           // "" is the system's host name
	Version string           // escrowctl's, kept in every run record
	// Command is how a lock's holder is named to others, such as "escrowctl
	// backup". It is written to disk: put no arguments in it, they may hold
	// secrets. "" is the program's name.
	Command string
	// KeepRuns bounds the history of each job; 0 is 1,000.
	KeepRuns int
	// ReadOnly opens the directory as it is, writable or not, there or not, for
	// commands that only look.
	ReadOnly bool
}

// Store is a state directory. It is safe for concurrent use, also by several
// processes.
type Store struct {
	dir     string
	now     func() time.Time
	host    string
	version string
	command string
	keep    int
	table   processTable
}

// Open prepares the state directory: makes it if missing, readable by its owner
// alone, and proves that it can be written. The error says why it cannot be
// used and the way out; syscall.EROFS, ENOSPC, EACCES can be found in it.
func Open(dir string, opt Options) (*Store, error) {
	if dir == "" {
		return nil, errors.New("state: no directory given: set state.dir (ESCROWCTL_STATE_DIR)")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("state: %s: %w", dir, err)
	}
	s := &Store{
		dir: abs, now: opt.Now, host: opt.Host, version: opt.Version, command: opt.Command,
		keep: opt.KeepRuns, table: processTable{proc: "/proc"},
	}
	s.setDefaults()
	if opt.ReadOnly {
		return s, nil
	}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Store) setDefaults() {
	if s.now == nil {
		s.now = time.Now //nolint:forbidigo // the default
	}
	if s.host == "" {
		s.host, _ = os.Hostname()
	}
	if s.command == "" {
		s.command = filepath.Base(os.Args[0])
	}
	if s.keep <= 0 {
		s.keep = defaultKeep
	}
}

func (s *Store) prepare() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return s.fault("make the state directory", err)
	}
	if err := s.refuseForeign(); err != nil {
		return err
	}
	if err := s.probe(); err != nil {
		return s.fault("write to the state directory", err)
	}
	s.sweep(s.dir) // a probe that was killed before it had no name
	for _, sub := range []string{runsDir, locksDir, documentsDir} {
		path := filepath.Join(s.dir, sub)
		if err := os.MkdirAll(path, 0o700); err != nil {
			return s.fault("make the state directory", err)
		}
		s.sweep(path)
	}
	return nil
}

// probe writes a block and sees it on the disk. The file has no name by the
// time it has contents, so that nothing stays whenever this process is killed.
func (s *Store) probe() error {
	f, err := os.CreateTemp(s.dir, ".probe-*")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	if _, err := f.Write(make([]byte, 4096)); err != nil {
		return err
	}
	return f.Sync()
}

// sweep removes temporary files that killed writers left.
func (s *Store) sweep(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !strings.HasPrefix(e.Name(), ".") || strings.HasSuffix(e.Name(), ".lock") {
			continue
		}
		// By the wall clock, as file times are; a frozen clock of a test must
		// not decide about files.
		if time.Since(info.ModTime()) > staleTemp { //nolint:forbidigo // see above
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// Dir returns the directory's absolute path.
func (s *Store) Dir() string { return s.dir }

// Jobs returns the names of the jobs that have run records, sorted.
func (s *Store) Jobs() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, runsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, s.fault("list jobs", err)
	}
	var jobs []string
	for _, e := range entries { // sorted by name
		if job, ok := strings.CutSuffix(e.Name(), ".jsonl"); ok && validName.MatchString(job) {
			jobs = append(jobs, job)
		}
	}
	return jobs, nil
}

// validName keeps names inside the directory and clear of temporary files.
var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,99}$`)

func (s *Store) path(kind, name, ext string) (string, error) {
	if !validName.MatchString(name) {
		return "", fmt.Errorf("state: %q cannot be a name in %s: use a-z, 0-9, '.', '_' and '-'", name, kind)
	}
	return filepath.Join(s.dir, kind, name+ext), nil
}
