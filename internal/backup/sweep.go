package backup

import (
	"context"
	"slices"
	"strings"
	"time"
)

// foreignAge is how old another host's unfinished upload must be to be swept:
// older than any upload may take. That host's 'backup upload' holds no lock that
// is seen here.
const foreignAge = 24 * time.Hour

// sweepUploads removes unfinished uploads: this host's own, which are of backups
// that it has, or of temporary files that it just swept, and others' old ones.
func (r *run) sweepUploads(ctx context.Context, copies []Copy, temps []string) {
	own := func(name string) bool {
		return slices.ContainsFunc(copies, func(c Copy) bool { return c.Name == name }) ||
			r.Naming.Owns(name) && slices.ContainsFunc(temps, func(temp string) bool { return strings.Contains(temp, name) })
	}
	for _, sweep := range []struct {
		olderThan time.Time
		owns      func(string) bool
	}{{r.started, own}, {r.started.Add(-foreignAge), r.Naming.Owns}} {
		swept, err := r.Remote.Sweep(ctx, sweep.olderThan, sweep.owns)
		r.res.Swept = append(r.res.Swept, swept...)
		if err != nil {
			r.warn("unfinished uploads: %v", err)
			return
		}
	}
}
