package schema

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestCanonical(t *testing.T) {
	t.Parallel()
	equal := [][2]string{
		{"((status)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[]))", "((status)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text]))"},
		{"((ip)::inet = ANY ((ARRAY[('1.2.3.4'::cidr), x])::inet[]))", "((ip)::inet = ANY (ARRAY[(('1.2.3.4'::cidr))::inet, (x)::inet]))"},
		{"(ARRAY[ARRAY[a, b], ARRAY[c, d]])::numeric(10,2)[]", "ARRAY[ARRAY[(a)::numeric(10,2), (b)::numeric(10,2)], ARRAY[(c)::numeric(10,2), (d)::numeric(10,2)]]"},
		{`(ARRAY[a])::public."My Type"[]`, `ARRAY[(a)::public."My Type"]`},
		{"(((a > 1) AND (b > 2)) AND (c > 3))", "((a > 1) AND (b > 2) AND (c > 3))"},
		{"((a > 1) OR ((b > 2) OR (c > 3)))", "((a > 1) OR (b > 2) OR (c > 3))"},
		{"SELECT a\n   FROM b", "SELECT a FROM b"},
	}
	for _, e := range equal {
		if a, b := Canonical(e[0]), Canonical(e[1]); a != b {
			t.Errorf("not equal:\n  %s\n  %s", a, b)
		}
	}
	different := [][2]string{
		{"((a AND b) OR c)", "(a AND (b OR c))"},
		{"((a OR b) AND c)", "(a OR b AND c)"},
		{"(NOT (a AND b) AND c)", "(NOT a AND b AND c)"},
		{"(ARRAY[]::text[])", "(ARRAY[]::integer[])"},
		{"(ARRAY['a'])::text[]", "(ARRAY['a'])::varchar[]"},
		{"(ARRAY['a', 'b'])::text[]", "(ARRAY['a'])::text[]"},
		{"x = ANY ((SELECT a))", "x = ANY (SELECT a)"},
		{"'a  b'", "'a b'"},
		{"'(ARRAY[a])::text[]'", "'ARRAY[(a)::text]'"},
		{`E'\'  )'`, `E'\' )'`},
		{`"a  b"`, `"a b"`},
		{"(a)::text[]", "(a)::text"},
		{"(a < b)", "(a <= b)"},
		{"$x$ a  b $x$", "$x$ a b $x$"},
	}
	for _, d := range different {
		if Canonical(d[0]) == Canonical(d[1]) {
			t.Errorf("equal: %s and %s", d[0], d[1])
		}
	}
	for _, broken := range []string{"", "(", ")", "a)b]c", "'", `"`, "E'", "$a$", "::", "::[]", "ARRAY[", "ARRAY[]", "(ARRAY[a])::", "(ARRAY[a])::[]", ",", "(,)", "AND", "(a AND)"} {
		Canonical(broken) // must end
	}
}

func FuzzCanonical(f *testing.F) {
	f.Add("((status)::text = ANY ((ARRAY['a'::character varying])::text[]))")
	f.Add("(((a AND b) AND c) OR $1 = E'\\'' )")
	f.Fuzz(func(t *testing.T, s string) {
		if Canonical(s) != Canonical("\n"+s+"\t") && tokenize(s)[len(tokenize(s))-1] == tokenize("\n" + s + "\t")[len(tokenize(s))-1] {
			t.Errorf("%q: space around it changes it", s)
		}
	})
}

func schemaOf(objects ...Object) *Schema {
	s := &Schema{Version: Version, Server: 150014, Objects: objects}
	s.sort()
	return s
}

func lines(found []Difference) []string {
	var out []string
	for _, d := range found {
		out = append(out, d.String())
	}
	return out
}

