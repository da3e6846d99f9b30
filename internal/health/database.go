package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// ErrDown is wrapped by the errors of functions given to checks when the
// service itself does not answer: its container is stopped, nothing listens.
// Any other error leaves open whether it is up.
var ErrDown = errors.New("service down")

// ErrUnclear is wrapped by the errors of such functions when the way to the
// service failed, and not the service: Docker does not answer.
var ErrUnclear = errors.New("service not reached")

// Session is a session on the database.
type Session interface {
	// Row runs a query of one row and reads it into dest.
	Row(ctx context.Context, query string, dest ...any) error
	Close(ctx context.Context) error
}

// DatabaseID is the ID of the check.
const DatabaseID = "database"

// DatabaseOptions say how the database is reached.
type DatabaseOptions struct {
	// Connect opens a session. Its error wraps ErrDown where nobody answers, and
	// has a method SQLState where the server refused.
	Connect func(ctx context.Context) (Session, error)
	// Service is the compose service, for commands to type.
	Service string

	Limits Limits
	Limit  time.Duration // 0: 3 s
}

// Database checks that the database answers, its connections against
// max_connections, the longest transaction, the WAL that replication slots hold
// back, and the age of the oldest transaction ID.
func Database(opt DatabaseOptions) check.Probe {
	x := database{opt}
	return check.Probe{ID: DatabaseID, Limit: orLimit(opt.Limit), Run: x.run}
}

type database struct{ DatabaseOptions }

const (
	rbDatabase = "RB-001"
	rbQueries  = "RB-006"
)

func (x *database) run(ctx context.Context) check.Result {
	ctx, cancel := withMargin(ctx)
	defer cancel()
	f := findings{limits: x.Limits}
	if err := x.look(ctx, &f); err != nil {
		f.add(x.fault(ctx, err))
	}
	return f.result(DatabaseID)
}

func (x *database) look(ctx context.Context, f *findings) error {
	s, err := x.Connect(ctx)
	if err != nil {
		return err
	}
	defer goodbye(ctx, s)
	var a activity
	if err := s.Row(ctx, activityQuery, a.dest()...); err != nil {
		return fmt.Errorf("reading its statistics: %w", err)
	}
	a.judge(f, x.Service)
	return nil
}

// fault is the finding for a database that could not be looked into.
func (x *database) fault(ctx context.Context, err error) finding {
	logs := "docker compose logs --tail 50 " + x.Service
	bad := finding{status: check.Unknown, text: oneLine(err), action: logs, runbooks: []string{rbDatabase}}
	down := func() { bad.status, bad.alert = check.Critical, runbook.ServiceDown }
	var refused interface{ SQLState() string }
	switch {
	case errors.As(err, &refused):
		switch refused.SQLState() {
		case "53300": // too_many_connections
			down()
			bad.text = "all connections are taken: the server lets nobody in"
			bad.action = "docker compose exec " + x.Service + " psql -U postgres -c 'SELECT * FROM pg_stat_activity'; restart the service that hoards them"
			bad.runbooks = []string{rbDatabase, "4.1"}
		case "28P01", "28000":
			bad.action = "check the password in DATABASE_URL"
		case "57P01", "57P02", "57P03": // shutting down, crash, starting up
			down()
		}
	default:
		if cause := downCause(ctx, err); cause != "" {
			down()
			bad.text = cause
		}
	}
	return bad
}

// downCause says why a service does not answer, "" where it is not known whether
// it is down.
func downCause(ctx context.Context, err error) string {
	text := oneLine(err)
	switch {
	case errors.Is(err, ErrUnclear):
		return ""
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "no answer in time: " + text
	case errors.Is(err, ErrDown), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return text
	}
	return ""
}

// activity is the row of activityQuery.
type activity struct {
	version     string
	max         int     // max_connections
	used        int     // sessions of clients, without our own
	hidden      int     // of which our role may not see the state
	longest     float64 // seconds of the oldest transaction; 0 if there is none
	longestWhat *string // whose it is
	slots       int
	slotBytes   float64 // WAL held back by the slot that holds back most
	slotWhat    *string
	lostSlots   *string // names of those that are of no use any more
	oldest      float64 // age of the oldest transaction ID, in transactions
	oldestIn    *string // database
	standby     bool
}

func (a *activity) dest() []any {
	return []any{
		&a.version, &a.max, &a.used, &a.hidden, &a.longest, &a.longestWhat,
		&a.slots, &a.slotBytes, &a.slotWhat, &a.lostSlots, &a.oldest, &a.oldestIn, &a.standby,
	}
}

