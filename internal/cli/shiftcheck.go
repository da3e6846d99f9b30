package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/health"
	"github.com/stellarescrow/escrowctl/internal/report"
	"github.com/stellarescrow/escrowctl/internal/state"
)

const (
	shiftJob = "shift-check"
	// shiftDoc is the document with the memory of the last check.
	shiftDoc = "shift-check"
)

type shiftFlags struct {
	only, skip     []string
	markdown, post bool
	html           string
	watch          bool
	every          time.Duration
}

// byPerson says whether a check is one of a person's shift, and not one of a
// machine's: it is whole, and either read on a terminal or handed over.
func (a *App) byPerson(f shiftFlags) bool {
	read := a.io.OutTTY && !a.asJSON() && a.flags.output != "nagios"
	return f.whole() && (read || f.markdown || f.post)
}

// whole says whether all checks are made.
func (f shiftFlags) whole() bool { return len(f.only)+len(f.skip) == 0 }

func (a *App) shiftCheckCommand() *cobra.Command {
	var f shiftFlags
	cmd := &cobra.Command{
		Use: "shift-check", Short: "what is broken, since when, how long there is, what to do next", GroupID: "ops", Args: noArgs,
		Long: "Makes every check of the start of a shift at once and shows what is broken,\n" +
			"since when, the priority and the time left to respond, the runbook that applies\n" +
			"and the next command to type. What could not be proven is unknown, never ok." +
			exitStatus("0  all is well", "1  warning", "2  critical", "3  unknown, misuse or wrong configuration"),
		Example: "  escrowctl shift-check\n  escrowctl shift-check --only containers,alerts\n  escrowctl shift-check --markdown --post\n" +
			"  escrowctl shift-check --watch\n  escrowctl shift-check -o nagios",
		Annotations: map[string]string{alsoOutput: "nagios"},
		RunE:        func(cmd *cobra.Command, _ []string) error { return a.shiftCheck(cmd.Context(), f) },
	}
	a.selection(cmd, &f.only, &f.skip, checkIDs())
	cmd.Flags().BoolVar(&f.markdown, "markdown", false, "print it as Markdown, to hand over")
	cmd.Flags().BoolVar(&f.post, "post", false, "also send it to the webhook")
	cmd.Flags().StringVar(&f.html, "html", "", "also write it to a `file`, as one HTML page")
	cmd.Flags().BoolVar(&f.watch, "watch", false, "check again and again, on a terminal")
	cmd.Flags().DurationVar(&f.every, "every", 10*time.Second, "with --watch, the `time` between two checks")
	cmd.MarkFlagsMutuallyExclusive("markdown", "watch")
	cmd.AddCommand(a.shiftAckCommand(), a.shiftHistoryCommand())
	return cmd
}

// selection adds the flags that choose among the checks of a command.
func (a *App) selection(cmd *cobra.Command, only, skip *[]string, ids []string) {
	cmd.Flags().StringSliceVar(only, "only", nil, "make these `checks` only")
	cmd.Flags().StringSliceVar(skip, "skip", nil, "leave these `checks` out")
	for _, name := range []string{"only", "skip"} {
		a.completeWords(cmd, name, ids...)
	}
}

func (a *App) shiftCheck(ctx context.Context, f shiftFlags) error {
	d, err := a.open(looks)
	if err != nil {
		return err
	}
	defer d.close()
	d.keepState()
	made, off, err := d.choose(f)
	if err != nil {
		return err
	}
	if f.watch {
		return a.watchShift(ctx, d, f, made, off)
	}
	rep, err := d.makeChecks(ctx, f, made, off)
	if err != nil {
		return err
	}
	if err := a.showShift(rep, f); err != nil {
		return err
	}
	if err := d.sendShift(ctx, rep, f); err != nil {
		return err
	}
	if rep.Status != check.OK {
		return &told{rep.Status}
	}
	return nil
}

// keepState makes the state directory writable. Where it cannot be, the check is
// made all the same: a full disk is no time to be blind.
func (d *deps) keepState() {
	opt := state.Options{Now: d.app.io.Now, Version: d.app.build.Version, Command: "escrowctl shift-check"}
	st, err := state.Open(d.state.Dir(), opt)
	if err != nil {
		d.app.io.Warn("this check is not kept for the next: %v", err)
		return
	}
	d.state, d.stateKept = st, true
}

