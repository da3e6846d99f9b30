package perf

import (
	"fmt"
	"slices"
	"strings"
)

// filter is what a statement demands of one table: columns compared for
// equality, and columns compared with a range.
type filter struct {
	table     string // as written, without its schema
	schema    string // as written, "" if it is not
	equal     []string
	ranged    []string
	aliasName string
}

// filters finds the tables of a statement and the columns that it filters each
// of them by: WHERE and ON conditions of the form column, operator, value. It
// is a reader of tokens, not a parser: what it does not understand, it leaves
// out, and what it finds is a suggestion for a person.
func filters(text string) []filter {
	all := tokens(text)
	found := tableNames(all)
	for i, t := range all {
		if t.kind != word && t.kind != quoted || i > 0 && all[i-1].text == "." {
			continue
		}
		name, at := t.text, i+1
		owner := ""
		if at+1 < len(all) && all[at].text == "." {
			owner, name, at = name, all[at+1].text, at+2
		}
		equality, ranged := comparison(all[min(at, len(all)):])
		if !equality && !ranged || !inCondition(all[:i]) {
			continue
		}
		f := ownerOf(found, owner)
		switch {
		case f == nil:
		case equality && !slices.Contains(f.equal, name):
			f.equal = append(f.equal, name)
		case ranged && !slices.Contains(f.ranged, name):
			f.ranged = append(f.ranged, name)
		}
	}
	out := make([]filter, 0, len(found))
	for _, f := range found {
		out = append(out, *f)
	}
	return out
}

// tableNames finds what follows FROM, JOIN, UPDATE and INTO, and commas in FROM.
func tableNames(all []token) []*filter {
	var found []*filter
	for i := 0; i < len(all); i++ {
		switch all[i].text {
		case "from", "join", "update":
		case ",":
			if !inFrom(all[:i]) {
				continue
			}
		default:
			continue
		}
		if all[i].kind == quoted || all[i].kind == literal {
			continue
		}
		at := i + 1
		for at < len(all) && all[at].kind == word && (all[at].text == "only" || all[at].text == "lateral") {
			at++
		}
		if at >= len(all) || all[at].kind != word && all[at].kind != quoted {
			continue
		}
		f := &filter{table: all[at].text}
		at++
		if at+1 < len(all) && all[at].text == "." {
			f.schema, f.table, at = f.table, all[at+1].text, at+2
		}
		if at < len(all) && all[at].text == "(" {
			continue // a function
		}
		f.aliasName = f.table
		if at < len(all) && all[at].kind == word && all[at].text == "as" {
			at++
		}
		if at < len(all) && (all[at].kind == quoted || all[at].kind == word && !clause(all[at].text)) {
			f.aliasName = all[at].text
		}
		found = append(found, f)
	}
	return found
}

// inFrom says whether the tokens end inside a FROM list, outside parentheses
// opened in it.
func inFrom(before []token) bool {
	depth := 0
	for i := len(before) - 1; i >= 0; i-- {
		t := before[i]
		switch {
		case t.text == ")":
			depth++
		case t.text == "(":
			depth--
			if depth < 0 {
				return false
			}
		case t.kind != word || depth > 0:
		case t.text == "from":
			return true
		case clause(t.text) && t.text != "join" && t.text != "on" && t.text != "left" && t.text != "inner" && t.text != "cross":
			return false
		}
	}
	return false
}

// inCondition says whether the tokens end inside WHERE or ON.
func inCondition(before []token) bool {
	for i := len(before) - 1; i >= 0; i-- {
		if before[i].kind != word {
			continue
		}
		switch before[i].text {
		case "where", "on":
			return true
		case "select", "set", "order", "group", "having", "returning", "from", "limit", "values", "join", "case", "when", "then", "else":
			return false
		}
	}
	return false
}

// clause says whether the word begins a part of a statement, so that it is no
// alias.
func clause(w string) bool {
	switch w {
	case "where", "on", "join", "left", "right", "inner", "full", "cross", "natural", "set", "group", "order", "limit", "offset",
		"union", "except", "intersect", "having", "returning", "using", "for", "window", "values", "select", "from", "tablesample", "fetch":
		return true
	}
	return false
}

