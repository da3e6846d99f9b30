package testenv

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresVersion starts a server of another major version than the host's in a
// container, with settings of its command line, and returns the URL of a
// superuser's connection to an empty database. Its image, on a Debian of another
// release, is as dear as all others together: a test without it skips, unless
// TEST_POSTGRES ("13 17") asks for the version.
func (d *DockerHost) PostgresVersion(t testing.TB, major int, settings ...string) string {
	t.Helper()
	image := fmt.Sprintf("escrowctl-sandbox/postgres:%d", major)
	if err := exec.Command("docker", "image", "inspect", image).Run(); err != nil {
		how := fmt.Sprintf("PostgreSQL %d: no image %s: scripts/images.sh postgres%d", major, image, major)
		if slices.Contains(strings.Fields(os.Getenv("TEST_POSTGRES")), strconv.Itoa(major)) {
			t.Fatalf("testenv: TEST_POSTGRES asks for it: %s", how)
		}
		t.Skipf("testenv: SKIPPED, not asked for by TEST_POSTGRES: %s", how)
	}
	cmd := []string{"docker-entrypoint.sh", "postgres"}
	for _, s := range settings {
		cmd = append(cmd, "-c", s)
	}
	id := d.Start(t, Container{
		Image: image, Network: d.Network(t), Publish: []int{5432}, Cmd: cmd,
		Env:   []string{"POSTGRES_USER=indexer", "POSTGRES_PASSWORD=test", "POSTGRES_DB=stellar_escrow"},
		Tmpfs: map[string]string{"/var/lib/postgresql/data": "mode=1777"},
	})
	u := (&url.URL{Scheme: "postgres", User: url.UserPassword("indexer", "test"), Host: d.Port(t, id, 5432), Path: "/stellar_escrow", RawQuery: "sslmode=disable"}).String()
	for deadline := time.Now().Add(startLimit); ; time.Sleep(100 * time.Millisecond) {
		err := pingVersion(u, major)
		if err == nil {
			return u
		}
		if time.Now().After(deadline) {
			logs, _ := exec.Command("docker", "logs", "--tail", "50", id).CombinedOutput()
			t.Fatalf("testenv: PostgreSQL %d in a container: %v\n%s", major, err, logs)
		}
	}
}

// pingVersion says whether the server answers, and is the one meant.
func pingVersion(u string, major int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, u)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var num string
	if err := conn.QueryRow(ctx, "SHOW server_version_num").Scan(&num); err != nil {
		return err
	}
	if n, err := strconv.Atoi(num); err != nil || n/10000 != major {
		return fmt.Errorf("its version is %s", num)
	}
	return nil
}
