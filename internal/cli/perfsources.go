package cli

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shirou/gopsutil/v4/disk"
	"github.com/stellarescrow/escrowctl/internal/cache"
	"github.com/stellarescrow/escrowctl/internal/compose"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/perf"
	"github.com/stellarescrow/escrowctl/internal/secret"
)

// perfSourceNames are the sources that can be chosen.
func perfSourceNames() []string {
	return []string{perf.SourceDatabase, perf.SourceStatements, perf.SourceAPI, perf.SourceContainers, perf.SourceRedis, perf.SourceDisk}
}

// perfSources reads the sources, each by the adapter that it needs. They run at
// once, so that what they share is looked up under a lock.
type perfSources struct {
	deps      *deps
	skip      []string
	redisKeys bool

	mu sync.Mutex
}

// wants says whether a source was asked for.
func (p *perfSources) wants(name string) bool {
	chosen := p.deps.cfg.Perf.Sources
	return !slices.Contains(p.skip, name) && (len(chosen) == 0 || slices.Contains(chosen, name))
}

func (p *perfSources) collectors() []perf.Collector {
	var out []perf.Collector
	for _, c := range []perf.Collector{
		{Name: perf.SourceDatabase, Limit: 2 * time.Minute, Run: p.database},
		{Name: perf.SourceAPI, Limit: time.Minute, Run: p.api},
		{Name: perf.SourceContainers, Limit: 30 * time.Second, Run: p.containers},
		{Name: perf.SourceRedis, Limit: time.Minute, Run: p.redis},
		{Name: perf.SourceDisk, Limit: 10 * time.Second, Run: p.disks},
	} {
		if p.wants(c.Name) {
			out = append(out, c)
			continue
		}
		out = append(out, perf.Collector{Name: c.Name, Run: func(context.Context, *perf.Snapshot) []perf.Source {
			return []perf.Source{{Name: c.Name, State: perf.Skipped}}
		}})
	}
	return out
}

// compose returns the compose project.
func (p *perfSources) compose(ctx context.Context) (*compose.Project, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.deps.composeProject(ctx)
}

func (p *perfSources) failed(name string, err error) []perf.Source {
	return []perf.Source{{Name: name, State: perf.Failed, Reason: p.deps.scrubber.Scrub(err.Error())}}
}

// containerMemory is the memory limit of a service's container, or else the
// memory of its machine; 0 if neither can be learnt.
func (p *perfSources) containerMemory(ctx context.Context, service string) int64 {
	project, err := p.compose(ctx)
	if err != nil {
		return 0
	}
	limit, err := project.MemoryLimit(ctx, service)
	if err != nil {
		return 0
	}
	if host, _, err := project.Host(ctx); err == nil && (limit == 0 || host < limit) {
		return host
	}
	return limit
}

func (p *perfSources) api(ctx context.Context, snap *perf.Snapshot) []perf.Source {
	cfg := p.deps.cfg
	base := cfg.Report.APIBaseURL
	urls := cfg.Perf.URLs
	if len(urls) == 0 && base != "" {
		urls = []string{strings.TrimRight(base, "/") + "/health"}
	}
	if base == "" && len(urls) == 0 {
		return []perf.Source{{Name: perf.SourceAPI, State: perf.Skipped}}
	}
	client := &http.Client{
		Timeout:       5 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the answer itself is measured
	}
	defer client.CloseIdleConnections()
	source := perf.Source{Name: perf.SourceAPI, State: perf.Read}
	// All at once: the time that one takes which hangs is not the others'.
	snap.Endpoints = make([]perf.Endpoint, len(urls))
	var wg sync.WaitGroup
	for i, u := range urls {
		wg.Go(func() {
			e := perf.Measure(ctx, client, u, cfg.Perf.Requests, time.Now)
			e.URL = secret.RedactURL(e.URL)
			e.Problem = p.deps.scrubber.Scrub(e.Problem)
			snap.Endpoints[i] = e
		})
	}
	if base != "" {
		m, err := perf.APIMetrics(ctx, client, base)
		if err != nil {
			source.State, source.Reason = perf.Partial, p.deps.scrubber.Scrub(err.Error())
			source.Remedy = "see that the service is up, and correct report.api_base_url (API_BASE_URL)"
		}
		snap.API = m
	}
	wg.Wait()
	return []perf.Source{source}
}

func (p *perfSources) containers(ctx context.Context, snap *perf.Snapshot) []perf.Source {
	project, err := p.compose(ctx)
	if err != nil {
		return p.failed(perf.SourceContainers, err)
	}
	usage, err := project.Usage(ctx)
	if err != nil {
		return p.failed(perf.SourceContainers, err)
	}
	for _, u := range usage {
		snap.Containers = append(snap.Containers, perf.Container{
			Name: u.Container.Name, Service: u.Container.Service, ID: u.Container.ID, State: u.Container.State,
			CPUShare: u.CPU, MemoryBytes: u.Memory, LimitBytes: u.MemoryLimit, CPULimit: u.CPULimit,
			Periods: int64(u.Periods), Throttled: int64(u.Throttled), ThrottledSec: u.ThrottledTime.Seconds(), //nolint:gosec // counts of one container's life
			OOMKilled: u.OOMKilled, LimitHits: int64(u.LimitHits), Restarts: u.Restarts, StartedAt: u.StartedAt, PIDs: int64(u.PIDs), //nolint:gosec // the same
		})
	}
	return []perf.Source{{Name: perf.SourceContainers, State: perf.Read}}
}

