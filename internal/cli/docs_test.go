package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// These tests keep the documents from falling behind the program: what can be
// asked of the program is compared with what they say.

// document reads a file by its path from the root of the repository.
func document(t *testing.T, name string) string {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// commandTree is what a user sees, whatever the environment.
func commandTree() *cobra.Command {
	return New(&ui.IO{Now: testNow}, nil, Build{}).Root()
}

// loadOnly loads a configuration from a file, none if "", and an environment.
func loadOnly(t *testing.T, file string, environ ...string) (*config.Loaded, error) {
	t.Helper()
	dir := t.TempDir()
	return config.Load(config.Options{Path: file, Environ: environ, Dir: dir, SystemFile: filepath.Join(dir, "none.yaml")})
}

var (
	fenced   = regexp.MustCompile("(?s)```.*?```")
	codeSpan = regexp.MustCompile("`([^`]+)`")
	longFlag = regexp.MustCompile(`(?:^|[^\w-])--([a-z][a-z0-9-]*)`)
)

// codeSpans returns the texts between backticks, without those of whole blocks.
func codeSpans(text string) []string {
	var out []string
	for _, m := range codeSpan.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		out = append(out, m[1])
	}
	return out
}

// keyRow is a row of the table in docs/configuration.md.
type keyRow struct {
	key, def  string
	variables []string
}

func keyRows(t *testing.T) []keyRow {
	t.Helper()
	var rows []keyRow
	for line := range strings.Lines(document(t, "docs/configuration.md")) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if key := codeSpans(cells[0]); strings.HasPrefix(line, "| `") && len(cells) == 3 && len(key) == 1 {
			rows = append(rows, keyRow{key[0], strings.TrimSpace(cells[1]), codeSpans(cells[2])})
		}
	}
	return rows
}

func TestDocumentedKeys(t *testing.T) {
	defaults, err := loadOnly(t, "")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, e := range defaults.Entries() {
		want[e.Key] = "none"
		if e.Value != "" {
			want[e.Key] = "`" + e.Value + "`"
		}
	}
	for _, row := range keyRows(t) {
		def, known := want[row.key]
		switch {
		case !known:
			t.Errorf("docs/configuration.md has %s, which is no key or stands there twice", row.key)
		case row.def != def:
			t.Errorf("docs/configuration.md: the default of %s is %s, not %s", row.key, def, row.def)
		}
		delete(want, row.key)
	}
	for key, def := range want {
		t.Errorf("docs/configuration.md lacks %s, whose default is %s", key, def)
	}
}

func TestDocumentedVariables(t *testing.T) {
	for _, row := range keyRows(t) {
		own := "ESCROWCTL_" + strings.ToUpper(strings.ReplaceAll(row.key, ".", "_"))
		if len(row.variables) == 0 || row.variables[0] != own {
			t.Errorf("docs/configuration.md: the first variable of %s must be %s, got %q", row.key, own, row.variables)
		}
		for _, name := range row.variables {
			// No key but a password takes this value: the fault names the key.
			loaded, err := loadOnly(t, "", name+"=\x01")
			reached := loaded.Origin(row.key) == config.Origin{Kind: config.FromEnv, Name: name}
			if fault := (*config.Error)(nil); asConfigError(err, &fault) {
				reached = len(fault.Faults) == 1 && fault.Faults[0].Key == row.key
			}
			if !reached {
				t.Errorf("docs/configuration.md: %s does not set %s: %v", name, row.key, err)
			}
		}
	}
}

func asConfigError(err error, target **config.Error) bool {
	e, ok := err.(*config.Error)
	*target = e
	return ok
}

// TestDocumentedFile loads the example file: it must name every key and change
// nothing.
func TestDocumentedFile(t *testing.T) {
	_, rest, _ := strings.Cut(document(t, "docs/configuration.md"), "```yaml\n")
	text, _, found := strings.Cut(rest, "```\n")
	if !found {
		t.Fatal("docs/configuration.md has no example file")
	}
	file := filepath.Join(t.TempDir(), config.FileName)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := loadOnly(t, file)
	if err != nil {
		t.Fatal(err)
	}
	defaults, err := loadOnly(t, "")
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range loaded.Entries() {
		if def := defaults.Entries()[i].Value; e.Value != def {
			t.Errorf("the example file has %s: %q, the default is %q", e.Key, e.Value, def)
		}
		if e.Origin.Kind != config.FromFile {
			t.Errorf("the example file lacks %s", e.Key)
		}
	}
}

