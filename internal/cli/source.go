package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/stellarescrow/escrowctl/internal/backup"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/postgres"
	"github.com/stellarescrow/escrowctl/internal/state"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// dumper is what host and container have in common.
type dumper interface {
	Version(ctx context.Context) (postgres.Tool, error)
	Dump(ctx context.Context, w io.Writer, snapshot string) error
	Globals(ctx context.Context, w io.Writer) error
}

// source is the database to back up, with a session on it that holds the lock
// across hosts.
type source struct {
	target *postgres.Target
	conn   *pgx.Conn
	info   postgres.ServerInfo
	tool   postgres.Tool
	dumper dumper
}

// Dump implements backup.Dumper.
func (s *source) Dump(ctx context.Context, w io.Writer) error { return s.dumper.Dump(ctx, w, "") }

// Globals implements backup.Dumper.
func (s *source) Globals(ctx context.Context, w io.Writer) error { return s.dumper.Globals(ctx, w) }

func (s *source) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = s.conn.Close(ctx)
}

// source connects to the database and finds a pg_dump for it.
func (d *deps) source(ctx context.Context) (*source, error) {
	s, direct, err := d.connect(ctx, "escrowctl backup")
	if err != nil {
		return nil, err
	}
	cctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	if err := d.findDumper(cctx, s, direct); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// connect connects to the database as app, directly or through its container.
func (d *deps) connect(ctx context.Context, app string) (s *source, direct bool, err error) {
	if d.cfg.Database.URL.IsZero() {
		return nil, false, &misuse{"no database: set DATABASE_URL, or database.url in escrowctl.yaml"}
	}
	plain, err := postgres.Parse(d.cfg.Database.URL.Reveal())
	if err != nil {
		return nil, false, &misuse{fmt.Sprintf("database.url (%s): %v", d.cfg.Origin("database.url"), err)}
	}
	target, err := d.reachable(ctx, plain)
	if err != nil {
		return nil, false, err
	}
	s = &source{target: plain}
	cctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	if s.conn, err = postgres.Connect(cctx, target, app); err != nil {
		return nil, false, err
	}
	if s.info, err = postgres.Info(cctx, s.conn); err != nil {
		s.close()
		return nil, false, err
	}
	return s, target == plain, nil
}

// findDumper chooses the host's pg_dump where it will do, else the container's.
func (d *deps) findDumper(ctx context.Context, s *source, direct bool) error {
	opt := postgres.DumpOptions{LockTimeout: d.cfg.Dump.LockTimeout}
	via := d.cfg.Dump.Via
	if direct && via != config.ViaContainer {
		tool, err := postgres.FindPgDump(ctx, d.cfg.Dump.PgDump, s.info.VersionNum)
		if err == nil {
			s.tool, s.dumper = tool, &postgres.HostDumper{Path: tool.Path, Target: s.target, DumpOptions: opt}
			return nil
		}
		if via == config.ViaHost || d.cfg.Dump.PgDump != "" {
			return err
		}
		if cerr := d.containerDumper(ctx, s, opt); cerr != nil {
			return fmt.Errorf("%w; and not in a container either: %w", err, cerr)
		}
		return nil
	}
	return d.containerDumper(ctx, s, opt)
}

func (d *deps) containerDumper(ctx context.Context, s *source, opt postgres.DumpOptions) error {
	svc, err := d.service(ctx)
	if err != nil {
		return err
	}
	c := &postgres.ContainerDumper{Execer: svc, Name: d.cfg.Dump.Service, Target: s.target, DumpOptions: opt}
	tool, err := c.Version(ctx)
	if err != nil {
		return err
	}
	if err := postgres.CheckVersion(tool, s.info.VersionNum); err != nil {
		return err
	}
	s.tool, s.dumper = tool, c
	return nil
}

// lock takes the lock that holds across hosts. It ends with the session.
func (s *source) lock(ctx context.Context, n backup.Naming) error {
	ok, err := postgres.AdvisoryLock(ctx, s.conn, postgres.LockKey("escrowctl backup "+n.Base))
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("backup of %s from another host: %w", s.target.Display(), state.ErrLocked)
	}
	return nil
}

// checkSpace refuses to begin what will not fit: the last backup's size and a
// tenth more.
func checkSpace(dir string, last int64) error {
	probe := dir
	for {
		if _, err := os.Stat(probe); err == nil || probe == filepath.Dir(probe) {
			break
		}
		probe = filepath.Dir(probe) // the directory is made later
	}
	usage, err := disk.Usage(probe)
	if err != nil {
		return fmt.Errorf("free space of %s: %w", dir, err)
	}
	need := last + last/10
	if int64(usage.Free) < need {
		return fmt.Errorf("%s has %s free, the last backup took %s: free some space or set BACKUP_DIR to a larger disk", dir, ui.Bytes(int64(usage.Free)), ui.Bytes(last))
	}
	if usage.InodesTotal > 0 && usage.InodesFree < 16 {
		return errors.New(dir + " has no inodes left: delete some files")
	}
	return nil
}
