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
