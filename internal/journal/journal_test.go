package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/nofollow"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func filled(t *testing.T, n int) *Log {
	t.Helper()
	l := &Log{Dir: filepath.Join(t.TempDir(), "journal"), Now: func() time.Time { return noon }}
	for i := range n {
		if _, err := l.Add(t.Context(), Entry{By: "alice@host", Type: "config", Summary: fmt.Sprint("change ", i+1), Outcome: "ok"}); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func TestVerify(t *testing.T) {
	t.Parallel()
	lines := func(f func([]string) []string) func(string) string {
		return func(s string) string {
			return strings.Join(f(strings.SplitAfter(s, "\n")), "")
		}
	}
	for _, tt := range []struct {
		name   string
		damage func(string) string
		want   string // "" for sound
	}{
		{"as it is", func(s string) string { return s }, ""},
		{"a word edited", func(s string) string { return strings.Replace(s, "change 3", "change X", 1) }, "entry 3 was edited"},
		{"a hash edited", func(s string) string {
			i := strings.LastIndex(s, `"hash":"`) + 8
			return s[:i] + "0000" + s[i+4:]
		}, "entry 5 was edited"},
		{"one gone", lines(func(l []string) []string { return slices.Delete(l, 1, 2) }), "entry 3 follows entry 1: those between are gone"},
		{"the first gone", lines(func(l []string) []string { return l[1:] }), "entry 2 follows entry 0"},
		{"the last two gone", lines(func(l []string) []string { return l[:3] }), "the entries 4 to 5 are gone from the end"},
		{"all gone", func(string) string { return "" }, "the entries 1 to 5 are gone from the end"},
		{"swapped", lines(func(l []string) []string { l[1], l[2] = l[2], l[1]; return l }), "entry 3 follows entry 1"},
		{"doubled", lines(func(l []string) []string { return slices.Insert(l, 1, l[0]) }), "entry 1 follows entry 1: the order was changed"},
		{"rubbish", lines(func(l []string) []string { return slices.Insert(l, 1, "rubbish\n") }), "not an entry"},
		{"torn", func(s string) string { return s + `{"seq":6,` }, "the last line is torn"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := filled(t, 5)
			body, err := os.ReadFile(l.path())
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(l.path(), []byte(tt.damage(string(body))), 0o600); err != nil {
				t.Fatal(err)
			}
			_, findings, err := l.Verify()
			got := fmt.Sprint(findings)
			if err != nil || tt.want == "" && len(findings) > 0 || !strings.Contains(got, tt.want) {
				t.Errorf("found %s, %v; want %q", got, err, tt.want)
			}
			// Adding never hides it.
			if _, err := l.Add(t.Context(), Entry{Summary: "later"}); err != nil {
				t.Fatal(err)
			}
			_, after, err := l.Verify()
			if err != nil || len(after) == 0 && tt.want != "" && tt.name != "torn" || tt.want == "" && len(after) > 0 {
				t.Errorf("after another entry: %v, %v", after, err)
			}
		})
	}
}

