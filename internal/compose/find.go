package compose

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// The labels of Compose v1 and v2. Those of directory and files came with 1.25.
const (
	labelProject = "com.docker.compose.project"
	labelService = "com.docker.compose.service"
	labelNumber  = "com.docker.compose.container-number"
	labelOneoff  = "com.docker.compose.oneoff"
	labelDir     = "com.docker.compose.project.working_dir"
	labelFiles   = "com.docker.compose.project.config_files"
)

// list returns the containers with a label, stopped ones too, without one-offs.
func list(ctx context.Context, engine *client.Client, label string) ([]container.Summary, error) {
	filters := make(client.Filters).Add("label", label)
	result, err := ask(ctx, func(ctx context.Context) (client.ContainerListResult, error) {
		return engine.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filters})
	})
	if err != nil {
		return nil, engineError(ctx, "list containers", engine.DaemonHost(), err)
	}
	return slices.DeleteFunc(result.Items, func(s container.Summary) bool {
		return strings.EqualFold(s.Labels[labelOneoff], "true")
	}), nil
}

var healthInStatus = regexp.MustCompile(`\((?:health: )?(healthy|unhealthy|starting)\)$`)

func describe(s container.Summary) Container {
	c := Container{
		ID: s.ID, Service: s.Labels[labelService], Image: s.Image,
		State: string(s.State), Status: s.Status,
	}
	c.Number, _ = strconv.Atoi(s.Labels[labelNumber])
	if len(s.Names) > 0 {
		c.Name = strings.TrimPrefix(s.Names[0], "/")
	}
	// Engines before API 1.52 tell health only inside the status line.
	if m := healthInStatus.FindStringSubmatch(s.Status); m != nil {
		c.Health = m[1]
	}
	return c
}

// candidate is a project as the labels of its containers show it.
type candidate struct {
	name     string
	dirs     []string // working directories, normally one
	files    []string // absolute
	services []string
}

func (c candidate) dir() string {
	if len(c.dirs) == 0 {
		return ""
	}
	return c.dirs[0]
}

func (c candidate) String() string {
	if c.dir() == "" {
		return fmt.Sprintf("%s (%s)", c.name, orNone(c.services))
	}
	return fmt.Sprintf("%s (%s; %s)", c.name, c.dir(), orNone(c.services))
}

func listProjects(ctx context.Context, engine *client.Client) ([]candidate, error) {
	items, err := list(ctx, engine, labelProject)
	if err != nil {
		return nil, err
	}
	var found []candidate
	for _, item := range items {
		name := item.Labels[labelProject]
		at := slices.IndexFunc(found, func(c candidate) bool { return c.name == name })
		if at < 0 {
			found = append(found, candidate{name: name})
			at = len(found) - 1
		}
		found[at].add(item.Labels)
	}
	slices.SortFunc(found, func(a, b candidate) int { return strings.Compare(a.name, b.name) })
	return found, nil
}

func (c *candidate) add(labels map[string]string) {
	c.services = addOnce(c.services, labels[labelService])
	dir := labels[labelDir]
	c.dirs = addOnce(c.dirs, dir)
	for _, file := range strings.Split(labels[labelFiles], ",") {
		if file != "" && !filepath.IsAbs(file) { // v1 keeps them as they were given
			file = filepath.Join(dir, file)
		}
		c.files = addOnce(c.files, file)
	}
}

