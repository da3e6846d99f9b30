package cli

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// TestRotateWithoutDocker: where the engine is dead nothing was changed, and the
// exit code says so.
func TestRotateWithoutDocker(t *testing.T) {
	for _, args := range []string{
		"start API_KEYS --show", "start API_KEYS --dry-run", "notify API_KEYS", "activate API_KEYS", "activate API_KEYS --dry-run", "retire ADMIN_KEYS", "rollback API_KEYS", "cancel API_KEYS",
		"POSTGRES_PASSWORD", "REDIS_PASSWORD --dry-run", "rollback GRAFANA_ADMIN_PASSWORD", "S3 --new fresh", "retire S3",
	} {
		t.Run(args, func(t *testing.T) {
			inv := invoke(t, "DOCKER_HOST=unix:///nonexistent/docker.sock", "DATABASE_URL=postgres://u:p@postgres/d", "S3_BUCKET=s3://bucket", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b")
			write(t, "fresh", "AWS_ACCESS_KEY_ID=AKIAFRESH\nAWS_SECRET_ACCESS_KEY=secret-of-fresh\n")
			if code := inv.run(t, append([]string{"rotate-keys"}, strings.Fields(args)...)...); code != 3 || !strings.Contains(inv.errs.String(), "docker engine") {
				t.Errorf("exit %d, want 3: %s%s", code, &inv.out, &inv.errs)
			}
		})
	}
}

// TestAlterRoleIsBounded: a role that another session holds is given up, by the
// server itself, so that nothing comes true later.
func TestAlterRoleIsBounded(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	pg.Psql(t, "postgres", "CREATE ROLE indexer LOGIN PASSWORD 'before'")
	holder, err := pgx.Connect(t.Context(), pg.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(t.Context())
	if _, err := holder.Exec(t.Context(), "BEGIN; ALTER ROLE indexer CONNECTION LIMIT 50", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", pg.Port)
	s := &postgresServer{url: &url.URL{Scheme: "postgres", User: url.User("indexer"), Host: addr, Path: "/postgres", RawQuery: "sslmode=disable"}, dial: new(net.Dialer).DialContext}
	ended := make(chan error, 1)
	go func() { ended <- s.Add(t.Context(), "before", "after") }()
	select {
	case err = <-ended:
	case <-time.After(patience):
		t.Fatal("it waits for ever")
	}
	if err == nil || !strings.Contains(err.Error(), "pg_stat_activity") {
		t.Errorf("%v", err)
	}
	if _, err := holder.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context(), "before"); err != nil {
		t.Errorf("the old password: %v", err)
	}
	if n := pg.Psql(t, "postgres", "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'ALTER ROLE%' AND state = 'active' AND pid <> pg_backend_pid()"); n != "0" {
		t.Errorf("%s sessions wait still", n)
	}
	if err := s.Add(t.Context(), "before", "after"); err != nil {
		t.Error(err)
	}
}
