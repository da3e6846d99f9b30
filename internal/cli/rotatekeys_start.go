package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/envfile"
	"github.com/stellarescrow/escrowctl/internal/keys"
	"github.com/stellarescrow/escrowctl/internal/report"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/secret"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// startFlags say how many keys and how they reach the consumers.
type startFlags struct {
	count      int
	consumers  []string
	out        string
	recipients []string // NAME=age1...
	show       bool
	emergency  bool
	yes        bool
	why        string
	dryRun     bool
}

func (a *App) rotateStartCommand() *cobra.Command {
	var f startFlags
	args, names := secretArg(keyLists())
	cmd := &cobra.Command{
		Use: "start API_KEYS|ADMIN_KEYS", Short: "make new keys and begin a rotation", Args: args, ValidArgs: names,
		Long: "Makes new keys of 32 random bytes each and hands them out: on the terminal,\n" +
			"once; with --out to a file of mode 0600 for each consumer; with --recipient\n" +
			"encrypted to the consumer's age key. Nothing is in force before activate.\n\n" +
			"--emergency is for a leaked key: no notice and no overlap. The old keys are\n" +
			"refused at once, and all consumers fail until they have the new ones." +
			exitStatus("0  done", "2  failed", "3  not possible: nothing was changed"),
		Example: "  escrowctl rotate-keys start API_KEYS --count 2\n" +
			"  escrowctl rotate-keys start API_KEYS --per-consumer web,mobile --out keys\n" +
			"  escrowctl rotate-keys start ADMIN_KEYS --emergency --why leaked",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkStart(f); err != nil {
				return err
			}
			return a.rotating(cmd.Context(), args[0], f.dryRun, func(ctx context.Context, d *deps, r *keys.Rotator) (Outcome, error) {
				return a.rotateStart(ctx, d, r, f)
			})
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&f.count, "count", 0, "how many new `keys` (default 1)")
	fl.StringSliceVar(&f.consumers, "per-consumer", nil, "a key for each of these `names`")
	fl.StringVar(&f.out, "out", "", "write the keys to files in this `directory`")
	fl.StringArrayVar(&f.recipients, "recipient", nil, "encrypt a consumer's key: `NAME=age1...`;\nrepeatable")
	fl.BoolVar(&f.show, "show", false, "print the keys although stdout is no terminal")
	fl.BoolVar(&f.emergency, "emergency", false, "a key has leaked: replace all keys now")
	fl.BoolVar(&f.yes, "yes", false, "do not ask")
	fl.StringVar(&f.why, "why", "", "the `reason`, for the journal")
	fl.BoolVar(&f.dryRun, "dry-run", false, "say what would be done; change nothing")
	cmd.MarkFlagsMutuallyExclusive("count", "per-consumer")
	return cmd
}

var consumerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

const maxKeys = 100

// checkStart refuses what would leave keys where nobody can have them.
func (a *App) checkStart(f startFlags) error {
	seen := map[string]bool{}
	for _, name := range f.consumers {
		if !consumerName.MatchString(name) || seen[name] {
			return &misuse{fmt.Sprintf("--per-consumer %q: names of letters, digits, - and _, each once", name)}
		}
		seen[name] = true
	}
	for _, r := range f.recipients {
		name, _, _ := strings.Cut(r, "=")
		if !seen[name] {
			return &misuse{fmt.Sprintf("--recipient %q: NAME is none of --per-consumer", name)}
		}
		if _, err := recipientOf(r); err != nil {
			return err
		}
	}
	switch {
	case f.count < 0 || f.count > maxKeys || len(f.consumers) > maxKeys:
		return &misuse{fmt.Sprintf("--count: 1 to %d keys", maxKeys)}
	case f.emergency && f.why == "":
		return &misuse{"--emergency: say --why, for the journal"}
	case f.emergency && !f.yes && !f.dryRun && !a.io.OutTTY:
		return &misuse{"--emergency without a terminal to ask on: add --yes"}
	case f.dryRun, f.out != "", f.show, a.io.OutTTY, len(f.recipients) > 0 && len(f.recipients) == len(f.consumers):
		return nil
	}
	return &misuse{"stdout is no terminal and the keys would end in a log: give --out DIRECTORY, a --recipient for each consumer, or --show"}
}

func recipientOf(flag string) (age.Recipient, error) {
	name, key, _ := strings.Cut(flag, "=")
	all, err := age.ParseRecipients(strings.NewReader(key))
	if err != nil || len(all) != 1 {
		return nil, &misuse{fmt.Sprintf("--recipient %s=...: not an age public key (age1...)", name)}
	}
	return all[0], nil
}

