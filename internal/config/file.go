package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile is the size in bytes from which a file is taken for something else
// than a configuration.
const maxFile = 1 << 20

// setting is one value as a source has it.
type setting struct {
	key    *key
	texts  []string
	origin Origin
	base   string // what relative paths are relative to
}

// empty says that the source has the key, but no value.
func (s setting) empty() bool {
	return len(s.texts) == 0 || (len(s.texts) == 1 && s.texts[0] == "")
}

// source is what was read from one file.
type source struct {
	settings []setting
	faults   Faults
	mode     fs.FileMode
	vars     map[string]string // of a .env file, all that are in it
}

// readLimited reads a file; the problem tells why not.
func readLimited(name string) (data []byte, mode fs.FileMode, p *problem) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, fileProblem(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, fileProblem(err)
	}
	if info.IsDir() {
		return nil, 0, faulty("a directory", "name the file in it")
	}
	data, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, 0, fileProblem(err)
	case len(data) > maxFile:
		return nil, 0, faulty("larger than 1 MiB", "name the right file")
	}
	return data, info.Mode().Perm(), nil
}

func fileProblem(err error) *problem {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return faulty("no such file", "write the file, or name another")
	case errors.Is(err, fs.ErrPermission):
		return faulty("permission denied", "run as a user who may read it")
	}
	// The path is told by the origin already.
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	return faulty(err.Error(), "name a file that can be read")
}

// readYAML reads a configuration file.
func readYAML(name, base string, keys []*key) source {
	data, mode, p := readLimited(name)
	if p != nil {
		return source{faults: Faults{{Origin: Origin{Kind: FromFile, Name: name}, Problem: p.what, Remedy: p.remedy}}}
	}
	s := parseYAML(data, name, base, keys)
	s.mode = mode
	return s
}

func parseYAML(data []byte, name, base string, keys []*key) source {
	w := &walker{name: name, base: base, keys: keys, sections: sections(keys), seen: make(map[string]int)}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF): // empty
		return w.source
	case err != nil:
		line, what := yamlProblem(err)
		w.fault("", line, what, "correct the line; indent with blanks, and quote values with special characters")
		return w.source
	}
	var second yaml.Node
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		w.fault("", second.Line, "more than one document", "remove the --- and what follows it")
	}
	for _, root := range doc.Content {
		if !isNull(root) {
			w.section("", root)
		}
	}
	return w.source
}

// yamlProblem takes the library's message apart. What it quotes of the file is
// taken out, for it may be a piece of a secret.
func yamlProblem(err error) (line int, what string) {
	what = strings.TrimPrefix(err.Error(), "yaml: ")
	if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(what); m != nil {
		line, _ = strconv.Atoi(m[1])
		what = what[len(m[0]):]
	}
	what = regexp.MustCompile("(?s)'.{3,}'|\".{3,}\"|`.{3,}`").ReplaceAllString(what, "'...'")
	return line, "not valid YAML: " + what
}

// walker collects the settings of a YAML tree.
type walker struct {
	source
	name, base string
	keys       []*key
	sections   []string
	seen       map[string]int // the line of each name
}

func (w *walker) fault(key string, line int, what, remedy string) {
	w.faults = append(w.faults, Fault{Key: key, Origin: w.origin(line), Problem: what, Remedy: remedy})
}

func (w *walker) origin(line int) Origin { return Origin{Kind: FromFile, Name: w.name, Line: line} }

// section reads the keys of the section with that prefix, which ends in a dot.
func (w *walker) section(prefix string, node *yaml.Node) {
	title := strings.TrimSuffix(prefix, ".")
	if node.Kind != yaml.MappingNode {
		what := "the file is not made of keys and values"
		remedy := "write lines such as s3: {bucket: s3://stellarescrow-backups}"
		if title != "" {
			what = "a section in which there must be keys"
			remedy = "write its keys indented below it: " + strings.Join(w.below(prefix), ", ")
			if node.Kind == yaml.AliasNode {
				what = "an alias"
				remedy = "write the keys out"
			}
		}
		w.fault(title, node.Line, what, remedy)
		return
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		w.pair(prefix, node.Content[i], node.Content[i+1])
	}
}

func (w *walker) pair(prefix string, k, v *yaml.Node) {
	name := prefix + k.Value
	if k.Kind != yaml.ScalarNode || !regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`).MatchString(k.Value) {
		// It may be a secret on the wrong line: not shown.
		w.fault(strings.TrimSuffix(prefix, "."), k.Line, "a line that is not a key with a value", "write key: value, with a blank after the colon")
		return
	}
	if line, twice := w.seen[name]; twice {
		w.fault(name, k.Line, fmt.Sprintf("given twice, first on line %d", line), "remove one of the two")
		return
	}
	w.seen[name] = k.Line
	if i := slices.IndexFunc(w.keys, func(key *key) bool { return key.name == name }); i >= 0 {
		w.value(w.keys[i], k.Line, v)
		return
	}
	if slices.Contains(w.sections, name) {
		if !isNull(v) {
			w.section(name+".", v)
		}
		return
	}
	remedy := "remove it; escrowctl config show lists all keys"
	if near := nearestKey(name, w.keys); near != "" {
		remedy = fmt.Sprintf("did you mean %s?", near)
	}
	w.fault(name, k.Line, "unknown key", remedy)
}

// value reads the value of a key. A key without a value counts as left out.
func (w *walker) value(k *key, line int, v *yaml.Node) {
	var texts []string
	switch {
	case isNull(v):
		return
	case v.Kind == yaml.ScalarNode:
		texts = []string{v.Value}
		if k.list {
			texts = splitList(v.Value)
		}
	case v.Kind == yaml.SequenceNode && k.items != nil:
		if len(v.Content) == 0 {
			break
		}
		text, p := k.items(v)
		if p != nil {
			w.fault(k.name, line, p.what, p.remedy)
			return
		}
		texts = []string{text}
	case v.Kind == yaml.SequenceNode && k.list:
		for _, item := range v.Content {
			if item.Kind != yaml.ScalarNode || isNull(item) {
				w.fault(k.name, item.Line, "an item that is no plain value", "write one value an item")
				return
			}
			texts = append(texts, item.Value)
		}
	case v.Kind == yaml.SequenceNode:
		w.fault(k.name, line, "a list where one value belongs", "write one value")
		return
	case v.Kind == yaml.AliasNode:
		w.fault(k.name, line, "an alias", "write the value out; a value that begins with * must be quoted")
		return
	default:
		w.fault(k.name, line, "a section where a value belongs", "write the value behind the colon; one that begins with { must be quoted")
		return
	}
	if v.ShortTag() == "!!binary" || (v.Style&yaml.TaggedStyle != 0 && !strings.HasPrefix(v.ShortTag(), "!!")) {
		w.fault(k.name, line, "a tag that is not supported", "write the value plainly; one that begins with ! must be quoted")
		return
	}
	w.settings = append(w.settings, setting{key: k, texts: texts, origin: w.origin(line), base: w.base})
}

// below returns the names of the keys right below a section.
func (w *walker) below(prefix string) []string {
	var out []string
	for _, k := range w.keys {
		if rest, ok := strings.CutPrefix(k.name, prefix); ok {
			name, _, _ := strings.Cut(rest, ".")
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// splitList takes a list in one text apart: at commas and line breaks.
func splitList(text string) []string {
	var out []string
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
