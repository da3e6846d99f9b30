// Command release writes what a release has beside the program, from the program
// itself: completion, man pages, and the list of what it is made of. It is no part
// of what is shipped, so that cobra/doc is not either.
//
//	release files DIR      below DIR: usr/share/...
//	release sbom BINARY    CycloneDX, to stdout
//	release licences       the texts of all that is built in, to stdout
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/stellarescrow/escrowctl/internal/cli"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "files":
		at, err := epoch(os.Getenv("SOURCE_DATE_EPOCH"))
		if err != nil {
			return err
		}
		return files(args[1], at)
	case len(args) == 2 && args[0] == "sbom":
		return sbom(args[1], out)
	case len(args) == 1 && args[0] == "licences":
		parts, err := linked([]string{"amd64", "arm64"})
		if err != nil {
			return err
		}
		_, err = io.WriteString(out, licenceTexts(parts))
		return err
	}
	return fmt.Errorf("%q: write files DIR, sbom BINARY, or licences", args)
}

// epoch is the time that pages carry: never that of the build, or no two builds
// would be the same.
func epoch(text string) (time.Time, error) {
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is %q: set it to the commit's time in seconds since 1970", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// files writes completion and man pages to where Debian has them.
func files(dir string, at time.Time) error {
	root := cli.New(&ui.IO{Out: io.Discard, Err: io.Discard, Now: time.Now}, nil, cli.Build{}).Root()
	for name, write := range map[string]func(io.Writer) error{
		"bash-completion/completions/escrowctl":    func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"zsh/vendor-completions/_escrowctl":        root.GenZshCompletion,
		"fish/vendor_completions.d/escrowctl.fish": func(w io.Writer) error { return root.GenFishCompletion(w, true) },
	} {
		if err := create(filepath.Join(dir, "usr/share", name), write); err != nil {
			return err
		}
	}
	man := filepath.Join(dir, "usr/share/man/man1")
	if err := os.MkdirAll(man, 0o755); err != nil {
		return err
	}
	plain(root)
	return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Date: &at, Source: "escrowctl", Manual: "escrowctl"}, man)
}

// plain takes out of the pages what would change from build to build.
func plain(cmd *cobra.Command) {
	cmd.DisableAutoGenTag = true
	for _, c := range cmd.Commands() {
		plain(c)
	}
}

func create(path string, write func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		_ = f.Close() // the write's error says more
		return fmt.Errorf("%s: %w", path, err)
	}
	return f.Close()
}
