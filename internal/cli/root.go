// Package cli is escrowctl's command line: flags to options, one call, and the
// rendering of what came back. It alone knows both the capabilities and the
// adapters.
package cli

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/cronhost"
	"github.com/stellarescrow/escrowctl/internal/drtest"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// App is one invocation.
type App struct {
	io      *ui.IO
	build   Build
	environ []string
	args    []string
	command string // with its parents: escrowctl certs renew
	flags   globalFlags
	logged  bool // stderr holds the log of a run
	lookup  bool // its commands are looked up, never run
	cron    cronhost.Host
	// servers, if not nil, is what dr-test starts servers with.
	servers drtest.Engine
}

type globalFlags struct {
	config  string
	output  string
	json    bool
	verbose bool
	quiet   bool
	noColor bool
}

// Main runs the command line on the process's own streams and environment, and
// returns the exit code. Cancel ctx with an Interrupted as its cause.
func Main(ctx context.Context, args []string, build Build) int {
	return New(ui.System(), os.Environ(), build.filled()).Run(ctx, args)
}

// New prepares an invocation with the given streams and environment.
func New(io *ui.IO, environ []string, build Build) *App {
	return &App{io: io, build: build, environ: environ}
}

// Run runs the command line and returns the exit code. Errors are told here,
// once.
func (a *App) Run(ctx context.Context, args []string) int {
	a.args = args
	root := a.Root()
	root.SetArgs(args)
	return a.exit(interruption(ctx, root.ExecuteContext(ctx)))
}

// Root builds the command tree.
func (a *App) Root() *cobra.Command {
	root := &cobra.Command{
		Use:   "escrowctl",
		Short: "run and prove the operations of a docker compose platform",
		Long: "escrowctl backs up PostgreSQL to S3, proves by reading and restoring that the\n" +
			"backup is good, and shows at the start of a shift what is broken. It says\n" +
			"plainly what it could not see." + exitStatus(defaultStatus()...) +
			"\n  75 another run holds the lock\n  130, 143, 129  interrupted by SIGINT, SIGTERM, SIGHUP",
		Example:       "  escrowctl backup\n  escrowctl config check\n  escrowctl help backup restore",
		SilenceErrors: true, SilenceUsage: true,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return a.settle(cmd)
		},
	}
	root.SetOut(a.io.Out)
	root.SetErr(a.io.Err)
	root.SetFlagErrorFunc(a.flagError)
	root.CompletionOptions.DisableDefaultCmd = true // ours knows its exit codes
	a.addGlobalFlags(root)
	root.AddGroup(&cobra.Group{ID: "ops", Title: "Operations:"}, &cobra.Group{ID: "setup", Title: "Set-up:"})
	root.AddCommand(
		a.backupCommand(), a.drTestCommand(), a.certsCommand(), a.perfCommand(), a.rotateKeysCommand(), a.changesCommand(), a.incidentCommand(),
		a.shiftCheckCommand(),
		a.configCommand(), a.doctorCommand(), a.cronCommand(), a.migrateCommand(), a.runbookCommand(), a.versionCommand(), a.completionCommand(),
	)
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "for more information about a command.", "for more.", 1))
	fitHelp(root)
	finish(root)
	return root
}

func (a *App) addGlobalFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&a.flags.config, "config", "", "configuration `file`; else $ESCROWCTL_CONFIG,\n./escrowctl.yaml, /etc/escrowctl/escrowctl.yaml")
	f.StringVarP(&a.flags.output, "output", "o", "text", "output `format`: text or json")
	f.BoolVar(&a.flags.json, "json", false, "short for -o json")
	f.BoolVarP(&a.flags.verbose, "verbose", "v", false, "also say what is used: files, directories, servers")
	f.BoolVarP(&a.flags.quiet, "quiet", "q", false, "no progress, only results, warnings and errors")
	f.BoolVar(&a.flags.noColor, "no-color", false, "no colour on terminals")
	a.completeWords(root, "output", "text", "json")
}

// alsoOutput annotates a command with a further format of -o.
const alsoOutput = "also-output"

// settle checks and applies the flags. It runs before every command.
func (a *App) settle(cmd *cobra.Command) error {
	a.command = cmd.CommandPath()
	// cobra would find these itself, but then they are errors like any other.
	for _, check := range []func() error{cmd.ValidateRequiredFlags, cmd.ValidateFlagGroups} {
		if err := check(); err != nil {
			return &misuse{fmt.Sprintf("%s: see '%s --help'", exclusion(err), cmd.CommandPath())}
		}
	}
	if also := cmd.Annotations[alsoOutput]; a.flags.output != "text" && a.flags.output != "json" && (also == "" || a.flags.output != also) {
		formats := "text or json"
		if also != "" {
			formats = "text, json or " + also
		}
		return &misuse{fmt.Sprintf("--output %q: use %s", a.flags.output, formats)}
	}
	if a.flags.quiet && a.flags.verbose {
		return &misuse{"--quiet and --verbose: leave one of them out"}
	}
	a.io.Quiet, a.io.Verbose = a.flags.quiet, a.flags.verbose
	a.io.Color = a.io.Color && !a.flags.noColor
	return nil
}

func (a *App) asJSON() bool { return a.flags.json || a.flags.output == "json" }

// finish gives every command below cmd what they all have.
func finish(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	withExitStatus(cmd)
	for _, c := range cmd.Commands() {
		finish(c)
	}
}
