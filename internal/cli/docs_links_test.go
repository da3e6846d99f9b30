package cli

import (
	"encoding/pem"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	slashpath "path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/stellarescrow/escrowctl/internal/schedule"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// repository is its root, from here.
const repository = "../.."

// documents are the Markdown files of the repository.
func documents(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(repository, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() != ".." && strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case strings.HasSuffix(name, ".md"):
			rel, err := filepath.Rel(repository, name)
			out = append(out, filepath.ToSlash(rel))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 10 {
		t.Fatalf("only %v", out)
	}
	return out
}

// anchors are the fragments that GitHub makes of a document's headings.
func anchors(text string) []string {
	var out []string
	for line := range strings.Lines(fenced.ReplaceAllString(text, "")) {
		title := strings.TrimLeft(line, "#")
		if title == line || !strings.HasPrefix(title, " ") {
			continue
		}
		slug := strings.Map(func(r rune) rune {
			switch {
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			case r == ' ':
				return '-'
			}
			return -1
		}, strings.TrimSpace(title))
		out = append(out, slug)
	}
	return out
}

var (
	mdLink   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	byName   = regexp.MustCompile(`\]\[[^\]]*\]`)
	hostName = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)*\.[a-z]{2,}$`)
)

// TestLinks: every relative link leads to a file that is there, and every
// fragment to a heading. A link to another site is well formed, and written in one
// way everywhere; `make links` follows it.
func TestLinks(t *testing.T) {
	checked := 0
	elsewhere := map[string]string{} // as a browser takes it: as it is written
	for _, doc := range documents(t) {
		text := document(t, doc)
		for _, m := range mdLink.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
			checked++
			if strings.Contains(m[1], ":") {
				u, err := url.Parse(m[1])
				if err != nil || u.Scheme != "https" || u.User != nil || u.Port() != "" || !hostName.MatchString(u.Host) {
					t.Errorf("%s: %s is no link to a page: %v", doc, m[1], err)
					continue
				}
				key := strings.ToLower(strings.TrimPrefix(u.Host, "www.") + strings.TrimRight(u.Path, "/"))
				if before, ok := elsewhere[key]; ok && before != m[1] && u.Fragment == "" {
					t.Errorf("%s: %s is %s elsewhere", doc, m[1], before)
				}
				elsewhere[key] = m[1]
				continue
			}
			file, fragment, _ := strings.Cut(m[1], "#")
			target := doc
			if file != "" {
				target = slashpath.Join(slashpath.Dir(doc), file)
			}
			if _, err := os.Stat(filepath.Join(repository, filepath.FromSlash(target))); err != nil {
				t.Errorf("%s: the link %s leads nowhere", doc, m[1])
				continue
			}
			if fragment != "" && !slices.Contains(anchors(document(t, target)), fragment) {
				t.Errorf("%s: %s has no heading for #%s", doc, target, fragment)
			}
		}
		// [text][name], whose target TestLinks would not see.
		if m := byName.FindString(codeSpan.ReplaceAllString(fenced.ReplaceAllString(text, ""), "")); m != "" {
			t.Errorf("%s: write %s with its target in place", doc, m)
		}
	}
	if checked < 30 || len(elsewhere) < 10 {
		t.Errorf("only %d links were found, %d of them to other sites", checked, len(elsewhere))
	}
}

// TestFollowedLinks: what `make links` does, on a server of this machine.
func TestFollowedLinks(t *testing.T) {
	_, err := exec.LookPath("curl")
	testenv.Need(t, err == nil, "curl", "make deps")
	gone := httptest.NewTLSServer(nil)
	gone.Close()
	pages := http.NewServeMux()
	pages.HandleFunc("/there", func(http.ResponseWriter, *http.Request) {})
	pages.Handle("/moved", http.RedirectHandler("/there", http.StatusMovedPermanently))
	pages.Handle("/moved-away", http.RedirectHandler("/nowhere", http.StatusMovedPermanently))
	srv := httptest.NewTLSServer(pages)
	defer srv.Close()
	dir := t.TempDir()
	roots := filepath.Join(dir, "roots.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	follow := func(links ...string) (string, error) {
		page := filepath.Join(dir, "page.md")
		text := "Read [this](" + strings.Join(links, "), and [this](") + ").\n"
		if err := errors.Join(os.WriteFile(roots, cert, 0o600), os.WriteFile(page, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("scripts/links.sh", page)
		cmd.Dir = repository
		cmd.Env = append(os.Environ(), "CURL_CA_BUNDLE="+roots, "NO_PROXY=*", "no_proxy=*")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := follow(srv.URL+"/there#part", srv.URL+"/moved"); err != nil || strings.Count(out, "ok    https://") != 2 {
		t.Errorf("%v: %s", err, out)
	}
	out, err := follow(srv.URL+"/there", srv.URL+"/nowhere", srv.URL+"/moved-away", gone.URL)
	if err == nil || !strings.Contains(out, "3 of 4 links lead nowhere") {
		t.Errorf("%v: %s", err, out)
	}
	for _, link := range []string{srv.URL + "/nowhere", srv.URL + "/moved-away", gone.URL} {
		if !strings.Contains(out, "gone  "+link+"\n") {
			t.Errorf("it does not name %s: %s", link, out)
		}
	}
}

// ours returns the arguments of the calls of escrowctl in a shell line.
func ours(line string) [][]string {
	line = strings.TrimPrefix(strings.TrimSpace(line), "$ ")
	var out [][]string
	for _, call := range schedule.Calls(line) {
		for i, w := range call.Words {
			wrapped := i > 0 && (slices.Contains([]string{"sudo", "env", "nice", "docker", "docker-compose"}, call.Words[0]) || strings.Contains(call.Words[i-1], "=") || i > 5)
			if slashpath.Base(w) == "escrowctl" && !slices.Contains(call.Words[:i], "install") && (i == 0 || !strings.HasPrefix(call.Words[i-1], "-")) && (i == 0 || wrapped) && i+1 < len(call.Words) {
				out = append(out, call.Words[i+1:])
				break
			}
		}
	}
	return out
}

// named says what is wrong with words that name a command, with or without what
// it is to be given.
func named(args []string) error {
	cmd, rest, err := commandTree().Find(args)
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil && cmd.HasSubCommands() && cmd.Flags().NArg() > 0 && !slices.Contains([]string{"backup", "dr-test", "rotate-keys"}, cmd.Name()) { // these take arguments too
		err = unknownCommand(cmd, cmd.Flags().Arg(0))
	}
	return err
}

// placeholders stand for what the reader fills in.
var placeholders = regexp.MustCompile(`\s*(\[.*?\]|\.\.\.)`)

// TestDocumentedLines: every call of escrowctl in a code block or between
// backticks is one that parses, and so is every target of make.
func TestDocumentedLines(t *testing.T) {
	targets := makeTargets(t)
	checked := 0
	check := func(doc, line string, parse func([]string) error) {
		for _, args := range ours(placeholders.ReplaceAllString(line, "")) {
			checked++
			args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "--help" || a == "-h" })
			if err := parse(args); err != nil {
				t.Errorf("%s: %q: %v", doc, line, err)
			}
		}
		if target, ok := strings.CutPrefix(line, "make "); ok && !slices.Contains(targets, strings.Fields(target)[0]) {
			t.Errorf("%s: %q: the Makefile has no such target", doc, line)
		}
	}
	whole := func(args []string) error { _, err := commandOf(args); return err }
	for _, doc := range documents(t) {
		if doc == "CHANGELOG.md" || strings.HasPrefix(doc, "bench/") {
			continue // what was, and was measured
		}
		for _, b := range testenv.Blocks(t, doc) {
			for line := range strings.Lines(strings.ReplaceAll(b.Text, "\\\n", " ")) {
				check(doc, strings.TrimSpace(line), whole)
			}
		}
		for _, span := range codeSpans(document(t, doc)) {
			span = strings.Join(strings.Fields(span), " ")
			if !strings.ContainsAny(span, "<|") && span != "escrowctl indexed dump" { // the files' mark
				check(doc, span, named)
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d calls were found", checked)
	}
}

func makeTargets(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):`).FindAllStringSubmatch(document(t, "Makefile"), -1) {
		out = append(out, m[1])
	}
	return out
}

