package health

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/secret"
)

// ContainersID is the ID of the check of the compose project.
const ContainersID = "containers"

const (
	// startingLimit is how long a container may be starting whose healthcheck
	// allows for less.
	startingLimit = 2 * time.Minute
	// loopUptime is the uptime below which several restarts are a loop.
	loopUptime   = 2 * time.Minute
	loopRestarts = 3
	// restartsDoc is the document with the restart counts of the shift's begin.
	restartsDoc = "shift-check-containers"
)

// ProjectView is the compose project as it is and as it should be.
type ProjectView struct {
	Name       string // as in docker compose -p
	Containers []ContainerView
	Services   []ServiceView
	// Undefined is why Services are not known; nil if they are.
	Undefined error
}

// ServiceView is a service as the compose files define it.
type ServiceView struct {
	Name     string
	Wanted   bool // it has to run
	Replicas int
	OneShot  bool              // it has to complete, not to run
	Image    string            // empty: not known
	Env      map[string]string // fingerprints of what .env gives its variables now
}

// ContainerView is a container as the engine has it.
type ContainerView struct {
	ID, Name, Service string
	Number            int
	State             string // created, running, paused, restarting, exited, dead, removing
	Health            string // healthy, unhealthy, starting; empty without a healthcheck
	HealthOutput      string
	FailingStreak     int
	HealthLimit       time.Duration
	Started, Finished time.Time
	ExitCode          int
	OOMKilled         bool
	Error             string
	RestartCount      int
	Image             string            // the name it was made from
	ImageID, ImageNow string            // what it runs, and what that name means now
	Env               map[string]string // fingerprints
}

// ContainersOptions say how the project is looked at.
type ContainersOptions struct {
	Project func(ctx context.Context) (ProjectView, error)
	Ignore  []string      // services that need not run
	Shift   time.Duration // a restart in it is told; 0 is DefaultShift
	Start   time.Duration // how long a container may be starting; 0 is 2 minutes
	Limit   time.Duration
	Memory  Memory // keeps the restart counts; nil keeps none
	Now     func() time.Time
}

// Containers checks that every service that the compose project defines is
// there, runs and is healthy, and that its containers are of the image and the
// .env that they would be made of today.
func Containers(opt ContainersOptions) check.Probe {
	opt.Shift, opt.Start = cmp.Or(opt.Shift, DefaultShift), cmp.Or(opt.Start, startingLimit)
	c := &containers{opt}
	return check.Probe{ID: ContainersID, Limit: opt.Limit, Run: c.run}
}

type containers struct{ ContainersOptions }

// restarts are the restart counts by container at a time.
type restarts struct {
	At     time.Time      `json:"at"`
	Counts map[string]int `json:"counts"`
}

func (c *containers) run(ctx context.Context) check.Result {
	ctx, cancel := withMargin(ctx)
	defer cancel()
	view, err := c.Project(ctx)
	if err != nil {
		return check.Result{ID: ContainersID, Status: check.Unknown, Summary: errorLine(err), Alert: runbook.ServiceDown, Action: "docker ps -a"}
	}
	return c.judge(view)
}

func errorLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", " ") }

// judge makes the result of what was seen.
func (c *containers) judge(v ProjectView) check.Result {
	r := check.Result{ID: ContainersID}
	before := c.recall(v.Containers)
	var healthy, plain, completed int
	for _, ct := range v.Containers {
		if slices.Contains(c.Ignore, ct.Service) {
			continue
		}
		s, defined := serviceNamed(v.Services, ct.Service)
		if defined && !s.Wanted && ct.State != "running" && ct.State != "restarting" {
			continue // of a profile that is not active
		}
		p := c.container(v.Name, ct, s, before)
		switch {
		case p.Status != check.OK:
		case ct.Health == "healthy":
			healthy++
		case ct.State != "running":
			completed++
		default:
			plain++
		}
		r.Parts = append(r.Parts, p)
	}
	r.Parts = append(r.Parts, c.missing(v)...)
	if v.Undefined != nil {
		r.Parts = append(r.Parts, check.Result{
			ID: "definition", Status: check.Unknown, Summary: "a service that is missing would not be seen: " + errorLine(v.Undefined),
			Action: "set compose.files to the project's compose file", Alert: runbook.ServiceDown,
		})
	}
	slices.SortStableFunc(r.Parts, func(a, b check.Result) int { return cmp.Compare(b.Status, a.Status) })
	if len(c.Ignore) > 0 {
		r.Detail = []string{"ignored (shift_check.ignore_services): " + strings.Join(c.Ignore, ", ")}
	}
	if len(r.Parts) == 0 {
		r.Status, r.Summary, r.Alert = check.Unknown, "the project "+v.Name+" has no container to look at", runbook.ServiceDown
		return r
	}
	r.Status = check.WorstOf(r.Parts)
	r.Figures = []check.Figure{
		{Name: "healthy", Unit: "count", Value: float64(healthy)},
		{Name: "without_healthcheck", Unit: "count", Value: float64(plain)},
		{Name: "not_ok", Unit: "count", Value: float64(len(broken(r.Parts)))},
	}
	r.Summary = containersSummary(r.Parts, healthy, plain, completed)
	return r
}

