package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// Usage is how full a filesystem is.
type Usage struct {
	// Device tells filesystems apart; two paths with the same are one.
	Device string
	// Used and Free are in bytes; Free is what ordinary users may still take.
	Used, Free uint64
	// Inodes and InodesUsed are 0 where the filesystem has no fixed number.
	Inodes, InodesUsed uint64
}

// ratio is how full it is, as df reckons: of what ordinary users can have.
func (u Usage) ratio() float64 {
	if u.Used+u.Free == 0 {
		return math.NaN()
	}
	return float64(u.Used) / float64(u.Used+u.Free)
}

func (u Usage) inodeRatio() float64 {
	if u.Inodes == 0 {
		return 0
	}
	return float64(u.InodesUsed) / float64(u.Inodes)
}

// DiskRole is a path that matters, whose filesystem is looked at.
type DiskRole struct {
	Name string // as DockersData
	// Find returns the path; "" if there is none on this host.
	Find func(ctx context.Context) (string, error)
}

// VolumeSize is a Docker volume's.
type VolumeSize struct {
	Name string `json:"name"`
	Size int64  `json:"size_bytes"`
}

// DiskOptions say where to look.
type DiskOptions struct {
	// Mounts returns where the real filesystems are mounted.
	Mounts func(ctx context.Context) ([]string, error)
	// Roles are further paths that matter, some perhaps in no mount of their
	// own. Each is looked for on its own.
	Roles []DiskRole
	// Usage may hang, on a dead network filesystem.
	Usage func(path string) (Usage, error)
	// Volumes are Docker's; nil if there is no Docker. It may take minutes.
	Volumes      func(ctx context.Context) ([]VolumeSize, error)
	VolumesLimit time.Duration // 0: 600 ms
	// FullWithin is from when a filesystem that fills up is a warning, whatever
	// its level; 0: a day.
	FullWithin time.Duration
	Memory     Memory

	Limits Limits
	Limit  time.Duration
	Now    func() time.Time
}

// DiskID is the check's ID.
const DiskID = "disk"

const (
	diskDoc    = "shift-check-disk"    // in Memory: the figures of earlier checks
	volumesDoc = "shift-check-volumes" // in Memory: the last sizes of volumes

	usualVolumesLimit = 600 * time.Millisecond
	largestVolumes    = 3
	// volumesFor is how long sizes of volumes serve before Docker is asked again.
	volumesFor = 10 * time.Minute

	// samplesKept bounds the figures kept of a filesystem, and sampleEvery is
	// the least time between two.
	samplesKept = 300
	sampleEvery = 10 * time.Minute
	// trendOver is how far back a trend looks, and trendLeast how much of that
	// there must be: less is a night's dump and its removal.
	trendOver  = 7 * runbook.Day
	trendLeast = 6 * time.Hour
	fullWithin = runbook.Day // usually
)

// Disk checks the space and inodes of every real filesystem, Docker's data root
// and the backup directory among them, and how long until each is full.
func Disk(opt DiskOptions) check.Probe {
	opt.FullWithin = cmp.Or(opt.FullWithin, fullWithin)
	return check.Probe{ID: DiskID, Limit: orLimit(opt.Limit), Run: (&diskCheck{DiskOptions: opt}).run}
}

type diskCheck struct{ DiskOptions }

// filesystem is one of them, with all that is known of it.
type filesystem struct {
	path  string
	roles []string
	usage Usage
	err   error
	full  time.Duration // until it is full; 0 is unknown or never
}

func (x *diskCheck) run(ctx context.Context) check.Result {
	ctx, cancel := withMargin(ctx)
	defer cancel()
	volumes := make(chan []string, 1)
	go func() { volumes <- x.volumes(ctx) }()

	r := check.Result{ID: DiskID, Status: check.OK}
	list, problems := x.look(ctx)
	for _, p := range problems {
		r.Status = check.Unknown
		r.Detail = append(r.Detail, p)
	}
	x.trends(list, &r)
	for i := range list {
		r.Parts = append(r.Parts, x.part(&list[i]))
	}
	r.Status = check.Worst(r.Status, check.WorstOf(r.Parts))
	x.summary(&r, list, problems)
	select {
	case lines := <-volumes:
		r.Detail = append(r.Detail, lines...)
	case <-ctx.Done():
		r.Detail = append(r.Detail, "Docker's volumes: no answer")
	}
	return r
}

