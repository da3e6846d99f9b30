package compose

import (
	"bytes"
	"encoding/json"
	"math"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// TestUsage runs containers that take half a core and 60 MB, and compares with
// what docker stats says of them at the same time.
func TestUsage(t *testing.T) {
	t.Parallel()
	d := testenv.Docker(t)
	project := "escrowctl-test-" + d.Run
	start := func(service string, limits container.Resources, script string) string {
		t.Helper()
		id := d.Start(t, testenv.Container{
			Image: testenv.PostgresImage(t), Project: project, Service: service, Cmd: []string{"sh", "-c", script},
			Tmpfs: map[string]string{"/big": "size=200m"},
		})
		if _, err := d.Client.ContainerUpdate(t.Context(), id, client.ContainerUpdateOptions{Resources: &limits}); err != nil {
			t.Fatal(err)
		}
		return id
	}
	// A tmpfs counts as memory, and is no cache that could be dropped.
	start("memory", container.Resources{Memory: 300 << 20, MemorySwap: 300 << 20}, "head -c 60000000 /dev/zero > /big/file; touch /big/done; sleep 600")
	start("cpu", container.Resources{NanoCPUs: 100_000_000}, "while :; do :; done")
	p, err := Open(t.Context(), Options{Project: project})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	// The load of a test machine moves, and the two look at seconds that are not
	// quite the same: the comparison is tried again, and it is of a limit that
	// a container comes to beside many others. At first there is nothing to see.
	var off string
	for end := time.Now().Add(patience); time.Now().Before(end); {
		type shown struct{ CPUPerc, MemUsage, Name string }
		stats := make(chan map[string]shown, 1)
		go func() {
			out, _ := exec.Command("docker", "stats", "--no-stream", "--format", "{{json .}}").Output()
			all := map[string]shown{}
			for line := range bytes.Lines(out) {
				var s shown
				if json.Unmarshal(line, &s) == nil {
					all[s.Name] = s
				}
			}
			stats <- all
		}()
		usage, err := p.Usage(t.Context())
		if err != nil || len(usage) != 2 {
			t.Fatalf("%d containers: %v", len(usage), err)
		}
		theirs := <-stats
		off = ""
		for _, u := range usage {
			s := theirs[u.Container.Name]
			cpu, _ := strconv.ParseFloat(strings.TrimSuffix(s.CPUPerc, "%"), 64)
			used, _, _ := strings.Cut(s.MemUsage, " / ")
			mem := parseMiB(used)
			t.Logf("%s: CPU %.2f %%, docker stats %s; memory %.2f MiB, docker stats %s; throttled %d of %d", u.Container.Service, 100*u.CPU, s.CPUPerc, float64(u.Memory)/(1<<20), s.MemUsage, u.Throttled, u.Periods)
			switch u.Container.Service {
			case "cpu":
				if math.Abs(100*u.CPU-cpu) > 0.15*cpu || math.Abs(u.CPU-0.1) > 0.03 || u.Periods == 0 || u.Throttled == 0 {
					off += " cpu"
				}
				if u.CPULimit != 0.1 {
					t.Errorf("limit %v", u.CPULimit)
				}
			case "memory":
				if math.Abs(float64(u.Memory)-mem) > 0.05*mem || u.Memory < 60_000_000 || u.Memory > 80_000_000 {
					off += " memory"
				}
				if u.MemoryLimit != 300<<20 || u.OOMKilled || u.StartedAt.IsZero() {
					t.Errorf("%+v", u)
				}
			}
		}
		if off == "" {
			return
		}
	}
	t.Errorf("never as docker stats says:%s", off)
}

func parseMiB(text string) float64 {
	for unit, factor := range map[string]float64{"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10} {
		if n, ok := strings.CutSuffix(text, unit); ok {
			f, _ := strconv.ParseFloat(n, 64)
			return f * factor
		}
	}
	return 0
}

// The two forms of the kernel's accounting, as the engine passes them on.
func TestMemoryInUse(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   container.MemoryStats
		want int64
	}{
		{"cgroup v1", container.MemoryStats{Usage: 100, Stats: map[string]uint64{"total_inactive_file": 30, "inactive_file": 10}}, 70},
		{"cgroup v2", container.MemoryStats{Usage: 100, Stats: map[string]uint64{"inactive_file": 10, "file": 50}}, 90},
		{"more cache than usage", container.MemoryStats{Usage: 100, Stats: map[string]uint64{"inactive_file": 200}}, 100},
		{"nothing known", container.MemoryStats{Usage: 100}, 100},
	} {
		if got := memoryInUse(tt.in); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestCPUCores(t *testing.T) {
	s := container.StatsResponse{
		CPUStats:    container.CPUStats{CPUUsage: container.CPUUsage{TotalUsage: 1_500, PercpuUsage: []uint64{1, 2}}, SystemUsage: 12_000, OnlineCPUs: 4},
		PreCPUStats: container.CPUStats{CPUUsage: container.CPUUsage{TotalUsage: 500}, SystemUsage: 10_000},
	}
	if got := cpuCores(s); got != 2 {
		t.Errorf("%v cores, want 2", got)
	}
	s.CPUStats.OnlineCPUs = 0 // an old engine counts none
	if got := cpuCores(s); got != 1 {
		t.Errorf("%v cores, want 1", got)
	}
	s.PreCPUStats = s.CPUStats
	if got := cpuCores(s); got != 0 {
		t.Errorf("%v cores, want 0", got)
	}
	if got := cpuLimit(&container.HostConfig{Resources: container.Resources{CPUQuota: 50_000}}); got != 0.5 {
		t.Errorf("limit %v, want 0.5", got)
	}
}
