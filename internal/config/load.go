package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
)

// ConfigVariable names the configuration file, where no flag does.
const ConfigVariable = envPrefix + "CONFIG"

// The configuration file's name, and where it lies for the whole host.
const (
	FileName   = "escrowctl.yaml"
	SystemFile = "/etc/escrowctl/" + FileName
)

// Options say where to load from.
type Options struct {
	// Path is the configuration file; it must be there. Empty: $ESCROWCTL_CONFIG,
	// which must be there too, else escrowctl.yaml in Dir, else SystemFile, else
	// none.
	Path string
	// Environ is the environment, as os.Environ gives it.
	Environ []string
	// Flags are the flags that were given, by key (s3.bucket).
	Flags map[string]string
	// FlagNames are the flags' names with their dashes, by key, for messages.
	// A key that is not in it is called --s3-bucket.
	FlagNames map[string]string
	// Dir is the working directory; empty is the process's own.
	Dir string
	// SystemFile takes the place of /etc/escrowctl/escrowctl.yaml in tests.
	SystemFile string
}

// Load loads and checks the configuration. Relative paths are relative to the
// directory of the file that has them, those of the environment and of flags to
// Dir, compose.files and compose.env_file to compose.dir if that is set.
//
// The error is an *Error with all faults. Loaded is never nil: with an error it
// holds what could be read, for showing it.
func Load(opts Options) (*Loaded, error) {
	l := &loader{opts: opts, keys: keys(), vars: variables(opts.Environ)}
	l.loaded = &Loaded{keys: l.keys, environ: l.vars, origins: make(map[string]Origin)}
	l.file()
	l.sources[FromEnv].settings = envSettings(l.vars, l.keys, opts.Dir, func(name string) Origin { return Origin{Kind: FromEnv, Name: name} })
	l.flags()
	l.envFile()
	l.warn(unknownVariables(l.vars, l.keys)...)

	faults := l.apply()
	faults = append(faults, l.crossCheck()...)
	faults = append(faults, l.checkThresholds()...)
	l.checkModes()
	l.checkTransport()
	if len(faults) > 0 {
		return l.loaded, &Error{Faults: faults}
	}
	return l.loaded, nil
}

type loader struct {
	opts    Options
	keys    []*key
	vars    map[string]string
	sources [FromFlag + 1]source
	loaded  *Loaded
}

func (l *loader) warn(warnings ...string) {
	l.loaded.Warnings = append(l.loaded.Warnings, warnings...)
}

// file finds and reads the configuration file.
func (l *loader) file() {
	named := func(path string, origin Origin) bool {
		if path == "" {
			return false
		}
		path = rebased(path, l.opts.Dir)
		l.loaded.File = path
		l.sources[FromFile] = readYAML(path, filepath.Dir(path), l.keys)
		for i, f := range l.sources[FromFile].faults {
			if f.Key == "" && f.Origin.Line == 0 && f.Value == "" {
				// The file as a whole: say who named it.
				l.sources[FromFile].faults[i].Value = path
				l.sources[FromFile].faults[i].Origin = origin
			}
		}
		return true
	}
	if named(l.opts.Path, Origin{Kind: FromFlag, Name: "--config"}) || named(l.vars[ConfigVariable], Origin{Kind: FromEnv, Name: ConfigVariable}) {
		return
	}
	system := l.opts.SystemFile
	if system == "" {
		system = SystemFile
	}
	for _, path := range []string{rebased(FileName, l.opts.Dir), system} {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		l.loaded.File = path
		l.sources[FromFile] = readYAML(path, filepath.Dir(path), l.keys)
		return
	}
}

