package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/health"
	"github.com/stellarescrow/escrowctl/internal/incident"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// ackCommand is how the journal names it.
const ackCommand = "shift-check ack"

func (a *App) shiftAckCommand() *cobra.Command {
	var until, why string
	var withdraw bool
	cmd := &cobra.Command{
		Use: "ack ID", Short: "acknowledge what the last shift check found", Args: exactlyOneID,
		Long: "Says that somebody knows of what the last shift check found. It goes on\n" +
			"showing and does not count towards the exit code until then. ID is a check,\n" +
			"with all that is broken of it now; a part (containers/api); or all parts of a\n" +
			"name (alerts/ServiceDown). What breaks later, gets worse, or clears and comes\n" +
			"back is not covered." + exitStatus("0  acknowledged", "3  misuse, or nothing of that ID is broken"),
		Example: "  escrowctl shift-check ack disk --until 18:00 --why ordered\n  escrowctl shift-check ack alerts/ServiceDown --until 4h --why INC-7\n  escrowctl shift-check ack disk --withdraw",
		RunE: func(cmd *cobra.Command, args []string) error {
			if withdraw {
				return a.shiftWithdraw(cmd.Context(), args[0])
			}
			return a.shiftAck(cmd.Context(), args[0], until, why)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return a.brokenKeys(), cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.Flags().StringVar(&until, "until", "", "a `time` of day in UTC (18:00), a span (4h), or\nRFC 3339")
	cmd.Flags().StringVar(&why, "why", "", "the `reason`, for whoever comes next")
	cmd.Flags().BoolVar(&withdraw, "withdraw", false, "end the acknowledgement of that ID")
	return cmd
}

func exactlyOneID(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return &misuse{fmt.Sprintf("%s takes one ID of the last shift check: see '%s --help'", ownPath(cmd), cmd.CommandPath())}
	}
	return nil
}

// brokenKeys are what can be acknowledged, for completion.
func (a *App) brokenKeys() []string {
	d, err := a.open(looks)
	if err != nil {
		return nil
	}
	defer d.close()
	var memory health.Handover
	if _, err := d.state.Load(shiftDoc, &memory); err != nil {
		return nil
	}
	var keys []string
	for _, it := range memory.Items {
		keys = append(keys, it.Key)
	}
	return keys
}

func (a *App) shiftAck(ctx context.Context, id, until, why string) error {
	if until == "" || strings.TrimSpace(why) == "" {
		return &misuse{"shift-check ack: say --until when and --why"}
	}
	end, err := health.ParseUntil(until, a.io.Now())
	if err != nil {
		return &misuse{"--until " + err.Error()}
	}
	d, memory, err := a.handover()
	if err != nil {
		return err
	}
	defer d.close()
	ack := health.Ack{ID: id, By: a.person(), Why: d.scrubber.Scrub(ui.Clean(why)), At: a.io.Now().UTC(), Until: end}
	covered, err := memory.Acknowledge(ack)
	if err != nil {
		return &misuse{"shift-check ack: " + err.Error()}
	}
	if err := d.state.Save(shiftDoc, memory); err != nil {
		return err
	}
	d.journal(ctx, operation(ackCommand, fmt.Sprintf("acknowledged %s until %s: %s", ui.Clean(id), incident.Stamp(end), ack.Why)))
	if a.asJSON() {
		ack.Covers = covered
		return a.io.JSON(ui.Document("acknowledged", ack))
	}
	var keys []string
	for _, it := range covered {
		keys = append(keys, it.Key)
	}
	text := fmt.Sprintf("  %s until %s, in %s", strings.Join(keys, ", "), clockText(end, a.io.Now()), minutes(end.Sub(a.io.Now())))
	_, err = fmt.Fprintln(a.io.Out, a.io.Paint("ok", "ACKNOWLEDGED")+ui.Clean(text))
	return err
}

func (a *App) shiftWithdraw(ctx context.Context, id string) error {
	d, memory, err := a.handover()
	if err != nil {
		return err
	}
	defer d.close()
	if !memory.Withdraw(id) {
		return &misuse{"shift-check ack: there is no acknowledgement of " + id}
	}
	if err := d.state.Save(shiftDoc, memory); err != nil {
		return err
	}
	d.journal(ctx, operation(ackCommand, "acknowledgement withdrawn: "+ui.Clean(id)))
	if a.asJSON() {
		return a.io.JSON(ui.Document("withdrawn", id))
	}
	_, err = fmt.Fprintln(a.io.Out, a.io.Paint("ok", "WITHDRAWN")+"  "+ui.Clean(id))
	return err
}

func (a *App) handover() (*deps, *health.Handover, error) {
	d, err := a.open(changes)
	if err != nil {
		return nil, nil, err
	}
	memory := new(health.Handover)
	if _, err := d.state.Load(shiftDoc, memory); err != nil {
		d.close()
		return nil, nil, &check.Error{Status: check.Unknown, Err: err}
	}
	return d, memory, nil
}

// person is who is at the keyboard, as far as the environment tells.
func (a *App) person() string {
	host, _ := os.Hostname() // only for people
	return ui.Clean(cmp.Or(a.variable("SUDO_USER"), a.variable("USER"), a.variable("LOGNAME"), "somebody")) + "@" + host
}

func (a *App) shiftHistoryCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "history", Short: "the shift checks so far, newest first", Args: noArgs,
		Long:    "Lists the shift checks that this host remembers, newest first." + exitStatus("0  listed", "3  misuse, or the records cannot be read"),
		Example: "  escrowctl shift-check history\n  escrowctl shift-check history --limit 100 --json",
		RunE:    func(*cobra.Command, []string) error { return a.shiftHistory(limit) },
	}
	cmd.Flags().IntVar(&limit, "limit", 20, "at most so many `checks`; 0: all")
	return cmd
}

// pastCheck is a shift check of the history.
type pastCheck struct {
	At       time.Time         `json:"at"`
	Duration float64           `json:"duration_seconds"`
	Outcome  string            `json:"outcome"`
	Checks   map[string]string `json:"checks,omitempty"`
}

// broken are the checks that were not ok.
func (p pastCheck) broken() []string {
	var out []string
	for id, status := range p.Checks {
		if status != check.OK.String() {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

func (a *App) shiftHistory(limit int) error {
	if limit < 0 {
		return &misuse{"--limit: 0 or more"}
	}
	d, err := a.open(looks)
	if err != nil {
		return err
	}
	defer d.close()
	runs, err := d.state.Runs(shiftJob, limit)
	if err != nil {
		return &check.Error{Status: check.Unknown, Err: err}
	}
	past := []pastCheck{}
	for _, r := range runs {
		p := pastCheck{At: r.StartedAt, Duration: r.Duration().Seconds(), Outcome: string(r.Outcome), Checks: map[string]string{}}
		checks, _ := r.Figures["checks"].(map[string]any)
		for id, status := range checks {
			p.Checks[id] = fmt.Sprint(status)
		}
		past = append(past, p)
	}
	if a.asJSON() {
		return a.io.JSON(ui.Document("history", past))
	}
	t := ui.NewTable("TIME (UTC)", "AGE", "STATUS", "NOT OK")
	t.Right, t.Status = map[int]bool{1: true}, 2
	for _, p := range past {
		t.Row(p.At.Format("2006-01-02 15:04:05"), ui.Age(a.io.Now().Sub(p.At)), p.Outcome, strings.Join(p.broken(), " "))
	}
	return t.Write(a.io, a.io.Out)
}
