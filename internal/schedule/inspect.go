package schedule

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
)

// Job is something that is to run on a schedule.
type Job struct {
	Name  string
	Title string
	Spec  Spec // in UTC
	// Command is the subcommand, as "backup verify"; Args come after it.
	Command string
	Args    []string
	Log     string
	// Script is the base name of the script that did the job before.
	Script string
	// Available says that this program has the subcommand.
	Available bool
	// Vital says that the job may not be missing.
	Vital bool
	// MaxGap is the longest time that may pass between two runs; 0 for any.
	MaxGap time.Duration
}

// Source is one crontab of the host.
type Source struct {
	Name string // as "crontab of root" or /etc/cron.d/escrowctl
	User string // whose rows they are, where no row says so
	Crontab
}

// Host is what must be known of the host to judge its crontabs.
type Host struct {
	Zone *time.Location
	Now  time.Time
	// Command returns the subcommand that the arguments call, or what is wrong
	// with them.
	Command func(args []string) (string, error)
	// Misspelt says whether a program's name was probably meant to be ours.
	Misspelt func(name string) bool
	// Program finds an executable in a search path, or says what is wrong.
	Program func(name, searchPath string) error
	// Writable says why user could not write to the file.
	Writable func(file, user string) error
	// Config says why user could not read the configuration file, or the one that
	// is found without a name. nil is not to look.
	Config func(file, user string) error
}

// Code is the kind of a finding. It is stable over releases.
type Code string

// The codes.
const (
	Missing    Code = "missing"    // no row does the job
	Misspelt   Code = "misspelt"   // program or subcommand
	Refused    Code = "refused"    // cron refuses the row
	Never      Code = "never"      // its time does not come
	Percent    Code = "percent"    // a % without a backslash
	NoProgram  Code = "no_program" // the program is not where the row says
	NoShell    Code = "no_shell"   // SHELL runs no commands
	NoLog      Code = "no_log"     // the log cannot be written, so nothing runs
	NoConfig   Code = "no_config"  // the configuration cannot be read
	Double     Code = "double"     // done twice
	OldScript  Code = "old_script" // done by the script alone
	OtherTime  Code = "other_time" // not at the runbook's time
	Seldom     Code = "seldom"     // less often than the runbook demands
	Odd        Code = "odd"        // cron reads it otherwise than it looks
	Unfinished Code = "unfinished" // no newline at the end
)

// Finding is something to know about the crontabs. Its status is OK where it is
// no fault.
type Finding struct {
	Status check.Status `json:"status"`
	Code   Code         `json:"code"`
	Job    string       `json:"job,omitempty"`
	Where  string       `json:"where,omitempty"`
	Text   string       `json:"text"`
	Action string       `json:"action,omitempty"`
}

// Placed is a row that calls us or one of the old scripts.
type Placed struct {
	Where   string
	User    string
	Row     Row
	Command string // the subcommand, or the script's base name
	Log     string
	Broken  bool // it cannot do its work
	sound   bool // its time could be read
}

// JobState is a job and the rows that do it.
type JobState struct {
	Job
	Rows    []Placed
	Scripts []Placed
	// Next and Last are when one of the rows that work is due next, and was due
	// last, within a year; zero if none is.
	Next, Last time.Time
}

// Covered says whether a row that works does the job.
func (j JobState) Covered() bool {
	works := func(p Placed) bool { return !p.Broken }
	return slices.ContainsFunc(j.Rows, works) || slices.ContainsFunc(j.Scripts, works)
}

// Inspection is what the host's crontabs do for the jobs.
type Inspection struct {
	Jobs     []JobState
	Others   []Placed // rows that call us for something else
	Findings []Finding
}

// longestLookBack bounds the search for the time a row was due last.
const longestLookBack = 366 * 24 * time.Hour

