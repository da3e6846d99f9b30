package testenv

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// pgUser is the superuser of every test server. Its password holds characters
// that URLs, shells and SQL treat specially, so that whoever forgets to quote
// finds out here.
const (
	pgUser     = "postgres"
	pgPassword = "t3st/p@ss:w%rd'#1"
)

// PG is a PostgreSQL server of the test's own.
type PG struct {
	Port      int    // on 127.0.0.1; the same after Stop and Start
	SocketDir string // holds .s.PGSQL.<Port>
	DataDir   string
	BinDir    string // psql, pg_dump and so on, of the server's version
	User      string // superuser
	Password  string // asked for over TCP; the socket trusts

	dir      string
	as       *account
	settings []string
	watchdog *watchdog
	process  *process
}

// PGOption changes how Postgres starts a server.
type PGOption func(*PG)

// PGSetting adds a server setting, for example PGSetting("max_connections", "10").
func PGSetting(name, value string) PGOption {
	return func(pg *PG) { pg.settings = append(pg.settings, "-c", name+"="+value) }
}

// Postgres starts a PostgreSQL server, the newest of those installed, and stops
// it at the end of the test. It holds nothing but the standard databases. The
// disk is never waited for (fsync=off): a test may kill the server, not the machine.
func Postgres(t testing.TB, opts ...PGOption) *PG {
	t.Helper()
	bin, ok := findPostgres()
	Need(t, ok, "the PostgreSQL server", "run `make deps`, or apt-get install postgresql")
	as, err := serverAccount()
	if err != nil {
		t.Fatalf("testenv: %v", err)
	}
	dir := tempDir(t, "pg", as)
	pg := &PG{
		BinDir: bin, dir: dir, as: as,
		User: pgUser, Password: pgPassword,
		DataDir: filepath.Join(dir, "data"), SocketDir: dir,
	}
	for _, o := range opts {
		o(pg)
	}
	pg.watchdog = newWatchdog(t, dir)
	if err := newCluster(pg); err != nil {
		t.Fatalf("testenv: %v", err)
	}
	t.Cleanup(func() {
		pg.Stop(t)
		pg.freeSharedMemory()
	})
	pg.Port = onFreePort(t, func(port int) error {
		pg.Port = port
		return pg.start(t)
	})
	return pg
}

// URL is the connection URL of a database over TCP, password included.
func (pg *PG) URL(db string) string {
	return (&url.URL{
		Scheme: "postgres", User: url.UserPassword(pg.User, pg.Password),
		Host: fmt.Sprintf("127.0.0.1:%d", pg.Port), Path: "/" + db, RawQuery: "sslmode=disable",
	}).String()
}

// SocketURL is the connection URL of a database over the Unix socket, which
// asks for no password.
func (pg *PG) SocketURL(db string) string {
	query := url.Values{"host": {pg.SocketDir}, "port": {strconv.Itoa(pg.Port)}}
	return (&url.URL{Scheme: "postgres", User: url.User(pg.User), Path: "/" + db, RawQuery: query.Encode()}).String()
}

// URLAs is the connection URL of a database over TCP for another role.
func (pg *PG) URLAs(user, password, db string) string {
	other := *pg
	other.User, other.Password = user, password
	return other.URL(db)
}

// Env leads libpq's programs to a database over the socket.
func (pg *PG) Env(db string) []string {
	return []string{
		"PGHOST=" + pg.SocketDir, "PGPORT=" + strconv.Itoa(pg.Port), "PGUSER=" + pg.User, "PGDATABASE=" + db,
		"PGPASSWORD=", "PGOPTIONS=", "PGPASSFILE=/dev/null",
	}
}

// Tool is the path of one of the server's own programs: psql, pg_dump, ...
func (pg *PG) Tool(name string) string { return filepath.Join(pg.BinDir, name) }

