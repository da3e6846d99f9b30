package perf

import (
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// TestCost looks at a database with 2,000 tables and 5,000 statements. The
// bounds are for what grows with their square, on the slowest machine;
// docs/perf.md has what was measured on a quiet one.
func TestCost(t *testing.T) {
	t.Parallel()
	pg := statsServer(t, testenv.PGSetting("pg_stat_statements.max", "10000"), testenv.PGSetting("pg_stat_statements.track", "all"))
	pg.CreateDB(t, "many")
	pg.Psql(t, "many", `CREATE EXTENSION pg_stat_statements;
		DO $$ BEGIN FOR i IN 1..2000 LOOP EXECUTE format('CREATE TABLE t%s (id bigint PRIMARY KEY, a int, b text)', i); END LOOP; END $$;
		DO $$ BEGIN FOR i IN 1..2000 LOOP EXECUTE format('SELECT 1 FROM t%s WHERE id = 1', i); EXECUTE format('SELECT 1 FROM t%s WHERE a = 1', i); EXECUTE format('SELECT 1 FROM t%s WHERE b = ''x''', i); END LOOP; END $$;`)
	own := connect(t, pg.URL("many"))
	backend := int(own.PgConn().PID())
	cpu := cpuSeconds(t, backend)
	start := time.Now()
	first := look(t, own, 0)
	cpu = cpuSeconds(t, backend) - cpu
	report := Analyse(first, nil, Options{Limits: freshLimits()})
	took := time.Since(start)
	db := first.Database
	if len(db.Tables) != 2000 || len(db.Statements.List) < 5000 {
		t.Fatalf("%d tables, %d statements", len(db.Tables), len(db.Statements.List))
	}
	t.Logf("%s in all; %d queries in %.2f s (slowest: %s, %.2f s), %d bytes of answers", took, db.Cost.Queries, db.Cost.Seconds, db.Cost.Slowest, db.Cost.SlowestS, db.Cost.Bytes)
	if t.Logf("%.2f s of CPU in the server", cpu); cpu > 5 {
		t.Errorf("it took %.2f s of the server's CPU", cpu)
	}
	if db.Cost.Queries > 20 || db.Cost.Bytes > 8<<20 {
		t.Errorf("%d queries, %d bytes of answers", db.Cost.Queries, db.Cost.Bytes)
	}
	if len(report.Findings) > 0 {
		logFindings(t, report)
		t.Error("findings")
	}
	archive := Archive{Dir: t.TempDir()}
	first.Trim(report.Queries)
	if err := archive.Save(first); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	back, err := archive.Load(first.ID())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("snapshot read in %s", time.Since(start))
	if len(back.Database.Statements.List) != len(db.Statements.List) {
		t.Error("the snapshot lacks statements")
	}
	again := Analyse(later(look(t, own, 0), 24*time.Hour), back, Options{Limits: freshLimits()})
	if len(again.Findings) > 0 || !again.Queries.Compared || len(again.Queries.New) > 0 {
		logFindings(t, again)
		t.Errorf("%d new queries", len(again.Queries.New))
	}
}
