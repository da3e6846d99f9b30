package storm

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/testenv/s3fault"
)

var storm = kit.New("data")

func TestMain(m *testing.M) { os.Exit(storm.Main(m)) }

// stage is a host with two good backups, here and in a bucket of its own.
type stage struct {
	*kit.Host
	t     *testing.T
	call  kit.Call  // what is special about the run under the fault
	print kit.Print // of the database, which nobody changes
	old   []string  // names of the two
	undo  []func()
	armed []*s3fault.Rule // faults that have to come about
}

// theatre is what the stages of a test share.
type theatre struct {
	*kit.World
	print kit.Print
	first *kit.Host // whose two backups each stage begins with
	old   []string
}

func newTheatre(t *testing.T) *theatre {
	t.Helper()
	w := storm.World(t, testenv.PGSetting("max_connections", "30"))
	th := &theatre{World: w, print: w.Print(t, kit.DB), first: w.Host(t)}
	for range 2 {
		testenv.NextSecond()
		if res := th.first.Run(t, "backup"); res.Code != 0 {
			t.Fatalf("without a fault: exit %d: %s", res.Code, res.Stderr)
		}
	}
	th.old = th.first.Sound(t, kit.Same(th.print))
	if len(th.old) != 2 {
		t.Fatalf("without a fault: %v", th.old)
	}
	return th
}

func (th *theatre) stage(t *testing.T) *stage {
	t.Helper()
	world := *th.World
	world.Bucket = world.S3.Bucket(t)
	s := &stage{Host: world.Host(t), t: t, print: th.print, old: slices.Clone(th.old)}
	copyAll(t, th.first.Backups, s.Backups)
	copyAll(t, filepath.Dir(th.first.Object("x")), filepath.Dir(s.Object("x")))
	return s
}

// second is another host of the same world, with the same bucket.
func (s *stage) second() *kit.Host {
	s.t.Helper()
	return s.World.Host(s.t)
}

func copyAll(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
}

// set adds to the environment of the run under the fault.
func (s *stage) set(pairs ...string) { s.call.Env = append(s.call.Env, pairs...) }

// later puts off what ends the fault.
func (s *stage) later(f func()) { s.undo = append(s.undo, f) }

// clear ends every fault.
func (s *stage) clear() {
	s.Faults.Clear()
	s.Wire.Clear()
	for _, f := range slices.Backward(s.undo) {
		f()
	}
	s.undo = nil
}

// newest is the newest of the two backups.
func (s *stage) newest() string { return slices.Max(s.old) }
