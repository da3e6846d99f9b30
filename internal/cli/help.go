package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

const statusHeading = "\n\nExit status:\n  "

// exitStatus is the section of help that says what exit codes mean. It ends a
// command's Long.
func exitStatus(lines ...string) string { return statusHeading + strings.Join(lines, "\n  ") }

// defaultStatus are the exit codes of commands that only print.
func defaultStatus() []string {
	return []string{"0  ok", "1  warning", "2  critical or failed", "3  unknown, misuse or wrong configuration"}
}

// withExitStatus gives a command that says nothing of its exit codes the common
// ones.
func withExitStatus(cmd *cobra.Command) {
	if strings.Contains(cmd.Long, statusHeading) {
		return
	}
	if cmd.Long == "" {
		cmd.Long = strings.ToUpper(cmd.Short[:1]) + cmd.Short[1:] + "."
	}
	if cmd.HasSubCommands() {
		return // each of them has its own
	}
	cmd.Long += exitStatus("0  done", "2  failed", "3  misuse or wrong configuration")
}

// fitHelp makes cobra's help command one of ours: a topic that does not exist
// is misuse, where cobra prints the help of the root and ends with 0.
func fitHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	help, _, err := root.Find([]string{"help"})
	if err != nil {
		panic(err) // it was made a line above
	}
	help.GroupID = "setup"
	help.Short = "print the help of a command"
	help.Long = ""
	help.Example = "  escrowctl help backup\n  escrowctl help backup restore"
	help.PersistentPreRun, help.PersistentPostRun = nil, nil
	help.Run = nil
	help.RunE = func(_ *cobra.Command, args []string) error {
		cmd, rest, err := root.Find(args)
		if err != nil {
			return &misuse{err.Error()}
		}
		if len(rest) > 0 {
			return unknownCommand(cmd, rest[0])
		}
		cmd.InitDefaultHelpFlag()
		return cmd.Help()
	}
}
