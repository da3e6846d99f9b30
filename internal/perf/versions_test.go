package perf

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/postgres"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// TestVersions analyses and maintains servers of other versions than the host's:
// one from before and one from after the columns changed.
func TestVersions(t *testing.T) {
	for _, major := range []int{13, 17} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			url := testenv.Docker(t).PostgresVersion(t, major, "shared_preload_libraries=pg_stat_statements", "autovacuum_naptime=3600", "track_io_timing=on")
			version(t, url, major)
		})
	}
}

func version(t *testing.T, url string, major int) {
	own, run := connect(t, url), connect(t, url)
	enabled, err := EnableStatements(t.Context(), worker{run}, postgres.NewReadOnly(own), time.Now, false)
	if err != nil || !enabled.Created {
		t.Fatalf("%+v, %v", enabled, err)
	}
	for _, sql := range strings.Split(`CREATE TABLE trades (id bigint PRIMARY KEY, seller text NOT NULL);
		INSERT INTO trades SELECT g, 'seller-' || g FROM generate_series(1, 20000) g;
		CREATE INDEX trades_seller ON trades (seller); CREATE INDEX trades_again ON trades (seller);
		VACUUM (ANALYZE) trades`, ";") {
		exec(t, run, sql)
	}
	for range 60 {
		exec(t, run, "SELECT * FROM trades WHERE seller = $1", "seller-5")
		exec(t, run, "SELECT pg_sleep($1) FROM trades LIMIT 1", 0.0005)
	}
	settle(t, run, major)
	first := look(t, own, 16<<30)
	for _, s := range first.Sources {
		if s.State != Read {
			t.Errorf("%s: %s %s", s.Name, s.State, s.Reason)
		}
	}
	report := Analyse(first, nil, Options{Limits: freshLimits()})
	want(t, report, "index.duplicate", "trades_again", check.Warning)
	if len(report.Findings) != 1 || report.Database.MaxConnections != 100 || first.Database.Server.VersionNum/10000 != major || first.Database.Server.CheckpointsReset.IsZero() {
		t.Errorf("%+v", first.Database.Server)
		logFindings(t, report)
	}
	for range 60 {
		exec(t, run, "SELECT pg_sleep($1) FROM trades LIMIT 1", 0.055)
	}
	exec(t, run, "UPDATE trades SET seller = 'x'")
	settle(t, run, major)
	second := later(look(t, own, 16<<30), time.Minute)
	report = Analyse(second, first, Options{Limits: freshLimits()})
	want(t, report, "query.regressed", "", check.Critical, "60 calls")
	if err := Explain(t.Context(), postgres.NewReadOnly(own), report, time.Now); err != nil || len(report.Plans) < 2 {
		t.Fatalf("%d plans: %v", len(report.Plans), err)
	}
	for _, p := range report.Plans {
		if text := strings.Join(p.Lines, "\n"); strings.Contains(p.Text, "FROM trades") && !strings.Contains(text, "trades") || strings.Contains(p.Text, "seller =") && !strings.Contains(text, "Index Cond: (seller = $1)") && !strings.HasPrefix(p.Text, "UPDATE") {
			t.Errorf("%s: %q %s", p.Text, text, p.Missing)
		}
	}
	// Maintenance, and that its success is seen in the server's counters.
	db, err := LoadForMaintenance(t.Context(), postgres.NewReadOnly(own), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	tasks := PlanMaintenance(db, MaintainOptions{Limits: DefaultLimits()})
	exec(t, run, "SET vacuum_cost_delay = '5ms'; SET vacuum_cost_limit = 100; SET vacuum_cost_page_hit = 20")
	watched := 0
	m := Maintenance{Worker: worker{run}, Look: postgres.NewReadOnly(own), Now: time.Now, Progress: func(Task, int64, int64) { watched++ }}
	done := m.Run(t.Context(), tasks)
	if len(done) != 1 || done[0].Kind != KindVacuum || done[0].Status != check.OK || done[0].DeadRows < 20000 || done[0].DeadRowsAfter != 0 {
		t.Errorf("%+v", done)
	}
	t.Logf("progress was told %d times in %.1f s", watched, done[0].Seconds)
	exec(t, run, "SELECT pg_stat_statements_reset()")
	for range 61 {
		exec(t, run, "SELECT pg_sleep($1) FROM trades LIMIT 1", 0.0005)
	}
	report = Analyse(later(look(t, own, 16<<30), time.Hour), second, Options{Limits: freshLimits()})
	if q := report.Queries.ByCalls[0]; q.Judged.Calls != 61 || !strings.Contains(strings.Join(report.Notes, " "), "pg_stat_statements was reset") {
		t.Errorf("%d calls since the reset; %q", q.Judged.Calls, report.Notes)
	}
}

// settle waits until a session's counters are the server's. From version 15 on
// that can be asked for; before, a collector gets them within a second.
func settle(t *testing.T, conn *pgx.Conn, major int) {
	t.Helper()
	if major >= 15 {
		flush(t, conn)
		return
	}
	time.Sleep(1200 * time.Millisecond)
	exec(t, conn, "SELECT 1")
	time.Sleep(1200 * time.Millisecond)
}

// TestStatementColumns asks each version of pg_stat_statements only for columns
// that its documentation has.
func TestStatementColumns(t *testing.T) {
	const all = `userid dbid queryid query calls rows shared_blks_hit shared_blks_read shared_blks_dirtied shared_blks_written
		local_blks_hit local_blks_read local_blks_dirtied local_blks_written temp_blks_read temp_blks_written `
	const old = all + "total_time min_time max_time mean_time stddev_time blk_read_time blk_write_time "
	const exec = all + `plans total_plan_time min_plan_time max_plan_time mean_plan_time stddev_plan_time
		total_exec_time min_exec_time max_exec_time mean_exec_time stddev_exec_time wal_records wal_fpi wal_bytes `
	const blk, top, temp = "blk_read_time blk_write_time ", "toplevel ", "temp_blk_read_time temp_blk_write_time jit_functions "
	const shared = "shared_blk_read_time shared_blk_write_time local_blk_read_time local_blk_write_time jit_deform_count stats_since minmax_stats_since "
	column := regexp.MustCompile(`\bs\.(\w+)`)
	for _, v := range []struct {
		name, columns string
		must          []string
	}{
		{"1.7, PostgreSQL 12", old, []string{"total_time", "max_time", "blk_read_time"}},
		{"1.8, PostgreSQL 13", exec + blk, []string{"total_exec_time", "max_exec_time", "blk_read_time"}},
		{"1.9, PostgreSQL 14", exec + blk + top, []string{"total_exec_time", "toplevel"}},
		{"1.10, PostgreSQL 15 and 16", exec + blk + top + temp, []string{"total_exec_time", "toplevel", "blk_read_time"}},
		{"1.11, PostgreSQL 17", exec + top + temp + shared, []string{"shared_blk_read_time", "shared_blk_write_time", "stats_since"}},
		{"1.12, PostgreSQL 18", exec + top + temp + shared + "wal_buffers_full parallel_workers_to_launch parallel_workers_launched", []string{"shared_blk_read_time", "stats_since"}},
	} {
		columns := strings.Fields(v.columns)
		query := extension{Schema: "public", Columns: columns}.query()
		var asked []string
		for _, m := range column.FindAllStringSubmatch(query, -1) {
			asked = append(asked, m[1])
			if !slices.Contains(columns, m[1]) {
				t.Errorf("%s: there is no column %s", v.name, m[1])
			}
		}
		for _, name := range v.must {
			if !slices.Contains(asked, name) {
				t.Errorf("%s: %s is not asked for", v.name, name)
			}
		}
	}
}
