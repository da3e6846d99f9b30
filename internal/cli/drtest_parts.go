package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"filippo.io/age"
	"github.com/stellarescrow/escrowctl/internal/backup"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/compose"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/drtest"
	"github.com/stellarescrow/escrowctl/internal/pgengine/docker"
	"github.com/stellarescrow/escrowctl/internal/pgengine/local"
	"github.com/stellarescrow/escrowctl/internal/state"
	"github.com/stellarescrow/escrowctl/internal/store"
)

const (
	// engineLimit bounds the first word of the Docker engine.
	engineLimit = 10 * time.Second
	// reapLimit bounds the removal of what earlier tests left.
	reapLimit = time.Minute
)

// engine is one of the two ways to a server.
type engine struct {
	drtest.Engine
	close func()
}

// engine chooses: docker where a daemon answers, else the host's own
// PostgreSQL.
func (d *deps) engine(ctx context.Context, name string) (*engine, error) {
	if d.app.servers != nil {
		return &engine{d.app.servers, func() {}}, nil
	}
	if name == config.EngineLocal {
		return d.localEngine()
	}
	cctx, cancel := context.WithTimeoutCause(ctx, engineLimit, errEngineSilent)
	defer cancel()
	e, err := docker.Open(cctx, d.cfg.Compose.DockerHost, d.app.io.Now)
	if err == nil {
		return &engine{e, func() { _ = e.Close() }}, nil
	}
	if name != config.Auto || ctx.Err() != nil {
		return nil, err
	}
	l, lerr := d.localEngine()
	if lerr != nil {
		return nil, fmt.Errorf("%w; and not with this host's own PostgreSQL either: %w", err, lerr)
	}
	d.app.io.Log("no Docker engine answers: using this host's own PostgreSQL")
	return l, nil
}

func (d *deps) localEngine() (*engine, error) {
	bins := local.Binaries()
	if len(bins) == 0 {
		return nil, errors.New("this host has no PostgreSQL server: install postgresql, or start Docker")
	}
	dir, err := scratchDir()
	if err != nil {
		return nil, err
	}
	return &engine{&local.Engine{Dir: dir, Bins: bins, Now: d.app.io.Now}, func() {}}, nil
}

// scratchDir is where the local engine keeps its directories.
func scratchDir() (string, error) { return filepath.Abs(os.TempDir()) }

// reap removes what killed tests, and kept ones whose time is up, have left, and
// says what that was. An engine that does not answer has nothing to be removed
// now; what it keeps expires by itself.
func (d *deps) reap(ctx context.Context) []string {
	var gone []string
	took := func(names []string, err error) {
		gone = append(gone, names...)
		if err != nil {
			d.app.io.Warn("what earlier tests left could not be removed: %v", err)
		}
	}
	if dir, err := scratchDir(); err == nil {
		took((&local.Engine{Dir: dir, Now: d.app.io.Now}).Reap(state.Gone))
	}
	cctx, cancel := context.WithTimeoutCause(ctx, engineLimit, errEngineSilent)
	defer cancel()
	e, err := docker.Open(cctx, d.cfg.Compose.DockerHost, d.app.io.Now)
	if err != nil {
		if !errors.Is(err, compose.ErrNoDaemon) {
			d.app.io.Debug("%v", err)
		}
		return gone
	}
	defer e.Close()
	rctx, done := context.WithTimeoutCause(ctx, reapLimit, errEngineSilent)
	defer done()
	took(e.Reap(rctx, state.Gone))
	return gone
}

func randomLetters() string { return rand.Text()[:8] }

// subject is the backup that is tested.
type subject struct {
	*deps
	what  string
	where where
	ids   []age.Identity
	log   func(format string, args ...any)

	at              located
	fetched, waited atomic.Int64
}

// locateNewest finds a backup as locate does. Of latest it also says what is
// newer, and no backup to restore.
func (d *deps) locateNewest(ctx context.Context, what string, w where) (located, []string, error) {
	at, err := d.locate(ctx, what, w)
	if err != nil || what != "latest" {
		return at, nil, err
	}
	entries, err := d.entries(ctx, w)
	if err != nil {
		return at, nil, err
	}
	var unfit []string
	for i := len(entries) - 1; i >= 0 && entries[i].Name != at.name; i-- {
		c := entries[i].Best()
		text := fmt.Sprintf("%s is %s", c.Name, c.Kind)
		if c.Problem != "" {
			text += ": " + c.Problem
		}
		unfit = append(unfit, text)
	}
	return at, unfit, nil
}

// open implements drtest.Options.Open.
func (s *subject) open(ctx context.Context) (*drtest.Backup, error) {
	at, unfit, err := s.locateNewest(ctx, s.what, s.where)
	if err != nil {
		return nil, err
	}
	s.at = at
	b := &drtest.Backup{
		Name: at.name, Where: at.store.Location(), Chosen: s.what != "latest", Unfit: unfit, Damage: backup.IsDamage,
		Fetched: func() (int64, time.Duration) { return s.fetched.Load(), time.Duration(s.waited.Load()) },
	}
	s.log("testing %s in %s", b.Name, b.Where)
	f, ours := s.naming().Parse(at.name)
	if ours {
		b.Taken = f.Time
	}
	o, err := backup.Open(ctx, at.store, at.name, s.ids)
	if o == nil {
		return b, err
	}
	b.Size, b.Kind, b.Server = o.Size, string(o.Kind), o.ServerVersion()
	if b.Taken.IsZero() {
		b.Taken = o.ModTime
	}
	if m := o.Manifest; m != nil {
		b.Taken, b.Database, b.Index = m.StartedAt, m.Database, &m.Index
	}
	if err != nil {
		return b, err
	}
	b.Roles, err = o.Globals(ctx)
	if errors.Is(err, store.ErrNotExist) {
		b.Lacks, err = append(b.Lacks, "its roles, "+o.Manifest.Globals.Name), nil
	}
	if err != nil {
		return b, err
	}
	if o.Manifest != nil {
		if b.Schema, err = o.Manifest.SourceSchema(s.ids); err != nil {
			return b, err
		}
	}
	b.Source = func(ctx context.Context) (drtest.Source, error) {
		src, err := o.Source(ctx, &backup.Meter{Bytes: &s.fetched, Waiting: &s.waited, Now: s.app.io.Now})
		if err != nil {
			return drtest.Source{}, err
		}
		return drtest.Source{Source: src.Source, Rest: src.Rest, Close: src.Close}, nil
	}
	return b, nil
}

// remember keeps what the test has proven of the file, for list and prune: not
// whether the data are what they should be, but whether it can be restored.
func (s *subject) remember(rep *drtest.Report) {
	verdict := backup.CouldNot
	for _, c := range rep.Checks {
		switch {
		case c.ID == drtest.Integrity && c.Status == check.Critical:
			verdict = backup.Fail
		case c.ID == drtest.Integrity && c.Status == check.OK:
			verdict = backup.Pass
		}
	}
	if verdict == backup.CouldNot || s.at.store == nil {
		return
	}
	s.deps.remember(s.at, &backup.Report{Where: s.at.store.Location(), Verdict: verdict}, "dr-test", s.app.io.Now())
}
