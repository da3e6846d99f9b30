package perf

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
)

// TestBloatAgainstPgstattuple makes tables of several shapes with several
// amounts of bloat, and holds the estimate against what pgstattuple reads.
func TestBloatAgainstPgstattuple(t *testing.T) {
	t.Parallel()
	pg := statsServer(t)
	pg.CreateDB(t, "bloat")
	shapes := map[string]struct{ columns, row string }{
		"fixed":   {"a bigint, b int, c bigint", "g, g, g"},
		"padded":  {"a bool, b bigint, c bool, d bigint, e bool, f bigint", "true, g, false, g, true, g"},
		"texts":   {"id int, a text, b text, c bigint", "g, 'n' || g % 1000, md5(g::text) || repeat('x', g % 40), g"},
		"wide":    {"id bigint, payload text, at timestamptz", "g, repeat(md5(g::text), 10), now()"},
		"nulls":   {"id int, a text, b bigint, c uuid", "g, CASE WHEN g % 3 = 0 THEN 'value-' || g END, CASE WHEN g % 2 = 0 THEN g END, md5(g::text)::uuid"},
		"numbers": {"id uuid, amount numeric, rate float8, kind smallint, at timestamptz", "md5(g::text)::uuid, g * 1.5, g, g % 9, now()"},
	}
	var b strings.Builder
	b.WriteString("CREATE EXTENSION pgstattuple;\n")
	for name, s := range shapes {
		for _, keep := range []int{100, 65, 30} {
			table := fmt.Sprintf("%s_%d", name, keep)
			fmt.Fprintf(&b, "CREATE TABLE %s (%s); INSERT INTO %s SELECT %s FROM generate_series(1, 30000) g;\n", table, s.columns, table, s.row)
			fmt.Fprintf(&b, "DELETE FROM %s WHERE ctid IN (SELECT ctid FROM (SELECT ctid, row_number() OVER () %% 100 AS n FROM %s) x WHERE n >= %d);\n", table, table, keep)
		}
	}
	b.WriteString("CREATE TABLE filled (a bigint, b text) WITH (fillfactor = 70); INSERT INTO filled SELECT g, md5(g::text) FROM generate_series(1, 30000) g;\n")
	b.WriteString("SELECT pg_stat_force_next_flush(); VACUUM (ANALYZE);")
	pg.Psql(t, "bloat", b.String())
	db := look(t, connect(t, pg.URL("bloat")), 0).Database
	worst := 0.0
	for _, table := range db.Tables {
		if table.BloatBytes == nil {
			t.Errorf("%s: no estimate", table.Name)
			continue
		}
		got := float64(*table.BloatBytes) / float64(table.HeapBytes)
		real := measured(t, pg.Psql(t, "bloat", fmt.Sprintf("SELECT table_len, free_space + dead_tuple_len FROM pgstattuple('%s')", table.Name)))
		if table.Name == "filled" {
			real -= 0.3 // what the fill factor keeps free is meant to be
		}
		off := math.Abs(got - real)
		worst = math.Max(worst, off)
		t.Logf("%-12s estimated %5.1f %%, pgstattuple %5.1f %%", table.Name, 100*got, 100*real)
		if off > 0.10 || real > 0.2 && off > 0.10*real {
			t.Errorf("%s: estimated %.1f %%, pgstattuple %.1f %%", table.Name, 100*got, 100*real)
		}
	}
	if len(db.Tables) != 3*len(shapes)+1 {
		t.Errorf("%d tables", len(db.Tables))
	}
	t.Logf("off by %.1f points at most", 100*worst)
}

func measured(t *testing.T, line string) float64 {
	t.Helper()
	whole, free, _ := strings.Cut(line, "|")
	w, err1 := strconv.ParseFloat(whole, 64)
	f, err2 := strconv.ParseFloat(free, 64)
	if err1 != nil || err2 != nil {
		t.Fatalf("pgstattuple: %q", line)
	}
	return f / w
}

// TestOffsets holds the walk over the columns against what the C compiler's
// rules give.
func TestOffsets(t *testing.T) {
	fixed := func(length int, align string) Column { return Column{Length: length, Align: align} }
	text := func(width float64) Column { return Column{Length: -1, Align: "i", Width: &width} }
	for _, tt := range []struct {
		name string
		cols []Column
		want float64
	}{
		{"nothing", nil, 0},
		{"no padding", []Column{fixed(8, "d"), fixed(4, "i")}, 16},
		{"padding", []Column{fixed(1, "c"), fixed(8, "d"), fixed(1, "c")}, 24},
		{"small ones together", []Column{fixed(1, "c"), fixed(1, "c"), fixed(2, "s"), fixed(4, "i")}, 8},
		{"a short text is not aligned", []Column{fixed(4, "i"), text(12)}, 16 + 3.5},
		{"after a text", []Column{text(10), fixed(8, "d")}, 10 + 3.5 + 8},
		{"a long text is", []Column{fixed(1, "c"), text(200)}, 4 + 200 + 3.5},
		{"known again", []Column{text(10), fixed(4, "i"), fixed(4, "i")}, 10 + 1.5 + 8 + 2},
	} {
		o, _, ok := rowWidth(tt.cols)
		o.pad(maxAlign)
		if !ok || o.at != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, o.at, tt.want)
		}
	}
	if _, _, ok := rowWidth([]Column{{Length: -1}}); ok {
		t.Error("an estimate from nothing")
	}
}
