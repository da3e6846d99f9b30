package compose

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFill(t *testing.T) {
	vars := map[string]string{"A": "1", "E": "", "P": "p$w"}
	for text, want := range map[string]string{
		"plain": "plain", "$A-${A}": "1-1", "${A:-x}": "1", "${E:-x}": "x", "${E-x}": "", "${A:?no}": "1", "${A:+y}": "y", "${E:+y}": "",
		"$$A": "$A", "http://u:${P}@h": "http://u:p$w@h",
		"${N}": "!", "$N": "!", "${N:-x}": "!", "${E:?no}": "!", "${A:-${N}}": "!",
	} {
		got, ok := fill(text, vars)
		if !ok {
			got = "!"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestDefine(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	put(".env", "PASSWORD=hunter2\nTAG=7\n")
	put("more.yml", "services: {extra: {image: 'extra:1'}}\n")
	put("compose.yaml", `
x-common: &common {restart: always}
include: [more.yml]
services:
  db: {<<: *common, image: 'db:${TAG}', environment: {POSTGRES_PASSWORD: '${PASSWORD:?set it}', PLAIN: x, UNSET: '${UNSET}', NONE: }}
  api: {image: 'api:${UNSET}', environment: ["URL=postgres://u:${PASSWORD}@db/x", BARE], depends_on: {migrate: {condition: service_completed_successfully}}}
  migrate: {image: m}
  debug: {image: d, profiles: [debug]}
  off: {image: o, scale: 0}
  many: {image: y, deploy: {replicas: 3}}
  built: {build: .}
`)
	put("compose.override.yaml", "services: {db: {environment: {PLAIN: '${TAG}'}}}\n")
	d, err := Define(Options{Dir: dir}, "")
	if err != nil {
		t.Fatal(err)
	}
	want := []Defined{
		{Name: "api", Wanted: true, Replicas: 1, Env: map[string]string{"URL": "postgres://u:hunter2@db/x"}},
		{Name: "built", Wanted: true, Replicas: 1},
		{Name: "db", Wanted: true, Replicas: 1, Image: "db:7", Env: map[string]string{"POSTGRES_PASSWORD": "hunter2", "PLAIN": "7"}},
		{Name: "debug", Replicas: 1, Image: "d"},
		{Name: "extra", Wanted: true, Replicas: 1, Image: "extra:1"},
		{Name: "many", Wanted: true, Replicas: 3, Image: "y"},
		{Name: "migrate", Wanted: true, Replicas: 1, Image: "m", OneShot: true},
		{Name: "off", Image: "o"},
	}
	for i := range want {
		if want[i].Env == nil {
			want[i].Env = map[string]string{}
		}
	}
	if diff := cmp.Diff(want, d.Services); diff != "" {
		t.Error(diff)
	}

	for name, tt := range map[string]struct{ text, says string }{
		"nothing":   {"", "defines no services"},
		"a list":    {"- hunter2", "is not a valid compose file"},
		"bad yaml":  {"services: {a: {image: \"hunter2", "is not a valid compose file"},
		"bad type":  {"services: hunter2", "is not a valid compose file"},
		"remote":    {"include: ['oci://x/y']\nservices: {a: {image: b}}", "is not read from here"},
		"to itself": {"include: [bad.yml]\nservices: {a: {image: b}}", "too deeply"},
		"gone":      {"include: [gone.yml]\nservices: {a: {image: b}}", "no such file"},
	} {
		file := put("bad.yml", tt.text)
		if _, err := Define(Options{Files: []string{file}}, ""); err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Define(Options{Dir: t.TempDir()}, ""); !errors.Is(err, ErrNoFile) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Define(Options{Dir: dir}, filepath.Join(dir, "gone.env")); err == nil {
		t.Error("a .env that is named and not there is no error")
	}
}

func FuzzDefine(f *testing.F) {
	f.Add([]byte("services: {a: {image: x, environment: [A=b], depends_on: [b]}}"))
	f.Add([]byte("services: &a {a: *a}"))
	f.Add([]byte("services:\n  a: {scale: -1, deploy: {replicas: 9}, profiles: [x]}\ninclude: [{path: [a, b]}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file := filepath.Join(t.TempDir(), "compose.yml")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := Define(Options{Files: []string{file}}, "")
		if err == nil && len(d.Services) == 0 {
			t.Errorf("%q defines nothing, and that is no error", text)
		}
	})
}
