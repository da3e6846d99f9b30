package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/migrate"
	"github.com/stellarescrow/escrowctl/internal/schedule"
	"github.com/stellarescrow/escrowctl/internal/secret"
	"go.yaml.in/yaml/v3"
)

// planConfig writes the configuration, and proves that with it escrowctl, run
// by cron, sees what the scripts saw. It tells whether there is a bucket.
func (a *App) planConfig(p *migration) (bucket bool, err error) {
	work, err := os.MkdirTemp("", "escrowctl-migrate-")
	if err != nil {
		return false, err
	}
	defer func() { _ = os.RemoveAll(work) }()
	none := filepath.Join(work, "none.yaml")
	defaults, err := config.Load(config.Options{Dir: work, SystemFile: none})
	if err != nil {
		return false, err
	}
	old, err := config.Load(config.Options{Dir: work, SystemFile: none, Environ: p.environ()})
	p.scrub = old.Scrubber(p.secrets()...).Scrub
	a.io.Scrub = p.scrub
	if p.badValues(err) {
		return false, nil
	}
	text, err := p.yaml(defaults, old)
	if err != nil {
		return false, err
	}
	file := p.target
	if p.before, p.there = standing(p.target); !p.there {
		p.config = text
		file = filepath.Join(work, config.FileName)
		if err := os.WriteFile(file, []byte(p.config), 0o600); err != nil {
			return false, err
		}
	}
	next, err := config.Load(config.Options{Path: file, Dir: work, SystemFile: none, Environ: p.cronEnviron()})
	if p.badValues(err) {
		return false, nil
	}
	p.compareConfigs(old, next)
	return next.S3.Bucket != "", nil
}

// standing reads a configuration file, and tells whether it is one to keep. One
// that sets nothing, as the package brings it, is as good as none; what is wrong
// with one that cannot be read says who loads it.
func standing(name string) (text string, keep bool) {
	b, err := os.ReadFile(name)
	if err != nil {
		return "", !errors.Is(err, fs.ErrNotExist)
	}
	var root yaml.Node
	err = yaml.Unmarshal(b, &root)
	return string(b), err != nil || len(root.Content) > 0
}

// badValues makes conflicts of faults.
func (p *migration) badValues(err error) bool {
	var faults *config.Error
	if !errors.As(err, &faults) {
		return err != nil
	}
	for _, f := range faults.Faults {
		where := ""
		if v, ok := p.found.Variables[f.Origin.Name]; ok {
			where = v.Place.String() + ": "
		}
		p.conflicts = append(p.conflicts, where+f.String())
	}
	return true
}

// environ is what the scripts see.
func (p *migration) environ() []string {
	var out []string
	for name, v := range p.found.Variables {
		if v.Value != "" {
			out = append(out, name+"="+v.Value)
		}
	}
	return out
}

// cronEnviron is what cron gives the new rows.
func (p *migration) cronEnviron() []string {
	var out []string
	for name, value := range envAtEnd(p.into) {
		out = append(out, name+"="+value)
	}
	return out
}

// envAtEnd are the variables in effect at a crontab's end, where new rows go.
func envAtEnd(c *crontabEdit) map[string]string {
	text := c.before
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	probe := "@daily x\n"
	if c.system {
		probe = "@daily root x\n"
	}
	rows := schedule.Parse(text+probe, schedule.Format{System: c.system}).Rows
	return rows[len(rows)-1].Env
}

// secrets are the values that are never shown.
func (p *migration) secrets() []string {
	var out []string
	for name, v := range p.found.Variables {
		if slices.Contains(config.CredentialVariables()[1:], name) {
			out = append(out, v.Value)
		}
	}
	for _, c := range p.crontabs {
		for name, value := range envAtEnd(c) {
			upper := strings.ToUpper(name)
			for _, word := range []string{"PASS", "SECRET", "TOKEN", "KEY", "WEBHOOK"} {
				if strings.Contains(upper, word) {
					out = append(out, value)
				}
			}
			if strings.Contains(value, "://") && secret.RedactURL(value) != value {
				out = append(out, value)
			}
		}
	}
	return out
}

// envFile is the .env that the configuration names: the one that sets most.
func (p *migration) envFile() string {
	best, most := "", 0
	for _, file := range p.found.EnvFiles {
		n := 0
		for _, v := range p.found.Variables {
			if v.Place.File == file {
				n++
			}
		}
		if n > most {
			best, most = file, n
		}
	}
	return best
}

