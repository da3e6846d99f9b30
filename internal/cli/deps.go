package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stellarescrow/escrowctl/internal/backup"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/compose"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/postgres"
	"github.com/stellarescrow/escrowctl/internal/report"
	"github.com/stellarescrow/escrowctl/internal/secret"
	"github.com/stellarescrow/escrowctl/internal/state"
	"github.com/stellarescrow/escrowctl/internal/store"
	"github.com/stellarescrow/escrowctl/internal/store/s3store"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// deps are the adapters of one invocation, built from the configuration when
// first used.
type deps struct {
	app      *App
	cfg      *config.Loaded
	state    *state.Store
	reporter *report.Reporter
	scrubber *secret.Scrubber
	project  projectOpener
	session  sharedSession
	// stateKept says that the state directory of a command that looks can be
	// written all the same.
	stateKept bool
}

// access is what a command does to the state directory.
type access uint8

const (
	looks   access = iota // works with a directory that cannot be written
	changes               // records its run
)

// unless is looks for a dry run or a mere look, else changes.
func unless(looking bool) access {
	if looking {
		return looks
	}
	return changes
}

// open loads the configuration and the state directory.
func (a *App) open(use access) (*deps, error) {
	cfg, err := a.load()
	if err != nil {
		return nil, err
	}
	for _, w := range cfg.Warnings {
		a.io.Warn("%s", w)
	}
	d, err := a.openWith(cfg, use)
	if err != nil && use == changes {
		a.tellUnopened(cfg, err)
	}
	return d, err
}

// tellUnopened tells the webhook of a command that could not begin for want of a
// state directory, where no person sees it: a night without a backup is not for
// cron's log alone.
func (a *App) tellUnopened(cfg *config.Loaded, cause error) {
	webhook := cmp.Or(cfg.Report.Webhook.Reveal(), cfg.Certs.Webhook.Reveal())
	if a.io.ErrTTY || webhook == "" {
		return
	}
	host, _ := os.Hostname() // only for the message
	text := fmt.Sprintf("FAILED on %s: %s did not begin: %v", host, a.command, cause)
	to := report.New(report.Options{Webhook: webhook, Timeout: cfg.Report.Timeout, Now: a.io.Now})
	for _, p := range to.Send(context.Background(), report.Report{Text: cfg.Scrubber().Scrub(text)}) {
		a.io.Warn("report not delivered: %v", p)
	}
}

// openWith opens the state directory of a configuration.
func (a *App) openWith(cfg *config.Loaded, use access) (*deps, error) {
	dir, err := cfg.StateDir()
	if err != nil {
		return nil, &check.Error{Status: check.Unknown, Err: err}
	}
	a.io.Debug("configuration file: %s", cmp.Or(cfg.File, "none"))
	a.io.Debug("state directory: %s", dir)
	st, err := state.Open(dir, state.Options{Now: a.io.Now, Version: a.build.Version, Command: "escrowctl", ReadOnly: use == looks})
	if err != nil {
		return nil, &check.Error{Status: check.Unknown, Err: err}
	}
	d := &deps{app: a, cfg: cfg, state: st, scrubber: cfg.Scrubber()}
	d.reporter = report.New(d.reportOptions())
	return d, nil
}

// reportOptions are the destinations of reports.
func (d *deps) reportOptions() report.Options {
	c := d.cfg.Report
	opt := report.Options{
		Webhook: c.Webhook.Reveal(), TextfileDir: c.TextfileDir, Pushgateway: c.Pushgateway.Reveal(),
		Timeout: c.Timeout, Now: d.app.io.Now, Metrics: metrics(),
	}
	if c.APIMetrics != config.Off {
		opt.APIBaseURL = c.APIBaseURL
	}
	return opt
}

func (d *deps) close() {
	d.session.close()
	d.project.close()
}

func (d *deps) naming() backup.Naming { return backup.Naming{Base: d.cfg.Backup.Name} }

func (d *deps) local() *store.Dir { return store.NewDir(d.cfg.Backup.Dir) }

// remote returns the bucket; nil if none is configured.
func (d *deps) remote(ctx context.Context) (store.Store, error) {
	if d.cfg.S3.Bucket == "" {
		return nil, nil //nolint:nilnil // having no bucket is a choice
	}
	addr, err := store.Parse(d.cfg.S3.Bucket)
	if err != nil {
		return nil, &misuse{fmt.Sprintf("s3.bucket (%s): %v", d.cfg.Origin("s3.bucket"), err)}
	}
	return d.storeAt(ctx, addr)
}

