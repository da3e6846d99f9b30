package perf

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// maxText is how much of a statement's text is read, in characters.
const maxText = 4000

// extension is the state of pg_stat_statements.
type extension struct {
	Version   string   `json:"version"` // empty: not created in this database
	Schema    string   `json:"schema"`
	Available string   `json:"available"`
	Loaded    bool     `json:"loaded"`
	Columns   []string `json:"columns"`
	Info      bool     `json:"info"`
}

// statements reads pg_stat_statements. What stands in the way of that is told
// with the way out.
func (m *meter) statements(ctx context.Context, db *Database) Source {
	start := m.now()
	source := Source{Name: SourceStatements, State: Read}
	fail := func(reason, remedy string) Source {
		source.State, source.Reason, source.Remedy = Failed, reason, remedy
		source.Seconds = m.now().Sub(start).Seconds()
		return source
	}
	ext, err := m.extension(ctx)
	if err != nil {
		return fail(err.Error(), "")
	}
	if reason, remedy := ext.missing(); reason != "" {
		return fail(reason, remedy)
	}
	st := &Statements{Version: ext.Version, IOTimed: db.Settings["track_io_timing"] == "on"}
	if ext.Info {
		var info struct {
			Evicted int64     `json:"dealloc"`
			Reset   time.Time `json:"stats_reset"`
		}
		if err := m.read(ctx, "statements info", "row_to_json(t) FROM "+quoteName(ext.Schema)+".pg_stat_statements_info t", &info); err == nil {
			st.Evicted, st.Reset = info.Evicted, info.Reset
		}
	}
	if err := m.read(ctx, "statements", ext.query(), &st.List); err != nil {
		switch sqlState(err) {
		case "55000":
			return fail("pg_stat_statements is created but not loaded", preloadRemedy)
		case "42501":
			return fail("no right to read pg_stat_statements", fmt.Sprintf("GRANT pg_monitor TO %s;", quoteName(db.Server.Role)))
		}
		return fail(err.Error(), "")
	}
	_, _ = fmt.Sscan(db.Settings["pg_stat_statements.max"], &st.Max)
	st.sift()
	outsiders, err := m.outsiders(ctx, st)
	if err != nil {
		source.State, source.Reason = Partial, "which roles belong to this database is not known: "+err.Error()
	}
	st.leaveOut(outsiders)
	db.Statements = st
	if st.Hidden > 0 {
		source.State = Partial
		source.Reason = fmt.Sprintf("the text of %d statements of other roles is hidden from %s", st.Hidden, db.Server.Role)
		source.Remedy = fmt.Sprintf("GRANT pg_monitor TO %s;", quoteName(db.Server.Role))
	}
	source.Seconds = m.now().Sub(start).Seconds()
	return source
}

const preloadRemedy = "add pg_stat_statements to shared_preload_libraries (command: postgres -c shared_preload_libraries=pg_stat_statements), restart the server, then escrowctl perf maintain --enable-statements"

func (m *meter) extension(ctx context.Context) (extension, error) {
	// The library's settings exist only where it is loaded; the list of libraries
	// itself may be hidden from us.
	const query = `json_build_object(
		'version', (SELECT extversion FROM pg_extension WHERE extname = 'pg_stat_statements'),
		'schema', (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'),
		'available', (SELECT default_version FROM pg_available_extensions WHERE name = 'pg_stat_statements'),
		'loaded', EXISTS (SELECT 1 FROM pg_settings WHERE name = 'pg_stat_statements.max'),
		'info', EXISTS (SELECT 1 FROM pg_extension e JOIN pg_class c ON c.relnamespace = e.extnamespace AND c.relname = 'pg_stat_statements_info' WHERE e.extname = 'pg_stat_statements'),
		'columns', (SELECT json_agg(a.attname) FROM pg_extension e JOIN pg_class c ON c.relnamespace = e.extnamespace AND c.relname = 'pg_stat_statements'
			JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE e.extname = 'pg_stat_statements'))`
	var ext extension
	err := m.read(ctx, "pg_stat_statements", query, &ext)
	return ext, err
}

