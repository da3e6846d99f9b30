package backup

import (
	"context"
	"slices"
	"time"

	"github.com/stellarescrow/escrowctl/internal/store"
)

// foreignAge is how old another host's unfinished upload must be to be swept:
// older than any upload may take. That host's 'backup upload' holds no lock that
// is seen here.
const foreignAge = 24 * time.Hour

// sweepUploads removes the unfinished uploads that the run can answer for: this
// host's own, which are of backups that it has, or of which a killed run left a
// temporary file, and others' old ones.
func (r *run) sweepUploads(ctx context.Context, copies []Copy) {
	begun, err := r.begun(ctx)
	if err != nil {
		r.warn("temporary files: %v", err)
	}
	here := isOf(copies)
	own := func(name string) bool { return here(name) || slices.Contains(begun, name) }
	swept, err := sweepUploads(ctx, r.Remote, r.Naming, r.started, own)
	r.res.Swept = append(r.res.Swept, swept...)
	if err != nil {
		r.warn("unfinished uploads: %v", err)
	}
}

// begun are the names of what killed runs left temporary files of, which stay.
func (r *run) begun(ctx context.Context) ([]string, error) {
	var names []string
	_, err := r.Local.Sweep(ctx, r.started, func(name string) bool {
		if r.Naming.Owns(name) {
			names = append(names, name)
		}
		return false
	})
	return names, err
}

// Sweep removes what killed uploads of this host's backups left in the bucket, and
// others' old ones. The caller holds the lock, so that whatever is unfinished is dead.
func (c CatchUp) Sweep(ctx context.Context) ([]string, error) {
	here, err := Copies(ctx, c.Local, c.Naming)
	if err != nil {
		return nil, err
	}
	return sweepUploads(ctx, c.Remote, c.Naming, c.Now, isOf(here))
}

// isOf says whether a name is that of one of these.
func isOf(copies []Copy) func(name string) bool {
	return func(name string) bool {
		return slices.ContainsFunc(copies, func(c Copy) bool { return c.Name == name })
	}
}

func sweepUploads(ctx context.Context, remote store.Store, naming Naming, now time.Time, own func(name string) bool) (swept []string, err error) {
	for _, sweep := range []struct {
		olderThan time.Time
		owns      func(string) bool
	}{{now, own}, {now.Add(-foreignAge), naming.Owns}} {
		some, err := remote.Sweep(ctx, sweep.olderThan, sweep.owns)
		swept = append(swept, some...)
		if err != nil {
			return swept, err
		}
	}
	return swept, nil
}
