package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// The marker secrets of the platform before any rotation.
const (
	markerAPIKey   = "m4rk3r-api-key"
	markerAdminKey = "m4rk3r-admin-key"
	markerPostgres = "m4rk3r-postgres-pass"
	markerRedis    = "m4rk3r-redis-pass"
	markerGrafana  = "m4rk3r-grafana-pass"
	markerOldS3    = "m4rk3r-old-s3-secret"
	markerNewS3    = "m4rk3r-new-s3-secret"
	oldS3ID        = "AKIAOLDKEY0000000001"
	newS3ID        = "AKIANEWKEY0000000002"
)

// No secret is in an argument here: what the platform's own services do with
// theirs is not what these tests look for.
const rotationCompose = `services:
  api:
    image: escrowctl-sandbox/platform:latest
    command: ["api"]
    stop_grace_period: 1s
    environment: {API_KEYS: "${API_KEYS}", ADMIN_KEYS: "${ADMIN_KEYS}"}
    ports: ["127.0.0.1:APIPORT:4000"]
    labels: ["${TEST_LABEL}"]
  grafana:
    image: escrowctl-sandbox/platform:latest
    command: ["grafana"]
    stop_grace_period: 1s
    environment: {GRAFANA_ADMIN_PASSWORD: "${GRAFANA_ADMIN_PASSWORD}", GRAFANA_DATA: /data}
    volumes: ["grafana:/data"]
    ports: ["127.0.0.1:GRAFANAPORT:3000"]
    labels: ["${TEST_LABEL}"]
  postgres:
    image: escrowctl-sandbox/postgres:15
    stop_grace_period: 5s
    environment: {POSTGRES_USER: indexer, POSTGRES_PASSWORD: "${POSTGRES_PASSWORD}", POSTGRES_DB: stellar_escrow}
    volumes: ["data:/var/lib/postgresql/data"]
    labels: ["${TEST_LABEL}"]
    healthcheck:
      test: ["CMD", "pg_isready", "-q", "-h", "127.0.0.1"]
      interval: 1s
      retries: 60
  redis:
    image: escrowctl-sandbox/redis:7
    entrypoint: ["sh", "-c", "echo requirepass $$REDIS_PASSWORD | redis-server - --bind 0.0.0.0"]
    stop_grace_period: 1s
    environment: {REDIS_PASSWORD: "${REDIS_PASSWORD}"}
    labels: ["${TEST_LABEL}"]
  backup:
    image: escrowctl-sandbox/postgres:15
    entrypoint: ["sleep", "3600"]
    stop_grace_period: 1s
    environment: {AWS_ACCESS_KEY_ID: "${AWS_ACCESS_KEY_ID}", AWS_SECRET_ACCESS_KEY: "${AWS_SECRET_ACCESS_KEY}", DATABASE_URL: "${DATABASE_URL}", REDIS_URL: "redis://:${REDIS_PASSWORD}@redis:6379"}
    labels: ["${TEST_LABEL}"]
volumes:
  data:
  grafana:
`

// platform is the whole platform as a compose project, a bucket with users, and
// escrowctl as a program of its own.
type platform struct {
	*sandbox
	project *testenv.Project
	sink    *testenv.Sink
	api     string
	state   string
	files   string // textfiles
}

// newPlatform brings up the services that are named, all without names.
func newPlatform(t *testing.T) *platform {
	t.Helper()
	docker := testenv.Docker(t)
	testenv.PlatformImage(t)
	testenv.PostgresImage(t)
	p := &platform{sandbox: &sandbox{s3: testenv.S3Users(t)}, sink: testenv.NewSink(t), state: filepath.Join(t.TempDir(), "state"), files: t.TempDir()}
	p.bucket = p.s3.Bucket(t)
	p.s3.AddUser(t, oldS3ID, markerOldS3, "admin")
	p.s3.AddUser(t, newS3ID, markerNewS3, "admin")
	apiPort, grafanaPort := testenv.FreePort(t), testenv.FreePort(t)
	p.api = fmt.Sprintf("http://127.0.0.1:%d", apiPort)
	p.project = docker.ComposeProject(t, map[string]string{
		"docker-compose.yml": strings.NewReplacer("APIPORT", fmt.Sprint(apiPort), "GRAFANAPORT", fmt.Sprint(grafanaPort)).Replace(rotationCompose),
		".env": "# keys\nAPI_KEYS='" + markerAPIKey + "'\nADMIN_KEYS=" + markerAdminKey + "\r\nPOSTGRES_PASSWORD=" + markerPostgres + " # db\nREDIS_PASSWORD=" + markerRedis +
			"\nGRAFANA_ADMIN_PASSWORD=\"" + markerGrafana + "\"\nexport AWS_ACCESS_KEY_ID=" + oldS3ID + "\nAWS_SECRET_ACCESS_KEY=" + markerOldS3 +
			"\nDATABASE_URL=postgres://indexer:" + markerPostgres + "@postgres:5432/stellar_escrow?sslmode=disable",
	})
	env := p.s3.Env()
	p.env = append(env, "TEST_ESCROWCTL_MAIN=1", "PATH="+os.Getenv("PATH"), "HOME="+t.TempDir(), "COMPOSE_PROJECT_NAME="+p.project.Name,
		"ESCROWCTL_STATE_DIR="+p.state, "ESCROWCTL_API_URL="+p.api, fmt.Sprintf("ESCROWCTL_GRAFANA_URL=http://127.0.0.1:%d", grafanaPort),
		"ESCROWCTL_COMPOSE_ENV_FILE="+p.project.EnvFile(), "S3_BUCKET=s3://"+p.bucket, "ESCROWCTL_S3_STORAGE_CLASS=", "ESCROWCTL_JOURNAL_MIRROR=true",
		"BACKUP_ALERT_WEBHOOK="+p.sink.WebhookURL(), "API_BASE_URL="+p.sink.URL, "ESCROWCTL_REPORT_API_METRICS=on", "ESCROWCTL_REPORT_TEXTFILE_DIR="+p.files, "ESCROWCTL_KEYS_TIMEOUT=90s", testenv.ComposePatience)
	for limit := time.Now().Add(5 * time.Minute); p.ask(markerAPIKey) != http.StatusOK || !p.healthy("postgres"); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("the API answers %d, postgres is healthy: %v", p.ask(markerAPIKey), p.healthy("postgres"))
		}
	}
	return p
}

// ask returns the API's answer to a key, 0 if there is none.
func (p *platform) ask(key string) int {
	return testenv.Answer(p.api+"/api/trades", key, 5*time.Second)
}

// containers are the ids of a service's, running or not.
func (p *platform) containers(service string, filters ...string) []string {
	args := []string{"ps", "-aq", "--filter", "label=com.docker.compose.project=" + p.project.Name, "--filter", "label=com.docker.compose.service=" + service}
	for _, f := range filters {
		args = append(args, "--filter", f)
	}
	out, _ := exec.Command("docker", args...).Output() // none
	return strings.Fields(string(out))
}

func (p *platform) healthy(service string) bool {
	return len(p.containers(service, "health=healthy")) == 1
}

// envFile is the project's .env as it is.
func (p *platform) envFile(t *testing.T) string {
	t.Helper()
	body, err := os.ReadFile(p.project.EnvFile())
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// credentials writes a file of S3 credentials.
func credentials(t *testing.T, id, key string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "new-key")
	if err := os.WriteFile(path, []byte("[default]\naws_access_key_id = "+id+"\naws_secret_access_key = "+key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