// look finds the filesystems and their usage, each on its own: one that hangs
// costs itself alone, and so does a Docker that does not tell its data root.
func (x *diskCheck) look(ctx context.Context) (list []filesystem, problems []string) {
	rctx, cancel := context.WithTimeout(ctx, orLimit(x.Limit)/2)
	defer cancel()
	found := make([]func() (string, error), len(x.Roles))
	for i, r := range x.Roles {
		found[i] = r.find(rctx)
	}
	type asked struct {
		role string
		wait func() filesystem
	}
	var all []asked
	mounts, err := x.Mounts(ctx)
	if err != nil {
		problems = append(problems, "the list of filesystems: "+oneLine(err))
	}
	for _, m := range mounts {
		all = append(all, asked{"", x.ask(ctx, m)})
	}
	for i, r := range x.Roles {
		path, err := found[i]()
		switch {
		case err != nil:
			problems = append(problems, "the directory of "+r.Name+": "+oneLine(err))
		case path != "":
			all = append(all, asked{r.Name, x.ask(ctx, path)})
		}
	}
	for _, a := range all {
		list = merge(list, a.wait(), a.role)
	}
	return list, problems
}

// find looks for the path in the background. What it returns waits for it as long
// as there is time.
func (r DiskRole) find(ctx context.Context) func() (string, error) {
	type answer struct {
		path string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		path, err := r.Find(ctx)
		got <- answer{path, err}
	}()
	return func() (string, error) {
		select {
		case a := <-got:
			return a.path, a.err
		case <-ctx.Done():
		}
		select { // what has answered while another hung
		case a := <-got:
			return a.path, a.err
		default:
			return "", ctx.Err()
		}
	}
}

// ask looks at one path in the background. What it returns waits for the answer
// as long as there is time.
func (x *diskCheck) ask(ctx context.Context, path string) func() filesystem {
	answer := make(chan filesystem, 1)
	go func() {
		u, err := x.Usage(path)
		answer <- filesystem{path: path, usage: u, err: err}
	}()
	return func() filesystem {
		select {
		case fs := <-answer:
			return fs
		case <-ctx.Done():
		}
		select { // what has answered while another hung
		case fs := <-answer:
			return fs
		default:
			return filesystem{path: path, err: errors.New("no answer: does a network filesystem hang?")}
		}
	}
}

// merge adds a filesystem, or the role of a path to the one it lies on.
func merge(list []filesystem, fs filesystem, role string) []filesystem {
	at := -1
	if fs.err == nil {
		at = slices.IndexFunc(list, func(f filesystem) bool { return f.err == nil && f.usage.Device == fs.usage.Device })
	}
	if at < 0 {
		list = append(list, fs)
		at = len(list) - 1
	}
	if role != "" {
		list[at].roles = append(list[at].roles, role)
	}
	return list
}

// part judges one filesystem.
func (x *diskCheck) part(fs *filesystem) check.Result {
	f := findings{limits: x.Limits}
	name := fs.path
	if len(fs.roles) > 0 {
		name += " (" + strings.Join(fs.roles, ", ") + ")"
	}
	if fs.err != nil {
		f.unknown("ls "+fs.path, "%s: %s", name, oneLine(fs.err))
		return f.result(fs.path)
	}
	u := fs.usage
	dig := "du -xh --max-depth=2 " + fs.path + " | sort -h | tail -20"
	if slices.Contains(fs.roles, DockersData) {
		dig = "docker system df"
	}
	used := fmt.Sprintf("%s %s full, %s free%s", name, percent(u.ratio()), bytesText(float64(u.Free)), fullText(fs.full))
	if !f.judge("used", runbook.DiskUsage, u.ratio(), finding{text: used, alert: runbook.DiskUsageAlert, action: dig}) {
		f.fact("%s", used)
	}
	if u.Inodes > 0 {
		text := fmt.Sprintf("%s has %s of its inodes used", name, percent(u.inodeRatio()))
		f.judge("inodes_used", runbook.DiskUsage, u.inodeRatio(), finding{text: text, alert: runbook.DiskUsageAlert,
			action: "du --inodes -x --max-depth=2 " + fs.path + " | sort -n | tail -20"})
	}
	f.figure("free", "bytes", float64(u.Free))
	if fs.full > 0 {
		f.figure("until_full", "seconds", fs.full.Seconds())
		if fs.full < x.FullWithin {
			f.add(finding{status: check.Warning, text: fmt.Sprintf("%s will be full in %s as it goes", name, span(fs.full)), action: dig})
		}
	}
	return f.result(fs.path)
}

