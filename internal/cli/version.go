package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Build says what binary this is.
type Build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Date    string `json:"date"` // of the commit, RFC 3339
}

// filled takes what the linker was not told from what the compiler noted, as
// with "go install".
func (b Build) filled() Build {
	if b.Version != "dev" {
		return b
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Date = s.Value
		}
	}
	return b
}

func (a *App) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print version, commit and date of the build", GroupID: "setup", Args: noArgs,
		Example: "  escrowctl version\n  escrowctl version --json",
		RunE: func(*cobra.Command, []string) error {
			if a.asJSON() {
				return a.io.JSON(struct {
					SchemaVersion int `json:"schema_version"`
					Build
					Go string `json:"go"`
				}{1, a.build, runtime.Version()})
			}
			_, err := fmt.Fprintf(a.io.Out, "escrowctl %s (commit %s, %s, %s)\n", a.build.Version, a.build.Commit, a.build.Date, runtime.Version())
			return err
		},
	}
}
