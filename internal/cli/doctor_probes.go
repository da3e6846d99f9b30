package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/compose"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/doctor"
	"github.com/stellarescrow/escrowctl/internal/health"
	"github.com/stellarescrow/escrowctl/internal/hostdisk"
	"github.com/stellarescrow/escrowctl/internal/httpx"
	"github.com/stellarescrow/escrowctl/internal/postgres"
	"github.com/stellarescrow/escrowctl/internal/schedule"
)

// doctorProbes returns all checks of the installation, the configuration first.
// What the shift check has already is used as it is.
func doctorProbes(f doctorFlags) []shiftProbe {
	return []shiftProbe{
		{id: configID, build: (*deps).configProbe},
		{id: "files", build: (*deps).filesProbe},
		{id: health.ScheduleID, build: (*deps).cronProbe},
		{id: health.DatabaseID, build: (*deps).databaseReach},
		{id: "pg_dump", build: (*deps).pgDumpProbe},
		{id: "psql", build: (*deps).psqlProbe, off: psqlOff},
		{id: doctor.BucketID, build: func(d *deps) check.Probe { return d.bucketProbe(f.writeBucket) }, off: func(d *deps) string { return unset("s3.bucket", d.cfg.S3.Bucket == "") }},
		{id: "docker", build: (*deps).dockerProbe, off: (*deps).dockerOff},
		{id: "compose", build: (*deps).composeProbe, off: (*deps).dockerOff},
		{id: drTestJob, build: (*deps).drTestReach},
		{id: "certbot", build: (*deps).certbotProbe, off: func(d *deps) string { return unset("certs.domain", d.cfg.Certs.Domain == "") }},
		{id: health.RedisID, build: (*deps).redisReach, off: func(d *deps) string { return unset("redis.url", d.cfg.Redis.URL.IsZero()) }},
		{id: health.IndexerID, build: (*deps).indexerReach, off: func(d *deps) string { return unset("report.api_base_url", d.cfg.Report.APIBaseURL == "") }},
		{id: health.APIID, build: (*deps).apiReach, off: func(d *deps) string { return offKey(d.cfg.API.URL, "api.url") }},
		{id: "horizon", build: (*deps).horizonReach, off: func(d *deps) string { return unset("horizon.url", d.cfg.Horizon.URL == "") }},
		{id: "alertmanager", build: (*deps).alertmanagerReach, off: func(d *deps) string { return offKey(d.cfg.Alertmanager.URL, "alertmanager.url") }},
		{id: "prometheus", build: (*deps).prometheusReach, off: func(d *deps) string { return offKey(d.cfg.Alertmanager.URL, "alertmanager.url") }},
		{id: health.GrafanaID, build: (*deps).grafanaProbe, off: func(d *deps) string { return offKey(d.cfg.Grafana.URL, "grafana.url") }},
		{id: "webhook", build: (*deps).webhookReach, off: func(d *deps) string { return unset("report.webhook", d.cfg.Report.Webhook.IsZero()) }},
		{id: "pushgateway", build: (*deps).pushgatewayReach, off: func(d *deps) string { return unset("report.pushgateway", d.cfg.Report.Pushgateway.IsZero()) }},
		{id: "textfile", build: (*deps).textfileProbe, off: func(d *deps) string { return unset("report.textfile_dir", d.cfg.Report.TextfileDir == "") }},
		{id: health.DiskID, build: (*deps).spaceProbe},
		{id: health.ClockID, build: (*deps).clockProbe},
	}
}

// filesProbe looks at what escrowctl reads secrets from and writes to.
func (d *deps) filesProbe() check.Probe {
	paths := []doctor.Path{
		{Name: "state", Path: d.state.Dir(), Dir: true, Secret: true, Written: true, Made: true},
		{Name: "backups", Path: d.cfg.Backup.Dir, Dir: true, Secret: true, Written: true, Made: true},
	}
	if file := d.cfg.File; file != "" {
		// Whether others may read it depends on what is in it: that is told by config.
		paths = append(paths, doctor.Path{Name: "config", Path: file}, doctor.Path{Name: "config-dir", Path: filepath.Dir(file), Dir: true})
	}
	if file := d.cfg.Compose.EnvFile; file != "" {
		paths = append(paths, doctor.Path{Name: "env", Path: file, Secret: true})
	}
	if file := d.cfg.Backup.IdentityFile; file != "" {
		paths = append(paths, doctor.Path{Name: "identity", Path: file, Secret: true})
	}
	return doctor.Files("files", append(paths, d.passwordFiles()...))
}

