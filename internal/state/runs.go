package state

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Outcome is how a run ended.
type Outcome string

// The outcomes. Running and Crashed are never recorded: they are what a record
// without an end means, by whether its process still lives. Where that cannot
// be learnt, on another host or in another container, it is Unknown.
const (
	OK          Outcome = "ok"
	Warning     Outcome = "warning"
	Unknown     Outcome = "unknown"
	Critical    Outcome = "critical"
	Interrupted Outcome = "interrupted"
	Running     Outcome = "running"
	Crashed     Outcome = "crashed"
)

// maxError bounds the error text of a record, in bytes.
const maxError = 4 << 10

// Run is the record of one run of a command.
type Run struct {
	ID   string `json:"id"`
	Job  string `json:"job"`
	Host string `json:"host"`
	Process
	Version   string         `json:"version,omitempty"`
	StartedAt time.Time      `json:"started_at"`
	EndedAt   time.Time      `json:"ended_at,omitzero"` // zero if it did not end or crashed
	Outcome   Outcome        `json:"outcome"`
	Done      bool           `json:"done,omitempty"` // all its work was done, whatever it found
	ExitCode  int            `json:"exit_code"`
	Error     string         `json:"error,omitempty"`
	Figures   map[string]any `json:"figures,omitempty"` // numbers are read back as float64
}

// Duration is how long the run took; 0 if its end is not recorded.
func (r Run) Duration() time.Duration {
	if r.EndedAt.IsZero() {
		return 0
	}
	return r.EndedAt.Sub(r.StartedAt)
}

// Succeeded reports whether the run did its work, perhaps with warnings. Of a
// run that looks for faults that is so whatever it found.
func (r Run) Succeeded() bool { return r.Outcome == OK || r.Outcome == Warning || r.Done }

// Active is a run that has begun.
type Active struct {
	store *Store
	mu    sync.Mutex
	run   Run
	done  bool
}

// ID returns the run's identifier: its start in UTC and a random part.
func (a *Active) ID() string { return a.run.ID }

// StartedAt returns when the run began, in UTC.
func (a *Active) StartedAt() time.Time { return a.run.StartedAt }

// Begin records that a run of job starts now. If it never gets to Finish, Runs
// shows it as crashed.
func (s *Store) Begin(job string) (*Active, error) {
	now := s.now().UTC()
	random := make([]byte, 4)
	_, _ = rand.Read(random) // never fails
	run := Run{
		ID:  now.Format("20060102T150405Z") + "-" + hex.EncodeToString(random),
		Job: job, Host: s.host, Process: s.table.self(), Version: s.version,
		StartedAt: now, Outcome: Running,
	}
	if err := s.record(run); err != nil {
		return nil, err
	}
	return &Active{store: s, run: run}, nil
}

// WorkDone says that the run did all its work, so that it succeeded even if its
// outcome, which is what it found, is bad. Finish records it.
func (a *Active) WorkDone() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.run.Done = true
}

// Finish records how the run ended; outcome may be in any case. The texts in
// figures and cause must hold no secret. A second call is an error. After a
// failed one, on a full disk say, it can be tried again.
func (a *Active) Finish(outcome string, exitCode int, figures map[string]any, cause error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done {
		return fmt.Errorf("state: record of %s: run %s has ended already", a.run.Job, a.run.ID)
	}
	run := a.run
	run.EndedAt, run.ExitCode, run.Figures = a.store.now().UTC(), exitCode, encodable(figures)
	run.Outcome = Outcome(strings.ToLower(outcome))
	if run.Outcome == "" || run.Outcome == Running {
		run.Outcome = Unknown // never a record that claims to be running
	}
	if cause != nil {
		run.Error = shorten(cause.Error())
	}
	if err := a.store.record(run); err != nil {
		return err
	}
	a.run, a.done = run, true
	return nil
}

// encodable keeps a figure that JSON cannot hold, a ratio to nothing say, as
// text: one odd figure must not cost the record.
func encodable(figures map[string]any) map[string]any {
	out := maps.Clone(figures)
	for k, v := range out {
		if _, err := json.Marshal(v); err != nil {
			out[k] = fmt.Sprint(v)
		}
	}
	return out
}

func shorten(text string) string {
	if len(text) <= maxError {
		return text
	}
	cut := maxError
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + " [cut]"
}

func (s *Store) journal(job string) (journal, error) {
	path, err := s.path(runsDir, job, ".jsonl")
	return journal{path: path, keep: s.keep}, err
}

func (s *Store) record(r Run) error {
	j, err := s.journal(r.Job)
	if err != nil {
		return err
	}
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("state: record of %s: %w", r.Job, err)
	}
	if err := j.append(line); err != nil {
		return s.fault("record the run of "+r.Job, err)
	}
	return nil
}

// Runs returns the latest runs of job, newest first, at most limit (all kept
// ones if 0).
func (s *Store) Runs(job string, limit int) ([]Run, error) {
	j, err := s.journal(job)
	if err != nil {
		return nil, err
	}
	entries, err := j.read()
	if err != nil {
		return nil, s.fault("read the runs of "+job, err)
	}
	var runs []Run
	for i := len(entries) - 1; i >= 0 && (limit <= 0 || len(runs) < limit); i-- {
		var r Run
		if err := json.Unmarshal(entries[i].line, &r); err != nil {
			continue // of another shape than ours: a newer version's, or edited by hand
		}
		runs = append(runs, s.assess(r))
	}
	return runs, nil
}

// assess says what a record without an end means.
func (s *Store) assess(r Run) Run {
	if r.Outcome != Running {
		return r
	}
	switch s.table.judge(r.Process, s.sameHost(r.Host)) {
	case dead:
		r.Outcome = Crashed
		r.Error = "its process ended without recording a result: it was killed, ran out of memory, or the host went down"
	case unknowable:
		r.Outcome = Unknown
		r.Error = fmt.Sprintf("no end is recorded, and whether process %d on %s still runs cannot be learnt from %s", r.PID, r.Host, s.host)
	}
	return r
}

// Last returns the newest run of job that is not running now, crashed ones
// included; found is false if there is none.
func (s *Store) Last(job string) (run Run, found bool, err error) {
	return s.newest(job, func(r Run) bool { return r.Outcome != Running })
}

// LastSuccess returns the newest run of job that did its work, perhaps with
// warnings; found is false if there is none.
func (s *Store) LastSuccess(job string) (run Run, found bool, err error) {
	return s.newest(job, Run.Succeeded)
}

func (s *Store) newest(job string, accept func(Run) bool) (Run, bool, error) {
	runs, err := s.Runs(job, 0)
	if err != nil {
		return Run{}, false, err
	}
	for _, r := range runs {
		if accept(r) {
			return r, true, nil
		}
	}
	return Run{}, false, nil
}
