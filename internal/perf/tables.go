package perf

import (
	"fmt"
	"math"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// tables judges the tables, and lists the largest.
func (a *analysis) tables(now, before *Database, queries []Query) {
	known := map[int64]Table{}
	if before != nil && !a.countersReset(now, before) {
		for _, t := range before.Tables {
			known[t.OID] = t
		}
	}
	sizes := map[int64]Table{}
	if before != nil {
		for _, t := range before.Tables {
			sizes[t.OID] = t
		}
	}
	var rows []TableReport
	for _, t := range now.Tables {
		seen := t // since the last analysis
		window := now.Server.At.Sub(now.statsSince())
		if p, ok := known[t.OID]; ok {
			seen.SeqScans, seen.SeqRows, seen.IndexScans = since(t.SeqScans, p.SeqScans), since(t.SeqRows, p.SeqRows), since(t.IndexScans, p.IndexScans)
			window = a.interval
		}
		if !a.sequential(now, seen, window, queries) && a.short() {
			a.sequential(now, t, now.Server.At.Sub(now.statsSince()), queries)
		}
		a.bloated(t)
		a.unvacuumed(now, t)
		a.wraparound(t)
		r := TableReport{
			Name: t.fullName(), Rows: t.count(), DeadRows: t.DeadRows, HeapBytes: t.HeapBytes, TotalBytes: t.TotalBytes, BloatBytes: t.BloatBytes,
			SeqScans: seen.SeqScans, SeqRows: seen.SeqRows, IndexScans: seen.IndexScans, Vacuumed: t.Vacuumed, Analyzed: t.Analyzed, XIDAge: t.XIDAge,
		}
		if p, ok := sizes[t.OID]; ok {
			growth := t.TotalBytes - p.TotalBytes
			r.GrowthBytes = &growth
		}
		rows = append(rows, r)
	}
	a.out.Tables = largest(rows, 2*a.opt.Top, func(t TableReport) float64 { return float64(t.TotalBytes) })
}

func (t Table) fullName() string { return qualified(t.Schema, t.Name) }

// count is the number of rows by the best there is.
func (t Table) count() int64 {
	if t.LiveRows == 0 && t.Rows > 0 {
		return int64(t.Rows)
	}
	return t.LiveRows
}

// statsSince is from when the counters run, at the latest.
func (db *Database) statsSince() time.Time {
	if db.Server.StatsReset.IsZero() {
		return db.Server.StartedAt
	}
	return db.Server.StatsReset
}

// countersReset says whether the database's counters began anew since before:
// by a reset, of which the server keeps the time, or by a crash, which leaves no
// trace there but that what can only grow has become less.
func (a *analysis) countersReset(now, before *Database) bool {
	n, b := now.Server, before.Server
	return crashed(now, before) || !n.StatsReset.Equal(b.StatsReset) || n.Commits < b.Commits || n.Rollbacks < b.Rollbacks ||
		n.BlocksHit < b.BlocksHit || n.BlocksRead < b.BlocksRead || n.TempBytes < b.TempBytes || n.Deadlocks < b.Deadlocks
}

// crashed says whether the server began anew because of a crash. That of
// pg_stat_statements is the one reset that it notes then; after an orderly
// restart all counters go on.
func crashed(now, before *Database) bool {
	if now.Statements == nil || before.Statements == nil || before.Statements.Reset.IsZero() || !now.Server.StartedAt.After(before.Server.StartedAt) {
		return false
	}
	reset := now.Statements.Reset
	return !reset.Equal(before.Statements.Reset) && reset.Sub(now.Server.StartedAt).Abs() < time.Minute
}

// sequential finds tables that are read from end to end, over and over, where
// an index would spare that, and says whether this is one.
func (a *analysis) sequential(db *Database, t Table, window time.Duration, queries []Query) bool {
	l := a.opt.Limits
	if t.SeqScans == 0 {
		return false
	}
	perScan := float64(t.SeqRows) / float64(t.SeqScans)
	days := math.Max(0, window.Hours()/24)
	if float64(t.SeqScans) < math.Max(l.SeqScans, l.SeqScansPerDay*days) || perScan < l.SeqRows || float64(t.count()) < l.SeqRows {
		return false
	}
	f := Finding{Object: t.fullName(), weight: float64(t.SeqRows)}
	f.ID, f.Status = "table.sequential", check.Warning
	f.Summary = fmt.Sprintf("%s is read from end to end %d times, %.0f rows each", t.fullName(), t.SeqScans, perScan)
	f.Detail = []string{fmt.Sprintf("%s of its scans use an index; %d rows", percent(share(float64(t.IndexScans), float64(t.IndexScans+t.SeqScans))), t.count())}
	f.Action = "see which query does it (EXPLAIN), and what it filters by"
	for _, q := range largest(queries, 100, func(q Query) float64 { return q.Total.Total }) {
		if s := a.suggest(q.Text, db, t.OID); s != "" {
			f.SQL = append(f.SQL, s)
			f.Detail = append(f.Detail, cut(q.Text, 300))
			f.Action = "consider the index, and measure before and after"
			break
		}
	}
	a.add(f)
	return true
}

func (a *analysis) bloated(t Table) {
	l := a.opt.Limits
	if t.BloatBytes == nil || t.HeapBytes == 0 {
		return
	}
	bloat := *t.BloatBytes
	part := share(float64(bloat), float64(t.HeapBytes))
	status := check.OK
	switch {
	case bloat >= l.BloatCriticalBytes && part >= l.BloatCriticalShare:
		status = check.Critical
	case bloat >= l.BloatBytes && part >= l.BloatShare:
		status = check.Warning
	}
	f := Finding{Object: t.fullName(), weight: float64(bloat)}
	f.ID, f.Status = "table.bloat", status
	f.Summary = fmt.Sprintf("%s is bloated: about %s of %s hold no rows (%s)", t.fullName(), ui.Bytes(bloat), ui.Bytes(t.HeapBytes), percent(part))
	f.Action = "new rows fill it up again after escrowctl perf maintain; to give it back to the disk: VACUUM FULL (locks the table) or pg_repack"
	a.add(f)
}

func (a *analysis) unvacuumed(db *Database, t Table) {
	l := a.opt.Limits
	part := share(float64(t.DeadRows), float64(t.DeadRows+t.count()))
	if t.DeadRows >= l.DeadRows && part >= l.DeadShare && float64(t.DeadRows) > 1.5*t.VacuumAt {
		f := Finding{Object: t.fullName(), weight: float64(t.DeadRows)}
		f.ID, f.Status = "table.dead_rows", check.Warning
		f.Summary = fmt.Sprintf("%s has %d dead rows (%s), autovacuum should have come at %.0f", t.fullName(), t.DeadRows, percent(part), t.VacuumAt)
		f.Detail = []string{"last vacuum: " + ago(t.Vacuumed, db.Server.At)}
		f.Action = "escrowctl perf maintain"
		if t.NoVacuum {
			f.Detail = append(f.Detail, "autovacuum is switched off for this table")
			f.SQL = []string{fmt.Sprintf("ALTER TABLE %s RESET (autovacuum_enabled);", t.fullName())}
		}
		a.add(f)
	}
	if t.Analyzed == nil && t.LiveRows >= l.DeadRows && t.Modified >= l.DeadRows {
		f := Finding{Object: t.fullName(), weight: float64(t.Modified)}
		f.ID, f.Status = "table.no_statistics", check.Warning
		f.Summary = fmt.Sprintf("%s was never analyzed and has %d rows: the planner knows nothing of it", t.fullName(), t.LiveRows)
		f.Action = "escrowctl perf maintain"
		a.add(f)
	}
}

// xidSpace is how many transaction IDs there are before they come around.
const xidSpace = 1 << 31

func (a *analysis) wraparound(t Table) {
	status, limit := a.judge(runbook.DBWraparound, float64(t.XIDAge))
	f := Finding{Object: t.fullName(), weight: float64(t.XIDAge)}
	f.ID, f.Status = "table.wraparound", status
	f.Figures = []check.Figure{figure("age", float64(t.XIDAge), limit)}
	f.Summary = fmt.Sprintf("%s was last frozen %d transactions ago: %s of the way to wraparound", t.fullName(), t.XIDAge, percent(float64(t.XIDAge)/xidSpace))
	f.Action = "find what holds autovacuum up (long transactions, replication slots, prepared transactions), then VACUUM (FREEZE)"
	f.SQL = []string{fmt.Sprintf("VACUUM (FREEZE) %s;", t.fullName())}
	a.add(f)
}

func ago(t *time.Time, now time.Time) string {
	if t == nil {
		return "never"
	}
	return ui.Duration(now.Sub(*t)) + " ago"
}
