package compose

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/joho/godotenv"
	"go.yaml.in/yaml/v3"
)

// ErrNoFile says that there is no compose file to read.
var ErrNoFile = errors.New("no compose file")

// Definition is what the compose files of a project say of its services.
type Definition struct {
	Files    []string // as they were read, absolute
	EnvFile  string   // the .env that was read; empty if there is none
	Services []Defined
}

// Defined is a service as the files define it.
type Defined struct {
	Name     string
	Wanted   bool   // false: only in a profile that is not active, or scaled to 0
	Replicas int    // containers that it has
	OneShot  bool   // another service waits for it to complete
	Image    string // as .env completes it; empty if it is built, or cannot be told
	// Env are the variables of its environment that come from .env, with the
	// value that it gives them now. They hold secrets.
	Env map[string]string
}

// findFiles returns the compose files that opts mean: those named, else the first
// that a directory has of the usual names, with its override. labels are those
// that the labels of a project name.
func findFiles(opts Options, labels []string) ([]string, error) {
	files := opts.Files
	if len(files) == 0 && opts.Dir == "" && len(labels) > 0 {
		files = labels
	}
	if len(files) == 0 {
		for _, name := range []string{"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"} {
			if path := absolute(opts.Dir, name); isFile(path) {
				files = append(files, path)
				break
			}
		}
		for _, name := range []string{"compose.override.yaml", "compose.override.yml", "docker-compose.override.yml", "docker-compose.override.yaml"} {
			if path := absolute(opts.Dir, name); len(files) > 0 && isFile(path) {
				files = append(files, path)
				break
			}
		}
	}
	if len(files) == 0 {
		return nil, explain(ErrNoFile, nil, "no compose file in %s: set compose.files or compose.dir", absolute(opts.Dir, "."))
	}
	var out []string
	for _, f := range files {
		path := absolute(opts.Dir, f)
		if !isFile(path) {
			return nil, explain(ErrNoFile, nil, "compose file %s is not there: set compose.files or compose.dir", path)
		}
		out = append(out, path)
	}
	return out, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// Define reads the compose files that opts mean: which services there are, with
// includes and overrides. Of a service that extends another, image and
// environment are read as they stand in the service itself. Errors: ErrNoFile, and what is wrong with a file.
func Define(opts Options, envFile string) (Definition, error) {
	return define(opts, nil, envFile)
}

// Define reads the project's compose files: those that opts name, else those of
// its labels.
func (p *Project) Define(opts Options, envFile string) (Definition, error) {
	labels := slices.Clone(p.files)
	for i, f := range labels {
		// Compose v1 keeps them as they were given, relative to whoever called it.
		if beside := filepath.Join(p.dir, filepath.Base(f)); !isFile(f) && isFile(beside) {
			labels[i] = beside
		}
	}
	return define(opts, labels, envFile)
}

func define(opts Options, labels []string, envFile string) (Definition, error) {
	files, err := findFiles(opts, labels)
	if err != nil {
		return Definition{}, err
	}
	d := Definition{Files: files}
	vars, err := d.readEnv(filepath.Dir(files[0]), envFile)
	if err != nil {
		return Definition{}, err
	}
	services := map[string]yamlService{}
	for _, f := range files {
		if err := readServices(f, services, 0); err != nil {
			return Definition{}, err
		}
	}
	if len(services) == 0 {
		return Definition{}, fmt.Errorf("compose: %s defines no services", strings.Join(files, ", "))
	}
	awaited := map[string]bool{}
	for _, s := range services {
		for name, how := range s.DependsOn.conditions {
			awaited[name] = awaited[name] || how == "service_completed_successfully"
		}
	}
	profiles := strings.Split(vars["COMPOSE_PROFILES"], ",")
	for _, name := range slices.Sorted(maps.Keys(services)) {
		d.Services = append(d.Services, services[name].defined(name, vars, profiles, awaited[name]))
	}
	return d, nil
}

// readEnv reads the project's .env, which need not be there unless it is named.
func (d *Definition) readEnv(dir, envFile string) (map[string]string, error) {
	path := envFile
	if path == "" {
		path = filepath.Join(dir, ".env")
	}
	body, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) && envFile == "" {
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, err
	}
	vars, err := godotenv.UnmarshalBytes(body)
	if err != nil {
		return nil, fmt.Errorf("compose: %s is not a valid .env file", path) // the cause quotes it
	}
	d.EnvFile = path
	return vars, nil
}

