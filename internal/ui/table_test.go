package ui

import (
	"bytes"
	"strings"
	"testing"
)

func render(t *testing.T, s *IO, table *Table) string {
	t.Helper()
	var b bytes.Buffer
	if err := table.Write(s, &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTableAligns(t *testing.T) {
	table := NewTable("NAME", "ROWS", "NOTE")
	table.Right[1] = true
	table.Row("trades", "12,345", "")
	table.Row("表", "7", "wide")
	table.Row("e\u0301", "1", "combining")
	table.Row("\x1b[31mx", "0")
	want := strings.Join([]string{
		"NAME           ROWS  NOTE",
		"trades       12,345",
		"表                7  wide",
		"e\u0301                 1  combining",
		`\u001b[31mx       0`,
		"",
	}, "\n")
	if got := render(t, &IO{}, table); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTableFitsTheTerminal(t *testing.T) {
	long := strings.Repeat("0123456789", 9)
	for _, width := range []int{0, 60, 80, 120, 320} {
		table := NewTable("KEY", "SIZE", "VALUE")
		table.Right[1] = true
		table.Row("s3.bucket", "123456789012345678901234", long)
		table.Row(strings.Repeat("表", 30), "1", "short")
		got := render(t, &IO{OutTTY: true, Width: width}, table)
		limit := width
		if width == 0 {
			limit = 80
		}
		for line := range strings.Lines(got) {
			if n := columns(strings.TrimSuffix(line, "\n")); n > limit {
				t.Errorf("width %d: %d columns: %q", width, n, line)
			}
		}
		if !strings.Contains(got, "123456789012345678901234") {
			t.Errorf("width %d: a number was cut:\n%s", width, got)
		}
		if cut := strings.Contains(got, ellipsis); cut != (width < 320) {
			t.Errorf("width %d: cut is %v:\n%s", width, cut, got)
		}
	}
}

func TestTableLeavesNamesWhole(t *testing.T) {
	name := strings.Repeat("name", 10)
	for _, whole := range []bool{true, false} {
		table := NewTable("NAME", "NOTE")
		table.Whole[0] = whole
		table.Row(name, strings.Repeat("note", 9))
		if got := render(t, &IO{OutTTY: true, Width: 60}, table); strings.Contains(got, name) != whole || !strings.Contains(got, ellipsis) {
			t.Errorf("whole %v:\n%s", whole, got)
		}
	}
}

func TestTableOffTerminalCutsNothing(t *testing.T) {
	long := strings.Repeat("0123456789", 9)
	table := NewTable("KEY", "VALUE", "FROM")
	table.Row("s3.bucket", "s3://b", "default")
	table.Row("s3.endpoint", long, "env AWS_ENDPOINT_URL_S3")
	table.Row("s3.region", "", "default")
	got := render(t, &IO{Width: 40}, table)
	lines := strings.Split(got, "\n")
	if want := "s3.endpoint  " + long + "  env AWS_ENDPOINT_URL_S3"; lines[2] != want {
		t.Errorf("got %q, want %q", lines[2], want)
	}
	at := strings.Index(lines[0], "FROM")
	if at != 80-len("env AWS_ENDPOINT_URL_S3") || strings.Index(lines[1], "default") != at || strings.Index(lines[3], "default") != at {
		t.Errorf("the other rows are not aligned for 80 columns:\n%s", got)
	}
}

func TestTableTakesRaggedRows(t *testing.T) {
	table := NewTable("A", "B")
	cells := []string{"1\n2", "3", "4"}
	table.Row(cells...)
	table.Row()
	if got, want := render(t, &IO{}, table), "A      B\n1 | 2  3\n\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if cells[0] != "1\n2" {
		t.Error("Row changed the caller's slice")
	}
}

func TestTableColours(t *testing.T) {
	table := NewTable("STATUS", "CHECK")
	table.Status = 0
	table.Row("CRITICAL", "backup")
	table.Row("ok", "disk")
	got := render(t, &IO{Color: true}, table)
	want := "\x1b[1mSTATUS    CHECK\x1b[0m\n\x1b[31mCRITICAL\x1b[0m  backup\n\x1b[32mok\x1b[0m        disk\n"
	if got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestTruncate(t *testing.T) {
	tests := []struct {
		in    string
		limit int
		want  string
	}{
		{"short", 5, "short"}, {"longer", 5, "long…"}, {"one two", 5, "one…"}, {"表表表", 5, "表表…"}, {"表表表", 4, "表…"}, {"ab", 1, "…"},
	}
	for _, tt := range tests {
		if got := truncate(tt.in, tt.limit); got != tt.want {
			t.Errorf("truncate(%q, %d) = %q, want %q", tt.in, tt.limit, got, tt.want)
		}
	}
}
