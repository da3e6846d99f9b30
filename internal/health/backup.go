package health

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// JobRun is the record of a run.
type JobRun struct {
	Start   time.Time
	End     time.Time // zero if it has none
	Outcome string    // ok, warning, critical, unknown, interrupted, crashed, running
	Error   string
	Figures map[string]any
}

// Good says whether the run did its work.
func (r JobRun) Good() bool { return r.Outcome == "ok" || r.Outcome == "warning" }

// Running says whether it has not ended.
func (r JobRun) Running() bool { return r.Outcome == "running" }

// Runs returns the latest runs of a job, newest first, at most limit.
type Runs func(limit int) ([]JobRun, error)

// BackupCopy is a backup as it lies in one place.
type BackupCopy struct {
	Name string
	Time time.Time // of the name: when it was begun
	Size int64     // bytes
	// Good says that it is complete as far as can be told without reading it;
	// Plain that it is the old script's, of which nothing can be told so.
	Good, Plain bool
	Problem     string // why it is neither
	// FailedAt is when its verification found a fault; zero if none did.
	FailedAt time.Time
}

// BackupPlace is a place where backups are kept.
type BackupPlace struct {
	Name string // as "the bucket"
	// List returns the newest copies, oldest first.
	List func(ctx context.Context) ([]BackupCopy, error)
	// Remedy is the command that brings a missing backup there.
	Remedy string
}

// LogTail is the end of a job's log.
type LogTail struct {
	Path    string
	Changed time.Time
	Lines   []string
}

// BackupOptions say what is known of the backups.
type BackupOptions struct {
	Places []BackupPlace // the weightiest first
	Runs   Runs
	// Verified returns when a backup was last read to its last byte; zero if
	// none ever was.
	Verified func() (time.Time, error)
	// Log reads the end of the log; nil where there is none to read.
	Log func() (LogTail, error)

	MaxAge      time.Duration // 0: the runbook's
	VerifyAge   time.Duration // how long backups may go unread; 0: the runbook's
	ShrinkRatio float64       // of the median, below which a backup is too small
	// Accepted is when somebody accepted that backups have become smaller.
	Accepted time.Time

	Limit time.Duration
	Now   func() time.Time
}

// BackupID is the check's ID.
const BackupID = "backup"

const (
	// sizesCompared is how many sizes the median is taken of; fewer than
	// leastSizes make none.
	sizesCompared = 10
	leastSizes    = 3
	// inTransit is how long a backup may take from one place to the other.
	inTransit = time.Hour
	// aheadBy is how far in the future a backup may be dated: clocks differ.
	aheadBy = 5 * time.Minute
)

// Backup checks that the last run did its work, that a good backup that is young
// and large enough lies in each place, and when one was last read. What a run
// says of itself proves nothing without the object.
func Backup(opt BackupOptions) check.Probe {
	opt.MaxAge, opt.VerifyAge = cmp.Or(opt.MaxAge, runbook.BackupMaxAge), cmp.Or(opt.VerifyAge, runbook.VerifyMaxAge)
	x := backupCheck{opt}
	return check.Probe{ID: BackupID, Limit: orLimit(opt.Limit), Run: x.run}
}

type backupCheck struct{ BackupOptions }

// held is what a place holds.
type held struct {
	BackupPlace
	copies []BackupCopy
	err    error
}

// newest returns the newest copy that can be trusted so far.
func (h held) newest() *BackupCopy {
	for i := len(h.copies) - 1; i >= 0; i-- {
		if c := &h.copies[i]; c.Good || c.Plain {
			return c
		}
	}
	return nil
}

func (h held) has(name string) bool {
	return slices.ContainsFunc(h.copies, func(c BackupCopy) bool { return c.Name == name })
}