// TestDocumentedTargets: what the README has one make is rules that are there, of
// scripts that are there. The targets themselves: CI is `make test`, which runs
// what demo and release are made of.
func TestDocumentedTargets(t *testing.T) {
	ran := 0
	for _, block := range testenv.RunBy(t, "README.md", t.Name(), 2) {
		for line := range strings.Lines(block) {
			target, ok := strings.CutPrefix(line, "make ")
			if !ok {
				continue
			}
			cmd := exec.Command("make", "-n", strings.Fields(target)[0])
			cmd.Dir = repository
			out, err := cmd.CombinedOutput()
			scripts := regexp.MustCompile(`scripts/[a-z]+\.sh`).FindAllString(string(out), -1)
			if err != nil || len(scripts) == 0 {
				t.Errorf("%s: %v: %s", line, err, out)
			}
			for _, script := range scripts {
				if out, err := exec.Command("bash", "-n", filepath.Join(repository, script)).CombinedOutput(); err != nil {
					t.Errorf("%s: %v: %s", line, err, out)
				}
			}
			ran++
		}
	}
	if ran < 3 {
		t.Errorf("only %d targets are named", ran)
	}
}

// TestDocumentedMarks: a block of commands, which names no language or SQL, says
// who runs it; and that test, or script, is there and reads the page.
func TestDocumentedMarks(t *testing.T) {
	sources := testSources(t)
	for _, doc := range documents(t) {
		for _, b := range testenv.Blocks(t, doc) {
			who, named := strings.CutPrefix(b.Mark, "run by ")
			switch {
			case doc == "CHANGELOG.md" || strings.HasPrefix(doc, "bench/"):
			case b.Mark == "run":
			case !named && (b.Language == "" || b.Language == "sql" || b.Language == "sh"):
				t.Errorf("%s: a block says neither <!-- run --> nor <!-- run by WHO -->; what is no command is ```text:\n%s", doc, b.Text)
			case !named && b.Mark != "":
				t.Errorf("%s: what is <!-- %s -->?", doc, b.Mark)
			case named && strings.HasPrefix(who, "Test"):
				if !slices.ContainsFunc(sources, func(text string) bool {
					return strings.Contains(text, "\nfunc "+who+"(t *testing.T) {") && strings.Contains(text, `"`+doc+`", t.Name(), `)
				}) {
					t.Errorf("%s: no test %s reads it", doc, who)
				}
			case named && !strings.Contains(document(t, who), " "+doc+" "):
				t.Errorf("%s: %s does not read it", doc, who)
			}
		}
	}
}

// testSources are the texts of all files of tests.
func testSources(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(repository, func(name string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(name, "_test.go") {
			out = append(out, read(t, name))
		}
		return err
	})
	if err != nil || len(out) < 50 {
		t.Fatalf("%d files of tests, %v", len(out), err)
	}
	return out
}
