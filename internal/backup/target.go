package backup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn" //nolint:depguard // the connection type that sqlload takes
)

// closeConn ends a connection politely, within seconds.
func closeConn(c *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = c.Close(ctx)
}

// query returns rows as text; NULL is "".
func query(ctx context.Context, c *pgconn.PgConn, sql string, args ...string) ([][]string, error) {
	params := make([][]byte, len(args))
	for i, a := range args {
		params[i] = []byte(a)
	}
	res := c.ExecParams(ctx, sql, params, nil, nil, nil).Read()
	if res.Err != nil {
		return nil, res.Err
	}
	rows := make([][]string, len(res.Rows))
	for i, r := range res.Rows {
		for _, v := range r {
			rows[i] = append(rows[i], string(v))
		}
	}
	return rows, nil
}

func quoteIdent(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// userTables lists tables and the like that are not an extension's.
const userTables = `SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1`

// prepareTarget makes the database if it is missing and sees to it that it is
// empty, or that the tables asked for are there and empty.
func (r *restore) prepareTarget(ctx context.Context) error {
	conn, err := r.Connect(ctx, r.target)
	if isMissingDatabase(err) {
		return r.createDatabase(ctx)
	}
	if err != nil {
		return err
	}
	defer closeConn(conn)
	rows, err := query(ctx, conn, userTables)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return nil
	}
	if r.Clean {
		r.Log("emptying database %s: %d tables and the like", r.target, len(rows))
		return empty(ctx, conn)
	}
	if r.Tables != nil {
		r.rowsOnly = true
		return r.emptyTables(ctx, conn)
	}
	return fmt.Errorf("%s: %w: it holds %s (%d in all): restore into another database, or use --swap, or --clean --yes to delete what is there", r.target, ErrNotEmpty, rows[0][0], len(rows))
}

func isMissingDatabase(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "3D000"
}

// createDatabase makes the target from template0, with the dump's encoding and
// otherwise as the server makes databases.
func (r *restore) createDatabase(ctx context.Context) error {
	conn, err := r.maintenance(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	sql := "CREATE DATABASE " + quoteIdent(r.target) + " TEMPLATE template0"
	if r.manifest != nil && r.manifest.Index.Encoding != "" {
		sql += " ENCODING '" + strings.ReplaceAll(r.manifest.Index.Encoding, "'", "''") + "'"
	}
	if r.Swap {
		owner, err := query(ctx, conn, "SELECT pg_catalog.pg_get_userbyid(datdba), datcollate, datctype FROM pg_catalog.pg_database WHERE datname = $1", r.Database)
		if err != nil {
			return err
		}
		if len(owner) == 0 {
			return fmt.Errorf("--swap: there is no database %q to exchange: restore into it without --swap", r.Database)
		}
		lit := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
		sql += " OWNER " + quoteIdent(owner[0][0]) + " LC_COLLATE " + lit(owner[0][1]) + " LC_CTYPE " + lit(owner[0][2])
	}
	if _, err := conn.Exec(ctx, sql).ReadAll(); err != nil {
		err = fmt.Errorf("create database %s: %w", r.target, err)
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == "42501" {
			err = fmt.Errorf("%w: the role lacks CREATEDB (ALTER ROLE ... CREATEDB), or have the database made for it", err)
		}
		return err
	}
	r.Log("created database %s", r.target)
	if r.Swap {
		return r.copySettings(ctx, conn)
	}
	return nil
}

// maintenance connects to a database other than the target.
func (r *restore) maintenance(ctx context.Context) (*pgconn.PgConn, error) {
	conn, err := r.Connect(ctx, "postgres")
	if isMissingDatabase(err) {
		conn, err = r.Connect(ctx, "template1")
	}
	return conn, err
}

// emptyTables sees to it that the tables asked for are there and hold nothing.
func (r *restore) emptyTables(ctx context.Context, conn *pgconn.PgConn) error {
	for _, t := range r.Tables {
		rows, err := query(ctx, conn, "SELECT pg_catalog.to_regclass($1) IS NOT NULL", t)
		if err != nil {
			return err
		}
		if rows[0][0] != "t" {
			return fmt.Errorf("%s: %w, but has no table %s: restore it into an empty database, and copy it over from there", r.target, ErrNotEmpty, t)
		}
		rows, err = query(ctx, conn, "SELECT EXISTS (SELECT 1 FROM "+t+")")
		if err != nil {
			return err
		}
		if rows[0][0] == "t" {
			return fmt.Errorf("%s: table %s: %w: restore it into an empty database, and copy over what you need from there", r.target, t, ErrNotEmpty)
		}
	}
	return nil
}

// empty drops everything that a dump brings. It is one transaction: all or
// nothing.
func empty(ctx context.Context, conn *pgconn.PgConn) error {
	rows, err := query(ctx, conn, `
SELECT 1, pg_catalog.format('DROP EVENT TRIGGER %I', evtname) FROM pg_catalog.pg_event_trigger t
WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e')
UNION ALL SELECT 2, pg_catalog.format('DROP PUBLICATION %I', pubname) FROM pg_catalog.pg_publication
UNION ALL SELECT 3, pg_catalog.format('DROP EXTENSION IF EXISTS %I CASCADE', extname) FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql'
UNION ALL SELECT 4, pg_catalog.format('DROP SCHEMA IF EXISTS %I CASCADE', nspname) FROM pg_catalog.pg_namespace
WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
UNION ALL SELECT 5, pg_catalog.format('SELECT pg_catalog.lo_unlink(%s)', oid) FROM pg_catalog.pg_largeobject_metadata
UNION ALL SELECT 6, pg_catalog.format('CREATE SCHEMA public AUTHORIZATION %I; GRANT USAGE ON SCHEMA public TO PUBLIC', pg_catalog.pg_get_userbyid(nspowner))
FROM pg_catalog.pg_namespace WHERE nspname = 'public'
ORDER BY 1`)
	if err != nil {
		return err
	}
	var sql strings.Builder
	for _, r := range rows {
		sql.WriteString(r[1] + ";\n")
	}
	// Several statements in one message are one transaction.
	if _, err := conn.Exec(ctx, sql.String()).ReadAll(); err != nil {
		return fmt.Errorf("empty the database: %w: nothing was deleted", err)
	}
	return nil
}
