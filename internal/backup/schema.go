package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"github.com/stellarescrow/escrowctl/internal/schema"
)

// SchemaRecord is the database's schema as the manifest keeps it, so that a
// restored copy can be compared with what was backed up.
type SchemaRecord struct {
	Fingerprint string `json:"fingerprint"` // of its canonical form
	Objects     int    `json:"objects"`
	// Data is the schema as schema.Encode has it, in an age file if the backup
	// is encrypted: it holds the bodies of functions.
	Data []byte `json:"data"`
}

// recordSchema settles what the schema was while the dump ran, from what it was
// before. Without it the backup is as good, but less can be proven of it.
func (r *run) recordSchema(ctx context.Context, before *schema.Schema) *SchemaRecord {
	if before == nil {
		return nil
	}
	// In an interrupted run too: the dump is whole and will be a backup.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitLimit)
	defer cancel()
	why := ""
	after, err := r.Schema(ctx)
	if err != nil {
		after, why = nil, "nobody knows whether it was changed while the dump ran"
		r.warn("the schema could not be read again after the dump: %v: a test of this backup will take a difference for a change made meanwhile", err)
	}
	settled := schema.Settle(before, after, why)
	if len(settled.Moved) > 0 {
		r.Log("changed while the dump ran, so a test of this backup cannot compare it: %s", listed(settled.Moved))
	}
	rec, err := r.encodeSchema(settled)
	if err != nil {
		r.warn("the schema is not recorded: %v", err)
	}
	return rec
}

func (r *run) encodeSchema(s *schema.Schema) (*SchemaRecord, error) {
	data, err := s.Encode()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w, closeOut, err := r.encrypted(&out)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = closeOut()
	}
	if err != nil {
		return nil, err
	}
	return &SchemaRecord{Fingerprint: s.Fingerprint(), Objects: len(s.Objects), Data: out.Bytes()}, nil
}

// SourceSchema is the schema that the manifest recorded of the database that
// was backed up; nil if it recorded none.
func (m *Manifest) SourceSchema(identities []age.Identity) (*schema.Schema, error) {
	if m.Schema == nil {
		return nil, nil //nolint:nilnil // older manifests have none
	}
	data := m.Schema.Data
	if m.Encrypted {
		dec, err := age.Decrypt(bytes.NewReader(data), identities...)
		if err == nil {
			data, err = io.ReadAll(dec)
		}
		if err != nil {
			return nil, fmt.Errorf("manifest of %s: the recorded schema: %w", m.Name, decryptError(err))
		}
	}
	s, err := schema.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", m.Name, err)
	}
	return s, nil
}

// ErrSchemaDiffers says that what was restored is not the schema that was
// backed up.
var ErrSchemaDiffers = errors.New("the restored schema is not the one that was backed up")

// compareSchema compares a whole restored database with the recorded schema.
// What the target has besides is its own.
func (r *restore) compareSchema(ctx context.Context) error {
	if r.manifest == nil || r.Tables != nil || r.rowsOnly {
		return nil
	}
	source, err := r.manifest.SourceSchema(r.Identities)
	if err != nil || source == nil {
		return err
	}
	conn, err := r.Connect(ctx, r.target)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	restored, err := schema.Capture(ctx, conn)
	if err != nil {
		return err
	}
	var wrong []string
	for _, d := range schema.Real(schema.Compare(source, restored)) {
		if d.Change != schema.Extra {
			wrong = append(wrong, d.String())
		}
	}
	if wrong != nil {
		return fmt.Errorf("%w: %s: every row is in %s", ErrSchemaDiffers, listed(wrong), r.target)
	}
	r.res.SchemaObjects = len(source.Objects)
	return nil
}

// listed joins the first of many lines.
func listed(lines []string) string {
	const most = 10
	if n := len(lines); n > most {
		lines = append(lines[:most:most], fmt.Sprintf("and %d more", n-most))
	}
	return strings.Join(lines, "; ")
}
