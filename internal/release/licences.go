package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Licences under which the program may be handed on as it is: under Apache-2.0,
// with their texts. Others, those that demand the source or a fee among them,
// are for a person to weigh first.
func compatible(licence string) bool {
	return slices.Contains([]string{"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC"}, licence)
}

// part is a module, or a directory of one with a licence of its own, that is
// built into the program on one of the architectures.
type part struct {
	Path, Version string // of the directory; the module's version
	Licence       string
	Texts         []string // licence, notices and grants of patents
}

// linked asks Go which packages are built in, and reads the licences that stand
// beside them. The standard library is one of the parts.
func linked(architectures []string) ([]part, error) {
	found := map[string]part{}
	for _, arch := range architectures {
		cmd := exec.Command("go", "list", "-deps", "-json=Dir,Standard,Module", "./cmd/escrowctl")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		for in := json.NewDecoder(bytes.NewReader(out)); ; {
			var p listed
			if err := in.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, fmt.Errorf("go list: %w", err)
			}
			if err := p.collect(found); err != nil {
				return nil, err
			}
		}
	}
	if err := standard(found); err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Values(found), func(a, b part) int { return strings.Compare(a.Path, b.Path) }), nil
}

// listed is a package as Go lists it.
type listed struct {
	Dir      string
	Standard bool
	Module   *struct {
		Path, Version, Dir string
		Main               bool
	}
}

// collect adds the licences of a package's directory, and of those above it up
// to the module's.
func (p listed) collect(found map[string]part) error {
	m := p.Module
	if p.Standard || m == nil || m.Main {
		return nil
	}
	for dir := p.Dir; ; dir = filepath.Dir(dir) {
		rel, err := filepath.Rel(m.Dir, dir)
		if err != nil || strings.HasPrefix(rel, "..") {
			return fmt.Errorf("%s is not within %s", p.Dir, m.Dir)
		}
		path := filepath.ToSlash(filepath.Join(m.Path, rel))
		if _, known := found[path]; !known {
			one, has, err := licencesIn(dir, path, m.Version)
			switch {
			case err != nil:
				return err
			case has:
				found[path] = one
			case rel == ".":
				return fmt.Errorf("%s %s has no licence", m.Path, m.Version)
			}
		}
		if rel == "." {
			return nil
		}
	}
}

// standard adds Go's own library and runtime.
func standard(found map[string]part) error {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	one, has, err := licencesIn(strings.TrimSpace(string(out)), "std", "")
	if err == nil && !has {
		err = errors.New("the licence of Go is not in GOROOT")
	}
	found["std"] = one
	return err
}

// licencesIn reads what a directory has of licences, if it has any.
func licencesIn(dir, path, version string) (p part, has bool, err error) {
	p = part{Path: path, Version: version}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return p, false, err
	}
	for _, e := range entries {
		name := strings.ToUpper(strings.TrimSuffix(strings.TrimSuffix(e.Name(), ".txt"), ".md"))
		if e.IsDir() || !slices.Contains([]string{"LICENSE", "LICENCE", "COPYING", "NOTICE", "PATENTS"}, name) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return p, false, err
		}
		p.Texts = append(p.Texts, strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n")))
		if name == "NOTICE" || name == "PATENTS" {
			continue
		}
		has = true
		if p.Licence, err = licenceOf(string(text)); err != nil {
			return p, has, fmt.Errorf("%s: %s: %w", path, e.Name(), err)
		}
		if !compatible(p.Licence) {
			return p, has, fmt.Errorf("%s: %s is not among the licences that may be built in", path, p.Licence)
		}
	}
	return p, has, nil
}

// licenceOf tells a licence by the sentences that only it has. A text with
// several is named by its first; all of it is handed on.
func licenceOf(text string) (string, error) {
	words := strings.Join(strings.Fields(text), " ")
	first, name := len(words), ""
	for _, l := range []struct{ mark, name string }{
		{"Apache License Version 2.0", "Apache-2.0"},
		{"Permission is hereby granted, free of charge, to any person obtaining a copy", "MIT"},
		{"Redistribution and use in source and binary forms", "BSD"},
		{"Permission to use, copy, modify, and/or distribute this software for any purpose", "ISC"},
		{"Permission to use, copy, modify, and distribute this software for any purpose", "ISC"},
		{"Mozilla Public License", "MPL-2.0"},
		{"GNU GENERAL PUBLIC LICENSE", "GPL"},
		{"GNU LESSER GENERAL PUBLIC LICENSE", "LGPL"},
		{"GNU AFFERO GENERAL PUBLIC LICENSE", "AGPL"},
	} {
		if at := strings.Index(strings.ToLower(words), strings.ToLower(l.mark)); at >= 0 && at < first {
			first, name = at, l.name
		}
	}
	if name == "BSD" {
		name = "BSD-2-Clause"
		if strings.Contains(words, "Neither the name") || strings.Contains(words, "names of its contributors") {
			name = "BSD-3-Clause"
		}
	}
	if name == "" {
		return "", errors.New("it is none of the licences that are known")
	}
	return name, nil
}

// licenceTable is docs/licences.md.
func licenceTable(parts []part) string {
	var b strings.Builder
	b.WriteString("# Licences\n\n" +
		"<!-- Written by `make docs`. -->\n" +
		"escrowctl is under the Apache License 2.0. Built into it are, on one of the\n" +
		"architectures at least, the modules below, with the licence that stands in\n" +
		"each; a directory with a licence of its own has a line of its own. All may be\n" +
		"handed on with it if their texts are: they are in `/usr/share/doc/escrowctl/copyright`\n" +
		"of the Debian package.\n\n" +
		"| module | version | licence |\n|---|---|---|\n")
	count := map[string]int{}
	for _, p := range parts {
		count[p.Licence]++
		version := p.Version
		if version == "" {
			version = "of the Go that built it"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", p.Path, version, p.Licence)
	}
	var sums []string
	for _, name := range slices.Sorted(maps.Keys(count)) {
		sums = append(sums, fmt.Sprintf("%d %s", count[name], name))
	}
	fmt.Fprintf(&b, "\n%d in all: %s.\n", len(parts), strings.Join(sums, ", "))
	return b.String()
}

// licenceTexts are the texts that must go with the program, each once, with the
// parts that it is for.
func licenceTexts(parts []part) string {
	users := map[string][]string{}
	var order []string
	for _, p := range parts {
		for _, text := range p.Texts {
			if users[text] == nil {
				order = append(order, text)
			}
			users[text] = append(users[text], strings.TrimSpace(p.Path+" "+p.Version))
		}
	}
	var b strings.Builder
	for _, text := range order {
		fmt.Fprintf(&b, "\n%s\n\nBuilt into escrowctl, under the following:\n\n  %s\n\n%s\n", strings.Repeat("-", 78), strings.Join(users[text], "\n  "), text)
	}
	return b.String()
}
