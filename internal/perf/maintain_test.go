package perf

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/postgres"
)

type worker struct{ conn *pgx.Conn }

func (w worker) Exec(ctx context.Context, sql string) error {
	_, err := w.conn.Exec(ctx, sql)
	return err
}

// slowLook takes its time to ask how far a vacuum is, so that the vacuum ends
// meanwhile.
type slowLook struct {
	*postgres.ReadOnly
	conn *pgx.Conn
}

func (s *slowLook) JSON(ctx context.Context, query string, args ...any) ([]byte, error) {
	if strings.Contains(query, "heap_blks_total") {
		if err := sleep(ctx, 700*time.Millisecond); err != nil {
			s.conn.Close(context.Background()) // as the driver does
			return nil, err
		}
	}
	return s.ReadOnly.JSON(ctx, query, args...)
}

// TestProgress vacuums a table slowly enough to be watched.
func TestProgress(t *testing.T) {
	t.Parallel()
	pg := statsServer(t)
	pg.CreateDB(t, "slow")
	pg.Psql(t, "slow", `CREATE TABLE wide (id int, filling text) WITH (autovacuum_enabled = off);
		INSERT INTO wide SELECT g, repeat('x', 700) FROM generate_series(1, 4000) g;
		SELECT pg_stat_force_next_flush(); ANALYZE wide; UPDATE wide SET id = 0; SELECT pg_stat_force_next_flush()`)
	own, vacuum := connect(t, pg.URL("slow")), connect(t, pg.URL("slow"))
	exec(t, vacuum, "SET vacuum_cost_delay = '20ms'; SET vacuum_cost_limit = 100; SET vacuum_cost_page_hit = 10")
	db, err := LoadForMaintenance(t.Context(), postgres.NewReadOnly(own), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	tasks := PlanMaintenance(db, MaintainOptions{Limits: DefaultLimits()})
	if len(tasks) != 1 {
		t.Fatalf("tasks %+v", tasks)
	}
	var seen []int64
	var whole int64
	m := Maintenance{Worker: worker{vacuum}, Look: &slowLook{postgres.NewReadOnly(own), own}, Now: time.Now, Progress: func(task Task, done, total int64) {
		if task.Object != "public.wide" || done > total {
			t.Errorf("%s: %d of %d", task.Object, done, total)
		}
		seen, whole = append(seen, done), total
	}}
	done := m.Run(t.Context(), tasks)
	pages := tasks[0].Bytes / 8192
	if len(seen) == 0 || !slices.IsSorted(seen) || whole != pages {
		t.Errorf("progress %v of %d, the table has %d pages; it took %.1f s", seen, whole, pages, done[0].Seconds)
	}
	if done[0].Status != check.OK || done[0].DeadRows != 4000 || done[0].DeadRowsAfter != 0 {
		t.Errorf("%+v", done[0])
	}
}