// TestReplaced: a whole chain recomputed from the edited entry on is found by
// the head.
func TestReplaced(t *testing.T) {
	t.Parallel()
	l, forged := filled(t, 3), filled(t, 2)
	if _, err := forged.Add(t.Context(), Entry{By: "alice@host", Summary: "another third"}); err != nil {
		t.Fatal(err)
	}
	body, _ := os.ReadFile(forged.path())
	if err := os.WriteFile(l.path(), body, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, findings, err := l.Verify(); err != nil || len(findings) != 1 || !strings.Contains(findings[0].What, "not the one that was added") {
		t.Errorf("%v, %v", findings, err)
	}
}

func TestTogether(t *testing.T) {
	t.Parallel()
	l := filled(t, 0)
	var all sync.WaitGroup
	for i := range 25 {
		all.Go(func() {
			if _, err := l.Add(t.Context(), Entry{Summary: fmt.Sprint(i)}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	n, findings, err := l.Verify()
	if n != 25 || len(findings) > 0 || err != nil {
		t.Errorf("%d entries, %v, %v", n, findings, err)
	}
}

func TestLacking(t *testing.T) {
	t.Parallel()
	contract, err := Type("contract")
	if err != nil {
		t.Fatal(err)
	}
	e := Entry{Approvals: []Approval{{"platform lead", "Ada"}, {"cto", "ada"}}, Done: []string{"audit required", "Testnet validation"}}
	want := []string{"approval of the CTO by another person than the platform lead", "step: mainnet deploy with multisig"}
	if got := Lacking(contract, e); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	e.Approvals[1].Name, e.Done = "Bob", append(e.Done, contract.Steps[2])
	if got := Lacking(contract, e); len(got) > 0 {
		t.Errorf("%q", got)
	}
	if got := Lacking(contract, Entry{}); len(got) != 5 {
		t.Errorf("%q", got)
	}
	for _, short := range []string{"app", "infra", "mig"} {
		if c, err := Type(short); err != nil || !strings.HasPrefix(c.Name, short) {
			t.Errorf("%s: %v, %v", short, c, err)
		}
	}
	if _, err := Type("con"); err == nil {
		t.Error("con is config or contract")
	}
}

func TestExport(t *testing.T) {
	t.Parallel()
	l := filled(t, 0)
	if _, err := l.Add(t.Context(), Entry{Summary: "=1+1|x", Approvals: []Approval{{"on-call lead", "Ada"}}}); err != nil {
		t.Fatal(err)
	}
	entries, err := l.Entries()
	if err != nil {
		t.Fatal(err)
	}
	var md, csv bytes.Buffer
	if err := Markdown(&md, entries); err != nil || !strings.Contains(md.String(), `| 1 | 2026-03-01T12:00:00Z |  |  | =1+1\|x | Ada (on-call lead) |`) {
		t.Errorf("%v\n%s", err, &md)
	}
	if err := CSV(&csv, entries); err != nil || !strings.Contains(csv.String(), "1,2026-03-01T12:00:00Z,,,'=1+1|x,Ada (on-call lead),") {
		t.Errorf("%v\n%s", err, &csv)
	}
}

// TestForged: an entry in the middle that is replaced by another one with a
// right hash of its own.
func TestForged(t *testing.T) {
	t.Parallel()
	l := filled(t, 4)
	body, err := os.ReadFile(l.path())
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(body), "\n")
	second, _, err := open([]byte(strings.TrimSpace(lines[1])))
	if err != nil {
		t.Fatal(err)
	}
	second.Summary = "another one"
	line, _, err := seal(second)
	if err != nil {
		t.Fatal(err)
	}
	lines[1] = string(line) + "\n"
	if err := os.WriteFile(l.path(), []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, findings, err := l.Verify(); err != nil || len(findings) != 1 || !strings.Contains(findings[0].What, "entry 3 does not follow the entry before it") {
		t.Errorf("%v, %v", findings, err)
	}
}

// TestCopyName: what a copy's name tells is what it was made of, whatever the
// host is called.
func TestCopyName(t *testing.T) {
	t.Parallel()
	e := Entry{Seq: 12, At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Hash: "0123456789abcdef"}
	for by, host := range map[string]string{"alice@db-1.example": "db-1.example", "alice@": "_", "nobody": "nobody", "a@b@c/../d é": "c_.._d__"} {
		e.By = by
		c, ok := ParseCopy(e.CopyName())
		if want := (Copy{host, 12, "0123456789ab"}); !ok || c != want {
			t.Errorf("%q: %s is %+v, %v", by, e.CopyName(), c, ok)
		}
	}
	for _, name := range []string{"", "stellar_escrow_20260102T030405Z.sql.gz", "escrowctl-change-20260102T030405Z-000001-0123456789ab.json", "escrowctl-change-.json"} {
		if c, ok := ParseCopy(name); ok {
			t.Errorf("%s is %+v", name, c)
		}
	}
}

// TestNoFollow: nothing is read or written through a link in the journal's
// directory.
func TestNoFollow(t *testing.T) {
	for _, name := range []string{FileName, headName, "." + headName + ".tmp"} {
		dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
		if err := os.WriteFile(victim, []byte("mine\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(victim, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		l := &Log{Dir: dir, Now: time.Now}
		if _, err := l.Add(t.Context(), Entry{Summary: "x"}); err != nil && !errors.Is(err, nofollow.ErrNotFile) {
			t.Errorf("%s: %v", name, err)
		}
		if b, err := os.ReadFile(victim); err != nil || string(b) != "mine\n" {
			t.Errorf("%s: the victim is changed: %q, %v", name, b, err)
		}
	}
}
