package perf

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// MaintainOptions say what is maintained.
type MaintainOptions struct {
	All     bool // every table, needed or not
	Reindex bool // rebuild invalid and bloated indexes too
	Limits  Limits
}

// Task is one statement of the maintenance.
type Task struct {
	Kind   string `json:"kind"` // vacuum, analyze, reindex or drop
	Object string `json:"object"`
	SQL    string `json:"sql"`
	Reason string `json:"reason"`
	// Bytes and DeadRows are those before; of an index only the size.
	Bytes    int64 `json:"bytes_before"`
	DeadRows int64 `json:"dead_rows_before,omitempty"`

	oid int64
}

// Done is a task and what came of it.
type Done struct {
	Task
	Status        check.Status `json:"status"`
	Problem       string       `json:"problem,omitempty"`
	Seconds       float64      `json:"took_seconds"`
	BytesAfter    int64        `json:"bytes_after"`
	DeadRowsAfter int64        `json:"dead_rows_after,omitempty"`
}

// The kinds of tasks.
const (
	KindVacuum  = "vacuum"
	KindAnalyze = "analyze"
	KindReindex = "reindex"
	KindDrop    = "drop"
)

// The shares and numbers from which a table is worth it. Autovacuum comes at
// the whole of its threshold; by hand, in a quiet hour, half of it is reason
// enough. xidReason is autovacuum_freeze_max_age's default, less a tenth.
const (
	vacuumShare  = 0.5
	vacuumRows   = 1_000
	analyzeShare = 0.1
	xidReason    = 180_000_000
)

// LoadForMaintenance reads what PlanMaintenance needs.
func LoadForMaintenance(ctx context.Context, q Querier, now func() time.Time) (*Database, error) {
	m := &meter{q: q, now: now}
	db := new(Database)
	for _, part := range []func(context.Context, *Database) error{m.server, m.settings, m.tables, m.columns, m.indexes} {
		if err := part(ctx, db); err != nil {
			return nil, err
		}
	}
	estimateBloat(db)
	return db, nil
}

// PlanMaintenance says what there is to do: first what has most dead rows, then indexes by
// their size.
func PlanMaintenance(db *Database, opt MaintainOptions) []Task {
	var tasks []Task
	for _, t := range db.Tables {
		task := Task{Kind: KindVacuum, Object: t.fullName(), SQL: "VACUUM (ANALYZE) " + t.fullName(), Bytes: t.HeapBytes, DeadRows: t.DeadRows, oid: t.OID}
		switch {
		case t.DeadRows >= vacuumRows && float64(t.DeadRows) > vacuumShare*t.VacuumAt:
			task.Reason = fmt.Sprintf("%s dead rows, autovacuum comes at %s", ui.Count(t.DeadRows), ui.Count(int64(t.VacuumAt)))
		case t.XIDAge > xidReason:
			task.Reason = fmt.Sprintf("last frozen %s transactions ago", ui.Count(t.XIDAge))
		case t.Analyzed == nil && t.LiveRows > 0, float64(t.Modified) > analyzeShare*float64(t.count())+vacuumRows:
			task.Kind, task.SQL = KindAnalyze, "ANALYZE "+t.fullName()
			task.Reason = fmt.Sprintf("%s rows changed since the last analyze", ui.Count(t.Modified))
			if t.Analyzed == nil {
				task.Reason = "never analyzed"
			}
		case opt.All:
			task.Reason = "--all"
		default:
			continue
		}
		if opt.All && task.Kind == KindAnalyze {
			task.Kind, task.SQL = KindVacuum, "VACUUM (ANALYZE) "+t.fullName()
		}
		tasks = append(tasks, task)
	}
	slices.SortStableFunc(tasks, func(a, b Task) int { return int(min(max(b.DeadRows-a.DeadRows, -1), 1)) })
	if opt.Reindex {
		tasks = append(tasks, planIndexes(db, opt.Limits)...)
	}
	return tasks
}

func planIndexes(db *Database, l Limits) []Task {
	var tasks []Task
	for _, x := range db.Indexes {
		task := Task{Kind: KindReindex, Object: x.fullName(), SQL: "REINDEX INDEX CONCURRENTLY " + x.fullName(), Bytes: x.Bytes, oid: x.OID}
		switch {
		case x.Building, x.Exclusion: // an exclusion constraint's cannot be rebuilt concurrently
			continue
		case x.Invalid && leftover(x.Name):
			task.Kind, task.SQL, task.Reason = KindDrop, "DROP INDEX CONCURRENTLY "+x.fullName(), "left over from a rebuild that failed"
		case x.Invalid:
			task.Reason = "invalid"
		case x.BloatBytes != nil && *x.BloatBytes >= l.BloatBytes && share(float64(*x.BloatBytes), float64(x.Bytes)) >= l.BloatShare:
			task.Reason = fmt.Sprintf("about %s of %s are bloat", ui.Bytes(*x.BloatBytes), ui.Bytes(x.Bytes))
		default:
			continue
		}
		tasks = append(tasks, task)
	}
	slices.SortStableFunc(tasks, func(a, b Task) int { return int(min(max(b.Bytes-a.Bytes, -1), 1)) })
	return tasks
}

