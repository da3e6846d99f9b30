package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/certs"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/compose"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/journal"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// certsJob is the runbook's row that certs renew is.
const certsJob = "certs"

// certsDryRunJob is a rehearsal, which must not pass for a run of cron's.
const certsDryRunJob = "certs-dry-run"

type renewFlags struct {
	certFlags
	force, yes, dryRun bool
}

func (a *App) certsRenewCommand() *cobra.Command {
	var f renewFlags
	cmd := &cobra.Command{
		Use: "renew", Short: "renew what is due, reload nginx, see that it is served", Args: noArgs,
		Long: "Runs certbot in the compose project, its entrypoint overridden, or on this host\n" +
			"(certs.via). Whether it renewed is told by the serial on the disk, not by the\n" +
			"exit status. Then nginx -t, reload, and handshakes until every address serves\n" +
			"the new certificate. If the disk is newer than what is served, nginx is\n" +
			"reloaded first: often that is all there is to do." +
			exitStatus("0  nothing was due, or renewed and served", "1  done, with something to look at",
				"2  not renewed, or not served: nginx's or certbot's own reason is told", "3  that could not be found out, or refused", "75 another run holds the lock"),
		Example: "  escrowctl certs renew\n  escrowctl certs renew --dry-run\n  escrowctl certs renew --force",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.certsRenew(cmd.Context(), f) },
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.force, "force", false, "renew the domain's certificate though it is not due")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "with --force: however often it was forced today")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "certbot's own rehearsal: changes nothing")
	cmd.MarkFlagsMutuallyExclusive("force", "dry-run")
	return cmd
}

func (a *App) certsRenew(ctx context.Context, f renewFlags) error {
	d, err := a.open(changes)
	if err != nil {
		return err
	}
	defer d.close()
	d.alertTo(d.cfg.Certs.Webhook.Reveal())
	job := certsJob
	if f.dryRun {
		job = certsDryRunJob
	}
	return a.job(ctx, d, job, func(ctx context.Context) (Outcome, error) {
		o, err := d.renewOptions(ctx, f)
		if err != nil {
			return Outcome{}, err
		}
		return a.renewOutcome(ctx, d, o)
	})
}

// renewOptions finds certbot and nginx. That they cannot be found is a failure
// of the run, and reported as one.
func (d *deps) renewOptions(ctx context.Context, f renewFlags) (certs.RenewOptions, error) {
	targets, err := d.certTargets(ctx, nil, f.certFlags)
	if err != nil {
		return certs.RenewOptions{}, err
	}
	log := d.app.io
	o := certs.RenewOptions{
		Check: targets[0], Dir: d.cfg.Certs.Dir, Force: f.force, Yes: f.yes, DryRun: f.dryRun, Timeout: d.cfg.Certs.Timeout,
		Person: log.ErrTTY, Tell: log.Log, Said: func(line string) { log.Debug("certbot: %s", line) },
	}
	if o.Certbot, o.ByHand, err = d.certbot(ctx); err == nil {
		o.Nginx, err = d.nginx(ctx)
	}
	if err != nil {
		return o, &check.Error{Status: check.Unknown, Err: err}
	}
	return o, nil
}

func (a *App) renewOutcome(ctx context.Context, d *deps, o certs.RenewOptions) (Outcome, error) {
	r, err := certs.Renew(ctx, o)
	out := Outcome{Verdict: r.Summary, Figures: map[string]any{"outcome": r.Outcome, "repaired": r.Repaired}}
	if len(r.Changed) > 0 {
		out.Figures["renewed"] = r.Changed
	}
	if r.Report != nil {
		out.Figures["verdict"] = r.Report.Verdict
		if r.Report.Known() {
			out.Figures["days_left"] = r.Report.DaysLeft()
		}
		out.Status = r.Report.Status
		out.Status = check.Worst(out.Status, a.renewReports(ctx, d, o, r, &out))
	}
	d.journalRenewal(ctx, o, r, err)
	if err != nil {
		if errors.Is(err, certs.ErrTooOften) {
			err = &misuse{err.Error()}
		}
		out.Verdict = "certs renew failed: " + err.Error()
		return out, err
	}
	return out, a.showRenewal(r)
}

// journalRenewal writes down what was changed: certificates renewed, or nginx
// reloaded.
func (d *deps) journalRenewal(ctx context.Context, o certs.RenewOptions, r *certs.Renewal, err error) {
	if len(r.Changed) == 0 && !r.Repaired {
		return
	}
	e := journal.Entry{Type: "config", Command: "certs renew", Summary: r.Summary, Why: "renewal was due", Outcome: "ok"}
	switch {
	case o.Force:
		e.Why = "forced"
	case len(r.Changed) == 0:
		e.Why = "the disk was newer than what was served"
	}
	if err != nil {
		e.Summary, e.Outcome = err.Error(), "failed"
	}
	if r.Report != nil {
		if leaf := r.Report.Disk.Leaf(); leaf != nil {
			e.Fingerprints = []string{"sha256:" + certs.Fingerprint(leaf)[:8]}
		}
	}
	d.journal(ctx, e)
}