func broken(parts []check.Result) []check.Result {
	return slices.DeleteFunc(slices.Clone(parts), func(p check.Result) bool { return p.Status == check.OK })
}

func containersSummary(parts []check.Result, healthy, plain, completed int) string {
	text := fmt.Sprintf("%d healthy", healthy)
	if plain > 0 {
		text += fmt.Sprintf(", %d running without a healthcheck", plain)
	}
	if completed > 0 {
		text += fmt.Sprintf(", %d completed", completed)
	}
	bad := broken(parts)
	switch len(bad) {
	case 0:
		return text
	case 1:
		return bad[0].ID + ": " + bad[0].Summary + "; " + text
	}
	var ids []string
	for _, p := range bad[1:] {
		ids = append(ids, p.ID)
	}
	return bad[0].ID + ": " + bad[0].Summary + "; also " + strings.Join(ids, ", ")
}

func serviceNamed(services []ServiceView, name string) (ServiceView, bool) {
	i := slices.IndexFunc(services, func(s ServiceView) bool { return s.Name == name })
	if i < 0 {
		return ServiceView{}, false
	}
	return services[i], true
}

// missing are the services that have no container, or not enough.
func (c *containers) missing(v ProjectView) []check.Result {
	var out []check.Result
	for _, s := range v.Services {
		if !s.Wanted || slices.Contains(c.Ignore, s.Name) {
			continue
		}
		n := 0
		for _, ct := range v.Containers {
			if ct.Service == s.Name {
				n++
			}
		}
		if n >= s.Replicas {
			continue
		}
		p := down(v.Name, s.Name, s.Name)
		p.Summary = "defined in the compose file, and has no container"
		if n > 0 {
			p.ID += "-scale"
			p.Summary = fmt.Sprintf("%d containers, where the compose file has %d", n, s.Replicas)
		}
		out = append(out, p)
	}
	return out
}

// down is a part for a service that does not do its work.
func down(project, id, service string) check.Result {
	p := check.Result{ID: id, Status: check.Critical, Alert: runbook.ServiceDown, Action: composeUp(project, service)}
	if rb, ok := runbook.ProcedureFor(service); ok {
		p.Runbooks = []string{rb}
	}
	return p
}

func composeUp(project, service string) string {
	return "docker compose -p " + project + " up -d " + service
}

// container judges one container.
func (c *containers) container(project string, ct ContainerView, s ServiceView, before restarts) check.Result {
	id := ct.Service
	if ct.Number > 1 {
		id = fmt.Sprintf("%s-%d", ct.Service, ct.Number)
	}
	p := down(project, id, ct.Service)
	logs := "docker logs --tail 50 " + ct.Name
	uptime := c.Now().Sub(ct.Started)
	switch {
	case ct.State == "paused":
		p.Summary, p.Action = "paused", "docker unpause "+ct.Name
	case ct.State == "restarting", ct.State == "running" && ct.RestartCount >= loopRestarts && uptime < loopUptime:
		p.Summary = fmt.Sprintf("in a restart loop: restarted %d times, last ended with %s", ct.RestartCount, exitText(ct))
		p.Since, p.Action = ct.Finished, logs
	case ct.State == "exited" && s.OneShot && ct.ExitCode == 0:
		return check.Result{ID: id, Summary: "completed"}
	case ct.State != "running":
		p.Summary, p.Since = stopped(ct), ct.Finished
		if ct.ExitCode != 0 || ct.Error != "" {
			p.Action += ", and see " + logs
		}
	case ct.Health == "unhealthy":
		p.Summary = fmt.Sprintf("unhealthy: %d checks in a row failed", ct.FailingStreak)
		if ct.HealthOutput != "" {
			p.Detail = []string{"the last said: " + clean(strings.TrimSpace(ct.HealthOutput))}
		}
		p.Action = logs
	case ct.Health == "starting":
		p.Summary, p.Since, p.Action = "starting for "+span(uptime)+", not yet healthy", ct.Started, logs
		if uptime <= max(c.Start, ct.HealthLimit) {
			p.Status, p.Alert, p.Runbooks = check.Warning, "", nil
		}
	default:
		return c.running(project, id, ct, s, before)
	}
	return p
}

