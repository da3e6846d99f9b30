package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/stellarescrow/escrowctl/internal/nofollow"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"github.com/stellarescrow/escrowctl/internal/store"
)

// CatchUp says between which stores to send what the remote one lacks.
type CatchUp struct {
	Local    *store.Dir
	Remote   store.Store
	Naming   Naming
	Keep     Retention // of the remote store: what it would not keep is not sent
	Verified Verifications
	Now      time.Time
}

// Sent says what came of it.
type Sent struct {
	Names []string
	Stuck []Stuck
}

// Stuck is a backup that cannot be sent, now or later, until somebody acts.
type Stuck struct {
	Name string
	Err  error
}

// errInTheWay says that what lies under a backup's name may not be deleted.
var errInTheWay = errors.New("what the bucket has under its name is not this backup, and these credentials may not delete it")

// Run sends every good local backup that the remote store lacks and would keep,
// oldest first. One that is stuck holds none of the others up.
func (c CatchUp) Run(ctx context.Context) (sent Sent, err error) {
	here, there, err := c.copies(ctx)
	if err != nil {
		return sent, err
	}
	held := map[string]*Copy{}
	var good []Copy
	for i, b := range there {
		held[b.Name] = &there[i]
		if b.Good() {
			good = append(good, b)
		}
	}
	whole := func(name string) bool { return held[name] != nil && held[name].Good() }
	for _, b := range here {
		if b.Sound() && !whole(b.Name) {
			good = append(good, b)
		}
	}
	slices.SortStableFunc(good, func(a, b Copy) int { return a.Time.Compare(b.Time) })
	kept := plan(good, c.Keep, c.Now).Keep
	slices.Reverse(kept) // oldest first again
	for _, b := range kept {
		if whole(b.Name) {
			continue
		}
		switch err := c.send(ctx, b.Copy, held[b.Name]); {
		case errors.Is(err, errInTheWay), errors.Is(err, sqldump.ErrDamaged):
			sent.Stuck = append(sent.Stuck, Stuck{b.Name, fmt.Errorf("%s cannot be sent to the bucket: %w", b.Name, err)})
		case err != nil:
			return sent, fmt.Errorf("upload %s: %w", b.Name, err)
		default:
			sent.Names = append(sent.Names, b.Name)
		}
	}
	return sent, nil
}

func (c CatchUp) copies(ctx context.Context) (here, there []Copy, err error) {
	if here, err = Copies(ctx, c.Local, c.Naming); err != nil {
		return nil, nil, err
	}
	if there, err = Copies(ctx, c.Remote, c.Naming); err != nil {
		return nil, nil, err
	}
	c.Verified.Mark(c.Local.Location(), here)
	c.Verified.Mark(c.Remote.Location(), there)
	return here, there, nil
}

// send sends one backup: the dump, the roles, the manifest. found is what the
// store has under its name, nil for nothing.
func (c CatchUp) send(ctx context.Context, b Copy, found *Copy) error {
	manifest, err := readRange(ctx, c.Local, ManifestName(b.Name), maxManifest)
	if err != nil {
		return err
	}
	whole := false
	if found != nil {
		if whole, err = c.clear(ctx, b, found.Kind); err != nil {
			return err
		}
	}
	if !whole {
		if err := c.upload(ctx, b); err != nil {
			return err
		}
	}
	if g := b.Summary.Globals; g != nil {
		body, err := readAll(ctx, c.Local, g.Name)
		if err != nil {
			return err
		}
		if err := c.put(ctx, g.Name, body); err != nil {
			return err
		}
	}
	return c.put(ctx, ManifestName(b.Name), manifest)
}

// clear makes way for a backup that the store has a part of, and reports whether
// that is the whole dump: of an upload that could not be confirmed it may well
// be, and to go on from there takes no right to delete.
func (c CatchUp) clear(ctx context.Context, b Copy, kind Kind) (whole bool, err error) {
	if whole, err = c.holds(ctx, b); err != nil {
		return false, err
	}
	if kind == Damaged { // perhaps by its manifest
		if err := c.remove(ctx, ManifestName(b.Name)); err != nil {
			return false, err
		}
	}
	if !whole {
		return false, c.remove(ctx, b.Name)
	}
	return true, nil
}

// holds reads what the store has under a backup's name and compares it with the
// manifest here.
func (c CatchUp) holds(ctx context.Context, b Copy) (bool, error) {
	obj, err := c.Remote.Stat(ctx, b.Name)
	if errors.Is(err, store.ErrNotExist) {
		return false, nil
	}
	if err != nil || obj.Size != b.Summary.Size {
		return false, err
	}
	r, err := c.Remote.Open(ctx, b.Name, 0, -1)
	if err != nil {
		return false, err
	}
	defer func() { _ = r.Close() }()
	return hasSum(r, b.Summary.SHA256)
}

func hasSum(r io.Reader, want string) (bool, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return false, err
	}
	return hex.EncodeToString(h.Sum(nil)) == want, nil
}

// remove deletes what is in the way.
func (c CatchUp) remove(ctx context.Context, name string) error {
	err := c.Remote.Delete(ctx, name)
	if errors.Is(err, store.ErrDenied) {
		return fmt.Errorf("%w: %w: have somebody delete it who may, then run: escrowctl backup upload", errInTheWay, err)
	}
	return err
}

func (c CatchUp) upload(ctx context.Context, b Copy) error {
	f, err := nofollow.Open(c.Local.Path(b.Name), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	// A local copy that went bad must not pass as good in the bucket.
	sound, err := hasSum(f, b.Summary.SHA256)
	if err != nil {
		return err
	}
	if !sound {
		return fmt.Errorf("the local copy's SHA-256 is not its manifest's: %w", sqldump.ErrDamaged)
	}
	src, err := store.FileSource(f)
	if err != nil {
		return err
	}
	_, err = c.Remote.Upload(ctx, b.Name, src)
	return err
}

// put writes what belongs to the dump, which an earlier attempt may have written.
func (c CatchUp) put(ctx context.Context, name string, body []byte) error {
	if err := c.Remote.Put(ctx, name, body); !errors.Is(err, store.ErrExist) {
		return err
	}
	there, err := readRange(ctx, c.Remote, name, int64(len(body))+1)
	if err != nil || bytes.Equal(there, body) {
		return err
	}
	if err := c.remove(ctx, name); err != nil {
		return err
	}
	return c.Remote.Put(ctx, name, body)
}
