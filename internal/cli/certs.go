package cli

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/certs"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/report"
)

const (
	httpsPort     = "443"
	certsCheckJob = "certs-check"
)

func (a *App) certsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "certs", Short: "check certificates, renew them, prove that they are served", GroupID: "ops", Args: noArgs,
		Example: "  escrowctl certs check\n  escrowctl certs renew",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.certsCheckCommand(), a.certsRenewCommand())
	return cmd
}

// certFlags are the flags that check and renew share.
type certFlags struct {
	ca        string
	addresses []string
	offline   bool
}

func (f *certFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.ca, "ca", "", "roots to trust besides the system's, a PEM `file`")
	cmd.Flags().StringSliceVar(&f.addresses, "address", nil, "connect to this `address`, perhaps with :PORT")
	cmd.Flags().BoolVar(&f.offline, "offline", false, "do not ask the CA for renewal info and revocation")
}

func (a *App) certsCheckCommand() *cobra.Command {
	var f certFlags
	cmd := &cobra.Command{
		Use: "check [HOST[:PORT]|FILE...]", Short: "say how it stands with a certificate, served and on the disk",
		Long: "Connects to every address of the host, takes the chain even if it is invalid,\n" +
			"and judges it: days left, names, chain, key, signature, protocols, revocation,\n" +
			"agreement with the other addresses and with certbot's files. When renewal is\n" +
			"due follows from the certificate's lifetime, or from the CA.\n\n" +
			"Without arguments it looks at certs.domain and certs.hosts, records the run and\n" +
			"reports it. With arguments it only looks. FILE is a certificate in PEM form." +
			exitStatus("0  valid; not due, or due and about to be renewed", "1  renewal failing, renewed but not reloaded, or a weakness",
				"2  expired, invalid, not served, or near its end", "3  that could not be found out"),
		Example: "  escrowctl certs check\n  escrowctl certs check stellarescrow.app grafana.stellarescrow.app:8443\n" +
			"  escrowctl certs check --address 127.0.0.1 --json\n  escrowctl certs check /etc/letsencrypt/live/stellarescrow.app/fullchain.pem",
		RunE: func(cmd *cobra.Command, args []string) error { return a.certsCheck(cmd.Context(), args, f) },
	}
	f.add(cmd)
	return cmd
}

func (a *App) certsCheck(ctx context.Context, args []string, f certFlags) error {
	d, err := a.open(unless(len(args) > 0))
	if err != nil {
		return err
	}
	defer d.close()
	if len(args) > 0 {
		targets, err := d.certTargets(ctx, args, f)
		if err != nil {
			return err
		}
		reports := checkAll(ctx, targets)
		if err := a.showCerts(reports); err != nil {
			return err
		}
		if status := certsStatus(reports); status != check.OK {
			return &told{status}
		}
		return nil
	}
	d.alertTo(d.cfg.Certs.Webhook.Reveal())
	return a.job(ctx, d, certsCheckJob, func(ctx context.Context) (Outcome, error) {
		targets, err := d.certTargets(ctx, nil, f)
		if err != nil {
			return Outcome{}, err
		}
		reports := checkAll(ctx, targets)
		if ctx.Err() != nil {
			return Outcome{}, context.Cause(ctx)
		}
		out := a.certsOutcome(ctx, d, reports)
		return out, a.showCerts(reports)
	})
}

// certTargets are the options of each check: of the arguments, else of the
// configured hosts.
func (d *deps) certTargets(ctx context.Context, args []string, f certFlags) ([]certs.Options, error) {
	base, err := d.certOptions(ctx, f)
	if err != nil {
		return nil, err
	}
	list := args
	if len(list) == 0 {
		if d.cfg.Certs.Domain == "" {
			return nil, &misuse{"certs check of which host? name one, or set certs.domain (CERT_DOMAIN)"}
		}
		list = append([]string{d.cfg.Certs.Domain}, d.cfg.Certs.Hosts...)
	}
	var out []certs.Options
	for _, word := range list {
		o := base
		if isCertFile(word) {
			o.File = word
			out = append(out, o)
			continue
		}
		if o.Host, o.Port, err = hostPort(word); err != nil {
			return nil, err
		}
		own := o.Host == d.cfg.Certs.Domain
		if !own {
			o.Files, o.FilesWhy, o.FilesMust = nil, "", false
		}
		addresses := f.addresses
		if len(addresses) == 0 && own {
			addresses = d.cfg.Certs.Address
		}
		if o.Addresses, err = withPort(addresses, o.Port); err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

// certOptions are what all checks of a run have in common.
func (d *deps) certOptions(ctx context.Context, f certFlags) (certs.Options, error) {
	c := d.cfg.Certs
	if c.WarnDays > 0 && c.CriticalDays > c.WarnDays {
		return certs.Options{}, &misuse{fmt.Sprintf("certs.critical_days (%d) is more than certs.warn_days (%d): a warning comes first, with more days left", c.CriticalDays, c.WarnDays)}
	}
	o := certs.Options{Docs: d.state, Now: d.app.io.Now, Over: certs.Overrides{WarnDays: c.WarnDays, CriticalDays: c.CriticalDays}}
	var err error
	if o.Roots, err = roots(cmp.Or(f.ca, c.CA)); err != nil {
		return certs.Options{}, err
	}
	if !f.offline {
		o.HTTP = webClient(o.Roots)
	}
	o.Files, o.FilesWhy, o.FilesMust = d.certFiles(ctx)
	return o, nil
}

// roots are the system's and those of a file; nil, which is the system's, without
// one.
func roots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // the system's are what nil means
	}
	body, err := os.ReadFile(file)
	if err != nil {
		return nil, &misuse{fmt.Sprintf("roots (--ca, certs.ca): %v", err)}
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(body) {
		return nil, &misuse{fmt.Sprintf("roots (--ca, certs.ca): %s holds no certificate in PEM form", file)}
	}
	return pool, nil
}

// webClient asks CAs. Its requests are bounded by their contexts.
func webClient(roots *x509.CertPool) *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSHandshakeTimeout: 5 * time.Second,
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}}
}

