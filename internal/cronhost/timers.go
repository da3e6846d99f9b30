package cronhost

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/schedule"
)

// timerPrefix begins the names of our units: escrowctl-JOB.timer and .service.
const timerPrefix = "escrowctl-"

func (h Host) wants() string { return h.path("/etc/systemd/system/timers.target.wants") }

// TimerEnabled returns since when the timer of a job is enabled; zero if it is
// not.
func (h Host) TimerEnabled(job string) time.Time {
	info, err := os.Lstat(filepath.Join(h.wants(), timerPrefix+job+".timer"))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// Timers reads our enabled systemd timers as if each were a crontab. Timers whose
// times cannot be read are an error beside the others.
func (h Host) Timers() ([]schedule.Source, error) {
	links, err := filepath.Glob(filepath.Join(h.wants(), timerPrefix+"*.timer"))
	if err != nil {
		return nil, fmt.Errorf("timers: %w", err)
	}
	if _, err := os.Stat(h.path("/run/systemd/system")); len(links) > 0 && err != nil {
		return nil, fmt.Errorf("timers: %d are enabled, but systemd does not run here", len(links))
	}
	var out []schedule.Source
	var errs []error
	for _, link := range links {
		s, err := h.timer(strings.TrimSuffix(filepath.Base(link), ".timer"))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, s)
	}
	return out, errors.Join(errs...)
}

func (h Host) timer(name string) (schedule.Source, error) {
	timer, err := h.unit(name + ".timer")
	if err != nil {
		return schedule.Source{}, err
	}
	service, err := h.unit(name + ".service")
	if err != nil {
		return schedule.Source{}, err
	}
	s := schedule.Source{Name: name + ".timer", User: "root"}
	if user := service.last("User"); user != "" {
		s.User = user
	}
	var commands []string
	for _, c := range service.values["ExecStart"] {
		commands = append(commands, strings.TrimLeft(c, "-@:+!"))
	}
	command := strings.Join(commands, " && ")
	if log, found := strings.CutPrefix(service.last("StandardOutput"), "append:"); found {
		command += " >> " + schedule.Quote(log)
	}
	for i, when := range timer.values["OnCalendar"] {
		row, err := calendarRow(when)
		if err != nil {
			return schedule.Source{}, fmt.Errorf("%s.timer: %w", name, err)
		}
		row.Line, row.Text, row.Command = i+1, "OnCalendar="+when, command
		s.Rows = append(s.Rows, row)
	}
	if len(s.Rows) == 0 || command == "" {
		return schedule.Source{}, fmt.Errorf("%s.timer: it has no OnCalendar, or its service no ExecStart", name)
	}
	return s, nil
}

// onCalendar are the times that our units have, and what is likely to be made of
// them: hours, minutes, a day of the month, a weekday.
var onCalendar = regexp.MustCompile(`^(?:(Sun|Mon|Tue|Wed|Thu|Fri|Sat) +)?(?:\*-\*-(\*|\d\d?) +)?(\*|\d\d?(?:,\d\d?)*):(\d\d)(?::00)?( +UTC)?$`)

var leadingZero = regexp.MustCompile(`\b0(\d)`)

// calendarRow makes a crontab's times of systemd's.
func calendarRow(when string) (schedule.Row, error) {
	m := onCalendar.FindStringSubmatch(when)
	if m == nil {
		return schedule.Row{}, fmt.Errorf("OnCalendar=%s is none that escrowctl reads: write it as *-*-* 02:00:00 UTC", when)
	}
	star := func(text string) string {
		if text == "" {
			return "*"
		}
		return leadingZero.ReplaceAllString(text, "$1")
	}
	spec, err := schedule.ParseSpec(strings.Join([]string{star(m[4]), star(m[3]), star(m[2]), "*", star(strings.ToLower(m[1]))}, " "))
	if err != nil {
		return schedule.Row{}, fmt.Errorf("OnCalendar=%s: %w", when, err)
	}
	row := schedule.Row{Spec: spec}
	if m[5] != "" {
		row.Zone = time.UTC
	}
	return row, nil
}

// unit is what a systemd unit and its drop-ins set, by name, in their order. An
// empty value takes back those before it, as systemd has it.
type unit struct{ values map[string][]string }

func (u unit) last(name string) string {
	if all := u.values[name]; len(all) > 0 {
		return all[len(all)-1]
	}
	return ""
}

// unit reads a unit from where systemd looks first, and its drop-ins.
func (h Host) unit(name string) (unit, error) {
	u := unit{map[string][]string{}}
	dirs := []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
	found := false
	for _, dir := range dirs {
		body, err := os.ReadFile(h.path(filepath.Join(dir, name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return u, fmt.Errorf("timers: %w", err)
		}
		u.read(string(body))
		found = true
		break
	}
	if !found {
		return u, fmt.Errorf("timers: there is no unit %s", name)
	}
	drops := map[string]string{} // by name: of two the weightier directory's counts
	for _, dir := range slices.Backward(dirs) {
		found, _ := filepath.Glob(h.path(filepath.Join(dir, name+".d/*.conf")))
		for _, drop := range found {
			drops[filepath.Base(drop)] = drop
		}
	}
	for _, base := range slices.Sorted(maps.Keys(drops)) {
		body, err := os.ReadFile(drops[base])
		if err != nil {
			return u, fmt.Errorf("timers: %w", err)
		}
		u.read(string(body))
	}
	return u, nil
}

func (u unit) read(text string) {
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case !ok || strings.HasPrefix(name, "#") || strings.HasPrefix(name, ";"):
		case value == "":
			u.values[name] = nil
		default:
			u.values[name] = append(u.values[name], value)
		}
	}
}