func (x *backupCheck) run(ctx context.Context) check.Result {
	ctx, cancel := withMargin(ctx)
	defer cancel()
	var f findings
	places := x.look(ctx)
	runs, err := x.Runs(sizesCompared)
	if err != nil {
		f.unknown("", "the run records: %s", oneLine(err))
	}
	running := len(runs) > 0 && runs[0].Running()
	for i := range places {
		x.place(&f, &places[i], running)
	}
	x.found(&f, places)
	x.together(&f, places)
	x.size(&f, places)
	x.lastRun(&f, runs, places)
	x.verified(&f, places)
	tail, lines := x.tail(ctx)
	if len(runs) == 0 {
		x.oldLog(&f, tail, places)
	}
	r := f.result(BackupID)
	if r.Status != check.OK {
		r.Detail = append(r.Detail, lines...)
	}
	return r
}

// oldLog reads a failure out of the old script's log, which is all it leaves.
// That the log tells of a success proves nothing.
func (x *backupCheck) oldLog(f *findings, t LogTail, places []held) {
	if len(t.Lines) == 0 {
		return
	}
	for _, h := range places {
		if c := h.newest(); c == nil || t.Changed.Before(c.Time) {
			return // written before the newest backup was begun
		}
	}
	last := strings.ToLower(t.Lines[len(t.Lines)-1])
	if strings.Contains(last, "error") || strings.Contains(last, "fail") || strings.Contains(last, "fatal") {
		f.add(finding{status: check.Critical, alert: runbook.BackupFailed, since: t.Changed, text: "the log's last line tells of a failure: " + clean(t.Lines[len(t.Lines)-1]), action: "escrowctl backup"})
	}
}

func (x *backupCheck) look(ctx context.Context) []held {
	places := make([]held, len(x.Places))
	var wg sync.WaitGroup
	for i, p := range x.Places {
		wg.Go(func() {
			places[i].BackupPlace = p
			places[i].copies, places[i].err = p.List(ctx)
		})
	}
	wg.Wait()
	for i := range places {
		// What claims to be of tomorrow would hide that there is none of today.
		h := &places[i]
		h.copies = slices.DeleteFunc(slices.Clone(h.copies), func(c BackupCopy) bool {
			ahead := c.Time.Sub(x.Now()) > aheadBy
			if ahead && h.err == nil {
				h.err = fmt.Errorf("%s is dated %s ahead: is a clock wrong?", c.Name, span(c.Time.Sub(x.Now())))
			}
			return ahead
		})
	}
	return places
}

// place judges the newest copy of one place.
func (x *backupCheck) place(f *findings, h *held, running bool) {
	if h.err != nil {
		f.unknown("escrowctl backup list", "%s: %s", h.Name, oneLine(h.err))
		if len(h.copies) == 0 {
			return
		}
	}
	c := h.newest()
	if c == nil {
		f.add(finding{status: check.Critical, alert: runbook.BackupFailed, text: "no good backup in " + h.Name + x.others(h), action: h.Remedy})
		return
	}
	age := x.Now().Sub(c.Time)
	f.figure(figureName(h.Name)+"_age", "seconds", age.Seconds())
	f.figure(figureName(h.Name)+"_size", "bytes", float64(c.Size))
	if age > x.MaxAge {
		f.add(finding{status: check.Critical, alert: runbook.BackupFailed, since: c.Time.Add(x.MaxAge), action: h.Remedy,
			text: fmt.Sprintf("the newest good backup in %s is %s old, limit %s: %s", h.Name, span(age), span(x.MaxAge), c.Name)})
	}
	last := h.copies[len(h.copies)-1]
	if last.Name != c.Name && !running {
		f.add(finding{status: check.Warning, action: "escrowctl backup list",
			text: fmt.Sprintf("the newest in %s, %s, is no good: %s", h.Name, last.Name, cmp.Or(last.Problem, "unfinished"))})
	}
}

