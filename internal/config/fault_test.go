package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/stellarescrow/escrowctl/internal/secret"
)

func TestFaultyValues(t *testing.T) {
	const (
		db    = "write postgres://user:password@host:5432/database"
		uri   = "write s3://bucket, s3://bucket/prefix or file:///directory"
		unit  = "write it with its unit, for example 90s, 6h or 30d"
		share = "write a share from 0 to 1"
		s     = "s3cr3t"
	)
	tests := []struct{ key, value, want string }{
		{"env", "prod", `env: "prod" (flag --env): not one of production, staging, development: did you mean production?`},
		{"env", "Staging", "did you mean staging?"},
		{"env", "x", "not one of production, staging, development: write one of them"},
		{"database.url", "mysql://u:" + s + "@db/x", `database.url: "mysql://u:xxxxx@db/x" (flag --database-url): not the URL of a PostgreSQL database: ` + db},
		{"database.url", "jdbc:postgresql://u:" + s + "@db/x", db},
		{"database.url", "postgres://u:" + s + "#1@db/x", db},
		{"database.url", "postgres://u:12/" + s + "@db/x", "a URL with an unescaped"},
		{"database.url", "postgres://u:" + s + "@db", "a URL without a database"},
		{"database.url", s, "not a connection string"},
		{"dump.via", "docker", "not one of auto, host, container"},
		{"dump.pg_dump", "~/bin/pg_dump", "~ stands for the home directory in a shell only: write the whole path"},
		{"dump.service", "a b", "not the name of a compose service"},
		{"dump.lock_timeout", "60", `"60" (flag --dump-lock-timeout): a duration without a unit: ` + unit},
		{"dump.lock_timeout", "0s", "out of range: write a duration from 1s to 1d"},
		{"dump.lock_timeout", "-5m", "out of range"},
		{"dump.globals", "maybe", "neither true nor false"},
		{"backup.dir", "file:///srv", "a URI in place of a path"},
		{"backup.dir", "/a\x00b", "control character"},
		{"backup.name", "../x", "not usable as the beginning of a file name"},
		{"backup.name", "-rf", "not usable"},
		{"backup.name", "a\nb", "not usable"},
		{"backup.compression", "gz", "did you mean gzip?"},
		{"backup.level", "10", "out of range: write a number from 0 to 9"},
		{"backup.level", "best", "not a whole number"},
		{"backup.jobs", "-1", "out of range"},
		{"backup.recipients", "age1abc", "not an age recipient: write the public key that age-keygen prints"},
		{"backup.recipients", "# comment", "not an age recipient"},
		{"backup.recipients", "ssh-ed25519 AAAA", "not an age recipient"},
		{"backup.shrink_warn_ratio", "50%", "not a number: " + share},
		{"backup.shrink_warn_ratio", "NaN", "not a number: " + share},
		{"backup.shrink_warn_ratio", "50", "out of range: " + share},
		{"backup.timeout", "6 hours", "not a duration: " + unit},
		{"backup.retention.days", "30d", "not a whole number: write a number from 0 to 36500, without a unit"},
		{"backup.retention.days", "99999999999999999999", "not a whole number"},
		{"s3.bucket", "stellarescrow-backups/prod", "not a bucket URI: write s3://stellarescrow-backups/prod"},
		{"s3.bucket", "/srv/bucket", "not a bucket URI: write file:///srv/bucket"},
		{"s3.bucket", "https://bucket.s3.amazonaws.com", "a web address in place of a bucket"},
		{"s3.bucket", "s3://AKIA:" + s + "@bucket", `"s3://AKIA:xxxxx@bucket" (flag --s3-bucket): a bucket URI with credentials in it`},
		{"s3.bucket", "s3://", "not the name of a bucket"},
		{"s3.bucket", "s3://My_Bucket", "not the name of a bucket"},
		{"s3.bucket", "s3://bucket/a//b", "not usable as a prefix"},
		{"s3.bucket", "s3://bucket/../x", "a prefix with . or .."},
		{"s3.bucket", "s3://bucket?x=1", "a bucket URI with ? or #"},
		{"s3.bucket", "file://srv/bucket", "write three slashes"},
		{"s3.bucket", "gs://bucket", "neither s3:// nor file://: " + uri},
		{"s3.bucket", "file:///var/backups/stellarescrow/", "the same directory as backup.dir"},
		{"s3.region", "eu central", "not the name of a region"},
		{"s3.endpoint", "localhost:9000", "not a web address"},
		{"s3.endpoint", "http://u:" + s + "@localhost:9000", "a URL with credentials in it"},
		{"s3.path_style", "virtual", "not one of auto, on, off"},
		{"s3.storage_class", "standard-ia", "not a storage class"},
		{"s3.checksum", "sha-256", "did you mean sha256?"},
		{"s3.part_size", "8m", "not a size: write it with its unit, for example 8MiB"},
		{"s3.part_size", "1MiB", "out of range: write a size from 5MiB to 5GiB"},
		{"s3.part_size", "NaN", "not a size"},
		{"s3.concurrency", "0", "out of range"},
		{"compose.project", "Stellar Escrow", "not the name of a compose project"},
		{"compose.files", "~/a.yml", "~ stands for"},
		{"compose.docker_host", "localhost:2375", "not the address of a Docker engine: write unix:///var/run/docker.sock or tcp://host:port"},
		{"compose.env_file", "/nowhere/.env", "no such file"},
		{"report.api_base_url", "ftp://x", "not a web address"},
		{"report.api_metrics", "enabled", "not one of auto, on, off"},
		{"report.webhook", "hooks.slack.com/services/" + s, "not a web address"},
		{"report.timeout", "1h", "out of range"},
		{"certs.domain", "https://stellarescrow.app", "not a host name: write for example stellarescrow.app"},
		{"certs.domain", "a..b", "not a host name"},
		{"certs.hosts", "https://a.example.com", "neither a host name nor an address: write HOST, HOST:PORT or [IPv6]:PORT"},
		{"certs.address", "127.0.0.1:https", "not a port"},
		{"certs.via", "docker", "not one of auto, host, container"},
		{"certs.warn_days", "30d", "not a whole number"},
		{"certs.timeout", "1s", "out of range"},
		{"redis.url", "redis://:" + s + "#x@cache", "not the URL of a Redis server"},
		{"redis.url", "redis://", "a URL without a host"},
		{"nonsense.key", s, "nonsense.key (flag --nonsense-key): unknown key: leave the flag out"},
		{"s3.buket", s, "did you mean s3.bucket?"},
	}
	for _, tt := range tests {
		t.Run(tt.key+"="+tt.value, func(t *testing.T) {
			_, err := load(t, "", Options{Flags: map[string]string{tt.key: tt.value}})
			got := faultsOf(t, err)
			if len(got) != 1 || !strings.Contains(got[0], tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if strings.Contains(strings.Join(got, ""), s) {
				t.Errorf("leaks: %q", got)
			}
		})
	}
}

func TestFaultSaysValueOriginAndWayOut(t *testing.T) {
	_, err := load(t, "", Options{Environ: []string{"S3_BUCKET=stellarescrow-backups"}})
	const want = `configuration: s3.bucket: "stellarescrow-backups" (env S3_BUCKET): not a bucket URI: write s3://stellarescrow-backups`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestFaultyFiles(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"unknown keys, with lines", "s3:\n  bucket: s3://bucket\n  storageclass: X\nbakup:\n  dir: /x\nbucket: s3://bucket\nretention: 3\nbackup:\n  retenton: {days: 3}\n  xyzzy: 1\n", []string{
			"s3.storageclass (file escrowctl.yaml:3): unknown key: did you mean s3.storage_class?",
			"bakup (file escrowctl.yaml:4): unknown key: did you mean backup?",
			"bucket (file escrowctl.yaml:6): unknown key: did you mean s3.bucket?",
			"retention (file escrowctl.yaml:7): unknown key: remove it; escrowctl config show lists all keys",
			"backup.retenton (file escrowctl.yaml:9): unknown key: did you mean backup.retention?",
			"backup.xyzzy (file escrowctl.yaml:10): unknown key: remove it; escrowctl config show lists all keys",
		}},
		{"all at once, in order", "backup:\n  level: 10\nenv: prod\ns3:\n  part_size: 8\n", []string{
			`backup.level: "10" (file escrowctl.yaml:2): out of range: write a number from 0 to 9`,
			`env: "prod" (file escrowctl.yaml:3): not one of production, staging, development: did you mean production?`,
			`s3.part_size: "8" (file escrowctl.yaml:5): out of range: write a size from 5MiB to 5GiB`,
		}},
		{"given twice", "env: staging\ns3: {region: eu}\ns3.region: us\nenv: production\n", []string{
			"s3.region (file escrowctl.yaml:3): given twice, first on line 2: remove one of the two",
			"env (file escrowctl.yaml:4): given twice, first on line 1: remove one of the two",
		}},
		{"section with a value", "backup:\n  retention: 30\n", []string{
			"backup.retention (file escrowctl.yaml:2): a section in which there must be keys: write its keys indented below it: days, daily, weekly, monthly",
		}},
		{"key with a section or a list", "env: {a: b}\ns3:\n  bucket: [s3://bucket]\ncompose:\n  files: [[a]]\n", []string{
			"env (file escrowctl.yaml:1): a section where a value belongs: write the value behind the colon; one that begins with { must be quoted",
			"s3.bucket (file escrowctl.yaml:3): a list where one value belongs: write one value",
			"compose.files (file escrowctl.yaml:5): an item that is no plain value: write one value an item",
		}},
		{"aliases, tags, complex keys", "s3: &a {region: eu}\nbackup: *a\nenv: !x staging\n? [s3cr3t]\n: y\n", []string{
			"backup (file escrowctl.yaml:2): an alias: write the keys out",
			"env (file escrowctl.yaml:3): a tag that is not supported: write the value plainly; one that begins with ! must be quoted",
			"(file escrowctl.yaml:4): a line that is not a key with a value: write key: value, with a blank after the colon",
		}},
		{"no mapping", "s3cr3t\n", []string{"(file escrowctl.yaml:1): the file is not made of keys and values: write lines such as s3: {bucket: s3://stellarescrow-backups}"}},
		{"two documents", "env: staging\n---\nenv: production\n", []string{"(file escrowctl.yaml:2): more than one document: remove the --- and what follows it"}},
		{"tab", "s3:\n\tbucket: s3cr3t\n", []string{"(file escrowctl.yaml:2): not valid YAML: found character that cannot start any token: correct the line; indent with blanks, and quote values with special characters"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, tt.text, Options{})
			if diff := cmp.Diff(tt.want, faultsOf(t, err)); diff != "" {
				t.Errorf("want (-), got (+):\n%s", diff)
			}
		})
	}
}

