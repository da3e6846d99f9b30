package incident

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// soon is when the review of whole.md is not due yet.
var soon = noon.Add(24 * time.Hour)

func whole(t *testing.T) string {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", "whole.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func checked(t *testing.T, text string, now time.Time) Verdict {
	t.Helper()
	doc, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return Check(doc, now, false)
}

// kinds are the findings as "kind/section".
func kinds(v Verdict) []string {
	var out []string
	for _, f := range v.Findings {
		out = append(out, strings.TrimSuffix(f.Kind+"/"+f.Section, "/"))
	}
	return out
}

func TestWhole(t *testing.T) {
	v := checked(t, whole(t), soon)
	if len(v.Findings) > 0 || !v.Whole() || v.Status() != check.OK {
		t.Fatalf("findings: %+v", v.Findings)
	}
	if v.ID != "INC-20260301T120000Z" || v.Priority != runbook.P1 || !v.Start.Equal(noon) || !v.End.Equal(noon.Add(135*time.Minute)) || !v.Due.Equal(v.End.Add(48*time.Hour)) {
		t.Errorf("%+v", v)
	}
	want := []Action{
		{Text: "Alert on pool use", Owner: "Ada", Due: time.Date(2026, 3, 20, 0, 0, 0, 0, time.UTC), When: "2026-03-20", Line: 36},
		{Text: "Load test each release", Owner: "Grace", Due: time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC), When: "2026-04-01", Line: 37, Done: true},
	}
	if !slices.Equal(v.Actions, want) {
		t.Errorf("the actions are %+v", v.Actions)
	}
}

// TestBegunIsNotWhole: of a new document all that people must write is found,
// and nothing else; a word of a machine in its timeline is none of it.
func TestBegunIsNotWhole(t *testing.T) {
	v := checked(t, markdown(t, begun()), noon.Add(4*time.Hour))
	want := []string{
		"placeholder/root-cause", "placeholder/impact", "placeholder/impact", "placeholder/remediation",
		"placeholder/actions", "no-owner/actions", "no-date/actions", "placeholder/detection", "placeholder/runbook",
	}
	if !slices.Equal(kinds(v), want) || v.Status() != check.Warning {
		t.Errorf("%s: got %q\nwant %q", v.Status(), kinds(v), want)
	}
	if v.Whole() {
		t.Error("a document that nobody has touched is whole")
	}
}

