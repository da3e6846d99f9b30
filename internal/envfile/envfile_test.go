package envfile

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/dotenv"
)

const fresh = "0123abcd,4567ef89"

// corpus holds forms that .env files have in the wild. want is the value of
// API_KEYS; line is where it is refused.
var corpus = []struct {
	name, text, want string
	line             int
}{
	{"plain", "A=1\nAPI_KEYS=old1,old2\nB=2\n", "old1,old2", 0},
	{"no final newline", "A=1\nAPI_KEYS=old1", "old1", 0},
	{"CRLF", "A=1\r\nAPI_KEYS=old1,old2\r\nB=2\r\n", "old1,old2", 0},
	{"CRLF, last line open", "A=1\r\nAPI_KEYS=old1\r", "old1", 0},
	{"mixed line ends", "A=1\r\nAPI_KEYS=old1\nB=2\r\n", "old1", 0},
	{"double quotes", "API_KEYS=\"old1,old2\"\n", "old1,old2", 0},
	{"single quotes", "API_KEYS='old1,old2'\n", "old1,old2", 0},
	{"quotes and comment", "API_KEYS=\"old1\"   # the gateway's\nB='x'# y\n", "old1", 0},
	{"inline comment", "API_KEYS=old1,old2 # since May\n", "old1,old2", 0},
	{"hash without blank", "API_KEYS=old#1\n", "old#1", 0},
	{"export", "export API_KEYS=old1\n", "old1", 0},
	{"export with quotes and tabs", "\texport\tAPI_KEYS=\t'old1' \n", "old1", 0},
	{"blanks around", "  API_KEYS = old1  \n", "old1", 0},
	{"blanks inside", "API_KEYS=old1, old2\n", "old1, old2", 0},
	{"empty", "API_KEYS=\nB=2\n", "", 0},
	{"empty, blanks", "API_KEYS=  \r\nB=2\n", "", 0},
	{"empty quotes", "API_KEYS=\"\"\nB=2\n", "", 0},
	{"equals signs", "API_KEYS=YWJj==,ZGVm==\n", "YWJj==,ZGVm==", 0},
	{"escaped quote", `API_KEYS="old\"1"` + "\n", `old"1`, 0},
	{"escaped backslash before the end", `API_KEYS="old1\\"` + "\nB=2\n", `old1\`, 0},
	{"over lines", "API_KEYS=\"old1,\nold2\"\nB=2\n", "old1,\nold2", 0},
	{"after a value over lines", "PEM=\"-----BEGIN\nAPI_KEYS=not this\n-----END\"\nAPI_KEYS=old1\n", "old1", 0},
	{"byte order mark", "\ufeffAPI_KEYS=old1\n", "old1", 0},
	{"commented out above", "#API_KEYS=gone\n  # API_KEYS=gone too\n\n\nAPI_KEYS=old1\n", "old1", 0},
	{"a name that begins like it", "API_KEYS_OLD=x\nMY_API_KEYS=y\nAPI_KEYS=old1\n", "old1", 0},
	{"others interpolate", "URL=postgres://u:${PW:-x}@h/d\nAPI_KEYS=old1\nC=$API_KEYS\n", "old1", 0},
	{"others inherit and use colons", "HOME_DIR\nX: y\nAPI_KEYS=old1\n", "old1", 0},
	{"non-ASCII", "NAME=Zoë 日本\nAPI_KEYS=old1 # ключ\n", "old1", 0},

	{"duplicate", "API_KEYS=a\nB=1\nAPI_KEYS=b\n", "", 3},
	{"duplicate, exported", "API_KEYS=a\nexport API_KEYS='b'\n", "", 2},
	{"interpolated", "A=1\nAPI_KEYS=${OLD},x\n", "", 2},
	{"interpolated in quotes", "API_KEYS=\"$OLD\"\n", "", 1},
	{"braces in single quotes", "API_KEYS='${OLD}'\n", "", 1},
	{"only a comment", "API_KEYS= # none yet\n", "", 1},
	{"tab and hash", "API_KEYS=old1\t# comment\n", "", 1},
	{"backslash", "API_KEYS=old\\1\n", "", 1},
	{"backslash in single quotes", `API_KEYS='old\1'` + "\n", "", 1},
	{"unknown escape", `API_KEYS="old\x41"` + "\n", "", 1},
	{"quote in the middle", "API_KEYS=old\"1\n", "", 1},
	{"colon", "API_KEYS: old1\n", "", 1},
	{"name alone", "API_KEYS\nB=1\n", "", 1},
	{"open quote before it", "A=1\nB=\"open\nAPI_KEYS=old1\n", "", 2},
	{"open quote", "API_KEYS='old1\n", "", 1},
	{"text after the quote", "API_KEYS='old1'old2\n", "", 1},
	{"a line that is none", "A=1\n\nsome words here\nAPI_KEYS=old1\n", "", 3},
	{"lone carriage return", "A=1\rAPI_KEYS=old1\n", "", 1},
	{"NUL", "A=1\nAPI_KEYS=old1\x00\n", "", 2},
	{"form feed", "API_KEYS=old1\f\n", "", 1},
	{"unusual blank", "API_KEYS=old1\u00a0\n", "", 1},
}

func TestCorpus(t *testing.T) {
	t.Parallel()
	for _, tt := range corpus {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, err := Parse([]byte(tt.text))
			var got string
			if err == nil {
				got, err = f.Get("API_KEYS")
			}
			if tt.line > 0 {
				var at *LineError
				if !errors.As(err, &at) || at.Line != tt.line {
					t.Fatalf("got %q and %v, want a refusal of line %d", got, err, tt.line)
				}
				if strings.Contains(err.Error(), "old") {
					t.Errorf("the error holds the value: %v", err)
				}
				if f != nil {
					if _, err := f.With("API_KEYS", fresh); err == nil {
						t.Error("edited all the same")
					}
				}
				return
			}
			if err != nil || got != tt.want {
				t.Fatalf("got %q and %v, want %q", got, err, tt.want)
			}
			edited(t, f, tt.text)
		})
	}
}

// edited changes the value and back, and looks at every byte.
func edited(t *testing.T, f *File, text string) {
	t.Helper()
	next, err := f.With("API_KEYS", fresh)
	if err != nil {
		t.Fatal(err)
	}
	before, after, ok := strings.Cut(string(next.Bytes()), fresh)
	if !ok || !strings.HasPrefix(text, before) || !strings.HasSuffix(text, after) {
		t.Errorf("bytes outside the value changed:\n%q\n%q", text, next.Bytes())
	}
	agrees(t, next)
	if back, err := next.WithFrom(f, "API_KEYS"); err != nil || string(back.Bytes()) != text {
		t.Errorf("not the same when put back: %v\n%q\n%q", err, text, back.Bytes())
	}
}

// agrees compares every value that is known with what Compose reads.
func agrees(t testing.TB, f *File) {
	t.Helper()
	want, err := dotenv.Parse(bytes.NewReader(f.data))
	if err != nil {
		// Compose expands every value, also one that we have no text for.
		for _, e := range f.entries {
			if e.doubt != "" {
				return
			}
		}
		t.Fatalf("Compose refuses what was taken: %v\n%q", err, f.data)
	}
	for _, name := range f.Names() {
		if got, err := f.Get(name); err == nil && got != want[name] {
			t.Fatalf("%s is %q, Compose reads %q in\n%q", name, got, want[name], f.data)
		}
	}
}

func TestAgreesWithCompose(t *testing.T) {
	t.Parallel()
	for _, tt := range corpus {
		if f, err := Parse([]byte(tt.text)); err == nil {
			agrees(t, f)
		}
	}
}

// TestLarge edits the last line of a file of more than a megabyte.
func TestLarge(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := 0; b.Len() < 1<<20; i++ {
		b.WriteString("# comment " + strings.Repeat("x", i%70) + "\nVAR_" + strings.Repeat("A", i%40) + "_" + string(rune('A'+i%26)) + "='" + strings.Repeat("v", i%90) + "'\n")
	}
	text := b.String() + "API_KEYS=old1 # last"
	f, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	edited(t, f, text)
}

func TestQuotes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, value, want string }{
		{"A=x\n", "a b", "A='a b'\n"},
		{"A=\"x\"\n", "a$b", "A='a$b'\n"},
		{"A='x' # c\r\n", "", "A='' # c\r\n"},
		{"A=x\n", "a'b", ""},
		{"A=x\n", "a\nb", ""},
		{"A=x\n", "${B}", ""},
		{"A=x\n", "a\\b", ""},
	} {
		f, err := Parse([]byte(tt.text))
		if err != nil {
			t.Fatal(err)
		}
		got, err := f.With("A", tt.value)
		if tt.want == "" {
			if err == nil {
				t.Errorf("%q was written as %q", tt.value, got.Bytes())
			}
			continue
		}
		if err != nil || string(got.Bytes()) != tt.want {
			t.Errorf("%q: %v, %q", tt.value, err, got.Bytes())
		}
	}
	f, _ := Parse([]byte("A=1\n"))
	if _, err := f.With("B", "x"); !errors.Is(err, ErrMissing) {
		t.Errorf("error %v", err)
	}
}

func FuzzEdit(f *testing.F) {
	for _, tt := range corpus {
		f.Add([]byte(tt.text), fresh)
	}
	f.Fuzz(func(t *testing.T, data []byte, value string) {
		file, err := Parse(data)
		if err != nil {
			return
		}
		if !bytes.Equal(file.Bytes(), data) {
			t.Fatal("Bytes is not what was parsed")
		}
		agrees(t, file)
		for i, name := range file.Names() {
			next, err := file.With(name, value)
			if err != nil || i > 20 {
				continue
			}
			e, _ := file.only(name)
			if !bytes.HasPrefix(next.data, data[:e.start]) || !bytes.HasSuffix(next.data, data[e.end:]) {
				t.Fatalf("bytes outside %s changed:\n%q\n%q", name, data, next.data)
			}
			if got, err := next.Get(name); err != nil || got != value {
				t.Fatalf("wrote %q, read %q, %v", value, got, err)
			}
			agrees(t, next)
			if back, err := next.WithFrom(file, name); err != nil || !bytes.Equal(back.data, data) {
				t.Fatalf("not the same when put back: %v", err)
			}
		}
	})
}