// redis asks Redis at its address, or else through its container.
func (p *perfSources) redis(ctx context.Context, snap *perf.Snapshot) []perf.Source {
	cfg := p.deps.cfg.Redis
	if cfg.URL.IsZero() {
		return []perf.Source{{Name: perf.SourceRedis, State: perf.Skipped}}
	}
	opt := cache.Options{URL: cfg.URL.Reveal()}
	text, err := "", error(nil)
	if cfg.Via != config.ViaContainer {
		text, err = cache.Info(ctx, opt)
	}
	if cfg.Via == config.ViaContainer || err != nil && cfg.Via == config.ViaAuto && !refusedByRedis(err) {
		project, perr := p.compose(ctx)
		if perr != nil {
			if err != nil {
				perr = fmt.Errorf("%w; and not through a container either: %w", err, perr)
			}
			return p.failed(perf.SourceRedis, perr)
		}
		opt.Dial = project.Service(cfg.Service).Dial
		text, err = cache.Info(ctx, opt)
	}
	if err != nil {
		return p.failed(perf.SourceRedis, err)
	}
	r, err := perf.ParseRedisInfo(text)
	if err != nil {
		return p.failed(perf.SourceRedis, err)
	}
	r.Address = secret.RedactURL(opt.URL)
	snap.Redis = r
	source := perf.Source{Name: perf.SourceRedis, State: perf.Read}
	if err := p.redisMore(ctx, opt, r); err != nil {
		source.State, source.Reason = perf.Partial, p.deps.scrubber.Scrub(err.Error())
	}
	return []perf.Source{source}
}

func refusedByRedis(err error) bool {
	_, ok := err.(cache.Error) //nolint:errorlint // Info returns it bare
	return ok
}

// The slow log shown, the keys shown, and the keys looked at.
const (
	slowLogShown = 10
	keysShown    = 10
	keysScanned  = 1_000_000
)

func (p *perfSources) redisMore(ctx context.Context, opt cache.Options, r *perf.Redis) error {
	slow, err := cache.SlowLog(ctx, opt, slowLogShown)
	if err != nil {
		return err
	}
	for _, s := range slow {
		r.Slow = append(r.Slow, perf.SlowCall{At: s.At, Seconds: s.Took.Seconds(), Command: s.Command})
	}
	if !p.redisKeys {
		return nil
	}
	keys, scanned, err := cache.Biggest(ctx, opt, keysShown, keysScanned)
	r.Scanned = scanned
	for _, k := range keys {
		r.Biggest = append(r.Biggest, perf.Key{Name: k.Name, Type: k.Type, Bytes: k.Bytes})
	}
	return err
}

// disks looks at the filesystems that the platform fills. Several directories
// on one filesystem are one line.
func (p *perfSources) disks(ctx context.Context, snap *perf.Snapshot) []perf.Source {
	cfg := p.deps.cfg
	type place struct {
		path, what string
		must       bool
	}
	places := []place{{"/", "system", true}, {cfg.Backup.Dir, "backups", false}, {p.deps.state.Dir(), "state", false}}
	if project, err := p.compose(ctx); err == nil {
		if _, root, err := project.Host(ctx); err == nil && localEngine(cfg.Compose.DockerHost) {
			places = append(places, place{root, "Docker", false})
		}
	}
	for _, path := range cfg.Perf.Disks {
		places = append(places, place{path, "perf.disks", true})
	}
	source := perf.Source{Name: perf.SourceDisk, State: perf.Read}
	seen := map[[3]uint64]int{}
	for _, at := range places {
		u, err := disk.UsageWithContext(ctx, at.path)
		if err != nil {
			if at.must {
				source.State, source.Reason = perf.Partial, fmt.Sprintf("%s: %v", at.path, err)
			}
			continue // a directory that is made later
		}
		key := [3]uint64{u.Total, u.InodesTotal, u.InodesFree}
		if i, ok := seen[key]; ok {
			snap.Disks[i].For += ", " + at.what
			continue
		}
		seen[key] = len(snap.Disks)
		snap.Disks = append(snap.Disks, perf.Disk{
			Path: at.path, For: at.what, TotalBytes: u.Total, FreeBytes: u.Free, Used: u.UsedPercent / 100,
			InodesTotal: u.InodesTotal, InodesUsed: u.InodesUsedPercent / 100,
		})
	}
	return []perf.Source{source}
}

// localEngine says whether the Docker Engine's files are on this machine.
func localEngine(host string) bool {
	u, err := url.Parse(host)
	if host == "" || err != nil || u.Scheme == "unix" {
		return true
	}
	return u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
}
