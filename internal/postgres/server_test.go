package postgres

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

func target(t testing.TB, url string) *Target {
	t.Helper()
	parsed, err := Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func dumper(t testing.TB, pg *testenv.PG, db string) *HostDumper {
	t.Helper()
	return &HostDumper{Path: filepath.Join(pg.BinDir, "pg_dump"), Target: target(t, pg.URL(db))}
}

func TestConnectAndInfo(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	pg.Psql(t, "postgres", "CREATE TABLE t AS SELECT generate_series(1, 100000) i; CREATE ROLE plain LOGIN")
	conn, err := Connect(t.Context(), target(t, pg.URL("postgres")), "escrowctl test")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	info, err := Info(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	if info.VersionNum < 150000 || !strings.HasPrefix(pg.Psql(t, "postgres", "SHOW server_version"), info.Version) ||
		info.Encoding != "UTF8" || !info.Superuser || info.InRecovery || info.SizeBytes < 3<<20 {
		t.Errorf("%+v", info)
	}
	var app, interval string
	err = conn.QueryRow(t.Context(), "SELECT current_setting('application_name'), current_setting('client_connection_check_interval')").Scan(&app, &interval)
	if err != nil || app != "escrowctl test" || interval != noticeHangup {
		t.Errorf("application_name %q, check interval %q, %v", app, interval, err)
	}
	if _, err := conn.Exec(t.Context(), "SET ROLE plain"); err != nil {
		t.Fatal(err)
	}
	if info, err := Info(t.Context(), conn); err != nil || info.Superuser {
		t.Errorf("a plain role: %+v, %v", info, err)
	}
}

func TestConnectErrors(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	down := testenv.Postgres(t)
	down.Stop(t)
	const marker = "Marker-Pass-1"
	good := target(t, pg.URL("postgres"))
	wrong := good.copy()
	wrong.config.Password = marker
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name   string
		ctx    context.Context
		target *Target
		says   []string
	}{
		{"password", t.Context(), wrong, []string{"postgres: connect to " + good.Display() + " as " + good.User(), "28P01", "check the password in DATABASE_URL"}},
		{"database", t.Context(), good.With("nowhere"), []string{`database "nowhere" does not exist`, "check the database in DATABASE_URL"}},
		{"down", t.Context(), target(t, down.URL("postgres")), []string{"connection refused", "dump.via: container"}},
		{"name", t.Context(), target(t, "postgres://me:"+marker+"@no-such-host.invalid/x"), []string{"does not resolve here"}},
		{"cancelled", cancelled, good, []string{"context canceled"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Connect(tt.ctx, tt.target, "test")
			if err == nil {
				t.Fatal("connected")
			}
			for _, says := range tt.says {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("no %q in %v", says, err)
				}
			}
			if strings.Contains(err.Error(), marker) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q", err)
			}
		})
	}
}

func TestAdvisoryLock(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	key := LockKey("backup")
	if key == LockKey("restore") || key != LockKey("backup") {
		t.Error("keys")
	}
	take := func() (bool, func()) {
		conn, err := Connect(t.Context(), target(t, pg.URL("postgres")), "lock")
		if err != nil {
			t.Fatal(err)
		}
		ok, err := AdvisoryLock(t.Context(), conn, key)
		if err != nil {
			t.Fatal(err)
		}
		return ok, func() { _ = conn.Close(context.Background()) }
	}
	first, endFirst := take()
	second, endSecond := take()
	defer endSecond()
	if !first || second {
		t.Fatalf("first %v, second %v", first, second)
	}
	endFirst() // it goes with its session
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		third, endThird := take()
		endThird()
		if third {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the lock outlives its session")
		}
	}
}