// DockersData is the role of Docker's data root.
const DockersData = "Docker's data"

func fullText(d time.Duration) string {
	if d <= 0 || d > 90*runbook.Day {
		return ""
	}
	return ", full in " + span(d) + " as it goes"
}

// summary says the worst, or how full the fullest is.
func (x *diskCheck) summary(r *check.Result, list []filesystem, problems []string) {
	worst := -1
	for i, p := range r.Parts {
		if worst < 0 || p.Status > r.Parts[worst].Status {
			worst = i
		}
	}
	switch {
	case worst < 0:
		r.Status, r.Summary = check.Unknown, "no filesystem could be looked at"
	case r.Parts[worst].Status == check.OK && len(problems) > 0:
		r.Summary, r.Action = problems[0], "df -h; df -i"
	case r.Parts[worst].Status == check.OK:
		fullest := slices.MaxFunc(list, func(a, b filesystem) int { return cmp.Compare(a.usage.ratio(), b.usage.ratio()) })
		r.Summary = fmt.Sprintf("%d filesystems, the fullest %s at %s", len(list), fullest.path, percent(fullest.usage.ratio()))
		if len(list) == 1 {
			r.Summary = r.Parts[0].Summary
		}
	default:
		p := r.Parts[worst]
		r.Summary, r.Action, r.Alert, r.Since = p.Summary, p.Action, p.Alert, p.Since
	}
}

// sample is how full a filesystem was.
type sample struct {
	At   time.Time `json:"at"`
	Used uint64    `json:"used_bytes"`
}

// diskHistory are the samples of each filesystem by its path.
type diskHistory struct {
	Version int                 `json:"version"`
	Samples map[string][]sample `json:"samples"`
}

// trends reckons from earlier checks when each filesystem will be full, and
// keeps the present figures.
func (x *diskCheck) trends(list []filesystem, r *check.Result) {
	if x.Memory == nil {
		return
	}
	var h diskHistory
	if _, err := x.Memory.Load(diskDoc, &h); err != nil {
		r.Detail = append(r.Detail, "the figures of earlier checks: "+oneLine(err))
		return
	}
	now := x.Now()
	next := diskHistory{Version: 1, Samples: map[string][]sample{}}
	for i := range list {
		fs := &list[i]
		if fs.err != nil {
			next.Samples[fs.path] = h.Samples[fs.path]
			continue
		}
		past := slices.DeleteFunc(slices.Clone(h.Samples[fs.path]), func(s sample) bool {
			return s.At.After(now) || now.Sub(s.At) > trendOver
		})
		present := sample{At: now.UTC(), Used: fs.usage.Used}
		fs.full = untilFull(append(slices.Clone(past), present), fs.usage.Free)
		if len(past) == 0 || now.Sub(past[len(past)-1].At) >= sampleEvery {
			past = append(past, present)
		}
		next.Samples[fs.path] = thin(past)
	}
	// Without a state directory there is no trend, and nothing worse.
	_ = x.Memory.Save(diskDoc, next)
}

// thin drops every other sample of the older half once there are too many.
func thin(s []sample) []sample {
	if len(s) <= samplesKept {
		return s
	}
	var out []sample
	for i, one := range s {
		if i >= len(s)/2 || i%2 == 0 {
			out = append(out, one)
		}
	}
	return out
}