// projectDir is the compose project's directory, "" if none was met.
func (p *migration) projectDir() string {
	for _, dir := range p.found.Dirs {
		for _, name := range []string{"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"} {
			if exists(filepath.Join(dir, name)) {
				return dir
			}
		}
	}
	return ""
}

// yaml writes the configuration: what differs from the defaults and is no
// secret, with where it was, and the .env for the rest.
func (p *migration) yaml(defaults, old *config.Loaded) (string, error) {
	variables, env := config.Variables(), p.envFile()
	differ := config.Differing(defaults, old)
	lines := map[string]*yaml.Node{}
	for name, v := range p.found.Variables {
		known, ok := variables[name]
		switch {
		case !ok, known.Secret, v.Value == "", !slices.Contains(differ, known.Key):
		case v.Kind == migrate.InEnvFile && v.Place.File == env:
		case old.Origin(known.Key).Name != name: // another variable of the key weighs more
		default:
			lines[known.Key] = &yaml.Node{Kind: yaml.ScalarNode, Value: v.Value, LineComment: "# " + v.Place.String()}
		}
	}
	if env != "" {
		lines["compose.env_file"] = &yaml.Node{Kind: yaml.ScalarNode, Value: env, LineComment: "# secrets and settings stay there"}
	}
	if dir := p.projectDir(); dir != "" {
		lines["compose.dir"] = &yaml.Node{Kind: yaml.ScalarNode, Value: dir}
	}
	root := &yaml.Node{Kind: yaml.MappingNode, HeadComment: "# Written by 'escrowctl migrate scripts'. Every key: escrowctl config show."}
	names := make([]string, 0, len(lines))
	for name := range lines {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		at := root
		parts := strings.Split(name, ".")
		for _, part := range parts[:len(parts)-1] {
			at = child(at, part)
		}
		at.Content = append(at.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: parts[len(parts)-1]}, lines[name])
	}
	if len(root.Content) == 0 {
		return root.HeadComment + "\n", nil
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return "", err
	}
	return out.String(), nil
}

// child is the section of that name in a mapping, made if it is not there.
func child(at *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(at.Content); i += 2 {
		if at.Content[i].Value == name {
			return at.Content[i+1]
		}
	}
	section := &yaml.Node{Kind: yaml.MappingNode}
	at.Content = append(at.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, section)
	return section
}

// compareConfigs finds what escrowctl would see otherwise than the scripts.
func (p *migration) compareConfigs(old, next *config.Loaded) {
	variables := config.Variables()
	where := func(key string) string {
		for name, v := range p.found.Variables {
			if variables[name].Key == key && old.Origin(key).Name == name {
				return fmt.Sprintf("%s (%s)", name, v.Place)
			}
		}
		return key
	}
	home := p.envFile()
	if home == "" {
		home = "a .env file of mode 0600, named in compose.env_file"
	}
	for _, key := range config.Differing(old, next) {
		if old.Origin(key).Kind != config.FromEnv {
			continue
		}
		way := "set both alike"
		switch {
		case next.Origin(key).Kind != config.FromDefault:
		case p.there:
			way = "set it in " + p.target + ", or name in its compose.env_file the .env that does"
		default:
			way = "move the line to " + home + ", which the script can read too"
		}
		p.conflicts = append(p.conflicts, fmt.Sprintf("%s: escrowctl would not see it so, but as %s has it: %s", where(key), next.Origin(key), way))
	}
	if next.Database.URL.IsZero() && old.Database.URL.IsZero() {
		p.conflicts = append(p.conflicts, "DATABASE_URL: neither the rows nor the scripts nor a .env that they read set it: add it to "+home)
	}
	p.compareAWS(next)
	slices.Sort(p.conflicts)
}

// compareAWS finds variables of the AWS SDK that the new rows would lack.
func (p *migration) compareAWS(next *config.Loaded) {
	cron := envAtEnd(p.into)
	for name, v := range p.found.Variables {
		_, ours := config.Variables()[name]
		seen := slices.Contains(config.CredentialVariables(), name) && next.Credentials.AccessKeyID != "" && v.Kind == migrate.InEnvFile && v.Place.File == next.Compose.EnvFile
		if !strings.HasPrefix(name, "AWS_") || ours || v.Value == "" || cron[name] == v.Value || seen {
			continue
		}
		way := "write it above the rows in the " + p.into.name
		if slices.Contains(config.CredentialVariables(), name) {
			way = "move it to the .env that compose.env_file names, or to ~/.aws/credentials"
		}
		p.conflicts = append(p.conflicts, fmt.Sprintf("%s (%s): escrowctl would not see it: %s", name, v.Place, way))
	}
}
