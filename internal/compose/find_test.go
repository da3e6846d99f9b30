package compose

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

func TestNormalised(t *testing.T) {
	tests := map[string][]string{ // the base name: v2, v1, v1 before 1.21
		"stellar-escrow": {"stellar-escrow", "stellarescrow"},
		"Stellar.Escrow": {"stellarescrow"},
		"_My App_1":      {"myapp_1", "_myapp_1", "myapp1"},
		"-x":             {"x", "-x"},
		"été":            {"t"},
		"/":              nil,
		"...":            nil,
	}
	for base, want := range tests {
		if got := normalised(base); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", base, got, want)
		}
	}
}

func TestChoose(t *testing.T) {
	root := t.TempDir()
	if resolved, err := filepath.EvalSymlinks(root); err == nil {
		root = resolved
	}
	dir := func(name string) string {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	app, link := dir("app"), filepath.Join(root, "link")
	if err := os.Symlink(app, link); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(dir("named"), "compose.yaml"), "services: {}\nname: \"given\" # by its file\n")
	write(filepath.Join(dir("by-env"), ".env"), "A=1\nCOMPOSE_PROJECT_NAME=old-one\n")

	project := func(name, dir string, files ...string) candidate {
		c := candidate{name: name, services: []string{"postgres"}}
		c.add(map[string]string{labelDir: dir, labelFiles: strings.Join(files, ",")})
		return c
	}
	found := []candidate{
		project("app", app, filepath.Join(app, "docker-compose.yml")), // v2: absolute
		project("staging", app, "docker-compose.yml", "staging.yml"),  // v1: as given
		project("given", "/elsewhere"),
		project("old-one", ""),
		project("myapp1", ""), // Compose before 1.21 and 1.25
	}
	tests := []struct {
		name string
		opts Options
		want string // a project, or part of the error
	}{
		{"by name", Options{Project: "staging"}, "staging"},
		{"by name, not normalised", Options{Project: "Old-One"}, "old-one"},
		{"no such name", Options{Project: "prod"}, "!no project prod: the engine has app (" + app + "; postgres), staging"},
		{"two of one directory", Options{Dir: app}, "!more than one project for directory " + app},
		{"by file, both have it", Options{Files: []string{filepath.Join(app, "docker-compose.yml")}}, "!more than one"},
		{"by files", Options{Dir: app, Files: []string{"docker-compose.yml", "staging.yml"}}, "staging"},
		{"by file through a link", Options{Files: []string{filepath.Join(link, "staging.yml")}}, "staging"},
		{"through a link", Options{Dir: link}, "!more than one project for directory " + app},
		{"named in its file", Options{Dir: dir("named")}, "given"},
		{"named in .env", Options{Dir: dir("by-env")}, "old-one"},
		{"base name of old", Options{Dir: dir("My App_1")}, "myapp1"},
		{"none", Options{Dir: dir("other")}, "!no project for directory " + filepath.Join(root, "other")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := choose(found, tt.opts)
			if want, failing := strings.CutPrefix(tt.want, "!"); failing {
				if !errors.Is(err, ErrNoProject) || !strings.Contains(err.Error(), want) {
					t.Fatalf("got %s, error %v; want %q", got.name, err, want)
				}
				return
			}
			if err != nil || got.name != tt.want {
				t.Fatalf("got %q, error %v; want %q", got.name, err, tt.want)
			}
		})
	}
	t.Run("nothing said", func(t *testing.T) {
		t.Chdir(dir("other"))
		if got, err := choose(found[2:3], Options{}); err != nil || got.name != "given" {
			t.Errorf("the only project was not taken: %q, %v", got.name, err)
		}
		if got, err := choose(found, Options{}); !errors.Is(err, ErrNoProject) {
			t.Errorf("%q was guessed among many", got.name)
		}
		if _, err := choose(nil, Options{}); !errors.Is(err, ErrNoProject) || !strings.Contains(err.Error(), "no compose project at all") {
			t.Errorf("error %v", err)
		}
	})
}