// untilFull draws a line through the samples (least squares) and returns when it
// reaches the end of the free space; 0 if there are too few, or it does not grow.
func untilFull(s []sample, free uint64) time.Duration {
	if len(s) < 3 || s[len(s)-1].At.Sub(s[0].At) < trendLeast {
		return 0
	}
	var n, sx, sy, sxx, sxy float64
	for _, one := range s {
		t, y := one.At.Sub(s[0].At).Seconds(), float64(one.Used)
		n, sx, sy, sxx, sxy = n+1, sx+t, sy+y, sxx+t*t, sxy+t*y
	}
	slope := (n*sxy - sx*sy) / (n*sxx - sx*sx) // bytes a second
	if !(slope > 0) {
		return 0
	}
	return max(1, seconds(float64(free)/slope))
}

// keptVolumes are the sizes that were found last.
type keptVolumes struct {
	At      time.Time    `json:"at,omitzero"`
	Volumes []VolumeSize `json:"volumes"`
	// TriedAt is when Docker was asked last, in vain or not, and Why what became
	// of it.
	TriedAt time.Time `json:"tried_at"`
	Why     string    `json:"why,omitempty"`
}

// text says what is known, and how old it is.
func (k *keptVolumes) text(now time.Time) string {
	why := k.Why
	if why != "" && now.After(k.TriedAt) {
		why += ", asked " + span(now.Sub(k.TriedAt)) + " ago"
	}
	switch {
	case k.At.IsZero():
		return "Docker's volumes: sizes not known (" + why + "): docker system df -v"
	case why != "":
		return fmt.Sprintf("Docker's volumes, as of %s ago (now: %s): %s", span(now.Sub(k.At)), why, volumesText(k.Volumes))
	case now.Equal(k.At):
		return "Docker's volumes: " + volumesText(k.Volumes)
	}
	return fmt.Sprintf("Docker's volumes, as of %s ago: %s", span(now.Sub(k.At)), volumesText(k.Volumes))
}

// volumes names the largest of Docker's volumes. Docker walks through all files
// for that, which can take minutes: within the limit, or as found before, and
// not asked again right away.
func (x *diskCheck) volumes(ctx context.Context) []string {
	if x.Volumes == nil {
		return nil
	}
	var kept keptVolumes
	if x.Memory != nil {
		if _, err := x.Memory.Load(volumesDoc, &kept); err != nil {
			kept = keptVolumes{} // a cache: it is written anew
		}
	}
	now := x.Now().UTC()
	if age := now.Sub(kept.TriedAt); kept.TriedAt.IsZero() || age < 0 || age >= volumesFor {
		got, why := x.askVolumes(ctx)
		kept.TriedAt, kept.Why = now, why
		if why == "" {
			kept.At, kept.Volumes = now, largest(got)
		}
		if x.Memory != nil {
			_ = x.Memory.Save(volumesDoc, kept) // a cache
		}
	}
	return []string{kept.text(now)}
}

// askVolumes asks Docker, and says why there is no answer.
func (x *diskCheck) askVolumes(ctx context.Context) (volumes []VolumeSize, why string) {
	limit := cmp.Or(x.VolumesLimit, usualVolumesLimit)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	type sizes struct {
		volumes []VolumeSize
		err     error
	}
	answer := make(chan sizes, 1)
	go func() {
		v, err := x.Volumes(ctx)
		answer <- sizes{v, err}
	}()
	select {
	case got := <-answer:
		if got.err == nil {
			return got.volumes, ""
		}
		if ctx.Err() == nil {
			return nil, oneLine(got.err)
		}
	case <-ctx.Done():
	}
	return nil, "not within " + span(limit)
}

func largest(v []VolumeSize) []VolumeSize {
	v = slices.Clone(v)
	slices.SortFunc(v, func(a, b VolumeSize) int { return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Name, b.Name)) })
	return v[:min(len(v), largestVolumes)]
}

func volumesText(v []VolumeSize) string {
	if len(v) == 0 {
		return "none"
	}
	var words []string
	for _, one := range largest(v) {
		words = append(words, clean(one.Name)+" "+bytesText(float64(one.Size)))
	}
	return strings.Join(words, ", ")
}