// makeChecks runs the probes and puts their results among the earlier ones.
func (d *deps) makeChecks(ctx context.Context, f shiftFlags, made []shiftProbe, off []health.Off) (health.Report, error) {
	memory := new(health.Handover)
	if _, err := d.state.Load(shiftDoc, memory); err != nil {
		d.app.io.Warn("what is new since the last shift cannot be told: %v", err)
		memory = new(health.Handover)
	}
	var run *state.Active
	if d.stateKept {
		var err error
		if run, err = d.state.Begin(shiftJob); err != nil {
			d.app.io.Warn("this check is not in the history: %v", err)
		}
	}
	begun := d.app.io.Now()
	probes := make([]check.Probe, len(made))
	for i, p := range made {
		probes[i] = p.build(d)
	}
	results := check.Run(ctx, probes)
	d.session.close()
	if err := interruption(ctx, nil); err != nil {
		if run != nil {
			_ = run.Finish(string(state.Interrupted), exitCode(err), nil, err) // it is told
		}
		return health.Report{}, err
	}
	for i := range results {
		d.scrubResult(&results[i])
	}
	person := d.app.byPerson(f)
	if person {
		memory.Relieve(d.app.person(), d.app.io.Now(), d.cfg.ShiftCheck.Shift)
	}
	rep := health.Evaluate(results, off, memory, d.app.io.Now())
	if person {
		memory.Sign()
	}
	rep.Duration = d.app.io.Now().Sub(begun)
	d.keepCheck(run, rep, memory)
	return rep, nil
}

// keepCheck writes the check down for the next one and the history.
func (d *deps) keepCheck(run *state.Active, rep health.Report, memory *health.Handover) {
	if !d.stateKept {
		return
	}
	if err := d.state.Save(shiftDoc, memory); err != nil {
		d.app.io.Warn("this check is not kept for the next: %v", err)
	}
	if run == nil {
		return
	}
	checks := map[string]any{}
	for _, e := range rep.Entries {
		checks[e.ID] = e.Status.String()
	}
	outcome := map[check.Status]state.Outcome{check.OK: state.OK, check.Warning: state.Warning, check.Unknown: state.Unknown, check.Critical: state.Critical}[rep.Status]
	if err := run.Finish(string(outcome), rep.Status.ExitCode(), map[string]any{"checks": checks}, nil); err != nil {
		d.app.io.Warn("this check is not in the history: %v", err)
	}
}

// scrubResult takes secrets out of what others have said.
func (d *deps) scrubResult(r *check.Result) {
	for _, text := range []*string{&r.Summary, &r.Action} {
		*text = d.scrubber.Scrub(*text)
	}
	for i := range r.Detail {
		r.Detail[i] = d.scrubber.Scrub(r.Detail[i])
	}
	for i := range r.Parts {
		d.scrubResult(&r.Parts[i])
	}
}

// choose picks the probes that are made, and says of the others who left them
// out.
func (d *deps) choose(f shiftFlags) ([]shiftProbe, []health.Off, error) {
	from := fmt.Sprintf("shift_check.skip (%s)", d.cfg.Origin("shift_check.skip"))
	for _, id := range d.cfg.ShiftCheck.Skip {
		if err := knownCheck(checkIDs(), id, from); err != nil {
			return nil, nil, err
		}
	}
	return d.pick(shiftProbes(), f.only, f.skip)
}

// pick picks of all probes those that flags and configuration leave.
func (d *deps) pick(all []shiftProbe, only, skip []string) ([]shiftProbe, []health.Off, error) {
	for _, list := range []struct {
		ids  []string
		from string
	}{{only, "--only"}, {skip, "--skip"}} {
		for _, id := range list.ids {
			if err := knownCheck(idsOf(all), id, list.from); err != nil {
				return nil, nil, err
			}
		}
	}
	var made []shiftProbe
	var off []health.Off
	for _, p := range all {
		why := ""
		switch {
		case len(only) > 0 && !slices.Contains(only, p.id):
			continue // asked for others: nothing is missing
		case slices.Contains(skip, p.id):
			why = "--skip"
		case slices.Contains(only, p.id): // asked for by name
		case slices.Contains(d.cfg.ShiftCheck.Skip, p.id):
			why = "shift_check.skip"
		}
		if why == "" && p.off != nil {
			why = p.off(d)
		}
		if why != "" {
			off = append(off, health.Off{ID: p.id, Why: why})
			continue
		}
		made = append(made, p)
	}
	if len(made) == 0 {
		return nil, nil, &misuse{"no check is left to make: " + offText(off)}
	}
	return made, off, nil
}

func knownCheck(ids []string, id, from string) error {
	if slices.Contains(ids, id) {
		return nil
	}
	best, least := "", 3
	for _, known := range ids {
		if n := distance(id, known); n < least {
			best, least = known, n
		}
	}
	if best != "" {
		return &misuse{fmt.Sprintf("%s: no check %q: did you mean %s?", from, id, best)}
	}
	return &misuse{fmt.Sprintf("%s: no check %q: there are %s", from, id, strings.Join(ids, ", "))}
}