// TestSettle: what moved while the dump ran is a note, all else is real.
func TestSettle(t *testing.T) {
	t.Parallel()
	column := func(name, typ string) Object {
		return Object{Kind: "column", Name: "public.a." + name, Of: "public.a", Fields: map[string]string{"type": typ}}
	}
	table := Object{Kind: "table", Name: "public.a"}
	before := schemaOf(table, column("x", "integer"), column("y", "text"), column("gone", "text"))
	after := schemaOf(table, column("x", "bigint"), column("y", "text"), column("new", "text"))
	restored := schemaOf(table, column("x", "bigint"), column("y", "jsonb"), column("new", "text"))
	got := lines(Compare(Settle(before, after, ""), restored))
	want := []string{
		"column public.a.gone is missing (it was changed while the dump ran)",
		"column public.a.x: type is bigint, was integer (it was changed while the dump ran)",
		"column public.a.y: type is jsonb, was text",
		"column public.a.new is not in the source (it was changed while the dump ran)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if n := len(Real(Compare(Settle(before, nil, "the connection broke"), restored))); n != 0 {
		t.Errorf("%d real differences of a schema that nobody saw twice", n)
	}
	if s := Settle(before, before, ""); len(s.Moved) != 0 || len(Real(Compare(s, restored))) != 4 {
		t.Errorf("moved %q", s.Moved)
	}
}

// TestMajors: wording between majors is a note, facts are not.
func TestMajors(t *testing.T) {
	t.Parallel()
	view := func(sql string) Object {
		return Object{Kind: "view", Name: "public.v", Fields: map[string]string{"definition": sql, "owner": "o"}}
	}
	source, restored := schemaOf(view("SELECT a.x FROM a"), Object{Kind: "table", Name: "public.a"}), schemaOf(view("SELECT x FROM a"))
	restored.Server = 160003
	got := lines(Compare(source, restored))
	want := []string{"table public.a is missing", "view public.v: definition is SELECT x FROM a, was SELECT a.x FROM a (PostgreSQL 15 and 16 may word it differently)"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// TestMissingTable: what belongs to it is not told again.
func TestMissingTable(t *testing.T) {
	t.Parallel()
	source := schemaOf(Object{Kind: "table", Name: "public.a"}, Object{Kind: "column", Name: "public.a.x", Of: "public.a"}, Object{Kind: "index", Name: "public.i", Of: "public.a"})
	if got := lines(Compare(source, schemaOf())); !slices.Equal(got, []string{"table public.a is missing"}) {
		t.Errorf("got %q", got)
	}
	if got := lines(Compare(schemaOf(), source)); !slices.Equal(got, []string{"table public.a is not in the source"}) {
		t.Errorf("got %q", got)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	newer := schemaOf()
	newer.Version = Version + 1
	data, err := newer.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for what, d := range map[string][]byte{"nothing": nil, "no gzip": []byte("{}"), "newer": data, "cut": data[:len(data)-3]} {
		if _, err := Decode(d); err == nil {
			t.Errorf("%s is accepted", what)
		}
	}
}

// TestDecodeBomb: what expands further than any schema is refused before it has,
// and so is a list of nothing.
func TestDecodeBomb(t *testing.T) {
	zip := func(parts ...string) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		for _, p := range parts {
			_, _ = io.WriteString(z, p)
		}
		_ = z.Close()
		return b.Bytes()
	}
	for name, data := range map[string][]byte{
		"blanks":      zip(`{"schema_version":1,"objects":[`, strings.Repeat(" ", 64<<20), "]}"),
		"nothings":    zip(`{"schema_version":1,"objects":[{},{}]}`),
		"null":        zip(`{"schema_version":1,"objects":[null]}`),
		"many fields": zip(`{"schema_version":1,"objects":[{"k":"a","n":"b","f":{`, strings.Repeat(`"":"",`, 8<<20), `"":""}}]}`),
	} {
		if s, err := Decode(data); !errors.Is(err, ErrBadSchema) {
			t.Errorf("%s: %v, %v", name, s != nil, err)
		}
	}
	good := &Schema{Version: Version, Objects: []Object{{Kind: "table", Name: "public.t"}}}
	for i := range 50_000 {
		good.Objects = append(good.Objects, Object{Kind: "column", Name: fmt.Sprintf("public.t_%d.a", i), Of: fmt.Sprintf("public.t_%d", i), Fields: map[string]string{"type": "integer"}})
	}
	data, err := good.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(data)
	if err != nil || len(back.Objects) != len(good.Objects) {
		t.Errorf("many partitions: %v", err)
	}
}