func (l *loader) flags() {
	source := &l.sources[FromFlag]
	given := make(map[string]bool)
	for _, k := range l.keys {
		value, ok := l.opts.Flags[k.name]
		if !ok {
			continue
		}
		given[k.name] = true
		source.settings = append(source.settings, setting{key: k, texts: argument(k, value), origin: l.flagOrigin(k.name), base: l.opts.Dir})
	}
	var unknown []string
	for name := range l.opts.Flags {
		if !given[name] {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	for _, name := range unknown {
		f := Fault{Key: name, Origin: l.flagOrigin(name), Problem: "unknown key", Remedy: "leave the flag out"}
		if near := nearestKey(name, l.keys); near != "" {
			f.Remedy = fmt.Sprintf("did you mean %s?", near)
		}
		source.faults = append(source.faults, f)
	}
}

func (l *loader) flagOrigin(name string) Origin {
	flag, ok := l.opts.FlagNames[name]
	if !ok {
		flag = "--" + (&key{name: name}).flagName()
	}
	return Origin{Kind: FromFlag, Name: flag}
}

// envFile reads the compose project's .env, which the other sources name.
func (l *loader) envFile() {
	var c Config
	for _, source := range l.sources {
		for _, s := range source.settings {
			if name := s.key.name; (name == "compose.dir" || name == "compose.env_file") && s.key.set(&c, s.texts) == nil {
				l.rebase(&c, s)
			}
		}
	}
	name := c.Compose.EnvFile
	if name == "" {
		return
	}
	l.sources[FromEnvFile] = readDotenv(name, l.keys)
	l.loaded.Credentials = credentials(l.sources[FromEnvFile].vars, l.vars)
}

// rebase makes the paths of a setting that was just stored independent of the
// working directory. compose.dir comes before the settings that build on it.
func (l *loader) rebase(c *Config, s setting) {
	if s.key.rebase == nil {
		return
	}
	base := s.base
	if (s.key.name == "compose.files" || s.key.name == "compose.env_file") && c.Compose.Dir != "" {
		base = c.Compose.Dir
	}
	s.key.rebase(c, base)
}

// apply stores, key by key, the defaults and then each source over the one
// before. A faulty value that something weightier replaces is only a warning:
// a flag must be able to get round a broken variable.
func (l *loader) apply() Faults {
	byKey := make(map[string][]setting)
	var faults Faults
	for _, source := range l.sources {
		for _, s := range source.settings {
			byKey[s.key.name] = append(byKey[s.key.name], s)
		}
		faults = append(faults, source.faults...)
	}
	c := &l.loaded.Config
	for _, k := range l.keys {
		if k.def != "" {
			k.set(c, argument(k, k.def)) // a test shows that all are good
		}
		var bad Faults
		for _, s := range byKey[k.name] {
			if p := s.store(c); p != nil {
				bad = append(bad, Fault{Key: k.name, Value: k.mask(s.texts), Origin: s.origin, Problem: p.what, Remedy: p.remedy})
				continue
			}
			l.rebase(c, s)
			l.loaded.origins[k.name] = s.origin
			for _, f := range bad {
				l.warn(fmt.Sprintf("%s (not used: %s has its place)", f, s.origin))
			}
			bad = nil
		}
		faults = append(faults, bad...)
	}
	slices.SortStableFunc(faults, func(a, b Fault) int {
		if d := int(a.Origin.Kind) - int(b.Origin.Kind); d != 0 {
			return d
		}
		return a.Origin.Line - b.Origin.Line
	})
	return faults
}

// store sets the value in c.
func (s setting) store(c *Config) *problem {
	switch {
	case !s.empty():
		return s.key.set(c, s.texts)
	case s.key.emptyOK && s.key.list:
		return s.key.set(c, nil)
	case s.key.emptyOK:
		return s.key.set(c, []string{""})
	default:
		return faulty("empty", "write a value, or leave it out for the default, %s", s.key.def)
	}
}

// crossCheck finds values that are good alone and bad together.
func (l *loader) crossCheck() Faults {
	c := &l.loaded.Config
	u, err := url.Parse(c.S3.Bucket)
	if err != nil || u.Scheme != "file" || filepath.Clean(u.Path) != filepath.Clean(c.Backup.Dir) {
		return nil
	}
	return Faults{{
		Key: "s3.bucket", Value: showPlain(c.S3.Bucket), Origin: l.loaded.Origin("s3.bucket"),
		Problem: "the same directory as backup.dir",
		Remedy:  "name another, on another disk, or leave it out",
	}}
}
