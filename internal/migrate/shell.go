package migrate

import (
	"errors"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/stellarescrow/escrowctl/internal/envfile"
	"mvdan.cc/sh/v3/syntax"
)

// reader goes through the shell text that one row runs, in its order. It knows
// of the shell's language what such scripts use: what it cannot work out it
// names.
type reader struct {
	files Files
	known func(string) bool
	row   Row

	vars     map[string]Variable
	dir      string // the working directory; "" if not known
	script   string // the path of the old script
	envFiles []string
	dirs     []string
	lefts    []Left

	file string // being read
	base int    // lines before it in the file
	kind Kind
	// branch is how many conditions stand around what is read.
	branch int
	depth  int // of files that read files
}

// maxDepth bounds files that read themselves.
const maxDepth = 8

func (r *reader) left(p Place, text, way string) { r.lefts = append(r.lefts, Left{p, text, way}) }

func (r *reader) place(n syntax.Node) Place {
	return Place{r.file, r.base + int(n.Pos().Line())} //nolint:gosec // lines are few
}

// text reads shell text that stands at a place.
func (r *reader) text(text string, at Place, kind Kind) {
	if r.depth >= maxDepth {
		return
	}
	tree, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), "")
	if err != nil {
		r.left(at, "it cannot be read as a shell would", "set what it sets by hand")
		return
	}
	file, base, old := r.file, r.base, r.kind
	r.file, r.base, r.kind = at.File, at.Line-1, kind
	r.depth++
	r.stmts(tree.Stmts)
	r.depth--
	r.file, r.base, r.kind = file, base, old
}

func (r *reader) stmts(list []*syntax.Stmt) {
	for _, s := range list {
		r.command(s.Cmd)
	}
}

// command reads one command, whatever stands inside it too.
func (r *reader) command(cmd syntax.Command) {
	switch c := cmd.(type) {
	case *syntax.CallExpr:
		r.call(c)
	case *syntax.DeclClause:
		r.declare(c)
	case *syntax.BinaryCmd:
		r.command(c.X.Cmd)
		r.inBranch(c.Op != syntax.AndStmt, func() { r.command(c.Y.Cmd) })
	case *syntax.IfClause:
		for clause := c; clause != nil; clause = clause.Else {
			r.stmts(clause.Cond)
			r.inBranch(true, func() { r.stmts(clause.Then) })
		}
	case *syntax.Block:
		r.stmts(c.Stmts)
	case *syntax.Subshell:
		r.inBranch(true, func() { r.stmts(c.Stmts) })
	case *syntax.WhileClause:
		r.inBranch(true, func() { r.stmts(c.Cond); r.stmts(c.Do) })
	case *syntax.ForClause:
		r.inBranch(true, func() { r.stmts(c.Do) })
	case *syntax.CaseClause:
		for _, item := range c.Items {
			r.inBranch(true, func() { r.stmts(item.Stmts) })
		}
	case *syntax.FuncDecl:
		r.inBranch(true, func() { r.command(c.Body.Cmd) })
	case *syntax.TimeClause:
		if c.Stmt != nil {
			r.command(c.Stmt.Cmd)
		}
	}
}

func (r *reader) inBranch(counts bool, read func()) {
	if counts {
		r.branch++
		defer func() { r.branch-- }()
	}
	read()
}

func (r *reader) declare(c *syntax.DeclClause) {
	for _, a := range c.Args {
		switch {
		case a.Name != nil && !a.Naked:
			r.assign(a)
		case a.Naked && a.Name == nil && a.Value != nil:
			// export $(grep -v '^#' .env | xargs)
			r.substituted(a.Value)
		}
	}
}

// substituted reads the .env files that a command substitution names.
func (r *reader) substituted(w *syntax.Word) {
	syntax.Walk(w, func(n syntax.Node) bool {
		inner, ok := n.(*syntax.Word)
		if !ok || inner == w {
			return true
		}
		if name, ok := r.word(inner); ok && strings.Contains(filepath.Base(name), "env") {
			if text, ok := r.open(&name, inner); ok {
				r.dotenv(name, text, false)
			}
		}
		return true
	})
}

// ownDefault is NAME=${NAME:-...} and the like.
func ownDefault(a *syntax.Assign) bool {
	own := false
	if a.Value == nil {
		return false
	}
	syntax.Walk(a.Value, func(n syntax.Node) bool {
		if p, ok := n.(*syntax.ParamExp); ok && p.Param != nil && p.Param.Value == a.Name.Value {
			own = true
		}
		return true
	})
	return own
}

func (r *reader) assign(a *syntax.Assign) {
	name := a.Name.Value
	if a.Append || a.Array != nil || a.Index != nil {
		if r.known(name) {
			r.left(r.place(a), name+" is built up here", "set it by hand")
		}
		return
	}
	before, was := r.vars[name]
	value, ok := "", true
	if a.Value != nil {
		value, ok = r.word(a.Value)
	}
	own := ownDefault(a)
	switch {
	case !ok:
		if r.known(name) {
			r.left(r.place(a), name+" is worked out when the script runs", "set it by hand")
		}
		delete(r.vars, name)
		return
	case own && was && before.Value != "" && before.Value == value:
		return // it keeps what it had, and where it came from
	case r.branch > 0 && was && before.Value != value && r.known(name):
		r.left(r.place(a), name+" is set under a condition", "it stays as "+before.Place.String()+" has it: change it by hand if the condition holds")
		return
	}
	if own && !r.known(name) && strings.ToUpper(name) == name {
		r.left(r.place(a), name+" is a setting of the script's own, which escrowctl does not have", "see whether it is still needed")
	}
	r.vars[name] = Variable{Name: name, Value: value, Place: r.place(a), Kind: r.kind, Derived: own || !literal(a.Value)}
}