// TestHandEdits: the same review as people write it.
func TestHandEdits(t *testing.T) {
	list := func(lines ...string) func(string) string {
		return func(s string) string {
			head, rest, _ := strings.Cut(s, "| action |")
			_, tail, _ := strings.Cut(rest, "\n\n")
			return head + strings.Join(lines, "\n") + "\n\n" + tail
		}
	}
	replace := func(pairs ...string) func(string) string {
		return func(s string) string {
			for i := 0; i < len(pairs); i += 2 {
				if !strings.Contains(s, pairs[i]) {
					panic("nothing to replace: " + pairs[i])
				}
			}
			return strings.NewReplacer(pairs...).Replace(s)
		}
	}
	headings := func(to string) func(string) string {
		return func(s string) string { return regexp.MustCompile(`(?m)^## (.*)$`).ReplaceAllString(s, to) }
	}
	for name, edit := range map[string]func(string) string{
		"CRLF":             func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
		"CR":               func(s string) string { return strings.ReplaceAll(s, "\n", "\r") },
		"BOM":              func(s string) string { return "\xef\xbb\xbf" + s },
		"no final newline": strings.TrimSpace,
		"deeper headings":  headings("#### $1"),
		"first level":      headings("# $1"),
		"numbered, closed": headings("## 3. $1 ##"),
		"upper case": func(s string) string {
			return regexp.MustCompile(`(?m)^## .*$`).ReplaceAllStringFunc(s, strings.ToUpper)
		},
		"setext":             headings("$1\n---"),
		"bold":               headings("**$1**"),
		"emphasis inside":    headings("## **$1**"),
		"short headings":     replace("## Timeline of events (UTC timestamps)", "## Timeline", "## Long-term corrective actions with owners and due dates", "## Action items", "## Detection gap: could monitoring have caught this earlier?", "## Detection"),
		"subheadings":        replace("The pool was", "### Why 1\n\nThe pool was", "- Duration", "### Users\n\n- Duration"),
		"other sections":     func(s string) string { return s + "\n## Lessons\n\nTODO: none of the runbook's.\n" },
		"bars left out":      replace("| Alert on pool use | Ada | 2026-03-20 | open |", "Alert on pool use | Ada | 2026-03-20 | open", "| action | owner | due | status |", "action | owner | due | status"),
		"columns moved":      replace("| action | owner | due | status |", "| Due date | Who | What |", "|---|---|---|---|", "|:--|:-:|---|", "| Alert on pool use | Ada | 2026-03-20 | open |", "| 2026-03-20 | Ada | Alert \\| on pool use |", "| Load test each release | Grace | 2026-04-01 | done |", "| `2026-04-01` | **Grace** | Load test |"),
		"list":               list("- [ ] Alert on pool use (owner: Ada, due: 2026-03-20)", "- [x] Load test, owner: Grace, due 2026-04-01"),
		"nested list":        list("* Alert on pool use", "  - **Owner:** Ada", "  - **Due:** 2026-03-20", "* Load test", "  by 2026-04-01 @grace"),
		"numbered list":      list("1. Alert on pool use; owner = Ada; due = 2026-03-20", "2) ~~Load test~~ @grace 2026-04-01"),
		"no action":          list("None: the release process is replaced as a whole."),
		"fields as list":     replace("| ID | INC-20260301T120000Z |", "- **ID:** INC-20260301T120000Z", "| Priority | P1 |", "- Priority: p1", "| Started | 2026-03-01 12:00:00 UTC |", "Started: 2026-03-01T12:00Z", "| Ended | 2026-03-01 14:15:00 UTC |", "* __Ended__: 2026-03-01 14:15"),
		"timeline as list":   replace("| 2026-03-01 12:00:00 | this review | the incident begins |", "- 12:00 API alert", "| 2026-03-01 12:20:00 | run records | backup: critical: TODO in its log |", "- 2026-03-01 12:20 UTC: 3 alerts", "| time (UTC) | source | event |\n|---|---|---|\n", ""),
		"comments":           replace("The pool was", "<!-- TODO: say more\nTBD -->The pool was"),
		"code":               replace("The pool was", "```\n# TODO in the code\n## Timeline\n```\nSet `TODO` too. The pool was"),
		"words like markers": replace("The pool was", "The xxx.com todo list, YYYY and <html>. The pool was"),
		"due earlier":        replace("| Review due | 2026-03-03 14:15:00 UTC |", "| Review due | 2026-03-02 14:15:00 UTC |"),
		"P3":                 replace("| Priority | P1 |", "| Priority | P3 |", "| Review due | 2026-03-03 14:15:00 UTC |\n", ""),
	} {
		t.Run(name, func(t *testing.T) {
			v := checked(t, edit(whole(t)), soon)
			if len(v.Findings) > 0 || v.ID != "INC-20260301T120000Z" || !v.Start.Equal(noon) {
				t.Errorf("%+v\n%s", v, edit(whole(t)))
			}
			if n := len(v.Actions); n != 2 && name != "no action" || name == "list" && !v.Actions[1].Done {
				t.Errorf("%d actions: %+v", n, v.Actions)
			}
			for _, a := range v.Actions {
				if a.Owner == "" || a.Due.IsZero() || strings.ContainsAny(a.Owner, "*_(") {
					t.Errorf("action %+v", a)
				}
			}
		})
	}
}

