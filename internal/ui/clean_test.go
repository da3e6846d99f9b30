package ui

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain", "trades: 12 rows", "trades: 12 rows"},
		{"other scripts", "Grüße 表 🙂", "Grüße 表 🙂"},
		{"colour", "\x1b[31mred\x1b[0m", `\u001b[31mred\u001b[0m`},
		{"title of the window", "\x1b]0;gotcha\a", `\u001b]0;gotcha\u0007`},
		{"C1 introducer", "a\u009b31mb", `a\u009b31mb`},
		{"raw C1 byte", "a\x9b31mb", `a\x9b31mb`},
		{"overwriting", "ok\rFAILED\b", `ok\u000dFAILED\u0008`},
		{"direction", "a\u202ecba", `a\u202ecba`},
		{"tag", "a\U000e0041b", `a\U000e0041b`},
		{"lines", "one\ntwo\r\nthree\n\n", "one | two | three"},
		{"separators", "one\u2028two\u2029three", `one\u2028two\u2029three`},
		{"tab", "a\tb", "a b"},
		{"not UTF-8", "caf\xe9", `caf\xe9`},
		{"a real replacement character", "a\ufffdb", "a\ufffdb"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Clean(tt.in); got != tt.want {
				t.Errorf("Clean(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func FuzzClean(f *testing.F) {
	f.Add("\x1b[2J\r\n\x9b\u202e")
	f.Add("a\xffb\n")
	f.Fuzz(func(t *testing.T, in string) {
		got := Clean(in)
		if !utf8.ValidString(got) {
			t.Errorf("Clean(%q) = %q: not UTF-8", in, got)
		}
		if strings.ContainsFunc(got, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }) {
			t.Errorf("Clean(%q) = %q: not clean", in, got)
		}
		if again := Clean(got); again != got {
			t.Errorf("Clean(Clean(%q)) = %q, not %q", in, again, got)
		}
		lines := CleanLines(in)
		if strings.Count(lines, "\n") != strings.Count(in, "\n") || strings.Count(lines, "\t") != strings.Count(in, "\t") || CleanLines(lines) != lines {
			t.Errorf("CleanLines(%q) = %q", in, lines)
		}
		if !clean(strings.NewReplacer("\n", "", "\t", "").Replace(lines)) {
			t.Errorf("CleanLines(%q) = %q: not clean", in, lines)
		}
		if clean(in) && lines != in {
			t.Errorf("CleanLines(%q) = %q: it was clean", in, lines)
		}
	})
}
