package cli

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// each runs f for every command of the tree.
func each(t *testing.T, f func(t *testing.T, cmd *cobra.Command)) {
	t.Helper()
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		t.Run(cmd.CommandPath(), func(t *testing.T) { f(t, cmd) })
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	root := silent().Root()
	if n := len(root.Commands()); n < 5 {
		t.Fatalf("only %d commands: the walk proves nothing", n)
	}
	walk(root)
}

func silent() *App {
	return New(&ui.IO{Out: io.Discard, Err: io.Discard, Now: testNow}, nil, Build{})
}

func path(cmd *cobra.Command) []string { return strings.Fields(cmd.CommandPath())[1:] }

func TestEveryCommandHasItsHelp(t *testing.T) {
	each(t, func(t *testing.T, cmd *cobra.Command) {
		if s := cmd.Short; s == "" || !unicode.IsLower([]rune(s)[0]) || strings.HasSuffix(s, ".") {
			t.Errorf("Short %q: begin in lower case, no final full stop", s)
		}
		inv := invoke(t)
		if code := inv.run(t, append(path(cmd), "--help")...); code != 0 || inv.errs.Len() > 0 {
			t.Fatalf("--help exits %d: %s", code, &inv.errs)
		}
		help := inv.out.String()
		if !strings.Contains(help, "Exit status:\n  0  ") && !cmd.HasSubCommands() {
			t.Error("help lacks the exit status")
		}
		for line := range strings.Lines(help) {
			if len(line) > 81 {
				t.Errorf("%d columns: %q", len(line)-1, line)
			}
		}
	})
}

// TestExamplesAreRight parses every example as the command line would be.
func TestExamplesAreRight(t *testing.T) {
	each(t, func(t *testing.T, cmd *cobra.Command) {
		if cmd.Example == "" {
			t.Fatal("no Example")
		}
		for line := range strings.Lines(cmd.Example) {
			if !strings.HasPrefix(line, "  ") {
				t.Errorf("not indented by two: %q", line)
			}
			_, words, ok := strings.Cut(line, "escrowctl ")
			if !ok {
				t.Errorf("not a call of escrowctl: %q", line)
				continue
			}
			words, _, _ = strings.Cut(strings.TrimRight(words, "\n)"), " > ")
			root := silent().Root()
			found, rest, err := root.Find(strings.Fields(words))
			if err == nil && found == root {
				t.Errorf("%q names no command", line)
			}
			if err == nil {
				err = found.ParseFlags(rest)
			}
			if err == nil {
				err = found.ValidateArgs(found.Flags().Args())
			}
			if err != nil {
				t.Errorf("%q: %v", line, err)
			}
		}
	})
}

func TestFlags(t *testing.T) {
	each(t, func(t *testing.T, cmd *cobra.Command) {
		cmd.InitDefaultHelpFlag()
		names, shorthands := map[string]*pflag.Flag{}, map[string]*pflag.Flag{}
		for _, set := range []*pflag.FlagSet{cmd.LocalFlags(), cmd.InheritedFlags()} {
			set.VisitAll(func(f *pflag.Flag) {
				if names[f.Name] != nil && names[f.Name] != f {
					t.Errorf("two flags --%s", f.Name)
				}
				if s := f.Shorthand; s != "" && shorthands[s] != nil && shorthands[s] != f {
					t.Errorf("-%s is --%s and --%s", s, f.Name, shorthands[s].Name)
				}
				names[f.Name], shorthands[f.Shorthand] = f, f
				if f.Usage == "" {
					t.Errorf("--%s says nothing of itself", f.Name)
				}
			})
		}
	})
}

func TestUnknownFlagsAreMisuse(t *testing.T) {
	each(t, func(t *testing.T, cmd *cobra.Command) {
		for _, flag := range []string{"--no-such-flag", "-Z"} {
			inv := invoke(t)
			code := inv.run(t, append(path(cmd), flag)...)
			if code != 3 || inv.out.Len() > 0 || strings.Count(inv.errs.String(), "\n") != 1 || !strings.HasPrefix(inv.errs.String(), "escrowctl: unknown flag "+flag) {
				t.Errorf("%s: exit %d, stdout %q, stderr %q", flag, code, &inv.out, &inv.errs)
			}
		}
	})
}