// certFiles is where certbot's files are read, or why they are not, and whether
// that is where the certificate must be renewed: by choice, or as there is a
// certbot service.
func (d *deps) certFiles(ctx context.Context) (files certs.Files, why string, must bool) {
	c := d.cfg.Certs
	if c.Via != config.ViaHost {
		svc, err := d.serviceNamed(ctx, c.Service)
		if err == nil {
			return certs.TarFiles{Dir: c.Dir, Open: svc.Archive}, "", true
		}
		if c.Via == config.ViaContainer {
			return nil, err.Error(), true
		}
		d.app.io.Debug("certbot's service is not used: %v", err)
	}
	if _, err := os.Stat(c.Dir); err != nil {
		return nil, fmt.Sprintf("neither a container of service %s nor %s on this host", c.Service, c.Dir), c.Via == config.ViaHost
	}
	return certs.HostFiles(c.Dir), "", c.Via == config.ViaHost
}

// alertTo sends the messages for people to another webhook than the general one,
// if it is given.
func (d *deps) alertTo(webhook string) {
	if webhook != "" {
		opt := d.reportOptions()
		opt.Webhook = webhook
		d.reporter = report.New(opt)
	}
}

// isCertFile says whether an argument is a file rather than a host.
func isCertFile(word string) bool {
	if strings.Contains(word, "://") {
		return false // which hostPort explains
	}
	if strings.ContainsRune(word, os.PathSeparator) {
		return true
	}
	for _, end := range []string{".pem", ".crt", ".cer"} {
		if strings.HasSuffix(word, end) {
			return true
		}
	}
	return isFile(word)
}

// hostPort splits HOST[:PORT], the port being that of HTTPS if none is given.
func hostPort(word string) (host, port string, err error) {
	if strings.Contains(word, "://") {
		return "", "", &misuse{fmt.Sprintf("%q is a URL: write HOST or HOST:PORT", word)}
	}
	host, port, err = net.SplitHostPort(word)
	if err != nil {
		host, port = strings.Trim(word, "[]"), httpsPort
	}
	if host == "" || strings.ContainsAny(host, " /@") || strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return "", "", &misuse{fmt.Sprintf("%q is no HOST or HOST:PORT", word)}
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return "", "", &misuse{fmt.Sprintf("%q: %q is no port", word, port)}
	}
	return host, port, nil
}

// withPort gives the addresses the port that they lack.
func withPort(addresses []string, port string) ([]string, error) {
	var out []string
	for _, word := range addresses {
		host, own, err := hostPort(word)
		if err != nil {
			return nil, err
		}
		if _, _, err := net.SplitHostPort(word); err != nil {
			own = port
		}
		out = append(out, net.JoinHostPort(host, own))
	}
	return out, nil
}

// checkAll checks all at once and returns the reports in order.
func checkAll(ctx context.Context, targets []certs.Options) []*certs.Report {
	out := make([]*certs.Report, len(targets))
	done := make(chan struct{})
	for i, o := range targets {
		go func() {
			defer func() { done <- struct{}{} }()
			out[i] = certs.Check(ctx, o)
		}()
	}
	for range targets {
		<-done
	}
	return out
}

func certsStatus(reports []*certs.Report) check.Status {
	status := check.OK
	for _, r := range reports {
		status = check.Worst(status, r.Status)
	}
	return status
}

// gravest is the report that decides.
func gravest(reports []*certs.Report) *certs.Report {
	return slices.MaxFunc(reports, func(a, b *certs.Report) int { return cmp.Compare(a.Status, b.Status) })
}
