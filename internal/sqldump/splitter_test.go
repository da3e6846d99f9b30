package sqldump

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

const head = `--
-- PostgreSQL database dump
--

\restrict abc

-- Dumped from database version 15.8 (Debian 15.8-1)
-- Dumped by pg_dump version 15.9

SET statement_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
`

const tailBlock = `
--
-- PostgreSQL database dump complete
--

\unrestrict abc

`

// awkward is a dump with each thing that has ever fooled a line-based reader.
const awkward = head + `
CREATE FUNCTION public.f() RETURNS void
    LANGUAGE plpgsql AS $_$
BEGIN
  EXECUTE 'COPY x FROM stdin;';
COPY x FROM stdin;
\.
  -- ' " $$ /*
END;
$_$;
CREATE FUNCTION public.g(a integer) RETURNS integer LANGUAGE sql
    BEGIN ATOMIC
 SELECT CASE WHEN (a > 0) THEN 1 ELSE 0 END;
 SELECT 2;
END;
COMMENT ON TABLE public.t IS 'a;
COPY y FROM stdin;
\.
-- PostgreSQL database dump complete
';
COMMENT ON TABLE public.t IS E'it''s \' here; ' 'COPY z FROM stdin;';
/* block /* nested ; */ COPY q FROM stdin; */
CREATE TABLE public."we;ird
name" (a text, "b""c" text);
--
-- Data for Name: x; Type: INDEX; Schema: public; Owner: -
--

COPY public."we;ird
name" (a, "b""c") FROM stdin;
a	\\.
\N	é
\.


COPY public.notes (body) FROM stdin;
--
-- PostgreSQL database dump complete
--
COPY x FROM stdin;
\.


COPY public.empty (id) FROM stdin;
\.


COPY public.zero  FROM stdin;



\.


SELECT pg_catalog.setval('public.s', 3, true);
BEGIN;

SELECT pg_catalog.lo_open('16385', 131072);
SELECT pg_catalog.lowrite(0, '\x3b0a27');
SELECT pg_catalog.lo_close(0);

COMMIT;

ALTER TABLE ONLY public.t
    ADD CONSTRAINT t_pkey PRIMARY KEY (id);
` + tailBlock

func splitAll(t *testing.T, r io.Reader, size int) ([]Piece, Info, error) {
	t.Helper()
	sp := NewSplitter(r, size)
	var out []Piece
	for {
		p, err := sp.Next()
		if errors.Is(err, io.EOF) {
			return out, sp.Info(), nil
		}
		if err != nil {
			return out, sp.Info(), err
		}
		cp := *p
		cp.SQL = bytes.Clone(p.SQL)
		out = append(out, cp)
		sp.Recycle(p)
	}
}

func join(pieces []Piece) string {
	var b strings.Builder
	for _, p := range pieces {
		b.Write(p.SQL)
	}
	return b.String()
}

// equivalent fails unless the pieces are the text again and count its rows.
func equivalent(t *testing.T, text string, pieces []Piece) {
	t.Helper()
	want, err := naive(text)
	if err != nil {
		t.Fatalf("the checker cannot read what the splitter accepted: %v\n%q", err, text)
	}
	got, err := naive(join(pieces))
	if err != nil {
		t.Fatalf("the pieces are not readable: %v\n%q", err, join(pieces))
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(unit{})); diff != "" {
		t.Fatalf("not equivalent (-dump +pieces):\n%s", diff)
	}
	rows, counted := int64(0), int64(0)
	for _, u := range want {
		rows += int64(len(u.rows))
	}
	for _, p := range pieces {
		counted += p.Rows
		own, err := naive(string(p.SQL))
		if err != nil {
			t.Fatalf("a piece is not whole statements: %q", p.SQL)
		}
		if n := int64(strings.Count(string(p.SQL), "\n")); n != p.Lines {
			t.Fatalf("a piece of %d lines counts %d", n, p.Lines)
		}
		if p.Table != "" && (len(own) != 1 || int64(len(own[0].rows)) != p.Rows) {
			t.Fatalf("a piece of %s counts %d rows: %q", p.Table, p.Rows, p.SQL)
		}
	}
	if rows != counted {
		t.Fatalf("%d rows counted, the dump has %d", counted, rows)
	}
}

