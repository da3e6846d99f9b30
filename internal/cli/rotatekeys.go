package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/compose"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/journal"
	"github.com/stellarescrow/escrowctl/internal/keys"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

const rotateJob = "rotate-keys"

// keyLists are the secrets that are lists of keys, which can overlap.
func keyLists() []string { return []string{"API_KEYS", "ADMIN_KEYS"} }

func (a *App) rotateKeysCommand() *cobra.Command {
	var dryRun bool
	var why, fresh string
	names := append(passwords(), s3Word)
	cmd := &cobra.Command{
		Use: "rotate-keys [SECRET]", Short: "rotate keys and passwords, proven at every step", GroupID: "ops", ValidArgs: names,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && slices.Contains(names, args[0]) {
				return nil
			}
			return noArgs(cmd, args)
		},
		Long: "Rotates API_KEYS and ADMIN_KEYS without an interruption for the consumers:\n\n" +
			"  start     makes new keys and hands them out; nothing else changes\n" +
			"  notify    tells the consumers, a week ahead, until when the old keys hold\n" +
			"  activate  puts the new keys beside the old ones in .env, recreates the\n" +
			"            service, and proves that both are accepted\n" +
			"  retire    when the notice is over: removes the old keys, recreates, proves\n" +
			"            that they are refused\n\n" +
			"'docker compose restart' loads no new .env: the service is recreated instead.\n" +
			"A failed proof rolls back by itself. An action that was killed is run again.\n" +
			"POSTGRES_PASSWORD, REDIS_PASSWORD and GRAFANA_ADMIN_PASSWORD are changed in one\n" +
			"go: on the server, in .env and its URLs, then in every service that holds it,\n" +
			"and proven. S3 puts credentials that were made in IAM in the place of the old\n" +
			"ones, once they are proven on the bucket; retire S3 sees that the old ones are\n" +
			"dead.\n" +
			"Alone, rotate-keys shows where every rotation stands and what comes next." +
			exitStatus("0  done, or nothing is due", "1  a rotation is overdue", "2  failed; rolled back if it says so", "3  not allowed yet, misuse, or cannot be proven: nothing was changed"),
		Example: "  escrowctl rotate-keys\n  escrowctl rotate-keys start API_KEYS --per-consumer web,mobile --out keys\n  escrowctl rotate-keys activate API_KEYS --dry-run\n  escrowctl rotate-keys POSTGRES_PASSWORD --dry-run\n  escrowctl rotate-keys S3 --new /root/new-key --dry-run",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 1 && args[0] == s3Word:
				return a.exchange(cmd.Context(), s3Step{do: keys.Swap, file: fresh, why: why, dryRun: dryRun})
			case fresh != "":
				return &misuse{"--new is for rotate-keys S3"}
			case len(args) == 1:
				return a.swap(cmd.Context(), args[0], why, false, dryRun)
			}
			return a.rotationStatus()
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "of a password or S3: say what would be done")
	cmd.Flags().StringVar(&fresh, "new", "", "of S3: the `file` with the new credentials; - is stdin")
	cmd.Flags().StringVar(&why, "why", "", "the `reason`, for the journal")
	cmd.AddCommand(a.rotateStartCommand(), a.rotateNotifyCommand(), a.rotateCancelCommand(),
		a.rotateStatusCommand(), a.rotateDueCommand(), a.rotateRecordCommand(),
		a.rotateActCommand(keys.Activate, "load the new keys beside the old ones, and prove both",
			"Adds the new keys to the old ones in .env, recreates the service, waits until\nit is ready and asks it with every key. Allowed once the consumers are told."),
		a.rotateActCommand(keys.Retire, "remove the old keys, and prove that they are refused",
			"Removes the old keys from .env, recreates the service and asks it with every\nkey. Allowed when the notice is over. The API does not tell which keys are still\nin use, so escrowctl cannot know whether all consumers have switched: ask them."),
		a.rotateActCommand(keys.Rollback, "go back to the old keys alone, and prove it",
			"Puts the variable back into .env as it was before, to the byte, recreates the\nservice and asks it with every key. Allowed in every stage until retired."))
	return cmd
}

// secretArg takes one of the given names.
func secretArg(names []string) (cobra.PositionalArgs, []string) {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 && slices.Contains(names, args[0]) {
			return nil
		}
		if len(args) == 1 {
			return &misuse{fmt.Sprintf("%s %q: one of %s", ownPath(cmd), args[0], strings.Join(names, ", "))}
		}
		return &misuse{fmt.Sprintf("%s of which secret? one of %s", ownPath(cmd), strings.Join(names, ", "))}
	}, names
}

