package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Block is a fenced code block of a document.
type Block struct {
	Page     string // from the root of the repository
	Mark     string // of the comment right above it, "" without one
	Language string
	Text     string // without the indentation of a list
}

var fence = regexp.MustCompile("(?ms)^( *)(?:<!-- (run[^>]*) -->\n *)?```([a-z]*)\n(.*?)^ *```$")

// Repository is the path of a file of the repository, named from its root.
func Repository(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatalf("testenv: %v", err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "internal", "testenv", "tools.txt")); err == nil {
			return filepath.Join(dir, filepath.FromSlash(name))
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("testenv: the test does not run inside the repository")
		}
	}
}

// Blocks are the code blocks of a document, in its order.
func Blocks(t testing.TB, page string) []Block {
	t.Helper()
	text, err := os.ReadFile(Repository(t, page))
	if err != nil {
		t.Fatalf("testenv: %v", err)
	}
	var out []Block
	for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
		body := regexp.MustCompile("(?m)^"+m[1]).ReplaceAllString(m[4], "")
		out = append(out, Block{Page: page, Mark: m[2], Language: m[3], Text: body})
	}
	return out
}

// RunBy are the texts of the blocks of a document that say <!-- run by WHO -->.
// Whoever that is runs all of them, so the number is given.
func RunBy(t testing.TB, page, who string, number int) []string {
	t.Helper()
	var out []string
	for _, b := range Blocks(t, page) {
		if b.Mark == "run by "+who {
			out = append(out, b.Text)
		}
	}
	if len(out) != number {
		t.Fatalf("%s has %d blocks that are run by %s, which runs %d", page, len(out), who, number)
	}
	return out
}

// Script makes of a block's text a script for bash. Every command must end well;
// escrowctl, with or without sudo, may end with an exit code up to worst. Of a
// block with prompts only the commands count.
func Script(text string, worst int) string {
	if strings.HasPrefix(text, "$ ") {
		text = commands(text)
	}
	return fmt.Sprintf("set -e -o pipefail\nsudo() { command sudo \"$@\" || [ $? -le %d -a \"$1\" = escrowctl ]; }\nescrowctl() { command escrowctl \"$@\" || [ $? -le %[1]d ]; }\n", worst) + text
}

// commands are the lines after a prompt, with those that go on with them.
func commands(text string) string {
	var out strings.Builder
	on := false
	for line := range strings.Lines(text) {
		command, prompt := strings.CutPrefix(line, "$ ")
		if prompt || on {
			out.WriteString(command)
			end := strings.TrimRight(line, "\n")
			on = strings.HasSuffix(end, "\\") || strings.HasSuffix(end, "|")
		}
	}
	return out.String()
}
