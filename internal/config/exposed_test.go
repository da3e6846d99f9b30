package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestReadableSecrets: each file with secrets that everybody can read is told,
// with the way out; one that only its owner and group can read is not.
func TestReadableSecrets(t *testing.T) {
	dir := t.TempDir()
	config, dotenv, identity := filepath.Join(dir, FileName), filepath.Join(dir, ".env"), filepath.Join(dir, "age.txt")
	files := map[string]string{
		config:   "database: {url: 'postgres://u:pw@postgres/d'}\ncompose: {env_file: .env}\nbackup: {identity_file: age.txt}\n",
		dotenv:   "POSTGRES_PASSWORD=pw\n",
		identity: "AGE-SECRET-KEY-...\n",
	}
	set := func(path string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(files[path]), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	load := func() []string {
		t.Helper()
		l, err := Load(Options{Path: config, Dir: dir, SystemFile: filepath.Join(dir, "none")})
		if err != nil {
			t.Fatal(err)
		}
		return l.Warnings
	}
	for path := range files {
		set(path, 0o640)
	}
	if got := load(); len(got) > 0 {
		t.Errorf("warned of modes 0640: %q", got)
	}
	for path, what := range map[string]string{config: "database.url", dotenv: "the platform's secrets", identity: "the key to the backups"} {
		set(path, 0o644)
		want := path + " holds " + what + " and is readable by every user of this host (mode 0644): chmod 600 " + path
		if got := load(); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: warned %q, not %q", path, got, want)
		}
		set(path, 0o600)
	}
}

// TestTransport: nothing secret goes to a public host in the clear, or to
// whoever answers, without a word; hosts of one's own are left in peace.
func TestTransport(t *testing.T) {
	for _, tt := range []struct {
		environ []string
		says    string // "": nothing
	}{
		{[]string{"AWS_ENDPOINT_URL_S3=http://s3.example.com"}, "s3.endpoint (env AWS_ENDPOINT_URL_S3): http://s3.example.com is not encrypted"},
		{[]string{"AWS_ENDPOINT_URL_S3=http://203.0.113.5:9000"}, "whoever is on the way reads the backups"},
		{[]string{"AWS_ENDPOINT_URL_S3=https://s3.example.com"}, ""},
		{[]string{"AWS_ENDPOINT_URL_S3=http://minio:9000"}, ""},
		{[]string{"AWS_ENDPOINT_URL_S3=http://10.1.2.3:9000"}, ""},
		{[]string{"AWS_ENDPOINT_URL_S3=http://[::1]:9000"}, ""},
		{[]string{"AWS_ENDPOINT_URL_S3=http://minio.internal"}, ""},
		{[]string{"BACKUP_ALERT_WEBHOOK=http://hooks.example.com/s3cret"}, "report.webhook"},
		{[]string{"BACKUP_ALERT_WEBHOOK=https://hooks.example.com/s3cret"}, ""},
		{[]string{"CERT_ALERT_WEBHOOK=http://hooks.example.com/s3cret"}, "certs.webhook"},
		{[]string{"ESCROWCTL_REPORT_PUSHGATEWAY=http://u:s3cret@push.example.com"}, "report.pushgateway"},
		{[]string{"ESCROWCTL_REPORT_PUSHGATEWAY=http://push.example.com"}, ""},
		{[]string{"REDIS_URL=redis://:s3cret@redis.example.com"}, "redis.url"},
		{[]string{"REDIS_URL=rediss://:s3cret@redis.example.com"}, ""},
		{[]string{"REDIS_URL=redis://redis.example.com"}, ""},
		{[]string{"ESCROWCTL_GRAFANA_URL=http://grafana.example.com", "GRAFANA_ADMIN_PASSWORD=s3cret"}, "reads grafana.admin_password"},
		{[]string{"ESCROWCTL_GRAFANA_URL=http://grafana.example.com"}, ""},
		{[]string{"DOCKER_HOST=tcp://docker.example.com:2375"}, "is root on that host"},
		{[]string{"DOCKER_HOST=tcp://docker.example.com:2376", "DOCKER_CERT_PATH=/certs"}, ""},
		{[]string{"DOCKER_HOST=tcp://socket-proxy:2375"}, ""},
		{[]string{"DATABASE_URL=postgres://u:s3cret@db.example.com/d"}, "sslmode is prefer, so that the data may cross the network unencrypted"},
		{[]string{"DATABASE_URL=postgres://u:s3cret@db.example.com/d?sslmode=disable"}, "sslmode is disable"},
		{[]string{"DATABASE_URL=postgres://u:s3cret@db.example.com/d", "PGSSLMODE=allow"}, "sslmode is allow"},
		{[]string{"DATABASE_URL=host=db.example.com user=u password=s3cret dbname=d sslmode=require"}, "sslmode=require encrypts, but believes whoever answers"},
		{[]string{"DATABASE_URL=postgres://u:s3cret@db.example.com/d?sslmode=require&sslrootcert=/ca.pem"}, ""},
		{[]string{"DATABASE_URL=postgres://u:s3cret@db.example.com/d?sslmode=verify-full"}, ""},
		{[]string{"DATABASE_URL=postgres://u:s3cret@postgres/d"}, ""},
		{[]string{"DATABASE_URL=postgres://u:s3cret@192.168.0.7/d"}, ""},
		{[]string{"DATABASE_URL=postgres:///d?host=/var/run/postgresql&user=u"}, ""},
	} {
		l, err := Load(Options{Environ: tt.environ, Dir: t.TempDir(), SystemFile: filepath.Join(t.TempDir(), "none")})
		if err != nil {
			t.Fatalf("%q: %v", tt.environ, err)
		}
		got := strings.Join(l.Warnings, "\n")
		if tt.says == "" && got != "" || !strings.Contains(got, tt.says) || strings.Contains(got, "s3cret") {
			t.Errorf("%q: warned %q, not %q", tt.environ, got, tt.says)
		}
	}
}
