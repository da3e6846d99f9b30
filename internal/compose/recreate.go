package compose

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/stellarescrow/escrowctl/internal/envfile"
	"github.com/stellarescrow/escrowctl/internal/secret"
)

const (
	labelHash = "com.docker.compose.config-hash"
	// programLimit bounds one call of the compose program. Recreating waits for
	// the old container to stop (10 s unless its file says more).
	programLimit = 10 * time.Minute
)

// ErrNoProgram says that neither Compose v2 nor docker-compose is there.
var ErrNoProgram = errors.New("no compose program")

// Program runs the compose program, as the labels of the project's containers
// say that it was run before. Only it can make a container anew: how is written
// in the compose file.
type Program struct {
	Project *Project
	EnvFile string   // "": the .env in the project's directory
	Files   []string // "": those of the labels
	// Hide are variables that are taken out of the program's environment, which
	// would go before the .env file, besides those that the file sets: our own
	// DATABASE_URL is not the services'.
	Hide []string
}

// find returns the program and the arguments that all its calls begin with.
func find(ctx context.Context) ([]string, error) {
	if docker, err := exec.LookPath("docker"); err == nil && exec.CommandContext(ctx, docker, "compose", "version").Run() == nil {
		return []string{docker, "compose"}, nil
	}
	if v1, err := exec.LookPath("docker-compose"); err == nil {
		return []string{v1}, nil
	}
	return nil, explain(ErrNoProgram, nil, "neither 'docker compose' nor docker-compose runs here: install the docker-compose-plugin package, or run escrowctl where it is installed")
}

// ProgramVersion returns the compose program of this host, as "docker compose",
// and its version, "2.29.1". Error: ErrNoProgram.
func ProgramVersion(ctx context.Context) (program, version string, err error) {
	words, err := find(ctx)
	if err != nil {
		return "", "", err
	}
	out, err := exec.CommandContext(ctx, words[0], append(words[1:], "version", "--short")...).Output()
	if err != nil {
		return "", "", explain(ErrNoProgram, err, "%s version: %v", strings.Join(words, " "), err)
	}
	words[0] = filepath.Base(words[0])
	return strings.Join(words, " "), strings.TrimPrefix(strings.TrimSpace(string(out)), "v"), nil
}

// arguments are those that name the project.
func (g Program) arguments() []string {
	p := g.Project
	args := []string{"-p", p.name}
	if p.dir != "" {
		args = append(args, "--project-directory", p.dir)
	}
	files := g.Files
	if len(files) == 0 {
		files = p.files
	}
	for _, f := range files {
		args = append(args, "-f", f)
	}
	if g.EnvFile != "" {
		args = append(args, "--env-file", g.EnvFile)
	}
	return args
}

// run calls the program and returns its standard output. It holds the lock of
// the project's directory, in the child process too: should this process be
// killed, whoever comes next waits for the child's end. A call that has begun
// is brought to its end although ctx is over, or a container would be left
// between two lives.
func (g Program) run(ctx context.Context, words ...string) (string, error) {
	program, err := find(ctx)
	if err != nil {
		return "", err
	}
	lock, err := envfile.Lock(ctx, orHere(g.Project.dir), 2*time.Minute)
	if err != nil {
		return "", fmt.Errorf("compose: %w", err)
	}
	defer lock.Close()
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), programLimit)
	defer cancel()
	cmd := exec.CommandContext(limited, program[0], slices.Concat(program[1:], g.arguments(), words)...)
	cmd.Dir = g.Project.dir
	cmd.Env = g.environ(os.Environ())
	cmd.ExtraFiles = []*os.File{lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("compose: %s %s: %w: %s", strings.Join(program[:1], " "), strings.Join(words, " "), err, lastLines(stderr.String()))
	}
	return stdout.String(), nil
}

func orHere(dir string) string {
	if dir == "" {
		return "."
	}
	return dir
}

func (g Program) environ(all []string) []string {
	hidden := slices.Clone(g.Hide)
	path := g.EnvFile
	if path == "" {
		path = filepath.Join(g.Project.dir, ".env")
	}
	if f, err := envfile.Read(path); err == nil { // else Compose says what is wrong with it
		hidden = append(hidden, f.Names()...)
	}
	kept := slices.DeleteFunc(slices.Clone(all), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(hidden, name) && name != "PATH" && name != "HOME" // which it needs itself
	})
	for _, entry := range kept {
		if dir, found := strings.CutPrefix(entry, "DOCKER_CERT_PATH="); found && dir != "" {
			return append(kept, "DOCKER_TLS_VERIFY=1") // as Engine has it
		}
	}
	return kept
}

// lastLines is the end of what a program said, on one line.
func lastLines(text string) string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) > 3 {
		lines = lines[len(lines)-3:]
	}
	return strings.Join(lines, "; ")
}

// Recreate makes the service's containers anew where their configuration has
// changed, and touches no other service.
func (g Program) Recreate(ctx context.Context, service string) error {
	_, err := g.run(ctx, "up", "-d", "--no-deps", service)
	return err
}

