package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// TestImage runs deploy/image as the backup service of a compose project whose
// database publishes no port: as the file in deploy/image has it, into a real
// bucket on the project's network.
func TestImage(t *testing.T) {
	t.Parallel()
	docker := testenv.Docker(t)
	image := testenv.Image(t, "escrowctl")
	service, err := os.ReadFile("../../deploy/image/docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	// The sandbox's postgres and s3 beside it, and the label that clears up.
	text := strings.Replace(string(service), "services:\n", `services:
  postgres:
    image: `+testenv.PostgresImage(t)+`
    labels: ["${TEST_LABEL}"]
    environment: {POSTGRES_USER: indexer, POSTGRES_PASSWORD: pw, POSTGRES_DB: stellar_escrow}
  s3:
    image: `+testenv.Image(t, "s3")+`
    labels: ["${TEST_LABEL}"]
    environment: {ROOT_ACCESS_KEY: testkey, ROOT_SECRET_KEY: testsecret, S3_BUCKETS: backups-of-test}
`, 1)
	text = strings.Replace(text, "    image: ${ESCROWCTL_IMAGE", "    labels: [\"${TEST_LABEL}\"]\n    image: ${ESCROWCTL_IMAGE", 1)
	// Not in the middle of the test, whenever that runs.
	at := time.Now().UTC().Add(12 * time.Hour).Format("15:04")
	text = strings.Replace(text, `["daily", "02:00", "backup"]`, `["daily", "`+at+`", "backup"]`, 1)
	// There is no indexer here to take events.
	text = strings.Replace(text, "API_BASE_URL: http://indexer:3000", "ESCROWCTL_REPORT_API_METRICS: \"off\"", 1)
	p := docker.ComposeProject(t, map[string]string{
		"docker-compose.yml": "version: \"2.4\"\n" + text,
		".env": "ESCROWCTL_IMAGE=" + image + "\nDATABASE_URL=postgres://indexer:pw@postgres:5432/stellar_escrow?sslmode=disable\nS3_BUCKET=s3://backups-of-test\n" +
			"AWS_ACCESS_KEY_ID=testkey\nAWS_SECRET_ACCESS_KEY=testsecret\nAWS_REGION=us-east-1\nAWS_ENDPOINT_URL_S3=http://s3:7070\nESCROWCTL_S3_STORAGE_CLASS=STANDARD\n",
	})
	run := func(args ...string) (string, error) {
		return p.Run(append([]string{"exec", "-T", "backup", "entrypoint.sh"}, args...)...)
	}
	deadline := time.Now().Add(soon)
	create := []string{"exec", "-T", "-e", "PGPASSWORD=pw", "postgres", "psql", "-h", "127.0.0.1", "-U", "indexer", "-c", "CREATE TABLE IF NOT EXISTS trades AS SELECT 1 AS id", "stellar_escrow"}
	for {
		if _, err = p.Run(create...); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
	}
	if out, err := run("healthy"); err == nil {
		t.Errorf("healthy without a backup: %s", out)
	}
	if out, err := run("backup"); err != nil || !strings.Contains(out, "here and in the bucket") {
		t.Fatalf("backup: %v: %s", err, out)
	}
	if out, err := run("healthy"); err != nil {
		t.Errorf("not healthy after a backup: %v: %s", err, out)
	}
	if out, err := run("backup", "verify", "latest", "--s3"); err != nil || !strings.Contains(out, "PASS") {
		t.Errorf("verify: %v: %s", err, out)
	}
	// Arguments are not swallowed, as by the old service's loop.
	if out, err := p.Run("run", "--rm", "-T", "backup", "version"); err != nil || !strings.Contains(out, "escrowctl") {
		t.Errorf("run: %v: %s", err, out)
	}
	if out, err := p.Run("exec", "-T", "backup", "id", "-u"); err != nil || strings.TrimSpace(out) != "10001" {
		t.Errorf("it runs as %s, %v", out, err)
	}
	logs, err := p.Run("logs", "backup")
	if want := "next: escrowctl backup at "; err != nil || !strings.Contains(logs, want) || !strings.Contains(logs, "T"+at+":00Z") {
		t.Errorf("the log has no %q: %v: %s", want, err, logs)
	}
	// It stops by itself: nobody has to kill it.
	id, err := p.Run("ps", "-q", "backup")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run("stop", "-t", "300", "backup"); err != nil {
		t.Error(err)
	}
	if code := dockerOut(t, "inspect", "-f", "{{.State.ExitCode}}", strings.TrimSpace(id)); code == "137" {
		t.Errorf("it had to be killed: exit code %s", code)
	}
}

// TestImageDescription: the user and the health check are the image's own.
func TestImageDescription(t *testing.T) {
	testenv.Docker(t)
	out, err := exec.Command("docker", "image", "inspect", "-f", "{{json .Config}}", testenv.Image(t, "escrowctl")).Output()
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		User        string
		Healthcheck struct{ Test []string }
		Cmd         []string
	}
	if err := json.Unmarshal(out, &config); err != nil {
		t.Fatal(err)
	}
	if config.User != "escrowctl" || len(config.Healthcheck.Test) == 0 || strings.Join(config.Cmd, " ") != "daily 02:00 backup" {
		t.Errorf("the image is %s", out)
	}
}
