package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/backup"
	"github.com/stellarescrow/escrowctl/internal/certs"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/compose"
	"github.com/stellarescrow/escrowctl/internal/health"
	"github.com/stellarescrow/escrowctl/internal/hostdisk"
	"github.com/stellarescrow/escrowctl/internal/httpx"
	"github.com/stellarescrow/escrowctl/internal/keys"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/schedule"
	"github.com/stellarescrow/escrowctl/internal/state"
	"github.com/stellarescrow/escrowctl/internal/store"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// jobRuns are the recorded runs of a job, for checks.
func (d *deps) jobRuns(job string) health.Runs {
	return func(limit int) ([]health.JobRun, error) {
		records, err := d.state.Runs(job, limit)
		if err != nil {
			return nil, err
		}
		runs := make([]health.JobRun, 0, len(records))
		for _, r := range records {
			runs = append(runs, health.JobRun{Start: r.StartedAt, End: r.EndedAt, Outcome: string(r.Outcome), Error: r.Error, Figures: r.Figures})
		}
		return runs, nil
	}
}

func (d *deps) backupProbe() check.Probe {
	opt := health.BackupOptions{
		Runs: d.jobRuns(backupJob), ShrinkRatio: d.cfg.Backup.ShrinkWarnRatio, MaxAge: d.cfg.ShiftCheck.BackupMaxAge, VerifyAge: d.cfg.ShiftCheck.VerifyMaxAge, Limit: d.cfg.ShiftCheck.Timeout, Now: d.app.io.Now,
		Verified: d.lastVerified, Log: backupLog,
	}
	if h, err := d.held(); err == nil && len(h.Losses) == 0 {
		opt.Accepted = h.Since // backup ack leaves this
	}
	if d.cfg.S3.Bucket != "" {
		opt.Places = append(opt.Places, health.BackupPlace{Name: "the bucket", Remedy: "escrowctl backup upload", List: func(ctx context.Context) ([]health.BackupCopy, error) {
			st, err := d.remote(ctx)
			if err != nil {
				return nil, err
			}
			return d.newestCopies(ctx, st)
		}})
	}
	opt.Places = append(opt.Places, health.BackupPlace{Name: "the directory", Remedy: "escrowctl backup", List: func(ctx context.Context) ([]health.BackupCopy, error) {
		return d.newestCopies(ctx, d.local())
	}})
	return health.Backup(opt)
}

// lastVerified is when a backup was last read to its last byte.
func (d *deps) lastVerified() (last time.Time, err error) {
	all, err := d.verifications()
	for _, v := range all {
		if v.At.After(last) {
			last = v.At
		}
	}
	return last, err
}

// copiesLookedAt bounds how many backups a check looks at in each place: the
// manifest of each is a request.
const copiesLookedAt = 24

func (d *deps) newestCopies(ctx context.Context, r store.Reader) ([]health.BackupCopy, error) {
	copies, err := backup.Copies(ctx, newestReader{r, d.naming()}, d.naming())
	if err != nil {
		return nil, err
	}
	verified, _ := d.verifications() // lastVerified tells what is wrong with them
	verified.Mark(r.Location(), copies)
	out := make([]health.BackupCopy, 0, len(copies))
	for _, c := range copies {
		b := health.BackupCopy{Name: c.Name, Time: c.Time, Size: c.Size, Good: c.Good(), Plain: c.Kind == backup.Plain, Problem: c.Problem}
		if c.Kind == backup.Unfinished {
			b.Problem = "unfinished: it has no manifest"
		}
		if c.Failed() {
			b.FailedAt = c.Verified.At
		}
		out = append(out, b)
	}
	return out, nil
}

// newestReader shows the newest backups of a store only.
type newestReader struct {
	store.Reader
	naming backup.Naming
}

// List lists the newest dumps and their manifests.
func (r newestReader) List(ctx context.Context) ([]store.Object, error) {
	all, err := r.Reader.List(ctx)
	if err != nil {
		return nil, err
	}
	var times []time.Time
	for _, o := range all {
		if f, ok := r.naming.Parse(o.Name); ok {
			times = append(times, f.Time)
		}
	}
	if len(times) <= copiesLookedAt {
		return all, nil
	}
	slices.SortFunc(times, time.Time.Compare)
	oldest := times[len(times)-copiesLookedAt]
	return slices.DeleteFunc(slices.Clone(all), func(o store.Object) bool {
		f, ok := r.naming.Parse(strings.TrimSuffix(o.Name, backup.ManifestName("")))
		return !ok || f.Time.Before(oldest)
	}), nil
}

const (
	logLines   = 5
	logTailMax = 8 << 10 // bytes
)

// backupLog reads the end of the runbook's log of the backup.
func backupLog() (health.LogTail, error) {
	path := ""
	for _, t := range runbook.Schedule() {
		if t.Name == backupJob {
			path = t.Log
		}
	}
	return readTail(path)
}