// exitText is the exit code, and what is known of it. Docker loses the word of
// the kernel that memory was out when a container dies within milliseconds, so a
// SIGKILL is not called an operator's.
func exitText(ct ContainerView) string {
	switch {
	case ct.OOMKilled:
		return fmt.Sprintf("%d, killed for memory (OOM)", ct.ExitCode)
	case ct.ExitCode == 137:
		return "137 (SIGKILL, by hand or for memory)"
	}
	return fmt.Sprint(ct.ExitCode)
}

func stopped(ct ContainerView) string {
	switch {
	case ct.State == "created":
		return strings.TrimSpace("never started. " + clean(ct.Error))
	case ct.OOMKilled:
		return fmt.Sprintf("killed for memory (OOM), exit %d", ct.ExitCode)
	case ct.Error != "":
		return fmt.Sprintf("%s with %d: %s", ct.State, ct.ExitCode, clean(ct.Error))
	}
	return fmt.Sprintf("stopped: %s with %s", ct.State, exitText(ct))
}

// running looks at a container that does its work: has it been restarted, and
// is it what would be made today?
func (c *containers) running(project, id string, ct ContainerView, s ServiceView, before restarts) check.Result {
	p := check.Result{ID: id, Summary: cmp.Or(ct.Health, "running, no healthcheck")}
	var odd []string
	logs := "docker logs --tail 50 " + ct.Name
	if n := ct.RestartCount - before.Counts[ct.ID]; n > 0 {
		odd = append(odd, fmt.Sprintf("restarted %s since %s", times(n), before.At.UTC().Format("2006-01-02 15:04 UTC")))
		p.Action, p.Since = logs, ct.Started
	}
	if ct.ImageNow != "" && ct.ImageNow != ct.ImageID {
		odd = append(odd, "runs an older build of its image "+ct.Image)
		p.Action = composeUp(project, ct.Service)
	}
	if s.Image != "" && s.Image != ct.Image && !strings.HasPrefix(ct.Image, "sha256:") {
		odd = append(odd, fmt.Sprintf("runs %s, the compose file has %s", ct.Image, s.Image))
		p.Action = composeUp(project, ct.Service)
	}
	for _, name := range sortedKeys(s.Env) {
		if ct.Env[name] == s.Env[name] {
			continue
		}
		odd = append(odd, fmt.Sprintf("%s is %s in .env and %s in the container", name, cmp.Or(s.Env[name], "empty"), cmp.Or(ct.Env[name], "empty")))
		// A restart would keep the old value.
		p.Action = composeUp(project, ct.Service)
	}
	if len(odd) > 0 {
		p.Status = check.Warning
		p.Summary += ", but " + odd[0]
		p.Detail = odd[1:]
	}
	return p
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// recall returns the restart counts at the beginning of the shift, and keeps
// those of now once that shift is over. Without any, what has restarted within
// the last shift counts.
func (c *containers) recall(list []ContainerView) restarts {
	now := restarts{At: c.Now(), Counts: map[string]int{}}
	first := restarts{At: c.Now().Add(-c.Shift), Counts: map[string]int{}}
	for _, ct := range list {
		now.Counts[ct.ID] = ct.RestartCount
		if c.Now().Sub(ct.Started) > c.Shift {
			first.Counts[ct.ID] = ct.RestartCount
		}
	}
	if c.Memory == nil {
		return first
	}
	var before restarts
	found, err := c.Memory.Load(restartsDoc, &before)
	if err != nil || !found || before.Counts == nil {
		_ = c.Memory.Save(restartsDoc, first) // the next check begins like this one
		return first
	}
	if c.Now().Sub(before.At) > c.Shift {
		_ = c.Memory.Save(restartsDoc, now) // as above
	}
	return before
}

// Fingerprints makes of variables what may be compared and shown.
func Fingerprints(env map[string]string) map[string]string {
	out := make(map[string]string, len(env))
	for name, value := range env {
		out[name] = secret.Fingerprint(value)
	}
	return out
}
