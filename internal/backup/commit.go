package backup

import (
	"context"
	"errors"
	"time"

	"github.com/stellarescrow/escrowctl/internal/store"
)

// commitLimit bounds what is still written of a dump that is whole when the run
// is interrupted.
const commitLimit = 20 * time.Second

// commitLocal makes the dump, which has its name, a backup. It does so in an
// interrupted run too: the work is done, and a dump without its manifest would
// only be in the way. So it would be if this fails, and is removed.
func (r *run) commitLocal(ctx context.Context, m *Manifest) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitLimit)
	defer cancel()
	err := r.commit(ctx, r.Local, m)
	if err != nil {
		if r.globals != nil {
			err = errors.Join(err, r.Local.Delete(ctx, r.globals.name))
		}
		err = errors.Join(err, r.Local.Delete(ctx, r.file.Name))
	}
	return err
}

// commitRemote does the same for what the bucket has in full. If it fails, the
// next run sends the local copy again.
func (r *run) commitRemote(ctx context.Context, m *Manifest) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitLimit)
	defer cancel()
	return r.commit(ctx, r.Remote, m)
}

// commit writes what belongs to the dump beside it, the manifest last.
func (r *run) commit(ctx context.Context, s store.Store, m *Manifest) error {
	if r.globals != nil {
		if err := s.Put(ctx, r.globals.name, r.globals.body); err != nil {
			return err
		}
	}
	body, err := m.encode()
	if err != nil {
		return err
	}
	return s.Put(ctx, ManifestName(m.Name), body)
}
