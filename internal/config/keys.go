package config

import (
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/secret"
)

// envPrefix begins the variables that every key has: ESCROWCTL_S3_BUCKET.
const envPrefix = "ESCROWCTL_"

// key is one row of the table: a setting with its names, default and handling.
type key struct {
	name string   // section.key
	def  string   // as it would be written in the file
	env  []string // variables besides its own, the weightiest first
	// emptyOK: an empty text is a value of its own, and not a mistake.
	emptyOK bool
	access
}

// envNames returns all variables that set the key, the weightiest first.
func (k *key) envNames() []string {
	own := envPrefix + strings.ToUpper(strings.ReplaceAll(k.name, ".", "_"))
	return append([]string{own}, k.env...)
}

// flagName returns the flag that sets the key, where the caller gives no other.
func (k *key) flagName() string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(k.name)
}

// keys returns the table of all settings, in the order of the file.
func keys() []*key {
	const day = runbook.Day
	table := []*key{
		{name: "env", def: Production, access: text(func(c *Config) *string { return &c.Env }, oneOf(Production, Staging, Development))},

		{name: "database.url", emptyOK: true, env: []string{"DATABASE_URL"}, access: hidden(func(c *Config) *secret.Value { return &c.Database.URL }, databaseURL, showURL)},

		{name: "dump.via", def: ViaAuto, access: text(func(c *Config) *string { return &c.Dump.Via }, oneOf(ViaAuto, ViaHost, ViaContainer))},
		{name: "dump.pg_dump", emptyOK: true, access: program(func(c *Config) *string { return &c.Dump.PgDump })},
		{name: "dump.service", def: "postgres", access: text(func(c *Config) *string { return &c.Dump.Service }, serviceName)},
		{name: "dump.lock_timeout", def: "60s", access: duration(func(c *Config) *time.Duration { return &c.Dump.LockTimeout }, time.Second, day)},
		{name: "dump.globals", def: "true", access: boolean(func(c *Config) *bool { return &c.Dump.Globals })},

		{name: "backup.dir", def: "/var/backups/stellarescrow", env: []string{"BACKUP_DIR"}, access: path(func(c *Config) *string { return &c.Backup.Dir })},
		{name: "backup.name", def: "stellar_escrow", access: text(func(c *Config) *string { return &c.Backup.Name }, backupName)},
		{name: "backup.compression", def: "gzip", access: text(func(c *Config) *string { return &c.Backup.Compression }, oneOf("gzip", "zstd"))},
		{name: "backup.level", def: "0", access: whole(func(c *Config) *int { return &c.Backup.Level }, 0, 9)},
		{name: "backup.jobs", def: "0", access: whole(func(c *Config) *int { return &c.Backup.Jobs }, 0, 1024)},
		{name: "backup.recipients", emptyOK: true, access: list(func(c *Config) *[]string { return &c.Backup.Recipients }, recipient)},
		{name: "backup.identity_file", emptyOK: true, access: path(func(c *Config) *string { return &c.Backup.IdentityFile })},
		{name: "backup.shrink_warn_ratio", def: "0.5", access: ratio(func(c *Config) *float64 { return &c.Backup.ShrinkWarnRatio })},
		{name: "backup.timeout", def: "6h", access: duration(func(c *Config) *time.Duration { return &c.Backup.Timeout }, time.Second, 30*day)},

		{name: "s3.bucket", emptyOK: true, env: []string{"S3_BUCKET"}, access: text(func(c *Config) *string { return &c.S3.Bucket }, bucketURI)},
		{name: "s3.region", emptyOK: true, env: []string{"AWS_REGION", "AWS_DEFAULT_REGION"}, access: text(func(c *Config) *string { return &c.S3.Region }, region)},
		{name: "s3.endpoint", emptyOK: true, env: []string{"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"}, access: text(func(c *Config) *string { return &c.S3.Endpoint }, httpURL)},
		{name: "s3.path_style", def: Auto, access: toggle(func(c *Config) *string { return &c.S3.PathStyle })},
		{name: "s3.storage_class", def: "STANDARD_IA", emptyOK: true, access: text(func(c *Config) *string { return &c.S3.StorageClass }, storageClass)},
		{name: "s3.checksum", def: Auto, access: text(func(c *Config) *string { return &c.S3.Checksum }, oneOf(Auto, "sha256", "none"))},
		{name: "s3.part_size", def: "8MiB", access: size(func(c *Config) *Size { return &c.S3.PartSize }, 5*MiB, 5*GiB)},
		{name: "s3.concurrency", def: "4", access: whole(func(c *Config) *int { return &c.S3.Concurrency }, 1, 64)},

		{name: "compose.project", emptyOK: true, env: []string{"COMPOSE_PROJECT_NAME"}, access: text(func(c *Config) *string { return &c.Compose.Project }, projectName)},
		{name: "compose.dir", emptyOK: true, access: path(func(c *Config) *string { return &c.Compose.Dir })},
		{name: "compose.files", emptyOK: true, access: paths(func(c *Config) *[]string { return &c.Compose.Files })},
		{name: "compose.env_file", emptyOK: true, access: path(func(c *Config) *string { return &c.Compose.EnvFile })},
		{name: "compose.docker_host", emptyOK: true, env: []string{"DOCKER_HOST"}, access: text(func(c *Config) *string { return &c.Compose.DockerHost }, dockerHost)},

		{name: "report.api_base_url", def: "http://localhost:3000", emptyOK: true, env: []string{"API_BASE_URL"}, access: text(func(c *Config) *string { return &c.Report.APIBaseURL }, httpURL)},
		{name: "report.api_metrics", def: Auto, access: toggle(func(c *Config) *string { return &c.Report.APIMetrics })},
		{name: "report.webhook", emptyOK: true, env: []string{"BACKUP_ALERT_WEBHOOK"}, access: hidden(func(c *Config) *secret.Value { return &c.Report.Webhook }, secretHTTPURL, showHost)},
		{name: "report.textfile_dir", emptyOK: true, access: path(func(c *Config) *string { return &c.Report.TextfileDir })},
		{name: "report.pushgateway", emptyOK: true, access: hidden(func(c *Config) *secret.Value { return &c.Report.Pushgateway }, secretHTTPURL, showURL)},
		{name: "report.timeout", def: "5s", access: duration(func(c *Config) *time.Duration { return &c.Report.Timeout }, 100*time.Millisecond, time.Minute)},

		{name: "state.dir", emptyOK: true, access: path(func(c *Config) *string { return &c.State.Dir })},

		{name: "redis.url", def: "redis://localhost:6379", emptyOK: true, env: []string{"REDIS_URL"}, access: hidden(func(c *Config) *secret.Value { return &c.Redis.URL }, redisURL, showURL)},
		{name: "redis.via", def: ViaAuto, access: text(func(c *Config) *string { return &c.Redis.Via }, oneOf(ViaAuto, ViaHost, ViaContainer))},
		{name: "redis.service", def: "redis", access: text(func(c *Config) *string { return &c.Redis.Service }, serviceName)},
		{name: "horizon.url", emptyOK: true, env: []string{"HORIZON_URL"}, access: text(func(c *Config) *string { return &c.Horizon.URL }, httpURL)},
		{name: "indexer.events_table", def: "events", access: text(func(c *Config) *string { return &c.Indexer.EventsTable }, relationName)},
		{name: "indexer.events_column", def: "created_at", access: text(func(c *Config) *string { return &c.Indexer.EventsColumn }, relationName)},
		{name: "api.url", def: "http://localhost:4000", access: text(func(c *Config) *string { return &c.API.URL }, orOff(httpURL))},
	}
	return slices.Concat(table, certKeys(), shiftKeys(), thresholdKeys(), drTestKeys(), rotationKeys(), perfKeys(),
		retentionKeys("backup.retention", runbook.RetentionDays, func(c *Config) *Retention { return &c.Backup.Retention }, "RETENTION_DAYS"),
		retentionKeys("backup.bucket_retention", 0, func(c *Config) *Retention { return &c.Backup.BucketRetention }))
}

