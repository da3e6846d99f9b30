package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/cli"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// top is the root of the repository.
const top = "../.."

func read(t *testing.T, name string) string {
	t.Helper()
	body, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestFiles: every command has its page, and two runs write the same.
func TestFiles(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1767225600")
	one, two := t.TempDir(), t.TempDir()
	for _, dir := range []string{one, two} {
		if err := run([]string{"files", dir}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("diff", "-r", one, two).CombinedOutput(); err != nil {
		t.Errorf("two runs differ: %s", out)
	}
	pages := 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.IsAvailableCommand() || !cmd.HasParent() {
			pages++
			page := read(t, filepath.Join(one, "usr/share/man/man1", strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1"))
			if !strings.Contains(page, "Jan 2026") || !strings.Contains(page, "Exit status") && !cmd.HasSubCommands() {
				t.Errorf("the page of %s has no date or no exit status", cmd.CommandPath())
			}
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(cli.New(&ui.IO{}, nil, cli.Build{}).Root())
	if pages < 30 {
		t.Errorf("only %d pages", pages)
	}
	bash := filepath.Join(one, "usr/share/bash-completion/completions/escrowctl")
	if out, err := exec.Command("bash", "-c", "source "+bash+" && complete -p escrowctl").CombinedOutput(); err != nil || !bytes.Contains(out, []byte("__start_escrowctl")) {
		t.Errorf("bash's completion: %v: %s", err, out)
	}
	for name, says := range map[string]string{"zsh/vendor-completions/_escrowctl": "#compdef escrowctl", "fish/vendor_completions.d/escrowctl.fish": "complete -c escrowctl"} {
		if !strings.Contains(read(t, filepath.Join(one, "usr/share", name)), says) {
			t.Errorf("%s lacks %s", name, says)
		}
	}
}

func TestMisuse(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	for _, args := range [][]string{nil, {"files"}, {"files", t.TempDir()}, {"sbom", "release_test.go"}} {
		if err := run(args, new(bytes.Buffer)); err == nil {
			t.Errorf("%q is no error", args)
		}
	}
}

// TestSBOM reads this test's own binary, and compares with go.mod and go.sum.
func TestSBOM(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out, again bytes.Buffer
	if err := run([]string{"sbom", self}, &out); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{"sbom", self}, &again); err != nil || !bytes.Equal(out.Bytes(), again.Bytes()) {
		t.Errorf("two runs differ, %v", err)
	}
	var doc bom
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil || doc.Format != "CycloneDX" || doc.SpecVersion != "1.5" {
		t.Fatalf("%v: %s", err, &out)
	}
	mod, sum := read(t, filepath.Join(top, "go.mod")), read(t, filepath.Join(top, "go.sum"))
	std := false
	for _, c := range doc.Components {
		if c.Name == "std" {
			std = true
			continue
		}
		if !strings.Contains(mod, "\t"+c.Name+" "+c.Version) || c.PURL != "pkg:golang/"+c.Name+"@"+c.Version || len(c.Hashes) != 1 || len(c.Hashes[0].Content) != 64 {
			t.Errorf("%+v is not as in go.mod", c)
		}
		if !strings.Contains(sum, c.Name+" "+c.Version+" h1:") {
			t.Errorf("%s %s is not in go.sum", c.Name, c.Version)
		}
	}
	if !std || len(doc.Components) < 20 || doc.Metadata.Component.Type != "application" {
		t.Errorf("%d components, std %v, %+v", len(doc.Components), std, doc.Metadata)
	}
}

// TestDebVersion: the versions sort as the releases follow each other.
func TestDebVersion(t *testing.T) {
	_, err := exec.LookPath("dpkg")
	testenv.Need(t, err == nil, "dpkg", "this is no Debian")
	last := "0"
	for _, tt := range []struct{ describe, want string }{
		{"2f5b5a9", "0~20260101000000.2f5b5a9"},
		{"2f5b5a9-dirty", "0~20260101000000.2f5b5a9+dirty"},
		{"v0.9.0", "0.9.0"},
		{"v1.0.0-rc1", "1.0.0~rc1"},
		{"v1.0.0", "1.0.0"},
		{"v1.0.0-4-g1a2b3c4", "1.0.0+4.g1a2b3c4"},
		{"v1.0.0-4-g1a2b3c4-dirty", "1.0.0+4.g1a2b3c4+dirty"},
		{"v1.0.1", "1.0.1"},
	} {
		cmd := exec.Command("bash", "-euc", ". scripts/lib.sh; deb_version "+tt.describe)
		cmd.Dir, cmd.Env = top, append(os.Environ(), "SOURCE_DATE_EPOCH=1767225600")
		out, err := cmd.CombinedOutput()
		got := strings.TrimSpace(string(out))
		if err != nil || got != tt.want {
			t.Errorf("%s: %s, %v, want %s", tt.describe, got, err, tt.want)
		}
		if last != "0" && exec.Command("dpkg", "--compare-versions", last, "lt", got).Run() != nil {
			t.Errorf("%s does not come after %s", got, last)
		}
		last = got
	}
}

// TestUnits compares the timers with the runbook's schedule.
func TestUnits(t *testing.T) {
	when := map[string]string{ // crontab's words in systemd's
		"0 2 * * *": "*-*-* 02:00:00 UTC", "0 4 1 * *": "*-*-01 04:00:00 UTC", "0 0,12 * * *": "*-*-* 00,12:00:00 UTC",
		"0 3 * * 0": "Sun *-*-* 03:00:00 UTC", "0 5 * * 0": "Sun *-*-* 05:00:00 UTC",
	}
	tasks := append(runbook.Schedule(), runbook.Task{Name: "backup-verify", Spec: "0 5 * * 0", Command: "escrowctl backup verify latest --s3", Log: "/var/log/stellar-backup.log"})
	units := filepath.Join(top, "deploy/systemd")
	var files []string
	prerm := read(t, filepath.Join(top, "deploy/debian/prerm"))
	for _, task := range tasks {
		if task.Spec == "" {
			continue
		}
		name := filepath.Join(units, "escrowctl-"+task.Name)
		service, timer := read(t, name+".service"), read(t, name+".timer")
		for _, line := range []string{"ExecStart=/usr/bin/" + task.Command + "\n", "StandardOutput=append:" + task.Log + "\n", "StandardError=append:" + task.Log + "\n"} {
			if !strings.Contains(service, line) {
				t.Errorf("escrowctl-%s.service lacks %s", task.Name, line)
			}
		}
		if when[task.Spec] == "" || !strings.Contains(timer, "OnCalendar="+when[task.Spec]+"\n") {
			t.Errorf("escrowctl-%s.timer lacks OnCalendar=%s (%s)", task.Name, when[task.Spec], task.Spec)
		}
		if !regexp.MustCompile(`for timer in [a-z -]*\b` + task.Name + `[ ;]`).MatchString(prerm) {
			t.Errorf("prerm does not disable escrowctl-%s.timer", task.Name)
		}
		if !strings.Contains(read(t, filepath.Join(top, "deploy/debian/logrotate")), task.Log+"\n") {
			t.Errorf("logrotate does not rotate %s", task.Log)
		}
		files = append(files, name+".service", name+".timer")
	}
	if all, _ := filepath.Glob(filepath.Join(units, "*")); len(all) != len(files) {
		t.Errorf("%d units, the schedule has %d", len(all), len(files))
	}
	_, err := exec.LookPath("systemd-analyze")
	testenv.Need(t, err == nil, "systemd-analyze", "apt-get install systemd")
	verify(t, files)
}

// verify has systemd read the units, with a program where they call one.
func verify(t *testing.T, files []string) {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		text := strings.ReplaceAll(read(t, f), "/usr/bin/escrowctl", "/bin/true")
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	all, _ := filepath.Glob(filepath.Join(dir, "*"))
	cmd := exec.Command("systemd-analyze", append([]string{"verify", "--man=no"}, all...)...)
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("escrowctl-")) {
		t.Errorf("systemd-analyze verify: %v: %s", err, out)
	}
}

// TestExampleConfiguration: the shipped file changes nothing, and what it shows
// as an example is right.
func TestExampleConfiguration(t *testing.T) {
	text := read(t, filepath.Join(top, "deploy/debian/escrowctl.yaml"))
	load := func(text string) (*config.Loaded, error) {
		dir := t.TempDir()
		file := filepath.Join(dir, config.FileName)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return config.Load(config.Options{Path: file, Dir: dir})
	}
	as, err := load(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range as.Entries() {
		if e.Origin.Kind != config.FromDefault {
			t.Errorf("it sets %s", e.Key)
		}
	}
	// The project's .env is not here.
	shown := regexp.MustCompile(`(?m)^#(\S|  )`).ReplaceAllString(strings.Replace(text, "#  env_file: .env\n", "", 1), "$1")
	with, err := load(shown)
	if err != nil {
		t.Fatalf("%v in\n%s", err, shown)
	}
	set := 0
	for _, e := range with.Entries() {
		if e.Origin.Kind == config.FromFile {
			set++
		}
	}
	if set < 8 {
		t.Errorf("only %d settings are shown in\n%s", set, shown)
	}
}
