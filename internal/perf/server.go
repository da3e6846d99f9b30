package perf

import (
	"fmt"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// database judges all that came from PostgreSQL.
func (a *analysis) database(now, before *Database) {
	var all []Query
	if now.Statements != nil {
		var old *Statements
		if before != nil {
			old = before.Statements
		}
		all = a.queries(now.Statements, old)
		a.judgeQueries(all, now)
	}
	a.server(now, before)
	a.connections(now)
	a.sessions(now)
	a.settings(now)
	a.tables(now, before, all)
	a.indexes(now)
	a.out.Cost = &now.Cost
}

func (a *analysis) server(now, before *Database) {
	s := now.Server
	r := &DatabaseReport{
		Address: now.Address, Version: s.Version, Database: s.Database, SizeBytes: s.SizeBytes,
		Connections: len(now.Sessions), MaxConnections: settingInt(now.Settings, "max_connections"),
		XIDShare: float64(s.XIDAge) / xidSpace, UptimeSeconds: s.At.Sub(s.StartedAt).Seconds(),
	}
	a.out.Database = r
	window := s
	from := now.statsSince()
	if before != nil {
		growth := s.SizeBytes - before.Server.SizeBytes
		r.GrowthBytes = &growth
		if a.countersReset(now, before) {
			a.note("the database's statistics were reset at %s: figures of tables and cache are since then", from.UTC().Format(time.RFC3339))
		} else {
			b := before.Server
			from = b.At
			window.Commits, window.Rollbacks = since(s.Commits, b.Commits), since(s.Rollbacks, b.Rollbacks)
			window.BlocksHit, window.BlocksRead = since(s.BlocksHit, b.BlocksHit), since(s.BlocksRead, b.BlocksRead)
			window.TempBytes, window.TempFiles, window.Deadlocks = since(s.TempBytes, b.TempBytes), since(s.TempFiles, b.TempFiles), since(s.Deadlocks, b.Deadlocks)
		}
		if seconds := s.At.Sub(before.Server.At).Seconds(); seconds > 0 && s.WALBytes >= before.Server.WALBytes {
			rate := float64(s.WALBytes-before.Server.WALBytes) / seconds
			r.WALRate = &rate
		}
	}
	spent := s.At.Sub(from)
	if spent > 0 {
		rate := float64(window.Commits+window.Rollbacks) / spent.Seconds()
		r.TransactionsRate = &rate
	}
	r.TempBytes, r.Deadlocks = &window.TempBytes, &window.Deadlocks
	if n := s.BlocksHit + s.BlocksRead; n > 0 {
		ratio := share(float64(s.BlocksHit), float64(n))
		r.CacheHitTotal = &ratio
	}
	if n := window.BlocksHit + window.BlocksRead; n > 0 {
		ratio := share(float64(window.BlocksHit), float64(n))
		r.CacheHit = &ratio
		a.cache(now, ratio, n)
	}
	a.workload(window, spent)
	a.checkpoints(now, before)
	a.databaseWraparound(s)
}

func (a *analysis) cache(db *Database, ratio float64, blocks int64) {
	if ratio >= a.opt.Limits.CacheHit || blocks < a.opt.Limits.CacheBlocks {
		return
	}
	f := Finding{Object: "cache", weight: 1 - ratio}
	f.ID, f.Status = "server.cache_hit", check.Warning
	f.Summary = fmt.Sprintf("only %.1f %% of the blocks asked for were in shared_buffers (%s), limit %s", 100*ratio, ui.Bytes(settingInt(db.Settings, "shared_buffers")), percent(a.opt.Limits.CacheHit))
	f.Action = "see the queries that read most (by I/O); if they are as they should be, raise shared_buffers (a quarter of the memory is usual)"
	a.add(f)
}

func (a *analysis) workload(w Server, spent time.Duration) {
	hours := max(1, spent.Hours())
	if per := float64(w.TempBytes) / hours; per > float64(a.opt.Limits.TempPerHour) {
		f := Finding{Object: "temp files", weight: per}
		f.ID, f.Status = "server.temp_files", check.Warning
		f.Summary = fmt.Sprintf("%d temporary files with %s were written, %s an hour", w.TempFiles, ui.Bytes(w.TempBytes), ui.Bytes(int64(per)))
		f.Action = "see which queries sort or hash much (by I/O), give them an index, or raise work_mem for them"
		a.add(f)
	}
	days := max(1, spent.Hours()/24)
	if per := float64(w.Deadlocks) / days; per >= a.opt.Limits.DeadlocksDaily {
		f := Finding{Object: "deadlocks", weight: per}
		f.ID, f.Status = "server.deadlocks", check.Warning
		f.Summary = fmt.Sprintf("%d deadlocks, %.0f a day", w.Deadlocks, per)
		f.Action = "the server's log names the queries: let them take their locks in one order"
		a.add(f)
	}
}

func (a *analysis) checkpoints(now, before *Database) {
	timed, forced := now.Server.CheckpointsTimed, now.Server.CheckpointsRequested
	if before != nil && now.Server.CheckpointsReset.Equal(before.Server.CheckpointsReset) {
		timed, forced = since(timed, before.Server.CheckpointsTimed), since(forced, before.Server.CheckpointsRequested)
	}
	if forced < a.opt.Limits.ForcedCheckpoints || forced <= timed {
		return
	}
	f := Finding{Object: "checkpoints", weight: float64(forced)}
	f.ID, f.Status = "server.checkpoints", check.Warning
	f.Summary = fmt.Sprintf("%d of %d checkpoints were forced by the amount of WAL, not by time", forced, forced+timed)
	f.Action = fmt.Sprintf("raise max_wal_size, now %s", ui.Bytes(settingInt(now.Settings, "max_wal_size")))
	a.add(f)
}

func (a *analysis) databaseWraparound(s Server) {
	for _, age := range []struct {
		what string
		n    int64
	}{{"transaction IDs", s.XIDAge}, {"multixact IDs", s.MultixactAge}} {
		status, limit := a.judge(runbook.DBWraparound, float64(age.n))
		f := Finding{Object: s.Database, weight: float64(age.n)}
		f.ID, f.Status = "server.wraparound", status
		f.Figures = []check.Figure{figure("age", float64(age.n), limit)}
		f.Summary = fmt.Sprintf("the oldest %s of %s are %d old: %s of the way to wraparound, at which the server stops taking writes", age.what, s.Database, age.n, percent(float64(age.n)/xidSpace))
		f.Action = limit.Action + ": long transactions, replication slots, prepared transactions"
		a.add(f)
	}
}

// connections holds their number against the maximum. Ours does not count.
func (a *analysis) connections(db *Database) {
	most := settingInt(db.Settings, "max_connections")
	if most == 0 {
		return
	}
	used := int64(len(db.Sessions))
	status, limit := a.judge(runbook.PostgresConnections, float64(used)/float64(most))
	kept := settingInt(db.Settings, "superuser_reserved_connections") + settingInt(db.Settings, "reserved_connections")
	ordinary := 0
	states := map[string]int{}
	for _, s := range db.Sessions {
		if !s.SuperuserLogin {
			ordinary++
		}
		states[s.State]++
	}
	f := Finding{Object: "connections", weight: 1e12}
	f.ID, f.Status, f.Action = "server.connections", status, limit.Action
	f.Figures = []check.Figure{figure("used", float64(used)/float64(most), limit)}
	f.Summary = fmt.Sprintf("%d of %d PostgreSQL connections are taken, over %s", used, most, percent(limit.Warning))
	if status == check.Critical {
		f.Summary = fmt.Sprintf("%d of %d PostgreSQL connections are taken, over %s", used, most, percent(limit.Critical))
	}
	if ordinary > 0 && most-used <= kept {
		f.Status = check.Critical
		f.Summary = fmt.Sprintf("%d of %d PostgreSQL connections are taken, and the last %d are for superusers: nobody else gets in", used, most, kept)
	}
	f.Detail = []string{fmt.Sprintf("%d active, %d idle, %d idle in transaction", states["active"], states["idle"], states["idle in transaction"]+states["idle in transaction (aborted)"])}
	a.add(f)
}

// sessions finds those that hold others up.
func (a *analysis) sessions(db *Database) {
	l := a.opt.Limits
	blocks := map[int]int{}
	for _, s := range db.Sessions {
		for _, pid := range s.BlockedBy {
			blocks[pid]++
		}
	}
	for _, s := range db.Sessions {
		f := Finding{Object: fmt.Sprintf("pid %d", s.PID)}
		f.Detail = []string{fmt.Sprintf("%s@%s, application %q, from %s", s.User, s.Database, s.Application, s.Client), cut(s.Query, 300)}
		if n := blocks[s.PID]; n > 0 {
			f.Detail = append(f.Detail, fmt.Sprintf("%d sessions wait for it", n))
		}
		switch {
		case s.State == "idle in transaction" || s.State == "idle in transaction (aborted)":
			a.out.Database.Idle++
			idle := seconds(s.StateSeconds)
			f.ID, f.Status, f.weight = "session.idle_in_transaction", level(idle, l.IdleWarning, l.IdleCritical), idle.Seconds()
			f.Summary = fmt.Sprintf("session %d has been idle in a transaction for %s: it keeps its locks, and vacuum from cleaning up", s.PID, ui.Duration(idle))
			f.Action = "mend the application; to end it now:"
			f.SQL = []string{fmt.Sprintf("SELECT pg_terminate_backend(%d);", s.PID)}
			if settingInt(db.Settings, "idle_in_transaction_session_timeout") == 0 {
				f.SQL = append(f.SQL, fmt.Sprintf("ALTER DATABASE %s SET idle_in_transaction_session_timeout = '10min';", quoteName(db.Server.Database)))
			}
		case s.WaitType == "Lock":
			a.out.Database.Waiting++
			wait := seconds(s.QuerySeconds)
			f.ID, f.Status, f.weight = "session.lock_wait", level(wait, l.LockWarning, l.LockCritical), wait.Seconds()
			f.Summary = fmt.Sprintf("session %d has been waiting for a lock for %s, behind %s", s.PID, ui.Duration(wait), pids(s.BlockedBy))
			f.Action = "end what it waits for, if that is stuck:"
			for _, pid := range s.BlockedBy {
				f.SQL = append(f.SQL, fmt.Sprintf("SELECT pg_cancel_backend(%d);", pid))
			}
		case s.State != "" && s.XactSeconds != nil:
			long := seconds(s.XactSeconds)
			status, limit := a.judge(runbook.DBTransaction, long.Seconds())
			f.ID, f.Status, f.weight = "session.long_transaction", status, long.Seconds()
			f.Figures = []check.Figure{figure("transaction", long.Seconds(), limit)}
			f.Summary = fmt.Sprintf("session %d has had a transaction open for %s: vacuum cannot clean up behind it", s.PID, ui.Duration(long))
			f.Action = "see whether it is meant to take that long (a backup is); to end it:"
			f.SQL = []string{fmt.Sprintf("SELECT pg_cancel_backend(%d);", s.PID)}
		default:
			continue
		}
		a.add(f)
	}
}

func seconds(s *float64) time.Duration {
	if s == nil {
		return 0
	}
	return time.Duration(*s * float64(time.Second))
}

func level(d, warning, critical time.Duration) check.Status {
	switch {
	case d >= critical:
		return check.Critical
	case d >= warning:
		return check.Warning
	}
	return check.OK
}

func pids(list []int) string {
	if len(list) == 0 {
		return "another"
	}
	text := ""
	for i, pid := range list {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprint(pid)
	}
	return text
}

// settings finds those that are plainly wrong.
func (a *analysis) settings(db *Database) {
	wrong := func(id string, status check.Status, action, format string, args ...any) {
		f := Finding{Object: id, weight: 1e6}
		f.ID, f.Status, f.Action, f.Summary = "setting."+id, status, action, fmt.Sprintf(format, args...)
		a.add(f)
	}
	off := func(name string) bool { return db.Settings[name] == "off" }
	if off("fsync") {
		wrong("fsync", check.Critical, "set fsync = on", "fsync is off: a power cut or a crash of the host can destroy the database")
	}
	if off("full_page_writes") {
		wrong("full_page_writes", check.Critical, "set full_page_writes = on", "full_page_writes is off: a crash of the host can leave torn pages that cannot be repaired")
	}
	if off("autovacuum") || off("track_counts") {
		wrong("autovacuum", check.Critical, "set autovacuum and track_counts on", "autovacuum does not run: tables bloat, statistics age, and in the end the server stops at wraparound")
	}
	if db.Settings["zero_damaged_pages"] == "on" || db.Settings["ignore_checksum_failure"] == "on" {
		wrong("damaged_pages", check.Critical, "switch both off", "zero_damaged_pages or ignore_checksum_failure is on: damage is passed over silently")
	}
	if off("enable_indexscan") || off("enable_seqscan") {
		wrong("planner", check.Warning, "switch them on", "enable_indexscan or enable_seqscan is off for every session: they are for experiments")
	}
	memory := db.MemoryBytes
	if memory == 0 {
		return // a server elsewhere: nothing to hold the sizes against
	}
	buffers, work, most := settingInt(db.Settings, "shared_buffers"), settingInt(db.Settings, "work_mem"), settingInt(db.Settings, "max_connections")
	switch {
	case buffers > memory/2:
		wrong("shared_buffers", check.Warning, "set it to about a quarter of the memory", "shared_buffers is %s, more than half of the %s that the server has", ui.Bytes(buffers), ui.Bytes(memory))
	case buffers+most*work > memory:
		wrong("work_mem", check.Warning, "lower work_mem or max_connections", "%d connections with work_mem %s and shared_buffers %s can take more than the %s that the server has", most, ui.Bytes(work), ui.Bytes(buffers), ui.Bytes(memory))
	}
	if cache := settingInt(db.Settings, "effective_cache_size"); cache > memory {
		wrong("effective_cache_size", check.Warning, "set it to about three quarters of the memory", "effective_cache_size is %s, the server has %s: the planner counts on a cache that is not there", ui.Bytes(cache), ui.Bytes(memory))
	}
}