// retentionKeys are those of one Retention; env sets its days.
func retentionKeys(name string, days int, at func(*Config) *Retention, env ...string) []*key {
	count := func(field func(*Retention) *int) access {
		return whole(func(c *Config) *int { return field(at(c)) }, 0, 36500)
	}
	return []*key{
		{name: name + ".days", def: showInt(days), env: env, access: count(func(r *Retention) *int { return &r.Days })},
		{name: name + ".daily", def: "0", access: count(func(r *Retention) *int { return &r.Daily })},
		{name: name + ".weekly", def: "0", access: count(func(r *Retention) *int { return &r.Weekly })},
		{name: name + ".monthly", def: "0", access: count(func(r *Retention) *int { return &r.Monthly })},
	}
}

// certKeys are those of the certificates.
func certKeys() []*key {
	return []*key{
		{name: "certs.domain", def: "stellarescrow.app", emptyOK: true, env: []string{"CERT_DOMAIN"}, access: text(func(c *Config) *string { return &c.Certs.Domain }, hostName)},
		{name: "certs.webhook", emptyOK: true, env: []string{"CERT_ALERT_WEBHOOK"}, access: hidden(func(c *Config) *secret.Value { return &c.Certs.Webhook }, secretHTTPURL, showHost)},
		{name: "certs.hosts", emptyOK: true, access: list(func(c *Config) *[]string { return &c.Certs.Hosts }, hostAndPort)},
		{name: "certs.address", emptyOK: true, access: list(func(c *Config) *[]string { return &c.Certs.Address }, hostAndPort)},
		{name: "certs.ca", emptyOK: true, access: path(func(c *Config) *string { return &c.Certs.CA })},
		{name: "certs.via", def: ViaAuto, access: text(func(c *Config) *string { return &c.Certs.Via }, oneOf(ViaAuto, ViaHost, ViaContainer))},
		{name: "certs.service", def: "certbot", access: text(func(c *Config) *string { return &c.Certs.Service }, serviceName)},
		{name: "certs.nginx_service", def: "nginx", access: text(func(c *Config) *string { return &c.Certs.NginxService }, serviceName)},
		{name: "certs.dir", def: "/etc/letsencrypt", access: path(func(c *Config) *string { return &c.Certs.Dir })},
		{name: "certs.timeout", def: "15m", access: duration(func(c *Config) *time.Duration { return &c.Certs.Timeout }, 10*time.Second, runbook.Day)},
		{name: "certs.warn_days", def: "0", access: whole(func(c *Config) *int { return &c.Certs.WarnDays }, 0, 3650)},
		{name: "certs.critical_days", def: "0", access: whole(func(c *Config) *int { return &c.Certs.CriticalDays }, 0, 3650)},
	}
}

