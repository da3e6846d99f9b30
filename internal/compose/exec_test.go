package compose

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

func TestExec(t *testing.T) {
	t.Parallel()
	p, id := sleeper(t)
	tests := []struct {
		name             string
		spec             Spec
		code             int
		wantOut, wantErr string
	}{
		{"streams and code", Spec{Cmd: []string{"sh", "-c", "echo out; echo err >&2; exit 7"}}, 7, "out\n", "err\n"},
		{"environment", Spec{Cmd: []string{"sh", "-c", "echo $SECRET"}, Env: []string{"SECRET=a b$c'"}}, 0, "a b$c'\n", ""},
		{"arguments as they are", Spec{Cmd: []string{"printf", "%s|", "a b", "$HOME", "", "'"}}, 0, "a b|$HOME||'|", ""},
		{"own standard input is empty", Spec{Cmd: []string{"cat"}}, 0, "", ""},
		{"given standard input", Spec{Cmd: []string{"cat"}, Stdin: strings.NewReader("hello")}, 0, "hello", ""},
		{"unread standard input", Spec{Cmd: []string{"sh", "-c", "exit 3"}, Stdin: endless{}}, 3, "", ""},
		{"user", Spec{Cmd: []string{"id", "-u"}, User: "0"}, 0, "0\n", ""},
		{"killed", Spec{Cmd: []string{"sh", "-c", "kill -KILL $$"}}, 137, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			tt.spec.Stdout, tt.spec.Stderr = &stdout, &stderr
			code, err := p.Exec(t.Context(), "box", tt.spec)
			if err != nil || code != tt.code {
				t.Fatalf("code %d, error %v; want %d", code, err, tt.code)
			}
			if stdout.String() != tt.wantOut || (tt.wantErr != "" && stderr.String() != tt.wantErr) {
				t.Errorf("stdout %q, stderr %q", stdout.String(), stderr.String())
			}
		})
	}
	waitProcesses(t, p, id, isSleeper)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestExecNoSuchProgram(t *testing.T) {
	t.Parallel()
	p, _ := sleeper(t)
	var stderr bytes.Buffer
	code, err := p.Exec(t.Context(), "box", Spec{Cmd: []string{"no-such-program"}, Stderr: &stderr})
	if err != nil || code != 127 || !strings.Contains(stderr.String(), "no-such-program") {
		t.Fatalf("code %d, error %v, stderr %q", code, err, stderr.String())
	}
	_, err = p.Exec(t.Context(), "box", Spec{Cmd: []string{"true"}, User: "no-such-user"})
	if err == nil || !strings.Contains(err.Error(), "no-such-user") {
		t.Fatalf("error %v does not say what the engine said", err)
	}
}

// TestExecBinary sends every byte value through both ways, in bulk.
func TestExecBinary(t *testing.T) {
	t.Parallel()
	p, _ := sleeper(t)
	sent := make([]byte, 20<<20+17)
	if _, err := rand.Read(sent); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	code, err := p.Exec(t.Context(), "box", Spec{Cmd: []string{"cat"}, Stdin: bytes.NewReader(sent), Stdout: &got})
	if err != nil || code != 0 {
		t.Fatalf("code %d, error %v", code, err)
	}
	if !bytes.Equal(got.Bytes(), sent) {
		t.Fatalf("%d bytes came back different (%d were sent)", got.Len(), len(sent))
	}
}

func TestExecCancel(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, script, running string
		stdin                 io.Reader
	}{
		{"obeys", "exec sleep 777", "sleep 777", nil},
		{"ignores SIGTERM", "trap '' TERM; while :; do sleep 0.77; done", "sh -c trap", nil},
		{"reads input", "exec sleep 777", "sleep 777", blocked{}},
		{"floods", "exec yes 777", "yes 777", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, id := sleeper(t)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				defer cancel()
				waitProcess(t, p, id, tt.running)
			}()
			_, err := p.Exec(ctx, "box", Spec{Cmd: []string{"sh", "-c", tt.script}, Stdin: tt.stdin, Stdout: io.Discard})
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("error %v", err)
			}
			waitProcesses(t, p, id, isSleeper)
		})
	}
}