// Inspect judges the host's crontabs.
func Inspect(sources []Source, jobs []Job, h Host) Inspection {
	in := Inspection{Jobs: make([]JobState, len(jobs))}
	for i, j := range jobs {
		in.Jobs[i].Job = j
	}
	for _, s := range sources {
		if s.Unfinished {
			in.add(check.Warning, Unfinished, "", s.Name, "the last line has no newline at its end: cron may ignore it", "add one")
		}
		for _, r := range s.Rows {
			in.row(s, r, h)
		}
	}
	for i := range in.Jobs {
		in.settle(&in.Jobs[i], h)
	}
	slices.SortStableFunc(in.Findings, func(a, b Finding) int { return cmp.Compare(b.Status, a.Status) })
	return in
}

func (in *Inspection) add(status check.Status, code Code, job, where, text, action string) {
	in.Findings = append(in.Findings, Finding{status, code, job, where, text, action})
}

// call is a call of ours, or of an old script, in a row.
type call struct {
	program string
	args    []string
	log     string
	script  bool
	away    bool // in a container or on another host
}

// row looks for calls of ours in a row, and judges them.
func (in *Inspection) row(s Source, r Row, h Host) {
	where := fmt.Sprintf("%s, line %d", s.Name, r.Line)
	command := r.Command
	if r.Err != nil {
		command = r.Text // what it would have called, if cron could read it
	}
	calls := in.calls(command, h, r.Err != nil, 0)
	for _, c := range calls {
		p := Placed{Where: where, User: cmp.Or(r.User, s.User), Row: r, Log: c.log, sound: r.Err == nil && !r.Spec.Never()}
		job := in.place(&p, c, h)
		in.judge(&p, c, job, h)
		switch {
		case job == nil:
			in.Others = append(in.Others, p)
		case c.script:
			job.Scripts = append(job.Scripts, p)
		default:
			job.Rows = append(job.Rows, p)
		}
	}
}

// nested is how deep command lines in quotes are looked into, as sh -c "...".
const nested = 3

// With loose the command may begin anywhere, as in a row whose time cannot be
// read.
func (in *Inspection) calls(command string, h Host, loose bool, depth int) []call {
	var out []call
	for _, c := range Calls(command) {
		for i, word := range c.Words {
			name := path.Base(word)
			found := call{program: word, args: c.Words[i+1:], log: c.Log, away: slices.ContainsFunc(c.Words[:i], elsewhere)}
			switch {
			case strings.ContainsAny(word, " \t") && depth < nested:
				for _, inner := range in.calls(word, h, false, depth+1) {
					inner.log = cmp.Or(inner.log, c.Log)
					inner.away = inner.away || found.away
					out = append(out, inner)
				}
				continue
			case i > 0 && !loose && !wraps(c.Words[0]): // an argument, such as a log's name
				continue
			case name == Program:
			case in.scriptJob(name) != nil:
				found.script = true
			case !strings.Contains(word, "=") && h.Misspelt(name):
			default:
				continue
			}
			out = append(out, found)
			break // what follows are its arguments
		}
	}
	return out
}

// Program is the name of our program.
const Program = "escrowctl"

// wraps says whether a word runs the command that follows it.
func wraps(word string) bool {
	return elsewhere(word) || strings.Contains(word, "=") || slices.Contains([]string{
		"sh", "bash", "dash", "exec", "env", "nice", "ionice", "chrt", "taskset", "nohup", "setsid", "time", "timeout", "flock",
		"sudo", "doas", "su", "runuser", "chronic", "systemd-cat", "systemd-run", "cronic", "command",
	}, path.Base(word))
}

// elsewhere says whether a word runs what follows it in another place.
func elsewhere(word string) bool {
	return slices.Contains([]string{"docker", "docker-compose", "podman", "kubectl", "ssh"}, path.Base(word))
}

func (in *Inspection) scriptJob(name string) *JobState {
	for i := range in.Jobs {
		if s := in.Jobs[i].Script; s != "" && s == name {
			return &in.Jobs[i]
		}
	}
	return nil
}

