package perf

import (
	"context"
	"fmt"
	"time"
)

// DatabaseOptions say what is known of the database beforehand.
type DatabaseOptions struct {
	Address      string // without secrets
	Memory       int64  // of the server's machine, in bytes; 0: not known
	NoStatements bool   // leave pg_stat_statements alone
	Now          func() time.Time
}

// CollectDatabase reads the database into snap: what fails of it is told, and
// the rest goes on.
func CollectDatabase(ctx context.Context, snap *Snapshot, q Querier, opt DatabaseOptions) []Source {
	now := opt.Now
	start := now()
	m := &meter{q: q, now: now}
	db := &Database{Address: opt.Address, MemoryBytes: opt.Memory}
	source := Source{Name: SourceDatabase, State: Read}
	if err := m.server(ctx, db); err != nil {
		source.State, source.Reason = Failed, err.Error()
		return []Source{source}
	}
	snap.Database = db
	var missing []error
	for _, part := range []func(context.Context, *Database) error{m.settings, m.sessions, m.tables, m.columns, m.indexes, m.foreignKeys} {
		if err := part(ctx, db); err != nil {
			missing = append(missing, err)
		}
	}
	statements := Source{Name: SourceStatements, State: Skipped}
	if !opt.NoStatements {
		statements = m.statements(ctx, db)
	}
	addIndexSizes(db)
	estimateBloat(db)
	db.Cost = m.cost
	switch {
	case len(missing) > 0:
		source.State, source.Reason = Partial, fmt.Sprint(missing[0])
		if n := len(missing) - 1; n > 0 {
			source.Reason += fmt.Sprintf(" (and %d more)", n)
		}
	case !db.Server.SeesAll:
		source.State = Partial
		source.Reason = fmt.Sprintf("role %s sees neither the queries of other roles nor all settings", db.Server.Role)
		source.Remedy = fmt.Sprintf("GRANT pg_monitor TO %s;", quoteName(db.Server.Role))
	}
	source.Seconds = now().Sub(start).Seconds()
	return []Source{source, statements}
}

func (m *meter) server(ctx context.Context, db *Database) error {
	// Before version 17 the checkpointer's counters stand with the background
	// writer's.
	const common = `row_to_json(t) FROM (SELECT
		current_setting('server_version_num')::int AS version_num, current_setting('server_version') AS version,
		d.datname AS database, d.oid::bigint AS database_oid, current_user AS role,
		current_setting('is_superuser') = 'on' AS superuser, pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_all,
		pg_is_in_recovery() AS standby, now() AS at, pg_postmaster_start_time() AS started_at,
		s.stats_reset, pg_database_size(d.oid) AS size_bytes,
		trunc(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_replay_lsn(), '0/0') ELSE pg_current_wal_lsn() END, '0/0'))::bigint AS wal_position_bytes,
		age(d.datfrozenxid)::bigint AS xid_age, mxid_age(d.datminmxid)::bigint AS multixact_age,
		s.xact_commit AS commits, s.xact_rollback AS rollbacks, s.blks_read AS blocks_read, s.blks_hit AS blocks_hit,
		s.temp_files, s.temp_bytes, s.deadlocks,
		%s
		FROM pg_database d LEFT JOIN pg_stat_database s ON s.datid = d.oid %s
		WHERE d.datname = current_database()) t`
	var num int
	if err := m.read(ctx, "version", "current_setting('server_version_num')", &jsonText{&num}); err != nil {
		return err
	}
	checkpoints := [2]string{
		"b.checkpoints_timed, b.checkpoints_req AS checkpoints_requested, b.stats_reset AS checkpoints_reset", "CROSS JOIN pg_stat_bgwriter b",
	}
	if num >= 170000 {
		checkpoints = [2]string{"b.num_timed AS checkpoints_timed, b.num_requested AS checkpoints_requested, b.stats_reset AS checkpoints_reset", "CROSS JOIN pg_stat_checkpointer b"}
	}
	return m.read(ctx, "server", fmt.Sprintf(common, checkpoints[0], checkpoints[1]), &db.Server)
}

// jsonText reads a number that the server sends as text.
type jsonText struct{ into *int }

// UnmarshalJSON reads digits.
func (t *jsonText) UnmarshalJSON(doc []byte) error {
	_, err := fmt.Sscanf(string(doc), "%d", t.into)
	return err
}

