package postgres_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/postgres"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// A tunnel into the server's own container is dialled once: sslmode=prefer, the
// default, would try TLS in one and do without in a second.
func TestSessionThroughOneTunnel(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	target, err := postgres.Parse(strings.Replace(pg.URL("postgres"), "sslmode=disable", "sslmode=prefer", 1))
	if err != nil {
		t.Fatal(err)
	}
	dials := 0
	s, err := postgres.Open(t.Context(), target.WithDial(func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials++
		return new(net.Dialer).DialContext(ctx, network, addr)
	}), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	var n int
	var app string
	if err := s.Row(t.Context(), "SELECT 7, current_setting('application_name')", &n, &app); err != nil || n != 7 || app != "test" {
		t.Errorf("%d, %q, %v", n, app, err)
	}
	if dials != 1 {
		t.Errorf("%d connections, want 1", dials)
	}
	if err := s.Row(t.Context(), "SELECT 1/0", &n); err == nil || !strings.Contains(err.Error(), "division by zero") {
		t.Errorf("got %v", err)
	}
}