// leftover says whether REINDEX CONCURRENTLY names its own work so.
func leftover(name string) bool {
	name = strings.TrimRight(name, "0123456789")
	return strings.HasSuffix(name, "_ccnew") || strings.HasSuffix(name, "_ccold")
}

// Worker runs the statements of the maintenance, outside of transactions.
type Worker interface {
	Exec(ctx context.Context, sql string) error
}

// Maintenance runs tasks.
type Maintenance struct {
	Worker Worker
	Look   Querier // another session: what the server knows meanwhile
	Now    func() time.Time
	// Until is when no further task begins and a running one is ended; zero: never.
	Until time.Time
	// Progress is told how far a task is, in blocks or whatever the server
	// counts; total is 0 where that is not known.
	Progress func(t Task, done, total int64)
}

// Run does the tasks one at a time and returns what came of each. A task that
// fails does not stop the others.
func (m Maintenance) Run(ctx context.Context, tasks []Task) []Done {
	var out []Done
	if !m.Until.IsZero() {
		limited, cancel := context.WithDeadline(ctx, m.Until)
		defer cancel()
		ctx = limited
	}
	for _, t := range tasks {
		if ctx.Err() != nil {
			out = append(out, Done{Task: t, Status: check.Warning, Problem: "not begun: the time is over", BytesAfter: t.Bytes, DeadRowsAfter: t.DeadRows})
			continue
		}
		out = append(out, m.one(ctx, t))
	}
	return out
}

func (m Maintenance) one(ctx context.Context, t Task) Done {
	d := Done{Task: t, Status: check.OK, BytesAfter: t.Bytes, DeadRowsAfter: t.DeadRows}
	look := &meter{q: m.Look, now: m.Now}
	before, err := look.state(ctx, t)
	switch {
	case err != nil:
		d.Status, d.Problem = check.Critical, err.Error()
		return d
	case before.Busy != "":
		d.Status, d.Problem = check.Warning, "left alone: "+before.Busy
		return d
	case before.Gone:
		d.Problem = "it is gone meanwhile"
		return d
	}
	start := m.Now()
	watched, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.watch(watched, t)
	}()
	err = m.Worker.Exec(ctx, t.SQL)
	stop()
	<-ended
	d.Seconds = m.Now().Sub(start).Seconds()
	// What came of it is asked for even when the time is over.
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if err != nil {
		d.Status, d.Problem = check.Critical, execProblem(ctx, err)
		if ctx.Err() != nil || sqlState(err) == "55P03" {
			d.Status = check.Warning
		}
		m.tidy(asking, t, &d)
		return d
	}
	m.prove(asking, t, before, look, &d)
	return d
}

func execProblem(ctx context.Context, err error) string {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "ended: the time is over"
	case sqlState(err) == "55P03":
		return "left alone: somebody held a lock on it for longer than lock_timeout"
	}
	return err.Error()
}

// relationState is a relation as it is now.
type relationState struct {
	Busy     string     `json:"busy"`
	Gone     bool       `json:"gone"`
	Bytes    int64      `json:"bytes"`
	Dead     int64      `json:"dead"`
	Vacuumed *time.Time `json:"vacuumed"`
	Analyzed *time.Time `json:"analyzed"`
	Invalid  bool       `json:"invalid"`
}

func (m *meter) state(ctx context.Context, t Task) (relationState, error) {
	const query = `json_build_object(
		'busy', coalesce((SELECT CASE WHEN a.backend_type = 'autovacuum worker' THEN 'autovacuum is at it' ELSE 'process ' || p.pid || ' is vacuuming it' END
			FROM pg_stat_progress_vacuum p LEFT JOIN pg_stat_activity a ON a.pid = p.pid WHERE p.relid = $1::bigint::oid LIMIT 1), ''),
		'gone', NOT EXISTS (SELECT 1 FROM pg_class WHERE oid = $1::bigint::oid),
		'bytes', coalesce(pg_relation_size($1::bigint::oid), 0),
		'dead', coalesce(pg_stat_get_dead_tuples($1::bigint::oid), 0),
		'vacuumed', pg_stat_get_last_vacuum_time($1::bigint::oid), 'analyzed', pg_stat_get_last_analyze_time($1::bigint::oid),
		'invalid', coalesce((SELECT NOT indisvalid FROM pg_index WHERE indexrelid = $1::bigint::oid), false))`
	var s relationState
	err := m.read(ctx, t.Object, query, &s, t.oid)
	if code := sqlState(err); code == "55P03" {
		return relationState{Busy: "somebody holds it exclusively"}, nil
	}
	return s, err
}

