package main

import (
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"
)

// bom is a CycloneDX 1.5 document, as far as it is used here.
type bom struct {
	Schema      string      `json:"$schema"`
	Format      string      `json:"bomFormat"`
	SpecVersion string      `json:"specVersion"`
	Version     int         `json:"version"`
	Metadata    metadata    `json:"metadata"`
	Components  []component `json:"components"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Ref     string `json:"bom-ref"`
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	PURL    string `json:"purl"`
	// Hashes are those of go.sum: of the module's files, by Go's own dirhash.
	Hashes     []hash     `json:"hashes,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// sbom writes what a binary is made of, as the linker has put it into the binary:
// not what go.mod asks for, but what was built in. It has no serial number and no
// time, so that the same binary gives the same document.
func sbom(binary string, out io.Writer) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("%s: %w", binary, err)
	}
	doc := bom{
		Schema: "http://cyclonedx.org/schema/bom-1.5.schema.json", Format: "CycloneDX", SpecVersion: "1.5", Version: 1,
		Metadata: metadata{Component: ours(info)},
		Components: []component{{
			Ref: "std", Type: "library", Name: "std", Version: info.GoVersion, PURL: "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go"),
		}},
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c, err := module(m)
		if err != nil {
			return err
		}
		doc.Components = append(doc.Components, c)
	}
	slices.SortFunc(doc.Components, func(a, b component) int { return strings.Compare(a.Ref, b.Ref) })
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(doc)
}

// ours is the program itself, with what it was built for.
func ours(info *buildinfo.BuildInfo) component {
	c := component{Ref: info.Main.Path, Type: "application", Name: info.Main.Path, PURL: "pkg:golang/" + info.Main.Path}
	for _, s := range info.Settings {
		if slices.Contains([]string{"GOOS", "GOARCH", "CGO_ENABLED", "-trimpath", "-ldflags"}, s.Key) {
			c.Properties = append(c.Properties, property{"build:" + s.Key, s.Value})
		}
		if version, found := ldflag(s, "main.version"); found {
			c.Version = version
		}
	}
	return c
}

// ldflag finds what -X set a variable to.
func ldflag(s debug.BuildSetting, name string) (value string, found bool) {
	if s.Key != "-ldflags" {
		return "", false
	}
	_, rest, found := strings.Cut(s.Value, name+"=")
	value, _, _ = strings.Cut(rest, " ")
	return value, found
}

func module(m *debug.Module) (component, error) {
	c := component{Ref: m.Path + "@" + m.Version, Type: "library", Name: m.Path, Version: m.Version, PURL: "pkg:golang/" + m.Path + "@" + m.Version}
	sum, found := strings.CutPrefix(m.Sum, "h1:")
	if !found {
		return c, fmt.Errorf("%s %s has no checksum: is it replaced by a directory?", m.Path, m.Version)
	}
	raw, err := base64.StdEncoding.DecodeString(sum)
	if err != nil {
		return c, fmt.Errorf("%s: checksum %q: %w", m.Path, m.Sum, err)
	}
	c.Hashes = []hash{{"SHA-256", hex.EncodeToString(raw)}}
	return c, nil
}
