package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/envfile"
	"github.com/stellarescrow/escrowctl/internal/health"
	"github.com/stellarescrow/escrowctl/internal/httpx"
	"github.com/stellarescrow/escrowctl/internal/incident"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/secret"
	"github.com/stellarescrow/escrowctl/internal/state"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// monitoring is what Alertmanager said, or why it did not.
type monitoring struct {
	alerts   []health.FiringAlert
	silences []health.Silence
	err      error
}

func (d *deps) monitoring(ctx context.Context) monitoring {
	if d.cfg.Alertmanager.URL == config.Off {
		return monitoring{err: errors.New("alertmanager.url is off")}
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.ShiftCheck.Timeout)
	defer cancel()
	var m monitoring
	m.alerts, m.silences, m.err = health.ListAlerts(ctx, httpx.New(), d.cfg.Alertmanager.URL)
	return m
}

// alert finds an alert by its fingerprint, or the beginning of it.
func (m monitoring) alert(fingerprint string) (health.FiringAlert, error) {
	const least = 6
	var found []health.FiringAlert
	var all []string
	for _, al := range m.alerts {
		if al.Fingerprint == fingerprint || len(fingerprint) >= least && strings.HasPrefix(al.Fingerprint, fingerprint) {
			found = append(found, al)
		}
		all = append(all, al.Fingerprint+" ("+al.ID+")")
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return health.FiringAlert{}, fmt.Errorf("%d alerts of Alertmanager begin with %s: write more of the fingerprint", len(found), fingerprint)
	case len(all) == 0:
		all = []string{"none"}
	}
	return health.FiringAlert{}, fmt.Errorf("alertmanager has no alert %s; it knows what fires now: %s. Of an alert that is over, give --start and --end without --from",
		ui.Clean(fingerprint), strings.Join(all[:min(len(all), 20)], ", "))
}

// window is the time that a timeline covers.
type window struct{ from, changesFrom, until time.Time }

// windowOf looks back from the incident's start, and a while past its end.
func windowOf(start, end, now time.Time) window {
	w := window{start.Add(-incident.Lead), start.Add(-incident.ChangesLead), now}
	if after := end.Add(incident.Lead); !end.IsZero() && after.Before(now) {
		w.until = after
	}
	return w
}

func (w window) holds(at time.Time) bool { return !at.Before(w.from) && !at.After(w.until) }

// overlaps says whether something that ended then, or goes on if that is zero,
// was in the window.
func (w window) overlaps(begin, end time.Time) bool {
	return !begin.After(w.until) && (end.IsZero() || !end.Before(w.from))
}

// sources reads all that the timeline is made of. Every text is free of secrets.
func (d *deps) sources(w window, m monitoring, fingerprint string) []incident.Source {
	out := []incident.Source{d.alertSource(w, m, fingerprint), d.shiftSource(w), d.runSource(w), d.changeSource(w)}
	scrub := d.textScrubber()
	for i := range out {
		out[i].Note = scrub(out[i].Note)
		if out[i].Missing != nil {
			out[i].Missing = errors.New(scrub(out[i].Missing.Error()))
		}
		for j := range out[i].Events {
			out[i].Events[j].Text = scrub(out[i].Events[j].Text)
		}
	}
	return out
}

func (d *deps) alertSource(w window, m monitoring, fingerprint string) incident.Source {
	s := incident.Source{Name: "Alertmanager", From: w.from, Missing: m.err, Note: "it tells of alerts that fire now, not of those that were over before"}
	if m.err != nil {
		s.Note = ""
		return s
	}
	now := d.app.io.Now()
	past := func(at time.Time) bool { return !at.IsZero() && !at.After(now) }
	for _, al := range m.alerts {
		ended := time.Time{}
		if past(al.EndsAt) {
			ended = al.EndsAt
		}
		if al.Name == d.cfg.Alertmanager.Watchdog || !w.overlaps(al.StartsAt, ended) {
			continue
		}
		text := "fires: " + al.Summary
		if al.State != "active" {
			text += " (" + al.State + ")"
		}
		if al.Fingerprint == fingerprint {
			text += " (the alert of this review)"
		}
		s.Events = append(s.Events, incident.Event{At: al.StartsAt, Text: text, Signal: true})
		if !ended.IsZero() {
			s.Events = append(s.Events, incident.Event{At: ended, Text: "over: " + al.ID})
		}
	}
	for _, sil := range m.silences {
		if w.overlaps(sil.StartsAt, sil.EndsAt) && past(sil.StartsAt) {
			s.Events = append(s.Events, incident.Event{At: sil.StartsAt, Text: fmt.Sprintf("silenced until %s: %s: %s", incident.Stamp(sil.EndsAt), sil.What, sil.Comment)})
		}
	}
	return s
}

// shiftSource tells what shift checks saw change, and what was acknowledged.
func (d *deps) shiftSource(w window) incident.Source {
	s := incident.Source{Name: "shift checks", From: w.from}
	runs, err := d.state.Runs(shiftJob, 0)
	if err != nil {
		s.Missing = err
		return s
	}
	acks, err := d.acknowledgements()
	if err != nil {
		s.Missing = err // half a source must not look like a whole one
		return s
	}
	if len(runs) == 0 {
		s.Note = "none is recorded in " + d.state.Dir()
	}
	last := map[string]string{}
	slices.Reverse(runs) // oldest first
	for _, r := range runs {
		text, worse := statusChanges(last, r)
		if text != "" && w.holds(r.StartedAt) {
			s.Events = append(s.Events, incident.Event{At: r.StartedAt, Text: text, Signal: worse})
		}
	}
	for _, e := range acks {
		if w.holds(e.At) {
			s.Events = append(s.Events, e)
		}
	}
	return s
}

