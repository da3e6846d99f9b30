package sqlload

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
)

// CreateRoles runs what pg_dumpall says of the roles that are missing. Those
// that exist are left as they are.
func CreateRoles(ctx context.Context, conn *pgconn.PgConn, sql []byte) ([]string, error) {
	found := conn.ExecParams(ctx, "SELECT rolname FROM pg_catalog.pg_roles", nil, nil, nil, nil).Read()
	if found.Err != nil {
		return nil, found.Err
	}
	exists := map[string]bool{}
	for _, row := range found.Rows {
		exists[string(row[0])] = true
	}
	var created []string
	err := sqldump.EachStatement(sql, false, func(s sqldump.Statement) error {
		for _, verb := range []string{"CREATE ROLE ", "ALTER ROLE ", "GRANT "} {
			quoted, rest := sqldump.NameAfter(s.Text, verb)
			if verb == "GRANT " {
				quoted, _ = sqldump.NameAfter(rest, " TO ")
			}
			name, err := sqldump.ParseName(quoted)
			if quoted == "" || err != nil {
				continue
			}
			if verb == "CREATE ROLE " {
				if exists[name.Table] {
					return nil
				}
				created = append(created, name.Table)
			}
			if !slices.Contains(created, name.Table) {
				return nil
			}
			_, err = conn.Exec(ctx, string(s.Text)).ReadAll()
			return err
		}
		return nil
	})
	return created, err
}
