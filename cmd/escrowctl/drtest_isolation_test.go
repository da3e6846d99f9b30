package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

func globTmp(dir string) ([]string, error) { return filepath.Glob(filepath.Join(dir, "*")) }

// TestDRTestIsolation keeps a restored database in a container and tries to get
// at it: from another container on the default bridge, and from every address of
// this host.
func TestDRTestIsolation(t *testing.T) {
	t.Parallel()
	s := newDRSandbox(t)
	s.docker(t)
	host := testenv.Docker(t)
	before := listening(t) // a server of this machine's own
	code, out, errs := s.run(t, "dr-test", "--engine", "docker", "--keep", "--timeout", "5m")
	name := containerIn(t, errs)
	t.Cleanup(func() { _ = exec.Command("docker", "rm", "-f", "-v", name).Run() })
	if code != 0 {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	// Kept, it answers to the command that was told.
	told := errs[strings.Index(errs, "docker exec -it "):]
	told, _, _ = strings.Cut(told, "\n")
	words := strings.Fields(strings.Replace(told, " -it ", " ", 1))
	rows, err := exec.Command(words[0], append(words[1:], "-Atc", "SELECT count(*) FROM trades")...).CombinedOutput()
	if err != nil || strings.TrimSpace(string(rows)) != "3000" {
		t.Fatalf("%s: %v: %s", told, err, rows)
	}
	// It survives the next test and --reap: its time is not up.
	if code, out, errs := s.run(t, "dr-test", "--reap"); code != 0 || strings.Contains(out, name) {
		t.Errorf("--reap: exit %d: %s%s", code, out, errs)
	}
	if got := dockerOut(t, "inspect", "-f", "{{.HostConfig.NetworkMode}} {{.NetworkSettings.IPAddress}}{{.NetworkSettings.Ports}}", name); got != "none map[]" {
		t.Errorf("network: %s", got)
	}
	if got := dockerOut(t, "exec", name, "ls", "/sys/class/net"); got != "lo" {
		t.Errorf("its interfaces: %s", got)
	}
	// Nothing on this host's addresses, and nothing from a container on the bridge,
	// leads to a server with our database.
	var addresses []string
	for ip, takes := range listening(t) {
		addresses = append(addresses, ip)
		if takes && !before[ip] {
			t.Errorf("something takes connections at %s:5432", ip)
		}
	}
	other := host.Start(t, testenv.Container{Image: s.image, Network: "bridge", Cmd: []string{"sleep", "300"}})
	gateway := dockerOut(t, "inspect", "-f", "{{.NetworkSettings.Gateway}}", other)
	own := dockerOut(t, "inspect", "-f", "{{.NetworkSettings.IPAddress}}", other)
	if gateway == "" || own == "" {
		t.Fatalf("the other container is not on the bridge: %q, %q", gateway, own)
	}
	for _, a := range append(addresses, gateway, name) {
		if got, err := exec.Command("docker", "exec", other, "timeout", "3", "psql", "-h", a, "-U", "postgres", "-d", "restored", "-Atc", "SELECT count(*) FROM trades").CombinedOutput(); err == nil {
			t.Errorf("from a container on the bridge %s answers: %s", a, got)
		}
	}
	// And that way would have led to it: the same server on the bridge is reached.
	reachable(t, host, other, s.image)
}

// listening says of each address of this host whether something takes connections
// at PostgreSQL's port.
func listening(t *testing.T) map[string]bool {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	takes := map[string]bool{}
	for _, a := range all {
		ip, _, err := net.ParseCIDR(a.String())
		if err != nil || ip.IsLinkLocalUnicast() {
			continue
		}
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(ip.String(), "5432"), time.Second)
		if takes[ip.String()] = err == nil; err == nil {
			_ = conn.Close()
		}
	}
	return takes
}

