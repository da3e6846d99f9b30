package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseTool(t *testing.T) {
	tests := map[string]string{
		"pg_dump (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)\n": "15.8 150008",
		"pg_dump (PostgreSQL) 16.3\n":                         "16.3 160003",
		"pg_dump (PostgreSQL) 18devel\n":                      "18.0 180000",
		"pg_dump (PostgreSQL) 17beta2":                        "17.0 170000",
		"pg_dump (PostgreSQL) 9.6.24":                         "9.6.24 90624",
	}
	for out, want := range tests {
		tool, err := parseTool("/x", out)
		if got := fmt.Sprint(tool.Version, " ", tool.VersionNum); err != nil || got != want {
			t.Errorf("%q: %s, %v", out, got, err)
		}
	}
	if _, err := parseTool("/x", "busybox"); err == nil {
		t.Error("taken for PostgreSQL's")
	}
}

func fakeTool(t *testing.T, dir, script string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "pg_dump")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFindPgDump(t *testing.T) {
	root := t.TempDir()
	at := func(version string) string {
		return fakeTool(t, filepath.Join(root, version), "echo 'pg_dump (PostgreSQL) "+version+" (Fake)'")
	}
	v14, v158, v159, v16, v17 := at("14.9"), at("15.8"), at("15.9"), at("16.3"), at("17.1")
	broken := fakeTool(t, filepath.Join(root, "broken"), "echo out of order >&2; exit 1")
	tests := []struct {
		name   string
		paths  []string
		server int
		want   string // a path, or ! and the error
	}{
		{"same major, newest minor", []string{v14, v158, v17, v159, v16}, 150008, v159},
		{"next higher", []string{v14, v17, v16}, 150020, v16},
		{"older minor will do", []string{v158}, 150020, v158},
		{"too old", []string{v14, v158}, 160003, "!pg_dump: server is 16.3 but " + v158 + " is 15.8: install postgresql-client-16, or set dump.via: container"},
		{"none", nil, 160003, "!pg_dump: server is 16.3 and there is no pg_dump in PATH or /usr/lib/postgresql/*/bin: install postgresql-client-16, or set dump.via: container"},
		{"broken", []string{broken}, 160003, "!pg_dump: " + broken + " --version: exit status 1"},
		{"one broken", []string{broken, v16}, 160003, v16},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tool, err := findPgDump(t.Context(), tt.paths, tt.server)
			if want, fails := strings.CutPrefix(tt.want, "!"); fails {
				if err == nil || err.Error() != want {
					t.Fatalf("%v\nwant %s", err, want)
				}
				return
			}
			if err != nil || tool.Path != tt.want {
				t.Fatalf("%s, %v; want %s", tool.Path, err, tt.want)
			}
		})
	}
	if _, err := FindPgDump(t.Context(), v158, 160003); err == nil || !strings.Contains(err.Error(), v158+" is 15.8: install") {
		t.Errorf("explicit and too old: %v", err)
	}
	if _, err := FindPgDump(t.Context(), filepath.Join(root, "none"), 160003); err == nil || !strings.Contains(err.Error(), "dump.pg_dump") {
		t.Errorf("explicit and missing: %v", err)
	}
}

func TestCandidates(t *testing.T) {
	root := t.TempDir()
	real := fakeTool(t, filepath.Join(root, "lib/15/bin"), "")
	wrapper := filepath.Join(root, "share", "pg_wrapper")
	bin := filepath.Join(root, "bin")
	for _, dir := range []string{bin, filepath.Dir(wrapper)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(wrapper, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(wrapper, filepath.Join(bin, "pg_dump")); err != nil {
		t.Fatal(err)
	}
	local := fakeTool(t, filepath.Join(root, "local"), "")
	path := strings.Join([]string{bin, "", "relative", filepath.Join(root, "local"), filepath.Join(root, "local")}, ":")
	got := candidates(path, []string{filepath.Join(root, "lib/*/bin/pg_dump")})
	if want := []string{local, real}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