// perfKeys are those of the performance analysis.
func perfKeys() []*key {
	return []*key{
		{name: "perf.sources", emptyOK: true, access: list(func(c *Config) *[]string { return &c.Perf.Sources }, oneOf("database", "statements", "api", "containers", "redis", "disk"))},
		{name: "perf.urls", emptyOK: true, access: list(func(c *Config) *[]string { return &c.Perf.URLs }, httpURL)},
		{name: "perf.requests", def: "20", access: whole(func(c *Config) *int { return &c.Perf.Requests }, 1, 1000)},
		{name: "perf.disks", emptyOK: true, access: paths(func(c *Config) *[]string { return &c.Perf.Disks })},
		{name: "perf.indexer", def: "indexer", access: text(func(c *Config) *string { return &c.Perf.Indexer }, serviceName)},
	}
}

// rotationKeys are those of the key rotation, its journal and the reviews.
func rotationKeys() []*key {
	return []*key{
		{name: "keys.service", def: "api", access: text(func(c *Config) *string { return &c.Keys.Service }, serviceName)},
		{name: "keys.api_path", def: "/", access: text(func(c *Config) *string { return &c.Keys.APIPath }, urlPath)},
		{name: "keys.admin_path", def: "/api/admin/", access: text(func(c *Config) *string { return &c.Keys.AdminPath }, urlPath)},
		{name: "keys.header", def: "X-API-Key: {key}", access: text(func(c *Config) *string { return &c.Keys.Header }, keyHeader)},
		{name: "keys.timeout", def: "2m", access: duration(func(c *Config) *time.Duration { return &c.Keys.Timeout }, time.Second, time.Hour)},
		{name: "incident.dir", emptyOK: true, access: path(func(c *Config) *string { return &c.Incident.Dir })},
		{name: "journal.mirror", def: "false", access: boolean(func(c *Config) *bool { return &c.Journal.Mirror })},
	}
}
