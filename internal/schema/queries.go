package schema

import (
	_ "embed"
	"regexp"
	"strconv"
	"strings"
)

// catalogSQL holds the statements, each ended by a semicolon at a line's end.
// See its head for the words in it that begin with a dollar sign.
//
//go:embed catalog.sql
var catalogSQL string

var (
	conditional = regexp.MustCompile(`\$(\d+)\(([^{}]*)\{([^{}]*)\}\)`)
	rights      = regexp.MustCompile(`\$rights\(([^,)]+), ([^,)]+), ([^)]+)\)`)
	ours        = regexp.MustCompile(`\$ours\((\w+), ([\w.]+)\)`)
)

// queries are the statements that read a schema from a server of a major
// version. Each gives rows of kind, name, table, and fields as a JSON object of
// texts.
func queries(major int) string {
	sql := conditional.ReplaceAllStringFunc(catalogSQL, func(match string) string {
		m := conditional.FindStringSubmatch(match)
		if since, _ := strconv.Atoi(m[1]); major >= since { // digits by the pattern
			return m[2]
		}
		return m[3]
	})
	list := func(acl string) string {
		return `(SELECT coalesce(string_agg(i::text, E'\n' ORDER BY i::text COLLATE "C"), 'nobody') FROM unnest(` + acl + `) i)`
	}
	sql = rights.ReplaceAllString(sql, `CASE WHEN $1 IS NOT NULL THEN nullif(`+list(`$1`)+`, `+list(`acldefault('$2', $3)`)+`) END`)
	sql = ours.ReplaceAllString(sql, `NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_catalog.$1'::regclass AND x.objid = $2 AND x.deptype = 'e')`)
	return strings.ReplaceAll(sql, "$user", `n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`)
}
