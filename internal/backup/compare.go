package backup

import (
	"bytes"
	"context"
	"fmt"
)

// compare tells what the new backup holds less of than the last one.
func (r *run) compare() {
	last, now := r.res.Last, r.res.Manifest
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
	if now.TableCount < last.TableCount {
		lost("it has %d tables, the last one had %d%s", now.TableCount, last.TableCount, r.missingTables())
	}
}

// missingTables names the tables that the last backup had, if that can be told.
func (r *run) missingTables() string {
	last, err := loadManifest(context.Background(), r.Local, r.res.Last.Name)
	if err != nil {
		return ""
	}
	have := map[string]bool{}
	for _, t := range r.res.Manifest.Index.Tables {
		have[t.Table] = true
	}
	names := ""
	for _, t := range last.Index.Tables {
		if !have[t.Table] {
			names += " " + t.Table
		}
	}
	if names == "" {
		return ""
	}
	return ": missing:" + names
}

// limitedBuffer refuses more than maxGlobals bytes.
type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxGlobals {
		return 0, fmt.Errorf("over %d bytes of roles", maxGlobals)
	}
	return b.Buffer.Write(p)
}
