// Package local starts throwaway PostgreSQL servers from the host's own
// binaries: in a temporary directory, as an unprivileged user, listening on a
// unix socket that only this user and root can reach.
package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/stellarescrow/escrowctl/internal/pgengine"
)

const (
	dataDir = "data"
	logFile = "log"
	// maxSocketPath is the kernel's limit for the path of a unix socket.
	maxSocketPath = 107
	startLimit    = time.Minute
)

// Engine starts servers in directories below Dir.
type Engine struct {
	Dir  string   // absolute
	Bins []string // directories with initdb and postgres; see Binaries
	Now  func() time.Time
}

// Name is what this engine is called.
func (e *Engine) Name() string { return "local" }

// Binaries lists the directories of this host that hold a PostgreSQL server.
func Binaries() []string {
	var found []string
	add := func(dir string) {
		for _, tool := range []string{"initdb", "postgres"} {
			if st, err := os.Stat(filepath.Join(dir, tool)); err != nil || st.IsDir() || st.Mode()&0o111 == 0 {
				return
			}
		}
		found = append(found, dir)
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/libexec/postgresql*"} {
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			add(dir)
		}
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			add(filepath.Dir(real))
		}
	}
	return found
}

// choose returns the binaries of the major version, else of the next newer one,
// else of the newest: whether an older server will do is the caller's affair.
func (e *Engine) choose(ctx context.Context, major int) (string, error) {
	best, bestMajor := "", 0
	for _, dir := range e.Bins {
		m := majorOf(ctx, dir)
		better := best == "" ||
			m >= major && (bestMajor < major || m < bestMajor) ||
			m < major && bestMajor < major && m > bestMajor
		if m > 0 && better {
			best, bestMajor = dir, m
		}
	}
	if best == "" {
		return "", fmt.Errorf("%w: this host has no PostgreSQL server: install postgresql-%d, or use --engine docker", pgengine.ErrNoEngine, max(major, 1))
	}
	return best, nil
}

// Ready says in what a server would be started, without starting one.
func (e *Engine) Ready(ctx context.Context, s pgengine.Spec) (string, error) {
	bin, err := e.choose(ctx, s.Major)
	if err != nil {
		return "", err
	}
	major := majorOf(ctx, bin)
	if major < s.Major {
		return "", fmt.Errorf("%w: this host has PostgreSQL %d, and the dumped server is %d", pgengine.ErrNoEngine, major, s.Major)
	}
	return fmt.Sprintf("this host's own PostgreSQL %d, in %s", major, bin), nil
}

func majorOf(ctx context.Context, dir string) int {
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(out), "(PostgreSQL) ")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	n, _ := strconv.Atoi(rest[:max(end, 0)]) // 0: not a version
	return n
}

// instance is one server.
type instance struct {
	dir  string
	info pgengine.Info
	bin  string
	keep bool
	now  func() time.Time

	as    *syscall.Credential
	ended chan struct{} // closed when the server is gone

	mu     sync.Mutex
	closed bool
}

// Start starts a server and returns when it takes connections. On an error
// nothing is left.
func (e *Engine) Start(ctx context.Context, s pgengine.Spec) (pgengine.Instance, error) {
	bin, err := e.choose(ctx, s.Major)
	if err != nil {
		return nil, err
	}
	as, err := account()
	if err != nil {
		return nil, err
	}
	if err := e.room(s.SQL); err != nil {
		return nil, err
	}
	dir := filepath.Join(e.Dir, dirName(s.Expires, s.Keep, s.Owner))
	if n := len(dir) + len("/.s.PGSQL.5432"); n > maxSocketPath {
		return nil, fmt.Errorf("the directory %s is too deep for a unix socket: set TMPDIR to a shorter one", e.Dir)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a directory for the server: %w: set TMPDIR to a disk with room that this user may write", err)
	}
	in := &instance{dir: dir, bin: bin, keep: s.Keep, now: e.Now, as: as, ended: make(chan struct{}), info: pgengine.Info{Engine: e.Name(), Name: dir, Storage: pgengine.Disk}}
	if err := in.start(ctx, s); err != nil {
		return nil, errors.Join(err, in.destroy())
	}
	return in, nil
}

// room refuses to begin what the disk cannot hold.
func (e *Engine) room(sql int64) error {
	usage, err := disk.Usage(e.Dir)
	if err != nil {
		return fmt.Errorf("free space of %s: %w", e.Dir, err)
	}
	if need := pgengine.Footprint(sql); int64(usage.Free) < need {
		return fmt.Errorf("%s has %d bytes free, the restored database needs about %d: set TMPDIR to a larger disk", e.Dir, usage.Free, need)
	}
	return nil
}

