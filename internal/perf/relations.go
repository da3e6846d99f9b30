package perf

import "context"

// Asking for a relation's size takes a lock on it, and behind an exclusive one
// that means waiting. Relations that somebody holds, or waits to hold, that way
// are sized by what the last vacuum or analyze counted.
const lockedRelations = `locked AS MATERIALIZED (
		SELECT DISTINCT coalesce(i.indrelid, l.relation) AS table_oid
		FROM pg_locks l LEFT JOIN pg_index i ON i.indexrelid = l.relation
		WHERE l.mode = 'AccessExclusiveLock' AND l.relation IS NOT NULL AND l.pid <> pg_backend_pid()
		AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))`

const userSchemas = `n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_toast%' AND n.nspname NOT LIKE 'pg\_temp%'`

// minPages is the size in pages from which a table's columns are looked at: 1 MiB.
const minPages = 128

func (m *meter) tables(ctx context.Context, db *Database) error {
	query := func(exact bool) string {
		return list(`WITH ` + lockedRelations + `, threshold AS (
			SELECT current_setting('autovacuum_vacuum_threshold')::float8 AS base, current_setting('autovacuum_vacuum_scale_factor')::float8 AS scale),
			option AS MATERIALIZED (
			SELECT c.oid, max(o.option_value) FILTER (WHERE o.option_name = 'fillfactor') AS fillfactor,
				max(o.option_value) FILTER (WHERE o.option_name = 'autovacuum_enabled') AS enabled,
				max(o.option_value) FILTER (WHERE o.option_name = 'autovacuum_vacuum_threshold') AS base,
				max(o.option_value) FILTER (WHERE o.option_name = 'autovacuum_vacuum_scale_factor') AS scale
			FROM pg_class c, pg_options_to_table(c.reloptions) o WHERE c.reloptions IS NOT NULL AND c.relkind IN ('r', 'm') GROUP BY c.oid)
			SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, c.relpages::bigint AS pages, c.reltuples::float8 AS rows,
			coalesce(s.n_live_tup, 0) AS live_rows, coalesce(s.n_dead_tup, 0) AS dead_rows, coalesce(s.n_mod_since_analyze, 0) AS modified_since_analyze,
			` + sizeColumns(exact) + `,
			coalesce(s.seq_scan, 0) AS seq_scans, coalesce(s.seq_tup_read, 0) AS seq_rows, coalesce(s.idx_scan, 0) AS index_scans,
			coalesce(s.n_tup_ins, 0) AS inserted, coalesce(s.n_tup_upd, 0) AS updated, coalesce(s.n_tup_del, 0) AS deleted, coalesce(s.n_tup_hot_upd, 0) AS hot_updated,
			greatest(s.last_vacuum, s.last_autovacuum) AS last_vacuum, greatest(s.last_analyze, s.last_autoanalyze) AS last_analyze,
			CASE WHEN c.relfrozenxid::text <> '0' THEN age(c.relfrozenxid)::bigint ELSE 0 END AS xid_age,
			coalesce(o.fillfactor::int, 100) AS fillfactor, coalesce(o.enabled IN ('false', 'off', 'no', '0'), false) AS autovacuum_off,
			coalesce(o.base::float8, h.base) + coalesce(o.scale::float8, h.scale) * greatest(c.reltuples, 0) AS autovacuum_threshold
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN threshold h
			LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid LEFT JOIN option o ON o.oid = c.oid LEFT JOIN locked k ON k.table_oid = c.oid
			WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND ` + userSchemas)
	}
	return m.readSized(ctx, "tables", query, &db.Tables)
}

// sizeColumns are those of a table's own and its TOAST's size; the indexes are
// added when they have been read, since pg_total_relation_size is ten times as
// much work for the server.
func sizeColumns(exact bool) string {
	const estimate = `c.relpages::bigint * current_setting('block_size')::bigint`
	if !exact {
		return estimate + ` AS heap_bytes, ` + estimate + ` AS total_bytes, true AS size_estimated`
	}
	return `CASE WHEN k.table_oid IS NULL THEN coalesce(pg_relation_size(c.oid), 0) ELSE ` + estimate + ` END AS heap_bytes,
			CASE WHEN k.table_oid IS NULL THEN coalesce(pg_relation_size(c.oid), 0) + coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0) ELSE ` + estimate + ` END AS total_bytes,
			k.table_oid IS NOT NULL AS size_estimated`
}