// passwordFiles are the files of others, if they are there, from which the AWS SDK
// and PostgreSQL's protocol take their secrets.
func (d *deps) passwordFiles() (found []doctor.Path) {
	at := func(name, variable, below string) {
		path := d.app.variable(variable)
		if home := d.app.variable("HOME"); path == "" && home != "" {
			path = filepath.Join(home, below)
		}
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() { // not /dev/null
			found = append(found, doctor.Path{Name: name, Path: path, Secret: true})
		}
	}
	at("aws-credentials", "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")
	at("pgpass", "PGPASSFILE", ".pgpass")
	return found
}

func (d *deps) textfileProbe() check.Probe {
	return doctor.Files("textfile", []doctor.Path{{Name: "directory", Path: d.cfg.Report.TextfileDir, Dir: true, Shared: true, Written: true}})
}

// cronProbe is what 'cron check' finds, and what the rows' environment lacks.
func (d *deps) cronProbe() check.Probe {
	return check.Probe{ID: health.ScheduleID, Limit: doctor.Limit, Run: func(ctx context.Context) check.Result {
		v, err := d.inspectCron(ctx)
		if err != nil {
			return check.Result{ID: health.ScheduleID, Status: check.Unknown, Summary: err.Error(), Action: "escrowctl cron check"}
		}
		var parts []check.Result
		rows := 0
		for _, j := range v.Jobs {
			rows += len(j.Rows)
			parts = append(parts, check.Result{ID: j.Name, Summary: j.Name + ": in a crontab"})
		}
		for _, f := range v.cronFindings() {
			if f.Status != check.OK {
				parts = append(parts, cronPart(f))
			}
		}
		if v.unread != nil {
			parts = append(parts, check.Result{ID: "crontabs", Status: check.Unknown, Summary: v.unread.Error(), Action: "run it as root, who may read all crontabs"})
		}
		if names := d.fromEnvironment(); rows > 0 && len(names) > 0 {
			parts = append(parts, check.Result{ID: "environment", Status: check.Warning, Action: "put the settings into " + config.SystemFile + ", mode 0600, or a profile",
				Summary: "cron's jobs do not have " + strings.Join(names, ", ") + " of your environment"})
		}
		return doctor.Gather(health.ScheduleID, parts, fmt.Sprintf("%s runs, %d rows of the schedule, nothing wrong", v.daemon, rows))
	}}
}

// cronPart is a fault of the crontabs.
func cronPart(f schedule.Finding) check.Result {
	id, text := string(f.Code), f.Text
	if f.Job != "" {
		id = f.Job + ":" + id
	}
	if f.Where != "" {
		text = f.Where + ": " + text
	}
	return check.Result{ID: id, Status: f.Status, Summary: text, Action: f.Action}
}

// unreadable counts the tables that the role may not read: of such a database
// pg_dump makes no dump.
const unreadable = `
SELECT current_setting('server_version'), current_user, count(c.oid)::int
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
  AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))`

func (d *deps) databaseReach() check.Probe {
	return check.Probe{ID: health.DatabaseID, Limit: doctor.Limit, Run: func(ctx context.Context) check.Result {
		r := check.Result{ID: health.DatabaseID, Status: check.Critical, Action: "correct database.url and dump.via; docker compose up -d " + d.cfg.Dump.Service}
		s, err := d.databaseSession(ctx)
		if err != nil {
			r.Summary = err.Error()
			return r
		}
		defer func() { _ = s.Close(context.WithoutCancel(ctx)) }()
		var version, role string
		var hidden int
		if err := s.Row(ctx, unreadable, &version, &role, &hidden); err != nil {
			r.Summary = err.Error()
			return r
		}
		version, _, _ = strings.Cut(version, " ")
		if hidden > 0 {
			r.Summary = fmt.Sprintf("PostgreSQL %s answers, but %s may not read %d of its tables: no dump can be made", version, role, hidden)
			r.Action = "GRANT pg_read_all_data TO " + role + ", or use the owner's role"
			return r
		}
		return check.Result{ID: health.DatabaseID, Summary: fmt.Sprintf("PostgreSQL %s answers, and %s may read every table", version, role)}
	}}
}

