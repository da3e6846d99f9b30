package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const marker = "hunter2-MARKER/with@specials"

func TestFingerprint(t *testing.T) {
	if got := Fingerprint(""); got != "" {
		t.Errorf("Fingerprint of nothing = %q, want nothing", got)
	}
	// echo -n abc | sha256sum
	if got, want := Fingerprint("abc"), "sha256:ba7816bf"; got != want {
		t.Errorf("Fingerprint(abc) = %q, want %q", got, want)
	}
}

func TestValueNeverShowsTheSecret(t *testing.T) {
	v := New(marker)
	type hidden struct{ v Value }
	type nested struct {
		Exported Value
		List     []Value
		Map      map[string]Value
		Pointer  *Value
		hidden   hidden
	}
	n := nested{v, []Value{v}, map[string]Value{"k": v}, &v, hidden{v}}

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p", "%10s", "% x"} {
		fmt.Fprintf(&out, verb+verb+verb+"\n", v, n, &n)
	}
	fmt.Fprintln(&out, v, n, &n, errors.New(v.String()))
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v, "n", n)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v, "n", n)
	if err := json.NewEncoder(&out).Encode(n); err != nil {
		t.Fatal(err)
	}
	hexed := fmt.Sprintf("%x", marker)
	for _, bad := range []string{"hunter2", "MARKER", hexed, strings.ToUpper(hexed)} {
		if strings.Contains(out.String(), bad) {
			t.Errorf("output holds %q:\n%s", bad, out.String())
		}
	}
	if !strings.Contains(out.String(), Fingerprint(marker)) {
		t.Errorf("output lacks the fingerprint:\n%s", out.String())
	}
	if v.Reveal() != marker {
		t.Errorf("Reveal() = %q", v.Reveal())
	}
}

func TestValueZeroAndEqual(t *testing.T) {
	var zero Value
	if !zero.IsZero() || !New("").IsZero() || New("x").IsZero() {
		t.Error("IsZero is wrong")
	}
	if got := fmt.Sprint(zero); got != "" {
		t.Errorf("zero prints %q", got)
	}
	if got, err := json.Marshal(zero); err != nil || string(got) != `""` {
		t.Errorf("zero as JSON = %s, %v", got, err)
	}
	if !New("a").Equal(New("a")) || New("a").Equal(New("b")) || !zero.Equal(New("")) {
		t.Error("Equal is wrong")
	}
}

func TestRedactURL(t *testing.T) {
	tests := []struct{ name, raw, want string }{
		{"empty", "", ""},
		{"postgres", "postgres://indexer:s3cr3t@db:5432/stellar_escrow?sslmode=disable", "postgres://indexer:xxxxx@db:5432/stellar_escrow?sslmode=disable"},
		{"no password", "postgres://indexer@db/x", "postgres://indexer@db/x"},
		{"redis, no user", "redis://:s3cr3t@localhost:6379", "redis://:xxxxx@localhost:6379"},
		{"escaped", "postgres://u:s3%40cr%2F3t@db/x", "postgres://u:xxxxx@db/x"},
		{"query, order kept", "postgres://db/x?user=u&password=s3cr3t&sslmode=disable", "postgres://db/x?user=u&password=xxxxx&sslmode=disable"},
		{"query, upper case and escaped key", "postgres://db/x?PASS%57ORD=s3cr3t", "postgres://db/x?PASS%57ORD=xxxxx"},
		{"query, semicolon", "postgres://db/x?a=1;password=s3cr3t", "postgres://db/x?a=1;password=xxxxx"},
		{"query, bad escape in the key", "postgres://db/x?passwor%zz=s3cr3t", "postgres://db/x?passwor%zz=xxxxx"},
		{"bucket", "s3://stellarescrow-backups/prod", "s3://stellarescrow-backups/prod"},
		{"socket", "postgres:///x?host=/var/run/postgresql", "postgres:///x?host=/var/run/postgresql"},
		{"hash in password", "postgres://u:12#s3cr3t@db/x", Unparsable},
		{"slash in password", "postgres://u:12/s3cr3t@db/x", Unparsable},
		{"question mark in password", "postgres://u:12?s3cr3t@db/x", Unparsable},
		{"at and slash in password", "postgres://u:a@b/s3cr3t@db/x", Unparsable},
		{"bad escape in password", "postgres://u:s3cr3t%zz@db/x", Unparsable},
		{"no scheme", "u:s3cr3t@db:5432/x", Unparsable},
		{"bare word", "s3cr3t", Unparsable},
		{"control character", "postgres://u:s3cr3t\x01@db/x", Unparsable},
		{"settings", "host=db user=u password=s3cr3t dbname=x", "host=db user=u password=xxxxx dbname=x"},
		{"settings, quoted", `host=db password='s3cr3t it\'s s3cr3t' dbname='a b'`, `host=db password=xxxxx dbname='a b'`},
		{"settings, blanks around =", "password = s3cr3t host = db", "password=xxxxx host=db"},
		{"settings, escaped blank", `password=s3cr3t\ s3cr3t host=db`, "password=xxxxx host=db"},
		{"settings, unterminated", "host=db password='s3cr3t", Unparsable},
		{"settings, stray word", "host=db s3cr3t stray password=x", Unparsable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := RedactURL(tt.raw)
			if got != tt.want {
				t.Errorf("RedactURL(%q) = %q, want %q", tt.raw, got, tt.want)
			}
			if strings.Contains(got, "s3cr3t") {
				t.Errorf("RedactURL(%q) = %q: leaks", tt.raw, got)
			}
		})
	}
}

