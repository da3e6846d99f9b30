package compose

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// Usage is what a container takes of the machine.
type Usage struct {
	Container Container
	// CPU is in cores, over the second between two samples; docker stats shows a
	// hundred times that as CPU %.
	CPU float64
	// Memory is in bytes without the page cache that could be dropped, as docker
	// stats has it.
	Memory int64
	// MemoryLimit and CPULimit (cores) are those of the container; 0 is none.
	MemoryLimit int64
	CPULimit    float64
	// Periods are those in which the CPU limit was looked at, Throttled those in
	// which it held the container back, for ThrottledTime in all.
	Periods, Throttled uint64
	ThrottledTime      time.Duration
	OOMKilled          bool   // when it last stopped
	LimitHits          uint64 // of the memory limit; cgroup v1 only
	Restarts           int    // by the engine
	StartedAt          time.Time
	PIDs               uint64
}

// Usage asks for two samples of every running container, all at once, which
// takes about two seconds. A container that ends meanwhile is left out. Errors
// are those of Containers, and that no container could be asked.
func (p *Project) Usage(ctx context.Context) ([]Usage, error) {
	all, err := p.Containers(ctx)
	if err != nil {
		return nil, err
	}
	usage := make([]*Usage, len(all))
	faults := make([]error, len(all))
	var wg sync.WaitGroup
	for i, c := range all {
		if c.State == "running" {
			wg.Go(func() { usage[i], faults[i] = p.usageOf(ctx, c) })
		}
	}
	wg.Wait()
	var out []Usage
	var fault error
	for i := range all {
		if usage[i] != nil {
			out = append(out, *usage[i])
		}
		if faults[i] != nil {
			fault = faults[i]
		}
	}
	if len(out) == 0 && fault != nil {
		return nil, fault
	}
	return out, nil
}

func (p *Project) usageOf(ctx context.Context, c Container) (*Usage, error) {
	made, err := inspect(ctx, p.engine, c.ID)
	if err != nil {
		return nil, engineError(ctx, "inspect "+c.Name, p.engine.DaemonHost(), err)
	}
	answer, err := p.engine.ContainerStats(ctx, c.ID, client.ContainerStatsOptions{IncludePreviousSample: true})
	if err != nil {
		return nil, engineError(ctx, "statistics of "+c.Name, p.engine.DaemonHost(), err)
	}
	defer func() { _ = answer.Body.Close() }()
	var s container.StatsResponse
	if err := json.NewDecoder(answer.Body).Decode(&s); err != nil {
		return nil, fmt.Errorf("compose: statistics of %s: %w", c.Name, err)
	}
	if s.Read.IsZero() || s.CPUStats.CPUUsage.TotalUsage == 0 {
		return nil, nil //nolint:nilnil // it ended while it was asked
	}
	u := &Usage{
		Container: c, CPU: cpuCores(s), Memory: memoryInUse(s.MemoryStats), PIDs: s.PidsStats.Current,
		Periods: s.CPUStats.ThrottlingData.Periods, Throttled: s.CPUStats.ThrottlingData.ThrottledPeriods,
		ThrottledTime: time.Duration(s.CPUStats.ThrottlingData.ThrottledTime), LimitHits: s.MemoryStats.Failcnt, //nolint:gosec // nanoseconds of one container
		Restarts: made.Container.RestartCount,
	}
	if state := made.Container.State; state != nil {
		u.OOMKilled = state.OOMKilled
		u.StartedAt, _ = time.Parse(time.RFC3339Nano, state.StartedAt) // zero if the engine does not say
	}
	if h := made.Container.HostConfig; h != nil {
		u.MemoryLimit, u.CPULimit = h.Memory, cpuLimit(h)
	}
	return u, nil
}

// cpuLimit is the limit in cores, however it was given.
func cpuLimit(h *container.HostConfig) float64 {
	switch {
	case h.NanoCPUs > 0:
		return float64(h.NanoCPUs) / 1e9
	case h.CPUQuota > 0 && h.CPUPeriod > 0:
		return float64(h.CPUQuota) / float64(h.CPUPeriod)
	case h.CPUQuota > 0:
		return float64(h.CPUQuota) / 100_000 // the kernel's default period
	}
	return 0
}

// cpuCores is docker stats' own arithmetic: the container's share of the time
// that all cores had between the two samples, times the cores.
func cpuCores(s container.StatsResponse) float64 {
	own := float64(s.CPUStats.CPUUsage.TotalUsage) - float64(s.PreCPUStats.CPUUsage.TotalUsage)
	all := float64(s.CPUStats.SystemUsage) - float64(s.PreCPUStats.SystemUsage)
	if own <= 0 || all <= 0 {
		return 0
	}
	cores := float64(s.CPUStats.OnlineCPUs)
	if cores == 0 {
		cores = float64(len(s.CPUStats.CPUUsage.PercpuUsage))
	}
	return own / all * cores
}

// memoryInUse is the usage without the page cache that nothing has used lately:
// total_inactive_file on cgroup v1, inactive_file on v2.
func memoryInUse(m container.MemoryStats) int64 {
	usage := m.Usage
	for _, name := range []string{"total_inactive_file", "inactive_file"} {
		if cache, ok := m.Stats[name]; ok {
			if cache < usage {
				usage -= cache
			}
			break
		}
	}
	return int64(usage) //nolint:gosec // bytes of memory
}

// MemoryLimit is the memory limit of the service's running container, in bytes;
// 0 is none. Errors are those of Containers, ErrNoService and ErrNotRunning.
func (p *Project) MemoryLimit(ctx context.Context, service string) (int64, error) {
	c, err := p.running(ctx, service)
	if err != nil {
		return 0, err
	}
	made, err := inspect(ctx, p.engine, c.ID)
	if err != nil {
		return 0, engineError(ctx, "inspect "+c.Name, p.engine.DaemonHost(), err)
	}
	if made.Container.HostConfig == nil {
		return 0, nil
	}
	return made.Container.HostConfig.Memory, nil
}

// Host is the memory of the engine's machine, in bytes, and the directory in
// which the engine keeps its data.
func (p *Project) Host(ctx context.Context) (bytes int64, root string, err error) {
	info, err := p.engine.Info(ctx, client.InfoOptions{})
	if err != nil {
		return 0, "", engineError(ctx, "ask the engine about itself", p.engine.DaemonHost(), err)
	}
	return info.Info.MemTotal, info.Info.DockerRootDir, nil
}
