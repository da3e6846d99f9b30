package migrate

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// host is a host's files.
type host map[string]string

func (h host) read(name string) (string, error) {
	text, ok := h[name]
	if !ok {
		return "", fs.ErrNotExist
	}
	return text, nil
}

const scriptsDir = "/opt/stellarescrow/scripts"

// runbookHost has the four scripts as the runbook has them.
func runbookHost(t *testing.T) host {
	t.Helper()
	h := host{"/opt/stellarescrow/.env": "# the platform's\nPOSTGRES_PASSWORD=pw\nDATABASE_URL=postgres://indexer:pw@postgres:5432/stellar_escrow\nS3_BUCKET=s3://stellarescrow-backups\nBACKUP_ALERT_WEBHOOK=https://hooks.slack.com/services/T/B/x\nCERT_DOMAIN=stellarescrow.app\n"}
	for _, name := range []string{"backup.sh", "dr-test.sh", "renew-certs.sh", "perf-analyze.sh"} {
		b, err := os.ReadFile("testdata/scripts/" + name)
		if err != nil {
			t.Fatal(err)
		}
		h[path.Join(scriptsDir, name)] = string(b)
	}
	return h
}

func known(name string) bool {
	return slices.Contains([]string{"DATABASE_URL", "S3_BUCKET", "BACKUP_DIR", "RETENTION_DAYS", "BACKUP_ALERT_WEBHOOK", "API_BASE_URL", "CERT_DOMAIN", "CERT_ALERT_WEBHOOK", "REDIS_URL", "AWS_PROFILE"}, name)
}

func row(line int, command, script string) Row {
	return Row{Place: Place{"crontab of root", line}, User: "root", Command: command, Script: script}
}

// TestRunbookScripts: the four rows of the runbook, and nothing left over.
func TestRunbookScripts(t *testing.T) {
	h := runbookHost(t)
	f := Read([]Row{
		row(2, scriptsDir+"/backup.sh >> /var/log/stellar-backup.log 2>&1", "backup.sh"),
		row(3, scriptsDir+"/dr-test.sh >> /var/log/stellar-dr-test.log 2>&1", "dr-test.sh"),
		row(4, scriptsDir+"/renew-certs.sh >> /var/log/cert-renewal.log 2>&1", "renew-certs.sh"),
		row(5, scriptsDir+"/perf-analyze.sh >> /var/log/perf-report.log 2>&1", "perf-analyze.sh"),
	}, h.read, known)
	if len(f.Left) > 0 {
		t.Errorf("left: %v", f.Left)
	}
	if want := []string{"/opt/stellarescrow/.env"}; !slices.Equal(f.EnvFiles, want) {
		t.Errorf("env files %v, want %v", f.EnvFiles, want)
	}
	if !slices.Contains(f.Dirs, "/opt/stellarescrow") || len(f.Scripts) != 4 {
		t.Errorf("directories %v, scripts %v", f.Dirs, f.Scripts)
	}
	for name, want := range map[string]string{
		"DATABASE_URL": "/opt/stellarescrow/.env, line 3", "S3_BUCKET": "/opt/stellarescrow/.env, line 4", "BACKUP_ALERT_WEBHOOK": "/opt/stellarescrow/.env, line 5",
		"RETENTION_DAYS": scriptsDir + "/backup.sh, line 10", "API_BASE_URL": scriptsDir + "/backup.sh, line 13",
	} {
		if got := f.Variables[name].Place.String(); got != want {
			t.Errorf("%s is set in %s, want %s", name, got, want)
		}
	}
	if got := f.Variables["RETENTION_DAYS"].Value; got != "30" {
		t.Errorf("RETENTION_DAYS %q", got)
	}
}

