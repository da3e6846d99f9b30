package sqldump

import (
	"fmt"
	"strings"
)

// copyTable returns the table of a COPY statement as the statement names it:
// quoted and qualified.
func copyTable(stmt []byte) (string, error) {
	rest := strings.TrimLeft(string(stmt[len("COPY"):]), " ")
	end := nameEnd(rest)
	if end <= 0 {
		return "", fmt.Errorf("%w: no table in %s", ErrNotDump, firstLine(stmt))
	}
	return rest[:end], nil
}

// nameEnd returns the length of the qualified, perhaps quoted name that s
// begins with.
func nameEnd(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case quoted, isWordPart(c), c == '.':
		default:
			return i
		}
	}
	return len(s)
}

// Name is a table's name without quotes.
type Name struct{ Schema, Table string }

// ParseName takes a name as SQL writes it, `public."Mixed Case"`, apart. A name
// without a schema has none.
func ParseName(s string) (Name, error) {
	var parts []string
	for rest := s; ; {
		part, tail, err := identifier(rest)
		if err != nil {
			return Name{}, fmt.Errorf("table name %q: %w", s, err)
		}
		parts = append(parts, part)
		if tail == "" {
			break
		}
		if tail[0] != '.' {
			return Name{}, fmt.Errorf("table name %q: unexpected %q", s, tail)
		}
		rest = tail[1:]
	}
	switch len(parts) {
	case 1:
		return Name{Table: parts[0]}, nil
	case 2:
		return Name{Schema: parts[0], Table: parts[1]}, nil
	}
	return Name{}, fmt.Errorf("table name %q: has %d parts: write schema.table", s, len(parts))
}

// identifier takes the first identifier off s.
func identifier(s string) (name, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		i := 0
		for i < len(s) && isWordPart(s[i]) {
			i++
		}
		if i == 0 {
			return "", "", fmt.Errorf("empty identifier")
		}
		return strings.ToLower(s[:i]), s[i:], nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '"' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			b.WriteByte('"')
			i++
			continue
		}
		return b.String(), s[i+1:], nil
	}
	return "", "", fmt.Errorf("unclosed quote")
}

// Match reports whether n is what a person meant by pattern: the schema may be
// left out of the pattern, and then public is meant.
func (n Name) Match(pattern Name) bool {
	schema := pattern.Schema
	if schema == "" {
		schema = "public"
	}
	return n.Table == pattern.Table && (n.Schema == schema || n.Schema == "" && schema == "public")
}
