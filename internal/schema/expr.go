package schema

import "strings"

// Canonical returns an expression or statement, as the server writes it, in a
// form that is equal for what the server itself turns into each other when it
// is dumped and restored. Only this is taken for equal:
//
//   - spaces and line breaks outside of strings and quoted names;
//   - a cast of an array and casts of its elements:
//     (ARRAY['a'::varchar])::text[] and ARRAY[('a'::varchar)::text];
//   - (a AND b) AND c, a AND (b AND c), and a AND b AND c; so with OR. The
//     parser flattens what BETWEEN and IN had nested.
func Canonical(sql string) string {
	p := parser{tokens: tokenize(sql)}
	var out strings.Builder
	for {
		n := p.sequence()
		n.rewrite()
		n.write(&out)
		if p.pos >= len(p.tokens) {
			return out.String()
		}
		out.WriteString(" " + p.tokens[p.pos]) // a bracket that closes nothing
		p.pos++
	}
}

// node is a token, or a bracketed sequence of nodes.
type node struct {
	token string // "" for a sequence
	open  string // "(", "[" or "" for the outermost
	kids  []*node
}

type parser struct {
	tokens []string
	pos    int
}

// sequence reads up to the bracket that closes it, which is left.
func (p *parser) sequence() *node {
	n := &node{}
	for p.pos < len(p.tokens) {
		t := p.tokens[p.pos]
		switch t {
		case ")", "]":
			return n
		case "(", "[":
			p.pos++
			kid := p.sequence()
			kid.open = t
			p.pos++ // the closing one, or the end
			n.kids = append(n.kids, kid)
		default:
			p.pos++
			n.kids = append(n.kids, &node{token: t})
		}
	}
	return n
}

func (n *node) write(out *strings.Builder) {
	if n.token != "" {
		out.WriteString(" " + n.token)
		return
	}
	if n.open != "" {
		out.WriteString(" " + n.open)
	}
	for _, k := range n.kids {
		k.write(out)
	}
	switch n.open {
	case "(":
		out.WriteString(" )")
	case "[":
		out.WriteString(" ]")
	}
}

// rewrite brings a sequence into canonical form, the innermost first.
func (n *node) rewrite() {
	for _, k := range n.kids {
		k.rewrite()
	}
	for n.pushCast() {
	}
	n.flatten()
}

// pushCast moves the first cast of a whole ARRAY[...] into its elements, and
// reports whether there was one. The server does so when it reads the cast.
func (n *node) pushCast() bool {
	for i, k := range n.kids {
		if k.token != "::" {
			continue
		}
		end := n.typeEnd(i + 1)
		if end < 0 || i == 0 {
			continue
		}
		typ := n.kids[i+1 : end] // without the [ ]
		array, from := n.arrayBefore(i)
		if array == nil {
			continue
		}
		array.castElements(typ)
		kids := append([]*node{}, n.kids[:from]...)
		kids = append(kids, &node{token: "ARRAY"}, array)
		n.kids = append(kids, n.kids[end+1:]...)
		return true
	}
	return false
}

// typeEnd returns where the empty brackets of an array type stand that begins
// at kid i, or -1. A type is words, quoted names, dots and a modifier:
// timestamp(0) without time zone.
func (n *node) typeEnd(i int) int {
	for j := i; j < len(n.kids); j++ {
		switch k := n.kids[j]; {
		case k.open == "[" && len(k.kids) == 0 && j > i:
			return j
		case k.open == "(" && j > i, k.token == ".", k.token != "" && (isWord(k.token[0]) || k.token[0] == '"') && !isOperatorWord(k.token):
		default:
			return -1
		}
	}
	return -1
}

// arrayBefore returns the elements of the ARRAY[...] that ends before kid i,
// with or without parentheses around it, and where it begins.
func (n *node) arrayBefore(i int) (*node, int) {
	k := n.kids[i-1]
	if k.open == "(" && isArray(k.kids) {
		return k.kids[1], i - 1
	}
	if i >= 2 && isArray(n.kids[i-2:i]) {
		return k, i - 2
	}
	return nil, 0
}

// isArray reports whether kids are ARRAY[...] with elements: of an empty one
// the cast is all that tells its type.
func isArray(kids []*node) bool {
	return len(kids) == 2 && kids[0].token == "ARRAY" && kids[1].open == "[" && len(kids[1].kids) > 0
}