// rotator builds the rotation of one list of keys on the compose project.
func (d *deps) rotator(ctx context.Context, name string) (*keys.Rotator, error) {
	r, project, err := d.rotation(ctx, name)
	if err != nil {
		return nil, err
	}
	if d.cfg.API.URL == config.Off {
		return nil, &misuse{"api.url is off: a rotation is proven by asking the API: set api.url"}
	}
	c := d.cfg.Keys
	path := c.APIPath
	if name == "ADMIN_KEYS" {
		path = c.AdminPath
	}
	r.Prober = &keyProber{url: strings.TrimRight(d.cfg.API.URL, "/") + path, header: c.Header, client: probeClient()}
	r.Service = &keyService{program: d.program(project, keyLists()...), service: c.Service, variable: name}
	return r, nil
}

// rotation is what the rotations of all secrets have in common.
func (d *deps) rotation(ctx context.Context, name string) (*keys.Rotator, *compose.Project, error) {
	project, err := d.composeProject(ctx)
	if err != nil {
		return nil, nil, unchanged(err)
	}
	env, err := d.envFile(project)
	return &keys.Rotator{
		Secret: name, EnvFile: env, Docs: d.state, Now: d.app.io.Now, Who: who(), Timeout: d.cfg.Keys.Timeout, Say: d.app.io.Log,
	}, project, err
}

// program runs Compose on the project; hide are variables that it must take from
// the .env file.
func (d *deps) program(p *compose.Project, hide ...string) compose.Program {
	return compose.Program{Project: p, EnvFile: d.cfg.Compose.EnvFile, Files: d.cfg.Compose.Files, Hide: hide}
}

// envFile is the .env file of the project, which Compose reads.
func (d *deps) envFile(p *compose.Project) (string, error) {
	path := d.cfg.Compose.EnvFile
	if path == "" {
		if p.Dir() == "" {
			return "", &misuse{"where the project's .env lies is not known from its containers: set compose.env_file"}
		}
		path = filepath.Join(p.Dir(), ".env")
	}
	return filepath.Abs(path)
}

// who is the person at the keyboard, also behind sudo.
func who() string {
	name := os.Getenv("SUDO_USER")
	if name == "" {
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
	}
	host, _ := os.Hostname() // "" is shown as it is
	return cmp.Or(name, "unknown") + "@" + host
}

// keyService is the compose service that reads the keys.
type keyService struct {
	program           compose.Program
	service, variable string
}

func (s *keyService) Name() string { return s.service }

func (s *keyService) Live(ctx context.Context) ([]keys.Live, error) {
	all, err := s.program.Project.Live(ctx, s.service, s.variable)
	out := make([]keys.Live, 0, len(all))
	for _, l := range all {
		out = append(out, keys.Live{ID: l.ID, Name: l.Name, State: l.State, Health: l.Health, Value: l.Value})
	}
	return out, err
}

func (s *keyService) Recreate(ctx context.Context) error { return s.program.Recreate(ctx, s.service) }

func (s *keyService) Drift(ctx context.Context) ([]string, error) {
	return s.program.Drift(ctx, s.service)
}