// reachable shows that the attempt above can succeed at all.
func reachable(t *testing.T, host *testenv.DockerHost, from, image string) {
	t.Helper()
	id := host.Start(t, testenv.Container{Image: image, Network: "bridge", Env: []string{"POSTGRES_PASSWORD=x", "POSTGRES_HOST_AUTH_METHOD=trust"}})
	ip := dockerOut(t, "inspect", "-f", "{{.NetworkSettings.IPAddress}}", id)
	deadline := time.Now().Add(soon)
	for {
		out, err := exec.Command("docker", "exec", "-e", "PGPASSWORD=x", from, "timeout", "3", "psql", "-h", ip, "-U", "postgres", "-Atc", "SELECT 1").CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("a server on the bridge is not reached either, so nothing is proven: %s", out)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func dockerOut(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).Output()
	if err != nil {
		t.Fatalf("docker %v: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}

// containerIn finds the name of a kept container in what was said.
func containerIn(t *testing.T, said string) string {
	t.Helper()
	_, rest, ok := strings.Cut(said, "docker exec -it ")
	if !ok {
		t.Fatalf("no word of how to connect: %s", said)
	}
	return strings.Fields(rest)[0]
}

// TestDRTestLocalIsolation looks at the sockets of a kept local server.
func TestDRTestLocalIsolation(t *testing.T) {
	t.Parallel()
	s := newDRSandbox(t)
	code, out, errs := s.run(t, "dr-test", "--engine", "local", "--keep", "--timeout", "5m")
	if code != 0 {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	dirs := must(globTmp(s.tmp))
	if len(dirs) != 1 {
		t.Fatalf("%v", dirs)
	}
	t.Cleanup(func() { endLocal(dirs[0]) })
	if info, err := os.Stat(dirs[0]); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("everybody can look into %s: %v, %v", dirs[0], info.Mode(), err)
	}
	_, told, _ := strings.Cut(errs, "kept until ")
	_, told, _ = strings.Cut(told, "Z: ")
	told, _, _ = strings.Cut(told, "\n")
	words := strings.Fields(told)
	rows, err := exec.Command(words[0], append(words[1:], "-Atc", "SELECT count(*) FROM events")...).CombinedOutput()
	if err != nil || strings.TrimSpace(string(rows)) != "5000" {
		t.Fatalf("%s: %v: %s", told, err, rows)
	}
	pids := localPids(dirs[0])
	if len(pids) == 0 {
		t.Fatal("no process of the server is found")
	}
	for _, pid := range pids {
		if listens := tcpListeners(t, pid); len(listens) > 0 {
			t.Errorf("process %s listens on TCP: %v", pid, listens)
		}
	}
	if code, out, _ := s.run(t, "dr-test", "--reap"); code != 0 || !strings.Contains(out, "nothing to remove") {
		t.Errorf("--reap: exit %d: %s", code, out)
	}
}

// localPids are the processes that work in a server's data directory.
func localPids(dir string) []string {
	var pids []string
	for _, link := range must(filepath.Glob("/proc/[0-9]*/cwd")) {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, dir+"/") {
			pids = append(pids, filepath.Base(filepath.Dir(link)))
		}
	}
	return pids
}

// tcpListeners are the listening TCP sockets that a process has open.
func tcpListeners(t *testing.T, pid string) []string {
	t.Helper()
	listening := map[string]bool{}
	for _, file := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile("/proc/" + pid + "/net/" + file)
		if err != nil {
			continue // gone meanwhile, or no IPv6
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" {
				listening["socket:["+f[9]+"]"] = true
			}
		}
	}
	var out []string
	for _, fd := range must(filepath.Glob("/proc/" + pid + "/fd/*")) {
		if target, err := os.Readlink(fd); err == nil && listening[target] {
			out = append(out, fmt.Sprint(fd, " ", target))
		}
	}
	return out
}

func endLocal(dir string) {
	for _, pid := range localPids(dir) {
		_ = exec.Command("kill", "-QUIT", pid).Run()
	}
	for range 200 {
		if len(localPids(dir)) == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	_ = os.RemoveAll(dir)
}