// TestDefects: each fault alone, and nothing but it.
func TestDefects(t *testing.T) {
	const row = "| Alert on pool use | Ada | 2026-03-20 | open |"
	late := noon.Add(30 * 24 * time.Hour)
	for i, tt := range []struct {
		from, to string
		now      time.Time
		want     string // kinds, with blanks between
		status   check.Status
	}{
		{"## Root cause analysis\n\nThe pool was too small for the new release.\n", "", soon, "missing-section/root-cause", check.Warning},
		{"The pool was too small for the new release.", "", soon, "empty-section/root-cause", check.Warning},
		{"The pool was too small for the new release.", "-\n\n---\n<!-- why -->\n###  \n**", soon, "empty-section/root-cause", check.Warning},
		{"The pool was too small for the new release.", "| a | b |\n|---|---|", soon, "empty-section/root-cause", check.Warning},
		{"- Duration: 2 h 15 min\n- Affected users: 312, who could not open a trade\n- Financial impact: none", "- Duration:\n- Affected users:", soon, "empty-section/impact", check.Warning},
		{"The pool was", "TBD. The pool was", soon, "placeholder/root-cause", check.Warning},
		{"312, who", "???", soon, "placeholder/impact", check.Warning},
		{"Yes: pool use", "<fill in> pool use", soon, "placeholder/detection", check.Warning},
		{"| this review | the incident begins |", "| this review | TODO |", soon, "placeholder/timeline", check.Warning},
		{"| ID | INC-20260301T120000Z |\n| Priority | P1 |\n", "| ID | INC-20260301T120000Z |\n", soon, "missing-field", check.Warning},
		{"| Priority | P1 |", "| Priority | P7 |", soon, "missing-field", check.Warning},
		{"| Started | 2026-03-01 12:00:00 UTC |\n", "", soon, "missing-field", check.Warning},
		{"| Ended | 2026-03-01 14:15:00 UTC |", "| Ended | ongoing |", soon, "ongoing", check.Warning},
		{"| Ended | 2026-03-01 14:15:00 UTC |", "| Ended | TODO |", soon, "placeholder", check.Warning},
		{"| Ended | 2026-03-01 14:15:00 UTC |", "| Ended | 2026-03-01 11:15:00 UTC |", soon, "invalid-date", check.Critical},
		{"| Ended | 2026-03-01 14:15:00 UTC |", "| Ended | 2026-03-09 11:15:00 UTC |", soon, "invalid-date", check.Critical},
		{"| Ended | 2026-03-01 14:15:00 UTC |", "| Ended | 2026-02-30 11:15:00 UTC |", soon, "invalid-date", check.Critical},
		{"| Ended | 2026-03-01 14:15:00 UTC |", "| Ended | last night |", soon, "invalid-date", check.Critical},
		{"| Review due | 2026-03-03 14:15:00 UTC |", "| Review due | 2026-03-09 14:15:00 UTC |", soon, "invalid-date", check.Critical},
		{"| 2026-03-01 12:20:00 | run", "| 2026-03-41 12:20:00 | run", soon, "invalid-date/timeline", check.Critical},
		{"| 2026-03-01 12:20:00 | run", "| 2026-03-01 12:20:00 CET | run", soon, "invalid-date/timeline", check.Critical},
		{"| 2026-03-01 12:20:00 | run", "| 2026-03-01T12:20:00+02:00 | run", soon, "invalid-date/timeline", check.Critical},
		{"| 2026-03-01 12:00:00 | this review | the incident begins |\n| 2026-03-01 12:20:00 | run", "| at night | this review | begins |\n| in the morning | run", soon, "empty-section/timeline", check.Warning},
		{row, "| Alert on pool use | | 2026-03-20 | open |", soon, "no-owner/actions", check.Warning},
		{row, "| Alert on pool use | - | 2026-03-20 | open |", soon, "no-owner/actions", check.Warning},
		{row, "| Alert on pool use | TBD | 2026-03-20 | open |", soon, "no-owner/actions", check.Warning},
		{row, "| Alert on pool use | Ada | | open |", soon, "no-date/actions", check.Warning},
		{row, "| Alert on pool use | Ada |", soon, "no-date/actions", check.Warning},
		{row, "| | Ada | 2026-03-20 | open |", soon, "placeholder/actions", check.Warning},
		{row, "| Alert on pool use | Ada | 2026-02-30 | open |", soon, "invalid-date/actions", check.Critical},
		{row, "| Alert on pool use | Ada | next week | open |", soon, "invalid-date/actions", check.Critical},
		{row, "| Alert on pool use | Ada | 2025-03-20 | open |", soon, "invalid-date/actions", check.Critical},
		{row, "\n- Alert on pool use", soon, "no-owner/actions no-date/actions", check.Warning},
		{"| action | owner | due | status |\n|---|---|---|---|\n" + row + "\n| Load test each release | Grace | 2026-04-01 | done |", "We shall alert on pool use.", soon, "no-action/actions", check.Warning},
		{"", "", late, "review-overdue action-overdue/actions", check.Warning},
		{"The pool was", "TODO", late, "review-overdue placeholder/root-cause action-overdue/actions", check.Critical},
		{"", "", noon.Add(51 * time.Hour), "review-overdue", check.Warning},
	} {
		text := whole(t)
		if !strings.Contains(text, tt.from) {
			t.Fatalf("%d: nothing to replace: %s", i, tt.from)
		}
		v := checked(t, strings.Replace(text, tt.from, tt.to, 1), tt.now)
		if got := strings.Join(kinds(v), " "); got != tt.want || v.Status() != tt.status {
			t.Errorf("%q in place of %q: got %s: %s, want %s: %s\n%+v", tt.to, tt.from, v.Status(), got, tt.status, tt.want, v.Findings)
		}
	}
}