func (a *App) rotateStart(ctx context.Context, d *deps, r *keys.Rotator, f startFlags) (Outcome, error) {
	plan := keys.Plan{Count: f.count, Consumers: f.consumers, Emergency: f.emergency, Why: f.why}
	if f.dryRun {
		return Outcome{}, a.startPlan(r, plan)
	}
	if f.emergency && !f.yes {
		if err := a.confirm(fmt.Sprintf("All keys of %s are refused at once and every consumer fails until it has its new one.\nType %s to go on: ", r.Secret, r.Secret), r.Secret); err != nil {
			return Outcome{}, err
		}
	}
	rot, found, err := r.Current()
	if err != nil {
		return Outcome{}, err
	}
	if !found || rot.Stage.Ended() || rot.Doing == keys.Begin || !f.emergency || !rot.Emergency { // else it goes on
		if rot, err = a.makeKeys(ctx, d, r, plan, f); err != nil {
			return Outcome{}, err
		}
	}
	if f.emergency {
		return a.rotateAct(ctx, d, r, keys.Emergency, f.why, false)
	}
	out := Outcome{Verdict: fmt.Sprintf("%s is planned: %s", r.Secret, strings.Join(rot.New, " ")), Figures: map[string]any{"secret": r.Secret, "action": "start", "stage": string(rot.Stage)}}
	_, _ = fmt.Fprintf(a.io.Err, "next: %s\n", nextStep(rot, a.io.Now()))
	return out, nil
}

// makeKeys begins the rotation, or goes on with one whose keys were not handed
// out, and hands them out.
func (a *App) makeKeys(ctx context.Context, d *deps, r *keys.Rotator, plan keys.Plan, f startFlags) (keys.Rotation, error) {
	if f.out != "" {
		if err := os.MkdirAll(f.out, 0o700); err != nil {
			return keys.Rotation{}, fmt.Errorf("--out: %w", err)
		}
	}
	rot, fresh, err := r.Start(plan)
	if err != nil {
		return rot, err
	}
	if err := a.handOut(r.Secret, rot, fresh, f); err != nil {
		return rot, errors.Join(fmt.Errorf("the keys were not handed out: %w", err), undoStart(r))
	}
	if rot, err = r.HandedOut(); err != nil {
		return rot, err
	}
	d.journalRotation(ctx, rot, keys.Begin, f.why, ui.Plural(len(fresh), "new key", "new keys")+" made for "+r.Secret, nil)
	return rot, nil
}

// undoStart takes a rotation back of which nobody has the keys.
func undoStart(r *keys.Rotator) error {
	_, err := r.Cancel("the keys could not be handed out", false)
	return err
}

func (a *App) startPlan(r *keys.Rotator, p keys.Plan) error {
	now, err := r.Rehearse()
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(a.io.Out, "%s in %s holds %s\nwould make %s\n", r.Secret, ui.Clean(r.EnvFile), strings.Join(now, " "), ui.Plural(max(p.Count, len(p.Consumers), 1), "new key", "new keys"))
	if p.Emergency {
		_, _ = fmt.Fprintf(a.io.Out, "would put them in place of the old ones at once and recreate service %s\nwould prove that they are accepted and the old ones refused\n", r.Service.Name())
	}
	return nil
}

// handOut gives the keys to those who asked, and to nobody else.
func (a *App) handOut(name string, rot keys.Rotation, fresh []secret.Value, f startFlags) error {
	for i, key := range fresh {
		label := fmt.Sprintf("%s-%d", name, i+1)
		if i < len(rot.Consumers) {
			label = rot.Consumers[i]
		}
		text, suffix := []byte(key.Reveal()+"\n"), ".key"
		if j := slices.IndexFunc(f.recipients, func(r string) bool { return strings.HasPrefix(r, label+"=") }); j >= 0 {
			recipient, err := recipientOf(f.recipients[j])
			if err != nil {
				return err
			}
			if text, err = sealed(text, recipient); err != nil {
				return err
			}
			suffix = ".key.age"
		}
		if f.out == "" {
			if _, err := fmt.Fprintf(a.io.Out, "%s (%s)\n%s", label, key, text); err != nil {
				return err
			}
			continue
		}
		path := filepath.Join(f.out, label+suffix)
		if err := (envfile.Editor{}).Write(path, text); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(a.io.Out, "%s (%s) is in %s\n", label, key, ui.Clean(path))
	}
	return nil
}