func TestHostDump(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	pg.CreateDB(t, "shop")
	pg.Psql(t, "shop", `CREATE TABLE t (id int PRIMARY KEY, s text); INSERT INTO t SELECT i, 'row '||i FROM generate_series(1, 1000) i; CREATE ROLE "shop owner" LOGIN PASSWORD 'role-secret'`)
	d := dumper(t, pg, "shop")
	tool, err := d.Version(t.Context())
	if err != nil || tool.VersionNum < 150000 {
		t.Fatal(tool, err)
	}
	conn, err := Connect(t.Context(), d.Target, "snapshot")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	snapshot, release, err := ExportSnapshot(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	pg.Psql(t, "shop", "INSERT INTO t VALUES (1001, 'too late')")

	var out bytes.Buffer
	d.LockTimeout = time.Minute
	if err := d.Dump(t.Context(), &out, snapshot); err != nil {
		t.Fatal(err)
	}
	if s := out.String(); !strings.Contains(s, "1000\trow 1000\n") || strings.Contains(s, "too late") || !strings.Contains(s, "-- PostgreSQL database dump complete") {
		t.Errorf("the dump is not that of the snapshot:\n%.500s", s)
	}
	if err := release(t.Context()); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := d.Dump(t.Context(), &out, ""); err != nil || !strings.Contains(out.String(), "1001\ttoo late\n") {
		t.Errorf("without a snapshot: %v", err)
	}
	out.Reset()
	if err := d.Globals(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if s := out.String(); !strings.Contains(s, `CREATE ROLE "shop owner"`) || strings.Contains(s, "SCRAM-SHA-256") || strings.Contains(s, "PASSWORD '") {
		t.Errorf("globals:\n%s", s)
	}
	if w := d.Warnings(); len(w) != 0 {
		t.Errorf("warnings %q", w)
	}
}

func TestHostDumpFailures(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	pg.Psql(t, "postgres", "CREATE TABLE t (i int); CREATE ROLE plain LOGIN PASSWORD 'plain-secret'; INSERT INTO t SELECT generate_series(1, 500000)")
	t.Run("permission", func(t *testing.T) {
		d := dumper(t, pg, "postgres")
		d.Target.config.User, d.Target.config.Password = "plain", "plain-secret"
		err := d.Dump(t.Context(), io.Discard, "")
		var tool *ToolError
		if !errors.As(err, &tool) || tool.ExitCode != 1 || !strings.Contains(err.Error(), "permission denied for table t") || !strings.Contains(err.Error(), "dump as the database's owner") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("password", func(t *testing.T) {
		d := dumper(t, pg, "postgres")
		d.Target.config.Password = "Marker-Pass-2"
		err := d.Dump(t.Context(), io.Discard, "")
		if err == nil || !strings.Contains(err.Error(), "password authentication failed") || strings.Contains(err.Error(), "Marker") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("lock", func(t *testing.T) {
		conn, err := Connect(t.Context(), target(t, pg.URL("postgres")), "locker")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		if _, err := conn.Exec(t.Context(), "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE"); err != nil {
			t.Fatal(err)
		}
		d := dumper(t, pg, "postgres")
		d.LockTimeout = 200 * time.Millisecond
		err = d.Dump(t.Context(), io.Discard, "")
		if err == nil || !strings.Contains(err.Error(), "LOCK TABLE") || !strings.Contains(err.Error(), "raise dump.lock_timeout") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("writer", func(t *testing.T) {
		full := errors.New("disk full")
		err := dumper(t, pg, "postgres").Dump(t.Context(), writerFunc(func([]byte) (int, error) { return 0, full }), "")
		if !errors.Is(err, full) {
			t.Errorf("error %v", err)
		}
		noDumpsLeft(t, pg)
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		err := dumper(t, pg, "postgres").Dump(ctx, writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil }), "")
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		noDumpsLeft(t, pg)
	})
	t.Run("not there", func(t *testing.T) {
		d := dumper(t, pg, "postgres")
		d.Path = "/nonexistent/pg_dump"
		if err := d.Dump(t.Context(), io.Discard, ""); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("error %v", err)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// noDumpsLeft waits until the server has no session of a pg_dump.
func noDumpsLeft(t testing.TB, pg *testenv.PG) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if pg.Psql(t, "postgres", "SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('escrowctl', 'pg_dump')") == "0" {
			return
		}
	}
	t.Fatal("a pg_dump is still connected")
}

// TestHostDumpNoise: what pg_dump says while it succeeds is a warning.
func TestHostDumpNoise(t *testing.T) {
	t.Parallel()
	d := &HostDumper{
		Path:   fakeTool(t, t.TempDir(), "echo 'pg_dump: warning: circular foreign keys' >&2; echo SQL; exit 0"),
		Target: target(t, "postgres://me:pw@db/x"),
	}
	var out bytes.Buffer
	if err := d.Dump(t.Context(), &out, ""); err != nil || out.String() != "SQL\n" {
		t.Fatal(out.String(), err)
	}
	if w := d.Warnings(); len(w) != 1 || w[0] != "pg_dump: warning: circular foreign keys" {
		t.Errorf("warnings %q", w)
	}
}

// TestHostDumpStubborn: what ignores SIGTERM is killed.
func TestHostDumpStubborn(t *testing.T) {
	t.Parallel()
	d := &HostDumper{
		Path:   fakeTool(t, t.TempDir(), "trap '' TERM; echo started; while :; do :; done"),
		Target: target(t, "postgres://me:pw@db/x"),
	}
	ctx, cancel := context.WithCancel(t.Context())
	start := time.Now()
	err := d.Dump(ctx, writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil }), "")
	if took := time.Since(start); !errors.Is(err, context.Canceled) || took < killAfter || took > 4*killAfter {
		t.Errorf("after %s: %v", took, err)
	}
}

// TestHostDumpSlowWriter: the last MiB of an ended pg_dump still arrives.
func TestHostDumpSlowWriter(t *testing.T) {
	t.Parallel()
	d := &HostDumper{
		Path:   fakeTool(t, t.TempDir(), "head -c 900000 /dev/zero"),
		Target: target(t, "postgres://me:pw@db/x"),
	}
	total, waited := 0, false
	err := d.Dump(t.Context(), writerFunc(func(p []byte) (int, error) {
		if !waited {
			waited = true
			time.Sleep(6 * time.Second)
		}
		total += len(p)
		return len(p), nil
	}), "")
	if err != nil || total != 900000 {
		t.Errorf("%d bytes, %v", total, err)
	}
}

// TestHostDumpCallerKilled: SIGKILL of this process ends pg_dump, also when it
// waits for a lock and so would not notice its closed pipe.
func TestHostDumpCallerKilled(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	pg.Psql(t, "postgres", "CREATE TABLE t (i int)")
	conn, err := Connect(t.Context(), target(t, pg.URL("postgres")), "locker")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "POSTGRES_TEST_DUMP="+filepath.Join(pg.BinDir, "pg_dump"), "POSTGRES_TEST_URL="+pg.URL("postgres"))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for pg.Psql(t, "postgres", "SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('escrowctl', 'pg_dump') AND query LIKE 'LOCK TABLE%'") != "1" {
		time.Sleep(20 * time.Millisecond)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	noDumpsLeft(t, pg)
}

func TestMain(m *testing.M) {
	if path := os.Getenv("POSTGRES_TEST_DUMP"); path != "" {
		parsed, err := Parse(os.Getenv("POSTGRES_TEST_URL"))
		if err != nil {
			panic(err)
		}
		d := &HostDumper{Path: path, Target: parsed}
		panic(d.Dump(context.Background(), io.Discard, ""))
	}
	os.Exit(m.Run())
}

// TestPasswordInNoArgument looks at every process while the dump runs.
func TestPasswordInNoArgument(t *testing.T) {
	t.Parallel()
	const marker = "Marker-Pass-3"
	d := &HostDumper{
		Path:   fakeTool(t, t.TempDir(), `echo "$PGPASSWORD"; tr '\0' ' ' </proc/$$/cmdline`),
		Target: target(t, "postgres://me:"+marker+"@db/x"),
	}
	var out bytes.Buffer
	if err := d.Dump(t.Context(), &out, ""); err != nil {
		t.Fatal(err)
	}
	password, cmdline, _ := strings.Cut(out.String(), "\n")
	if password != marker || !strings.Contains(cmdline, "--format=plain") || strings.Contains(cmdline, marker) {
		t.Errorf("password %q, command line %q", password, cmdline)
	}
}