func FuzzRedactURL(f *testing.F) {
	f.Add("s3cr3t", "db/x")
	f.Add("12#a", "db")
	f.Add("a@b/c", "db?password=x")
	f.Fuzz(func(t *testing.T, password, rest string) {
		password = "BEGIN" + password + "END"
		if strings.Contains(rest, "BEGIN") || strings.Contains(rest, "END") {
			return
		}
		for _, raw := range []string{"postgres://u:" + password + "@" + rest, "u:" + password + "@" + rest} {
			if got := RedactURL(raw); strings.Contains(got, "BEGIN") || strings.Contains(got, "END") {
				t.Errorf("RedactURL(%q) = %q: leaks", raw, got)
			}
		}
	})
}

func TestScrubber(t *testing.T) {
	const password = `p@ss/w"ö rd`
	s := NewScrubber(password, "", "abc", "longer-secret", "longer-secret-still", "postgres://u:inner%21pw@db/x", "host=db password='quo ted'")
	tests := []struct{ name, text, want string }{
		{"plain", "x " + password + " y", "x " + Fingerprint(password) + " y"},
		{"path escaped", "p@ss%2Fw%22%C3%B6%20rd", Fingerprint(password)},
		{"query escaped", "p%40ss%2Fw%22%C3%B6+rd", Fingerprint(password)},
		{"lower-case escapes", "p%40ss%2fw%22%c3%b6+rd", Fingerprint(password)},
		{"JSON", `p@ss/w\"ö rd`, Fingerprint(password)},
		{"the longer wins", "longer-secret-still longer-secret", Fingerprint("longer-secret-still") + " " + Fingerprint("longer-secret")},
		{"too short to scrub", "abcabc", "abcabc"},
		{"whole URL", "postgres://u:inner%21pw@db/x", Fingerprint("postgres://u:inner%21pw@db/x")},
		{"password of the URL", "auth failed: inner!pw", "auth failed: " + Fingerprint("inner!pw")},
		{"password of the settings", "quo ted", Fingerprint("quo ted")},
		{"nothing", "all is well", "all is well"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := s.Scrub(tt.text); got != tt.want {
				t.Errorf("Scrub(%q) = %q, want %q", tt.text, got, tt.want)
			}
		})
	}
	if got := (*Scrubber)(nil).Scrub("x"); got != "x" {
		t.Errorf("nil Scrubber gave %q", got)
	}
	if got := NewScrubber().Scrub("x"); got != "x" {
		t.Errorf("empty Scrubber gave %q", got)
	}
}
