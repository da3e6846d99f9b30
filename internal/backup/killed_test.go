package backup

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/store"
)

// TestFailedCommitLeavesNothing: the disk may fill up with the very last file.
func TestFailedCommitLeavesNothing(t *testing.T) {
	o, c := fakeOptions(t)
	manifest := o.Local.Path(ManifestName(naming.File(c.now, o.Codec, false)))
	if err := os.MkdirAll(manifest, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), o); !errors.Is(err, ErrNoBackup) {
		t.Fatalf("error %v", err)
	}
	if left := names(t, o.Local); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// mortal is a store whose user is killed after so many deletions.
type mortal struct {
	store.Store
	left int
}

func (m *mortal) Delete(ctx context.Context, name string) error {
	if m.left--; m.left < 0 {
		return context.Canceled
	}
	return m.Store.Delete(ctx, name)
}

// TestPruneKilled: whatever a killed prune has left of a backup, the next one
// takes away.
func TestPruneKilled(t *testing.T) {
	for deletions := range 3 {
		o, c := fakeOptions(t)
		o.Retention = Retention{}
		mustRun(t, o)
		c.now = c.now.Add(72 * time.Hour)
		last := mustRun(t, o)
		prune := func(s store.Store) error {
			plan, err := PlanPrune(t.Context(), s, naming, Retention{Days: 1}, nil, c.now)
			if err != nil {
				return err
			}
			_, err = plan.Apply(t.Context(), s)
			return err
		}
		if err := prune(&mortal{o.Local, deletions}); !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v", err)
		}
		if err := prune(o.Local); err != nil {
			t.Fatal(err)
		}
		for _, name := range names(t, o.Local) {
			if !strings.HasPrefix(name, strings.TrimSuffix(last.Name, ".sql.gz")) {
				t.Errorf("after %d deletions: %s is left", deletions, name)
			}
		}
	}
}

// struck is a bucket in whose sweep the run is killed.
type struck struct{ store.Store }

func (struck) Sweep(context.Context, time.Time, func(string) bool) ([]string, error) {
	panic("killed")
}

// TestKilledWhileSweeping: what a killed run left in the bucket is known by its
// temporary file alone, also after a second run that was killed while it swept.
func TestKilledWhileSweeping(t *testing.T) {
	o, c := fakeOptions(t)
	c.now = time.Now().Add(time.Hour) // the bucket's uploads are begun before the run
	remote := bucket(t)
	dead := "stellar_escrow_20260228T020000Z.sql.gz"
	temp, err := o.Local.Create(dead)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = temp.Close() })
	abandon := begin(t, remote, dead)
	o.Remote = struck{remote}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the run was not killed")
			}
		}()
		_, _ = Run(t.Context(), o)
	}()
	o.Remote = remote
	res := mustRun(t, o)
	if len(res.Swept) != 2 || res.Swept[0] != dead || !strings.Contains(res.Swept[1], dead) {
		t.Errorf("swept %v", res.Swept)
	}
	if err := abandon(); err == nil {
		t.Error("the dead upload was completed")
	}
}
