package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/stellarescrow/escrowctl/internal/nofollow"
)

// Save keeps v as the JSON document name, replacing the one before as a whole:
// whenever the process dies or the disk fills up, the old one or the new one is
// there.
func (s *Store) Save(name string, v any) error {
	path, err := s.path(documentsDir, name, ".json")
	if err != nil {
		return err
	}
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("state: save %s: %w", name, err)
	}
	if err := replaceFile(path, append(body, '\n')); err != nil {
		return s.fault("save "+name, err)
	}
	return nil
}

// Load reads the document name into v; found is false if there is none. A
// damaged document is an error, as going on without it must be someone's choice.
func (s *Store) Load(name string, v any) (found bool, err error) {
	path, err := s.path(documentsDir, name, ".json")
	if err != nil {
		return false, err
	}
	body, err := nofollow.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, s.fault("load "+name, err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return false, fmt.Errorf("state: load %s: %s is damaged: %w: move it away to go on without it", name, path, err)
	}
	return true, nil
}

// replaceFile writes beside path, syncs and renames. Unlike renameio.WriteFile it
// does not take over the mode of the file before.
func replaceFile(path string, body []byte) error {
	f, err := renameio.NewPendingFile(path,
		renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return err
	}
	defer func() { _ = f.Cleanup() }()
	if _, err := f.Write(body); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}