// castElements casts each element to the type, as the server words it:
// (element)::type.
func (n *node) castElements(typ []*node) {
	var out []*node
	each(n.kids, ",", func(element []*node) {
		if len(out) > 0 {
			out = append(out, &node{token: ","})
		}
		if isArray(element) {
			element[1].castElements(typ) // of more than one dimension
			out = append(out, element...)
			return
		}
		out = append(out, &node{open: "(", kids: element}, &node{token: "::"})
		out = append(out, typ...)
	})
	n.kids = out
}

// each passes the runs of nodes between separators to fn; none if there is nothing.
func each(kids []*node, sep string, fn func([]*node)) {
	if len(kids) == 0 {
		return
	}
	from := 0
	for i, k := range kids {
		if k.token == sep {
			fn(kids[from:i:i])
			from = i + 1
		}
	}
	fn(kids[from:])
}

// flatten takes the parentheses off operands of AND that are themselves only
// ANDs, and so with OR.
func (n *node) flatten() {
	for _, op := range []string{"AND", "OR"} {
		var out []*node
		operands := 0
		each(n.kids, op, func(operand []*node) {
			if operands > 0 {
				out = append(out, &node{token: op})
			}
			operands++
			if inner := soleGroup(operand); inner != nil && inner.joined(op) {
				operand = inner.kids
			}
			out = append(out, operand...)
		})
		if operands > 1 {
			n.kids = out
		}
	}
}

func soleGroup(kids []*node) *node {
	if len(kids) == 1 && kids[0].open == "(" {
		return kids[0]
	}
	return nil
}

// joined reports whether a group is operands joined by op, and by nothing that
// binds less.
func (n *node) joined(op string) bool {
	found := false
	for _, k := range n.kids {
		switch k.token {
		case op:
			found = true
		case "AND", "OR", ",", "BETWEEN", "SELECT", "FROM", "WHERE", "CASE", "WHEN":
			return false
		}
	}
	return found
}

// isOperatorWord tells words that follow an expression from those of a type's
// name.
func isOperatorWord(w string) bool {
	switch w {
	case "AND", "OR", "IS", "NOT", "THEN", "ELSE", "END", "WHEN", "FROM", "WHERE", "AS", "COLLATE", "ORDER", "GROUP", "LIMIT", "UNION", "ARRAY":
		return true
	}
	return false
}

// tokenize splits SQL into strings, quoted names, words, numbers, brackets,
// commas and operators. Strings and quoted names keep every byte.
func tokenize(s string) []string {
	var out []string
	for i := 0; i < len(s); {
		c := s[i]
		end := i + 1
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
			continue
		case c == '\'' || c == '"':
			end = quotedEnd(s, i, false)
		case (c == 'E' || c == 'e') && i+1 < len(s) && s[i+1] == '\'':
			end = quotedEnd(s, i+1, true)
		case c == '$' && dollarTag(s[i:]) != "":
			tag := dollarTag(s[i:])
			if n := strings.Index(s[i+len(tag):], tag); n >= 0 {
				end = i + len(tag) + n + len(tag)
			} else {
				end = len(s)
			}
		case isWord(c):
			for end < len(s) && isWord(s[end]) {
				end++
			}
		case strings.IndexByte("()[],;.", c) >= 0:
		case strings.HasPrefix(s[i:], "::"):
			end = i + 2
		case isOperator(c):
			for end < len(s) && isOperator(s[end]) {
				end++
			}
		}
		out = append(out, s[i:end])
		i = end
	}
	return out
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c >= 0x80 || c == '$'
}

func isOperator(c byte) bool { return strings.IndexByte("+-*/<>=~!@#%^&|`?", c) >= 0 }

// quotedEnd returns the end of the string or quoted name that begins at i.
func quotedEnd(s string, i int, escapes bool) int {
	quote := s[i]
	for j := i + 1; j < len(s); j++ {
		switch {
		case escapes && s[j] == '\\':
			j++
		case s[j] == quote && j+1 < len(s) && s[j+1] == quote:
			j++
		case s[j] == quote:
			return j + 1
		}
	}
	return len(s)
}

// dollarTag returns the $tag$ that s begins with, or "".
func dollarTag(s string) string {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '$':
			return s[:i+1]
		case !isWord(s[i]):
			return ""
		}
	}
	return ""
}
