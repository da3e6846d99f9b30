package compose

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/moby/moby/client"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// database opens a project whose service "box" is a PostgreSQL server without a
// published port, and without a network at all.
func database(t testing.TB) (*Project, string) {
	t.Helper()
	docker, project := testenv.Docker(t), uniqueProject()
	id, _ := newContainer(t, docker, project, "box", nil)
	startContainer(t, docker, id)
	p := open(t, Options{Project: project})
	awaitServer(t, p)
	return p, id
}

// unharmed fails the test if the server saw a crash: as process 1 it takes a
// stray process of ours that dies by a signal for a backend.
func unharmed(t testing.TB, p *Project, id string) {
	t.Helper()
	logs, err := p.engine.ContainerLogs(t.Context(), id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	text, err := io.ReadAll(logs)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte("database system is ready")) || bytes.Contains(text, []byte("terminated by signal")) {
		t.Fatalf("the server's log:\n%s", text)
	}
}

// awaitServer waits until the server takes connections.
func awaitServer(t testing.TB, p *Project) {
	t.Helper()
	ready := Spec{Cmd: []string{"pg_isready", "-q", "-h", "127.0.0.1"}}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if code, err := p.Exec(t.Context(), "box", ready); err == nil && code == 0 {
			return
		}
	}
	t.Fatal("the server takes no connections")
}

func isServerProcess(s string) bool { return strings.HasPrefix(s, "postgres") }

func connect(t testing.TB, p *Project, host, tool string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig("postgres://postgres:" + dbPassword + "@" + host + ":5432/postgres?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	config.DialFunc = p.Dial("box")
	if tool != "" {
		config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			return p.dial(ctx, "box", network, addr, tool)
		}
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// TestPgx: the whole protocol works, with each pump, to a server that
// publishes nothing and under a host name that does not resolve inside.
func TestPgx(t *testing.T) {
	t.Parallel()
	p, id := database(t)
	forEachTool(t, p, allTools, func(t *testing.T, tool string) {
		conn := connect(t, p, "postgres", tool)
		ctx := t.Context()
		if _, err := conn.Exec(ctx, "CREATE TEMP TABLE b (id int, data bytea)"); err != nil {
			t.Fatal(err)
		}
		sent := make([]byte, 3<<20)
		if _, err := rand.Read(sent); err != nil {
			t.Fatal(err)
		}
		n, err := conn.CopyFrom(ctx, pgx.Identifier{"b"}, []string{"id", "data"}, pgx.CopyFromRows([][]any{{1, sent}, {2, []byte{}}, {3, nil}}))
		if err != nil || n != 3 {
			t.Fatalf("COPY in: %d rows, %v", n, err)
		}
		var got []byte
		if err := conn.QueryRow(ctx, "SELECT data FROM b WHERE id = $1", 1).Scan(&got); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d of %d bytes came back, or others; %v", len(got), len(sent), err)
		}
		var out bytes.Buffer
		tag, err := conn.PgConn().CopyTo(ctx, &out, "COPY b TO STDOUT")
		if err != nil || tag.RowsAffected() != 3 || out.Len() < 2*len(sent) {
			t.Fatalf("COPY out: %d bytes, %v", out.Len(), err)
		}
		if err := conn.Close(ctx); err != nil {
			t.Fatal(err)
		}
		waitProcesses(t, p, id, isServerProcess)
	})
	unharmed(t, p, id)
}

// TestPgxCancel: cancelling a query returns at once, ends it on the server
// (which pgx asks for over a second tunnel) and leaves no pump behind.
func TestPgxCancel(t *testing.T) {
	t.Parallel()
	p, id := database(t)
	watcher := connect(t, p, "localhost", "")
	forEachTool(t, p, allTools, func(t *testing.T, tool string) {
		conn := connect(t, p, "localhost", tool)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := conn.Exec(ctx, "SELECT pg_sleep(1000), 'to be cancelled'")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > patience {
			t.Fatalf("after %s: %v", time.Since(start), err)
		}
		<-conn.PgConn().CleanupDone()
		for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			var n int
			err := watcher.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%to be cancelled%' AND pid <> pg_backend_pid()").Scan(&n)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			if time.Now().After(end) {
				t.Fatal("the query still runs on the server")
			}
		}
	})
	if err := watcher.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitProcesses(t, p, id, isServerProcess)
	unharmed(t, p, id)
}