// pgDumpProbe sees that there is a pg_dump for the server, here or in its
// container.
func (d *deps) pgDumpProbe() check.Probe {
	const id = "pg_dump"
	return check.Probe{ID: id, Limit: doctor.Limit, Run: func(ctx context.Context) check.Result {
		s, direct, err := d.connect(ctx, "escrowctl doctor")
		if err != nil {
			return check.Result{ID: id, Status: check.Unknown, Summary: "which version it must have is not known: the database is not reached", Action: "see database"}
		}
		defer s.close()
		if err := d.findDumper(ctx, s, direct); err != nil {
			return check.Result{ID: id, Status: check.Critical, Summary: err.Error(),
				Action: fmt.Sprintf("apt-get install postgresql-client-%d, or set dump.via: container", s.info.VersionNum/10000)}
		}
		return check.Result{ID: id, Summary: fmt.Sprintf("%s is %s, the server %s", s.tool.Path, s.tool.Version, s.info.Version)}
	}}
}

func psqlOff(*deps) string {
	if _, err := exec.LookPath("psql"); err != nil {
		return "none here; escrowctl needs none"
	}
	return ""
}

func (d *deps) psqlProbe() check.Probe {
	const id = "psql"
	return check.Probe{ID: id, Limit: doctor.Limit, Run: func(ctx context.Context) check.Result {
		tool, err := postgres.HostTool(ctx, id)
		if err != nil {
			return check.Result{ID: id, Status: check.Warning, Summary: err.Error(), Action: "apt-get install --reinstall postgresql-client"}
		}
		s, _, err := d.connect(ctx, "escrowctl doctor")
		if err != nil {
			return check.Result{ID: id, Status: check.Unknown, Summary: "which version it must have is not known: the database is not reached", Action: "see database"}
		}
		defer s.close()
		return doctor.Psql(id, tool.Path, tool.VersionNum, s.info.VersionNum)
	}}
}

func (d *deps) bucketProbe(write bool) check.Probe {
	return doctor.Store(doctor.BucketOptions{Write: write, Open: func(ctx context.Context) (doctor.Bucket, error) { return d.remote(ctx) }})
}

// dockerOff says that nothing here needs a Docker Engine.
func (d *deps) dockerOff() string {
	c := d.cfg.Compose
	if c.DockerHost != "" || c.Project != "" || c.Dir != "" || len(c.Files) > 0 || d.cfg.Dump.Via == config.ViaContainer || d.cfg.DRTest.Engine == config.EngineDocker {
		return ""
	}
	const socket = "/var/run/docker.sock"
	if _, err := os.Stat(socket); err == nil {
		return ""
	}
	return "not configured: no compose setting, no " + socket
}

func (d *deps) dockerProbe() check.Probe {
	const id = "docker"
	return check.Probe{ID: id, Limit: doctor.Limit, Run: func(ctx context.Context) check.Result {
		e, err := compose.OpenDisks(d.cfg.Compose.DockerHost)
		if err != nil {
			return check.Result{ID: id, Status: check.Critical, Summary: err.Error(), Action: "correct compose.docker_host"}
		}
		defer func() { _ = e.Close() }()
		v, err := e.Versions(ctx)
		if err != nil {
			return check.Result{ID: id, Status: check.Critical, Summary: err.Error(), Action: "systemctl start docker; be root or in the group docker"}
		}
		p, err := d.composeProject(ctx)
		if err != nil {
			return check.Result{ID: id, Status: check.Critical, Summary: fmt.Sprintf("engine %s answers; %v", v.Engine, err), Action: "set compose.project or compose.dir, or docker compose up -d"}
		}
		all, err := p.Containers(ctx)
		if err != nil {
			return check.Result{ID: id, Status: check.Critical, Summary: err.Error(), Action: "systemctl status docker"}
		}
		return check.Result{ID: id, Summary: fmt.Sprintf("engine %s (API %s), project %s with %d containers", v.Engine, v.API, p.Name(), len(all))}
	}}
}

func (d *deps) composeProbe() check.Probe {
	const id = "compose"
	return check.Probe{ID: id, Limit: doctor.Limit, Run: func(ctx context.Context) check.Result {
		program, version, err := compose.ProgramVersion(ctx)
		if err != nil {
			return check.Result{ID: id, Status: check.Warning, Summary: "rotate-keys cannot make services anew: " + err.Error(), Action: "apt-get install docker-compose-plugin (Docker's own packages), or docker-compose"}
		}
		return check.Result{ID: id, Summary: program + " " + version}
	}}
}

