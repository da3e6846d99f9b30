package docker

import (
	"context"
	"fmt"
	"path"
	"strconv"
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
	look := func(ctx context.Context) (client.ImageInspectResult, error) {
		return e.client.ImageInspect(ctx, s.Image)
	}
	found, err := compose.Ask(ctx, e.limit, look)
	if err != nil && strings.Contains(err.Error(), "No such image") {
		if err := e.pull(ctx, s); err != nil {
			return imageFacts{}, err
		}
		found, err = compose.Ask(ctx, e.limit, look)
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

// Ready says in what a server would be started, without starting one. An image that
// is not here must be in its registry; it is not fetched. Whether a server starts in
// it, only a start shows.
func (e *Engine) Ready(ctx context.Context, s pgengine.Spec) (string, error) {
	if s.Image == "" {
		s.Image = defaultImage(s.Major)
	}
	found, err := e.client.ImageInspect(ctx, s.Image)
	if err != nil && strings.Contains(err.Error(), "No such image") {
		if _, err := e.client.DistributionInspect(ctx, s.Image, client.DistributionInspectOptions{}); err != nil {
			return "", fmt.Errorf("%w: %s is not here, and cannot be pulled: %w", pgengine.ErrNoImage, s.Image, err)
		}
		return "image " + s.Image + ", which the first test will pull", nil
	}
	if err != nil {
		return "", compose.EngineError(ctx, e.client, "look for image "+s.Image, err)
	}
	if c := found.Config; c != nil {
		for _, pair := range c.Env { // of the official images
			if major, ok := strings.CutPrefix(pair, "PG_MAJOR="); ok {
				if n, err := strconv.Atoi(major); err == nil && n < s.Major {
					return "", fmt.Errorf("%w: %s has PostgreSQL %d, and the dumped server is %d", pgengine.ErrNoImage, s.Image, n, s.Major)
				}
			}
		}
	}
	return "image " + s.Image, nil
}

// defaultImage is the image for dumps of a server.
func defaultImage(major int) string { return fmt.Sprintf("postgres:%d", major) }

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