func TestMisuse(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"bakup", `unknown command "bakup" for "escrowctl": did you mean "backup"?: see 'escrowctl --help'`},
		{"bakup --s3", `unknown command "bakup" for "escrowctl": did you mean "backup"?: see 'escrowctl --help'`},
		{"nothing-like-it", `unknown command "nothing-like-it" for "escrowctl": see 'escrowctl --help'`},
		{"backup lst", `unknown command "lst" for "escrowctl backup": did you mean "list"?: see 'escrowctl backup --help'`},
		{"config chekc", `unknown command "chekc" for "escrowctl config": did you mean "check"?: see 'escrowctl config --help'`},
		{"help bakup", `unknown command "bakup" for "escrowctl": did you mean "backup"?: see 'escrowctl --help'`},
		{"version extra words", `version takes no arguments, got "extra words": see 'escrowctl version --help'`},
		{"backup verify a b", `backup verify takes at most 1 argument, got "a b": see 'escrowctl backup verify --help'`},
		{"backup prune --dry-rnu", `unknown flag --dry-rnu: did you mean --dry-run?: see 'escrowctl backup prune --help'`},
		{"backup prune --dry", `unknown flag --dry: did you mean --dry-run?: see 'escrowctl backup prune --help'`},
		{"backup list --local --s3", `--local and --s3 exclude each other: see 'escrowctl backup list --help'`},
		{"backup verify --jobs many", `--jobs "many" is no whole number: see 'escrowctl backup verify --help'`},
		{"version --quiet=perhaps", `--quiet "perhaps" is no yes or no (true, false): see 'escrowctl version --help'`},
		{"version --config", `flag needs an argument: --config: see 'escrowctl version --help'`},
		{"version -o xml", `--output "xml": use text or json`},
		{"version -q -v", `--quiet and --verbose: leave one of them out`},
		{"completion", `completion of which shell? one of bash, zsh, fish`},
		{"completion tcsh", `completion "tcsh": one of bash, zsh, fish`},
	} {
		t.Run(tt.args, func(t *testing.T) {
			inv := invoke(t)
			code := inv.run(t, strings.Fields(tt.args)...)
			if got := inv.errs.String(); code != 3 || got != "escrowctl: "+tt.want+"\n" || inv.out.Len() > 0 {
				t.Errorf("exit %d, stdout %q, stderr\n%swant\nescrowctl: %s", code, &inv.out, got, tt.want)
			}
		})
	}
}

func TestHelpGroupsTheCommands(t *testing.T) {
	inv := invoke(t)
	if code := inv.run(t); code != 0 {
		t.Fatalf("exit %d", code)
	}
	if help := inv.out.String(); !strings.Contains(help, "Operations:\n  backup ") || !strings.Contains(help, "Set-up:\n  completion ") || strings.Contains(help, "Additional Commands") {
		t.Errorf("help is\n%s", help)
	}
	if bytes.Contains(inv.out.Bytes(), []byte("\x1b")) {
		t.Error("colour where there is no terminal")
	}
}

func TestCompletion(t *testing.T) {
	for shell, want := range map[string]string{"bash": "__start_escrowctl", "zsh": "#compdef escrowctl", "fish": "complete -c escrowctl"} {
		inv := invoke(t)
		if code := inv.run(t, "completion", shell); code != 0 || !strings.Contains(inv.out.String(), want) {
			t.Errorf("%s: exit %d, %q not in the script", shell, code, want)
		}
	}
	inv := invoke(t)
	if code := inv.run(t, "__complete", "backup", "veri"); code != 0 || !strings.HasPrefix(inv.out.String(), "verify\t") {
		t.Errorf("exit %d, completes to %q", code, &inv.out)
	}
}

func TestVersion(t *testing.T) {
	inv := invoke(t)
	if code := inv.run(t, "version"); code != 0 || !strings.HasPrefix(inv.out.String(), "escrowctl v1.2.3 (commit abc, 2026-01-01T00:00:00Z, go1.") {
		t.Errorf("exit %d: %q", code, &inv.out)
	}
	inv = invoke(t)
	if code := inv.run(t, "version", "--json"); code != 0 || !strings.HasPrefix(inv.out.String(), "{\n  \"schema_version\": 1,\n  \"version\": \"v1.2.3\",\n  \"commit\": \"abc\",\n  \"date\": \"2026-01-01T00:00:00Z\",\n  \"go\": \"go1.") {
		t.Errorf("exit %d: %q", code, &inv.out)
	}
}

func TestRunbookTablesAsJSON(t *testing.T) {
	for _, table := range runbookTables() {
		inv := invoke(t)
		if code := inv.run(t, "runbook", table.name, "-o", "json"); code != 0 || !strings.HasPrefix(inv.out.String(), "{\n  \"schema_version\": 1,\n  \""+table.name+"\": [") {
			t.Errorf("%s: exit %d: %.80q %s", table.name, code, &inv.out, &inv.errs)
		}
	}
}
