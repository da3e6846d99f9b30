package doctor

import (
	"fmt"

	"github.com/stellarescrow/escrowctl/internal/check"
)

// restrictSince are the first releases of each major version whose psql knows
// \restrict, which every plain dump made since August 2025 begins with.
func restrictSince(major int) (minor int, known bool) {
	minor, known = map[int]int{13: 22, 14: 19, 15: 14, 16: 10, 17: 6}[major]
	return minor, known
}

// Psql judges this host's psql, which a person restores with where escrowctl is
// not at hand: by its version and the server's, as PostgreSQL numbers them
// (150008 is 15.8).
func Psql(id, path string, version, server int) check.Result {
	r := check.Result{ID: id, Summary: fmt.Sprintf("%s is %s, the server %s", path, text(version), text(server))}
	minor, known := restrictSince(version / 10000)
	switch {
	case version/10000 < server/10000:
		r.Summary += ": too old to read its dumps"
	case version/10000 < 13, known && version%10000 < minor:
		r.Summary += `: too old to know \restrict, with which dumps begin`
	default:
		return r
	}
	r.Status, r.Action = check.Warning, fmt.Sprintf("apt-get install postgresql-client-%d, or restore with escrowctl backup restore, which needs no psql", server/10000)
	return r
}

func text(num int) string { return fmt.Sprintf("%d.%d", num/10000, num%10000) }
