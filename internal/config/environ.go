package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/joho/godotenv"
)

// maxSearched is the number of lines up to which the faulty line of a .env file
// is searched for: the search takes time with its square.
const maxSearched = 500

// variables makes a map of an environment; of a name given twice the last
// counts, as it does for programs that are started with it.
func variables(environ []string) map[string]string {
	out := make(map[string]string, len(environ))
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok && name != "" {
			out[name] = value
		}
	}
	return out
}

// envSettings picks the settings out of variables, in the order of the keys. An
// empty variable counts as unset.
func envSettings(vars map[string]string, keys []*key, base string, origin func(name string) Origin) []setting {
	var out []setting
	for _, k := range keys {
		// The weightiest last, as later settings win.
		for _, name := range slices.Backward(k.envNames()) {
			s := setting{key: k, texts: argument(k, vars[name]), origin: origin(name), base: base}
			if !s.empty() {
				out = append(out, s)
			}
		}
	}
	return out
}

// argument makes the texts of a value given as one: by a variable or flag.
func argument(k *key, value string) []string {
	switch {
	case k.list:
		return splitList(value)
	case k.secret:
		return []string{value} // a password may begin or end with a blank
	default:
		return []string{strings.TrimSpace(value)}
	}
}

// readDotenv reads the .env file of the compose project. Only the variables of
// known keys, and S3's credentials, are taken from it.
func readDotenv(name string, keys []*key) source {
	origin := func(variable string) Origin { return Origin{Kind: FromEnvFile, Name: name, Var: variable} }
	fault := func(p *problem) source {
		return source{faults: Faults{{Key: "compose.env_file", Value: name, Origin: origin(""), Problem: p.what, Remedy: p.remedy}}}
	}
	data, mode, p := readLimited(name)
	if p != nil {
		return fault(p)
	}
	vars, err := godotenv.UnmarshalBytes(data)
	if err != nil {
		// The library's message quotes the file, and so its secrets.
		what := "not a valid .env file"
		if line := faultyLine(string(data)); line > 0 {
			what = fmt.Sprintf("line %d is not valid in a .env file", line)
		}
		return fault(faulty(what, "write NAME=value, quoted if it has special characters"))
	}
	return source{settings: envSettings(vars, keys, filepath.Dir(name), origin), mode: mode, vars: vars}
}

// faultyLine finds the line of a .env file that breaks it: the first after the
// longest run of whole lines that can be read. 0: not found.
func faultyLine(text string) int {
	lines := strings.SplitAfter(text, "\n")
	if len(lines) > maxSearched {
		return 0
	}
	for n := len(lines) - 1; n >= 0; n-- {
		if _, err := godotenv.Unmarshal(strings.Join(lines[:n], "")); err == nil {
			return n + 1
		}
	}
	return 0
}

// unknownVariables warns of variables that look like ours and are none.
func unknownVariables(vars map[string]string, keys []*key) []string {
	known := []string{ConfigVariable, envPrefix + "TOOLS"}
	for _, k := range keys {
		known = append(known, k.envNames()[0])
	}
	var out []string
	for name, value := range vars {
		if !strings.HasPrefix(name, envPrefix) || value == "" || slices.Contains(known, name) {
			continue
		}
		warning := fmt.Sprintf("%q (env): no key has this variable", name)
		if near := nearest(name, known); near != "" {
			warning += fmt.Sprintf(": did you mean %s?", near)
		}
		out = append(out, warning)
	}
	slices.Sort(out)
	return out
}
