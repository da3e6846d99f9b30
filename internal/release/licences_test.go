package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/licences.md")

// TestLicences: docs/licences.md names all that is built in, and nothing else;
// the package carries their texts.
func TestLicences(t *testing.T) {
	t.Chdir(top)
	parts, err := linked([]string{"amd64", "arm64"})
	if err != nil {
		t.Fatal(err)
	}
	page, table := filepath.Join("docs", "licences.md"), licenceTable(parts)
	if *update {
		if err := os.WriteFile(page, []byte(table), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(page); err != nil || string(got) != table {
		t.Errorf("docs/licences.md is behind what is built in: make docs: %v", err)
	}

	texts := licenceTexts(parts)
	for _, p := range parts {
		if len(p.Texts) == 0 || !strings.Contains(texts, "\n  "+strings.TrimSpace(p.Path+" "+p.Version)+"\n") {
			t.Errorf("the package would lack the licence of %s", p.Path)
		}
	}
	if len(parts) < 50 {
		t.Errorf("only %d are found", len(parts))
	}
}

func TestLicenceOf(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"Apache License\n   Version 2.0, January 2004", "Apache-2.0"},
		{"Copyright X\nPermission is hereby granted, free of charge, to any\nperson obtaining a copy", "MIT"},
		{"Redistribution and use in source and binary forms ... Neither the name of", "BSD-3-Clause"},
		{"Redistribution and use in source and binary forms, with or without", "BSD-2-Clause"},
		{"Mozilla Public License Version 2.0", "MPL-2.0"},
		{"GNU GENERAL PUBLIC LICENSE Version 3", "GPL"},
		{"all rights reserved", ""},
	} {
		got, err := licenceOf(tt.text)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%q is %q, %v, not %q", tt.text, got, err, tt.want)
		}
	}
	for _, other := range []string{"MPL-2.0", "GPL", "LGPL", "AGPL", ""} {
		if compatible(other) {
			t.Errorf("%q is taken for compatible", other)
		}
	}
}
