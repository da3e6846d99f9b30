package backup

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/store"
)

// foreignAge is how old another host's unfinished upload must be to be swept:
// older than any upload may take. That host's 'backup upload' holds no lock that
// is seen here.
const foreignAge = 24 * time.Hour

// sweepUploads removes the unfinished uploads that the run can answer for: this
// host's own, which are of backups that it has, or of temporary files that it just
// swept, and others' old ones.
func (r *run) sweepUploads(ctx context.Context, copies []Copy, temps []string) {
	own := func(name string) bool {
		return isOf(copies)(name) ||
			r.Naming.Owns(name) && slices.ContainsFunc(temps, func(temp string) bool { return strings.Contains(temp, name) })
	}
	swept, err := sweepUploads(ctx, r.Remote, r.Naming, r.started, own)
	r.res.Swept = append(r.res.Swept, swept...)
	if err != nil {
		r.warn("unfinished uploads: %v", err)
	}
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