// missing says what stands between us and the statements, "" if nothing does.
func (e extension) missing() (reason, remedy string) {
	switch {
	case e.Version == "" && e.Available == "" && !e.Loaded:
		return "pg_stat_statements is not installed on the server", "install PostgreSQL's contrib package there, then " + preloadRemedy
	case !e.Loaded:
		return "pg_stat_statements is not loaded: it needs shared_preload_libraries and a restart", preloadRemedy
	case e.Version == "":
		return "pg_stat_statements is loaded but not created in this database", "escrowctl perf maintain --enable-statements (CREATE EXTENSION pg_stat_statements)"
	}
	return "", ""
}

// query asks for the columns by the names that this version has: they changed
// with 1.8 (total_time), 1.9 (toplevel), 1.11 (blk_read_time, stats_since).
func (e extension) query() string {
	has := func(name string) bool { return slices.Contains(e.Columns, name) }
	first := func(names ...string) string {
		for _, n := range names {
			if has(n) {
				return "s." + n
			}
		}
		return "0"
	}
	columns := []string{
		"coalesce(s.queryid, 0)::text AS id", `r.rolname AS "user"`, "s.calls", "s.rows",
		first("total_exec_time", "total_time") + " AS total_ms", first("max_exec_time", "max_time") + " AS max_ms",
		first("stddev_exec_time", "stddev_time") + " AS stddev_ms",
		"s.shared_blks_hit AS blocks_hit", "s.shared_blks_read AS blocks_read", "s.temp_blks_read + s.temp_blks_written AS blocks_temp",
		first("shared_blk_read_time", "blk_read_time") + " + " + first("shared_blk_write_time", "blk_write_time") + " AS io_ms",
		fmt.Sprintf("left(s.query, %d) AS text", maxText),
	}
	if has("toplevel") {
		columns = append(columns, "NOT s.toplevel AS nested")
	}
	if has("stats_since") {
		columns = append(columns, "s.stats_since AS since")
	}
	return list("SELECT " + strings.Join(columns, ", ") + " FROM " + quoteName(e.Schema) + `.pg_stat_statements s
		JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database() LEFT JOIN pg_roles r ON r.oid = s.userid`)
}

// outsiders returns those of the statements' roles that can read or write no
// table of this database: what they run here is about the server, not the
// platform's. Superusers can. Tables of extensions do not count, since every role
// may read pg_stat_statements itself. Without any table nobody is an outsider.
func (m *meter) outsiders(ctx context.Context, st *Statements) ([]string, error) {
	names := map[string]bool{}
	for _, s := range st.List {
		if s.User != "" {
			names[s.User] = true
		}
	}
	if len(names) == 0 {
		return nil, nil // a database of which nobody has asked anything yet
	}
	const query = `coalesce(json_agg(r.rolname), '[]'::json) FROM pg_roles r
		WHERE r.rolname IN (SELECT json_array_elements_text($1::json)) AND EXISTS (SELECT 1 FROM pg_class c WHERE ` + platformTables + `)
		AND NOT EXISTS (SELECT 1 FROM pg_class c WHERE ` + platformTables + `
			AND (has_table_privilege(r.oid, c.oid, 'DELETE') OR has_any_column_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE')))`
	list, err := json.Marshal(slices.Sorted(maps.Keys(names)))
	if err != nil {
		return nil, err
	}
	var out []string
	err = m.read(ctx, "roles", query, &out, string(list))
	return out, err
}

// platformTables are those that initdb (OIDs below 16384) and extensions did not
// make.
const platformTables = `c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.oid >= 16384
			AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')`

// leaveOut takes the statements of outsiders, and of roles that are dropped, out
// of the list.
func (s *Statements) leaveOut(outsiders []string) {
	sums := map[string]Outsider{}
	s.List = slices.DeleteFunc(s.List, func(st Statement) bool {
		if st.User != "" && !slices.Contains(outsiders, st.User) {
			return false
		}
		o := sums[st.User]
		sums[st.User] = Outsider{st.User, o.Statements + 1, o.Total + st.TotalMS/1000}
		return true
	})
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		s.Outsiders = append(s.Outsiders, sums[name])
	}
}

// sift leaves out utility statements and our own, and makes the texts fit to
// be kept.
func (s *Statements) sift() {
	s.Tracked = len(s.List)
	s.List = slices.DeleteFunc(s.List, func(st Statement) bool {
		if st.Text == "<insufficient privilege>" {
			s.Hidden++
			return true
		}
		return ours(st.Text) || !queries(st.Text)
	})
	s.Forgotten = s.Tracked - len(s.List) - s.Hidden
	for i := range s.List {
		s.List[i].Text = Normalise(s.List[i].Text)
	}
}