// TestClosed: a review that is closed is not late; its actions may be.
func TestClosed(t *testing.T) {
	doc, err := Parse([]byte(whole(t)))
	if err != nil {
		t.Fatal(err)
	}
	if v := Check(doc, noon.Add(30*24*time.Hour), true); strings.Join(kinds(v), " ") != "action-overdue/actions" {
		t.Errorf("%+v", v.Findings)
	}
	// The day itself is not past until it ends.
	if v := Check(doc, time.Date(2026, 3, 20, 23, 59, 59, 0, time.UTC), true); len(v.Findings) != 0 {
		t.Errorf("%+v", v.Findings)
	}
}

func TestHostileInput(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "it is empty",
		" \r\n\t":                    "it is empty",
		"\xff\xfe#\x00 \x00":         "it is UTF-16",
		"PK\x03\x04rest":             "office document",
		"%PDF-1.7":                   "it is a PDF",
		"# a\n\x7fELF\x02\x01\x00":   "line 2: control character U+007F",
		"# a\nb\x00c":                "line 2: control character U+0000",
		"# a\n\n\x1b[2J":             "line 3: control character U+001B",
		"# a\n\nb \xe4\xf6":          "line 3: byte 0xe4 is no UTF-8",
		strings.Repeat("a", 1<<20+1): "a review has at most 1048576",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %s", text, err, want)
		}
	}
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(dir, "long")
	if err := os.WriteFile(long, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(long, 1<<40); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{dir: "no regular file", pipe: "no regular file", "/dev/zero": "no regular file", long: "a review has at most", filepath.Join(dir, "none"): "no such file"} {
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}

// FuzzParse holds the parser to its promises for any text: it does not panic,
// refuses what is no text, names lines that are there, and finds the same
// whatever the line ends are.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"whole.md", "begun.md"} {
		body, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(body))
	}
	for _, seed := range []string{
		"", "#", "# \n##\n", "Timeline\n===\n- 12:00 x\n", "## Actions\n- [x] a @b 2026-01-02\n  - due: x\n", "|", "| a\n|--\n|\\|", "```\n## Timeline\n", "<!--", "<!-- --> -->",
		"**Impact**\n", "ID: x\nPriority: P1\nStarted: 2026-01-02 03:04\nEnded: ongoing", "- \n1)\n", "~~~\n```\n~~~", "\xef\xbb\xbf#", "a\r\n\rb",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		doc, err := Parse([]byte(text))
		if err != nil {
			return
		}
		v := Check(doc, soon, false)
		text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
		count := strings.Count(text, "\n") + 1
		for _, found := range v.Findings {
			if found.What == "" || found.Kind == "" || found.Line < 0 || found.Line > count {
				t.Errorf("of %d lines: %+v", count, found)
			}
		}
		for _, item := range runbook.ReviewItems() {
			if doc.sections[item.ID] == nil && !slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.Kind == MissingSection && f.Section == item.ID }) {
				t.Errorf("%s is missing, and nothing says so", item.ID)
			}
		}
		other, err := Parse([]byte(strings.ReplaceAll(text, "\n", "\r\n")))
		if err != nil {
			t.Fatalf("with other line ends: %v", err)
		}
		if a, b := fmt.Sprintf("%+v", v), fmt.Sprintf("%+v", Check(other, soon, false)); a != b {
			t.Errorf("with other line ends:\n%s\n%s", a, b)
		}
	})
}