// readSized reads with sizes as they are, and where a lock that came in between
// prevents that, with those of the last vacuum.
func (m *meter) readSized(ctx context.Context, name string, query func(exact bool) string, into any) error {
	err := m.read(ctx, name, query(true), into)
	if code := sqlState(err); code == "55P03" || code == "57014" {
		return m.read(ctx, name, query(false), into)
	}
	return err
}

func (m *meter) columns(ctx context.Context, db *Database) error {
	query := list(`SELECT a.attrelid::bigint AS table_oid, a.attnum AS number, a.attname AS name, a.attlen AS length, a.attalign::text AS align,
		s.avg_width::float8 AS width, s.null_frac::float8 AS null_share, s.n_distinct::float8 AS distinct
		FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname AND NOT s.inherited
		WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.relpages >= $1 AND ` + userSchemas + `
		ORDER BY a.attrelid, a.attnum`)
	return m.read(ctx, "columns", query, &db.Columns, minPages)
}

func (m *meter) indexes(ctx context.Context, db *Database) error {
	query := func(exact bool) string {
		size := `c.relpages::bigint * current_setting('block_size')::bigint AS bytes`
		if exact {
			size = `CASE WHEN k.table_oid IS NULL THEN coalesce(pg_relation_size(c.oid), 0) ELSE c.relpages::bigint * current_setting('block_size')::bigint END AS bytes`
		}
		return list(`WITH ` + lockedRelations + `
		SELECT i.indexrelid::bigint AS oid, i.indrelid::bigint AS table_oid, n.nspname AS schema, t.relname AS table, c.relname AS name, m.amname AS method,
		i.indisunique AS unique, i.indisprimary AS primary, i.indisexclusion AS exclusion, i.indisreplident AS replica_identity,
		NOT (i.indisvalid AND i.indisready) AS invalid,
		EXISTS (SELECT 1 FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid OR p.relid = i.indrelid) AS building,
		con.conname AS constraint, i.indnkeyatts AS key_count, to_json(string_to_array(i.indkey::text, ' ')::int[]) AS keys,
		(SELECT json_agg(coalesce(a.attname, '(expression)') ORDER BY u.place) FROM unnest(string_to_array(i.indkey::text, ' ')::int[]) WITH ORDINALITY u (number, place)
			LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.number AND u.number > 0) AS columns,
		i.indclass::text AS classes, i.indcollation::text AS collations, i.indoption::text AS options,
		pg_get_expr(i.indpred, i.indrelid) AS predicate, pg_get_expr(i.indexprs, i.indrelid) AS expressions,
		` + size + `, c.relpages::bigint AS pages, c.reltuples::float8 AS rows,
		coalesce((SELECT o.option_value::int FROM pg_options_to_table(c.reloptions) o WHERE o.option_name = 'fillfactor'), 90) AS fillfactor,
		coalesce(pg_stat_get_numscans(c.oid), 0) AS scans
		FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
		JOIN pg_namespace n ON n.oid = t.relnamespace JOIN pg_am m ON m.oid = c.relam
		LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.contype IN ('p', 'u', 'x') LEFT JOIN locked k ON k.table_oid = i.indrelid
		WHERE c.relkind = 'i' AND t.relpersistence <> 't' AND ` + userSchemas)
	}
	return m.readSized(ctx, "indexes", query, &db.Indexes)
}

func (m *meter) foreignKeys(ctx context.Context, db *Database) error {
	query := list(`SELECT f.conname AS name, f.conrelid::bigint AS table_oid, n.nspname AS schema, c.relname AS table,
		to_json(f.conkey::int[]) AS keys, f.confrelid::regclass::text AS references, f.confrelid::bigint AS references_oid,
		(SELECT json_agg(a.attname ORDER BY u.place) FROM unnest(f.conkey) WITH ORDINALITY u (number, place)
			JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = u.number) AS columns
		FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE f.contype = 'f' AND c.relkind IN ('r', 'm') AND ` + userSchemas)
	return m.read(ctx, "foreign keys", query, &db.ForeignKeys)
}

// addIndexSizes makes the tables' total sizes whole.
func addIndexSizes(db *Database) {
	sizes := map[int64]int64{}
	for _, x := range db.Indexes {
		sizes[x.Table] += x.Bytes
	}
	for i := range db.Tables {
		db.Tables[i].TotalBytes += sizes[db.Tables[i].OID]
	}
}
