package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// owned lists the containers and volumes that one of these processes made.
func owned(t *testing.T, pids map[int]bool) []string {
	t.Helper()
	var left []string
	for _, kind := range []string{"container", "volume"} {
		args := map[string][]string{"container": {"ps", "-aq", "--no-trunc"}, "volume": {"volume", "ls", "-q"}}[kind]
		ids, err := exec.Command("docker", append(args, "--filter", "label=escrowctl.dr-test.run")...).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range strings.Fields(string(ids)) {
			format := map[string]string{"container": "{{json .Config.Labels}}", "volume": "{{json .Labels}}"}[kind]
			out, err := exec.Command("docker", kind, "inspect", "-f", format, id).Output()
			if err != nil {
				continue // gone meanwhile
			}
			labels := map[string]string{}
			if err := json.Unmarshal(out, &labels); err != nil {
				t.Fatal(err)
			}
			pid := 0
			_, _ = fmt.Sscanf(labels["escrowctl.dr-test.owner"], "%d.", &pid)
			if pids[pid] {
				left = append(left, kind+" "+id)
			}
		}
	}
	return left
}

// TestDRTestCrash kills tests at random moments, of either engine and storage.
// After the next one nothing of them is left.
func TestDRTestCrash(t *testing.T) {
	t.Parallel()
	kills := 50
	if testing.Short() {
		kills = 10
	}
	s := newDRSandbox(t)
	s.docker(t)
	run := func(i int) *exec.Cmd {
		engine := []string{"docker", "local"}[i%2]
		cmd := s.command("dr-test", "--engine", engine, "--from", "local")
		cmd.Env = append(cmd.Env, "ESCROWCTL_DR_TEST_STORAGE="+[]string{"memory", "disk"}[i/2%2])
		return cmd
	}
	var whole [2]time.Duration
	for i := range whole {
		start := time.Now()
		if out, err := run(i).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		whole[i] = time.Since(start)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("a test takes %s and %s, seed %d", whole[0], whole[1], seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	pids := map[int]bool{}
	found := 0
	for i := range kills {
		cmd := run(i)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pids[cmd.Process.Pid] = true
		time.Sleep(time.Duration(rng.Int64N(int64(whole[i%2]))))
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
		if left := must(globTmp(s.tmp)); len(left) > 0 {
			found++
		}
	}
	if found == 0 {
		t.Error("no kill left anything behind: they prove nothing")
	}
	// The next one.
	last := run(1)
	if out, err := last.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.nothingLeft(t)
	if left := owned(t, pids); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	t.Logf("%d of %d kills left something for the next run", found, kills)
}

// TestDRTestSignals ends tests with SIGTERM: they remove their server before
// they go, and the exit code is the signal's.
func TestDRTestSignals(t *testing.T) {
	t.Parallel()
	s := newDRSandbox(t)
	slow := s.plain(t, "--\n-- PostgreSQL database dump\n--\nSELECT pg_sleep(60);\n--\n-- PostgreSQL database dump complete\n--\n")
	for _, engine := range []string{"docker", "local"} {
		t.Run(engine, func(t *testing.T) {
			if engine == "docker" && s.image == "" {
				s.docker(t)
			}
			cmd := s.command("dr-test", "--engine", engine, "-v", slow)
			errs := &waitFor{text: "creating tables", seen: make(chan struct{})}
			cmd.Stderr = errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-errs.seen:
			case <-time.After(soon):
				t.Errorf("it never came so far: %s", errs.String())
			}
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 143 {
				t.Errorf("exit %d: %s", code, errs.String())
			}
			s.nothingLeft(t)
			if s.image != "" {
				if left := owned(t, map[int]bool{cmd.Process.Pid: true}); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			}
		})
	}
}

// waitFor is an output in which a text is awaited.
type waitFor struct {
	text string
	seen chan struct{}

	mu   sync.Mutex
	buf  strings.Builder
	once sync.Once
}

func (w *waitFor) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Write(p)
	if strings.Contains(w.buf.String(), w.text) {
		w.once.Do(func() { close(w.seen) })
	}
	return len(p), nil
}

func (w *waitFor) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// TestDRTestAtOnce runs several tests at the same time.
func TestDRTestAtOnce(t *testing.T) {
	t.Parallel()
	s := newDRSandbox(t)
	engines := []string{"local", "local"}
	if s.image != "" {
		engines = append(engines, "docker", "docker")
	}
	var wg sync.WaitGroup
	for _, engine := range engines {
		wg.Go(func() {
			if out, err := s.command("dr-test", "--engine", engine).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", engine, err, out)
			}
		})
	}
	wg.Wait()
	s.nothingLeft(t)
}

// TestDRTestTimeLimit names the stage that a hang was in. Where even the start of
// the server takes so long, it is given more time.
func TestDRTestTimeLimit(t *testing.T) {
	t.Parallel()
	s := newDRSandbox(t)
	hang := s.plain(t, "--\n-- PostgreSQL database dump\n--\nSELECT pg_sleep(600);\n--\n-- PostgreSQL database dump complete\n--\n")
	for _, limit := range []string{"15s", "1m0s", "4m0s"} {
		_, summary := s.drTest(t, 2, "--engine", "local", "--timeout", limit, hang).check("restore")
		if summary == "the time limit of "+limit+" was reached while creating tables" {
			return
		}
		t.Log(summary)
	}
	t.Error("the stage is never named")
}
