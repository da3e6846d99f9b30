package postgres

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/compose"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// platform is the platform's postgres service: no published port.
func platform(t *testing.T) (*testenv.PGContainer, *ContainerDumper) {
	t.Helper()
	c := testenv.Docker(t).Postgres(t)
	p, err := compose.Open(t.Context(), compose.Options{Project: c.Project})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	service := p.Service("postgres")
	return c, &ContainerDumper{
		Execer: service, Name: "postgres",
		Target: target(t, c.URL()).WithDial(service.Dial),
	}
}

func TestContainer(t *testing.T) {
	t.Parallel()
	c, d := platform(t)
	c.Psql(t, c.Database, "CREATE TABLE t AS SELECT i, 'row '||i s FROM generate_series(1, 1000) i; CREATE ROLE seen")

	conn, err := Connect(t.Context(), d.Target, "tunnel")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	info, err := Info(t.Context(), conn)
	if err != nil || info.VersionNum < 150000 {
		t.Fatal(info, err)
	}
	tool, err := d.Version(t.Context())
	if err != nil || tool.Path != "postgres:pg_dump" || CheckVersion(tool, info.VersionNum) != nil {
		t.Fatal(tool, err)
	}
	if err := CheckVersion(tool, 160003); err == nil || !strings.HasPrefix(err.Error(), "pg_dump: server is 16.3 but postgres:pg_dump is 15.") {
		t.Errorf("error %v", err)
	}

	// The lock and the snapshot hold through the tunnel.
	if ok, err := AdvisoryLock(t.Context(), conn, LockKey("test")); !ok || err != nil {
		t.Fatal(ok, err)
	}
	other, err := Connect(t.Context(), d.Target, "tunnel")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	if ok, err := AdvisoryLock(t.Context(), other, LockKey("test")); ok || err != nil {
		t.Fatal(ok, err)
	}
	snapshot, release, err := ExportSnapshot(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	c.Psql(t, c.Database, "INSERT INTO t VALUES (1001, 'too late')")
	var out, direct bytes.Buffer
	if err := d.Dump(t.Context(), &out, snapshot); err != nil {
		t.Fatal(err)
	}
	if err := release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := out.String(); !strings.Contains(s, "1000\trow 1000\n") || strings.Contains(s, "too late") || !strings.Contains(s, "-- PostgreSQL database dump complete") {
		t.Errorf("the dump is not that of the snapshot:\n%.500s", s)
	}

	// Byte for byte what pg_dump itself writes, but for the restrict token.
	out.Reset()
	if err := d.Dump(t.Context(), &out, ""); err != nil {
		t.Fatal(err)
	}
	run := exec.Command("docker", "exec", c.ID, "pg_dump", "-U", c.User, "-d", c.Database)
	run.Stdout = &direct
	if err := run.Run(); err != nil {
		t.Fatal(err)
	}
	if a, b := unrestricted(out.String()), unrestricted(direct.String()); a != b {
		t.Errorf("the dump differs from pg_dump's:\n%.300s\n---\n%.300s", a, b)
	}
	out.Reset()
	if err := d.Globals(t.Context(), &out); err != nil || !strings.Contains(out.String(), "CREATE ROLE seen") {
		t.Errorf("globals: %v\n%s", err, out.String())
	}
}

// unrestricted is a dump without its \restrict and \unrestrict lines.
func unrestricted(dump string) string {
	lines := strings.Split(dump, "\n")
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool {
		return strings.HasPrefix(l, `\restrict `) || strings.HasPrefix(l, `\unrestrict `)
	}), "\n")
}

func TestContainerFailures(t *testing.T) {
	t.Parallel()
	c, d := platform(t)
	c.Psql(t, c.Database, "CREATE TABLE t AS SELECT repeat('x', 1000) s FROM generate_series(1, 30000)")
	sessions := func() string {
		return c.Psql(t, c.Database, "SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('escrowctl', 'pg_dump')")
	}
	ended := func() {
		t.Helper()
		for end := time.Now().Add(15 * time.Second); sessions() != "0"; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("a pg_dump is still connected")
			}
		}
	}
	t.Run("password", func(t *testing.T) {
		wrong := &ContainerDumper{Execer: d.Execer, Name: d.Name, Target: d.Target.copy()}
		wrong.Target.config.Password = "Marker-Pass-4"
		err := wrong.Dump(t.Context(), io.Discard, "")
		var tool *ToolError
		if !errors.As(err, &tool) || !strings.Contains(err.Error(), "password authentication failed") || strings.Contains(err.Error(), "Marker") {
			t.Errorf("dump: %v", err)
		}
		_, err = Connect(t.Context(), wrong.Target, "test")
		if err == nil || !strings.Contains(err.Error(), "28P01") || strings.Contains(err.Error(), "Marker") {
			t.Errorf("connect: %v", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		err := d.Dump(ctx, writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil }), "")
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		ended()
	})
	t.Run("writer", func(t *testing.T) {
		full := errors.New("disk full")
		err := d.Dump(t.Context(), writerFunc(func([]byte) (int, error) { return 0, full }), "")
		if !errors.Is(err, full) {
			t.Errorf("error %v", err)
		}
		ended()
	})
	t.Run("stopped", func(t *testing.T) {
		if out, err := exec.Command("docker", "stop", "-t", "5", c.ID).CombinedOutput(); err != nil {
			t.Fatal(err, string(out))
		}
		for _, err := range []error{
			d.Dump(t.Context(), io.Discard, ""),
			func() error { _, err := Connect(t.Context(), d.Target, "test"); return err }(),
		} {
			if !errors.Is(err, compose.ErrNotRunning) || !strings.Contains(err.Error(), "is exited") {
				t.Errorf("error %v", err)
			}
		}
	})
}
