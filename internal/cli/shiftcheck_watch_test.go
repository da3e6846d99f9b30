package cli

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
)

// Rounds of TestWatchStaysFlat, of which every other four meet dead dependencies.
const (
	watchSpell  = 4
	watchWarm   = 3 * 2 * watchSpell
	watchRounds = 9 * 2 * watchSpell
	// What the heap may grow by in the rounds between, in bytes: connections that
	// come and go, and a little a round. The leak that there was had 72 KiB a round.
	watchNoise, watchGrowth = 1 << 20, 1 << 10
)

// held is what a process has in its hands.
type held struct {
	heap, descriptors, goroutines int
}

func nowHeld(t *testing.T) held {
	t.Helper()
	for range 3 { // what a finaliser frees is gone with the collection after
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return held{int(m.HeapAlloc), len(fds), runtime.NumGoroutine()}
}

// within says whether it holds no more descriptors and goroutines than before, but
// for some that come and go.
func (h held) within(before held) bool {
	return h.descriptors <= before.descriptors+4 && h.goroutines <= before.goroutines+8
}

// heldInTheEnd waits for connections that are kept for the next request, which a
// slow machine has less of: what is still there then is held for good.
func heldInTheEnd(t *testing.T, before held) held {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		if h := nowHeld(t); h.within(before) || time.Now().After(end) {
			return h
		}
	}
}

// watcher is a terminal on which every screen counts as a round.
type watcher struct {
	rounds int
	last   bytes.Buffer
	each   func(round int)
}

// Write takes one screen.
func (w *watcher) Write(screen []byte) (int, error) {
	w.rounds++
	w.last.Reset()
	w.last.Write(screen)
	w.each(w.rounds)
	return len(screen), nil
}

// TestWatchStaysFlat: a shift check that goes on for a day holds no more memory,
// descriptors or goroutines than after its first minutes, whatever dies and
// returns meanwhile.
func TestWatchStaysFlat(t *testing.T) {
	s := putOnStage(t)
	change, cut, mend := s.behindWires(t)
	inv := s.invocation(t, change)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	rounds := watchRounds
	if kit.Full() {
		rounds = 2000
	}
	var first, last held
	well, ill := 0, 0
	screen := new(watcher)
	screen.each = func(round int) {
		if strings.Contains(screen.last.String(), "CRITICAL  redis") {
			ill++
		} else {
			well++
		}
		switch round {
		case watchWarm:
			first = nowHeld(t)
		case rounds:
			last = heldInTheEnd(t, first)
			stop()
		}
		switch round % (2 * watchSpell) {
		case watchSpell:
			cut()
		case 0:
			mend()
		}
	}
	inv.io.Out, inv.io.OutTTY = screen, true
	d, err := inv.open(looks)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	d.keepState()
	f := shiftFlags{watch: true, every: time.Millisecond}
	made, off, err := d.choose(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := inv.watch(ctx, d, f, made, off); err != nil {
		t.Fatal(err)
	}
	t.Logf("after %d rounds %+v, after %d %+v; %d well, %d ill", watchWarm, first, rounds, last, well, ill)
	if well < rounds/3 || ill < rounds/3 {
		t.Errorf("%d rounds were well and %d ill: the faults are none\n%s", well, ill, &screen.last)
	}
	if grown := last.heap - first.heap; grown > watchNoise+watchGrowth*(rounds-watchWarm) {
		t.Errorf("the heap grew by %d bytes in %d rounds, %d a round", grown, rounds-watchWarm, grown/(rounds-watchWarm))
	}
	if !last.within(first) {
		t.Errorf("it holds %+v, %+v before", last, first)
	}
}

// behindWires puts what the stage depends on behind wires: the environment that
// leads through them, and what cuts and mends them all. Docker's is a link to
// its socket.
func (s *stage) behindWires(t *testing.T) (change map[string]string, cut, mend func()) {
	t.Helper()
	change = map[string]string{"ESCROWCTL_SHIFT_CHECK_TIMEOUT": "10s"}
	var wires []*kit.Wire
	// A bucket that is dead is asked again until its time is over, which takes too long.
	for _, name := range []string{"DATABASE_URL", "REDIS_URL", "API_BASE_URL", "ESCROWCTL_API_URL"} {
		u, err := url.Parse(s.env[name])
		if err != nil {
			t.Fatal(err)
		}
		w := kit.NewWire(t, u.Host)
		wires = append(wires, w)
		change[name] = strings.Replace(s.env[name], u.Host, w.Addr(), 1)
	}
	socket := strings.TrimPrefix(s.env["DOCKER_HOST"], "unix://")
	if socket == "" {
		socket = "/var/run/docker.sock"
	}
	link := filepath.Join(t.TempDir(), "docker.sock")
	change["DOCKER_HOST"] = "unix://" + link
	plug := func() {
		if err := os.Symlink(socket, link); err != nil {
			t.Error(err)
		}
	}
	plug()
	return change, func() {
			for _, w := range wires {
				w.Shut()
				w.Cut()
			}
			if err := os.Remove(link); err != nil {
				t.Error(err)
			}
		}, func() {
			for _, w := range wires {
				w.Clear()
			}
			plug()
		}
}