func (d *deps) storeAt(ctx context.Context, addr store.Address) (store.Store, error) {
	if addr.Bucket == "" {
		return store.NewDir(addr.Dir), nil
	}
	return s3store.New(ctx, d.bucketOptions(addr))
}

// bucketOptions are those of a bucket, for escrowctl's own credentials.
func (d *deps) bucketOptions(addr store.Address) s3store.Options {
	c, keys := d.cfg.S3, d.cfg.Credentials
	return s3store.Options{
		AccessKeyID: keys.AccessKeyID, SecretAccessKey: keys.SecretAccessKey.Reveal(), SessionToken: keys.SessionToken.Reveal(),
		Bucket: addr.Bucket, Prefix: addr.Prefix, Region: c.Region, Endpoint: c.Endpoint, PathStyle: c.PathStyle == config.On, HostStyle: c.PathStyle == config.Off,
		StorageClass: c.StorageClass, NoChecksum: c.Checksum == "none", PartSize: int64(c.PartSize), Concurrency: c.Concurrency,
	}
}

// identities reads the age identity file; none if no file is named.
func (d *deps) identities(file string) ([]age.Identity, error) {
	if file == "" {
		file = d.cfg.Backup.IdentityFile
	}
	if file == "" {
		return nil, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, &misuse{fmt.Sprintf("identity file: %v", err)}
	}
	defer func() { _ = f.Close() }()
	// That of the configuration is told with it.
	if info, err := f.Stat(); err == nil && info.Mode().Perm()&0o004 != 0 && file != d.cfg.Backup.IdentityFile {
		d.app.io.Warn("%s can be read by every user of this host (mode %04o): chmod 600 it", ui.Clean(file), info.Mode().Perm())
	}
	ids, err := age.ParseIdentities(f)
	if err != nil {
		return nil, &misuse{fmt.Sprintf("identity file %s: it holds no age identity", file)}
	}
	return ids, nil
}

// service returns the compose project's database service.
func (d *deps) service(ctx context.Context) (*compose.Service, error) {
	p, err := d.composeProject(ctx)
	if err != nil {
		return nil, err
	}
	return p.Service(d.cfg.Dump.Service), nil
}

// composeProject returns the compose project. Several may ask at once.
func (d *deps) composeProject(ctx context.Context) (*compose.Project, error) {
	return d.project.get(ctx, d.composeOptions())
}

func (d *deps) composeOptions() compose.Options {
	c := d.cfg.Compose
	return compose.Options{Project: c.Project, Dir: c.Dir, Files: c.Files, DockerHost: c.DockerHost}
}

// serviceNamed returns a service of the compose project that has a container,
// running or not.
func (d *deps) serviceNamed(ctx context.Context, name string) (*compose.Service, error) {
	p, err := d.composeProject(ctx)
	if err != nil {
		return nil, err
	}
	svc := p.Service(name)
	if _, err := svc.Container(ctx); err != nil {
		return nil, err
	}
	return svc, nil
}

// connectLimit bounds the first try of a connection.
const connectLimit = 15 * time.Second

// reachable returns the target as it can be reached: as it stands, or through
// the container of the compose project.
func (d *deps) reachable(ctx context.Context, t *postgres.Target) (*postgres.Target, error) {
	via := d.cfg.Dump.Via
	if via != config.ViaContainer {
		err := try(ctx, t)
		var pg *pgconn.PgError
		// The server answered: another way in would meet the same answer.
		if err == nil || via == config.ViaHost || errors.As(err, &pg) && pg.Code != "" && pg.Code != "3D000" {
			return t, ignoreMissing(err)
		}
		if errors.As(err, &pg) && pg.Code == "3D000" {
			return t, nil
		}
		svc, serr := d.service(ctx)
		if serr != nil {
			return nil, fmt.Errorf("%w; and not through a container either: %w", err, serr)
		}
		return t.WithDial(svc.Dial), nil
	}
	svc, err := d.service(ctx)
	if err != nil {
		return nil, err
	}
	return t.WithDial(svc.Dial), nil
}

// ignoreMissing lets a database be missing: restore makes it.
func ignoreMissing(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "3D000" {
		return nil
	}
	return err
}

func try(ctx context.Context, t *postgres.Target) error {
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	conn, err := postgres.Connect(ctx, t, "escrowctl")
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}