// readTail reads the last lines of a log; none if there is no such file.
func readTail(path string) (health.LogTail, error) {
	t := health.LogTail{Path: path}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return t, fmt.Errorf("there is no %s", path)
	}
	if err != nil {
		return t, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return t, err
	}
	if !info.Mode().IsRegular() {
		return t, fmt.Errorf("%s is no regular file", path)
	}
	t.Changed = info.ModTime()
	from := max(0, info.Size()-logTailMax)
	body, err := io.ReadAll(io.NewSectionReader(f, from, logTailMax))
	if err != nil {
		return t, err
	}
	if from > 0 { // the first line is not whole
		_, body, _ = bytes.Cut(body, []byte{'\n'})
	}
	for line := range bytes.Lines(body) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			t.Lines = append(t.Lines, strings.ToValidUTF8(string(line), "?"))
		}
	}
	t.Lines = t.Lines[max(0, len(t.Lines)-logLines):]
	return t, nil
}

func (d *deps) drTestProbe() check.Probe {
	return health.DRTest(health.DRTestOptions{Runs: d.jobRuns("dr-test"), MaxAge: d.cfg.ShiftCheck.DRTestMaxAge, Limit: d.cfg.ShiftCheck.Timeout, Now: d.app.io.Now})
}

func (d *deps) scheduleProbe() check.Probe {
	daemon := ""
	return health.Schedule(health.ScheduleOptions{
		Inspect: func(ctx context.Context) (schedule.Inspection, error) {
			daemon, _ = d.app.cron.Daemon()
			v, err := d.inspectCron(ctx)
			if err != nil {
				return schedule.Inspection{}, err
			}
			daemon = v.daemon
			return v.Inspection, v.unread
		},
		Daemon: func() (string, bool) { return daemon, daemon != "" }, // asked after Inspect
		Runs:   func(j schedule.Job) ([]schedule.Run, error) { return d.scheduledRuns(j, 50) },
		Installed: func(job string) time.Time {
			var doc cronInstalled
			if _, err := d.state.Load(cronDoc, &doc); err != nil || doc.Jobs[job].IsZero() {
				return d.app.cron.TimerEnabled(job) // zero: what is due counts from the beginning
			}
			return doc.Jobs[job]
		},
		Limit: d.cfg.ShiftCheck.Timeout, Now: d.app.io.Now,
	})
}

func (d *deps) secretsProbe() check.Probe {
	return health.Secrets(health.SecretsOptions{
		Due: func() ([]health.Rotation, error) {
			last, err := keys.Last(d.state)
			if err != nil {
				return nil, err
			}
			var out []health.Rotation
			for _, due := range keys.Due(d.app.io.Now(), last) {
				out = append(out, health.Rotation(due))
			}
			return out, nil
		},
		Rotate: func(name string) string {
			return firstCommand("rotate-keys start "+name, "rotate-keys "+name, "runbook secrets")
		},
		Record: func(name string) string { return firstCommand("rotate-keys record "+name, "runbook secrets") },
		Limit:  d.cfg.ShiftCheck.Timeout, Now: d.app.io.Now,
	})
}

// firstCommand returns the first of the command lines that this program takes.
func firstCommand(lines ...string) string {
	for _, line := range lines {
		if command, err := commandOf(strings.Fields(line)); err == nil && command != "" {
			return schedule.Program + " " + line
		}
	}
	return ""
}

func (d *deps) diskProbe() check.Probe {
	opt := health.DiskOptions{
		Mounts: hostdisk.Mounts,
		Usage: func(path string) (health.Usage, error) {
			u, err := hostdisk.Read(path)
			return health.Usage(u), err
		},
		Memory: d.state, FullWithin: d.cfg.ShiftCheck.FullWithin, Limits: d.cfg.Threshold, Limit: d.cfg.ShiftCheck.Timeout, Now: d.app.io.Now,
	}
	engine := func() (*compose.Disks, bool) { // of this host
		e, err := compose.OpenDisks(d.cfg.Compose.DockerHost)
		return e, err == nil && e.Local()
	}
	if _, local := engine(); local {
		opt.Volumes = func(ctx context.Context) ([]health.VolumeSize, error) {
			e, _ := engine()
			defer func() { _ = e.Close() }()
			volumes, err := e.Volumes(ctx)
			out := make([]health.VolumeSize, 0, len(volumes))
			for _, v := range volumes {
				out = append(out, health.VolumeSize(v))
			}
			return out, err
		}
	}
	opt.Roles = []health.DiskRole{{Name: "backups", Find: func(context.Context) (string, error) {
		if _, err := os.Stat(d.cfg.Backup.Dir); err != nil {
			return "", nil //nolint:nilerr // which is for the check of backups
		}
		return d.cfg.Backup.Dir, nil
	}}, {Name: health.DockersData, Find: func(ctx context.Context) (string, error) {
		e, local := engine()
		if !local {
			return "", nil
		}
		defer func() { _ = e.Close() }()
		root, err := e.DataRoot(ctx)
		if err != nil {
			return "", err
		}
		if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
			return "", nil // the engine of another machine, through a socket
		}
		return root, nil
	}}}
	return health.Disk(opt)
}