// renewReports tells the platform how the certificate stands, and people what
// was renewed or has become worse.
func (a *App) renewReports(ctx context.Context, d *deps, o certs.RenewOptions, r *certs.Renewal, out *Outcome) check.Status {
	if o.DryRun {
		return check.OK
	}
	reports := append([]*certs.Report{r.Report}, d.otherHosts(ctx, o)...)
	status := a.sendCerts(ctx, d, reports)
	worse, err := certs.Change(d.state, reports, a.io.Now())
	if err != nil {
		a.io.Warn("%v", err)
		status = check.Worst(status, check.Warning)
	}
	out.Report.Text = a.worseText(worse)
	if out.Report.Text == "" && (len(r.Changed) > 0 || r.Repaired) {
		out.Report.Text = "certs: " + r.Summary
	}
	return status
}

// otherHosts checks the further hosts of the configuration, so that the metrics
// of a run are whole.
func (d *deps) otherHosts(ctx context.Context, o certs.RenewOptions) []*certs.Report {
	var targets []certs.Options
	for _, word := range d.cfg.Certs.Hosts {
		t := certs.Options{Roots: o.Check.Roots, HTTP: o.Check.HTTP, Docs: o.Check.Docs, Now: o.Check.Now, Over: o.Check.Over}
		var err error
		if t.Host, t.Port, err = hostPort(word); err == nil {
			targets = append(targets, t)
		}
	}
	return checkAll(ctx, targets)
}

// certbot is the certbot of the compose project, or of this host, and how a
// person runs it.
func (d *deps) certbot(ctx context.Context) (run certs.Command, byHand string, err error) {
	c := d.cfg.Certs
	var notThere error
	if c.Via != config.ViaHost {
		svc, err := d.serviceNamed(ctx, c.Service)
		if err == nil {
			return oneoff{svc, "certbot"}, "docker compose run --rm --entrypoint certbot " + c.Service, nil
		}
		if c.Via == config.ViaContainer {
			return nil, "", err
		}
		notThere = err
	}
	path, err := exec.LookPath("certbot")
	switch {
	case err == nil:
		return certs.HostCommand(path), "certbot", nil
	case notThere != nil:
		return nil, "", fmt.Errorf("no certbot: %w; and not on this host either: %w", notThere, err)
	}
	return nil, "", fmt.Errorf("no certbot on this host (certs.via is host): %w", err)
}

// nginx is the nginx of the compose project, running or not, else that of this
// host; nil if there is none.
func (d *deps) nginx(ctx context.Context) (certs.Command, error) {
	svc, err := d.serviceNamed(ctx, d.cfg.Certs.NginxService)
	if err == nil {
		return within{svc, "nginx"}, nil
	}
	// An engine that is there and does not answer is not the same as no project.
	if !errors.Is(err, compose.ErrNoProject) && !errors.Is(err, compose.ErrNoService) && !errors.Is(err, compose.ErrNoDaemon) {
		return nil, err
	}
	if path, lerr := exec.LookPath("nginx"); lerr == nil {
		return certs.HostCommand(path), nil
	}
	d.app.io.Debug("no nginx to reload: %v", err)
	return nil, nil //nolint:nilnil // having none is told when one is needed
}

// oneoff runs a program in a new container of a service, and within in its
// running one.
type (
	oneoff struct {
		service *compose.Service
		program string
	}
	within struct {
		service *compose.Service
		program string
	}
)

func (c oneoff) Run(ctx context.Context, args []string, out io.Writer) (int, error) {
	return c.service.Run(ctx, []string{c.program}, args, out, out)
}

func (c within) Run(ctx context.Context, args []string, out io.Writer) (int, error) {
	return c.service.Exec(ctx, append([]string{c.program}, args...), nil, out, out)
}

// showRenewal tells of a run that went well: one line, unless there is more to
// look at.
func (a *App) showRenewal(r *certs.Renewal) error {
	status := check.OK
	if r.Report != nil {
		status = r.Report.Status
	}
	if a.asJSON() {
		doc := struct {
			SchemaVersion int          `json:"schema_version"`
			Status        check.Status `json:"status"`
			Outcome       string       `json:"outcome"`
			Renewed       []string     `json:"renewed"`
			Repaired      bool         `json:"repaired_by_reload"`
			Summary       string       `json:"summary"`
			Host          *certItem    `json:"host,omitempty"`
		}{1, status, r.Outcome, r.Changed, r.Repaired, r.Summary, nil}
		if doc.Renewed == nil {
			doc.Renewed = []string{}
		}
		if r.Report != nil {
			it := newCertItem(r.Report)
			doc.Host = &it
		}
		return a.io.JSON(doc)
	}
	lines := []string{a.io.Paint(status.String(), strings.ToUpper(status.String())) + "  " + ui.Clean(r.Summary)}
	if status != check.OK {
		lines = append(lines, a.certLines(r.Report)[1:]...)
	}
	_, err := fmt.Fprintln(a.io.Out, strings.Join(lines, "\n"))
	return err
}