func (d *deps) certbotProbe() check.Probe {
	const id = "certbot"
	return check.Probe{ID: id, Limit: doctor.Limit, Run: func(ctx context.Context) check.Result {
		_, byHand, err := d.certbot(ctx)
		if err != nil {
			return check.Result{ID: id, Status: check.Warning, Summary: "certs renew can renew nothing: " + err.Error(), Action: "docker compose up -d " + d.cfg.Certs.Service + `, or apt-get install certbot, or certs.domain: "" if certificates are another's`}
		}
		return check.Result{ID: id, Summary: "there: " + byHand}
	}}
}

func (d *deps) redisReach() check.Probe {
	return check.Probe{ID: health.RedisID, Limit: doctor.Limit, Run: func(ctx context.Context) check.Result {
		info, err := d.redisInfo(ctx)
		if err == nil {
			if _, rest, found := strings.Cut(info, "redis_version:"); found {
				version, _, _ := strings.Cut(rest, "\r\n")
				return check.Result{ID: health.RedisID, Summary: "Redis " + version + " answers"}
			}
			err = errors.New("what answers there is no Redis: it tells no version")
		}
		return check.Result{ID: health.RedisID, Status: d.grave("redis.url"), Summary: err.Error(), Action: d.nameIt("redis.url", d.cfg.Redis.Service)}
	}}
}

// httpReach is the check of a service that answers HTTP.
func (d *deps) httpReach(id, key, base, path, field string) check.Probe {
	return doctor.HTTP(doctor.HTTPOptions{ID: id, URL: base, Path: path, Field: field, Bad: d.grave(key), Fix: d.nameIt(key, id), Client: httpx.New()})
}

func (d *deps) indexerReach() check.Probe {
	return d.httpReach(health.IndexerID, "report.api_base_url", d.cfg.Report.APIBaseURL, "/health", "status")
}

func (d *deps) apiReach() check.Probe {
	return d.httpReach(health.APIID, "api.url", d.cfg.API.URL, "/health", "status")
}

func (d *deps) horizonReach() check.Probe {
	return d.httpReach("horizon", "horizon.url", d.cfg.Horizon.URL, "/", "history_latest_ledger")
}

func (d *deps) alertmanagerReach() check.Probe {
	return d.httpReach("alertmanager", "alertmanager.url", d.cfg.Alertmanager.URL, "/api/v2/status", "versionInfo.version")
}

func (d *deps) prometheusReach() check.Probe {
	return d.httpReach("prometheus", "prometheus.url", d.cfg.Prometheus.URL, "/api/v1/status/buildinfo", "data.version")
}

func (d *deps) webhookReach() check.Probe {
	return doctor.Dial(doctor.DialOptions{ID: "webhook", URL: d.cfg.Report.Webhook.Reveal(), Key: "report.webhook"})
}

func (d *deps) pushgatewayReach() check.Probe {
	return doctor.Dial(doctor.DialOptions{ID: "pushgateway", URL: d.cfg.Report.Pushgateway.Reveal(), Key: "report.pushgateway"})
}

// spaceProbe looks at the filesystems that runs write to, and whether the next
// backup would fit.
func (d *deps) spaceProbe() check.Probe {
	p := health.Disk(health.DiskOptions{
		Mounts: func(context.Context) ([]string, error) { return nil, nil },
		Roles: []health.DiskRole{
			{Name: "backups", Find: func(context.Context) (string, error) { return doctor.Existing(d.cfg.Backup.Dir), nil }},
			{Name: "state", Find: func(context.Context) (string, error) { return doctor.Existing(d.state.Dir()), nil }},
		},
		Usage: func(path string) (health.Usage, error) {
			u, err := hostdisk.Read(path)
			return health.Usage(u), err
		},
		Limits: d.cfg.Threshold, Limit: doctor.Limit, Now: d.app.io.Now,
	})
	run := p.Run
	p.Run = func(ctx context.Context) check.Result {
		r := run(ctx)
		last, found, err := d.state.LastSuccess(backupJob)
		size, isNumber := last.Figures["size_bytes"].(float64)
		if err != nil || !found || !isNumber {
			return r
		}
		if err := checkSpace(d.cfg.Backup.Dir, int64(size)); err != nil {
			full := check.Result{ID: "next-backup", Status: check.Critical, Summary: err.Error(), Action: "escrowctl backup prune --dry-run; or set backup.dir to a larger disk"}
			return doctor.Gather(r.ID, append([]check.Result{full}, r.Parts...), "")
		}
		return r
	}
	return p
}