func TestErrorNamesEveryFault(t *testing.T) {
	_, err := load(t, "env: prod\nx: 1\n", Options{Environ: []string{"RETENTION_DAYS=a"}, Flags: map[string]string{"dump.via": "x"}})
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 5 || lines[0] != "configuration: 4 faults:" {
		t.Errorf("got %q", lines)
	}
	for i, start := range []string{"  env: ", "  x (", "  backup.retention.days: ", "  dump.via: "} {
		if !strings.HasPrefix(lines[i+1], start) {
			t.Errorf("line %d is %q, want %q", i+1, lines[i+1], start)
		}
	}
}

func TestFaultUnderAGoodValueIsAWarning(t *testing.T) {
	l := mustLoad(t, "", Options{Environ: []string{"S3_BUCKET=broken!"}, Flags: map[string]string{"s3.bucket": "s3://good"}})
	if l.S3.Bucket != "s3://good" || len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], `"broken!" (env S3_BUCKET)`) {
		t.Errorf("%q, warnings %q", l.S3.Bucket, l.Warnings)
	}
	if _, err := load(t, "", Options{Environ: []string{"S3_BUCKET=s3://good"}, Flags: map[string]string{"s3.bucket": "broken!"}}); err == nil {
		t.Error("a broken flag over a good variable was let pass")
	}
}

