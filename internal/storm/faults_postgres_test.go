package storm

import (
	"testing"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
)

const pgGroup = "PostgreSQL"

// middle is in the midst of the ballast's rows, as a dump brings them.
const middle = 6 << 20

// TestPostgres: whatever becomes of the server.
func TestPostgres(t *testing.T) {
	playAll(t, newTheatre(t), append(dumping(), restoring()...))
}

func down(s *stage) {
	s.PG.Kill(s.t)
	s.Env = append(s.Env, "DATABASE_URL="+s.PG.URL(kit.DB)) // the wire would still take connections
	s.later(func() { s.PG.Start(s.t) })
}

// release lets go on what the wire holds.
func release(s *stage, _ *kit.Running) { s.Wire.Clear() }

func kill(s *stage, run *kit.Running) {
	down(s)
	release(s, run)
}

// dumping are the faults of a server while it is backed up.
func dumping() []cell {
	return ofGroup("backup", []cell{
		{fault: "down", before: down, code: []int{2}, says: []string{"connect", "refused", "dump.via"}},
		{fault: "killed", at: dumped(middle), act: kill, code: []int{2}, says: []string{"pg_dump", "server closed the connection unexpectedly"}},
	})
}

// restoring are the faults of a server while it is restored into.
func restoring() []cell {
	return ofGroup("restore", []cell{
		{fault: "down", before: down, code: []int{2}, says: []string{"connect", "refused"}},
		{fault: "killed", at: loaded(2 << 20), act: kill, code: []int{2}, says: []string{"a part of the backup", "--clean --yes"}},
	})
}

func ofGroup(cmd string, cells []cell) []cell {
	for i := range cells {
		cells[i].group, cells[i].cmd = pgGroup, cmd
	}
	return cells
}