// TestRead: one way to set something each.
func TestRead(t *testing.T) {
	const plain = "#!/bin/sh\npg_dump \"$DATABASE_URL\" | gzip > \"$BACKUP_DIR/x\"\n"
	for _, tt := range []struct {
		name, command string
		env           map[string]Variable
		files         host
		want          map[string]string // values
		left          []string          // substrings of what is left, one each
	}{
		{
			name: "exported in the script", command: "/s/backup.sh",
			files: host{"/s/backup.sh": "#!/bin/bash\nexport DATABASE_URL='postgres://a b@h/d'\nexport S3_BUCKET=s3://x RETENTION_DAYS=7\n" + plain},
			want:  map[string]string{"DATABASE_URL": "postgres://a b@h/d", "S3_BUCKET": "s3://x", "RETENTION_DAYS": "7"},
		},
		{
			name: "in the row", command: "RETENTION_DAYS=14 /s/backup.sh", files: host{"/s/backup.sh": "RETENTION_DAYS=${RETENTION_DAYS:-30}\n" + plain},
			want: map[string]string{"RETENTION_DAYS": "14"},
		},
		{
			name: "by env", command: "nice env RETENTION_DAYS=14 /s/backup.sh", files: host{"/s/backup.sh": plain},
			want: map[string]string{"RETENTION_DAYS": "14"},
		},
		{
			name: "above the row", command: "/s/backup.sh", env: map[string]Variable{"S3_BUCKET": {Name: "S3_BUCKET", Value: "s3://c", Kind: InCrontab, Place: Place{"crontab of root", 1}}},
			files: host{"/s/backup.sh": "S3_BUCKET=${S3_BUCKET:-s3://d}\n" + plain}, want: map[string]string{"S3_BUCKET": "s3://c"},
		},
		{
			name: "read in the row", command: ". /etc/platform.env && /s/backup.sh", files: host{"/etc/platform.env": "BACKUP_DIR=/b\n", "/s/backup.sh": plain},
			want: map[string]string{"BACKUP_DIR": "/b"},
		},
		{
			name: "put together", command: "/s/backup.sh", files: host{"/s/backup.sh": "PW=x\nDATABASE_URL=\"postgres://u:${PW}@h/d\"\n" + plain},
			want: map[string]string{"DATABASE_URL": "postgres://u:x@h/d"},
		},
		{
			name: "assigned default", command: "/s/backup.sh", files: host{"/s/backup.sh": ": \"${BACKUP_DIR:=/b}\"\n" + plain},
			want: map[string]string{"BACKUP_DIR": "/b"},
		},
		{
			name: "worked out when it runs", command: "/s/backup.sh", files: host{"/s/backup.sh": "DATABASE_URL=$(vault read db)\n" + plain},
			want: map[string]string{}, left: []string{"/s/backup.sh, line 1: DATABASE_URL is worked out"},
		},
		{
			name: "further work", command: "/s/backup.sh", files: host{"/s/backup.sh": plain + "rsync -a /b nas:/b\ncurl -fsS https://hc-ping.com/abc\naws s3 cp x s3://second/\n"},
			want: map[string]string{}, left: []string{"line 3: it runs rsync", "line 4: it calls https://hc-ping.com", "line 5: it uses s3://second/"},
		},
		{
			name: "pg_dump's options", command: "/s/backup.sh", files: host{"/s/backup.sh": "pg_dump -d \"$DATABASE_URL\" --exclude-table-data=logs -Fc > x\n"},
			want: map[string]string{}, left: []string{"pg_dump is given --exclude-table-data", "pg_dump is given -Fc"},
		},
		{
			name: "aws's options", command: "/s/backup.sh", files: host{"/s/backup.sh": "S3_BUCKET=s3://x\naws --endpoint-url https://minio:9000 s3 cp f \"$S3_BUCKET/\" --sse\n"},
			want: map[string]string{"S3_BUCKET": "s3://x"}, left: []string{"set s3.endpoint", "--sse"},
		},
		{
			name: "a setting of the script's own", command: "/s/backup.sh", files: host{"/s/backup.sh": "SLACK_CHANNEL=${SLACK_CHANNEL:-#ops}\n" + plain},
			want: map[string]string{}, left: []string{"SLACK_CHANNEL is a setting of the script's own"},
		},
		{
			name: "under a condition", command: "/s/backup.sh", files: host{"/s/backup.sh": "S3_BUCKET=s3://x\nif [ \"$1\" = test ]; then S3_BUCKET=s3://y; fi\n" + plain},
			want: map[string]string{"S3_BUCKET": "s3://x"}, left: []string{"line 2: S3_BUCKET is set under a condition"},
		},
		{
			name: "the script is gone", command: "/s/backup.sh", files: host{}, want: map[string]string{}, left: []string{"crontab of root, line 1: the script that it calls is not on this host"},
		},
		{
			name: "a file is gone", command: "/s/backup.sh", files: host{"/s/backup.sh": ". /etc/gone.env\n" + plain}, want: map[string]string{}, left: []string{"line 1: it reads /etc/gone.env"},
		},
		{
			name: "in the compose project", command: "cd /srv/p && docker compose run --rm backup bash /scripts/backup.sh", files: host{"/srv/p/.env": "S3_BUCKET=s3://x\n"},
			want: map[string]string{"S3_BUCKET": "s3://x"}, left: []string{"the script runs in a container"},
		},
		{
			name: "through a shell", command: `sh -c "cd /s && ./backup.sh"`, files: host{"/s/backup.sh": "RETENTION_DAYS=9\n" + plain}, want: map[string]string{"RETENTION_DAYS": "9"},
		},
		{
			name: "no shell text", command: "/s/backup.sh", files: host{"/s/backup.sh": "if then (\n"}, want: map[string]string{}, left: []string{"cannot be read as a shell would"},
		},
		{
			name: "not read alike", command: "/s/backup.sh", files: host{"/s/backup.sh": "export $(cat /e/.env | xargs)\n", "/e/.env": "S3_BUCKET=s3://$X\n"},
			want: map[string]string{}, left: []string{"/e/.env, line 1: S3_BUCKET is not read alike"},
		},
		{
			name: "reads itself", command: "/s/backup.sh", files: host{"/s/backup.sh": ". /s/backup.sh\nRETENTION_DAYS=3\n"}, want: map[string]string{"RETENTION_DAYS": "3"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := row(1, tt.command, "backup.sh")
			r.Env = tt.env
			f := Read([]Row{r}, tt.files.read, known)
			got := map[string]string{}
			for name, v := range f.Variables {
				got[name] = v.Value
			}
			if !maps.Equal(got, tt.want) {
				t.Errorf("variables %v, want %v", got, tt.want)
			}
			for i, want := range tt.left {
				if i >= len(f.Left) || !strings.Contains(f.Left[i].String(), want) {
					t.Errorf("left %d: no %q in %v", i, want, f.Left)
				}
			}
			if len(f.Left) != len(tt.left) {
				t.Errorf("left: %v", f.Left)
			}
		})
	}
}

// TestTwoScriptsDisagree: the second is told, with both lines.
func TestTwoScriptsDisagree(t *testing.T) {
	h := host{"/s/backup.sh": "S3_BUCKET=s3://a\n", "/s/dr-test.sh": "\nS3_BUCKET=s3://b\n"}
	f := Read([]Row{row(1, "/s/backup.sh", "backup.sh"), row(2, "/s/dr-test.sh", "dr-test.sh")}, h.read, known)
	if len(f.Left) != 1 || !strings.Contains(f.Left[0].String(), "/s/dr-test.sh, line 2: S3_BUCKET differs from that of /s/backup.sh, line 1") || f.Variables["S3_BUCKET"].Value != "s3://a" {
		t.Errorf("%v, %v", f.Left, f.Variables)
	}
}