// readBounded reads a file that a person wrote.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("compose: %w", err)
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("compose: %w", err)
	}
	if len(body) > maxFileBytes {
		return nil, fmt.Errorf("compose: %s is larger than %d bytes", path, maxFileBytes)
	}
	return body, nil
}

const (
	maxFileBytes = 1 << 20
	maxIncludes  = 8 // deep
)

// yamlFile is what is read of a compose file. Of a service that extends another
// only what stands in the service itself is read.
type yamlFile struct {
	Services map[string]yamlService `yaml:"services"`
	Include  []yamlInclude          `yaml:"include"`
}

type yamlService struct {
	Image    string   `yaml:"image"`
	Profiles []string `yaml:"profiles"`
	Scale    *int     `yaml:"scale"`
	Deploy   struct {
		Replicas *int `yaml:"replicas"`
	} `yaml:"deploy"`
	Environment yamlEnv     `yaml:"environment"`
	DependsOn   yamlDepends `yaml:"depends_on"`
}

// yamlInclude is a path, or an object with one or several.
type yamlInclude struct{ paths []string }

func (i *yamlInclude) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.MappingNode {
		var long struct {
			Path yaml.Node `yaml:"path"`
		}
		if err := node.Decode(&long); err != nil {
			return err
		}
		node = &long.Path
	}
	if node.Kind == yaml.SequenceNode {
		return node.Decode(&i.paths)
	}
	var path string
	err := node.Decode(&path)
	i.paths = []string{path}
	return err
}

// yamlEnv is an environment: a map, or a list of NAME=value.
type yamlEnv map[string]string

func (e *yamlEnv) UnmarshalYAML(node *yaml.Node) error {
	*e = yamlEnv{}
	if node.Kind == yaml.SequenceNode {
		var list []string
		if err := node.Decode(&list); err != nil {
			return err
		}
		for _, entry := range list {
			if name, value, ok := strings.Cut(entry, "="); ok {
				(*e)[name] = value
			}
		}
		return nil
	}
	var values map[string]*string
	if err := node.Decode(&values); err != nil {
		return err
	}
	for name, value := range values {
		if value != nil {
			(*e)[name] = *value
		}
	}
	return nil
}

// yamlDepends is a list of services, or a map of them to conditions.
type yamlDepends struct{ conditions map[string]string }

func (d *yamlDepends) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.MappingNode {
		return nil
	}
	var long map[string]struct {
		Condition string `yaml:"condition"`
	}
	if err := node.Decode(&long); err != nil {
		return err
	}
	d.conditions = map[string]string{}
	for name, how := range long {
		d.conditions[name] = how.Condition
	}
	return nil
}

// readServices adds the services of a file, and of those it includes, over those
// that are there.
func readServices(path string, into map[string]yamlService, depth int) error {
	if depth > maxIncludes {
		return fmt.Errorf("compose: %s: files include each other too deeply", path)
	}
	body, err := readBounded(path)
	if err != nil {
		return err
	}
	var f yamlFile
	if err := yaml.Unmarshal(body, &f); err != nil {
		// The library's message quotes the file, and so perhaps its secrets.
		return fmt.Errorf("compose: %s is not a valid compose file: see docker compose config -q", path)
	}
	for _, include := range f.Include {
		for _, p := range include.paths {
			if strings.Contains(p, "://") || strings.Contains(p, "$") {
				return fmt.Errorf("compose: %s includes %s, which is not read from here", path, p)
			}
			if !filepath.IsAbs(p) {
				p = filepath.Join(filepath.Dir(path), p)
			}
			if err := readServices(p, into, depth+1); err != nil {
				return err
			}
		}
	}
	for name, s := range f.Services {
		into[name] = into[name].over(s)
	}
	return nil
}

