package backup

import (
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

// CatchUp sends every good local backup that the bucket lacks and would keep,
// oldest first, and returns their names. What the bucket holds of one without
// its manifest was never finished, and is replaced.
func CatchUp(ctx context.Context, local *store.Dir, remote store.Store, n Naming, keep Retention, now time.Time) ([]string, error) {
	here, err := Copies(ctx, local, n)
	if err != nil {
		return nil, err
	}
	there, err := Copies(ctx, remote, n)
	if err != nil {
		return nil, err
	}
	held := map[string]Kind{}
	var good []Copy
	for _, c := range there {
		held[c.Name] = c.Kind
		if c.Good() {
			good = append(good, c)
		}
	}
	for _, c := range here {
		if c.Good() && held[c.Name] != Indexed {
			good = append(good, c)
		}
	}
	slices.SortStableFunc(good, func(a, b Copy) int { return a.Time.Compare(b.Time) })
	kept := plan(good, keep, nil, now).Keep
	slices.Reverse(kept) // oldest first again
	var sent []string
	for _, c := range kept {
		kind, there := held[c.Name]
		if kind == Indexed {
			continue
		}
		if err := send(ctx, local, remote, c.Copy, there); err != nil {
			return sent, fmt.Errorf("upload %s: %w", c.Name, err)
		}
		sent = append(sent, c.Name)
	}
	return sent, nil
}

// send uploads one backup: the dump, the roles, the manifest.
func send(ctx context.Context, local *store.Dir, remote store.Store, c Copy, unfinished bool) error {
	manifest, err := readRange(ctx, local, ManifestName(c.Name), maxManifest)
	if err != nil {
		return err
	}
	if unfinished {
		for _, name := range []string{ManifestName(c.Name), c.Name} {
			if err := remote.Delete(ctx, name); err != nil {
				return err
			}
		}
	}
	f, err := nofollow.Open(local.Path(c.Name), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	// A local copy that went bad must not pass as good in the bucket.
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) != c.Summary.SHA256 {
		return fmt.Errorf("the local copy's SHA-256 is not its manifest's: %w", sqldump.ErrDamaged)
	}
	src, err := store.FileSource(f)
	if err != nil {
		return err
	}
	if _, err := remote.Upload(ctx, c.Name, src); err != nil {
		return err
	}
	if g := c.Summary.Globals; g != nil {
		body, err := readAll(ctx, local, g.Name)
		if err != nil {
			return err
		}
		if err := remote.Put(ctx, g.Name, body); err != nil && !errors.Is(err, store.ErrExist) {
			return err
		}
	}
	return remote.Put(ctx, ManifestName(c.Name), manifest)
}
