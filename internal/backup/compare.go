package backup

import (
	"bytes"
	"context"
	"fmt"
	"strings"
)

// compare tells what the new backup holds less of than the last one, and has it
// noted.
func (r *run) compare(ctx context.Context, now *Manifest) {
	last := r.res.Last
	if last == nil || last.Database != now.Database {
		return
	}
	lost := func(format string, args ...any) { r.res.Losses = append(r.res.Losses, fmt.Sprintf(format, args...)) }
	if float64(now.SQLSize) < float64(last.SQLSize)*r.ShrinkRatio {
		lost("it shrank to %.0f %% of the last one: %d bytes of SQL after %d", 100*float64(now.SQLSize)/float64(last.SQLSize), now.SQLSize, last.SQLSize)
	}
	if float64(now.Rows) < float64(last.Rows)*r.ShrinkRatio {
		lost("its rows fell to %.0f %% of the last one's: %d after %d", 100*float64(now.Rows)/float64(last.Rows), now.Rows, last.Rows)
	}
	// By name: a new table must not make up for one that is gone.
	missing, known := r.missingTables(ctx, now)
	switch {
	case len(missing) > 0:
		lost("it has %d tables, the last one had %d: missing: %s", now.TableCount, last.TableCount, strings.Join(missing, " "))
	case !known && now.TableCount < last.TableCount:
		lost("it has %d tables, the last one had %d", now.TableCount, last.TableCount)
	}
	if len(r.res.Losses) == 0 || r.Hold == nil {
		return
	}
	if err := r.Hold(now.Name, r.res.Losses); err != nil {
		r.warn("%v", err)
	}
}

// missingTables names the tables that the last backup had and this one has not,
// if that can be told.
func (r *run) missingTables(ctx context.Context, now *Manifest) (names []string, known bool) {
	last, err := loadManifest(ctx, r.lastIn, r.res.Last.Name, r.res.Last.Size)
	if err != nil {
		return nil, false
	}
	have := map[string]bool{}
	for _, t := range now.Index.Tables {
		have[t.Table] = true
	}
	for _, t := range last.Index.Tables {
		if !have[t.Table] {
			names = append(names, t.Table)
		}
	}
	return names, true
}

// limitedBuffer refuses more than maxGlobals bytes.
type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxGlobals {
		return 0, fmt.Errorf("over %d bytes of roles", maxGlobals)
	}
	return b.Buffer.Write(p)
}