// over returns the service with what a later file says of it.
func (s yamlService) over(later yamlService) yamlService {
	if later.Image != "" {
		s.Image = later.Image
	}
	if later.Profiles != nil {
		s.Profiles = later.Profiles
	}
	if later.Scale != nil {
		s.Scale = later.Scale
	}
	if later.Deploy.Replicas != nil {
		s.Deploy.Replicas = later.Deploy.Replicas
	}
	env := yamlEnv{}
	maps.Copy(env, s.Environment)
	maps.Copy(env, later.Environment)
	s.Environment = env
	depends := map[string]string{}
	maps.Copy(depends, s.DependsOn.conditions)
	maps.Copy(depends, later.DependsOn.conditions)
	s.DependsOn.conditions = depends
	return s
}

func (s yamlService) defined(name string, vars map[string]string, profiles []string, oneShot bool) Defined {
	d := Defined{Name: name, Wanted: true, Replicas: 1, OneShot: oneShot, Env: map[string]string{}}
	if len(s.Profiles) > 0 {
		d.Wanted = slices.ContainsFunc(s.Profiles, func(p string) bool { return slices.Contains(profiles, p) || slices.Contains(profiles, "*") })
	}
	for _, n := range []*int{s.Deploy.Replicas, s.Scale} {
		if n != nil && *n >= 0 {
			d.Replicas = *n
		}
	}
	d.Wanted = d.Wanted && d.Replicas > 0
	if image, ok := fill(s.Image, vars); ok {
		d.Image = image
	}
	for key, raw := range s.Environment {
		if !strings.Contains(raw, "$") {
			continue
		}
		if value, ok := fill(raw, vars); ok {
			d.Env[key] = value
		}
	}
	return d
}

var variable = regexp.MustCompile(`\$(?:\$|([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)((?::?[-?+])([^{}]*))?\})`)

// fill completes a text from .env. It is not ok where a variable is not there,
// as what it was then only the shell of whoever started the project knows, and
// where the text is more involved than NAME, NAME:-default and the like.
func fill(text string, vars map[string]string) (value string, ok bool) {
	ok = true
	value = variable.ReplaceAllStringFunc(text, func(m string) string {
		if m == "$$" {
			return "\x00" // a dollar that stays
		}
		g := variable.FindStringSubmatch(m)
		name := g[1] + g[2]
		v, set := vars[name]
		ok = ok && set
		// The variable is set; whether it is empty matters with a colon only.
		empty := v == "" && strings.HasPrefix(g[3], ":")
		switch strings.TrimPrefix(g[3], ":") {
		case "":
			return v
		}
		switch op := strings.TrimPrefix(g[3], ":")[0]; {
		case op == '-' && empty:
			return g[4]
		case op == '?' && empty:
			ok = false
		case op == '+' && empty:
			return ""
		case op == '+':
			return g[4]
		}
		return v
	})
	ok = ok && !strings.Contains(value, "${")
	return strings.ReplaceAll(value, "\x00", "$"), ok
}

// NameFor is the name that the project of opts has, or would have.
func NameFor(opts Options) string {
	if opts.Project != "" {
		return opts.Project
	}
	dir := absolute(opts.Dir, ".")
	var files []string
	for _, f := range opts.Files {
		files = append(files, absolute(dir, f))
	}
	if len(files) > 0 && opts.Dir == "" {
		dir = filepath.Dir(files[0])
	}
	names := namesFor(dir, files)
	if len(names) == 0 {
		return ""
	}
	return names[0]
}
