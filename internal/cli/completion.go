package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (a *App) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use: "completion " + strings.Join(shells, "|"), Short: "print a shell's completion script", GroupID: "setup", ValidArgs: shells,
		Long: "Prints the script that lets a shell complete escrowctl's commands and flags.\n" +
			"bash needs its bash-completion package.",
		Example: "  source <(escrowctl completion bash)\n" +
			"  escrowctl completion zsh > \"${fpath[1]}/_escrowctl\"\n" +
			"  escrowctl completion fish > ~/.config/fish/completions/escrowctl.fish",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &misuse{"completion of which shell? one of " + strings.Join(shells, ", ")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(a.io.Out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(a.io.Out)
			case "fish":
				return cmd.Root().GenFishCompletion(a.io.Out, true)
			}
			return &misuse{fmt.Sprintf("completion %q: one of %s", args[0], strings.Join(shells, ", "))}
		},
	}
}
