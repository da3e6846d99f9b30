package storm

import (
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
)

// middle is in the midst of a dump, with more to come than buffers hold.
const middle = 1 << 20

// dumped is the moment when a dump has brought n bytes; they are held there.
func dumped(n int64) func(*stage) <-chan struct{} {
	return func(s *stage) <-chan struct{} { return s.Wire.HoldDown(n).Reached() }
}

// loaded is the moment when a restore has sent them.
func loaded(n int64) func(*stage) <-chan struct{} {
	return func(s *stage) <-chan struct{} { return s.Wire.HoldUp(n).Reached() }
}

// release lets go on what the wire holds.
func release(s *stage, _ *kit.Running) { s.Wire.Clear() }

// postgresFaults are those of the server that is backed up and restored into.
// Each comes when a backup or a restore is in its midst.
func postgresFaults() []fault {
	const group = "PostgreSQL"
	inDump := func(name string, act func(*stage, *kit.Running), c cell) fault {
		return fault{group: group, name: name, at: dumped(middle), act: act, on: []cell{c}}
	}
	inLoad := func(name string, act func(*stage, *kit.Running), c cell) fault {
		return fault{group: group, name: name, at: loaded(2 << 20), act: act, on: []cell{c}}
	}
	return []fault{
		{group: group, name: "down", before: pgDown, says: []string{"connect", "refused"}, on: []cell{on("backup", 2, "dump.via").soon(), on("restore", 2),
			on("upload", 0), on("verify", 0), on("verify --s3", 0), on("dr-test", 0)}},
		inDump("killed", pgKilled, on("backup", 2, "pg_dump", "server closed the connection unexpectedly").soon()),
		inLoad("killed", pgKilled, on("restore", 2, "a part of the backup", "--clean --yes").soon()),
		inDump("restarted", pgRestarted, on("backup", 2, "pg_dump")),
		inLoad("restarted", pgRestarted, on("restore", 2, "a part of the backup", "--clean --yes")),
		inDump("statement cancelled", cancelled, on("backup", 2, "pg_dump", "canceling statement due to user request")),
		inLoad("statement cancelled", cancelled, on("restore", 2, "canceling statement due to user request", "--clean --yes")),
		{group: group, name: "out of connections", before: crowded, says: []string{"too many clients"}, on: []cell{on("backup", 2), on("restore", 2)}},
		{group: group, name: "disk full", before: crampedTarget, says: []string{"No space left on device", "a part of the backup", "--clean --yes"}, on: []cell{on("restore", 2)}},
	}
}

func pgDown(s *stage) {
	s.PG.Kill(s.t)
	s.set("DATABASE_URL=" + s.PG.URL(kit.DB)) // the wire would still take connections
	s.later(func() { s.PG.Start(s.t) })
}

func pgKilled(s *stage, run *kit.Running) {
	s.PG.Kill(s.t)
	s.later(func() { s.PG.Start(s.t) })
	release(s, run)
}

func pgRestarted(s *stage, run *kit.Running) {
	s.PG.Stop(s.t)
	s.PG.Start(s.t)
	release(s, run)
}

// cancelled cancels what the sessions that come through the wire are doing.
func cancelled(s *stage, run *kit.Running) {
	s.PG.Psql(s.t, "postgres", "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE client_addr IS NOT NULL AND state = 'active'")
	release(s, run)
}

// crowded takes all connections that the server has.
func crowded(s *stage) {
	var crowd []*exec.Cmd
	for range 35 {
		one := s.psql()
		if _, err := one.StdinPipe(); err != nil { // it waits for what to do
			s.t.Fatal(err)
		}
		if err := one.Start(); err != nil {
			s.t.Fatal(err)
		}
		crowd = append(crowd, one)
	}
	kit.Eventually(s.t, "the server is full", func() bool { return !s.admits() })
	s.later(func() {
		for _, one := range crowd {
			_ = one.Process.Kill()
			_ = one.Wait()
		}
		kit.Eventually(s.t, "the server has room again", s.admits)
	})
}

func (s *stage) psql(args ...string) *exec.Cmd {
	return exec.Command(s.PG.Tool("psql"), append([]string{"-XAtq", "-d", s.PG.SocketURL("postgres")}, args...)...)
}

// admits says whether the server has a connection left.
func (s *stage) admits() bool { return s.psql("-c", "SELECT 1").Run() == nil }

// crampedTarget has the database to restore into on a disk of its own that is too small.
func crampedTarget(s *stage) {
	dir := filepath.Join(s.Dir, "cramped")
	unmount := kit.Tmpfs(s.t, dir, "size=12m,mode=700")
	owner := exec.Command("chown", "--reference="+s.PG.DataDir, dir)
	if out, err := owner.CombinedOutput(); err != nil {
		s.t.Fatalf("chown: %v: %s", err, out)
	}
	s.PG.Psql(s.t, "postgres", fmt.Sprintf("CREATE TABLESPACE cramped LOCATION '%s'", dir))
	s.PG.Psql(s.t, "postgres", "CREATE DATABASE "+copyDB+" TEMPLATE template0 TABLESPACE cramped")
	s.later(func() {
		s.PG.Psql(s.t, "postgres", "DROP DATABASE "+copyDB)
		s.PG.Psql(s.t, "postgres", "DROP TABLESPACE cramped")
		unmount()
	})
}