// prove asks the server what it did. VACUUM without the right to only warns, so
// that its success proves nothing.
func (m Maintenance) prove(ctx context.Context, t Task, before relationState, look *meter, d *Done) {
	var after relationState
	var err error
	for range 10 { // before version 15 the server counts a moment later
		if after, err = look.state(ctx, t); err != nil {
			d.Status, d.Problem = check.Unknown, "done, but what came of it could not be asked: "+err.Error()
			return
		}
		if t.Kind != KindVacuum || changed(before.Vacuumed, after.Vacuumed) || sleep(ctx, 200*time.Millisecond) != nil {
			break
		}
	}
	d.BytesAfter, d.DeadRowsAfter = after.Bytes, after.Dead
	switch {
	case t.Kind == KindVacuum && !changed(before.Vacuumed, after.Vacuumed), t.Kind == KindAnalyze && !changed(before.Analyzed, after.Analyzed):
		d.Status, d.Problem = check.Critical, "the server skipped it: the role must own the table, or have MAINTAIN on it"
	case t.Kind == KindVacuum && after.Dead > before.Dead/10 && after.Dead >= vacuumRows:
		d.Status = check.Warning
		d.Problem = fmt.Sprintf("%s dead rows are left: a long transaction, a replication slot or a prepared transaction still needs them", ui.Count(after.Dead))
	case t.Kind == KindReindex && after.Invalid:
		d.Status, d.Problem = check.Critical, "it is invalid still"
	}
}

func changed(before, after *time.Time) bool {
	return after != nil && (before == nil || after.After(*before))
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// tidy removes what a failed concurrent rebuild leaves behind: an invalid index
// that every write would have to keep up.
func (m Maintenance) tidy(ctx context.Context, t Task, d *Done) {
	if t.Kind != KindReindex {
		return
	}
	const query = `coalesce(json_agg(json_build_object('schema', n.nspname, 'name', c.relname)), '[]'::json) FROM pg_index i
		JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE i.indrelid = (SELECT indrelid FROM pg_index WHERE indexrelid = $1::bigint::oid) AND NOT i.indisvalid AND c.relname ~ '_ccnew[0-9]*$'`
	var left []struct{ Schema, Name string }
	look := &meter{q: m.Look, now: m.Now}
	if err := look.read(ctx, "left over", query, &left, t.oid); err != nil {
		d.Problem += "; and perhaps an invalid index ending in _ccnew is left"
		return
	}
	for _, x := range left {
		name := qualified(x.Schema, x.Name)
		if err := m.Worker.Exec(ctx, "DROP INDEX CONCURRENTLY "+name); err != nil {
			d.Problem += fmt.Sprintf("; and %s is left, to be dropped: %v", name, err)
		}
	}
}

// watch tells how far a task is, twice a second.
func (m Maintenance) watch(ctx context.Context, t Task) {
	if m.Progress == nil {
		return
	}
	query := `row_to_json(t) FROM (SELECT heap_blks_scanned AS done, heap_blks_total AS total FROM pg_stat_progress_vacuum WHERE relid = $1::bigint::oid LIMIT 1) t`
	if t.Kind == KindReindex {
		query = `row_to_json(t) FROM (SELECT blocks_done AS done, blocks_total AS total FROM pg_stat_progress_create_index WHERE index_relid = $1::bigint::oid OR relid = (SELECT indrelid FROM pg_index WHERE indexrelid = $1::bigint::oid) LIMIT 1) t`
	}
	look := &meter{q: m.Look, now: m.Now}
	for sleep(ctx, 500*time.Millisecond) == nil {
		var at struct{ Done, Total int64 }
		// A query that is broken off takes its session with it, which is needed still.
		asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		err := look.read(asking, "progress", query, &at, t.oid)
		cancel()
		if err == nil && at.Total > 0 {
			m.Progress(t, at.Done, at.Total)
		}
	}
}

// Enabled is what EnableStatements found or did.
type Enabled struct {
	Version string `json:"version"`
	Created bool   `json:"created"`
}

// EnableStatements creates pg_stat_statements where the library is loaded, and
// proves that it counts. With dry it only says whether it would.
func EnableStatements(ctx context.Context, w Worker, q Querier, now func() time.Time, dry bool) (Enabled, error) {
	m := &meter{q: q, now: now}
	ext, err := m.extension(ctx)
	if err != nil {
		return Enabled{}, err
	}
	if !ext.Loaded {
		reason, remedy := ext.missing()
		if reason == "" || ext.Version != "" {
			reason, remedy = "pg_stat_statements is created but not loaded", preloadRemedy
		}
		return Enabled{}, fmt.Errorf("%s: %s", reason, remedy)
	}
	if ext.Version != "" {
		return Enabled{Version: ext.Version}, nil
	}
	if dry {
		return Enabled{Version: ext.Available, Created: true}, nil
	}
	if err := w.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements"); err != nil {
		if sqlState(err) == "42501" {
			return Enabled{}, fmt.Errorf("create pg_stat_statements: %w: let a superuser run CREATE EXTENSION pg_stat_statements", err)
		}
		return Enabled{}, fmt.Errorf("create pg_stat_statements: %w", err)
	}
	if ext, err = m.extension(ctx); err != nil {
		return Enabled{}, err
	}
	var n int64
	if err := m.read(ctx, "statements", "to_json(count(*)) FROM "+quoteName(ext.Schema)+".pg_stat_statements", &n); err != nil {
		return Enabled{}, err
	}
	return Enabled{Version: ext.Version, Created: true}, nil
}
