package schedule

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
)

// Format is how a crontab is written and read.
type Format struct {
	// System is that of /etc/crontab and /etc/cron.d: a user stands before each
	// command.
	System bool
	// Zones says that CRON_TZ=ZONE sets the zone of the rows below it, as in
	// cronie. Debian's cron takes it for a variable like any other.
	Zones bool
}

// Crontab is a crontab that was read. Reading never fails: a row that cron
// would refuse is there with its error.
type Crontab struct {
	Rows []Row
	// Unfinished says that the last line has no newline at its end, for which
	// cron refuses the crontab or ignores the line.
	Unfinished bool
}

// Row is a line of a crontab that runs something, or tries to.
type Row struct {
	Line int    // from 1
	Text string // the whole line
	Spec Spec
	User string // in a system crontab
	// Command is what the shell gets, Input what the command reads: the text
	// after the first % that has no backslash before it.
	Command string
	Input   string
	Percent bool // there is such a %
	// Env are the variables set above the row.
	Env map[string]string
	// Zone is that of CRON_TZ; nil is the host's.
	Zone  *time.Location
	Err   error // why cron refuses the row
	Notes []string
}

// Location returns the zone of the row's times on a host in zone.
func (r Row) Location(host *time.Location) *time.Location {
	if r.Zone != nil {
		return r.Zone
	}
	return host
}

// Parse reads a crontab.
func Parse(text string, f Format) Crontab {
	c := Crontab{Unfinished: text != "" && !strings.HasSuffix(text, "\n")}
	env := map[string]string{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSuffix(line, "\n")
		body := strings.TrimLeft(line, " \t")
		if body == "" || body[0] == '#' {
			continue
		}
		if name, value, ok := assignment(body); ok {
			env[name] = value
			continue
		}
		r := Row{Line: n, Text: line, Env: maps.Clone(env)}
		r.read(body, f)
		c.Rows = append(c.Rows, r)
	}
	return c
}

func (r *Row) read(body string, f Format) {
	fields := fieldCount
	if body[0] == '@' {
		fields = 1
	}
	var words []string
	rest := body
	for range fields {
		word := leading(rest, func(c byte) bool { return c != ' ' && c != '\t' })
		words = append(words, word)
		rest = strings.TrimLeft(rest[len(word):], " \t")
	}
	if r.Spec, r.Err = ParseSpec(strings.TrimSpace(strings.Join(words, " "))); r.Err != nil {
		return
	}
	r.Notes = append(r.Notes, r.Spec.Notes()...)
	if f.System {
		r.User = leading(rest, func(c byte) bool { return c != ' ' && c != '\t' })
		rest = strings.TrimLeft(rest[len(r.User):], " \t")
	}
	if f.Zones && r.Env["CRON_TZ"] != "" {
		if r.Zone, r.Err = time.LoadLocation(r.Env["CRON_TZ"]); r.Err != nil {
			r.Err = fmt.Errorf("CRON_TZ=%s: %w", r.Env["CRON_TZ"], r.Err)
			return
		}
	}
	r.Command, r.Input, r.Percent = splitPercent(rest)
	if strings.TrimSpace(r.Command) == "" {
		r.Err = errors.New("it has no command")
	}
	if strings.HasSuffix(rest, "\r") {
		r.Notes = append(r.Notes, "the line ends with a carriage return, which becomes part of the command")
	}
}

// splitPercent takes a command apart as cron does.
func splitPercent(text string) (command, input string, percent bool) {
	command, rest, percent := cutPercent(text)
	if !percent {
		return command, "", false
	}
	for percent {
		var line string
		line, rest, percent = cutPercent(rest)
		input += line + "\n"
	}
	return command, input, true
}

// cutPercent cuts at the first % without a backslash before it, and takes the
// backslash from those that have one.
func cutPercent(text string) (before, after string, found bool) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			if text[i] != '%' {
				b.WriteByte(c)
			}
			b.WriteByte(text[i])
		case c == '%':
			return b.String(), text[i+1:], true
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", false
}

// EscapePercent makes a command fit for a crontab.
func EscapePercent(command string) string { return strings.ReplaceAll(command, "%", `\%`) }

// assignment reads NAME = VALUE, either in quotes.
func assignment(line string) (name, value string, ok bool) {
	name, rest, ok := quoted(line)
	if !ok {
		name = leading(line, func(c byte) bool { return c != ' ' && c != '\t' && c != '=' })
		rest = line[len(name):]
	}
	rest, ok = strings.CutPrefix(strings.TrimLeft(rest, " \t"), "=")
	if !ok {
		return "", "", false
	}
	rest = strings.Trim(rest, " \t")
	if value, after, ok := quoted(rest); ok {
		return name, value, after == ""
	}
	return name, rest, rest != "" && rest[0] != '"' && rest[0] != '\''
}

// quoted reads a text in quotes at the beginning of s.
func quoted(s string) (text, rest string, ok bool) {
	if s == "" || s[0] != '"' && s[0] != '\'' {
		return "", s, false
	}
	end := strings.IndexByte(s[1:], s[0])
	if end < 0 {
		return "", s, false
	}
	return s[1 : 1+end], s[2+end:], true
}
