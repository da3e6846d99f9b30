package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/health"
	"github.com/stellarescrow/escrowctl/internal/incident"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/store"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// newFlags are those of incident new.
type newFlags struct {
	priority, from, start, end string
	title, out                 string
	dryRun                     bool
}

func (a *App) incidentNewCommand() *cobra.Command {
	var f newFlags
	cmd := &cobra.Command{
		Use: "new [--from alert FINGERPRINT]", Short: "begin a review, its timeline filled in",
		Long: "Begins a blameless review with the runbook's seven sections. The timeline is\n" +
			"filled in from Alertmanager, shift checks, run records and the change journal; a\n" +
			"source that cannot be read is named as missing. Times are in UTC: a date and\n" +
			"time, a time of day (14:05), or how long ago (2h). No file is overwritten." +
			exitStatus("0  written", "1  written, but a source could not be read", "3  misuse, the file is there already, or no such alert"),
		Example: "  escrowctl incident new --from alert 5f3c9a1be2d04c77\n  escrowctl incident new --priority P1 --start 14:05 --end 15:20 --title down\n  escrowctl incident new --priority P2 --start 2h --dry-run",
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.from == "":
				return noArgs(cmd, args)
			case f.from != "alert":
				return &misuse{fmt.Sprintf("--from %q: write --from alert FINGERPRINT", f.from)}
			case len(args) != 1 || args[0] == "":
				return &misuse{"--from alert: of which alert? amtool alert -o extended shows the fingerprints"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			fingerprint := ""
			if len(args) == 1 {
				fingerprint = args[0]
			}
			return a.incidentNew(cmd.Context(), f, fingerprint)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.priority, "priority", "", "P1 to P4; default: the runbook's for the alert")
	fl.StringVar(&f.from, "from", "", "`alert`: begin with the alert of the fingerprint")
	fl.StringVar(&f.start, "start", "", "`when` it began; default: the alert's beginning")
	fl.StringVar(&f.end, "end", "", "`when` it ended; default: the alert's end, else\nit goes on")
	fl.StringVar(&f.title, "title", "", "`what` it was; default: the alert's summary")
	fl.StringVar(&f.out, "out", "", "`file` to write; default: a name by the start in\nincident.dir")
	fl.BoolVar(&f.dryRun, "dry-run", false, "print the document; write nothing")
	return cmd
}

func (a *App) incidentNew(ctx context.Context, f newFlags, fingerprint string) error {
	d, err := a.open(unless(f.dryRun))
	if err != nil {
		return err
	}
	defer d.close()
	if !f.dryRun {
		unlock, err := d.lockReviews()
		if err != nil {
			return err
		}
		defer unlock()
	}
	all, err := d.standings()
	if err != nil {
		return err
	}
	r, err := d.beginReview(ctx, f, fingerprint, all)
	if err != nil {
		return err
	}
	if err := interruption(ctx, nil); err != nil {
		return err
	}
	var doc bytes.Buffer
	if err := r.Markdown(&doc); err != nil {
		return err
	}
	if f.dryRun {
		_, err := a.io.Out.Write(doc.Bytes())
		return err
	}
	return d.keepReview(ctx, r, f.out, doc.Bytes())
}

// beginReview gathers what is known of the incident.
func (d *deps) beginReview(ctx context.Context, f newFlags, fingerprint string, all []incident.Standing) (incident.Review, error) {
	now := d.app.io.Now().UTC()
	r := incident.Review{Written: now, By: who(), Title: f.title}
	times, err := f.times(now)
	if err != nil {
		return r, err
	}
	m := d.monitoring(ctx)
	var al health.FiringAlert
	switch {
	case fingerprint == "":
	case m.err == nil:
		if al, err = m.alert(fingerprint); err != nil {
			return r, &misuse{"--from alert: " + err.Error()}
		}
		r.Alert = al.ID + " (" + al.Fingerprint + ")"
	case f.start == "" || f.priority == "":
		return r, &check.Error{Status: check.Unknown, Err: fmt.Errorf("--from alert %s: %w: give --start and --priority to go on without Alertmanager", fingerprint, m.err)}
	default:
		r.Alert = fingerprint
	}
	if r.Priority, err = priorityOf(f.priority, al); err != nil {
		return r, err
	}
	if r.Start, r.End, err = impact(times, al, now); err != nil {
		return r, err
	}
	var taken []string
	for _, s := range all {
		taken = append(taken, s.ID)
	}
	r.ID = incident.NewID(r.Start, taken)
	r.Sources = d.sources(windowOf(r.Start, r.End, now), m, al.Fingerprint)
	scrub := d.textScrubber()
	r.Title = scrub(cmp.Or(r.Title, al.Summary, r.Priority.String()+" incident of "+incident.Stamp(r.Start)))
	r.Alert = scrub(r.Alert)
	return r, nil
}

// times reads --start and --end; zero for what is not given.
func (f newFlags) times(now time.Time) (out [2]time.Time, err error) {
	for i, flag := range []struct{ name, value string }{{"--start", f.start}, {"--end", f.end}} {
		if flag.value == "" {
			continue
		}
		if out[i], err = incident.ParsePast(flag.value, now); err != nil {
			return out, &misuse{flag.name + " " + err.Error()}
		}
	}
	return out, nil
}

// priorityOf is the given priority, else the runbook's for the alert.
func priorityOf(given string, al health.FiringAlert) (runbook.Priority, error) {
	var p runbook.Priority
	switch {
	case given != "":
		if err := p.UnmarshalText([]byte(given)); err != nil {
			return p, &misuse{fmt.Sprintf("--priority %q: P1, P2, P3 or P4", given)}
		}
		return p, nil
	case al.Priority != 0:
		return al.Priority, nil
	case al.Name != "":
		return p, &misuse{fmt.Sprintf("neither the runbook nor its labels say how urgent the alert %s is: give its --priority", al.Name)}
	}
	return p, &misuse{"incident new: --priority is needed, P1 to P4"}
}

// impact is from when to when it was: as given, else as the alert has it.
func impact(given [2]time.Time, al health.FiringAlert, now time.Time) (start, end time.Time, err error) {
	start, end = given[0], given[1]
	if start.IsZero() {
		start = al.StartsAt.UTC().Truncate(time.Second)
	}
	// The end of an alert that fires is when it would be forgotten.
	if end.IsZero() && !al.EndsAt.IsZero() && !al.EndsAt.After(now) {
		end = al.EndsAt.UTC().Truncate(time.Second)
	}
	switch {
	case start.IsZero():
		return start, end, &misuse{"incident new: when did it begin? give --start, or --from alert FINGERPRINT"}
	case !end.IsZero() && end.Before(start):
		return start, end, &misuse{fmt.Sprintf("it cannot have ended %s, before it began %s: see --start and --end", incident.Stamp(end), incident.Stamp(start))}
	}
	return start, end, nil
}

// keepReview writes the document, then the record of it.
func (d *deps) keepReview(ctx context.Context, r incident.Review, out string, doc []byte) error {
	path, err := filepath.Abs(cmp.Or(out, filepath.Join(d.reviewsDir(), r.ID+".md")))
	if err != nil {
		return err
	}
	err = store.NewDir(filepath.Dir(path)).Put(ctx, filepath.Base(path), doc)
	if errors.Is(err, store.ErrExist) {
		return &misuse{fmt.Sprintf("%s is there already, and nothing is overwritten: give another --out", path)}
	}
	if err != nil {
		return fmt.Errorf("the review is not written: %w", err)
	}
	rec := incident.Record{
		ID: r.ID, Title: ui.Clean(r.Title), Priority: r.Priority, Start: r.Start, End: r.End, Due: r.Due(), File: path, Opened: r.Written, By: r.By,
	}
	if err := incident.Keep(d.state, rec); err != nil {
		return fmt.Errorf("%s is written, but not recorded: %w", path, err)
	}
	d.journal(ctx, operation("incident new", fmt.Sprintf("review %s (%s) begun: %s", r.ID, r.Priority, r.Title)))
	if all, err := d.standings(); err == nil {
		d.sendReviews(ctx, all)
	}
	return d.app.showBegun(r, rec)
}

func (a *App) showBegun(r incident.Review, rec incident.Record) error {
	missing := map[string]string{}
	for _, s := range r.Sources {
		if s.Missing != nil {
			missing[s.Name] = s.Missing.Error()
			a.io.Warn("the timeline lacks %s: %v", s.Name, s.Missing)
		}
	}
	var err error
	if a.asJSON() {
		err = a.io.JSON(ui.Document("review", struct {
			incident.Record
			Missing map[string]string `json:"missing_sources,omitempty"`
		}{rec, missing}))
	} else {
		due := "none wanted by the runbook"
		if !rec.Due.IsZero() {
			due = fmt.Sprintf("%s, %s", incident.Stamp(rec.Due), inFuture(rec.Due.Sub(a.io.Now())))
		}
		_, err = fmt.Fprintf(a.io.Out, "%s  %s\n  review due  %s\n  next        escrowctl incident check %s\n", a.io.Paint("ok", "WRITTEN"), ui.Clean(rec.File), due, ui.Clean(rec.File))
	}
	if err == nil && len(missing) > 0 {
		return &told{check.Warning}
	}
	return err
}

// inFuture writes how far away something is.
func inFuture(d time.Duration) string {
	if d < 0 {
		return ui.Age(-d) + " ago"
	}
	return "in " + ui.Age(d)
}