// account is whom the server runs as: ourselves, unless we are root, as whom it
// refuses to run. It is nobody before postgres, to whom the host's own clusters
// belong: the SQL of a dump that somebody has tampered with runs as this user.
func account() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // ourselves
	}
	for _, name := range []string{"nobody", "postgres"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
		if uerr == nil && gerr == nil && uid != 0 {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, fmt.Errorf("%w: PostgreSQL refuses to run as root, and there is neither a user nobody nor postgres", pgengine.ErrNoEngine)
}

func (in *instance) start(ctx context.Context, s pgengine.Spec) error {
	if in.as != nil {
		// Nobody but root and the server's user gets in.
		if err := os.Chown(in.dir, -1, int(in.as.Gid)); err != nil {
			return err
		}
		if err := os.Chmod(in.dir, 0o770); err != nil {
			return err
		}
	}
	if err := in.initdb(ctx); err != nil {
		return err
	}
	memory := s.Memory
	if v, err := mem.VirtualMemory(); memory == 0 && err == nil {
		memory = min(int64(v.Available)/2, 2<<30)
	}
	if err := in.run(pgengine.Settings(memory, runtime.NumCPU())); err != nil {
		return err
	}
	return in.await(ctx)
}

// initdb makes the cluster. It dies with us too.
func (in *instance) initdb(ctx context.Context) error {
	var err error
	for _, locale := range []string{"C.UTF-8", "C"} {
		var said bytes.Buffer
		cmd := exec.CommandContext(ctx, filepath.Join(in.bin, "initdb"), "-D", filepath.Join(in.dir, dataDir), "-U", pgengine.User,
			"--auth=trust", "-E", "UTF8", "--locale="+locale, "--lc-collate=C", "--no-sync")
		in.prepare(cmd)
		dieWithParent(cmd.SysProcAttr)
		cmd.Stdout, cmd.Stderr = &said, &said
		wait, startErr := launch(cmd)
		if err = startErr; err == nil {
			err = wait()
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("initdb: %w", context.Cause(ctx))
		}
		err = fmt.Errorf("initdb: %w: %s", err, pgengine.LastLines(said.Bytes()))
	}
	return err
}

// prepare sets whom and where a program runs as, with nothing of our
// environment, in which there are secrets.
func (in *instance) prepare(cmd *exec.Cmd) {
	cmd.Dir = in.dir
	cmd.Env = append([]string{"PATH=" + in.bin + ":/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}, pgengine.Environment()...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: in.as, Setpgid: true}
}

// launch starts cmd from a thread that stays until it has ended: the kernel
// sends the parent-death signal when the thread that started the child ends.
func launch(cmd *exec.Cmd) (wait func() error, err error) {
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	return func() error { return <-ended }, <-started
}

// run starts the server.
func (in *instance) run(settings []pgengine.Setting) error {
	args := []string{"-D", filepath.Join(in.dir, dataDir), "-k", in.dir, "-p", strconv.Itoa(pgengine.Port), "-c", "listen_addresses="}
	for _, s := range settings {
		args = append(args, "-c", s.Name+"="+s.Value)
	}
	log, err := os.OpenFile(filepath.Join(in.dir, logFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(in.bin, "postgres"), args...)
	in.prepare(cmd)
	if !in.keep {
		dieWithParent(cmd.SysProcAttr)
	}
	cmd.Stdout, cmd.Stderr = log, log
	wait, err := launch(cmd)
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	go func() {
		_ = wait() // what it said is in its log
		close(in.ended)
	}()
	return nil
}

// await returns when the server takes connections.
func (in *instance) await(ctx context.Context) error {
	deadline := time.NewTimer(startLimit)
	defer deadline.Stop()
	for {
		conn, err := in.Connect(ctx, "postgres")
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-in.ended:
			return fmt.Errorf("PostgreSQL (%s) did not start: %s", in.bin, in.said())
		case <-deadline.C:
			return fmt.Errorf("PostgreSQL (%s) takes no connections after %s: %w", in.bin, startLimit, err)
		case <-ctx.Done():
			return fmt.Errorf("start PostgreSQL: %w", context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// Info implements pgengine.Instance.
func (in *instance) Info() pgengine.Info { return in.info }

// Connect implements pgengine.Instance.
func (in *instance) Connect(ctx context.Context, database string) (*pgconn.PgConn, error) {
	return pgengine.Connect(ctx, in.dir, database, nil)
}

// Psql implements pgengine.Instance.
func (in *instance) Psql(database string) string {
	return fmt.Sprintf("%s -h %s -U %s %s", filepath.Join(in.bin, "psql"), in.dir, pgengine.User, database)
}

// Died implements pgengine.Instance.
func (in *instance) Died() string {
	select {
	case <-in.ended:
		return in.said()
	default:
	}
	text, _ := os.ReadFile(filepath.Join(in.dir, logFile))
	return pgengine.Crash(text)
}

func (in *instance) said() string {
	text, err := os.ReadFile(filepath.Join(in.dir, logFile))
	if err != nil {
		return err.Error()
	}
	return pgengine.LastLines(text)
}

// Close implements pgengine.Instance.
func (in *instance) Close(context.Context) error {
	if in.keep {
		return nil
	}
	return in.destroy()
}

func (in *instance) destroy() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return nil
	}
	if err := remove(in.dir); err != nil {
		return err
	}
	in.closed = true
	return nil
}