func (m *meter) settings(ctx context.Context, db *Database) error {
	// Sizes in bytes and times in milliseconds, whatever the setting's unit.
	const query = `coalesce(json_object_agg(name, CASE
		WHEN unit = '8kB' THEN (setting::bigint * 8192)::text
		WHEN unit = 'kB' THEN (setting::bigint * 1024)::text
		WHEN unit = 'MB' THEN (setting::bigint * 1048576)::text
		WHEN unit = 's' THEN (setting::float8 * 1000)::bigint::text
		WHEN unit = 'min' THEN (setting::float8 * 60000)::bigint::text
		ELSE setting END), '{}') FROM pg_settings WHERE name = ANY (string_to_array($1, ','))`
	const names = "shared_buffers,work_mem,maintenance_work_mem,effective_cache_size,max_connections,superuser_reserved_connections," +
		"reserved_connections,fsync,full_page_writes,synchronous_commit,autovacuum,autovacuum_max_workers,autovacuum_vacuum_threshold," +
		"autovacuum_vacuum_scale_factor,autovacuum_freeze_max_age,autovacuum_work_mem,track_counts,track_activities,track_io_timing,max_wal_size,checkpoint_timeout," +
		"random_page_cost,idle_in_transaction_session_timeout,block_size,pg_stat_statements.max,pg_stat_statements.track," +
		"zero_damaged_pages,ignore_checksum_failure,enable_indexscan,enable_seqscan,hash_mem_multiplier"
	return m.read(ctx, "settings", query, &db.Settings, names)
}

func (m *meter) sessions(ctx context.Context, db *Database) error {
	// backend_type is hidden from those who may not see other roles' sessions;
	// what has a database and hides it is a client, or one of few workers.
	query := list(`SELECT a.pid, a.usename AS "user", a.datname AS database, a.application_name AS application,
		coalesce(host(a.client_addr), CASE WHEN a.client_port = -1 THEN 'socket' END) AS client,
		a.state, a.wait_event_type AS wait_type, a.wait_event,
		extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS transaction_seconds,
		extract(epoch FROM clock_timestamp() - a.state_change)::float8 AS state_seconds,
		extract(epoch FROM clock_timestamp() - a.query_start)::float8 AS query_seconds,
		CASE WHEN a.wait_event_type = 'Lock' THEN pg_blocking_pids(a.pid) END AS blocked_by,
		left(a.query, 2000) AS query, coalesce(r.rolsuper, false) AS superuser
		FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
		WHERE a.pid <> pg_backend_pid() AND (a.backend_type = 'client backend' OR a.backend_type IS NULL AND a.datid IS NOT NULL)`)
	err := m.read(ctx, "sessions", query, &db.Sessions)
	for i := range db.Sessions {
		db.Sessions[i].Query = cut(Normalise(db.Sessions[i].Query), 500)
	}
	return err
}

// quoteName quotes an identifier where it needs it.
func quoteName(name string) string {
	plain := name != "" && !isDigit(name[0])
	for _, r := range name {
		plain = plain && (r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9')
	}
	if plain && !reserved(name) {
		return name
	}
	out := `"`
	for _, r := range name {
		if r == '"' {
			out += `"`
		}
		out += string(r)
	}
	return out + `"`
}

// reserved names the keywords that people give to tables and columns.
func reserved(name string) bool {
	switch name {
	case "user", "order", "group", "table", "select", "from", "where", "to", "end", "limit", "offset", "default", "check",
		"references", "primary", "desc", "asc", "column", "constraint", "all", "and", "any", "or", "not", "null", "using",
		"when", "then", "case", "create", "grant", "in", "into", "on", "only", "union", "unique", "window", "with", "as",
		"both", "cast", "collate", "do", "else", "except", "false", "true", "fetch", "for", "foreign", "having", "initially",
		"intersect", "lateral", "leading", "localtime", "placing", "returning", "some", "symmetric", "trailing", "variadic",
		"analyse", "analyze", "array", "asymmetric", "current_date", "current_role", "current_time", "current_timestamp", "current_user", "deferrable", "distinct", "session_user":
		return true
	}
	return false
}

// qualified is schema.name, quoted where needed.
func qualified(schema, name string) string {
	return quoteName(schema) + "." + quoteName(name)
}
