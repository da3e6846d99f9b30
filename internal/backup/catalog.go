package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"github.com/stellarescrow/escrowctl/internal/store"
	"golang.org/x/sync/errgroup"
)

// Kind is what sort of backup a file is.
type Kind string

// The kinds.
const (
	Indexed    Kind = "indexed"    // with its manifest
	Plain      Kind = "plain"      // one gzip stream of the old script's, no manifest
	Unfinished Kind = "unfinished" // ours, without its manifest
	Damaged    Kind = "damaged"    // not the size that its manifest says, or a manifest that can't be read
)

// Copy is one backup as it lies in one store.
type Copy struct {
	File
	Size    int64 // bytes, as the store has it
	Kind    Kind
	Summary *Summary // of an indexed one
	Problem string   // why it is damaged
	// Verified is the last check of its contents; nil if there was none, or if
	// nobody said.
	Verified *Verification
	globals  string // name of the roles beside it, if there
}

// Good reports whether the backup is complete as far as can be told without
// reading it: it has its manifest and the size that the manifest says.
func (c Copy) Good() bool { return c.Kind == Indexed }

// Sound reports whether it is good and its last check, if any, found no fault.
func (c Copy) Sound() bool { return c.Good() && !c.Failed() }

// Failed reports whether its last check found a fault.
func (c Copy) Failed() bool { return c.Verified != nil && c.Verified.Verdict == Fail }

// headSize is enough of a manifest for its summary.
const headSize = 16 << 10

// listConcurrency bounds the manifests read at once from a bucket.
const listConcurrency = 16

// Copies lists the backups in one store, oldest first.
func Copies(ctx context.Context, r store.Reader, n Naming) ([]Copy, error) {
	objects, err := r.List(ctx)
	if err != nil {
		return nil, err
	}
	byName := make(map[string]store.Object, len(objects))
	for _, o := range objects {
		byName[o.Name] = o
	}
	var out []Copy
	for _, o := range objects {
		f, ok := n.Parse(o.Name)
		if !ok {
			continue
		}
		c := Copy{File: f, Size: o.Size}
		if g := n.globalsName(f); byName[g].Name != "" {
			c.globals = g
		}
		out = append(out, c)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(listConcurrency)
	for i := range out {
		manifest, ok := byName[ManifestName(out[i].Name)]
		g.Go(func() error { return out[i].inspect(ctx, r, manifest, ok) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(out, func(a, b Copy) int { return a.Time.Compare(b.Time) })
	return out, nil
}

// inspect tells the copy's kind.
func (c *Copy) inspect(ctx context.Context, r store.Reader, manifest store.Object, ok bool) error {
	if !ok {
		return c.withoutManifest(ctx, r)
	}
	head, err := readRange(ctx, r, manifest.Name, min(headSize, manifest.Size))
	if errors.Is(err, store.ErrNotExist) {
		return c.withoutManifest(ctx, r) // pruned meanwhile
	}
	if err != nil {
		return err
	}
	summary, err := decodeSummary(head, c.Name)
	switch {
	case err != nil:
		c.Kind, c.Problem = Damaged, err.Error()
	case summary.Size != c.Size:
		c.Kind, c.Problem = Damaged, fmt.Sprintf("it has %d bytes, its manifest says %d", c.Size, summary.Size)
	default:
		c.Kind, c.Summary = Indexed, summary
	}
	return nil
}

func (c *Copy) withoutManifest(ctx context.Context, r store.Reader) error {
	c.Kind = Plain
	if c.Encrypted || c.Codec != sqldump.Gzip {
		c.Kind = Unfinished // the old script wrote neither
		return nil
	}
	head, err := readRange(ctx, r, c.Name, min(64, c.Size))
	if errors.Is(err, store.ErrNotExist) {
		c.Kind = Unfinished
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case len(head) == 0:
		c.Kind, c.Problem = Damaged, "the file is empty"
	case sqldump.Marked(head):
		c.Kind = Unfinished
	}
	return nil
}

func readRange(ctx context.Context, r store.Reader, name string, n int64) ([]byte, error) {
	rc, err := r.Open(ctx, name, 0, n)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rc.Close() }()
	b, err := io.ReadAll(io.LimitReader(rc, n))
	if err != nil {
		return nil, fmt.Errorf("read %s in %s: %w", name, r.Location(), err)
	}
	return b, nil
}

// Entry is one backup wherever it is held.
type Entry struct {
	File
	Local  *Copy
	Remote *Copy
}

// Best returns the copy to read: a sound one before a good one before any, and
// the local one before the bucket's.
func (e Entry) Best() *Copy {
	for _, fits := range []func(Copy) bool{Copy.Sound, Copy.Good} {
		for _, c := range []*Copy{e.Local, e.Remote} {
			if c != nil && fits(*c) {
				return c
			}
		}
	}
	if e.Local != nil {
		return e.Local
	}
	return e.Remote
}

// Good reports whether any copy is sound.
func (e Entry) Good() bool { return e.Best().Sound() }

// List merges the backups of both stores, oldest first. Either may be nil. A
// store that cannot be listed is an error beside the other's entries.
func List(ctx context.Context, local, remote store.Reader, n Naming, verified Verifications) ([]Entry, error) {
	var copies [2][]Copy
	var errs [2]error
	var wg sync.WaitGroup
	for i, r := range []store.Reader{local, remote} {
		if r != nil {
			wg.Go(func() {
				copies[i], errs[i] = Copies(ctx, r, n)
				verified.Mark(r.Location(), copies[i])
			})
		}
	}
	wg.Wait()
	at := map[string]int{}
	var out []Entry
	for side, list := range copies {
		for i := range list {
			c := &list[i]
			j, ok := at[c.Name]
			if !ok {
				j = len(out)
				at[c.Name] = j
				out = append(out, Entry{File: c.File})
			}
			if side == 0 {
				out[j].Local = c
			} else {
				out[j].Remote = c
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Entry) int { return a.Time.Compare(b.Time) })
	return out, errors.Join(errs[0], errs[1])
}

// loadManifest reads the manifest of a backup of size bytes; ErrNotExist if it
// has none.
func loadManifest(ctx context.Context, r store.Reader, name string, size int64) (*Manifest, error) {
	rc, err := r.Open(ctx, ManifestName(name), 0, -1)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rc.Close() }()
	return decodeManifest(rc, name, size)
}