func (in *Inspection) jobFor(command string) *JobState {
	for i := range in.Jobs {
		if in.Jobs[i].Command == command {
			return &in.Jobs[i]
		}
	}
	return nil
}

// place tells which job the call is for; nil if none. Wrong names are findings.
func (in *Inspection) place(p *Placed, c call, h Host) *JobState {
	name := path.Base(c.program)
	if c.script {
		p.Command = name
		return in.scriptJob(name)
	}
	command, err := h.Command(c.args)
	p.Command = command
	job := in.jobFor(command)
	if name != Program {
		p.Broken = true
		in.add(severity(job), Misspelt, jobName(job), p.Where, fmt.Sprintf("%q is probably meant to be %s", c.program, Program), "correct the row, or run 'escrowctl cron install'")
	}
	if err != nil {
		p.Broken = true
		in.add(check.Critical, Misspelt, jobName(job), p.Where, err.Error(), "correct the row, or run 'escrowctl cron install'")
	}
	return job
}

func jobName(j *JobState) string {
	if j == nil {
		return ""
	}
	return j.Name
}

// severity is how grave it is if a row of the job does not work.
func severity(j *JobState) check.Status {
	if j != nil && j.Vital {
		return check.Critical
	}
	return check.Warning
}

// judge finds what keeps a row from doing its work.
func (in *Inspection) judge(p *Placed, c call, job *JobState, h Host) {
	fault := func(code Code, text, action string) {
		p.Broken = true
		in.add(severity(job), code, jobName(job), p.Where, text, action)
	}
	switch {
	case p.Row.Err != nil:
		fault(Refused, fmt.Sprintf("cron refuses the row: %v", p.Row.Err), "correct it, or run 'escrowctl cron install'")
		return
	case p.Row.Spec.Never():
		fault(Never, strings.Join(append([]string{fmt.Sprintf("%q never comes", p.Row.Spec)}, p.Row.Notes...), "; "), "correct the time")
		return
	case p.Row.Percent:
		fault(Percent, `a % without a backslash: cron ends the command there and hands it the rest to read`, `write \%`)
	}
	for _, n := range p.Row.Notes {
		in.add(check.Warning, Odd, jobName(job), p.Where, n, "write what is meant")
	}
	if c.away {
		return // neither its programs nor its files can be seen from here
	}
	if shell := p.Row.Env["SHELL"]; shell != "" {
		err := h.Program(shell, "")
		if slices.Contains([]string{"nologin", "false", "true"}, path.Base(shell)) {
			err = fmt.Errorf("%s runs no commands", shell)
		}
		if err != nil {
			fault(NoShell, fmt.Sprintf("the crontab's SHELL: %v", err), "set SHELL=/bin/sh, or take the line out")
		}
	}
	search := cmp.Or(p.Row.Env["PATH"], "/usr/bin:/bin")
	if err := h.Program(c.program, search); err != nil {
		fault(NoProgram, err.Error(), "install the program there, or run 'escrowctl cron install'")
	}
	if file, known := c.config(p.Row); known && !c.script && h.Config != nil {
		if err := h.Config(file, p.User); err != nil {
			fault(NoConfig, err.Error(), fmt.Sprintf("let %s read it, or correct the row", cmp.Or(p.User, "its user")))
		}
	}
	if c.log != "" {
		if err := h.Writable(c.log, p.User); err != nil {
			fault(NoLog, fmt.Sprintf("the shell will not run the command: %v", err), fmt.Sprintf("let %s write there, or escrowctl cron install --log-dir", cmp.Or(p.User, "its user")))
		}
	}
}

