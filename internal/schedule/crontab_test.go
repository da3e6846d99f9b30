package schedule

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	t.Parallel()
	c := Parse("# 0 1 * * * commented out\n"+
		"\n"+
		"PATH=/usr/bin\n"+
		"0 2 * * * escrowctl backup >> /var/log/x.log 2>&1\n"+
		"  MAILTO = \"a b\"  \n"+
		"\t@daily\tdate +\\%F%line one%line two\n"+
		"0 2 * * *\n"+
		"61 2 * * * x\n"+
		"0 2 * * *  a=1 b\r\n"+
		"garbage\n"+
		"0 3 * * 0 last", Format{})
	type row struct {
		line                 int
		spec, command, input string
		percent, fails       bool
	}
	want := []row{
		{4, "0 2 * * *", "escrowctl backup >> /var/log/x.log 2>&1", "", false, false},
		{6, "@daily", "date +%F", "line one\nline two\n", true, false},
		{7, "0 2 * * *", "", "", false, true},
		{8, "", "", "", false, true},
		{9, "0 2 * * *", "a=1 b\r", "", false, false},
		{10, "", "", "", false, true},
		{11, "0 3 * * 0", "last", "", false, false},
	}
	var got []row
	for _, r := range c.Rows {
		got = append(got, row{r.Line, r.Spec.String(), r.Command, r.Input, r.Percent, r.Err != nil})
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(row{})); diff != "" {
		t.Error(diff)
	}
	if !c.Unfinished {
		t.Error("the missing newline is not seen")
	}
	if e := c.Rows[0].Env; e["PATH"] != "/usr/bin" || e["MAILTO"] != "" {
		t.Errorf("variables of the first row: %v", e)
	}
	if e := c.Rows[1].Env; e["MAILTO"] != "a b" {
		t.Errorf("variables of the second row: %v", e)
	}
	if len(c.Rows[4].Notes) != 1 {
		t.Errorf("the carriage return is not seen: %v", c.Rows[4].Notes)
	}
}

func TestParseSystemAndZones(t *testing.T) {
	t.Parallel()
	text := "CRON_TZ=Europe/Berlin\n0 2 * * * root  escrowctl backup\nCRON_TZ=Nowhere/Else\n@hourly root x\n"
	c := Parse(text, Format{System: true, Zones: true})
	if r := c.Rows[0]; r.User != "root" || r.Command != "escrowctl backup" || r.Location(nil).String() != "Europe/Berlin" {
		t.Errorf("%+v", r)
	}
	if c.Rows[1].Err == nil {
		t.Error("a zone that does not exist was taken")
	}
	if r := Parse(text, Format{System: true}).Rows; r[0].Zone != nil || r[1].Err != nil {
		t.Error("Debian's cron has no CRON_TZ")
	}
}

func TestCalls(t *testing.T) {
	t.Parallel()
	for command, want := range map[string][]Call{
		"escrowctl backup >> /var/log/a.log 2>&1":        {{[]string{"escrowctl", "backup"}, "/var/log/a.log"}},
		"cd /srv && '/opt/e c/escrowctl' backup|logger":  {{[]string{"cd", "/srv"}, ""}, {[]string{"/opt/e c/escrowctl", "backup"}, ""}, {[]string{"logger"}, ""}},
		`A="x y" nice -n 5 escrowctl "certs" re\new 1>l`: {{[]string{"A=x y", "nice", "-n", "5", "escrowctl", "certs", "renew"}, "l"}},
		"x &> both # a comment":                          {{[]string{"x"}, "both"}},
		"x < in >out":                                    {{[]string{"x"}, "out"}},
		"'never closed":                                  {{[]string{"never closed"}, ""}},
		"":                                               nil,
	} {
		if diff := cmp.Diff(want, Calls(command)); diff != "" {
			t.Errorf("%s:\n%s", command, diff)
		}
	}
}

// The shell must get back what was quoted, also by way of cron.
func TestQuote(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"/usr/bin/escrowctl", "", "a b", "it's", "$HOME", "50%", "é", "a;b", "-x"} {
		command, _, percent := splitPercent(EscapePercent("printf %s " + Quote(word)))
		out, err := exec.Command("sh", "-c", command).Output()
		if err != nil || percent || string(out) != word {
			t.Errorf("%q came back as %q, %v", word, out, err)
		}
	}
}

func TestBlock(t *testing.T) {
	t.Parallel()
	rows := []string{"0 2 * * * a", "0 3 * * * b"}
	for _, before := range []string{"", "0 1 * * * x\n", "# c\r\n\n\xff 1\n@daily y\n", "\n\n"} {
		with, err := InstallBlock(before, rows)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := InstallBlock(with, rows); err != nil || again != with {
			t.Errorf("twice is not once: %q, %v", again, err)
		}
		after := with + "0 9 * * * z\n"
		changed, err := InstallBlock(after, rows[:1])
		if err != nil || !strings.HasPrefix(changed, before) || !strings.HasSuffix(changed, "\n0 9 * * * z\n") || strings.Contains(changed, "0 3 * * * b") {
			t.Errorf("changed to %q, %v", changed, err)
		}
		if back, err := RemoveBlock(with); err != nil || back != before {
			t.Errorf("%q came back as %q, %v", before, back, err)
		}
	}
	if with, err := InstallBlock("x", rows); err != nil || !strings.HasPrefix(with, "x\n# BEGIN") {
		t.Errorf("a last line without a newline: %q, %v", with, err)
	}
	if _, err := RemoveBlock("x\n"); !errors.Is(err, ErrNoBlock) {
		t.Errorf("nothing to remove: %v", err)
	}
	for _, broken := range []string{blockBegin + "\n", blockEnd + "\n", blockBegin + "\n" + blockBegin + "\n" + blockEnd + "\n", blockBegin + "\n" + blockEnd + "\n" + blockEnd + "\n"} {
		if _, err := InstallBlock(broken, rows); err == nil {
			t.Errorf("took %q", broken)
		}
	}
}

func FuzzParse(f *testing.F) {
	example, _ := os.ReadFile(filepath.Join("..", "..", "crontab.example"))
	f.Add(string(example))
	f.Add("A = 'b' \n@daily x%y\\%z\n* * * * *\x00\r")
	f.Fuzz(func(t *testing.T, text string) {
		for _, format := range []Format{{}, {System: true, Zones: true}} {
			for _, r := range Parse(text, format).Rows {
				if !strings.Contains(text, r.Text) {
					t.Errorf("%q is no line of the crontab", r.Text)
				}
				Calls(r.Command)
			}
		}
		if with, err := InstallBlock(text, []string{"0 2 * * * x"}); err == nil {
			back, err := RemoveBlock(with)
			if _, was := RemoveBlock(text); errors.Is(was, ErrNoBlock) && (err != nil || strings.TrimSuffix(back, "\n") != strings.TrimSuffix(text, "\n")) {
				t.Errorf("%q came back as %q, %v", text, back, err)
			}
		}
	})
}