type blocked struct{}

func (blocked) Read([]byte) (int, error) { select {} }

// TestExecBrokenInput: an input that fails half way must not look complete.
func TestExecBrokenInput(t *testing.T) {
	t.Parallel()
	p, id := sleeper(t)
	broken := io.MultiReader(strings.NewReader("half\n"), &failing{})
	_, err := p.Exec(t.Context(), "box", Spec{Cmd: []string{"sh", "-c", "cat >/tmp/in; touch /tmp/complete"}, Stdin: broken})
	if !errors.Is(err, errBroken) {
		t.Fatalf("error %v", err)
	}
	waitProcesses(t, p, id, isSleeper)
	if code, err := p.Exec(t.Context(), "box", Spec{Cmd: []string{"test", "-e", "/tmp/complete"}}); err != nil || code == 0 {
		t.Fatalf("code %d, error %v: the command took a broken input for a complete one", code, err)
	}
}

var errBroken = errors.New("broken")

type failing struct{}

func (*failing) Read([]byte) (int, error)  { return 0, errBroken }
func (*failing) Write([]byte) (int, error) { return 0, errBroken }

func TestExecBrokenOutput(t *testing.T) {
	t.Parallel()
	p, id := sleeper(t)
	_, err := p.Exec(t.Context(), "box", Spec{Cmd: []string{"yes"}, Stdout: &failing{}})
	if !errors.Is(err, errBroken) {
		t.Fatalf("error %v", err)
	}
	waitProcesses(t, p, id, isSleeper)
}

// TestExecCallerKilled: SIGKILL of the caller ends the command in the container.
func TestExecCallerKilled(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"dash", "busybox", "bash"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			p, id := sleeper(t)
			useShell(t, p, shell)
			caller := asCaller(t, "exec", p.Name(), "")
			waitProcess(t, p, id, "sleep 888")
			if err := caller.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = caller.Wait()
			waitProcesses(t, p, id, isSleeper)
		})
	}
}

// useShell makes the container's sh another one.
func useShell(t *testing.T, p *Project, shell string) {
	t.Helper()
	script := `path=$(command -v "$1") && ln -sf "$path" /bin/sh`
	code, err := p.Exec(t.Context(), "box", Spec{Cmd: []string{"sh", "-c", script, "sh", shell}, User: "0"})
	if err != nil {
		t.Fatal(err)
	}
	testenv.Need(t, code == 0, shell+" in the image "+testImage(t), "make images")
}

// asCaller starts this test binary again as a process that can be killed; see
// TestMain.
func asCaller(t *testing.T, what, project, tool string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "COMPOSE_TEST_CALLER="+what, "COMPOSE_TEST_PROJECT="+project, "COMPOSE_TEST_TOOL="+tool)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func TestMain(m *testing.M) {
	if what := os.Getenv("COMPOSE_TEST_CALLER"); what != "" {
		callerMain(what)
	}
	os.Exit(m.Run())
}

func callerMain(what string) {
	ctx := context.Background()
	p, err := Open(ctx, Options{Project: os.Getenv("COMPOSE_TEST_PROJECT")})
	if err != nil {
		panic(err)
	}
	if what == "exec" {
		_, err = p.Exec(ctx, "box", Spec{Cmd: []string{"sleep", "888"}})
		panic(err)
	}
	conn, err := p.dial(ctx, "box", "tcp", "127.0.0.1:"+strings.TrimPrefix(what, "dial"), os.Getenv("COMPOSE_TEST_TOOL"))
	if err != nil {
		panic(err)
	}
	_, err = io.Copy(io.Discard, conn)
	panic(err)
}

// BenchmarkExecOutput is how fast a command's output comes out of a container.
func BenchmarkExecOutput(b *testing.B) {
	p, _ := sleeper(b)
	const size = 500 << 20
	b.SetBytes(size)
	for b.Loop() {
		var n counter
		code, err := p.Exec(b.Context(), "box", Spec{Cmd: []string{"head", "-c", strconv.Itoa(size), "/dev/zero"}, Stdout: &n})
		if err != nil || code != 0 || n != size {
			b.Fatal(code, err, n)
		}
	}
}