func literal(w *syntax.Word) bool {
	plain := true
	if w == nil {
		return true
	}
	syntax.Walk(w, func(n syntax.Node) bool {
		switch n.(type) {
		case *syntax.ParamExp, *syntax.CmdSubst, *syntax.ArithmExp:
			plain = false
		}
		return true
	})
	return plain
}

// source reads a file as the shell does with "."; one that is not there is no
// fault where the script tests for it.
func (r *reader) source(name string, at syntax.Node) {
	text, ok := r.open(&name, at)
	if !ok {
		return
	}
	branch := r.branch
	r.branch = 0 // what is there is read, whatever tested for it
	r.text(text, Place{name, 1}, InEnvFile)
	r.branch = branch
}

// open reads a file whose name may be relative, and remembers it.
func (r *reader) open(name *string, at syntax.Node) (string, bool) {
	if !filepath.IsAbs(*name) && r.dir == "" {
		r.left(r.place(at), "it reads "+*name+", and from where it runs is not known", "name the file in compose.env_file")
		return "", false
	}
	*name = r.absolute(*name)
	text, err := r.files(*name)
	if err != nil {
		if r.branch == 0 {
			r.left(r.place(at), "it reads "+*name+", which cannot be read here", "set by hand what it sets")
		}
		return "", false
	}
	if !slices.Contains(r.envFiles, *name) {
		r.envFiles = append(r.envFiles, *name)
	}
	return text, true
}

// dotenv reads a file as Compose does. With weak it sets only what is not set.
func (r *reader) dotenv(name, text string, weak bool) {
	f, err := envfile.Parse([]byte(text))
	if err != nil {
		var line *envfile.LineError
		at := Place{name, 1}
		if errors.As(err, &line) {
			at.Line = line.Line
		}
		r.left(at, "not every reader of .env files reads it alike", "correct the line")
		return
	}
	for _, n := range f.Names() {
		if _, set := r.vars[n]; weak && set {
			continue
		}
		value, err := f.Get(n)
		if err != nil {
			if r.known(n) {
				r.left(Place{name, f.Line(n)}, n+" is not read alike by every reader of .env files", "write its value plainly")
			}
			continue
		}
		r.vars[n] = Variable{Name: n, Value: value, Place: Place{name, f.Line(n)}, Kind: InEnvFile}
	}
}

// word works out what a word says.
func (r *reader) word(w *syntax.Word) (string, bool) { return r.parts(w.Parts) }

func (r *reader) parts(parts []syntax.WordPart) (string, bool) {
	var out strings.Builder
	for _, part := range parts {
		text, ok := r.part(part)
		if !ok {
			return "", false
		}
		out.WriteString(text)
	}
	return out.String(), true
}

var escaped = regexp.MustCompile(`\\(.)`)

func (r *reader) part(part syntax.WordPart) (string, bool) {
	switch p := part.(type) {
	case *syntax.Lit:
		return escaped.ReplaceAllString(p.Value, "$1"), true
	case *syntax.SglQuoted:
		return p.Value, !p.Dollar
	case *syntax.DblQuoted:
		return r.parts(p.Parts)
	case *syntax.ParamExp:
		return r.param(p)
	case *syntax.CmdSubst:
		return r.directory(p)
	}
	return "", false
}

func (r *reader) param(p *syntax.ParamExp) (string, bool) {
	if p.Param == nil || p.Excl || p.Length || p.Width || p.Slice != nil || p.Repl != nil || p.Names != 0 {
		return "", false
	}
	name := p.Param.Value
	if (name == "0" || name == "BASH_SOURCE") && p.Exp == nil {
		return r.file, r.file != ""
	}
	v, set := r.vars[name]
	if p.Exp == nil {
		return v.Value, set
	}
	switch p.Exp.Op {
	case syntax.DefaultUnset, syntax.DefaultUnsetOrNull, syntax.AssignUnset, syntax.AssignUnsetOrNull:
		if set && v.Value != "" {
			return v.Value, true
		}
		if p.Exp.Word == nil {
			return "", true
		}
		return r.word(p.Exp.Word)
	case syntax.ErrorUnset, syntax.ErrorUnsetOrNull: // ${DATABASE_URL:?...}
		return v.Value, set
	}
	return "", false
}

// directory works out $(dirname "$0"), $(cd "$(dirname "$0")/.." && pwd) and
// the like.
func (r *reader) directory(c *syntax.CmdSubst) (string, bool) {
	if len(c.Stmts) != 1 {
		return "", false
	}
	switch cmd := c.Stmts[0].Cmd.(type) {
	case *syntax.CallExpr:
		if words := r.words(cmd.Args); len(words) == 2 && words[0] == "dirname" {
			return filepath.Dir(words[1]), words[1] != ""
		}
	case *syntax.BinaryCmd:
		cd, ok := cmd.X.Cmd.(*syntax.CallExpr)
		pwd, ok2 := cmd.Y.Cmd.(*syntax.CallExpr)
		if !ok || !ok2 || cmd.Op != syntax.AndStmt {
			return "", false
		}
		if to, then := r.words(cd.Args), r.words(pwd.Args); len(to) == 2 && to[0] == "cd" && to[1] != "" && len(then) > 0 && then[0] == "pwd" {
			return r.absolute(to[1]), filepath.IsAbs(r.absolute(to[1]))
		}
	}
	return "", false
}

// words are what words say; "" for those that cannot be worked out.
func (r *reader) words(list []*syntax.Word) []string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i], _ = r.word(w)
	}
	return out
}

func (r *reader) absolute(dir string) string {
	if filepath.IsAbs(dir) || r.dir == "" {
		return filepath.Clean(dir)
	}
	return filepath.Join(r.dir, dir)
}