func TestUnknownVariableIsAWarning(t *testing.T) {
	l := mustLoad(t, "", Options{Environ: []string{"ESCROWCTL_S3_BUKET=s3cr3t", "ESCROWCTL_TOOLS=/x", "ESCROWCTL_CONFIG=", "PATH=/bin"}})
	if len(l.Warnings) != 1 || l.Warnings[0] != `"ESCROWCTL_S3_BUKET" (env): no key has this variable: did you mean ESCROWCTL_S3_BUCKET?` {
		t.Errorf("warnings %q", l.Warnings)
	}
}

func TestWorldReadableFile(t *testing.T) {
	const withSecret = "report: {webhook: https://hooks.example.com/s3cr3t}\n"
	for _, tt := range []struct {
		name, text string
		mode       os.FileMode
		want       bool
	}{
		{"secret, world-readable", withSecret, 0o644, true},
		{"secret, private", withSecret, 0o600, false},
		{"secret, group", withSecret, 0o640, false},
		{"no secret", "env: staging\n", 0o644, false},
		{"URL without a password", "database: {url: postgres://u@db/x}\n", 0o644, false},
		{"empty secret", "report: {webhook: \"\"}\n", 0o644, false},
	} {
		path := write(t, FileName, tt.text)
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		l := mustLoad(t, "", Options{Path: path})
		want := fmt.Sprintf("%s holds report.webhook and is readable by every user of this host (mode 0644): chmod 600 %s", path, path)
		if (tt.want && (len(l.Warnings) != 1 || l.Warnings[0] != want)) || (!tt.want && len(l.Warnings) > 0) {
			t.Errorf("%s: warnings %q", tt.name, l.Warnings)
		}
	}
}

