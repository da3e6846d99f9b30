package compose

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// loopService is a project with a service whose entrypoint drops the command
// and never ends, as certbot's and backup's do, on a network and a volume.
func loopService(t *testing.T) (*testenv.DockerHost, *Project, string) {
	t.Helper()
	docker, project := testenv.Docker(t), uniqueProject()
	net, vol := docker.Network(t), docker.Volume(t)
	id := docker.Start(t, testenv.Container{
		Image: testImage(t), Project: project, Service: "looper", Network: net, Volumes: map[string]string{vol: "/data"},
		Env: []string{"GREETING=hello"}, Cmd: []string{"sh", "-c", "trap exit TERM; while :; do sleep 1; done", "loop"},
	})
	docker.Exec(t, id, "sh", "-c", "mkdir /data/sub && echo text >/data/sub/file && ln -s file /data/sub/link && ln -s /nowhere /data/sub/broken")
	return docker, open(t, Options{Project: project}), id
}

// oneoffs lists what is left of one-off containers of the project.
func oneoffs(t *testing.T, p *Project) []string {
	t.Helper()
	got, err := p.engine.ContainerList(context.Background(), client.ContainerListOptions{All: true, Filters: make(client.Filters).Add("label", labelProject+"="+p.name).Add("label", labelOneoff+"=True")})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range got.Items {
		names = append(names, c.Names[0]+" "+string(c.State))
	}
	return names
}

// waitOneoffs waits until none is left: a container that removes itself takes a
// moment.
func waitOneoffs(t *testing.T, p *Project) {
	t.Helper()
	var left []string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if left = oneoffs(t, p); len(left) == 0 {
			return
		}
	}
	t.Fatalf("left: %q", left)
}

func TestRun(t *testing.T) {
	t.Parallel()
	docker, p, id := loopService(t)
	run := func(script string) (int, string, string, error) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		code, err := p.Run(t.Context(), "looper", RunSpec{Entrypoint: []string{"sh", "-c"}, Cmd: []string{script}, Env: []string{"MORE=yes"}, Stdout: &stdout, Stderr: &stderr})
		return code, stdout.String(), stderr.String(), err
	}
	check := func(name string) {
		t.Helper()
		code, out, errs, err := run("echo $GREETING $MORE; cat /data/sub/file; echo oops >&2; getent hosts looper | wc -l; echo new >/data/new; exit 7")
		if err != nil || code != 7 || out != "hello yes\ntext\n1\n" && out != "hello yes\ntext\n0\n" || errs != "oops\n" {
			t.Errorf("%s: exit %d, stdout %q, stderr %q, error %v", name, code, out, errs, err)
		}
		waitOneoffs(t, p)
	}
	check("running service")
	if got := docker.Exec(t, id, "cat", "/data/new"); got != "new\n" {
		t.Errorf("the volume is not shared: %q", got)
	}
	// It is in the service's network, and is not found in its place.
	if _, out, _, err := run("getent ahostsv4 looper | cut -d' ' -f1 | sort -u | wc -l"); err != nil || strings.TrimSpace(out) != "1" {
		t.Errorf("the service's name has %q addresses while the one-off runs, error %v", out, err)
	}
	docker.Stop(t, id)
	check("stopped service")
	if _, err := p.Run(t.Context(), "nobody", RunSpec{Cmd: []string{"true"}}); !errors.Is(err, ErrNoService) || !strings.Contains(err.Error(), "up --no-start nobody") {
		t.Errorf("error %v", err)
	}
	if code, _, _, err := run("true; exec /no/such/program"); code != 127 || err != nil {
		t.Errorf("exit %d, error %v", code, err)
	}
	if _, err := p.Run(t.Context(), "looper", RunSpec{Entrypoint: []string{"/no/such/program"}}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("error %v", err)
	}
	waitOneoffs(t, p)
}

// atOnce calls a function as soon as something is written.
type atOnce func()

func (f atOnce) Write(p []byte) (int, error) { f(); return len(p), nil }

// TestRunTimeLimit: what does not end is interrupted, and removed if it will not
// hear.
func TestRunTimeLimit(t *testing.T) {
	t.Parallel()
	_, p, _ := loopService(t)
	for name, script := range map[string]string{
		"cleans up": "trap 'echo cleaned >/data/cleaned; exit' INT; echo ready; while :; do sleep 0.1; done",
		"deaf":      "trap '' INT TERM; echo ready; while :; do sleep 0.1; done",
	} {
		limit := errors.New("the time is up")
		ctx, cancel := context.WithCancelCause(t.Context())
		up := atOnce(func() { cancel(limit) })
		_, err := p.Run(ctx, "looper", RunSpec{Entrypoint: []string{"sh", "-c"}, Cmd: []string{script}, Stdout: up})
		cancel(nil)
		if !errors.Is(err, limit) {
			t.Errorf("%s: error %v", name, err)
		}
		waitOneoffs(t, p)
	}
	stream, err := p.Archive(t.Context(), "looper", "/data/cleaned")
	if err != nil {
		t.Fatalf("the interrupted command did not clean up: %v", err)
	}
	stream.Close()
}

func TestArchive(t *testing.T) {
	t.Parallel()
	docker, p, id := loopService(t)
	for _, running := range []bool{true, false} {
		if !running {
			docker.Stop(t, id)
		}
		stream, err := p.Archive(t.Context(), "looper", "/data/sub")
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for in := tar.NewReader(stream); ; {
			head, err := in.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(in)
			got[head.Name] = head.Linkname + string(body)
		}
		stream.Close()
		if got["sub/file"] != "text\n" || got["sub/link"] != "file" || got["sub/broken"] != "/nowhere" {
			t.Errorf("running %v: %q", running, got)
		}
		if _, err := p.Archive(t.Context(), "looper", "/data/none"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("running %v: error %v", running, err)
		}
	}
}

// TestOneoffHost: what must not be taken over from the service's container.
func TestOneoffHost(t *testing.T) {
	model := container.InspectResponse{
		HostConfig: &container.HostConfig{
			Binds: []string{"proj_letsencrypt:/etc/letsencrypt:rw"}, PublishAllPorts: true,
			RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyAlways},
		},
		Mounts: []container.MountPoint{
			{Type: "volume", Name: "proj_letsencrypt", Destination: "/etc/letsencrypt"},
			{Type: "volume", Name: "0123456789abcdef", Destination: "/var/lib/letsencrypt"},
			{Type: "bind", Source: "/srv", Destination: "/srv"},
		},
	}
	h := oneoffHost(model)
	if h.RestartPolicy.Name != "no" || h.PublishAllPorts || !h.AutoRemove || strings.Join(h.Binds, " ") != "proj_letsencrypt:/etc/letsencrypt:rw 0123456789abcdef:/var/lib/letsencrypt" {
		t.Errorf("%+v", h)
	}
	if len(model.HostConfig.Binds) != 1 {
		t.Error("the service's own configuration was changed")
	}
}