// comparison says what the tokens after a column's name compare it by: with a
// parameter or a literal, or for equality with another column, as in a join.
func comparison(rest []token) (equality, ranged bool) {
	op := ""
	i := 0
	for i < len(rest) && rest[i].kind == symbol && strings.Contains("=<>", rest[i].text) && len(op) < 2 {
		op += rest[i].text
		i++
	}
	if i >= len(rest) {
		return false, false
	}
	value := rest[i]
	switch {
	case op == "=":
		ok := value.kind == param || value.kind == literal || value.kind == quoted ||
			value.kind == word && value.text != "case" && value.text != "null" || value.text == "(" || value.text == "?"
		return ok, false
	case op == "<" || op == ">" || op == "<=" || op == ">=":
		return false, value.kind == param || value.kind == literal || value.kind == word || value.text == "?" || value.text == "("
	case op != "":
		return false, false
	case value.kind == word && value.text == "in":
		return true, false
	case value.kind == word && value.text == "between":
		return false, true
	}
	return false, false
}

func ownerOf(found []*filter, owner string) *filter {
	if owner == "" {
		if len(found) == 1 {
			return found[0]
		}
		return nil // whose it is cannot be told without the catalogue
	}
	for _, f := range found {
		if f.aliasName == owner {
			return f
		}
	}
	for _, f := range found {
		if f.table == owner {
			return f
		}
	}
	return nil
}

// suggest returns a statement that creates an index for what the query filters
// by, or "": of a large table without an index that begins with one of the
// columns. only restricts it to one table, 0 does not.
func (a *analysis) suggest(text string, db *Database, only int64) string {
	for _, f := range filters(text) {
		t := findTable(db, f)
		if t == nil || only != 0 && t.OID != only || t.Rows < a.opt.Limits.SeqRows {
			continue
		}
		columns := a.indexColumns(db, t, f)
		if len(columns) == 0 || a.covered(db, t, columns) {
			continue
		}
		names := make([]string, len(columns))
		for i, c := range columns {
			names[i] = quoteName(c)
		}
		sql := fmt.Sprintf("CREATE INDEX CONCURRENTLY ON %s (%s);", qualified(t.Schema, t.Name), strings.Join(names, ", "))
		if a.suggested[sql] && only == 0 {
			return ""
		}
		a.suggested[sql] = true
		return sql
	}
	return ""
}

func findTable(db *Database, f filter) *Table {
	var found *Table
	for i := range db.Tables {
		t := &db.Tables[i]
		if t.Name != f.table || f.schema != "" && t.Schema != f.schema {
			continue
		}
		if found == nil || t.Schema == "public" {
			found = t
		}
	}
	return found
}

// minSelective is how many distinct values a column must have for an index on
// it alone to spare much of the table.
const minSelective = 50

// indexColumns chooses the columns of an index: those compared for equality,
// the most selective first, and one that is compared with a range.
func (a *analysis) indexColumns(db *Database, t *Table, f filter) []string {
	distinct := map[string]float64{}
	for _, c := range db.Columns {
		if c.Table != t.OID {
			continue
		}
		n := float64(minSelective) // unknown: no reason against it
		if c.Distinct != nil {
			n = *c.Distinct
			if n < 0 {
				n = -n * t.Rows
			}
		}
		distinct[c.Name] = n
	}
	known := func(names []string) []string {
		return slices.DeleteFunc(slices.Clone(names), func(n string) bool { _, ok := distinct[n]; return !ok })
	}
	equal := known(f.equal)
	slices.SortStableFunc(equal, func(x, y string) int { return int(min(max(distinct[y]-distinct[x], -1), 1)) })
	equal = equal[:min(2, len(equal))]
	ranged := known(f.ranged)
	selective := 1.0
	for _, c := range equal {
		selective *= distinct[c]
	}
	if len(ranged) > 0 && (len(equal) == 0 || selective < minSelective) {
		return append(equal, ranged[0])
	}
	if selective < minSelective {
		return nil
	}
	return equal
}

// covered says whether a usable index begins with one of the columns that are
// the reason for a new one.
func (a *analysis) covered(db *Database, t *Table, columns []string) bool {
	for _, x := range db.Indexes {
		if x.Table == t.OID && !x.Invalid && x.Predicate == "" && len(x.Columns) > 0 && x.Columns[0] == columns[0] {
			return true
		}
	}
	return false
}
