package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Change is how an object differs.
type Change string

// The changes, seen from the source.
const (
	Missing Change = "missing" // the source has it, the restored copy has not
	Extra   Change = "extra"   // the other way round
	Changed Change = "changed"
)

// Difference is one thing in which a restored copy is not its source.
type Difference struct {
	Change Change `json:"change"`
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Field  string `json:"field,omitempty"` // of Changed: what of it
	Want   string `json:"want,omitempty"`  // the source's; "" for none
	Got    string `json:"got,omitempty"`
	// Note says why the difference proves nothing; "" where it is real.
	Note string `json:"note,omitempty"`
}

// String says it in one line that names the object.
func (d Difference) String() string {
	line := d.Kind + " " + d.Name
	switch d.Change {
	case Missing:
		line += " is missing"
	case Extra:
		line += " is not in the source"
	case Changed:
		line += d.describe()
	}
	if d.Note != "" {
		line += " (" + d.Note + ")"
	}
	return strings.Join(strings.Fields(line), " ")
}

// maxShown is how much of a text a line shows.
const maxShown = 100

func (d Difference) describe() string {
	switch {
	case d.Got == "" && len(d.Want) <= maxShown:
		return fmt.Sprintf(": %s is gone, was %s", d.Field, d.Want)
	case d.Got == "":
		return fmt.Sprintf(": %s is gone", d.Field)
	case d.Want == "":
		return fmt.Sprintf(": %s is %s, was none", d.Field, excerpt(d.Got, 0))
	}
	from := 0
	line := ""
	if len(d.Want) > maxShown || len(d.Got) > maxShown {
		for from < min(len(d.Want), len(d.Got)) && d.Want[from] == d.Got[from] {
			from++
		}
		if n := strings.Count(d.Want[:from], "\n"); n > 0 {
			line = fmt.Sprintf(", line %d,", n+1)
		}
		from = max(0, from-20)
	}
	return fmt.Sprintf(": %s%s is %s, was %s", d.Field, line, excerpt(d.Got, from), excerpt(d.Want, from))
}

func excerpt(s string, from int) string {
	from = min(from, len(s))
	head, tail := "", ""
	if from > 0 {
		head = "... "
	}
	s = s[from:]
	if len(s) > maxShown {
		s, tail = s[:maxShown], " ..."
	}
	return head + strings.ToValidUTF8(s, "") + tail
}

// Compare tells in what a restored copy differs from its source, in the
// source's order; nothing is the proof that it does not. What belongs to a
// table that is missing is not told again.
func Compare(source, restored *Schema) []Difference {
	c := comparison{source: source, restored: restored, moved: map[string]bool{}, got: byID(restored), want: byID(source)}
	for _, id := range source.Moved {
		c.moved[id] = true
	}
	for _, o := range source.Objects {
		got, ok := c.got[o.ID()]
		switch {
		case ignored(o):
		case ok:
			c.fields(o, got)
		case !c.lacksTable(c.got, o):
			c.add(Difference{Change: Missing, Kind: o.Kind, Name: o.Name})
		}
	}
	for _, o := range restored.Objects {
		if _, ok := c.want[o.ID()]; !ok && !ignored(o) && o.ID() != "schema public" && !c.lacksTable(c.want, o) {
			c.add(Difference{Change: Extra, Kind: o.Kind, Name: o.Name})
		}
	}
	return c.found
}

// Real leaves out the notes.
func Real(found []Difference) []Difference {
	return slices.DeleteFunc(slices.Clone(found), func(d Difference) bool { return d.Note != "" })
}

type comparison struct {
	source, restored *Schema
	want, got        map[string]Object
	moved            map[string]bool
	found            []Difference
}

func byID(s *Schema) map[string]Object {
	m := make(map[string]Object, len(s.Objects))
	for _, o := range s.Objects {
		m[o.ID()] = o
	}
	return m
}

// lacksTable reports whether o belongs to a table that the other side lacks.
func (c *comparison) lacksTable(other map[string]Object, o Object) bool {
	if o.Of == "" {
		return false
	}
	for _, kind := range []string{"table", "foreign table", "view", "materialized view", "type", "domain"} {
		if _, ok := other[kind+" "+o.Of]; ok {
			return false
		}
	}
	return true
}

func (c *comparison) fields(want, got Object) {
	names := maps.Clone(want.Fields)
	if names == nil {
		names = map[string]string{}
	}
	maps.Copy(names, got.Fields)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if want.canonical(name) == got.canonical(name) {
			continue
		}
		d := Difference{Change: Changed, Kind: want.Kind, Name: want.Name, Field: name, Want: want.Fields[name], Got: got.Fields[name]}
		switch {
		case advisory(want, name), c.source.Major() < 15 && want.ID() == "schema public":
			d.Note = "a dump does not hold it"
		case c.source.Major() != c.restored.Major() && worded(want, name):
			d.Note = fmt.Sprintf("PostgreSQL %d and %d may word it differently", c.source.Major(), c.restored.Major())
		}
		c.add(d)
	}
}

func (c *comparison) add(d Difference) {
	switch id := d.Kind + " " + d.Name; {
	case d.Note != "":
	case c.moved[id]:
		d.Note = "it was changed while the dump ran"
	case c.source.Unsettled != "":
		d.Note = c.source.Unsettled
	}
	c.found = append(c.found, d)
}

// ignored are objects whose presence follows from the server, not the dump: a
// new database has a schema public and the language plpgsql.
func ignored(o Object) bool {
	return o.ID() == "extension plpgsql" || o.ID() == "comment on extension plpgsql"
}

// advisory are fields that a dump does not restore: it asks for an extension,
// and the server has it in some version.
func advisory(o Object, field string) bool {
	return o.Kind == "extension" && field == "version"
}

// worded are fields that the server words from what it has parsed.
func worded(o Object, field string) bool {
	switch field {
	case "definition", "default", "generated", "partition by", "partition for", "using", "with check", "where", "expressions":
		return true
	case "rights":
		return true // privileges are added with versions
	}
	return false
}

// canonical is a field's text, in the form in which it is compared.
func (o Object) canonical(field string) string {
	text, ok := o.Fields[field]
	if !ok || field == "rights" || !worded(o, field) {
		return text
	}
	return Canonical(text)
}
