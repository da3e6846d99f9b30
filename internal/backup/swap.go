package backup

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn" //nolint:depguard // the connection type that sqlload takes
)

// databaseSettings writes, for database $1, the statements that give database
// $2 what a plain dump leaves out: ALTER DATABASE ... SET, also for single
// roles, rights, the connection limit and the comment. The values of settings
// that are lists of names are stored quoted already, as pg_dump knows too.
const databaseSettings = `
WITH d AS (SELECT * FROM pg_catalog.pg_database WHERE datname = $1)
SELECT pg_catalog.format('ALTER DATABASE %I CONNECTION LIMIT %s', $2::text, datconnlimit) FROM d WHERE datconnlimit >= 0
UNION ALL
SELECT CASE WHEN s.setrole = 0 THEN pg_catalog.format('ALTER DATABASE %I SET ', $2::text)
ELSE pg_catalog.format('ALTER ROLE %I IN DATABASE %I SET ', pg_catalog.pg_get_userbyid(s.setrole), $2::text) END
|| pg_catalog.format(CASE WHEN pg_catalog.lower(kv[1]) IN ('local_preload_libraries', 'search_path', 'session_preload_libraries',
'shared_preload_libraries', 'temp_tablespaces', 'unix_socket_directories') AND kv[2] <> '' THEN '%I TO %s' ELSE '%I TO %L' END, kv[1], kv[2])
FROM d JOIN pg_catalog.pg_db_role_setting s ON s.setdatabase = d.oid, unnest(s.setconfig) AS entry,
LATERAL (SELECT ARRAY[split_part(entry, '=', 1), substr(entry, strpos(entry, '=') + 1)] AS kv) AS pair
UNION ALL
SELECT pg_catalog.format('REVOKE ALL ON DATABASE %I FROM PUBLIC', $2::text) FROM d WHERE datacl IS NOT NULL
UNION ALL
SELECT pg_catalog.format('GRANT %s ON DATABASE %I TO %s', privilege_type, $2::text,
CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(grantee)) END)
|| CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
FROM d, LATERAL pg_catalog.aclexplode(datacl) WHERE grantee <> datdba
UNION ALL
SELECT pg_catalog.format('COMMENT ON DATABASE %I IS %L', $2::text, c.description)
FROM d JOIN pg_catalog.pg_shdescription c ON c.classoid = 'pg_catalog.pg_database'::regclass AND c.objoid = d.oid`

// copySettings gives the database restored beside the target what the target
// itself has beyond its contents. A statement that this role may not run costs
// no restore: it is told, to be run by hand.
func (r *restore) copySettings(ctx context.Context, conn *pgconn.PgConn) error {
	rows, err := query(ctx, conn, databaseSettings, r.Database, r.target)
	if err != nil {
		return fmt.Errorf("read the settings of database %s: %w", r.Database, err)
	}
	for _, row := range rows {
		if _, err := conn.Exec(ctx, row[0]).ReadAll(); err != nil {
			if ctx.Err() != nil {
				return err
			}
			byHand := strings.Replace(row[0], r.target, r.Database, 1) // its name by then
			r.res.Warnings = append(r.res.Warnings, fmt.Sprintf("not carried over from the old database: %s: %v", byHand, err))
		}
	}
	return nil
}

// exchange gives the restored database the old one's name and keeps the old
// one beside it.
func (r *restore) exchange(ctx context.Context) error {
	conn, err := r.maintenance(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	old := fmt.Sprintf("%s_before_%s", r.Database, r.Now().UTC().Format("20060102150405"))
	byHand := fmt.Sprintf(`ALTER DATABASE %s RENAME TO %s; ALTER DATABASE %s RENAME TO %s;`,
		quoteIdent(r.Database), quoteIdent(old), quoteIdent(r.target), quoteIdent(r.Database))
	if r.Terminate {
		if _, err := query(ctx, conn, "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname = $1 AND pid <> pg_catalog.pg_backend_pid()", r.Database); err != nil {
			return err
		}
	}
	users, err := query(ctx, conn, `SELECT DISTINCT coalesce(nullif(application_name, ''), 'a client') || ' as ' || coalesce(usename, '?') || coalesce(' from ' || client_addr::text, '')
FROM pg_catalog.pg_stat_activity WHERE datname = $1 AND pid <> pg_catalog.pg_backend_pid()`, r.Database)
	if err != nil {
		return err
	}
	if len(users) > 0 && !r.Terminate {
		var names []string
		for _, u := range users {
			names = append(names, u[0])
		}
		return fmt.Errorf("%s: %w by %s: the backup is restored and checked in %s: stop those services, then run as a superuser: %s",
			r.Database, ErrInUse, strings.Join(names, ", "), r.target, byHand)
	}
	// Two renames in one message are one transaction: at no moment is there a
	// database of the wrong contents under the name.
	if _, err := conn.Exec(ctx, byHand).ReadAll(); err != nil {
		return fmt.Errorf("exchange %s and %s: %w: the backup is restored and checked in %s: once nothing uses %s, run: %s", r.Database, r.target, err, r.target, r.Database, byHand)
	}
	r.res.OldName = old
	return nil
}
