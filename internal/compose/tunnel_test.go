package compose

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// servers is a perl program that stands in for servers inside the container: on
// 7001 and the socket it sends back all it got, once it has got all (which
// shows a half-close); on 7002 it speaks first and hangs up.
const servers = `
$0 = "stand-in";
use IO::Socket::INET; use IO::Socket::UNIX; $SIG{CHLD} = "IGNORE";
sub serve { my ($listen, $do) = @_; return if fork;
  while (my $c = $listen->accept) { if (!fork) { $do->($c); exit } close $c } }
sub back { my $c = shift; my ($all, $part) = ("", "");
  $all .= $part while sysread $c, $part, 65536; my $at = 0;
  while ($at < length $all) { my $n = syswrite $c, $all, 65536, $at or last; $at += $n } }
unlink "/tmp/.s.PGSQL.7003";
serve(IO::Socket::INET->new(Listen => 9, LocalAddr => "127.0.0.1", LocalPort => 7001) || die, \&back);
serve(IO::Socket::INET->new(Listen => 9, LocalAddr => "127.0.0.1", LocalPort => 7002) || die, sub { syswrite $_[0], "hello" });
serve(IO::Socket::UNIX->new(Listen => 9, Local => "/tmp/.s.PGSQL.7003") || die, \&back);
$0 = "ready-to-serve"; sleep 1000000;`

func isServer(s string) bool {
	return strings.HasPrefix(s, "stand-in") || strings.HasPrefix(s, "ready-to-serve")
}

// serving opens a project whose service "box" runs the servers.
func serving(t testing.TB) (*Project, string) {
	t.Helper()
	docker, project := testenv.Docker(t), uniqueProject()
	id, _ := newContainer(t, docker, project, "box", nil, "perl", "-e", strings.ReplaceAll(servers, "\n", " "))
	startContainer(t, docker, id)
	p := open(t, Options{Project: project})
	waitProcess(t, p, id, "ready-to-serve")
	return p, id
}

// forEachTool runs a test with each pump.
func forEachTool(t *testing.T, p *Project, tools []string, test func(t *testing.T, tool string)) {
	for _, tool := range tools {
		t.Run(tool, func(t *testing.T) {
			needTool(t, p, tool)
			test(t, tool)
		})
	}
}

func needTool(t *testing.T, p *Project, tool string) {
	t.Helper()
	code, err := p.Exec(t.Context(), "box", Spec{Cmd: []string{"sh", "-c", "command -v " + tool}})
	if err != nil {
		t.Fatal(err)
	}
	testenv.Need(t, code == 0, tool+" in the image "+testImage(t), "make images")
}

var allTools = strings.Fields(tunnelTools)

func dialTool(t testing.TB, p *Project, addr, tool string) *tunnel {
	t.Helper()
	conn, err := p.dial(t.Context(), "box", "tcp", addr, tool)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if got := conn.(*tunnel).tool; got != tool {
		t.Fatalf("pumped by %s, not %s", got, tool)
	}
	return conn.(*tunnel)
}

// TestTunnelBinary sends every byte value in bulk there and back. Only after
// the half-close does the server answer.
func TestTunnelBinary(t *testing.T) {
	t.Parallel()
	p, id := serving(t)
	sent := make([]byte, 8<<20+13)
	if _, err := rand.Read(sent); err != nil {
		t.Fatal(err)
	}
	forEachTool(t, p, []string{"perl", "busybox"}, func(t *testing.T, tool string) {
		conn := dialTool(t, p, "127.0.0.1:7001", tool)
		if _, err := conn.Write(sent); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		if err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d of %d bytes came back, or others; error %v", len(got), len(sent), err)
		}
		waitProcesses(t, p, id, isServer)
	})
	t.Run("bash", func(t *testing.T) {
		conn := dialTool(t, p, "127.0.0.1:7001", "bash")
		if err := conn.CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
			t.Fatalf("bash cannot half-close, but CloseWrite says %v", err)
		}
	})
}

func TestTunnelServerSpeaksFirstAndHangsUp(t *testing.T) {
	t.Parallel()
	p, id := serving(t)
	forEachTool(t, p, allTools, func(t *testing.T, tool string) {
		conn := dialTool(t, p, "127.0.0.1:7002", tool)
		got, err := io.ReadAll(conn)
		if err != nil || string(got) != "hello" {
			t.Fatalf("read %q, error %v", got, err)
		}
		// The pump ended by itself: nothing of it is left even before Close.
		waitProcesses(t, p, id, isServer)
	})
}

