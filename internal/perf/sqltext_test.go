package perf

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNormalise(t *testing.T) {
	for sql, want := range map[string]string{
		"SELECT  *\n\tFROM a -- why\nWHERE x = 'it''s secret' AND y = 12.5": "SELECT * FROM a WHERE x = ? AND y = ?",
		"SELECT /* a /* b */ c */ 1":                                        "SELECT ?",
		"ALTER ROLE x PASSWORD E'it\\'s'":                                   "ALTER ROLE x PASSWORD ?",
		"SELECT $$body 'x'$$, $tag$ y $tag$":                                "SELECT ?, ?",
		"SELECT * FROM t WHERE id IN ($1, $2, $3, $4, 5)":                   "SELECT * FROM t WHERE id IN ($1, $2, $3, ...)",
		`SELECT "Id" FROM "My Table"`:                                       `SELECT "Id" FROM "My Table"`,
		"SELECT 'open":                                                      "SELECT ?",
		"":                                                                  "",
	} {
		if got := Normalise(sql); got != want {
			t.Errorf("%q becomes %q, want %q", sql, got, want)
		}
	}
}

func TestQueriesAndOurs(t *testing.T) {
	for sql, want := range map[string]bool{
		"SELECT 1": true, "  (select 1)": true, "WITH x AS (SELECT 1) DELETE FROM y": true, "/* c */ update t set a=1": true,
		"VACUUM": false, "BEGIN": false, "COPY t TO STDOUT": false, "CREATE TABLE x AS SELECT 1": false, "": false, "SET a = 1": false,
	} {
		if got := queries(sql); got != want {
			t.Errorf("%q: %v", sql, got)
		}
	}
	if !ours("SELECT "+stamp+" 1") || ours("SELECT 1") {
		t.Error("our own statements are not known")
	}
}

func TestFilters(t *testing.T) {
	type f = filter
	for _, tt := range []struct {
		sql  string
		want []f
	}{
		{"SELECT * FROM events WHERE trade_id = $1 AND created_at > $2 ORDER BY id LIMIT 5",
			[]f{{table: "events", aliasName: "events", equal: []string{"trade_id"}, ranged: []string{"created_at"}}}},
		{`SELECT t.id FROM public.trades AS t JOIN "Events" e ON e.trade_id = t.id WHERE t.seller = $1 AND e.kind IN ($2, $3)`,
			[]f{{table: "trades", schema: "public", aliasName: "t", equal: []string{"seller"}}, {table: "Events", aliasName: "e", equal: []string{"trade_id", "kind"}}}},
		{"UPDATE trades SET status = $1 WHERE seller = $2", []f{{table: "trades", aliasName: "trades", equal: []string{"seller"}}}},
		{"DELETE FROM events WHERE created_at < now() - interval '1 day'", []f{{table: "events", aliasName: "events", ranged: []string{"created_at"}}}},
		{"SELECT * FROM a, b WHERE a.x = $1 AND b.y BETWEEN $2 AND $3",
			[]f{{table: "a", aliasName: "a", equal: []string{"x"}}, {table: "b", aliasName: "b", ranged: []string{"y"}}}},
		{"SELECT * FROM events WHERE id = ANY($1)", []f{{table: "events", aliasName: "events", equal: []string{"id"}}}},
		{"SELECT * FROM generate_series($1, $2) g WHERE g = $3", nil},
		{"SELECT 1", nil},
		{"SELECT x FROM t WHERE a <> $1 AND b IS NULL AND c LIKE $2", []f{{table: "t", aliasName: "t"}}},
	} {
		got := filters(tt.sql)
		if len(got) == 0 {
			got = nil
		}
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(filter{})); diff != "" {
			t.Errorf("%s: %s", tt.sql, diff)
		}
	}
}

// FuzzTokens: whatever a server records must not stop the analysis.
func FuzzTokens(f *testing.F) {
	for _, s := range []string{"SELECT 'a", "$", "$$", "/*", "\"", "e'\\", "SELECT * FROM a WHERE b = ", "\xff", "a."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		if strings.Contains(Normalise(sql), "\n") && !strings.Contains(sql, "\"") {
			t.Errorf("more than one line: %q", Normalise(sql))
		}
		filters(sql)
		queries(sql)
	})
}
