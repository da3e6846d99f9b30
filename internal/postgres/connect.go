package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// connectTimeout is for one attempt, where the URL has no connect_timeout.
const connectTimeout = 15 * time.Second

// noticeHangup is how soon the server looks whether the client of a running
// query is still there, so that a killed run does not leave a long COPY behind.
const noticeHangup = "10s"

// Connect opens a session that shows as app in pg_stat_activity. Its error says
// what to do, and never the password.
func Connect(ctx context.Context, t *Target, app string) (*pgx.Conn, error) {
	config := t.config.Copy()
	config.RuntimeParams["application_name"] = app
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if t.dial != nil {
		config.DialFunc = pgconn.DialFunc(t.dial)
		plainFirst(&config.Config)
		config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, t.connectError(ctx, err)
	}
	// The setting is there since version 14.
	_, err = conn.Exec(ctx, "SELECT set_config(name, $1, false) FROM pg_settings WHERE name = 'client_connection_check_interval'", noticeHangup)
	if err != nil {
		_ = conn.Close(ctx)
		return nil, t.connectError(ctx, err)
	}
	return conn, nil
}

// plainFirst turns sslmode=prefer into allow where the tunnel ends in the
// server's own container: there the encryption that prefer tries first, and does
// without if refused, would only cost a second tunnel.
func plainFirst(c *pgconn.Config) {
	own := c.Host == "127.0.0.1" || !strings.ContainsAny(c.Host, ".:") // a service's name, or localhost
	if own && sslMode(c) == "prefer" && len(c.Fallbacks) == 1 && c.Fallbacks[0].TLSConfig == nil {
		c.TLSConfig, c.Fallbacks[0].TLSConfig = nil, c.TLSConfig
	}
}

// connectError says in one line which server, what came back and the way out.
func (t *Target) connectError(ctx context.Context, err error) error {
	what := fmt.Sprintf("postgres: connect to %s as %s", t.Display(), t.config.User)
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	cause := err
	if attempt := (*pgconn.ConnectError)(nil); errors.As(err, &attempt) {
		cause = attempt.Unwrap()
	}
	text := strings.ReplaceAll(strings.TrimSpace(cause.Error()), "\n", "; ")
	if p := t.config.Password; p != "" {
		text = strings.ReplaceAll(text, p, "xxxxx")
	}
	if remedy := remedyFor(err); remedy != "" {
		text += ": " + remedy
	}
	return &connectError{text: what + ": " + text, err: err}
}

// connectError keeps the cause for errors.As without its text.
type connectError struct {
	text string
	err  error
}

func (e *connectError) Error() string { return e.text }
func (e *connectError) Unwrap() error { return e.err }

func remedyFor(err error) string {
	var server *pgconn.PgError
	var lookup *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &server):
		return map[string]string{
			"28P01": "check the password in DATABASE_URL (POSTGRES_PASSWORD in .env changes nothing in a volume that exists: ALTER ROLE does)",
			"28000": "check the role in DATABASE_URL and the server's pg_hba.conf",
			"3D000": "check the database in DATABASE_URL",
			"42501": "the role in DATABASE_URL may not connect to it: GRANT CONNECT",
			"53300": "all the server's connections are taken: raise max_connections or end some",
			"57P03": "the server is starting up or shutting down: try again",
		}[server.Code]
	case errors.As(err, &lookup):
		return "the host's name does not resolve here: if the server is a compose service, reach it through its container (dump.via: container)"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return "nothing listens there: if the server is a compose service without a published port, reach it through its container (dump.via: container)"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer: check the address and the firewall"
	}
	return ""
}

// ServerInfo is what a backup must know of the server and the database.
type ServerInfo struct {
	VersionNum int    // 150008 for 15.8
	Version    string // "15.8"
	Encoding   string // of the database: UTF8
	Superuser  bool   // of the session's role
	InRecovery bool   // a standby
	SizeBytes  int64  // of the database on the server's disk
}

// Info asks the server about itself and the session's database.
func Info(ctx context.Context, conn *pgx.Conn) (ServerInfo, error) {
	var info ServerInfo
	err := conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, pg_encoding_to_char(encoding),
		current_setting('is_superuser') = 'on', pg_is_in_recovery(), pg_database_size(oid)
		FROM pg_database WHERE datname = current_database()`).
		Scan(&info.VersionNum, &info.Encoding, &info.Superuser, &info.InRecovery, &info.SizeBytes)
	if err != nil {
		return ServerInfo{}, fmt.Errorf("postgres: ask the server for its version and size: %w", err)
	}
	info.Version = versionString(info.VersionNum)
	return info, nil
}

// LockKey is the key of the advisory lock with the given name.
func LockKey(name string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("escrowctl:" + name))
	return int64(h.Sum64()) //nolint:gosec // all 64 bits count, in either reading
}

// AdvisoryLock tries to take the lock for the session, without waiting. It is
// held across hosts until the session ends, whichever way, and belongs to the
// session's database.
func AdvisoryLock(ctx context.Context, conn *pgx.Conn, key int64) (ok bool, err error) {
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", key).Scan(&ok); err != nil {
		return false, fmt.Errorf("postgres: take the advisory lock %d: %w", key, err)
	}
	return ok, nil
}

// ExportSnapshot opens a read-only transaction on conn and exports its snapshot
// for Dump. It lives as long as the transaction: until release, or the end of
// the session.
func ExportSnapshot(ctx context.Context, conn *pgx.Conn) (id string, release func(context.Context) error, err error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err == nil {
		if err = tx.QueryRow(ctx, "SELECT pg_export_snapshot()").Scan(&id); err == nil {
			return id, tx.Rollback, nil
		}
		_ = tx.Rollback(ctx)
	}
	return "", nil, fmt.Errorf("postgres: export a snapshot: %w", err)
}