// acknowledgements are those that hold now, and those that the journal has.
func (d *deps) acknowledgements() ([]incident.Event, error) {
	var memory health.Handover
	if _, err := d.state.Load(shiftDoc, &memory); err != nil {
		return nil, err
	}
	var out []incident.Event
	for _, ack := range memory.Acks {
		out = append(out, incident.Event{At: ack.At, Text: fmt.Sprintf("acknowledged %s until %s: %s", ack.ID, incident.Stamp(ack.Until), ack.Why)})
	}
	entries, err := d.changeLog().Entries()
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		known := slices.ContainsFunc(out, func(o incident.Event) bool { return o.Text == e.Summary })
		if e.Command == ackCommand && !known {
			out = append(out, incident.Event{At: e.At, Text: e.Summary})
		}
	}
	return out, nil
}

// statusChanges says what a shift check found that the ones before had not, and
// keeps it in last. worse says that something got worse.
func statusChanges(last map[string]string, r state.Run) (text string, worse bool) {
	checks, _ := r.Figures["checks"].(map[string]any)
	var changed []string
	for id, v := range checks {
		now := fmt.Sprint(v)
		before, known := last[id]
		last[id] = now
		var was, is check.Status
		if was.UnmarshalText([]byte(before)) != nil {
			was = check.OK
		}
		if is.UnmarshalText([]byte(now)) != nil || is == was && known || !known && is == check.OK {
			continue
		}
		worse = worse || is > was
		if known {
			now = before + " -> " + now
		}
		changed = append(changed, id+": "+now)
	}
	slices.Sort(changed)
	switch {
	case len(checks) == 0 && !r.Succeeded():
		return "the shift check ended " + string(r.Outcome), false
	case len(changed) == 0:
		return "", false
	}
	return strings.Join(changed, "; "), worse
}

// runSource tells of the runs of all other jobs, when they ended.
func (d *deps) runSource(w window) incident.Source {
	s := incident.Source{Name: "run records", From: w.from}
	jobs, err := d.state.Jobs()
	if err != nil {
		s.Missing = err
		return s
	}
	if len(jobs) == 0 {
		s.Note = "none is recorded in " + d.state.Dir()
	}
	for _, job := range jobs {
		if job == shiftJob {
			continue
		}
		runs, err := d.state.Runs(job, 0)
		if err != nil {
			s.Missing = err
			return s
		}
		for _, r := range runs {
			if !w.overlaps(r.StartedAt, r.EndedAt) {
				continue
			}
			at, text := r.StartedAt, fmt.Sprintf("%s: %s", job, r.Outcome)
			if !r.EndedAt.IsZero() && !r.EndedAt.After(w.until) {
				at, text = r.EndedAt, fmt.Sprintf("%s, after %s", text, ui.Duration(r.Duration()))
			}
			if r.Error != "" {
				text += ": " + r.Error
			}
			s.Events = append(s.Events, incident.Event{At: at, Text: text, Signal: !r.Succeeded() && r.Outcome != state.Running})
		}
	}
	return s
}

// changeSource tells of the changes, without who made them.
func (d *deps) changeSource(w window) incident.Source {
	s := incident.Source{Name: "change journal", From: w.changesFrom}
	entries, err := d.changeLog().Entries()
	if err != nil {
		s.Missing = err
		return s
	}
	if len(entries) == 0 {
		s.Note = "no change is in the journal in " + d.state.Dir()
	}
	if _, findings, err := d.changeLog().Verify(); err != nil || len(findings) > 0 {
		s.Note = "the journal is not whole: see escrowctl changes verify"
	}
	for _, e := range entries {
		if e.At.Before(w.changesFrom) || e.At.After(w.until) || e.Command == ackCommand { // those are the shift checks'
			continue
		}
		text := fmt.Sprintf("change %d (%s, %s): %s", e.Seq, e.Type, e.Outcome, e.Summary)
		if e.Why != "" {
			text += ": " + e.Why
		}
		if len(e.Lacking) > 0 {
			text += "; lacking: " + strings.Join(e.Lacking, "; ")
		}
		s.Events = append(s.Events, incident.Event{At: e.At, Text: text})
	}
	return s
}

// textScrubber takes out of others' texts the secrets of the configuration and
// of the project's .env, and what looks like one.
func (d *deps) textScrubber() func(string) string {
	env := secret.NewScrubber(d.platformSecrets()...)
	return func(text string) string { return secret.RedactText(env.Scrub(d.scrubber.Scrub(text))) }
}

// platformSecrets are the values of the runbook's secrets, as far as they can be
// read without asking the platform.
func (d *deps) platformSecrets() []string {
	path := d.cfg.Compose.EnvFile
	if path == "" {
		path = filepath.Join(d.cfg.Compose.Dir, ".env")
	}
	file, err := envfile.Read(path)
	var out []string
	for _, s := range runbook.Secrets() {
		for _, entry := range d.app.environ {
			if value, ok := strings.CutPrefix(entry, s.Name+"="); ok {
				out = append(out, strings.Split(value, ",")...)
			}
		}
		if err != nil {
			continue // there is none here: what looks like a secret goes all the same
		}
		if value, err := file.Get(s.Name); err == nil {
			out = append(out, strings.Split(value, ",")...)
		}
	}
	return out
}