// Psql runs SQL (psql's own \commands too) in a database, stopping at the first
// error, and returns what it printed: unaligned, without headings, trimmed.
func (pg *PG) Psql(t testing.TB, db, sql string) string {
	t.Helper()
	cmd := exec.Command(pg.Tool("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", pg.SocketURL(db), "-f", "-")
	cmd.Stdin = strings.NewReader(sql)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("testenv: psql in %s: %v: %s", db, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// CreateDB makes an empty database.
func (pg *PG) CreateDB(t testing.TB, name string) {
	t.Helper()
	pg.Psql(t, "postgres", "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
}

// Start starts the server again after Stop or Kill, on the same port.
func (pg *PG) Start(t testing.TB) {
	t.Helper()
	if err := pg.start(t); err != nil {
		t.Fatalf("testenv: %v", err)
	}
}

// Stop ends the server in order, dropping its connections. It may be down already.
func (pg *PG) Stop(t testing.TB) {
	t.Helper()
	if pg.process == nil {
		return
	}
	pg.process.stop(syscall.SIGINT)
	pg.ended(t)
}

// Kill ends the server as a crash does (SIGKILL), and waits until the last of
// its processes is gone.
func (pg *PG) Kill(t testing.TB) {
	t.Helper()
	if pg.process == nil {
		return
	}
	pg.process.stop(syscall.SIGKILL)
	pg.ended(t)
}

func (pg *PG) ended(t testing.TB) {
	t.Helper()
	pg.process = nil
	pg.watchdog.tell(t, "pid 0 KILL")
	// The others notice that the first is gone only when they next wait for
	// something, which a busy one may not do for long.
	limit := time.Now().Add(stopLimit)
	for len(processesIn(pg.DataDir)) > 0 {
		for _, pid := range processesIn(pg.DataDir) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // gone meanwhile is as good
		}
		if time.Now().After(limit) {
			t.Errorf("testenv: PostgreSQL is stopped, but its processes %v live on", processesIn(pg.DataDir))
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (pg *PG) start(t testing.TB) error {
	args := append([]string{
		"-D", pg.DataDir, "-p", strconv.Itoa(pg.Port), "-k", pg.SocketDir,
		"-c", "listen_addresses=127.0.0.1",
		"-c", "fsync=off", "-c", "full_page_writes=off",
		"-c", "shared_buffers=32MB", "-c", "dynamic_shared_memory_type=mmap", "-c", "logging_collector=off", "-c", "log_timezone=UTC", "-c", "timezone=UTC",
	}, pg.settings...)
	p, err := launch(exec.Command(pg.Tool("postgres"), args...), pg.dir, "postgres", pg.as)
	if err != nil {
		return err
	}
	// SIGQUIT: every process of the server ends at once, and its shared memory goes.
	pg.watchdog.tell(t, "pid %d QUIT", p.cmd.Process.Pid)
	if err := p.ready(pg.ping); err != nil {
		pg.watchdog.tell(t, "pid 0 KILL")
		return err
	}
	pg.process = p
	return nil
}

func (pg *PG) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	// Over TCP, and checking who answers: another server may hold the port.
	conn, err := pgx.Connect(ctx, pg.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var dir string
	if err := conn.QueryRow(ctx, "SHOW data_directory").Scan(&dir); err != nil {
		return err
	}
	if dir != pg.DataDir {
		return fmt.Errorf("port %d: address already in use by the server of %s", pg.Port, dir)
	}
	return nil
}

// freeSharedMemory removes the small System V segment that a killed server
// leaves. Its id stands on line 7 of the pid file, which an orderly stop removes.
func (pg *PG) freeSharedMemory() {
	text, err := os.ReadFile(filepath.Join(pg.DataDir, "postmaster.pid"))
	if err != nil {
		return
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 7 {
		return
	}
	if fields := strings.Fields(lines[6]); len(fields) == 2 {
		_ = exec.Command("ipcrm", "-m", fields[1]).Run() // already gone is as good
	}
}

// findPostgres returns the bin directory of the newest server installed.
func findPostgres() (string, bool) {
	newest, best := "", 0
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	for _, dir := range dirs {
		major, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if err == nil && major > best && isExecutable(filepath.Join(dir, "initdb")) && isExecutable(filepath.Join(dir, "psql")) {
			newest, best = dir, major
		}
	}
	if newest != "" {
		return newest, true
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", false
	}
	return filepath.Dir(path), true
}

// processesIn lists the processes whose working directory is dir, which is
// where every process of a PostgreSQL server stays.
func processesIn(dir string) []int {
	var pids []int
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || strings.TrimSuffix(target, " (deleted)") != dir {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

var errNoAccount = errors.New("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody to run it as")