// sections cuts a document at its second-level headings, in backticks or not.
func sections(text string) map[string]string {
	out := map[string]string{}
	for part := range strings.SplitSeq("\n"+text, "\n## ") {
		title, body, _ := strings.Cut(part, "\n")
		out[strings.Trim(title, "` ")] = body
	}
	return out
}

// TestDocumentedFlags compares each page of a command with the commands below
// it: a section each, with every flag of its own and none that does not exist.
func TestDocumentedFlags(t *testing.T) {
	for page, name := range map[string]string{"docs/backup.md": "backup", "docs/certs.md": "certs", "docs/perf.md": "perf", "docs/dr-test.md": "dr-test", "docs/migrate.md": "migrate", "docs/doctor.md": "doctor", "docs/incident.md": "incident"} {
		cmd, _, err := commandTree().Find([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		compareFlags(t, page, cmd)
	}
}

func compareFlags(t *testing.T, page string, parent *cobra.Command) {
	t.Helper()
	documented := sections(document(t, page))
	for _, cmd := range append(parent.Commands(), parent) {
		path := cmd.CommandPath()
		body, found := documented[path]
		if !found {
			t.Errorf("%s has no section %q", page, path)
			continue
		}
		cmd.InitDefaultHelpFlag()
		var named []string
		for _, span := range codeSpans(body) {
			for _, m := range longFlag.FindAllStringSubmatch(span, -1) {
				named = append(named, m[1])
			}
		}
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !slices.Contains(named, f.Name) {
				t.Errorf("%s: %q lacks --%s", page, path, f.Name)
			}
		})
		for _, name := range named {
			if !hasFlag(parent, name) {
				t.Errorf("%s: %q names --%s, which does not exist", page, path, name)
			}
		}
	}
}

// hasFlag says whether the command or one below it has the flag.
func hasFlag(cmd *cobra.Command, name string) bool {
	if cmd.Flags().Lookup(name) != nil || cmd.InheritedFlags().Lookup(name) != nil {
		return true
	}
	return slices.ContainsFunc(cmd.Commands(), func(c *cobra.Command) bool { return hasFlag(c, name) })
}

// TestDocumentedCommands asks the README for every command.
func TestDocumentedCommands(t *testing.T) {
	named := codeSpans(document(t, "README.md"))
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		path := strings.TrimPrefix(cmd.CommandPath(), "escrowctl ")
		if cmd.Runnable() && cmd.HasParent() && !slices.Contains(named, path) {
			t.Errorf("README.md does not name `%s`", path)
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(commandTree())
}

// TestCrontab parses the rows of crontab.example: each must be a command line
// that exists, and those of the runbook at the runbook's time, to its log.
func TestCrontab(t *testing.T) {
	row := regexp.MustCompile(`^((?:[0-9*,/-]+ ){4}[0-9*,/-]+) (escrowctl [^>%]+) >> (\S+) 2>&1$`)
	scheduled := map[string]runbook.Task{}
	for _, task := range runbook.Schedule() {
		scheduled[task.Command] = task
	}
	found := 0
	for line := range strings.Lines(document(t, "crontab.example")) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || strings.HasPrefix(line, "PATH=") {
			continue
		}
		m := row.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("crontab.example: not a row as it should be: %s", line)
			continue
		}
		args := strings.Fields(m[2])[1:]
		cmd, rest, err := commandTree().Find(args)
		if err == nil {
			err = cmd.ParseFlags(rest)
		}
		if err == nil {
			err = cmd.ValidateArgs(cmd.Flags().Args())
		}
		if err != nil {
			t.Errorf("crontab.example: %s: %v", m[2], err)
		}
		if task, ok := scheduled[m[2]]; ok {
			found++
			if m[1] != task.Spec || m[3] != task.Log {
				t.Errorf("crontab.example: %s: at %q to %s, the runbook has %q and %s", m[2], m[1], m[3], task.Spec, task.Log)
			}
		}
	}
	if found == 0 {
		t.Error("crontab.example has none of the runbook's rows")
	}
}

// TestDependenciesAreExplained compares docs/decisions/dependencies.md with the
// direct dependencies of go.mod.
func TestDependenciesAreExplained(t *testing.T) {
	explained := codeSpans(document(t, "docs/decisions/dependencies.md"))
	direct := regexp.MustCompile(`(?m)^\t(\S+) v\S+$`)
	for _, m := range direct.FindAllStringSubmatch(document(t, "go.mod"), -1) {
		if !slices.Contains(explained, m[1]) {
			t.Errorf("docs/decisions/dependencies.md does not explain `%s`", m[1])
		}
	}
}