// rotateActCommand is one of the actions that change file and service.
func (a *App) rotateActCommand(do keys.Action, short, long string) *cobra.Command {
	var dryRun bool
	var why string
	all := keyLists()
	switch do {
	case keys.Rollback:
		all = append(append(all, passwords()...), s3Word)
	case keys.Retire:
		all = append(all, s3Word)
	}
	args, names := secretArg(all)
	cmd := &cobra.Command{
		Use: string(do) + " SECRET", Short: short, Args: args, ValidArgs: names,
		Long:    long + exitStatus("0  done and proven", "2  failed; rolled back if it says so", "3  not allowed yet, or cannot be proven: nothing was changed"),
		Example: fmt.Sprintf("  escrowctl rotate-keys %s API_KEYS --dry-run\n  escrowctl rotate-keys %s API_KEYS", do, do),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case args[0] == s3Word:
				return a.exchange(cmd.Context(), s3Step{do: do, why: why, dryRun: dryRun})
			case slices.Contains(passwords(), args[0]):
				return a.swap(cmd.Context(), args[0], why, true, dryRun)
			}
			return a.rotating(cmd.Context(), args[0], dryRun, func(ctx context.Context, d *deps, r *keys.Rotator) (Outcome, error) {
				return a.rotateAct(ctx, d, r, do, why, dryRun)
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be done; change nothing")
	cmd.Flags().StringVar(&why, "why", "", "the `reason`, for the journal")
	return cmd
}

// rotating opens what a rotation needs and runs fn as a job, or without a
// record if it only looks.
func (a *App) rotating(ctx context.Context, name string, looking bool, fn func(context.Context, *deps, *keys.Rotator) (Outcome, error)) error {
	d, err := a.open(unless(looking))
	if err != nil {
		return err
	}
	defer d.close()
	run := func(ctx context.Context) (Outcome, error) {
		r, err := d.rotator(ctx, name)
		if err != nil {
			return Outcome{}, err
		}
		out, err := fn(ctx, d, r)
		return out, rotationError(err)
	}
	if looking {
		_, err := run(ctx)
		return err
	}
	return a.job(ctx, d, rotateJob, run)
}

func (a *App) rotateAct(ctx context.Context, d *deps, r *keys.Rotator, do keys.Action, why string, dryRun bool) (Outcome, error) {
	rot, found, err := r.Current()
	if err != nil {
		return Outcome{}, err
	}
	if !found {
		rot.Stage = ""
	}
	if err := r.Allowed(rot, do); err != nil {
		if rot.Stage.Ended() && !dryRun {
			_, _, err = r.Do(ctx, do, why) // refuses, and clears up after a kill
		}
		return Outcome{}, err
	}
	drift, err := r.Service.Drift(ctx)
	if err != nil {
		return Outcome{}, unchanged(err)
	}
	if rot.Doing == "" && len(drift) > 0 {
		a.io.Warn("Compose would recreate %s even without new keys, because of: %s", r.Service.Name(), strings.Join(drift, ", "))
	}
	if dryRun {
		return Outcome{}, a.rotatePlan(r, rot, do)
	}
	if do == keys.Retire {
		a.io.Log(oldUseUnknown)
	}
	rot, proof, err := r.Do(ctx, do, why)
	out := a.rotated(rot, proof, do, err)
	d.journalRotation(ctx, rot, do, why, out.Verdict, err)
	return out, err
}

// rotated words what an action came to.
func (a *App) rotated(rot keys.Rotation, proof keys.Proof, do keys.Action, err error) Outcome {
	out := Outcome{Figures: map[string]any{"secret": rot.Secret, "action": string(do), "stage": string(rot.Stage)}}
	if err != nil {
		return out
	}
	out.Verdict = fmt.Sprintf("%s is %s: proven by %s to %s", rot.Secret, rot.Stage, ui.Plural(proof.Requests, "request", "requests"), strings.Join(proof.Containers, ", "))
	if proof.Recreated {
		out.Verdict += fmt.Sprintf(", recreated with a gap of %.1f s", proof.GapSeconds)
		out.Figures["gap_seconds"] = proof.GapSeconds
	}
	out.Report.Text = fmt.Sprintf("rotate-keys %s: %s", do, out.Verdict)
	if a.asJSON() {
		_ = a.io.JSON(ui.Document("rotation", rot)) // stderr has the verdict too
		return out
	}
	_, _ = fmt.Fprintf(a.io.Out, "%s  %s\n", a.io.Paint("ok", "OK"), out.Verdict)
	if next := nextStep(rot, a.io.Now()); next != "" {
		_, _ = fmt.Fprintf(a.io.Out, "next: %s\n", next)
	}
	return out
}

// rotatePlan says what an action would do.
func (a *App) rotatePlan(r *keys.Rotator, rot keys.Rotation, do keys.Action) error {
	after := map[keys.Action][]string{
		keys.Activate: slices.Concat(rot.Old, rot.New), keys.Retire: rot.New, keys.Emergency: rot.New, keys.Rollback: rot.Old,
	}[do]
	now, err := r.Rehearse()
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(a.io.Out, "would change   %s in %s\n  from         %s\n  to           %s\nwould recreate service %s alone, if it does not hold that yet\nwould prove    these keys accepted, all others and none refused\n",
		r.Secret, ui.Clean(r.EnvFile), strings.Join(now, " "), strings.Join(after, " "), r.Service.Name())
	if do == keys.Retire {
		_, _ = fmt.Fprintf(a.io.Out, "%s: ask them\n", oldUseUnknown)
	}
	return nil
}

// oldUseUnknown is what retire says: nothing that the API answers (health,
// metrics) has the use of its keys.
const oldUseUnknown = "whether the old keys are still in use cannot be known: the API does not tell"

// journalRotation writes the change into the journal.
func (d *deps) journalRotation(ctx context.Context, rot keys.Rotation, do keys.Action, why, verdict string, err error) {
	e := journal.Entry{
		Type: "config", Command: "rotate-keys " + string(do) + " " + rot.Secret, Summary: verdict, Why: why,
		Outcome: "ok", Fingerprints: slices.Concat(rot.Old, rot.New),
	}
	if err != nil {
		e.Outcome, e.Summary = "failed", err.Error()
	}
	d.journal(ctx, e)
}

func (a *App) rotateCancelCommand() *cobra.Command {
	var why string
	var abandon, dryRun bool
	args, names := secretArg(keyLists())
	cmd := &cobra.Command{
		Use: "cancel API_KEYS|ADMIN_KEYS", Short: "end a rotation before its keys are in force", Args: args, ValidArgs: names,
		Long: "Ends a rotation that is planned or notified; .env has not changed until then.\n" +
			"Later there is rollback. --abandon ends one in any stage and leaves .env and\n" +
			"containers as they are: for when its files are lost." +
			exitStatus("0  done", "2  failed", "3  not possible: nothing was changed"),
		Example: "  escrowctl rotate-keys cancel API_KEYS --why postponed",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.rotating(cmd.Context(), args[0], dryRun, func(ctx context.Context, d *deps, r *keys.Rotator) (Outcome, error) {
				if dryRun {
					_, _ = fmt.Fprintf(a.io.Out, "would end the rotation of %s and remove the files of its new keys\n", r.Secret)
					return Outcome{}, nil
				}
				rot, err := r.Cancel(why, abandon)
				out := Outcome{Verdict: rot.Secret + ": the rotation is cancelled"}
				d.journalRotation(ctx, rot, "cancel", why, out.Verdict, err)
				if err == nil {
					_, _ = fmt.Fprintln(a.io.Out, out.Verdict)
				}
				return out, err
			})
		},
	}
	cmd.Flags().StringVar(&why, "why", "", "the `reason`, for the journal")
	cmd.Flags().BoolVar(&abandon, "abandon", false, "in any stage, leaving everything as it is")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be done; change nothing")
	return cmd
}

// rotationError gives an error of a rotation its exit code: where nothing was
// changed it is 3.
func rotationError(err error) error {
	if isAny(err, keys.ErrTooEarly, keys.ErrUnprovable, keys.ErrNone, keys.ErrRunning, compose.ErrNoProgram) {
		return unchanged(err)
	}
	return err
}

// unchanged is an error before which nothing was changed.
func unchanged(err error) error { return &check.Error{Status: check.Unknown, Err: err} }

// nextStep says what comes next and when it is allowed.
func nextStep(rot keys.Rotation, now time.Time) string {
	switch {
	case rot.Doing == keys.Swap:
		return fmt.Sprintf("it began and did not end: escrowctl rotate-keys %s, or rollback", strings.TrimSuffix(rot.Secret, " credentials"))
	case rot.Secret == keys.CredentialsName && rot.Stage == keys.Verified:
		return "deactivate the old access key where it was made (IAM), then escrowctl rotate-keys retire S3"
	case rot.Doing != "":
		return fmt.Sprintf("%s began and did not end: escrowctl rotate-keys %s %s, or rollback", rot.Doing, resume(rot.Doing), rot.Secret)
	case rot.Emergency && rot.Stage == keys.Planned:
		return fmt.Sprintf("escrowctl rotate-keys start %s --emergency", rot.Secret)
	case rot.Stage == keys.Planned:
		return fmt.Sprintf("hand out the keys, then escrowctl rotate-keys notify %s", rot.Secret)
	case rot.Stage == keys.Notified:
		return fmt.Sprintf("escrowctl rotate-keys activate %s, any time", rot.Secret)
	case rot.Stage == keys.Verified && now.Before(rot.RetireAfter):
		return fmt.Sprintf("escrowctl rotate-keys retire %s, from %s", rot.Secret, rot.RetireAfter.Format("2006-01-02 15:04 MST"))
	case rot.Stage == keys.Verified:
		return fmt.Sprintf("escrowctl rotate-keys retire %s, now", rot.Secret)
	}
	return ""
}

func resume(do keys.Action) string {
	if do == keys.Emergency {
		return "start --emergency"
	}
	return string(do)
}