func addOnce(list []string, s string) []string {
	if s == "" || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// choose picks the project that opts mean: by its name, by the files or the
// directory in the labels, by the name that its files give it, and at last by
// the name that Compose would derive from the directory.
func choose(found []candidate, opts Options) (candidate, error) {
	if opts.Project != "" {
		return chooseNamed(found, opts.Project)
	}
	base, err := os.Getwd()
	if err != nil {
		base = "/"
	}
	dir, what := absolute(base, opts.Dir), "directory "
	var files []string
	for _, f := range opts.Files {
		files = append(files, absolute(dir, f))
	}
	if len(files) > 0 {
		if opts.Dir == "" {
			dir = filepath.Dir(files[0])
		}
		what = "file " + files[0] + " in directory "
	}
	matches := byLabels(found, dir, files)
	if len(matches) == 0 {
		matches = byNames(found, namesFor(dir, files))
	}
	if len(matches) == 0 && opts.Dir == "" && len(files) == 0 && len(found) == 1 {
		matches = found
	}
	switch len(matches) {
	case 1:
		return matches[0], nil
	case 0:
		return candidate{}, explain(ErrNoProject, nil, "no project for %s%s: %s: %s", what, dir, onEngine(found), whichOne)
	default:
		return candidate{}, explain(ErrNoProject, nil, "more than one project for %s%s: %s: set compose.project", what, dir, onEngine(matches))
	}
}

const whichOne = "set compose.project or compose.dir, or start it with docker compose up -d"

func chooseNamed(found []candidate, name string) (candidate, error) {
	if m := byNames(found, append([]string{name}, normalised(name)...)); len(m) == 1 {
		return m[0], nil
	}
	return candidate{}, explain(ErrNoProject, nil, "no project %s: %s: %s", name, onEngine(found), whichOne)
}

func onEngine(found []candidate) string {
	if len(found) == 0 {
		return "the engine has no compose project at all"
	}
	texts := make([]string, len(found))
	for i, c := range found {
		texts[i] = c.String()
	}
	return "the engine has " + strings.Join(texts, ", ")
}

func byLabels(found []candidate, dir string, files []string) []candidate {
	var matches []candidate
	for _, c := range found {
		var match bool
		if len(files) > 0 {
			match = !slices.ContainsFunc(files, func(f string) bool {
				return !slices.ContainsFunc(c.files, func(g string) bool { return resolveLinks(g) == f })
			})
		} else {
			match = slices.ContainsFunc(c.dirs, func(d string) bool { return resolveLinks(d) == dir })
		}
		if match {
			matches = append(matches, c)
		}
	}
	return matches
}

// byNames returns the project of the first name that is one.
func byNames(found []candidate, names []string) []candidate {
	for _, name := range names {
		for _, c := range found {
			if c.name == name {
				return []candidate{c}
			}
		}
	}
	return nil
}

// namesFor are the names that the project of a directory may go by, most
// binding first: COMPOSE_PROJECT_NAME in .env, name: in the compose file, and
// the directory's base name as each generation of Compose normalises it.
func namesFor(dir string, files []string) []string {
	if len(files) == 0 {
		for _, f := range []string{"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"} {
			files = append(files, filepath.Join(dir, f))
		}
	}
	names := scan(filepath.Join(dir, ".env"), projectNameInEnv)
	for _, f := range files {
		names = append(names, scan(f, projectNameInFile)...)
	}
	return append(names, normalised(filepath.Base(dir))...)
}

var (
	projectNameInEnv  = regexp.MustCompile(`^(?:export\s+)?COMPOSE_PROJECT_NAME=["']?([-_a-z0-9]+)["']?\s*$`)
	projectNameInFile = regexp.MustCompile(`^name:\s*["']?([-_a-z0-9]+)["']?\s*(?:#.*)?$`)
)

// scan returns the pattern's group in the lines of a file that may not exist.
func scan(path string, pattern *regexp.Regexp) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var hits []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if m := pattern.FindStringSubmatch(lines.Text()); m != nil {
			hits = append(hits, m[1])
		}
	}
	return hits
}

var (
	notInName    = regexp.MustCompile(`[^-_a-z0-9]`)
	notInOldName = regexp.MustCompile(`[^a-z0-9]`)
)

// normalised turns a base name into project names as Compose does: v2 (which
// also drops leading dashes and underscores), v1 from 1.21, and v1 before.
func normalised(base string) []string {
	base = strings.ToLower(base)
	v1 := notInName.ReplaceAllString(base, "")
	var names []string
	for _, n := range []string{strings.TrimLeft(v1, "-_"), v1, notInOldName.ReplaceAllString(base, "")} {
		names = addOnce(names, n)
	}
	return names
}