// TestServerUnharmed: nothing that is ended early, in whatever way, disturbs a
// server that is the container's process 1.
func TestServerUnharmed(t *testing.T) {
	t.Parallel()
	p, id := database(t)
	cancelled := func(spec Spec, running string) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		go func() { waitProcess(t, p, id, running); cancel() }()
		if _, err := p.Exec(ctx, "box", spec); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	cancelled(Spec{Cmd: []string{"sleep", "777"}}, "sleep 777")
	cancelled(Spec{Cmd: []string{"sleep", "777"}, Stdin: blocked{}}, "sleep 777")
	cancelled(Spec{Cmd: []string{"bash", "-c", "trap '' TERM; for ((;;)); do :; done"}}, "bash -c trap")
	if _, err := p.Exec(t.Context(), "box", Spec{Cmd: []string{"yes"}, Stdout: &failing{}}); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	if code, err := p.Exec(t.Context(), "box", Spec{Cmd: []string{"sh", "-c", "kill -KILL $$"}}); err != nil || code != 137 {
		t.Fatal(code, err)
	}
	caller := asCaller(t, "exec", p.Name(), "")
	waitProcess(t, p, id, "sleep 888")
	_ = caller.Process.Kill()
	for _, tool := range allTools {
		needTool(t, p, tool)
		busy := dialTool(t, p, "localhost:5432", tool)
		if tool == "perl" {
			stop := Spec{Cmd: []string{"sh", "-c", `kill -STOP "$1"`, "sh", strconv.Itoa(busy.pid)}}
			if code, err := p.Exec(t.Context(), "box", stop); err != nil || code != 0 {
				t.Fatal(code, err)
			}
		}
		_ = busy.Close()
		caller := asCaller(t, "dial5432", p.Name(), tool)
		waitProcess(t, p, id, pumpNames[tool])
		_ = caller.Process.Kill()
	}
	waitProcesses(t, p, id, isServerProcess)
	unharmed(t, p, id)
}

// TestPgxServerCrash: a reader learns of it.
func TestPgxServerCrash(t *testing.T) {
	t.Parallel()
	p, _ := database(t)
	forEachTool(t, p, allTools, func(t *testing.T, tool string) {
		conn := connect(t, p, "localhost", tool)
		kill := Spec{Cmd: []string{"sh", "-c", `sleep 0.3; kill -KILL "$1"`, "sh", strconv.Itoa(int(conn.PgConn().PID()))}}
		go func() { _, _ = p.Exec(t.Context(), "box", kill) }()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := conn.Exec(ctx, "SELECT pg_sleep(1000)")
		if err == nil || ctx.Err() != nil {
			t.Fatalf("error %v", err)
		}
		// The whole server restarts after a backend's crash.
		awaitServer(t, p)
	})
}

// BenchmarkCopy moves rows of text out of and into a server through the tunnel.
// COMPOSE_BENCH_MB sets how many (200).
func BenchmarkCopy(b *testing.B) {
	mb := 200
	if s := os.Getenv("COMPOSE_BENCH_MB"); s != "" {
		mb, _ = strconv.Atoi(s)
	}
	p, _ := database(b)
	setup := connect(b, p, "localhost", "")
	// 100 bytes a row, less than 8 of them the number.
	_, err := setup.Exec(b.Context(), "CREATE UNLOGGED TABLE t AS SELECT i, repeat(md5(i::text), 3) || 'x' FROM generate_series(1000000, 1000000 + $1 * 10000) i", mb)
	if err != nil {
		b.Fatal(err)
	}
	for _, tool := range allTools {
		b.Run("out/"+tool, func(b *testing.B) {
			conn := connect(b, p, "localhost", tool)
			for b.Loop() {
				var n counter
				if _, err := conn.PgConn().CopyTo(b.Context(), &n, "COPY t TO STDOUT"); err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(n))
			}
		})
		b.Run("in/"+tool, func(b *testing.B) {
			conn := connect(b, p, "localhost", tool)
			if _, err := conn.Exec(b.Context(), "CREATE TEMP TABLE u (LIKE t)"); err != nil {
				b.Fatal(err)
			}
			row := "1000000\t" + strings.Repeat("0123456789abcdef", 6) + "x\n"
			size := int64(len(row)) * int64(mb) * 10000
			b.SetBytes(size)
			for b.Loop() {
				in := io.LimitReader(&repeater{text: strings.Repeat(row, 1000)}, size)
				if _, err := conn.PgConn().CopyFrom(b.Context(), in, "COPY u FROM STDIN"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

type repeater struct {
	text string
	at   int
}

func (r *repeater) Read(p []byte) (int, error) {
	n := copy(p, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	return n, nil
}
