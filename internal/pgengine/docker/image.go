package docker

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/moby/moby/client"
	"github.com/stellarescrow/escrowctl/internal/compose"
	"github.com/stellarescrow/escrowctl/internal/pgengine"
)

// imageFacts is what must be known of an image to run it.
type imageFacts struct {
	data string // the directory that it keeps data in
}

// defaultData is where the images of PostgreSQL keep data.
const defaultData = "/var/lib/postgresql/data"

// image sees to it that the image is there, fetching it if it must.
func (e *Engine) image(ctx context.Context, s pgengine.Spec) (imageFacts, error) {
	found, err := e.client.ImageInspect(ctx, s.Image)
	if err != nil && strings.Contains(err.Error(), "No such image") {
		if err := e.pull(ctx, s); err != nil {
			return imageFacts{}, err
		}
		found, err = e.client.ImageInspect(ctx, s.Image)
	}
	if err != nil {
		return imageFacts{}, compose.EngineError(ctx, e.client, "look for image "+s.Image, err)
	}
	f := imageFacts{data: defaultData}
	if c := found.Config; c != nil {
		for _, pair := range c.Env {
			if dir, ok := strings.CutPrefix(pair, "PGDATA="); ok && path.IsAbs(dir) {
				f.data = path.Clean(dir)
			}
		}
		// A volume that the image declares must be the one that is mounted, or it
		// would get a second one.
		for volume := range c.Volumes {
			if f.data == volume || strings.HasPrefix(f.data, strings.TrimSuffix(volume, "/")+"/") {
				f.data = volume
			}
		}
	}
	return f, nil
}

// pull fetches the image.
func (e *Engine) pull(ctx context.Context, s pgengine.Spec) error {
	fail := func(err error) error {
		if ctx.Err() != nil {
			return fmt.Errorf("pull image %s: %w", s.Image, context.Cause(ctx))
		}
		return fmt.Errorf("%w: pull %s: %w: fetch it by hand (docker pull, docker load), or name one that is there (--image, dr_test.image)", pgengine.ErrNoImage, s.Image, err)
	}
	s.Log("pulling image %s", s.Image)
	answer, err := e.client.ImagePull(ctx, s.Image, client.ImagePullOptions{})
	if err != nil {
		return fail(err)
	}
	defer answer.Close()
	layers := map[string][2]int64{}
	for m, err := range answer.JSONMessages(ctx) {
		if err != nil {
			return fail(err)
		}
		if m.Error != nil {
			return fail(m.Error)
		}
		if m.Progress == nil || m.Progress.Total <= 0 || m.Status != "Downloading" {
			continue
		}
		layers[m.ID] = [2]int64{m.Progress.Current, m.Progress.Total}
		var done, total int64
		for _, l := range layers {
			done, total = done+l[0], total+l[1]
		}
		if s.Pull != nil {
			s.Pull(done, total)
		}
	}
	return nil
}