// TestContainerStates: what is not running is told as it is.
func TestContainerStates(t *testing.T) {
	t.Parallel()
	docker, project := testenv.Docker(t), uniqueProject()
	number := func(n string) map[string]string { return map[string]string{labelNumber: n} }
	newContainer(t, docker, project, "new", nil, "true")
	paused, pausedName := newContainer(t, docker, project, "stopped", nil, "sleep", "1000000")
	startContainer(t, docker, paused)
	if _, err := docker.Client.ContainerPause(t.Context(), paused, client.ContainerPauseOptions{}); err != nil {
		t.Fatal(err)
	}
	newContainer(t, docker, project, "scaled", number("1"), "true")
	third, _ := newContainer(t, docker, project, "scaled", number("3"), "sleep", "1000000")
	second, _ := newContainer(t, docker, project, "scaled", number("2"), "sleep", "1000000")
	startContainer(t, docker, third)
	startContainer(t, docker, second)
	once, _ := newContainer(t, docker, project, "once", map[string]string{labelOneoff: "True"}, "sleep", "1000000")
	startContainer(t, docker, once)

	p := open(t, Options{Project: project})
	tests := []struct {
		service string
		want    error
		says    string
	}{
		{"new", ErrNotRunning, "is created (Created): start it with docker compose -p " + project + " up -d new"},
		{"stopped", ErrNotRunning, "is paused (Up Less than a second (Paused)): docker unpause " + pausedName},
		{"once", ErrNoService, "has no container of service once (it has: new, scaled, stopped)"},
	}
	for _, tt := range tests {
		for _, err := range []error{
			func() error { _, err := p.Exec(t.Context(), tt.service, Spec{Cmd: []string{"true"}}); return err }(),
			func() error { _, err := p.Dial(tt.service)(t.Context(), "tcp", "localhost:5432"); return err }(),
		} {
			// The status line counts seconds.
			head, tail, _ := strings.Cut(tt.says, "Up Less than a second")
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), head) || !strings.Contains(err.Error(), tail) {
				t.Errorf("%s: %v", tt.service, err)
			}
		}
	}
	c, err := p.running(t.Context(), "scaled")
	if err != nil || c.ID != second || c.Number != 2 || c.Health != "" {
		t.Errorf("of the scaled service: %+v, %v; want number 2", c, err)
	}
}

func TestHealthInStatus(t *testing.T) {
	for status, want := range map[string]string{
		"Up 2 hours (healthy)": "healthy", "Up 1 second (health: starting)": "starting",
		"Up 2 hours (unhealthy)": "unhealthy", "Up 2 hours": "", "Up 2 hours (Paused)": "", "Exited (1) 3 days ago": "",
	} {
		got := ""
		if m := healthInStatus.FindStringSubmatch(status); m != nil {
			got = m[1]
		}
		if got != want {
			t.Errorf("%q: %q, want %q", status, got, want)
		}
	}
}

func TestNoDaemon(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "not-a-socket")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for host, says := range map[string]string{
		"unix:///nonexistent/docker.sock": "no such socket: start Docker (systemctl start docker), or set compose.docker_host",
		"unix://" + file:                  "connection refused: start Docker",
		"tcp://127.0.0.1:1":               "no answer: check that it runs and that compose.docker_host",
		"ssh://host":                      "ssh is not supported: forward the socket",
		"nonsense":                        "check compose.docker_host",
	} {
		_, err := Open(t.Context(), Options{DockerHost: host, Project: "x"})
		if !errors.Is(err, ErrNoDaemon) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// TestComposeV1 finds a project that docker-compose itself started.
func TestComposeV1(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("docker-compose")
	if err != nil {
		t.Skip("docker-compose is not installed")
	}
	dir := filepath.Join(t.TempDir(), "My.App_"+uniqueProject())
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "docker-compose.yml")
	text := "version: '3'\nservices:\n  box:\n    image: " + testImage(t) + "\n    entrypoint: [sleep, '1000000']\n    network_mode: none\n    labels: {escrowctl.test: '1'}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	compose := func(args ...string) {
		cmd := exec.Command(path, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("docker-compose %v: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() { compose("down", "-t", "0", "-v") })
	compose("up", "-d")
	name := normalised(filepath.Base(dir))[0]
	for _, opts := range []Options{{Dir: dir}, {Files: []string{file}}, {Project: name}} {
		p := open(t, opts)
		if p.Name() != name || p.Dir() != dir {
			t.Errorf("%+v: project %q in %q, want %q in %q", opts, p.Name(), p.Dir(), name, dir)
		}
		if code, err := p.Exec(t.Context(), "box", Spec{Cmd: []string{"true"}}); err != nil || code != 0 {
			t.Error(code, err)
		}
	}
}