func TestFaultyEnvFile(t *testing.T) {
	path := write(t, ".env", "A=1\nDATABASE_URL=\"postgres://u:s3cr3t@db/x\"\n\nthis-is s3cr3t\nB=2\n")
	_, err := load(t, "", Options{Flags: map[string]string{"compose.env_file": path}})
	want := []string{fmt.Sprintf("compose.env_file: %q (env file .env): line 4 is not valid in a .env file: write NAME=value, quoted if it has special characters", path)}
	if diff := cmp.Diff(want, faultsOf(t, err)); diff != "" {
		t.Error(diff)
	}
	path = write(t, ".env", "S3_BUCKET=bucket\n")
	_, err = load(t, "", Options{Flags: map[string]string{"compose.env_file": path}})
	want = []string{`s3.bucket: "bucket" (env file .env:S3_BUCKET): not a bucket URI: write s3://bucket`}
	if diff := cmp.Diff(want, faultsOf(t, err)); diff != "" {
		t.Error(diff)
	}
}

// shown is everything that a Loaded and its error can print.
func shown(l *Loaded, err error) string {
	var b strings.Builder
	for _, v := range []any{l.Config, l.Entries(), l.Warnings, err} {
		fmt.Fprintf(&b, "%v\n%+v\n%#v\n", v, v, v)
		text, _ := json.Marshal(v)
		b.Write(text)
	}
	if text, yamlErr := yaml.Marshal(l.Config); yamlErr == nil {
		b.Write(text)
	}
	return b.String()
}

