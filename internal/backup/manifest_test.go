package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
)

// goodManifest is one of a dump called n.
func goodManifest(f testing.TB) []byte {
	f.Helper()
	const dump = "-- Dumped from database version 15.8\nSET client_encoding = 'UTF8';\nCREATE TABLE public.t (a integer);\nCOPY public.t (a) FROM stdin;\n1\n2\n\\.\n\n--\n-- PostgreSQL database dump complete\n--\n\n"
	var file bytes.Buffer
	x, err := sqldump.Write(f.Context(), &file, strings.NewReader(dump), sqldump.Options{})
	if err != nil {
		f.Fatal(err)
	}
	m := Manifest{Index: *x, Summary: Summary{
		SchemaVersion: ManifestVersion, Kind: manifestKind, Name: "n", Size: x.Size, SHA256: strings.Repeat("0", 64), Rows: x.Rows, TableCount: len(x.Tables), SQLSize: x.SQLSize,
	}}
	body, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	return body
}

// FuzzDecodeManifest: what is taken for a manifest is one of that dump, says the
// same in its head, where a list looks, and reads the same when it is written
// anew.
func FuzzDecodeManifest(f *testing.F) {
	good := goodManifest(f)
	f.Add(good)
	f.Add(bytes.Replace(good, []byte(`"schema_version"`), []byte(`"Rows":7,"schema_version"`), 1))
	f.Add(append(bytes.TrimSuffix(good, []byte("}\n")), `,"rows":2}`...))
	f.Add([]byte(`{"schema_version":1,"kind":"escrowctl-backup","name":"n","size_bytes":5,"sha256":"` + strings.Repeat("0", 64) + `","index":{"compression":"gzip"}}`))
	f.Add([]byte(`{"name":"../x","index":{"members":[{"offset":-1}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, headErr := decodeSummary(b, "n")
		if headErr == nil && s.Name != "n" {
			t.Errorf("accepted %q", b)
		}
		m, err := decodeManifest(bytes.NewReader(b), "n", 0)
		if err != nil {
			return
		}
		if m.Name != "n" || m.Index.Validate() != nil {
			t.Errorf("accepted %q", b)
		}
		if headErr != nil || cmp.Diff(*s, m.Summary) != "" {
			t.Errorf("%q: a list says %+v (%v), the manifest %+v", b, s, headErr, m.Summary)
		}
		body, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeManifest(bytes.NewReader(body), "n", 0)
		if err != nil || cmp.Diff(m, again) != "" {
			t.Errorf("%q: written anew: %v %s", b, err, cmp.Diff(m, again))
		}
	})
}

// TestTwoHeads: a manifest that says one thing where a list looks and another
// behind it is none.
func TestTwoHeads(t *testing.T) {
	good := goodManifest(t)
	if _, err := decodeManifest(bytes.NewReader(good), "n", 0); err != nil {
		t.Fatal(err)
	}
	for what, b := range map[string][]byte{
		"behind the index": append(bytes.TrimSuffix(good, []byte("}\n")), `,"ended_at":"2030-01-01T00:00:00Z"}`...),
		"by another case":  append(bytes.TrimSuffix(good, []byte("}\n")), `,"HOST":"x"}`...),
	} {
		if _, err := decodeSummary(b, "n"); err != nil || !json.Valid(b) {
			t.Fatalf("%s: a list refuses it: %v: %s", what, err, b)
		}
		if _, err := decodeManifest(bytes.NewReader(b), "n", 0); !errors.Is(err, ErrBadManifest) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
