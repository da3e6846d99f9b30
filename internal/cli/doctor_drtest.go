package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/doctor"
	"github.com/stellarescrow/escrowctl/internal/pgengine"
)

// readier is an engine of recovery tests that can say beforehand whether it has
// what a server needs.
type readier interface {
	Ready(ctx context.Context, s pgengine.Spec) (string, error)
}

// drTestReach sees that a recovery test would have a server: an engine, and with
// Docker an image that is here or that can be pulled.
func (d *deps) drTestReach() check.Probe {
	return check.Probe{ID: drTestJob, Limit: doctor.Limit, Run: func(ctx context.Context) check.Result {
		eng, err := d.engine(ctx, d.cfg.DRTest.Engine)
		if err != nil {
			return check.Result{ID: drTestJob, Status: check.Critical, Summary: err.Error(), Action: "systemctl start docker; or apt-get install postgresql, and dr_test.engine: local"}
		}
		defer eng.close()
		major := d.serverMajor(ctx)
		spec := pgengine.Spec{Image: d.cfg.DRTest.Image, Major: major}
		if major == 0 && spec.Image == "" {
			return check.Result{ID: drTestJob, Status: check.Unknown, Summary: "which version it must have is not known: the database is not reached", Action: "see database"}
		}
		r, ok := eng.Engine.(readier)
		if !ok {
			return check.Result{ID: drTestJob, Status: check.Unknown, Summary: "engine " + eng.Name() + " does not say what it would start", Action: "escrowctl dr-test"}
		}
		what, err := r.Ready(ctx, spec)
		if err == nil {
			return check.Result{ID: drTestJob, Summary: "engine " + eng.Name() + ", " + what}
		}
		bad := check.Result{ID: drTestJob, Status: check.Critical, Summary: err.Error(), Action: fmt.Sprintf("apt-get install postgresql-%d; or dr_test.engine: docker", max(major, 1))}
		if errors.Is(err, pgengine.ErrNoImage) {
			bad.Action = "docker pull, or docker load; or set dr_test.image to one that is there, not older than the server"
		}
		return bad
	}}
}

// serverMajor is the major version of the database's server, 0 if it cannot be
// asked.
func (d *deps) serverMajor(ctx context.Context) int {
	s, _, err := d.connect(ctx, "escrowctl doctor")
	if err != nil {
		return 0
	}
	defer s.close()
	return s.info.VersionNum / 10000
}
