package compose

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

// Inspection is a container in detail.
type Inspection struct {
	Container

	Created, Started, Finished time.Time // zero if it never was
	ExitCode                   int
	OOMKilled                  bool
	Error                      string // why the engine could not start it
	RestartCount               int
	RestartPolicy              string // no, always, unless-stopped, on-failure
	HealthOutput               string // of the last healthcheck, when it failed
	FailingStreak              int
	HealthLimit                time.Duration // within which the healthcheck must have said something; 0 without one

	ImageID string // what it runs
	// ImageNow is what the name of its image means on the engine now; empty if it
	// means nothing any more.
	ImageNow string
	Env      map[string]string // holds secrets
}

// Inspect lists the project's containers as Containers does, each inspected, all
// at once. A container that goes away meanwhile is left out.
func (p *Project) Inspect(ctx context.Context) ([]Inspection, error) {
	list, err := p.Containers(ctx)
	if err != nil {
		return nil, err
	}
	found := make([]*Inspection, len(list))
	errs := make([]error, len(list))
	images := p.imageResolver(ctx)
	var wg sync.WaitGroup
	for i, c := range list {
		wg.Go(func() { found[i], errs[i] = p.examine(ctx, c, images) })
	}
	wg.Wait()
	var out []Inspection
	for i := range list {
		if errs[i] != nil {
			return nil, errs[i]
		}
		if found[i] != nil {
			out = append(out, *found[i])
		}
	}
	return out, nil
}

func (p *Project) examine(ctx context.Context, c Container, image func(string) (string, error)) (*Inspection, error) {
	result, err := inspect(ctx, p.engine, c.ID)
	if errdefs.IsNotFound(err) {
		return nil, nil //nolint:nilnil // it has gone since it was listed
	}
	if err != nil {
		return nil, engineError(ctx, "inspect container "+c.Name, p.engine.DaemonHost(), err)
	}
	r := result.Container
	in := &Inspection{Container: c, ImageID: r.Image, RestartCount: r.RestartCount, Created: engineTime(r.Created), Env: map[string]string{}}
	if s := r.State; s != nil {
		in.State = string(s.Status)
		in.Started, in.Finished = engineTime(s.StartedAt), engineTime(s.FinishedAt)
		in.ExitCode, in.OOMKilled, in.Error = s.ExitCode, s.OOMKilled, s.Error
		in.health(s.Health)
	}
	if r.HostConfig != nil {
		in.RestartPolicy = string(r.HostConfig.RestartPolicy.Name)
	}
	if r.Config == nil {
		return in, nil
	}
	in.Image = r.Config.Image
	in.HealthLimit = healthLimit(r.Config.Healthcheck)
	for _, entry := range r.Config.Env {
		if name, value, ok := strings.Cut(entry, "="); ok {
			in.Env[name] = value
		}
	}
	in.ImageNow, err = image(in.Image)
	return in, err
}

// health takes what the engine says of the healthcheck.
func (in *Inspection) health(h *container.Health) {
	in.Health = ""
	if h == nil || h.Status == container.NoHealthcheck {
		return
	}
	in.Health, in.FailingStreak = string(h.Status), h.FailingStreak
	if n := len(h.Log); n > 0 && h.Log[n-1] != nil && h.Log[n-1].ExitCode != 0 {
		in.HealthOutput = h.Log[n-1].Output
	}
}

// healthLimit is the time in which a healthcheck turns to healthy or unhealthy.
// The engine's defaults stand for what is 0.
func healthLimit(h *container.HealthConfig) time.Duration {
	if h == nil || len(h.Test) == 0 || h.Test[0] == "NONE" {
		return 0
	}
	interval, timeout, retries := h.Interval, h.Timeout, h.Retries
	if interval == 0 {
		interval = 30 * time.Second
	}
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	if retries == 0 {
		retries = 3
	}
	return h.StartPeriod + time.Duration(retries)*(interval+timeout)
}

// imageResolver returns a function that tells which image a name means; each
// name is asked for once.
func (p *Project) imageResolver(ctx context.Context) func(string) (string, error) {
	type answer struct {
		once sync.Once
		id   string
		err  error
	}
	var mu sync.Mutex
	known := map[string]*answer{}
	return func(name string) (string, error) {
		mu.Lock()
		a := known[name]
		if a == nil {
			a = new(answer)
			known[name] = a
		}
		mu.Unlock()
		a.once.Do(func() {
			result, err := p.engine.ImageInspect(ctx, name)
			switch {
			case errdefs.IsNotFound(err):
			case err != nil:
				a.err = engineError(ctx, "inspect image "+name, p.engine.DaemonHost(), err)
			default:
				a.id = result.ID
			}
		})
		return a.id, a.err
	}
}

// engineTime reads a time of the engine's; its year 1 means never.
func engineTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() < 1970 {
		return time.Time{}
	}
	return t
}