// found says where the newest backup is, in a word where it is in both places.
func (x *backupCheck) found(f *findings, places []held) {
	var texts []string
	files := map[string]bool{}
	for i := range places {
		c := places[i].newest()
		if c == nil || x.Now().Sub(c.Time) > x.MaxAge {
			continue
		}
		text := fmt.Sprintf("%s old, %s in ", span(x.Now().Sub(c.Time)), bytesText(float64(c.Size)))
		texts = append(texts, text+places[i].Name+plainNote(c))
		files[text+c.Name] = true
		if len(places) == 2 && len(texts) == 2 && len(files) == 1 {
			texts = []string{text + "both places" + plainNote(c)}
		}
	}
	f.facts = append(f.facts, texts...)
}

func plainNote(c *BackupCopy) string {
	if c.Plain {
		return " (the old script's, not read)"
	}
	return ""
}

// others says what lies in a place that has no good backup.
func (x *backupCheck) others(h *held) string {
	if len(h.copies) == 0 {
		return ", it has none at all"
	}
	last := h.copies[len(h.copies)-1]
	return fmt.Sprintf(", the newest is %s: %s", last.Name, cmp.Or(last.Problem, "unfinished"))
}

func figureName(place string) string { return path.Base(strings.ReplaceAll(place, " ", "/")) }

// together compares the places: the newest backup must be in each.
func (x *backupCheck) together(f *findings, places []held) {
	var newest *BackupCopy
	for _, h := range places {
		if c := h.newest(); c != nil && (newest == nil || c.Time.After(newest.Time)) {
			newest = c
		}
	}
	if newest == nil || x.Now().Sub(newest.Time) < inTransit {
		return
	}
	for _, h := range places {
		c := h.newest()
		if h.err == nil && c != nil && c.Time.Before(newest.Time) && x.Now().Sub(c.Time) <= x.MaxAge {
			f.add(finding{status: check.Warning, text: fmt.Sprintf("%s lacks the newest backup, %s", h.Name, newest.Name), action: h.Remedy})
		}
	}
}

// size compares the newest backup with the median of those before it.
func (x *backupCheck) size(f *findings, places []held) {
	for _, h := range places {
		c := h.newest()
		if c == nil {
			continue
		}
		median, n := x.median(h, c)
		if n < leastSizes || median == 0 {
			if c.Plain {
				f.add(finding{status: check.Warning, text: c.Name + " is the old script's, and there are too few to compare its size with: whether it is whole is not known", action: "escrowctl backup verify " + c.Name})
			}
			f.note("too few to compare sizes")
			return
		}
		ratio := float64(c.Size) / median
		limit := x.ShrinkRatio
		f.figures = append(f.figures, check.Figure{Name: "size_of_median", Unit: "ratio", Value: ratio, Critical: &limit})
		if ratio < limit {
			f.add(finding{status: check.Critical, alert: runbook.BackupFailed, since: c.Time,
				text:   fmt.Sprintf("%s is too small: %s is %s of the median of the %d before it, limit %s", c.Name, bytesText(float64(c.Size)), percent(ratio), n, percent(limit)),
				action: "compare it with the one before (escrowctl backup list); if the data did shrink: escrowctl backup ack"})
			return
		}
		f.note("%s of the median size", percent(ratio))
		return
	}
}

// median returns the median size of the backups before c, of at most ten, and
// how many they are.
func (x *backupCheck) median(h held, c *BackupCopy) (float64, int) {
	var from time.Time // what was accepted begins a new reckoning
	for _, b := range h.copies {
		if !x.Accepted.IsZero() && !b.Time.After(x.Accepted) {
			from = b.Time
		}
	}
	var sizes []int64
	for i := len(h.copies) - 1; i >= 0 && len(sizes) < sizesCompared; i-- {
		b := h.copies[i]
		if b.Time.Before(c.Time) && !b.Time.Before(from) && (b.Good || b.Plain) {
			sizes = append(sizes, b.Size)
		}
	}
	if len(sizes) == 0 {
		return 0, 0
	}
	slices.Sort(sizes)
	middle := len(sizes) / 2
	if len(sizes)%2 == 1 {
		return float64(sizes[middle]), len(sizes)
	}
	return (float64(sizes[middle-1]) + float64(sizes[middle])) / 2, len(sizes)
}

