package backup

import (
	"context"
	"errors"
	"slices"

	"github.com/stellarescrow/escrowctl/internal/store"
)

// after does what follows a good backup; none of it can spoil it.
func (r *run) after(ctx context.Context) {
	if r.Remote != nil && r.res.UploadErr == nil {
		catchUp := CatchUp{Local: r.Local, Remote: r.Remote, Naming: r.Naming, Keep: r.RemoteKeep, Verified: r.Verified, Now: r.Now()}
		sent, err := catchUp.Run(ctx)
		r.res.CaughtUp, r.res.Stuck = sent.Names, sent.Stuck
		for _, s := range sent.Stuck {
			r.warn("%v", s.Err)
		}
		if err != nil {
			r.res.UploadErr = err
		}
	}
	switch {
	case r.res.UploadErr != nil:
		return // what is missing in the bucket must not be pruned here
	case r.Held || len(r.res.Losses) > 0:
		r.warn("nothing is pruned until the loss is acknowledged: escrowctl backup ack")
		return
	}
	pruned, err := r.prune(ctx)
	r.res.Pruned = pruned
	if err != nil {
		r.warn("prune: %v", err)
	}
}

func (r *run) prune(ctx context.Context) ([]string, error) {
	pruned, err := r.pruneOne(ctx, r.Local, r.Retention)
	if err != nil || r.Remote == nil {
		return pruned, err
	}
	there, err := r.pruneOne(ctx, r.Remote, r.RemoteKeep)
	if errors.Is(err, store.ErrDenied) && r.RemoteKeep.zero() {
		// Where the bucket's own rules delete, what nobody will finish is theirs too.
		r.Log("left in the bucket: %v", err)
		err = nil
	}
	return append(pruned, there...), err
}

func (r *run) pruneOne(ctx context.Context, s store.Store, keep Retention) ([]string, error) {
	plan, err := PlanPrune(ctx, s, r.Naming, keep, r.Verified, r.Now())
	if err != nil {
		return nil, err
	}
	// What the bucket lacks must not be pruned here, nor what is in its way there:
	// that is somebody's to look at.
	plan.Delete = slices.DeleteFunc(plan.Delete, func(c Copy) bool {
		return slices.ContainsFunc(r.res.Stuck, func(s Stuck) bool { return s.Name == c.Name })
	})
	return plan.Apply(ctx, s)
}
