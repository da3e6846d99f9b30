package cli

import (
	"context"
	"errors"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/compose"
	"github.com/stellarescrow/escrowctl/internal/health"
)

func (d *deps) containersProbe() check.Probe {
	return health.Containers(health.ContainersOptions{
		Project: d.projectView, Ignore: d.cfg.ShiftCheck.IgnoreServices, Shift: d.cfg.ShiftCheck.Shift, Start: d.cfg.ShiftCheck.StartWithin,
		Limit: d.cfg.ShiftCheck.Timeout, Memory: d.state, Now: d.app.io.Now,
	})
}

// projectView looks at the compose project: its containers on the engine, and
// its services in the compose files.
func (d *deps) projectView(ctx context.Context) (health.ProjectView, error) {
	p, err := d.composeProject(ctx)
	if errors.Is(err, compose.ErrNoProject) {
		return d.emptyView(err)
	}
	if err != nil {
		return health.ProjectView{}, err
	}
	list, err := p.Inspect(ctx)
	if err != nil {
		return health.ProjectView{}, err
	}
	view := health.ProjectView{Name: p.Name()}
	for _, in := range list {
		view.Containers = append(view.Containers, containerView(in))
	}
	def, err := p.Define(d.composeOptions(), d.cfg.Compose.EnvFile)
	view.Services, view.Undefined = serviceViews(def), err
	return view, nil
}

// emptyView is a project of which the engine has no container: where its files
// are known all its services are missing, else nothing is known.
func (d *deps) emptyView(cause error) (health.ProjectView, error) {
	c := d.cfg.Compose
	if c.Dir == "" && len(c.Files) == 0 {
		return health.ProjectView{}, cause
	}
	def, err := compose.Define(d.composeOptions(), c.EnvFile)
	if err != nil {
		return health.ProjectView{}, errors.Join(cause, err)
	}
	return health.ProjectView{Name: compose.NameFor(d.composeOptions()), Services: serviceViews(def)}, nil
}

func serviceViews(def compose.Definition) []health.ServiceView {
	var out []health.ServiceView
	for _, s := range def.Services {
		out = append(out, health.ServiceView{
			Name: s.Name, Wanted: s.Wanted, Replicas: s.Replicas, OneShot: s.OneShot, Image: s.Image, Env: health.Fingerprints(s.Env),
		})
	}
	return out
}

func containerView(in compose.Inspection) health.ContainerView {
	return health.ContainerView{
		ID: in.ID, Name: in.Name, Service: in.Service, Number: in.Number, State: in.State, Health: in.Health, HealthOutput: in.HealthOutput,
		FailingStreak: in.FailingStreak, HealthLimit: in.HealthLimit, Started: in.Started, Finished: in.Finished,
		ExitCode: in.ExitCode, OOMKilled: in.OOMKilled, Error: in.Error, RestartCount: in.RestartCount,
		Image: in.Image, ImageID: in.ImageID, ImageNow: in.ImageNow, Env: health.Fingerprints(in.Env),
	}
}