func offText(off []health.Off) string {
	texts := make([]string, len(off))
	for i, o := range off {
		texts[i] = o.ID + " (" + o.Why + ")"
	}
	return strings.Join(texts, ", ")
}

// shiftJSON is the document of --json.
type shiftJSON struct {
	SchemaVersion int              `json:"schema_version"`
	At            time.Time        `json:"at"`
	Duration      float64          `json:"duration_seconds"`
	Status        check.Status     `json:"status"`
	ExitCode      int              `json:"exit_code"`
	Verdict       string           `json:"verdict"`
	LastAt        time.Time        `json:"last_check_at,omitzero"`
	LastBy        string           `json:"last_check_by,omitempty"`
	Checks        []health.Entry   `json:"checks"`
	Cleared       []health.Cleared `json:"cleared"`
	Off           []health.Off     `json:"off"`
}

func (a *App) showShift(rep health.Report, f shiftFlags) error {
	var text string
	switch {
	case a.asJSON():
		return a.io.JSON(shiftDocument(rep))
	case a.flags.output == "nagios":
		text = shiftNagios(rep)
	case f.markdown:
		text = shiftMarkdown(rep)
	default:
		text = newShiftText(a.io, rep).text()
	}
	_, err := io.WriteString(a.io.Out, text)
	return err
}

// sendShift carries the report to where it was asked to go: the page, the
// webhook, the metrics. Metrics are those of a whole check only.
func (d *deps) sendShift(ctx context.Context, rep health.Report, f shiftFlags) error {
	if f.html != "" {
		if err := writeHTML(f.html, rep); err != nil {
			return err
		}
	}
	if f.post && d.cfg.Report.Webhook.IsZero() {
		return &misuse{"--post: no webhook: set BACKUP_ALERT_WEBHOOK, or report.webhook in escrowctl.yaml"}
	}
	if !f.post && !f.whole() {
		return nil
	}
	out := report.Report{
		Job: shiftJob, Success: rep.Status < check.Unknown, ExitCode: rep.Status.ExitCode(), StartedAt: rep.At.Add(-rep.Duration), EndedAt: rep.At,
		Gauges: shiftGauges(rep),
	}
	if f.post {
		out.Text = d.scrubber.Scrub(shiftMarkdown(rep))
	}
	to := d.reporter
	if !f.whole() {
		to = d.webhookOnly()
	} else if all, err := d.standings(); err == nil { // an error is told by the check
		d.sendReviews(ctx, all)
	}
	failed := false
	for _, p := range to.Send(ctx, out) {
		d.app.io.Warn("report not delivered: %v", p)
		failed = failed || p.Destination == report.ToWebhook
	}
	if failed && rep.Status == check.OK {
		return &told{check.Warning} // it was asked for
	}
	return nil
}

// webhookOnly is a reporter that leaves the metrics of a whole check alone.
func (d *deps) webhookOnly() *report.Reporter {
	return report.New(report.Options{Webhook: d.cfg.Report.Webhook.Reveal(), Timeout: d.cfg.Report.Timeout, Now: d.app.io.Now})
}

// watchShift shows the overview again and again until it is interrupted. Only
// the first of its checks is kept for the next and in the history.
func (a *App) watchShift(ctx context.Context, d *deps, f shiftFlags, made []shiftProbe, off []health.Off) error {
	if !a.io.OutTTY || a.asJSON() || f.every < time.Second {
		return &misuse{"--watch needs a terminal and text, and --every at least 1s"}
	}
	return a.watch(ctx, d, f, made, off)
}

// watch makes the checks and shows them, every so often.
func (a *App) watch(ctx context.Context, d *deps, f shiftFlags, made []shiftProbe, off []health.Off) error {
	for {
		rep, err := d.makeChecks(ctx, f, made, off)
		if err != nil {
			return err
		}
		d.stateKept = false
		// Below it are a blank line, this one's and the cursor's.
		const below = 3
		screen := newShiftText(a.io, rep).overview(max(0, a.io.Height-below))
		if _, err := fmt.Fprintf(a.io.Out, "\x1b[H\x1b[2J%s\nagain in %s, Ctrl-C ends\n", screen, f.every); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil // the root says by what
		case <-time.After(f.every):
		}
	}
}

func shiftDocument(rep health.Report) shiftJSON {
	return shiftJSON{
		SchemaVersion: 1, At: rep.At.UTC(), Duration: rep.Duration.Seconds(), Status: rep.Status, ExitCode: rep.Status.ExitCode(),
		Verdict: shiftVerdict(rep), LastAt: rep.LastAt, LastBy: rep.LastBy, Checks: rep.Entries,
		Cleared: append([]health.Cleared{}, rep.Cleared...), Off: append([]health.Off{}, rep.Off...),
	}
}