func TestSplitterAwkward(t *testing.T) {
	for _, size := range []int{1, 20, 64, 200, 1 << 20} {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "halves": iotest.HalfReader,
			"eof": iotest.DataErrReader,
		} {
			t.Run(fmt.Sprint(size, name), func(t *testing.T) {
				pieces, info, err := splitAll(t, wrap(strings.NewReader(awkward)), size)
				if err != nil {
					t.Fatal(err)
				}
				equivalent(t, awkward, pieces)
				if !info.Complete || info.ServerVersion != "15.8 (Debian 15.8-1)" || info.DumpVersion != "15.9" || info.Encoding != "UTF8" {
					t.Errorf("info: %+v", info)
				}
				rows, sections := map[string]int64{}, ""
				for _, p := range pieces {
					if p.Table != "" {
						rows[p.Table] += p.Rows
					}
					if s := " " + string(p.Section); !strings.HasSuffix(sections, s) {
						sections += s
					}
				}
				want := map[string]int64{"public.\"we;ird\nname\"": 2, "public.notes": 4, "public.empty": 0, "public.zero": 3}
				if diff := cmp.Diff(want, rows); diff != "" {
					t.Error(diff)
				}
				if sections != " pre-data data post-data" {
					t.Errorf("sections:%s", sections)
				}
			})
		}
	}
}

func TestSplitterTruncated(t *testing.T) {
	complete := strings.LastIndex(awkward, "--\n\n\\unrestrict") + len("--\n")
	for n := range len(awkward) {
		_, info, err := splitAll(t, strings.NewReader(awkward[:n]), 64)
		if n < complete-1 && err == nil && info.Complete {
			t.Fatalf("cut at %d of %d it passes as complete: ...%q", n, len(awkward), awkward[max(0, n-60):n])
		}
		if err != nil && !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrNotDump) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	_, _, err := splitAll(t, strings.NewReader(head+"COPY public.t (a) FROM stdin;\n1\n2\n"), 0)
	if !errors.Is(err, ErrTruncated) || !strings.Contains(err.Error(), "public.t") || !strings.Contains(err.Error(), "row 2") {
		t.Errorf("got %v", err)
	}
}

func TestSplitterEndMark(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want bool
	}{
		"whole":               {head + tailBlock, true},
		"without unrestrict":  {head + "--\n-- PostgreSQL database dump complete\n--\n\n", true},
		"mark alone":          {head + "-- PostgreSQL database dump complete\n", false},
		"no closing rule":     {head + "--\n-- PostgreSQL database dump complete\n", false},
		"statement behind":    {head + tailBlock + "SELECT 1;\n", false},
		"comment behind":      {head + tailBlock + "-- more\n", false},
		"meta-command behind": {head + tailBlock + "\\! id\n", false},
		"none":                {head, false},
	} {
		_, info, err := splitAll(t, strings.NewReader(tc.text), 0)
		if err != nil || info.Complete != tc.want {
			t.Errorf("%s: complete %v, error %v", name, info.Complete, err)
		}
	}
}

// TestSplitterConstantMemory feeds a long COPY block and looks at what is kept.
func TestSplitterConstantMemory(t *testing.T) {
	row := strings.Repeat("x", 99) + "\n"
	r := io.MultiReader(strings.NewReader(head+"COPY public.t (a) FROM stdin;\n"), &repeat{text: row, n: 2_000_000},
		strings.NewReader("\\.\n"+tailBlock))
	sp := NewSplitter(r, 1<<20)
	var rows int64
	for {
		p, err := sp.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		rows += p.Rows
		if cap(p.SQL) > 2<<20 {
			t.Fatalf("a piece of %d bytes", cap(p.SQL))
		}
		sp.Recycle(p)
	}
	if rows != 2_000_000 {
		t.Errorf("%d rows", rows)
	}
}

type repeat struct {
	text string
	n    int
	rest string
}

func (r *repeat) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if r.rest == "" {
			if r.n == 0 {
				break
			}
			r.n--
			r.rest = r.text
		}
		k := copy(p[n:], r.rest)
		r.rest = r.rest[k:]
		n += k
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func FuzzSplitter(f *testing.F) {
	f.Add(awkward, uint16(64), uint64(1))
	f.Add(head+tailBlock, uint16(1), uint64(2))
	f.Add("COPY t (a) FROM stdin;\n\\.\n", uint16(3), uint64(3))
	f.Add("SELECT $a$ ; $b$ $a$; SELECT E'\\'' ';' ;", uint16(3), uint64(3))
	f.Add("SELECT E'a' -- a comment\n '\\'; SELECT 1;';", uint16(9), uint64(3))
	f.Add("SELECT E'a' '\\';", uint16(9), uint64(3))
	f.Add("SELECT E'a' /* a comment */\n '\\';", uint16(9), uint64(3))
	f.Add("CREATE FUNCTION f() BEGIN ATOMIC SELECT 1; CASE END; END;", uint16(9), uint64(3))
	f.Fuzz(func(t *testing.T, text string, size uint16, seed uint64) {
		if strings.Contains(text, "standard_conforming_strings = off") {
			return // the checker reads only the modern way
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		pieces, _, err := splitAll(t, &ragged{r: strings.NewReader(text), rng: rng}, int(size)+1)
		if err != nil {
			return
		}
		equivalent(t, text, pieces)
	})
}

// ragged reads in pieces of random length.
type ragged struct {
	r   io.Reader
	rng *rand.Rand
}

func (r *ragged) Read(p []byte) (int, error) {
	return r.r.Read(p[:1+r.rng.IntN(min(len(p), 40))])
}

// FuzzGenerated makes dumps that are valid by construction, so that none may
// be refused.
func FuzzGenerated(f *testing.F) {
	f.Add(uint64(1), uint16(50))
	f.Add(uint64(99), uint16(5000))
	f.Fuzz(func(t *testing.T, seed uint64, size uint16) {
		rng := rand.New(rand.NewPCG(seed, 1))
		text, rows := generate(rng)
		pieces, info, err := splitAll(t, &ragged{r: strings.NewReader(text), rng: rng}, int(size)+1)
		if err != nil || !info.Complete {
			t.Fatalf("complete %v, error %v:\n%s", info.Complete, err, text)
		}
		equivalent(t, text, pieces)
		got := map[string]int64{}
		for _, p := range pieces {
			if p.Table != "" {
				got[p.Table] += p.Rows
			}
		}
		if diff := cmp.Diff(rows, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// generate writes a random dump and says how many rows each table has.
func generate(rng *rand.Rand) (string, map[string]int64) {
	rows := map[string]int64{}
	var b strings.Builder
	b.WriteString(head)
	pick := func(s ...string) string { return s[rng.IntN(len(s))] }
	for range rng.IntN(6) {
		b.WriteString(pick("CREATE TABLE t (a int);\n", "SELECT ';', \";\", $x$;\nCOPY a FROM stdin;\n$x$;\n",
			"--\n-- Name: f; Type: TABLE DATA\n--\n\n", "COMMENT ON x IS E'\\';\\\\';\n", "/* ; /* ; */ */ SELECT (1;2);\n",
			"CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE 1 WHEN 1 THEN 2 END; END;\n"))
	}
	for i := range rng.IntN(8) {
		table := fmt.Sprintf("public.%s%d", pick("t", "\"A;b", "\"n\nl"), i)
		if strings.Contains(table, `"`) {
			table += `"`
		}
		fmt.Fprintf(&b, "\n--\n-- Data\n--\n\nCOPY %s (a, \"b from stdin;\") FROM stdin;\n", table)
		n := rng.IntN(40)
		rows[table] = int64(n)
		for range n {
			b.WriteString(strings.Repeat(pick("x", `\\.`, `\N`, "é", "", "--", ";"), rng.IntN(5)) + "\t" + pick("1", `\N`, `a\\.`, `\n\\.`) + "\n")
		}
		b.WriteString("\\.\n\n")
	}
	for range rng.IntN(4) {
		b.WriteString(pick("SELECT pg_catalog.setval('s', 1, true);\n", "BEGIN;\nSELECT pg_catalog.lo_open('1', 2);\nCOMMIT;\n"))
	}
	for range rng.IntN(4) {
		b.WriteString(pick("CREATE INDEX i ON t USING btree (a);\n", "ALTER TABLE ONLY t\n    ADD CONSTRAINT c CHECK ((a > 0));\n"))
	}
	b.WriteString(tailBlock)
	return b.String(), rows
}

// TestWriteGunzip proves with gunzip itself that what Write makes is one valid
// gzip file with equivalent SQL, and checks the index against it.
func TestWriteGunzip(t *testing.T) {
	for _, codec := range []Codec{Gzip, Zstd} {
		t.Run(string(codec), func(t *testing.T) {
			var file bytes.Buffer
			index, err := Write(context.Background(), &file, strings.NewReader(awkward), Options{Codec: codec, MemberSize: 64, Jobs: 3})
			if err != nil {
				t.Fatal(err)
			}
			if err := index.Validate(); err != nil {
				t.Fatal(err)
			}
			tool := map[Codec]string{Gzip: "gunzip", Zstd: "unzstd"}[codec]
			if _, err := exec.LookPath(tool); err != nil {
				t.Skipf("SKIPPED: %s is not installed", tool)
			}
			path := filepath.Join(t.TempDir(), "d"+codec.Extension())
			if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(tool, "-c", path).Output()
			if err != nil {
				t.Fatal(err)
			}
			equivalent(t, awkward, []Piece{{SQL: out, Rows: index.Rows, Lines: int64(bytes.Count(out, []byte{'\n'}))}})
			if int64(len(out)) != index.SQLSize || int64(file.Len()) != index.Size {
				t.Errorf("sizes %d and %d, the index says %d and %d", len(out), file.Len(), index.SQLSize, index.Size)
			}
			faults, err := index.Check(context.Background(), bytesRanger(file.Bytes()), CheckOptions{Deep: true})
			if err != nil || len(faults) > 0 {
				t.Errorf("check: %v %v", faults, err)
			}
			if codec == Gzip && !Marked(file.Bytes()) {
				t.Error("the file does not carry the mark")
			}
		})
	}
}

func bytesRanger(b []byte) Ranger {
	return func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		if n < 0 {
			n = int64(len(b)) - off
		}
		return io.NopCloser(io.NewSectionReader(bytes.NewReader(b), off, n)), nil
	}
}

// TestCheckFindsEveryFlip flips each byte of a file in turn: none may pass,
// whether rows are looked at or their checksums alone.
func TestCheckFindsEveryFlip(t *testing.T) {
	var file bytes.Buffer
	index, err := Write(context.Background(), &file, strings.NewReader(awkward), Options{MemberSize: 300, Jobs: 2})
	if err != nil {
		t.Fatal(err)
	}
	for i := range file.Len() {
		bad := bytes.Clone(file.Bytes())
		bad[i] ^= 1 << (i % 8)
		faults, err := index.Check(context.Background(), bytesRanger(bad), CheckOptions{Jobs: 1, BytesOnly: i%2 == 0})
		if err != nil || len(faults) != 1 {
			t.Fatalf("byte %d flipped: %v %v", i, faults, err)
		}
		f := faults[0]
		if int64(i) < f.Offset || int64(i) >= f.Offset+f.Size {
			t.Fatalf("byte %d flipped, the fault is said to be in %d+%d", i, f.Offset, f.Size)
		}
	}
	for n := range file.Len() {
		faults, err := index.Check(context.Background(), bytesRanger(file.Bytes()[:n]), CheckOptions{Jobs: 1, BytesOnly: n%2 == 0})
		if err != nil || len(faults) == 0 || !errors.Is(faults[len(faults)-1], ErrTruncated) {
			t.Fatalf("cut at %d: %v %v", n, faults, err)
		}
	}
	faults, err := index.Check(context.Background(), bytesRanger(append(bytes.Clone(file.Bytes()), 'x')), CheckOptions{})
	if err != nil || len(faults) != 1 || !errors.Is(faults[0], ErrTrailing) {
		t.Errorf("a byte more: %v %v", faults, err)
	}
}

func TestValidateRefuses(t *testing.T) {
	var file bytes.Buffer
	good, err := Write(context.Background(), &file, strings.NewReader(awkward), Options{MemberSize: 64})
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Index){
		"gap":             func(x *Index) { x.Members[1].Offset++ },
		"huge size":       func(x *Index) { x.Members[0].SQLSize = 1 << 60 },
		"negative size":   func(x *Index) { x.Members[0].Size = -1 },
		"bomb":            func(x *Index) { x.Members[0].SQLSize = x.Members[0].Size * 5000 },
		"rows":            func(x *Index) { x.Tables[0].Rows++ },
		"sum":             func(x *Index) { x.Rows++ },
		"section":         func(x *Index) { x.Members[0].Section = PostData },
		"unknown section": func(x *Index) { x.Members[0].Section = "x" },
		"codec":           func(x *Index) { x.Codec = "lzma" },
		"table":           func(x *Index) { x.Tables = x.Tables[1:] },
		"no checksum":     func(x *Index) { x.Members[0].SHA256 = "" },
	} {
		bad := *good
		bad.Members = append([]Member(nil), good.Members...)
		bad.Tables = append([]Table(nil), good.Tables...)
		spoil(&bad)
		if err := bad.Validate(); !errors.Is(err, ErrBadIndex) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestClaimedSize: an index of the right form that claims what no file has costs
// nothing, and is told as a file that ends early.
func TestClaimedSize(t *testing.T) {
	var file bytes.Buffer
	x, err := Write(context.Background(), &file, strings.NewReader(awkward), Options{MemberSize: 300, Codec: Zstd})
	if err != nil {
		t.Fatal(err)
	}
	const huge = maxStatement
	last := &x.Members[len(x.Members)-1]
	x.Size, x.SQLSize = x.Size+huge-last.Size, x.SQLSize+huge-last.SQLSize
	last.Size, last.SQLSize = huge, huge
	if err := x.Validate(); err != nil {
		t.Fatal(err)
	}
	faults, err := x.Check(t.Context(), bytesRanger(file.Bytes()), CheckOptions{})
	if err != nil || len(faults) != 1 || !errors.Is(faults[0], ErrTruncated) {
		t.Errorf("%v %v", faults, err)
	}
}

// TestFetch: a member beyond what is trusted is read whole all the same.
func TestFetch(t *testing.T) {
	for _, size := range []int64{0, 1, trusted, trusted + 1, 3*trusted + 7} {
		for _, missing := range []int64{0, 1} {
			r := io.LimitReader(&repeat{text: "0123456789abcdef", n: 1 << 30}, size-missing)
			data, err := fetch(r, new(sync.Pool), size)
			if size == 0 {
				continue
			}
			if int64(len(data)) != size-missing || (err == nil) != (missing == 0) {
				t.Errorf("%d of %d bytes, %v", len(data), size-missing, err)
			}
			if n := len(data); n > 16 && string(data[n-n%16-16:n-n%16]) != "0123456789abcdef" {
				t.Errorf("%q", data[n-n%16-16:n-n%16])
			}
		}
	}
}

// TestEmptyMembers: what is no member or table is refused as it is read.
func TestEmptyMembers(t *testing.T) {
	for _, text := range []string{`{"members":[{}]}`, `{"members":[null]}`, `{"members":[0]}`, `{"members":[[]]}`, `{"tables":[{}]}`, `{"tables":[null]}`, `{"tables":["x"]}`} {
		var x Index
		if err := json.Unmarshal([]byte(text), &x); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

func TestParseName(t *testing.T) {
	for in, want := range map[string]Name{
		"public.trades":        {"public", "trades"},
		`"Mixed Case"."a""b"`:  {"Mixed Case", `a"b`},
		"trades":               {"", "trades"},
		`Public.Trades`:        {"public", "trades"},
		"public.\"new\nline\"": {"public", "new\nline"},
	} {
		if got, err := ParseName(in); err != nil || got != want {
			t.Errorf("%q: %+v %v", in, got, err)
		}
	}
	for _, in := range []string{"", "a.b.c", `"a`, "a b", "a."} {
		if got, err := ParseName(in); err == nil {
			t.Errorf("%q: %+v", in, got)
		}
	}
}