// TestTunnelClose: Close frees a blocked reader and leaves no process, although
// the server itself would wait for ever.
func TestTunnelClose(t *testing.T) {
	t.Parallel()
	p, id := serving(t)
	forEachTool(t, p, allTools, func(t *testing.T, tool string) {
		conn := dialTool(t, p, "127.0.0.1:7001", tool)
		var reading sync.WaitGroup
		var readErr error
		reading.Go(func() { _, readErr = conn.Read(make([]byte, 1)) })
		time.Sleep(50 * time.Millisecond)
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		reading.Wait()
		if !errors.Is(readErr, net.ErrClosed) {
			t.Errorf("the blocked Read returned %v", readErr)
		}
		if _, err := conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write after Close: %v", err)
		}
		if err := conn.SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("SetDeadline after Close: %v", err)
		}
		waitProcesses(t, p, id, isServer)
	})
}

// TestTunnelCloseStubborn: a pump that does not notice the hang-up is killed.
func TestTunnelCloseStubborn(t *testing.T) {
	t.Parallel()
	p, id := serving(t)
	conn := dialTool(t, p, "127.0.0.1:7001", "perl")
	stop := Spec{Cmd: []string{"sh", "-c", `kill -STOP "$1"`, "sh", strconv.Itoa(conn.pid)}}
	if code, err := p.Exec(t.Context(), "box", stop); err != nil || code != 0 {
		t.Fatal(code, err)
	}
	start := time.Now()
	_ = conn.Close()
	if took := time.Since(start); took > patience {
		t.Errorf("Close took %s", took)
	}
	waitProcesses(t, p, id, isServer)
}

func TestTunnelDeadlines(t *testing.T) {
	t.Parallel()
	p, _ := serving(t)
	conn := dialTool(t, p, "127.0.0.1:7001", "perl")
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, err := conn.Read(make([]byte, 1))
	var timeout net.Error
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("Read past its deadline: %v", err)
	}
	// The connection is as good as before.
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("still here")); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "still here" {
		t.Fatalf("read %q, error %v", got, err)
	}
}

// pumpNames are the beginnings of the pumps' command lines.
var pumpNames = map[string]string{"perl": "perl -e # perl", "busybox": "busybox nc", "bash": "bash -c"}

func TestTunnelCallerKilled(t *testing.T) {
	t.Parallel()
	p, id := serving(t)
	forEachTool(t, p, allTools, func(t *testing.T, tool string) {
		caller := asCaller(t, "dial7001", p.Name(), tool)
		waitProcess(t, p, id, pumpNames[tool])
		time.Sleep(200 * time.Millisecond)
		if err := caller.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = caller.Wait()
		waitProcesses(t, p, id, isServer)
	})
}

func TestTunnelWhere(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"dash", "busybox", "bash"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			p, id := serving(t)
			useShell(t, p, shell)
			testTunnelWhere(t, p, id)
		})
	}
}

func testTunnelWhere(t *testing.T, p *Project, id string) {
	tests := []struct {
		name, network, addr string
		want                Endpoint
		refused             string // part of the error
	}{
		{name: "address", network: "tcp", addr: "127.0.0.1:7001", want: Endpoint{"tcp", "127.0.0.1", "7001", "perl"}},
		{name: "name that resolves", network: "tcp", addr: "localhost:7001", want: Endpoint{"tcp", "localhost", "7001", "perl"}},
		{name: "service name unknown inside", network: "tcp", addr: "postgres:7001", want: Endpoint{"tcp", "127.0.0.1", "7001", "perl"}},
		{name: "socket when refused", network: "tcp", addr: "localhost:7003", want: Endpoint{"unix", "/tmp/.s.PGSQL.7003", "7003", "perl"}},
		{name: "socket", network: "unix", addr: "/tmp/.s.PGSQL.7003", want: Endpoint{"unix", "/tmp/.s.PGSQL.7003", "7003", "perl"}},
		{name: "another machine", network: "tcp", addr: "db.example.invalid:7001", refused: "db.example.invalid does not resolve inside the container"},
		{name: "nobody there", network: "tcp", addr: "127.0.0.1:7009", refused: "Connection refused"},
		{name: "no such socket", network: "unix", addr: "/tmp/.s.PGSQL.7009", refused: "No such file or directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := p.Find(t.Context(), "box", tt.network, tt.addr)
			conn, dialErr := p.Dial("box")(t.Context(), tt.network, tt.addr)
			if tt.refused != "" {
				for _, err := range []error{err, dialErr} {
					if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), tt.refused) {
						t.Errorf("error %v", err)
					}
				}
				return
			}
			if err != nil || dialErr != nil {
				t.Fatal(err, dialErr)
			}
			if got != tt.want {
				t.Errorf("found %+v, want %+v", got, tt.want)
			}
			if a := conn.RemoteAddr(); a.Network() != tt.network || a.String() != tt.addr {
				t.Errorf("remote address %s %s: cannot be dialled again", a.Network(), a)
			}
			_ = conn.Close()
		})
	}
	waitProcesses(t, p, id, isServer)
}