func (d *deps) clockProbe() check.Probe {
	opt := health.ClockOptions{Limits: d.cfg.Threshold, Limit: d.cfg.ShiftCheck.Timeout, Now: d.app.io.Now}
	for _, s := range []struct{ name, url string }{{"Horizon", d.cfg.Horizon.URL}, {"the bucket's server", d.bucketURL()}, {"the indexer", d.cfg.Report.APIBaseURL}} {
		if s.url != "" {
			opt.Sources = append(opt.Sources, health.ClockSource{Name: s.name, Outside: outside(s.url), Read: health.HTTPClock(httpx.New(), s.url)})
		}
	}
	if !d.cfg.Database.URL.IsZero() {
		opt.Sources = append(opt.Sources, health.ClockSource{Name: "the database", Read: func(ctx context.Context) (time.Time, time.Duration, error) {
			s, err := d.databaseSession(ctx)
			if err != nil {
				return time.Time{}, 0, err
			}
			defer func() { _ = s.Close(context.WithoutCancel(ctx)) }()
			var at time.Time
			err = s.Row(ctx, "select clock_timestamp()", &at)
			return at, 0, err
		}})
	}
	return health.Clock(opt)
}

// bucketURL is the address of the bucket's server; "" if there is none.
func (d *deps) bucketURL() string {
	addr, err := store.Parse(d.cfg.S3.Bucket)
	switch {
	case err != nil || addr.Bucket == "":
		return ""
	case d.cfg.S3.Endpoint != "":
		return d.cfg.S3.Endpoint
	}
	return (&url.URL{Scheme: "https", Host: "s3." + cmp.Or(d.cfg.S3.Region, "us-east-1") + ".amazonaws.com"}).String()
}

// outside says whether an address is another machine's, as far as it tells.
func outside(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback())
}

func (d *deps) certsProbe() check.Probe {
	opt := health.CertsOptions{Limit: d.cfg.ShiftCheck.Timeout}
	if d.cfg.Certs.Domain == "" {
		return health.Certs(opt)
	}
	for i, host := range append([]string{d.cfg.Certs.Domain}, d.cfg.Certs.Hosts...) {
		opt.Hosts = append(opt.Hosts, health.CertHost{Name: host, Check: func(ctx context.Context) check.Result {
			return d.certResult(ctx, host, i == 0)
		}})
	}
	return health.Certs(opt)
}

// certResult looks at what a host serves and, of the domain, at what certbot has
// on the disk: renewed but not reloaded is seen by both only. What the CA says is
// for 'certs check', which has more time.
func (d *deps) certResult(ctx context.Context, word string, own bool) check.Result {
	c := d.cfg.Certs
	fault := func(err error) check.Result {
		return check.Result{Status: check.Unknown, Summary: err.Error(), Action: "escrowctl config check"}
	}
	o := certs.Options{Now: d.app.io.Now, Over: certs.Overrides{WarnDays: c.WarnDays, CriticalDays: c.CriticalDays}, Docs: unsaved{d.state}}
	var err error
	if o.Host, o.Port, err = hostPort(word); err != nil {
		return fault(err)
	}
	if o.Roots, err = roots(c.CA); err != nil {
		return fault(err)
	}
	if own {
		if o.Addresses, err = withPort(c.Address, o.Port); err != nil {
			return fault(err)
		}
		o.Files = glance{d, d.cfg.ShiftCheck.Timeout / 3}
	}
	rep := certs.Check(ctx, o)
	res := rep.Result()
	if res.Status == check.OK { // in a line of 80 columns
		res.Summary = fmt.Sprintf("%s: %s, ends %s (%s)", word, rep.Verdict.Words(), rep.Expiry.UTC().Format(time.DateOnly), ui.Plural(rep.DaysLeft(), "day", "days"))
	}
	return res
}

// glance reads certbot's files within a part of the check's time, so that an
// engine that hangs costs a note and not the verdict on what is served.
type glance struct {
	deps  *deps
	limit time.Duration
}

func (g glance) Read(ctx context.Context) ([]certs.File, error) {
	ctx, cancel := context.WithTimeout(ctx, g.limit)
	defer cancel()
	files, why, _ := g.deps.certFiles(ctx)
	if files == nil {
		return nil, errors.New(why)
	}
	return files.Read(ctx)
}

// unsaved reads documents and writes none: a glance leaves the history of
// 'certs check' alone.
type unsaved struct{ *state.Store }

func (unsaved) Save(string, any) error { return nil }
