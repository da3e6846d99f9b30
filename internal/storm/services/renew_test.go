package services

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
)

// stormCertsRenew has a real renewal, of a certificate that is due, lose its CA,
// its disk, nginx and those that it reports to. What was served before is served
// on, and the next run renews.
func stormCertsRenew(t *testing.T, w *kit.World) {
	b := newBed(t, w)
	ca := kit.NewCA(t, b.Dir)
	wire := kit.NewWire(t, ca.Addr)
	site := kit.NewSite(t, b.Dir, ca, wire.Addr())
	b.Env = append(b.Env, append(site.Env(ca), "PATH="+site.Bin+":"+pathOf(b), "ESCROWCTL_CERTS_TIMEOUT=20s")...)
	renew := []string{"certs", "renew"}
	call := kit.Call{Args: renew}

	// due makes a cell's certificate due, and demands that the next run renews it.
	due := func(c trial) trial {
		makeIt, after := c.make, c.after
		var before string
		c.make = func(t *testing.T, b *bed) func() {
			site.Due(t, true)
			before = site.OnDisk(t)
			if makeIt == nil {
				return func() {}
			}
			return makeIt(t, b)
		}
		c.after = func(t *testing.T, b *bed, res kit.Result) {
			if served, err := site.Handshake(); c.group != "nginx" && (err != nil || served != site.OnDisk(t)) {
				t.Errorf("nginx serves %s, on the disk is %s: %v", served, site.OnDisk(t), err)
			}
			if after != nil {
				after(t, b, res)
			}
		}
		c.then = func(t *testing.T, _ *bed, _ kit.Result) {
			served, err := site.Handshake()
			if now := site.OnDisk(t); err != nil || now == before || served != now {
				t.Errorf("not renewed by the next run: before %s, on the disk %s, served %s: %v", before, now, served, err)
			}
			site.Due(t, false)
		}
		return c
	}
	var hold *kit.Hold
	silent := func(*testing.T, *bed) func() { hold = wire.HoldDown(1); return func() { wire.Clear(); wire.Cut() } }
	there := func(t *testing.T, _ *bed, run *kit.Running) { run.Until(t, "it waits for the CA", hold.Reached()) }

	var trials []trial
	for _, c := range []trial{
		{group: "CA", fault: "resets", call: call, make: func(*testing.T, *bed) func() { wire.Shut(); return wire.Clear }, codes: []int{2}, says: []string{"CA"}, after: wantsTold("CA")},
		{group: "CA", fault: "silent", call: call, make: silent, codes: []int{2}, says: []string{"20s"}, within: time.Minute, slow: true},
		{group: "certbot's disk", fault: "read-only", call: call, make: readOnlyTree(site.Dir), codes: []int{2, 3}, says: []string{"ead-only file system"}, slow: true},
		{group: "certbot", fault: "another one runs", call: call, make: certbotRuns(site, wire), codes: []int{1}, says: []string{"another certbot is running", "try again when it has ended"}, within: time.Minute, slow: true},
		{group: "nginx", fault: "stopped", call: call, make: func(*testing.T, *bed) func() { site.Stop(); return func() { site.Start(t) } }, codes: []int{2}, says: []string{"nginx"}, slow: true},
	} {
		trials = append(trials, due(c))
	}
	signals := signalFaults(renew, nil, there)
	for i := range signals {
		signals[i].make = silent
		signals[i] = due(signals[i])
	}
	trials = append(trials, signals...)
	trials = append(trials, due(trial{
		group: "two at once", fault: "on one host", call: call, make: silent, codes: []int{0}, within: time.Minute, slow: true,
		during: func(t *testing.T, b *bed, run *kit.Running) {
			there(t, b, run)
			secondRefused(t, b, call)
			wire.Clear()
		},
	}))
	trials = append(trials,
		trial{group: "clock", fault: "stepped ahead by 40 days", call: atClock(t, 960*time.Hour, call), codes: []int{0}, slow: true},
		trial{group: "clock", fault: "stepped ahead by 1300 days", call: atClock(t, 1300*24*time.Hour, call), codes: []int{2}, says: []string{"expired"}, slow: true},
		trial{group: "clock", fault: "stepped back by 40 days", call: atClock(t, -960*time.Hour, call), codes: []int{2}, says: []string{"it is valid only from"}, slow: true},
	)
	for _, c := range reportTrials(t, renew, "API_BASE_URL", "/api/metrics") {
		c.slow = c.fault != "redirect elsewhere"
		trials = append(trials, c)
	}
	b.matrix(t, "certs", call, trials)
}

func pathOf(b *bed) string {
	for _, pair := range b.Env {
		if path, ok := strings.CutPrefix(pair, "PATH="); ok {
			return path
		}
	}
	panic("the host has no PATH")
}

// readOnlyTree is a make that makes a directory read-only, with all that is in it.
func readOnlyTree(dir string) func(*testing.T, *bed) func() {
	return func(t *testing.T, _ *bed) func() {
		t.Helper()
		mount := func(args ...string) {
			if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
				t.Fatalf("mount %q: %v: %s", args, err, out)
			}
		}
		mount("--bind", dir, dir)
		mount("-o", "remount,ro,bind", dir)
		return func() { _ = exec.Command("umount", "-l", dir).Run() }
	}
}

// certbotRuns is a make of which another certbot, that somebody started by hand,
// waits for the CA.
func certbotRuns(site *kit.Site, wire *kit.Wire) func(*testing.T, *bed) func() {
	return func(t *testing.T, b *bed) func() {
		t.Helper()
		hold := wire.HoldDown(1)
		cmd := exec.Command(filepath.Join(site.Bin, "certbot"), "renew", "--config-dir", site.Dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-hold.Reached()
		return func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			wire.Clear()
			wire.Cut()
			logs, _ := filepath.Glob(filepath.Join(b.Tmp, "certbot-log-*")) // its own way to say why
			for _, dir := range logs {
				_ = os.RemoveAll(dir)
			}
		}
	}
}