// Drift says what Compose would change in the service already now: the names of
// variables and the image that differ from those of its containers. None means
// that Compose would leave it alone.
func (g Program) Drift(ctx context.Context, service string) ([]string, error) {
	hash, err := g.run(ctx, "config", "--hash", service)
	if err != nil {
		return nil, err
	}
	_, hash, _ = strings.Cut(strings.TrimSpace(hash), " ")
	lives, err := g.Project.inspect(ctx, service)
	if err != nil || len(lives) == 0 || hash == "" {
		return nil, err
	}
	if !slices.ContainsFunc(lives, func(l inspected) bool { return l.labels[labelHash] != hash }) {
		return nil, nil
	}
	text, err := g.run(ctx, "config")
	if err != nil {
		return nil, err
	}
	var file struct {
		Services map[string]struct {
			Image       string    `yaml:"image"`
			Environment yaml.Node `yaml:"environment"`
		} `yaml:"services"`
	}
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		return nil, errors.New("compose: its config cannot be read as YAML") // the error would quote it
	}
	want := file.Services[service]
	var out []string
	if want.Image != "" && want.Image != lives[0].image {
		out = append(out, "image "+lives[0].image+" to "+want.Image)
	}
	for name, value := range environment(want.Environment) {
		if have, ok := lives[0].env[name]; !ok || have != value {
			out = append(out, "variable "+name)
		}
	}
	slices.Sort(out)
	if len(out) == 0 {
		out = []string{"its configuration, other than image and variables"}
	}
	return out, nil
}

// environment reads both forms of a service's variables.
func environment(node yaml.Node) map[string]string {
	out := map[string]string{}
	var list []string
	if node.Kind == yaml.SequenceNode && node.Decode(&list) == nil {
		for _, entry := range list {
			name, value, _ := strings.Cut(entry, "=")
			out[name] = value
		}
		return out
	}
	for i := 0; node.Kind == yaml.MappingNode && i+1 < len(node.Content); i += 2 {
		out[node.Content[i].Value] = node.Content[i+1].Value
	}
	return out
}

// Live is a container of a service as it is now, with the value that one
// variable had when it was made.
type Live struct {
	ID     string
	Name   string
	State  string
	Health string // "" without a healthcheck
	Value  secret.Value
	HasIt  bool // the variable is set
}

type inspected struct {
	Live
	image  string
	labels map[string]string
	env    map[string]string
}

// inspect looks at the service's containers, or at all of the project's if
// service is "".
func (p *Project) inspect(ctx context.Context, service string) ([]inspected, error) {
	all, err := p.Containers(ctx)
	if err != nil {
		return nil, err
	}
	var out []inspected
	for _, c := range all {
		if service != "" && c.Service != service {
			continue
		}
		got, err := inspect(ctx, p.engine, c.ID)
		if err != nil {
			if strings.Contains(err.Error(), "No such container") {
				continue // it went meanwhile
			}
			return nil, engineError(ctx, "inspect "+c.Name, p.engine.DaemonHost(), err)
		}
		one := inspected{Live: Live{ID: c.ID, Name: c.Name, State: c.State}, env: map[string]string{}}
		if s := got.Container.State; s != nil {
			one.State = string(s.Status)
			if s.Health != nil && s.Health.Status != "none" {
				one.Health = string(s.Health.Status)
			}
		}
		if c := got.Container.Config; c != nil {
			one.image, one.labels = c.Image, c.Labels
			for _, entry := range c.Env {
				name, value, _ := strings.Cut(entry, "=")
				one.env[name] = value
			}
		}
		out = append(out, one)
	}
	return out, nil
}

// Live returns the service's containers, stopped ones too, with the value that
// variable has in each.
func (p *Project) Live(ctx context.Context, service, variable string) ([]Live, error) {
	all, err := p.inspect(ctx, service)
	if err != nil {
		return nil, err
	}
	out := make([]Live, 0, len(all))
	for _, one := range all {
		value, ok := one.env[variable]
		one.Value, one.HasIt = secret.New(value), ok
		out = append(out, one.Live)
	}
	return out, nil
}

// Holders returns the services of which a container was made with the text
// anywhere in its variables or its command, sorted: those that must be made
// anew when it changes.
func (p *Project) Holders(ctx context.Context, text secret.Value) ([]string, error) {
	if text.IsZero() {
		return nil, nil
	}
	all, err := p.Containers(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, c := range all {
		got, err := inspect(ctx, p.engine, c.ID)
		if err != nil {
			return nil, engineError(ctx, "inspect "+c.Name, p.engine.DaemonHost(), err)
		}
		if conf := got.Container.Config; conf != nil {
			for _, entry := range slices.Concat(conf.Env, conf.Cmd, conf.Entrypoint) {
				if strings.Contains(entry, text.Reveal()) {
					out = addOnce(out, c.Service)
				}
			}
		}
	}
	slices.Sort(out)
	return out, nil
}
