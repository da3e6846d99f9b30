package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/perf"
	"github.com/stellarescrow/escrowctl/internal/postgres"
)

// The limits of every query of the analysis. It never waits long for a lock:
// behind it everybody else would wait too.
const (
	perfStatementLimit = 15 * time.Second
	perfLockLimit      = 500 * time.Millisecond
)

// perfApp is how the analysis shows in pg_stat_activity.
const perfApp = "escrowctl perf"

// explain adds plans to the report. The analysis' own session is long closed by
// then: only the report says which statements matter.
func (p *perfSources) explain(ctx context.Context, r *perf.Report) error {
	if r.Queries == nil {
		return nil // the report says why
	}
	conn, _, _, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return perf.Explain(ctx, postgres.NewReadOnly(conn), r, p.deps.app.io.Now)
}

// database reads the database; that it cannot be reached is one line.
func (p *perfSources) database(ctx context.Context, snap *perf.Snapshot) []perf.Source {
	d := p.deps
	conn, target, inContainer, err := p.connect(ctx)
	if err != nil {
		source := perf.Source{Name: perf.SourceDatabase, State: perf.Failed, Reason: d.scrubber.Scrub(err.Error())}
		source.Full = pgCode(err) == tooManyConnections
		return []perf.Source{source}
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	memory := localMemory(target)
	if inContainer {
		memory = p.containerMemory(ctx, d.cfg.Dump.Service)
	}
	return perf.CollectDatabase(ctx, snap, postgres.NewReadOnly(conn), perf.DatabaseOptions{
		Address: target.Display(), Memory: memory, NoStatements: !p.wants(perf.SourceStatements), Now: d.app.io.Now,
	})
}

const tooManyConnections = "53300"

func pgCode(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// connect opens the session. Connections that all are taken are tried for
// again: somebody's may just be ending.
func (p *perfSources) connect(ctx context.Context) (conn *pgx.Conn, target *postgres.Target, inContainer bool, err error) {
	d := p.deps
	if d.cfg.Database.URL.IsZero() {
		return nil, nil, false, &misuse{"no database: set DATABASE_URL, or database.url in escrowctl.yaml"}
	}
	plain, err := postgres.Parse(d.cfg.Database.URL.Reveal())
	if err != nil {
		return nil, nil, false, &misuse{fmt.Sprintf("database.url (%s): %v", d.cfg.Origin("database.url"), err)}
	}
	const tries, pause = 4, 300 * time.Millisecond
	for try := 1; ; try++ {
		conn, target, inContainer, err = p.connectOnce(ctx, plain)
		if err == nil {
			return conn, target, inContainer, limitSession(ctx, conn)
		}
		if pgCode(err) != tooManyConnections || try == tries {
			return nil, nil, false, err
		}
		select {
		case <-ctx.Done():
			return nil, nil, false, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// connectOnce connects as the target stands, or else through the container.
// Unlike reachable it keeps the first connection that it gets: there may be no
// second.
func (p *perfSources) connectOnce(ctx context.Context, plain *postgres.Target) (conn *pgx.Conn, target *postgres.Target, inContainer bool, err error) {
	via := p.deps.cfg.Dump.Via
	var direct error
	if via != config.ViaContainer {
		limited, cancel := context.WithTimeout(ctx, connectLimit)
		defer cancel()
		conn, err := postgres.Connect(limited, plain, perfApp)
		if err == nil || via == config.ViaHost || pgCode(err) != "" {
			return conn, plain, false, err // an answer of the server's is final
		}
		direct = err
	}
	project, err := p.compose(ctx)
	if err != nil {
		if direct != nil {
			err = fmt.Errorf("%w; and not through a container either: %w", direct, err)
		}
		return nil, nil, false, err
	}
	target = plain.WithDial(project.Service(p.deps.cfg.Dump.Service).Dial)
	conn, err = postgres.Connect(ctx, target, perfApp)
	return conn, target, true, err
}

// again opens another session to where connect found the way.
func (p *perfSources) again(ctx context.Context, target *postgres.Target) (*pgx.Conn, error) {
	limited, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	return postgres.Connect(limited, target, perfApp)
}

// limitSession makes a session read only and impatient.
func limitSession(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, fmt.Sprintf(`SET default_transaction_read_only = on; SET statement_timeout = %d; SET lock_timeout = %d;
		SET idle_in_transaction_session_timeout = %d; SET timezone = 'UTC'`,
		perfStatementLimit.Milliseconds(), perfLockLimit.Milliseconds(), (2*perfStatementLimit).Milliseconds()))
	if err != nil {
		_ = conn.Close(ctx)
		return fmt.Errorf("limit the session: %w", err)
	}
	return nil
}

// localMemory is the memory of the machine that the server runs on, 0 if that
// is another one.
func localMemory(target *postgres.Target) int64 {
	network, addr := target.Address()
	host, _, err := net.SplitHostPort(addr)
	local := network == "unix" || strings.HasPrefix(addr, "/") || err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback())
	if !local {
		return 0
	}
	m, err := mem.VirtualMemory()
	if err != nil {
		return 0
	}
	return int64(m.Total) //nolint:gosec // no machine has 8 EiB
}
