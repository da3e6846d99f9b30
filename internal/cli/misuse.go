package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// noArgs refuses arguments, with a suggestion for what looks like a mistyped
// command.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasAvailableSubCommands() {
		return &misuse{fmt.Sprintf("%s takes no arguments, got %q: see '%s --help'", ownPath(cmd), strings.Join(args, " "), cmd.CommandPath())}
	}
	return unknownCommand(cmd, args[0])
}

func unknownCommand(cmd *cobra.Command, word string) error {
	msg := fmt.Sprintf("unknown command %q for %q", word, cmd.CommandPath())
	if s := cmd.SuggestionsFor(word); len(s) > 0 {
		msg += fmt.Sprintf(": did you mean %q?", s[0])
	}
	return &misuse{msg + fmt.Sprintf(": see '%s --help'", cmd.CommandPath())}
}

// atMost allows up to n arguments.
func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return &misuse{fmt.Sprintf("%s takes at most %s, got %q: see '%s --help'", ownPath(cmd), ui.Plural(n, "argument", "arguments"), strings.Join(args, " "), cmd.CommandPath())}
		}
		return nil
	}
}

// ownPath is the command's path without the program's name, which every error
// begins with.
func ownPath(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
}

// exclusion words cobra's error about flags that exclude each other.
func exclusion(err error) string {
	_, set, ok := strings.Cut(err.Error(), "; [")
	names, all, closed := strings.Cut(set, "] were all set")
	if !ok || !closed || all != "" {
		return err.Error()
	}
	return "--" + strings.ReplaceAll(names, " ", " and --") + " exclude each other"
}

// flagError says what is wrong with a flag, and which was probably meant.
func (a *App) flagError(cmd *cobra.Command, err error) error {
	if word := a.mistyped(cmd); word != "" {
		return unknownCommand(cmd, word) // its flags are unknown only because it is
	}
	msg := err.Error()
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		msg = fmt.Sprintf("unknown flag -%s", unknown.GetSpecifiedName())
	case errors.As(err, &unknown):
		msg = fmt.Sprintf("unknown flag --%s", unknown.GetSpecifiedName())
		if near := nearestFlag(cmd, unknown.GetSpecifiedName()); near != "" {
			msg += fmt.Sprintf(": did you mean --%s?", near)
		}
	case errors.As(err, &invalid):
		msg = fmt.Sprintf("--%s %q is no %s", invalid.GetFlag().Name, invalid.GetValue(), kindOf(invalid.GetFlag()))
	}
	return &misuse{fmt.Sprintf("%s: see '%s --help'", msg, cmd.CommandPath())}
}

func kindOf(f *pflag.Flag) string {
	switch kind := f.Value.Type(); kind {
	case "int", "int64", "uint":
		return "whole number"
	case "bool":
		return "yes or no (true, false)"
	default:
		return kind
	}
}

// mistyped returns the word that stands where cmd's subcommand should, or "".
func (a *App) mistyped(cmd *cobra.Command) string {
	if !cmd.HasAvailableSubCommands() {
		return ""
	}
	found, rest, err := cmd.Root().Find(a.args)
	if err != nil || found != cmd || len(rest) == 0 || strings.HasPrefix(rest[0], "-") {
		return ""
	}
	return rest[0]
}

// nearestFlag returns the flag of cmd that a name was probably meant to be: one
// that begins with it, or differs in two letters at most, or "".
func nearestFlag(cmd *cobra.Command, name string) string {
	best, bestDistance := "", 3
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		d := distance(name, f.Name)
		if len(name) >= 2 && strings.HasPrefix(f.Name, name) {
			d = 0
		}
		if !f.Hidden && d < bestDistance && d < len(name) {
			best, bestDistance = f.Name, d
		}
	})
	return best
}

// distance is Levenshtein's: the letters to add, drop or change.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			above, change := row[j], diagonal
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(above+1, row[j-1]+1, change)
			diagonal = above
		}
	}
	return row[len(b)]
}
