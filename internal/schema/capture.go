package schema

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const begin = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;\n"

// searchPath keeps a database's own from leading to functions of its making.
const searchPath = "SET LOCAL search_path = '';\n"

// settings fix what changes how the server words things. With an empty
// search_path every name is qualified.
const settings = searchPath + `SET LOCAL client_encoding = 'UTF8';
SET LOCAL lock_timeout = '60s';
SET LOCAL statement_timeout = '5min';
SET LOCAL datestyle = 'ISO';
SET LOCAL intervalstyle = 'postgres';
SET LOCAL timezone = 'UTC';
SET LOCAL extra_float_digits = 3;
SET LOCAL bytea_output = 'hex';
SET LOCAL standard_conforming_strings = on;
SET LOCAL quote_all_identifiers = off;
SET LOCAL lc_monetary = 'C';
`

const versionSQL = "SELECT 'server', pg_catalog.current_setting('server_version_num'), '', '{}';\n"

// Capture reads the schema of the database that conn is connected to, in one
// exchange with the server and one snapshot. The connection must not be in a
// transaction. It takes half a second for 2,000 tables.
func Capture(ctx context.Context, conn *pgconn.PgConn) (*Schema, error) {
	version, err := serverVersion(conn)
	if err != nil {
		return nil, err
	}
	s, err := capture(ctx, conn, version)
	if err != nil && ctx.Err() == nil {
		// What is dropped while it is read makes the server fail, once.
		s, err = capture(ctx, conn, version)
	}
	return s, err
}

func capture(ctx context.Context, conn *pgconn.PgConn, version int) (*Schema, error) {
	s := &Schema{Version: Version}
	if err := eachRow(ctx, conn, begin+settings+versionSQL+queries(version/10000)+"COMMIT", s.add); err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	if s.Server == 0 {
		return nil, fmt.Errorf("read the schema: %w: the server told no version", ErrBadSchema)
	}
	s.sort()
	return s, nil
}

// add takes a row of one of the queries in.
func (s *Schema) add(row [][]byte) error {
	o := Object{Kind: string(row[0]), Name: string(row[1]), Of: string(row[2])}
	if o.Kind == "server" {
		var err error
		s.Server, err = strconv.Atoi(o.Name)
		return err
	}
	if err := json.Unmarshal(row[3], &o.Fields); err != nil {
		return fmt.Errorf("%s: %w", o.ID(), err)
	}
	s.Objects = append(s.Objects, o)
	return nil
}

// eachRow runs statements by the simple protocol and passes on every row. After
// an error the session is out of the transaction again.
func eachRow(ctx context.Context, conn *pgconn.PgConn, sql string, fn func([][]byte) error) error {
	results := conn.Exec(ctx, sql)
	var failed error
	for results.NextResult() {
		r := results.ResultReader()
		for r.NextRow() {
			if failed == nil {
				failed = fn(r.Values())
			}
		}
		if _, err := r.Close(); err != nil && failed == nil {
			failed = err
		}
	}
	if err := results.Close(); err != nil {
		failed = err
		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if _, err := conn.Exec(rctx, "ROLLBACK").ReadAll(); err != nil {
			return fmt.Errorf("%w (and the connection is lost: %w)", failed, err)
		}
	}
	return failed
}

// serverVersion is the version as the server numbers it, from what it said on
// connecting: 150014 of "15.14 (Debian 15.14-1)", 180000 of "18beta1".
func serverVersion(conn *pgconn.PgConn) (int, error) {
	said := conn.ParameterStatus("server_version")
	digits := func(s string) (n int, rest string) {
		i := 0
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i++
		}
		n, _ = strconv.Atoi(s[:i])
		return n, s[i:]
	}
	major, rest := digits(said)
	minor := 0
	if strings.HasPrefix(rest, ".") {
		minor, _ = digits(rest[1:])
	}
	if major < 12 {
		return 0, fmt.Errorf("read the schema: PostgreSQL %q: version 12 or later is needed", said)
	}
	return major*10000 + minor, nil
}