// sealed encrypts text, as lines that can be pasted.
func sealed(text []byte, to age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	lines := armor.NewWriter(&out)
	w, err := age.Encrypt(lines, to)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := lines.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// confirm asks on the terminal and wants the word typed.
func (a *App) confirm(question, word string) error {
	_, _ = fmt.Fprint(a.io.Err, question)
	line, err := bufio.NewReader(a.io.In).ReadString('\n')
	if strings.TrimSpace(line) != word {
		if err != nil && line == "" {
			return &misuse{"nothing was typed: nothing is changed; without a terminal add --yes"}
		}
		return &misuse{"that was not " + word + ": nothing is changed"}
	}
	return nil
}

func (a *App) rotateNotifyCommand() *cobra.Command {
	var on, why string
	var dryRun, manual bool
	args, names := secretArg(keyLists())
	cmd := &cobra.Command{
		Use: "notify API_KEYS|ADMIN_KEYS", Short: "tell the consumers until when the old keys hold", Args: args, ValidArgs: names,
		Long: "Sends the notice to report.webhook and prints it, to be pasted elsewhere. The\n" +
			"day on which the old keys end is at least a week ahead; retire is refused\n" +
			"before it." +
			exitStatus("0  done", "2  failed", "3  not possible: nothing was changed"),
		Example: "  escrowctl rotate-keys notify API_KEYS\n  escrowctl rotate-keys notify API_KEYS --retire-on 2027-01-31",
		RunE: func(cmd *cobra.Command, args []string) error {
			day, err := a.noticeDay(on)
			if err != nil {
				return err
			}
			return a.rotating(cmd.Context(), args[0], dryRun, func(ctx context.Context, d *deps, r *keys.Rotator) (Outcome, error) {
				return a.rotateNotify(ctx, d, r, day, why, dryRun, manual)
			})
		},
	}
	cmd.Flags().StringVar(&on, "retire-on", "", "the `day` on which the old keys end, as 2027-01-31")
	cmd.Flags().BoolVar(&manual, "manual", false, "only print the notice: it is sent by hand")
	cmd.Flags().StringVar(&why, "why", "", "the `reason`, for the journal")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the notice; send nothing, change nothing")
	return cmd
}

// noticeDay is the day given, or the first full day after the notice.
func (a *App) noticeDay(on string) (time.Time, error) {
	if on == "" {
		return a.io.Now().UTC().Add(runbook.RotationNotice).Truncate(runbook.Day).Add(runbook.Day), nil
	}
	day, err := time.Parse(time.DateOnly, on)
	if err != nil {
		return day, &misuse{fmt.Sprintf("--retire-on %q: write the day as 2027-01-31", on)}
	}
	return day, nil
}

func (a *App) rotateNotify(ctx context.Context, d *deps, r *keys.Rotator, day time.Time, why string, dryRun, manual bool) (Outcome, error) {
	rot, found, err := r.Current()
	if err != nil {
		return Outcome{}, err
	}
	if !found || rot.Stage.Ended() {
		return Outcome{}, fmt.Errorf("notify %s: %w", r.Secret, keys.ErrNone)
	}
	text := notice(r.Secret, rot, day)
	if dryRun {
		_, err := fmt.Fprint(a.io.Out, text)
		return Outcome{}, err
	}
	if !manual && d.cfg.Report.Webhook.IsZero() {
		return Outcome{}, &misuse{"no webhook is set to send the notice to: set report.webhook, or send it yourself and add --manual"}
	}
	rot, err = r.Notify(day, why, func() error { return d.tell(ctx, text, manual) })
	if err != nil {
		return Outcome{}, err
	}
	_, _ = fmt.Fprint(a.io.Out, text)
	out := Outcome{Verdict: fmt.Sprintf("%s is notified: the old keys hold until %s", r.Secret, day.Format(time.DateOnly)), Figures: map[string]any{"secret": r.Secret, "action": "notify", "stage": string(rot.Stage)}}
	d.journalRotation(ctx, rot, "notify", why, out.Verdict, nil)
	return out, nil
}

// tell sends the notice, which must arrive: the report of a run need not.
func (d *deps) tell(ctx context.Context, text string, manual bool) error {
	if manual {
		return nil
	}
	c := d.cfg.Report
	webhook := report.New(report.Options{Webhook: c.Webhook.Reveal(), Timeout: c.Timeout, Now: d.app.io.Now})
	for _, p := range webhook.Send(ctx, report.Report{Job: rotateJob, Success: true, Text: text}) {
		return fmt.Errorf("%w; or send the notice yourself and add --manual", p)
	}
	return nil
}

// notice is what the consumers read.
func notice(name string, rot keys.Rotation, day time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "The keys in %s are being rotated.\n", name)
	fmt.Fprintf(&b, "What to do: replace your key by the new one that you are given, once it is announced as active and before %s (00:00 UTC). Until then both are accepted, from then on the old one is refused (401).\n", day.Format("Monday, 2 January 2006"))
	fmt.Fprintf(&b, "Keys that end: %s. New keys: %s.\n", strings.Join(rot.Old, ", "), strings.Join(rot.New, ", "))
	fmt.Fprintf(&b, "(A fingerprint is sha256: and the first 8 digits of: printf %%s KEY | sha256sum)\n")
	return b.String()
}
