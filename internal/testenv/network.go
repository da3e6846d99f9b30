package testenv

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// Image returns the tag of an image that `make images` builds: nginx, certbot,
// pebble.
func Image(t testing.TB, name string) string {
	t.Helper()
	tag := "escrowctl-sandbox/" + name + ":latest"
	err := exec.Command("docker", "image", "inspect", tag).Run()
	Need(t, err == nil, "the image "+tag, "make images")
	return tag
}

// Network makes a network of the test's own, in which containers find each other
// by name, and returns its name. Containers in it must be started after it.
func (d *DockerHost) Network(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("escrowctl-test-%s-net%d", d.Run, d.count.Add(1))
	made, err := d.Client.NetworkCreate(t.Context(), name, client.NetworkCreateOptions{Driver: "bridge", Labels: d.labels()})
	if err != nil {
		t.Fatalf("testenv: docker: create network %s: %v", name, err)
	}
	t.Cleanup(func() {
		if _, err := d.Client.NetworkRemove(context.Background(), made.ID, client.NetworkRemoveOptions{}); err != nil {
			t.Errorf("testenv: docker: remove network %s: %v", name, err)
		}
	})
	return name
}

// Volume makes a volume and returns its name.
func (d *DockerHost) Volume(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("escrowctl-test-%s-vol%d", d.Run, d.count.Add(1))
	if _, err := d.Client.VolumeCreate(t.Context(), client.VolumeCreateOptions{Name: name, Labels: d.labels()}); err != nil {
		t.Fatalf("testenv: docker: create volume %s: %v", name, err)
	}
	t.Cleanup(func() {
		if _, err := d.Client.VolumeRemove(context.Background(), name, client.VolumeRemoveOptions{Force: true}); err != nil {
			t.Errorf("testenv: docker: remove volume %s: %v", name, err)
		}
	})
	return name
}

func (d *DockerHost) labels() map[string]string {
	return map[string]string{testLabel: "1", runLabel: d.Run}
}

// Put writes files into a container, which need not run.
func (d *DockerHost) Put(t testing.TB, id string, files map[string]string) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		head := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), Typeflag: tar.TypeReg, ModTime: time.Now()}
		if err := w.WriteHeader(head); err != nil {
			t.Fatalf("testenv: %v", err)
		}
		if _, err := w.Write([]byte(files[name])); err != nil {
			t.Fatalf("testenv: %v", err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatalf("testenv: %v", err)
	}
	if _, err := d.Client.CopyToContainer(t.Context(), id, client.CopyToContainerOptions{DestinationPath: "/", Content: &b}); err != nil {
		t.Fatalf("testenv: docker: copy into %s: %v", id, err)
	}
}

// Port returns the address of 127.0.0.1 on which a published port is reached,
// once something listens there.
func (d *DockerHost) Port(t testing.TB, id string, port int) string {
	t.Helper()
	got, err := d.Client.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatalf("testenv: docker: %v", err)
	}
	bound := got.Container.NetworkSettings.Ports[tcp(t, port)]
	if len(bound) == 0 {
		t.Fatalf("testenv: docker: port %d of %s is not published", port, id)
	}
	return net.JoinHostPort("127.0.0.1", bound[0].HostPort)
}

// Stop stops a container.
func (d *DockerHost) Stop(t testing.TB, id string) {
	t.Helper()
	soon := 2
	if _, err := d.Client.ContainerStop(t.Context(), id, client.ContainerStopOptions{Timeout: &soon}); err != nil {
		t.Fatalf("testenv: docker: stop %s: %v", id, err)
	}
}

// Restart starts a stopped container again.
func (d *DockerHost) Restart(t testing.TB, id string) {
	t.Helper()
	if _, err := d.Client.ContainerStart(t.Context(), id, client.ContainerStartOptions{}); err != nil {
		t.Fatalf("testenv: docker: start %s: %v", id, err)
	}
}

func endpoints(c Container) *network.NetworkingConfig {
	if c.Network == "" {
		return nil
	}
	aliases := slices.Clone(c.Aliases)
	if c.Service != "" {
		aliases = append(aliases, c.Service)
	}
	return &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{c.Network: {Aliases: aliases}}}
}

func binds(volumes map[string]string) []string {
	var out []string
	for name, path := range volumes {
		out = append(out, name+":"+path)
	}
	return out
}

// ports binds each port to one that is free now: the engine's own choice would
// change with every restart.
func ports(t testing.TB, config *container.Config, publish []int) network.PortMap {
	t.Helper()
	if len(publish) == 0 {
		return nil
	}
	config.ExposedPorts = network.PortSet{}
	out := network.PortMap{}
	for _, p := range publish {
		free, err := freePort(t)
		if err != nil {
			t.Fatalf("testenv: %v", err)
		}
		config.ExposedPorts[tcp(t, p)] = struct{}{}
		out[tcp(t, p)] = []network.PortBinding{{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: fmt.Sprint(free)}}
	}
	return out
}

func tcp(t testing.TB, port int) network.Port {
	t.Helper()
	p, err := network.ParsePort(fmt.Sprintf("%d/tcp", port))
	if err != nil {
		t.Fatalf("testenv: %v", err)
	}
	return p
}