func TestNoSecretIsShown(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	const s = "s3cr3t"
	pasted := []string{"postgres://u:" + s + "@db/x", "postgres://u:a/" + s + "@db/x", "postgres://u:a#" + s + "@db/x", "u:" + s + "@db/x", "https://hooks.slack.com/" + s + "?x=y#z@"}
	for _, k := range keys() {
		values := pasted
		if k.secret {
			values = append(values, s, "https://hooks.slack.com/"+s, "%zz"+s, s+"\n", "host=db password="+s)
		}
		for _, value := range values {
			for _, opts := range []Options{
				{Environ: []string{k.envNames()[0] + "=" + value}},
				{Flags: map[string]string{k.name: value}},
			} {
				if k.name == "compose.env_file" || k.name == "horizon.url" || k.name == "api.url" || k.name == "perf.urls" || k.name == "grafana.url" || k.name == "alertmanager.url" || k.name == "prometheus.url" || k.name == "report.api_base_url" || k.name == "s3.endpoint" || k.rebase != nil {
					continue // a path or plain address is no secret
				}
				l, err := load(t, "", opts)
				if out := leak(shown(l, err), s); out != "" {
					t.Errorf("%s=%q leaks: %s", k.name, value, out)
				}
			}
		}
	}
	for _, text := range []string{
		"database: {url: *" + s + "}", "database:\n  url: 'postgres://" + s, "database:\n  url: @" + s, "database: !" + s + " x",
		"database:\n  url: \"" + s + "\\q\"", s, s + ": 1: 2", "- " + s, "database:\n " + s + "\n  x", "%" + s, "database: {url: " + s,
		"&" + s + " x: *y", "? " + s + "/x\n: 1", "grafana: {admin_password: [" + s + "]}", "backup: {recipients: [" + id.String() + "]}",
	} {
		l, err := load(t, text, Options{})
		if err == nil {
			t.Errorf("%q loads", text)
		}
		for _, secret := range []string{s, id.String()} {
			// A key's name is shown, and s3cr3t alone may be one.
			if out := leak(shown(l, err), secret); out != "" && !strings.HasPrefix(text, s+":") {
				t.Errorf("%q leaks: %s", text, out)
			}
		}
	}
}

// leak returns the surroundings of a secret in text, or "".
func leak(text, secret string) string {
	i := strings.Index(text, secret)
	if i < 0 {
		return ""
	}
	return text[max(0, i-60):min(len(text), i+60)]
}

func TestScrubber(t *testing.T) {
	l := mustLoad(t, "", Options{Environ: []string{
		"DATABASE_URL=postgres://u:inner-s3cr3t@db/x", "GRAFANA_ADMIN_PASSWORD=graf-s3cr3t", "BACKUP_ALERT_WEBHOOK=https://hooks.example.com/hook-s3cr3t", "REDIS_URL=redis://cache:6379",
	}})
	got := l.Scrubber().Scrub("inner-s3cr3t graf-s3cr3t https://hooks.example.com/hook-s3cr3t redis://cache:6379")
	want := secret.Fingerprint("inner-s3cr3t") + " " + secret.Fingerprint("graf-s3cr3t") + " " + secret.Fingerprint("https://hooks.example.com/hook-s3cr3t") + " redis://cache:6379"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUnreadableFile(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	path := write(t, FileName, "env: staging\n")
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	_, err := loadHermetic(t, Options{Dir: filepath.Dir(path)})
	if got := faultsOf(t, err); len(got) != 1 || !strings.Contains(got[0], "permission denied") {
		t.Errorf("got %q", got)
	}
}

func TestHugeFile(t *testing.T) {
	_, err := load(t, strings.Repeat("# x\n", maxFile/4+1), Options{})
	if got := faultsOf(t, err); len(got) != 1 || !strings.Contains(got[0], "larger than 1 MiB") {
		t.Errorf("got %q", got)
	}
}