// activityQuery reads it all in one round trip. A dump's own transaction is as
// long as the dump and no fault. Of other roles' sessions a role without
// pg_read_all_stats sees neither kind nor state.
const activityQuery = `
WITH clients AS (
	SELECT pid, usename, application_name, state, xact_start, datid,
	       backend_type IS NULL AS hidden
	FROM pg_stat_activity
	WHERE pid <> pg_backend_pid() AND datid IS NOT NULL
	  AND coalesce(backend_type, 'client backend') = 'client backend'
), longest AS (
	SELECT extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age,
	       format('pid %s, role %s, %s', pid, usename, coalesce(nullif(state, ''), 'state unknown')) AS what
	FROM clients
	WHERE xact_start IS NOT NULL AND application_name NOT IN ('pg_dump', 'pg_dumpall')
	  AND application_name NOT LIKE 'escrowctl%'
	ORDER BY xact_start LIMIT 1
), slots AS (
	SELECT slot_name, wal_status,
	       format('%s, %s', slot_name, CASE WHEN active THEN 'active' ELSE 'no consumer' END) AS what,
	       coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn), 0)::float8 AS kept
	FROM pg_replication_slots
), oldest AS (
	SELECT datname::text, greatest(age(datfrozenxid), mxid_age(datminmxid))::float8 AS age
	FROM pg_database ORDER BY 2 DESC LIMIT 1
)
SELECT split_part(current_setting('server_version'), ' ', 1),
       current_setting('max_connections')::int,
       (SELECT count(*)::int FROM clients),
       (SELECT count(*)::int FROM clients WHERE hidden),
       coalesce((SELECT age FROM longest), 0), (SELECT what FROM longest),
       (SELECT count(*)::int FROM slots),
       coalesce((SELECT max(kept) FROM slots), 0), (SELECT what FROM slots ORDER BY kept DESC LIMIT 1),
       (SELECT string_agg(slot_name, ', ') FROM slots WHERE wal_status = 'lost'),
       (SELECT age FROM oldest), (SELECT datname FROM oldest),
       pg_is_in_recovery()`

func (a *activity) judge(f *findings, service string) {
	psql := func(sql string) string {
		return fmt.Sprintf(`docker compose exec %s psql -U indexer -d stellar_escrow -c "%s"`, service, sql)
	}
	f.fact("PostgreSQL %s", clean(a.version))
	if a.standby {
		f.fact("a standby")
	}
	text := fmt.Sprintf("%d of %d connections", a.used, a.max)
	bad := finding{text: text, action: psql("SELECT usename, application_name, state, count(*) FROM pg_stat_activity GROUP BY 1, 2, 3 ORDER BY 4 DESC"), runbooks: []string{"4.1", rbDatabase}}
	if !f.judge("connections", runbook.PostgresConnections, float64(a.used)/float64(max(1, a.max)), bad) {
		f.fact("%s", text)
	}

	text = "longest transaction " + span(seconds(a.longest))
	bad = finding{text: text + " (" + clean(deref(a.longestWhat)) + ")", action: psql("SELECT pid, usename, state, wait_event_type, xact_start, left(query, 60) FROM pg_stat_activity WHERE xact_start IS NOT NULL ORDER BY xact_start"), runbooks: []string{rbQueries}}
	if !f.judge("longest_transaction", runbook.DBTransaction, a.longest, bad) && a.longestWhat != nil {
		f.fact("longest %s", span(seconds(a.longest)))
	}
	if a.hidden > 0 {
		f.unknown(`GRANT pg_monitor TO the role of DATABASE_URL`, "%d sessions of other roles are hidden from ours: their transactions are not known", a.hidden)
	}

	slot := clean(deref(a.slotWhat))
	bad = finding{text: fmt.Sprintf("slot %s keeps %s of WAL", slot, bytesText(a.slotBytes)), action: psql("SELECT slot_name, active, restart_lsn, wal_status FROM pg_replication_slots"), runbooks: []string{rbDatabase}}
	if a.slots > 0 && !f.judge("slot_wal", runbook.DBSlotWAL, a.slotBytes, bad) {
		f.fact("%d slots keep %s at most", a.slots, bytesText(a.slotBytes))
	}
	if a.lostSlots != nil {
		f.add(finding{
			status: check.Warning, text: "slots without their WAL, whose consumers must be set up anew: " + clean(*a.lostSlots),
			action: psql("SELECT pg_drop_replication_slot('NAME')"), runbooks: []string{rbDatabase},
		})
	}

	text = "XID age " + count(a.oldest)
	bad = finding{text: "oldest transaction ID is " + count(a.oldest) + " back in " + clean(deref(a.oldestIn)), action: psql("SELECT datname, age(datfrozenxid), mxid_age(datminmxid) FROM pg_database ORDER BY 2 DESC"), runbooks: []string{rbDatabase}}
	if !f.judge("wraparound_age", runbook.DBWraparound, a.oldest, bad) {
		f.fact("%s", text)
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// oneLine is an error's text on one line, safe to print.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f }), "; ")
}
