package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"github.com/stellarescrow/escrowctl/internal/store"
)

// ManifestVersion is the version of the manifest's format. Readers refuse a
// newer one.
const ManifestVersion = 1

const manifestKind = "escrowctl-backup"

// maxManifest bounds what is read of a manifest: 250 bytes a member of 4 MiB
// come to this at 8 TB of SQL.
const maxManifest = 512 << 20

// leastManifest is what a manifest may have whatever its dump's size: the schema
// of 100,000 tables, empty ones perhaps, and their members.
const leastManifest = 64 << 20

// manifestLimit bounds what is read of the manifest of a dump of size bytes. A
// member of 4 MiB compresses to 40 KiB at the least that data are seen to, and
// has 250 bytes in the manifest.
func manifestLimit(size int64) int64 {
	return min(maxManifest, leastManifest+max(size, 0)/100)
}

// Summary is what a list needs of a manifest. It stands first in the file, so
// that listing reads only the head of each.
type Summary struct {
	SchemaVersion int    `json:"schema_version"`
	Kind          string `json:"kind"`

	Name      string    `json:"name"`       // the dump's file name
	Size      int64     `json:"size_bytes"` // of the file
	SHA256    string    `json:"sha256"`     // of the file
	Encrypted bool      `json:"encrypted,omitempty"`
	Globals   *Sidecar  `json:"globals,omitempty"`
	Database  string    `json:"database"`
	StartedAt time.Time `json:"started_at"`
	EndedAt   time.Time `json:"ended_at"`
	Host      string    `json:"host"`
	Version   string    `json:"escrowctl_version"`

	Rows       int64 `json:"rows"`
	TableCount int   `json:"table_count"`
	SQLSize    int64 `json:"sql_bytes"`
}

// Sidecar is a file that belongs to a backup.
type Sidecar struct {
	Name   string `json:"name"`
	Size   int64  `json:"size_bytes"`
	SHA256 string `json:"sha256"`
}

// Manifest says what a backup holds. It is written last: a backup without it
// is unfinished, or older than escrowctl.
type Manifest struct {
	Summary
	Index  sqldump.Index `json:"index"`
	Schema *SchemaRecord `json:"schema,omitempty"` // nil where it was not recorded
}

// ErrBadManifest says that a manifest cannot be trusted.
var ErrBadManifest = errors.New("the manifest is not valid")

func (m *Manifest) encode() ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", m.Name, err)
	}
	return append(b, '\n'), nil
}

// decodeManifest reads a manifest whole and checks that it is consistent and
// that of the dump called name, of size bytes.
func decodeManifest(r io.Reader, name string, size int64) (*Manifest, error) {
	limit := manifestLimit(size)
	body, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", name, err)
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("manifest of %s: %w: over %d bytes for a dump of %d", name, ErrBadManifest, limit, size)
	}
	var m Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("manifest of %s: %w: %w", name, ErrBadManifest, err)
	}
	if err := m.check(name); err != nil {
		return nil, err
	}
	if err := m.Index.Validate(); err != nil {
		return nil, fmt.Errorf("manifest of %s: %w: %w", name, ErrBadManifest, err)
	}
	// What a list shows must be what is restored: of a field that is there twice the
	// two may take different ones.
	head, err := decodeSummary(body, name)
	if err != nil {
		return nil, err
	}
	if !head.equal(&m.Summary) {
		return nil, fmt.Errorf("manifest of %s: %w: it says two things", name, ErrBadManifest)
	}
	if m.Rows != m.Index.Rows || m.TableCount != len(m.Index.Tables) || m.SQLSize != m.Index.SQLSize || !m.Encrypted && m.Size != m.Index.Size {
		return nil, fmt.Errorf("manifest of %s: %w: its head and its index disagree", name, ErrBadManifest)
	}
	return &m, nil
}

func (s *Summary) check(name string) error {
	switch {
	case s.Kind != manifestKind:
		return fmt.Errorf("manifest of %s: %w: it is no manifest of a backup", name, ErrBadManifest)
	case s.SchemaVersion > ManifestVersion:
		return fmt.Errorf("manifest of %s: version %d is newer than this escrowctl knows (%d): use a newer escrowctl", name, s.SchemaVersion, ManifestVersion)
	case s.Name != name:
		return fmt.Errorf("manifest of %s: %w: it belongs to %q", name, ErrBadManifest, s.Name)
	case s.Globals != nil && store.CheckName(s.Globals.Name) != nil:
		return fmt.Errorf("manifest of %s: %w: %q is no name of a file beside it", name, ErrBadManifest, s.Globals.Name)
	case s.Size <= 0 || len(s.SHA256) != 64:
		return fmt.Errorf("manifest of %s: %w: no size or checksum", name, ErrBadManifest)
	}
	return nil
}

// equal says whether two summaries say the same.
func (s *Summary) equal(o *Summary) bool {
	a, b := *s, *o
	same := a.StartedAt.Equal(b.StartedAt) && a.EndedAt.Equal(b.EndedAt) &&
		(a.Globals == b.Globals || a.Globals != nil && b.Globals != nil && *a.Globals == *b.Globals)
	b.StartedAt, b.EndedAt, b.Globals = a.StartedAt, a.EndedAt, a.Globals
	return same && a == b
}

// decodeSummary reads the summary from the head of a manifest.
func decodeSummary(head []byte, name string) (*Summary, error) {
	bad := func(err error) (*Summary, error) {
		return nil, fmt.Errorf("manifest of %s: %w: %w", name, ErrBadManifest, err)
	}
	d := json.NewDecoder(bytes.NewReader(head))
	if _, err := d.Token(); err != nil {
		return bad(err)
	}
	fields := map[string]json.RawMessage{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return bad(err)
		}
		if key == "index" {
			break
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return bad(err)
		}
		k, ok := key.(string)
		if !ok {
			return bad(errors.New("not an object"))
		}
		fields[k] = v
	}
	b, err := json.Marshal(fields)
	if err != nil {
		return bad(err)
	}
	var s Summary
	if err := json.Unmarshal(b, &s); err != nil {
		return bad(err)
	}
	return &s, s.check(name)
}