// asRoot runs a script in the container that must end well.
func asRoot(t *testing.T, p *Project, script string) string {
	t.Helper()
	var out bytes.Buffer
	if code, err := p.Exec(t.Context(), "box", Spec{Cmd: []string{"sh", "-c", script}, User: "0", Stdout: &out, Stderr: &out}); err != nil || code != 0 {
		t.Fatalf("%s: exit %d, %v: %s", script, code, err, &out)
	}
	return out.String()
}

// TestTunnelStartsPerlOnce: what looks for the server is what pumps, but for an
// address that refuses. One that lacks what it needs leaves the work to others.
func TestTunnelStartsPerlOnce(t *testing.T) {
	t.Parallel()
	p, id := serving(t)
	asRoot(t, p, `perl=$(command -v perl) && mv "$perl" /usr/bin/perl.real &&
		printf '#!/bin/sh\necho once >>/tmp/starts\nexec perl.real "$@"\n' >"$perl" && chmod 755 "$perl" && install -m 666 /dev/null /tmp/starts`)
	echo := func(tool string) {
		t.Helper()
		conn := dialTool(t, p, "localhost:7001", tool)
		if _, err := conn.Write([]byte("there and back")); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); err != nil || string(got) != "there and back" {
			t.Errorf("read %q, error %v", got, err)
		}
		_ = conn.Close()
	}
	echo("perl")
	if got := asRoot(t, p, "cat /tmp/starts"); got != "once\n" {
		t.Errorf("perl was started:\n%s", got)
	}
	asRoot(t, p, "find /usr -name Socket.pm -delete")
	conn, err := p.dial(t.Context(), "box", "tcp", "localhost:7001", tunnelTools)
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.(*tunnel).tool; got != "busybox" {
		t.Errorf("with a perl that cannot, it is pumped by %s", got)
	}
	_ = conn.Close()
	_, err = p.dial(t.Context(), "box", "tcp", "localhost:7001", "perl")
	if err == nil || !strings.Contains(err.Error(), "nothing in the container to reach a tcp address with") {
		t.Errorf("with nothing else: %v", err)
	}
	waitProcesses(t, p, id, isServer)
}

func TestTunnelDialCancelled(t *testing.T) {
	t.Parallel()
	p, id := serving(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if conn, err := p.Dial("box")(ctx, "tcp", "127.0.0.1:7001"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v, error %v", conn, err)
	}
	waitProcesses(t, p, id, isServer)
}

func TestTunnelArgs(t *testing.T) {
	for _, addr := range []string{"", "localhost", "localhost:", "localhost:pg", "localhost:0", "localhost:70000", ":5432", "-e:5432", "a b:5432"} {
		if args, err := tunnelArgs("pump", "tcp", addr, tunnelTools); err == nil {
			t.Errorf("%q taken as %q", addr, args[4:8])
		}
	}
	if _, err := tunnelArgs("pump", "udp", "localhost:5432", tunnelTools); err == nil {
		t.Error("udp taken")
	}
	args, err := tunnelArgs("pump", "tcp", "[::1]:5432", tunnelTools)
	if err != nil || !slices.Equal(args[4:8], []string{"pump", "tcp", "::1", "5432"}) {
		t.Error(args, err)
	}
}
