package backup

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"github.com/stellarescrow/escrowctl/internal/store"
)

// addOnly is a store whose credentials may not delete, as docs/privileges.md
// advises.
type addOnly struct{ store.Store }

func (addOnly) Delete(_ context.Context, name string) error {
	return fmt.Errorf("delete %s: %w", name, store.ErrDenied)
}

// TestCatchUpWithoutDelete: what an upload left that could not be confirmed is
// taken for what it is where that is the backup. Otherwise it stays, is told, and
// holds up nothing but itself.
func TestCatchUpWithoutDelete(t *testing.T) {
	for _, tt := range []struct {
		name  string
		left  func([]byte) []byte // what the bucket has of the dump
		roles string              // and of the roles; "" for what was sent
		sent  bool
	}{
		{"the backup itself", slices.Clone[[]byte], "", true},
		{"of another length", func(b []byte) []byte { return b[1:] }, "", false},
		{"of other bytes", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, "", false},
		{"with other roles", slices.Clone[[]byte], "CREATE ROLE other;", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, c := fakeOptions(t)
			remote := bucket(t)
			first := mustRun(t, o)
			body, err := os.ReadFile(o.Local.Path(first.Name))
			if err != nil {
				t.Fatal(err)
			}
			put(t, remote, first.Name, tt.left(body))
			if tt.roles != "" {
				put(t, remote, first.Manifest.Globals.Name, []byte(tt.roles))
			}
			o.Remote = addOnly{remote}
			c.now = c.now.Add(45 * 24 * time.Hour) // by now retention would take it
			next := mustRun(t, o)
			if !next.Uploaded || next.UploadErr != nil || verify(t, remote, next.Name).Verdict != Pass {
				t.Errorf("the next one: uploaded %v, %v", next.Uploaded, next.UploadErr)
			}
			if got := slices.Contains(next.CaughtUp, first.Name); got != tt.sent || len(next.Stuck) > 0 == tt.sent {
				t.Fatalf("sent %v, stuck %v", next.CaughtUp, next.Stuck)
			}
			if tt.sent {
				if verify(t, remote, first.Name).Verdict != Pass {
					t.Error("what was sent is no good")
				}
				return
			}
			if text := strings.Join(next.Warnings, ""); !strings.Contains(text, first.Name) || !strings.Contains(text, "may not delete") || !strings.Contains(text, "escrowctl backup upload") {
				t.Errorf("warnings %q", text)
			}
			if verify(t, o.Local, first.Name).Verdict != Pass {
				t.Error("the only good copy was pruned")
			}
			// Who may delete mends it.
			sent, err := CatchUp{Local: o.Local, Remote: remote, Naming: naming, Now: c.now}.Run(t.Context())
			if err != nil || !slices.Contains(sent.Names, first.Name) || len(sent.Stuck) > 0 || verify(t, remote, first.Name).Verdict != Pass {
				t.Errorf("%+v %v", sent, err)
			}
		})
	}
}

func put(t *testing.T, s store.Store, name string, body []byte) {
	t.Helper()
	if err := s.Put(t.Context(), name, body); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedLocalHoldsUpNothing: a local copy that went bad is told, and the
// later ones are sent.
func TestDamagedLocalHoldsUpNothing(t *testing.T) {
	o, c := fakeOptions(t)
	first := mustRun(t, o)
	c.now = c.now.Add(24 * time.Hour)
	second := mustRun(t, o)
	spoil(t, o.Local, first.Name, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	remote := bucket(t)
	sent, err := CatchUp{Local: o.Local, Remote: remote, Naming: naming, Now: c.now}.Run(t.Context())
	if err != nil || !slices.Equal(sent.Names, []string{second.Name}) || len(sent.Stuck) != 1 || sent.Stuck[0].Name != first.Name {
		t.Fatalf("%+v %v", sent, err)
	}
	if err := sent.Stuck[0].Err; !strings.Contains(err.Error(), sqldump.ErrDamaged.Error()) {
		t.Error(err)
	}
	if copies, err := Copies(t.Context(), remote, naming); err != nil || len(copies) != 1 {
		t.Errorf("the bucket has %v %v", copies, err)
	}
}

// TestSweepLeavesOthers: another host may be sending a backup of its own while
// this one takes its own. What this host left, it sweeps.
func TestSweepLeavesOthers(t *testing.T) {
	o, c := fakeOptions(t)
	c.now = time.Now().Add(time.Hour) // the bucket's uploads are begun before the run
	remote := bucket(t)
	o.Remote = remote
	mine := mustRun(t, o)
	if err := remote.Delete(t.Context(), mine.Name); err != nil {
		t.Fatal(err)
	}
	other := "stellar_escrow_20260228T020000Z.sql.gz"
	finish := begin(t, remote, other)
	abandon := begin(t, remote, mine.Name)
	c.now = c.now.Add(time.Minute)
	res := mustRun(t, o)
	if !slices.Equal(res.Swept, []string{mine.Name}) {
		t.Errorf("swept %v", res.Swept)
	}
	if err := finish(); err != nil {
		t.Errorf("the other host's upload: %v", err)
	}
	if err := abandon(); err == nil {
		t.Error("this host's dead upload was completed")
	}
	// Nor does 'backup upload' leave what one of its own kind was killed in.
	if err := remote.Delete(t.Context(), mine.Name); err != nil {
		t.Fatal(err)
	}
	finish, abandon = begin(t, remote, "stellar_escrow_20260226T020000Z.sql.gz"), begin(t, remote, mine.Name)
	swept, err := CatchUp{Local: o.Local, Remote: remote, Naming: naming, Now: c.now}.Sweep(t.Context())
	if err != nil || !slices.Equal(swept, []string{mine.Name}) {
		t.Errorf("swept by an upload: %v, %v", swept, err)
	}
	if err := finish(); err != nil {
		t.Errorf("the other host's upload: %v", err)
	}
	if err := abandon(); err == nil {
		t.Error("this host's dead upload was completed")
	}
	// A day later nobody sends that any more.
	begin(t, remote, "stellar_escrow_20260227T020000Z.sql.gz")
	c.now = c.now.Add(25 * time.Hour)
	if res := mustRun(t, o); !slices.Equal(res.Swept, []string{"stellar_escrow_20260227T020000Z.sql.gz"}) {
		t.Errorf("swept a day later: %v", res.Swept)
	}
}

// begin begins an upload of several parts and returns what brings it to its end.
func begin(t *testing.T, s store.Store, name string) func() error {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	src := store.NewGrowing(f)
	if _, err := src.Write(make([]byte, 9<<20)); err != nil {
		t.Fatal(err)
	}
	before := uploads(t, s)
	ended := make(chan error, 1)
	go func() {
		_, err := s.Upload(t.Context(), name, src)
		ended <- err
	}()
	for uploads(t, s) == before {
		time.Sleep(10 * time.Millisecond)
	}
	return func() error {
		src.Finish(nil)
		return <-ended
	}
}

// uploads counts the unfinished ones.
func uploads(t *testing.T, s store.Store) (n int) {
	t.Helper()
	_, err := s.Sweep(t.Context(), time.Time{}, func(string) bool { n++; return false })
	if err != nil {
		t.Fatal(err)
	}
	return n
}