// lastRun judges the last run that ended, and holds its word against what lies
// there.
func (x *backupCheck) lastRun(f *findings, runs []JobRun, places []held) {
	if len(runs) > 0 && runs[0].Running() {
		f.fact("a run goes on since %s", clock(runs[0].Start))
		runs = runs[1:]
	}
	if len(runs) == 0 {
		f.fact("no run recorded on this host")
		return
	}
	r := runs[0]
	ended := r.End
	if ended.IsZero() {
		ended = r.Start
	}
	if !r.Good() {
		text := fmt.Sprintf("the run of %s ended %s", clock(r.Start), r.Outcome)
		if r.Error != "" {
			text += ": " + clean(r.Error)
		}
		f.add(finding{status: check.Critical, alert: runbook.BackupFailed, since: ended, text: text, action: "escrowctl backup"})
		return
	}
	if r.Outcome == "warning" {
		f.add(finding{status: check.Warning, text: fmt.Sprintf("the run of %s ended with warnings", clock(r.Start)), action: "escrowctl backup list"})
	}
	name, _ := r.Figures["name"].(string) // "" in a record of another version
	uploaded, sent := r.Figures["uploaded"].(bool)
	for i, h := range places {
		if name == "" || h.err != nil || i == 0 && len(places) > 1 && sent && !uploaded || h.has(name) {
			continue
		}
		f.add(finding{status: check.Critical, alert: runbook.BackupFailed, since: ended, action: h.Remedy,
			text: fmt.Sprintf("the run of %s says that it made %s, but %s does not have it", clock(r.Start), name, h.Name)})
	}
}

// verified says which copies failed when they were read, and when one was last
// read to its last byte.
func (x *backupCheck) verified(f *findings, places []held) {
	for _, h := range places {
		h.failed(f)
	}
	last, err := x.Verified()
	if err != nil {
		f.unknown("", "the verifications: %s", oneLine(err))
		return
	}
	since, text := last, "verified "+span(x.Now().Sub(last))+" ago"
	if last.IsZero() {
		text = "never verified"
		for _, h := range places {
			if len(h.copies) > 0 && (since.IsZero() || h.copies[0].Time.Before(since)) {
				since = h.copies[0].Time
			}
		}
	}
	if !since.IsZero() && x.Now().Sub(since) > x.VerifyAge {
		f.add(finding{status: check.Warning, text: "no backup was verified for " + span(x.Now().Sub(since)), action: "escrowctl backup verify latest"})
		return
	}
	f.fact("%s", text)
}

// failed tells of the copies that did not pass.
func (h held) failed(f *findings) {
	newest := h.newest()
	for i := range h.copies {
		c := &h.copies[i]
		switch {
		case c.FailedAt.IsZero():
		case c == newest:
			f.add(finding{status: check.Critical, alert: runbook.BackupFailed, since: c.FailedAt, action: "escrowctl backup",
				text: fmt.Sprintf("the newest backup in %s, %s, failed its verification", h.Name, c.Name)})
		default:
			f.add(finding{status: check.Warning, text: fmt.Sprintf("%s in %s failed its verification", c.Name, h.Name), action: "escrowctl backup list"})
		}
	}
}

// tail is the end of the log: context for a person, and no evidence, as it shows
// last week's success as happily as today's.
func (x *backupCheck) tail(ctx context.Context) (LogTail, []string) {
	if x.Log == nil || ctx.Err() != nil {
		return LogTail{}, nil
	}
	t, err := x.Log()
	if err != nil {
		return LogTail{}, []string{"the log: " + oneLine(err)}
	}
	out := []string{fmt.Sprintf("%s, last written %s ago, ends:", t.Path, span(x.Now().Sub(t.Changed)))}
	for _, line := range t.Lines {
		out = append(out, "  "+clean(line))
	}
	return t, out
}

// clock is a time as the screens have it.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }
