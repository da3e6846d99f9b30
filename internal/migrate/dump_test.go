package migrate

import (
	"errors"
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/sqldump"
)

// dump is a dump of two tables in pg_dump's form.
func dump(trades, events string) string {
	return "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\nSET client_encoding = 'UTF8';\n\nCREATE TABLE public.trades (id integer);\n\n" +
		"COPY public.trades (id) FROM stdin;\n" + trades + "\\.\n\n\nCOPY public.events (id) FROM stdin;\n" + events + "\\.\n\n\n" +
		"--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n"
}

func digest(t *testing.T, text string) *Dump {
	t.Helper()
	d, err := Digest(t.Context(), strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestCompare(t *testing.T) {
	for _, tt := range []struct {
		name               string
		before, old, after string
		want               Outcome
		says               string
	}{
		{"the same, in another order", dump("1\n2\n", "1\n"), dump("2\n1\n", "1\n"), dump("1\n2\n", "1\n"), Same, ""},
		{"another token", dump("1\n", "1\n"), strings.ReplaceAll(dump("1\n", "1\n"), "strict abc", "strict xyz"), dump("1\n", "1\n"), Same, ""},
		{"a row twice for another", dump("1\n2\n", "1\n"), dump("1\n1\n", "1\n"), dump("1\n2\n", "1\n"), Differs, "public.trades has 2 rows"},
		{"rows missing", dump("1\n2\n", "1\n"), dump("1\n", "1\n"), dump("1\n2\n", "1\n"), Differs, "1 rows in the script's dump and 2"},
		{"grew meanwhile", dump("1\n", "1\n"), dump("1\n", "1\n2\n"), dump("1\n", "1\n2\n3\n"), Same, "public.events (1, 2, 3 rows)"},
		{"grew, and the script lost rows", dump("1\n", "1\n2\n"), dump("1\n", "1\n"), dump("1\n", "1\n2\n3\n"), Unproven, "2, then 1 in the script's, then 3"},
		{"all moves", dump("1\n", "1\n"), dump("1\n2\n", "1\n2\n"), dump("1\n2\n3\n", "1\n2\n3\n"), Unproven, ""},
		{"the schema", dump("1\n", "1\n"), strings.Replace(dump("1\n", "1\n"), "CREATE TABLE public.trades (id integer);", "", 1), dump("1\n", "1\n"), Differs, "CREATE TABLE public.trades"},
	} {
		c := Compare(digest(t, tt.before), digest(t, tt.old), digest(t, tt.after))
		said := strings.Join(append(append(c.Faults, c.Unsure...), c.Moved...), "\n")
		if c.Outcome != tt.want || !strings.Contains(said, tt.says) {
			t.Errorf("%s: %v, want %v: %s", tt.name, c.Outcome, tt.want, said)
		}
	}
}

func TestDigestOfHalfADump(t *testing.T) {
	whole := dump("1\n2\n", "1\n")
	if _, err := Digest(t.Context(), strings.NewReader(whole[:strings.Index(whole, "--\n-- PostgreSQL database dump complete")])); !errors.Is(err, sqldump.ErrTruncated) {
		t.Errorf("got %v", err)
	}
}
