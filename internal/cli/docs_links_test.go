package cli

import (
	"io/fs"
	"os"
	slashpath "path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/stellarescrow/escrowctl/internal/schedule"
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

var mdLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestLinks: every relative link leads to a file that is there, and every
// fragment to a heading.
func TestLinks(t *testing.T) {
	checked := 0
	for _, doc := range documents(t) {
		text := document(t, doc)
		for _, m := range mdLink.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			checked++
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
	}
	if checked < 30 {
		t.Errorf("only %d links were found", checked)
	}
}

var codeBlock = regexp.MustCompile("(?ms)^(?:<!-- (run|not run: [^>]+) -->\n)?```([a-z]*)\n(.*?)^```$")

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
// backticks is one that parses, and every block says whether it is run.
func TestDocumentedLines(t *testing.T) {
	checked := 0
	check := func(doc, line string, parse func([]string) error) {
		for _, args := range ours(placeholders.ReplaceAllString(line, "")) {
			checked++
			args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "--help" || a == "-h" })
			if err := parse(args); err != nil {
				t.Errorf("%s: %q: %v", doc, line, err)
			}
		}
	}
	whole := func(args []string) error { _, err := commandOf(args); return err }
	for _, doc := range documents(t) {
		text := document(t, doc)
		if doc == "CHANGELOG.md" || strings.HasPrefix(doc, "bench/") {
			continue // what was, and was measured
		}
		for _, m := range codeBlock.FindAllStringSubmatch(text, -1) {
			calls := 0
			for line := range strings.Lines(strings.ReplaceAll(m[3], "\\\n", " ")) {
				calls += len(ours(line))
				check(doc, strings.TrimSpace(line), whole)
			}
			if calls > 0 && m[1] == "" && m[2] != "yaml" {
				t.Errorf("%s: a block calls escrowctl and says neither <!-- run --> nor <!-- not run: why -->:\n%s", doc, m[3])
			}
		}
		for _, span := range codeSpans(text) {
			if strings.HasPrefix(span, "escrowctl ") && !strings.Contains(span, "\n") && !strings.ContainsAny(span, "<|") && span != "escrowctl indexed dump" { // the files' mark
				check(doc, span, named)
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d calls were found", checked)
	}
}
