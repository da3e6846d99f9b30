package compose

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/moby/moby/client"
)

// Disks asks a Docker engine what it keeps on its disk.
type Disks struct{ engine *client.Client }

// OpenDisks is Disks of the engine at host, as Engine has it.
func OpenDisks(host string) (*Disks, error) {
	engine, err := Engine(host)
	if err != nil {
		return nil, err
	}
	return &Disks{engine}, nil
}

// Close releases idle connections.
func (d *Disks) Close() error { return d.engine.Close() }

// Local says whether the engine runs on this host, as far as its address tells:
// by a socket that is there.
func (d *Disks) Local() bool {
	socket, unix := strings.CutPrefix(d.engine.DaemonHost(), "unix://")
	if !unix {
		return false
	}
	_, err := os.Stat(socket)
	return !errors.Is(err, fs.ErrNotExist)
}

// DataRoot returns the directory of the engine's data, on its own host.
func (d *Disks) DataRoot(ctx context.Context) (string, error) {
	info, err := d.engine.Info(ctx, client.InfoOptions{})
	if err != nil {
		return "", EngineError(ctx, d.engine, "find its data root", err)
	}
	return info.Info.DockerRootDir, nil
}

// Versions are what the engine says of itself.
type Versions struct {
	Engine string
	API    string // the newest that it speaks
}

// Versions asks the engine for its versions. Errors are those of EngineError.
func (d *Disks) Versions(ctx context.Context) (Versions, error) {
	v, err := d.engine.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return Versions{}, EngineError(ctx, d.engine, "ask its version", err)
	}
	return Versions{Engine: v.Version, API: v.APIVersion}, nil
}

// Volume is a volume with the bytes that are in it.
type Volume struct {
	Name string
	Size int64
}

// Volumes measures the engine's volumes. The engine walks through all of their
// files, which can take minutes.
func (d *Disks) Volumes(ctx context.Context) ([]Volume, error) {
	usage, err := d.engine.DiskUsage(ctx, client.DiskUsageOptions{Volumes: true, Verbose: true})
	if err != nil {
		return nil, EngineError(ctx, d.engine, "measure its volumes", err)
	}
	out := make([]Volume, 0, len(usage.Volumes.Items))
	for _, v := range usage.Volumes.Items {
		if v.UsageData != nil && v.UsageData.Size >= 0 { // -1: not measured
			out = append(out, Volume{v.Name, v.UsageData.Size})
		}
	}
	slices.SortFunc(out, func(a, b Volume) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
