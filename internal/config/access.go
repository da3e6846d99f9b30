package config

import (
	"math"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/secret"
	"go.yaml.in/yaml/v3"
)

// access reads and writes one setting of a Config.
type access struct {
	list   bool // several texts; in variables and flags separated by commas
	secret bool
	// set stores the value, or says what is wrong with it and stores nothing.
	set func(c *Config, texts []string) *problem
	// show returns the value as it may be printed.
	show func(c *Config) string
	// mask makes of the texts as they were written what may be printed.
	mask func(texts []string) string
	// same compares what show does not tell; nil where it tells all.
	same func(a, b *Config) bool
	// items makes one text of a YAML list of sections; nil where there is none.
	items func(v *yaml.Node) (string, *problem)
	// rebase makes relative paths relative to base; nil where there are none.
	rebase func(c *Config, base string)
}

// maxShown is how many bytes of a value a fault shows.
const maxShown = 80

// single makes the access to a setting of one text.
func single[T any](at func(*Config) *T, parse func(string) (T, *problem), format func(T) string) access {
	return access{
		set: func(c *Config, texts []string) *problem {
			v, p := parse(strings.Join(texts, ","))
			if p == nil {
				*at(c) = v
			}
			return p
		},
		show: func(c *Config) string { return showPlain(format(*at(c))) },
		mask: maskPlain,
	}
}

// text is a string that valid accepts. The empty string always passes: whether
// it is allowed is the key's affair.
func text(at func(*Config) *string, valid func(string) *problem) access {
	parse := func(s string) (string, *problem) {
		if s == "" {
			return "", nil
		}
		return s, valid(s)
	}
	return single(at, parse, func(s string) string { return s })
}

// toggle is auto, on or off, for which YAML's true and false do as well.
func toggle(at func(*Config) *string) access {
	valid := oneOf(Auto, On, Off)
	parse := func(s string) (string, *problem) {
		if b, ok := parseBool(s); ok {
			return map[bool]string{true: On, false: Off}[b], nil
		}
		return s, valid(s)
	}
	return single(at, parse, func(s string) string { return s })
}

func boolean(at func(*Config) *bool) access {
	parse := func(s string) (bool, *problem) {
		b, ok := parseBool(s)
		if !ok {
			return false, faulty("neither true nor false", "write true or false")
		}
		return b, nil
	}
	return single(at, parse, strconv.FormatBool)
}

// whole is a whole number from low to high.
func whole(at func(*Config) *int, low, high int) access {
	parse := func(s string) (int, *problem) {
		n, err := strconv.Atoi(s)
		if err != nil {
			return 0, faulty("not a whole number", "write a number from %d to %d, without a unit", low, high)
		}
		if n < low || n > high {
			return 0, faulty("out of range", "write a number from %d to %d", low, high)
		}
		return n, nil
	}
	return single(at, parse, showInt)
}

// ratio is a share from 0 to 1.
func ratio(at func(*Config) *float64) access {
	parse := func(s string) (float64, *problem) {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsNaN(f) {
			return 0, faulty("not a number", "write a share from 0 to 1, for example 0.5")
		}
		if f < 0 || f > 1 {
			return 0, faulty("out of range", "write a share from 0 to 1, for example 0.5")
		}
		return f, nil
	}
	return single(at, parse, func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) })
}

func duration(at func(*Config) *time.Duration, low, high time.Duration) access {
	parse := func(s string) (time.Duration, *problem) {
		d, p := parseDuration(s)
		if p == nil && (d < low || d > high) {
			p = faulty("out of range", "write a duration from %s to %s", showDuration(low), showDuration(high))
		}
		return d, p
	}
	return single(at, parse, showDuration)
}

func size(at func(*Config) *Size, low, high Size) access {
	parse := func(s string) (Size, *problem) {
		n, p := parseSize(s)
		if p == nil && (n < low || n > high) {
			p = faulty("out of range", "write a size from %s to %s", low, high)
		}
		return n, p
	}
	return single(at, parse, Size.String)
}

// path is a file or directory.
func path(at func(*Config) *string) access {
	a := text(at, pathText)
	a.rebase = func(c *Config, base string) { *at(c) = rebased(*at(c), base) }
	return a
}

// program is a path, or the bare name of a program to be searched for.
func program(at func(*Config) *string) access {
	a := path(at)
	a.rebase = func(c *Config, base string) {
		if strings.ContainsRune(*at(c), filepath.Separator) {
			*at(c) = rebased(*at(c), base)
		}
	}
	return a
}

// list is a list of texts, each of which valid accepts.
func list(at func(*Config) *[]string, valid func(string) *problem) access {
	return access{
		list: true,
		set: func(c *Config, texts []string) *problem {
			for _, s := range texts {
				if p := valid(s); p != nil {
					return p
				}
			}
			*at(c) = slices.Clone(texts)
			return nil
		},
		show: func(c *Config) string { return strings.Join(*at(c), ", ") },
		mask: maskPlain,
	}
}

func paths(at func(*Config) *[]string) access {
	a := list(at, pathText)
	a.rebase = func(c *Config, base string) {
		for i, p := range *at(c) {
			(*at(c))[i] = rebased(p, base)
		}
	}
	return a
}

// hidden is a secret; shown says how it is printed.
func hidden(at func(*Config) *secret.Value, valid func(string) *problem, shown func(string) string) access {
	return access{
		secret: true,
		set: func(c *Config, texts []string) *problem {
			s := strings.Join(texts, ",")
			if s != "" {
				if p := valid(s); p != nil {
					return p
				}
			}
			*at(c) = secret.New(s)
			return nil
		},
		show: func(c *Config) string { return shown(at(c).Reveal()) },
		mask: func(texts []string) string { return shown(strings.Join(texts, ",")) },
		same: func(a, b *Config) bool { return at(a).Equal(*at(b)) },
	}
}

func maskPlain(texts []string) string {
	shown := make([]string, len(texts))
	for i, s := range texts {
		shown[i] = showPlain(s)
		if webHook(s) {
			shown[i] = showHost(s)
		}
	}
	return strings.Join(shown, ", ")
}

// webHook says whether s may be a webhook's URL, of which the path is a secret.
func webHook(s string) bool {
	u, err := url.Parse(s)
	return err == nil && secretHTTPURL(s) == nil && (strings.Trim(u.Path, "/") != "" || u.RawQuery != "")
}

// showPlain shows a value that should be no secret, unless it looks like one:
// people paste into the wrong line.
func showPlain(s string) string {
	switch {
	case strings.Contains(s, "://"):
		s = secret.RedactURL(s)
	case strings.ContainsAny(s, "@=") || strings.Contains(strings.ToUpper(s), "SECRET"):
		return secret.Fingerprint(s)
	}
	if len(s) > maxShown {
		return strings.ToValidUTF8(s[:maxShown], "") + "..."
	}
	return s
}

func showFingerprint(s string) string { return secret.Fingerprint(s) }

// showURL shows a URL without its password; where that cannot be told from the
// rest, the fingerprint.
func showURL(s string) string {
	if webHook(s) {
		return showHost(s)
	}
	if shown := secret.RedactURL(s); shown != secret.Unparsable {
		return shown
	}
	return secret.Fingerprint(s)
}

// rebased makes a relative path relative to base.
func rebased(p, base string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(base, p)
}

func showInt(n int) string { return strconv.Itoa(n) }