// settle finds what is wrong with a job as a whole.
func (in *Inspection) settle(j *JobState, h Host) {
	for _, p := range slices.Concat(j.Rows, j.Scripts) {
		if p.Broken || !p.sound {
			continue
		}
		zone := p.Row.Location(h.Zone)
		if next := p.Row.Spec.Next(h.Now, zone); j.Next.IsZero() || !next.IsZero() && next.Before(j.Next) {
			j.Next = next
		}
		if last := p.Row.Spec.Last(h.Now, zone, longestLookBack); last.After(j.Last) {
			j.Last = last
		}
	}
	switch {
	case len(j.Rows) == 0 && len(j.Scripts) > 0 && j.Available:
		in.add(check.Warning, OldScript, j.Name, j.Scripts[0].Where, fmt.Sprintf("%s still does the job: no run is recorded", j.Script),
			"escrowctl cron install, then remove the script's row")
	case len(j.Rows) == 0 && len(j.Scripts) == 0 && j.Available:
		in.add(severity(j), Missing, j.Name, "", fmt.Sprintf("no crontab runs %s %s", Program, j.Command), "escrowctl cron install")
	}
	in.doubles(j, h)
	in.times(j, h)
}

// doubles finds jobs that are done twice.
func (in *Inspection) doubles(j *JobState, h Host) {
	for _, s := range j.Scripts {
		if !s.Broken && len(j.Rows) > 0 {
			in.add(check.Warning, Double, j.Name, s.Where, fmt.Sprintf("%s still runs beside %s", j.Script, j.Rows[0].Where), "remove the script's row")
		}
	}
	for i, a := range j.Rows {
		for _, b := range j.Rows[:i] {
			if a.Broken || b.Broken {
				continue
			}
			at := a.Row.Spec.Next(h.Now, a.Row.Location(h.Zone))
			if !at.IsZero() && at.Equal(b.Row.Spec.Next(h.Now, b.Row.Location(h.Zone))) {
				in.add(check.Warning, Double, j.Name, a.Where, "the same job at the same time as "+b.Where, "remove one of the rows")
			}
		}
	}
}

// compared is how many times of a row are compared with the runbook's.
const compared = 3

// times compares when the job is done with when it should be.
func (in *Inspection) times(j *JobState, h Host) {
	var due []time.Time
	var known time.Time // until when due holds all
	for _, p := range j.Rows {
		if p.Broken {
			continue
		}
		zone := p.Row.Location(h.Zone)
		got := p.Row.Spec.Between(h.Now, h.Now.AddDate(2, 0, 0), zone, compared)
		want := j.Spec.Between(h.Now, h.Now.AddDate(2, 0, 0), time.UTC, compared)
		if len(got) == 0 || len(want) == 0 {
			continue
		}
		if !slices.EqualFunc(got, want, time.Time.Equal) {
			in.add(check.OK, OtherTime, j.Name, p.Where, fmt.Sprintf("%s in %s is next %s UTC, the runbook's %s is next %s UTC",
				p.Row.Spec, zone, stamp(got[0]), j.Spec, stamp(want[0])), "")
		}
		if last := p.Row.Spec.Last(h.Now, zone, longestLookBack); !last.IsZero() {
			due = append(due, last)
		}
		due = append(due, got...)
		if end := got[len(got)-1]; known.IsZero() || end.Before(known) {
			known = end
		}
	}
	slices.SortFunc(due, time.Time.Compare)
	var longest time.Duration
	for i := 1; i < len(due) && !due[i].After(known); i++ {
		longest = max(longest, due[i].Sub(due[i-1]))
	}
	if j.MaxGap > 0 && longest > j.MaxGap {
		in.add(check.Warning, Seldom, j.Name, j.Rows[0].Where, fmt.Sprintf("up to %s lie between two runs, the runbook allows %s", days(longest), days(j.MaxGap)), "escrowctl cron install")
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }

func days(d time.Duration) string {
	if d >= 48*time.Hour {
		return fmt.Sprintf("%dd", int(d/(24*time.Hour)))
	}
	return fmt.Sprintf("%dh", int(d/time.Hour))
}
