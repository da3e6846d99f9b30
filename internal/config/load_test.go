package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
)

// write makes a file in a directory of its own and returns its path.
func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// load loads from a file with the given text, and from nothing of this host.
func load(t testing.TB, text string, opts Options) (*Loaded, error) {
	t.Helper()
	if text != "" {
		opts.Path = write(t, FileName, text)
	}
	return loadHermetic(t, opts)
}

func loadHermetic(t testing.TB, opts Options) (*Loaded, error) {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	if opts.SystemFile == "" {
		opts.SystemFile = filepath.Join(t.TempDir(), "none.yaml")
	}
	return Load(opts)
}

func mustLoad(t testing.TB, text string, opts Options) *Loaded {
	t.Helper()
	l, err := load(t, text, opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// faultsOf returns the faults as lines, with the file's path cut to its name.
func faultsOf(t testing.TB, err error) []string {
	t.Helper()
	configErr, ok := errors.AsType[*Error](err)
	if err != nil && !ok {
		t.Fatalf("error of type %T: %v", err, err)
	}
	if err == nil {
		return nil
	}
	var out []string
	for _, f := range configErr.Faults {
		if f.Origin.Kind == FromFile || f.Origin.Kind == FromEnvFile {
			f.Origin.Name = filepath.Base(f.Origin.Name)
		}
		out = append(out, f.String())
	}
	return out
}

func TestDefaults(t *testing.T) {
	for _, k := range keys() {
		var c Config
		if k.def == "" && !k.emptyOK {
			t.Errorf("%s has neither a default nor may it be empty", k.name)
		}
		if k.def != "" {
			if p := k.set(&c, argument(k, k.def)); p != nil {
				t.Errorf("%s: the default %s is faulty: %s", k.name, k.def, p.what)
			}
			if got := k.show(&c); strings.ReplaceAll(got, ", ", ",") != k.def && k.name != "dump.lock_timeout" {
				t.Errorf("%s: the default %s shows as %s", k.name, k.def, got)
			}
		}
	}
	l := mustLoad(t, "", Options{})
	c := l.Config
	if c.Env != Production || c.Backup.Retention.Days != 30 || c.Backup.Timeout != 6*time.Hour || c.S3.PartSize != 8*MiB ||
		!c.Dump.Globals || c.S3.StorageClass != "STANDARD_IA" || c.Report.Timeout != 5*time.Second || c.Redis.URL.Reveal() != "redis://localhost:6379" {
		t.Errorf("wrong defaults: %+v", c)
	}
	if l.File != "" || len(l.Warnings) != 0 {
		t.Errorf("from nothing: file %q, warnings %q", l.File, l.Warnings)
	}
	for _, e := range l.Entries() {
		if e.Origin.String() != "default" {
			t.Errorf("%s comes from %s", e.Key, e.Origin)
		}
	}
	if !slices.IsSortedFunc(l.Entries(), func(a, b Entry) int { return strings.Compare(a.Key, b.Key) }) {
		t.Error("the entries are not sorted")
	}
}

// Every field of Config must have its row in the table, and the other way round.
func TestKeysAreTheFieldsOfConfig(t *testing.T) {
	var fields, names []string
	var walk func(prefix string, typ reflect.Type)
	walk = func(prefix string, typ reflect.Type) {
		for field := range typ.Fields() {
			name := prefix + field.Tag.Get("yaml")
			switch {
			case field.Type.Kind() == reflect.Map: // by the runbook's IDs
				for _, t := range configurable() {
					walk(name+"."+t.ID+".", field.Type.Elem().Elem())
				}
			case field.Type.Kind() == reflect.Struct && field.Type.Name() != "Value":
				walk(name+".", field.Type)
			default:
				fields = append(fields, name)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
	seen := make(map[string]string)
	for _, k := range keys() {
		names = append(names, k.name)
		for _, env := range k.envNames() {
			if seen[env] != "" {
				t.Errorf("%s sets both %s and %s", env, seen[env], k.name)
			}
			seen[env] = k.name
		}
	}
	slices.Sort(fields)
	slices.Sort(names)
	if diff := cmp.Diff(fields, names); diff != "" {
		t.Errorf("fields of Config (-) against keys (+):\n%s", diff)
	}
}

// sample is a good value for each key, different from the default, and how it is
// shown.
func sample(t testing.TB) map[string][2]string {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	pub := id.Recipient().String()
	same := func(s string) [2]string { return [2]string{s, s} }
	out := map[string][2]string{
		"env":                             same("staging"),
		"database.url":                    {"postgres://u:marker-s3cr3t@db/x", "postgres://u:xxxxx@db/x"},
		"dump.via":                        same("container"),
		"dump.pg_dump":                    same("pg_dump16"),
		"dump.service":                    same("db"),
		"dump.lock_timeout":               {"90s", "1m30s"},
		"dump.globals":                    {"no", "false"},
		"backup.dir":                      same("/srv/backups"),
		"backup.name":                     same("escrow"),
		"backup.compression":              same("zstd"),
		"backup.level":                    same("6"),
		"backup.jobs":                     same("2"),
		"backup.recipients":               {pub + "," + pub, pub + ", " + pub},
		"backup.identity_file":            same("/etc/escrowctl/key.txt"),
		"backup.shrink_warn_ratio":        same("0.25"),
		"backup.timeout":                  same("1d"),
		"backup.retention.days":           same("7"),
		"backup.retention.daily":          same("8"),
		"backup.retention.weekly":         same("9"),
		"backup.retention.monthly":        same("10"),
		"backup.bucket_retention.days":    same("90"),
		"backup.bucket_retention.daily":   same("11"),
		"backup.bucket_retention.weekly":  same("12"),
		"backup.bucket_retention.monthly": same("13"),
		"dr_test.engine":                  same("local"),
		"dr_test.image":                   same("registry.example.com:5000/postgres:15-alpine"),
		"dr_test.storage":                 same("disk"),
		"dr_test.memory":                  same("4GiB"),
		"dr_test.cpus":                    same("2"),
		"dr_test.jobs":                    same("3"),
		"dr_test.timeout":                 same("30m"),
		"dr_test.keep_for":                same("2h"),
		"dr_test.min_tables":              same("30"),
		"dr_test.tables":                  {"trades, audit.log", "trades, audit.log"},
		"dr_test.rpo":                     same("12h"),
		"dr_test.rto":                     same("15m"),
		"dr_test.newest_row":              same("trades.created_at"),
		"dr_test.assertions":              {`[{"name":"a","query":"SELECT 1","expect":"1"}]`, "a"},
		"s3.bucket":                       same("s3://stellarescrow-backups/prod"),
		"s3.region":                       same("eu-central-1"),
		"s3.endpoint":                     same("http://127.0.0.1:9000"),
		"s3.path_style":                   {"true", "on"},
		"s3.storage_class":                same("STANDARD"),
		"s3.checksum":                     same("none"),
		"s3.part_size":                    {"16384kib", "16MiB"},
		"s3.concurrency":                  same("8"),
		"compose.project":                 same("stellarescrow"),
		"compose.dir":                     same("/opt/stellarescrow"),
		"compose.files":                   {"/a.yml, /b.yml", "/a.yml, /b.yml"},
		"compose.env_file":                {"", ""}, // has tests of its own
		"compose.docker_host":             same("unix:///run/docker.sock"),
		"report.api_base_url":             same("https://api.example.com"),
		"report.api_metrics":              same("off"),
		"report.webhook":                  {"https://hooks.example.com/marker-s3cr3t", "https://hooks.example.com (sha256:"},
		"report.textfile_dir":             same("/var/lib/node_exporter"),
		"report.pushgateway":              {"http://u:marker-s3cr3t@push:9091", "http://u:xxxxx@push:9091"},
		"report.timeout":                  same("10s"),
		"state.dir":                       same("/srv/state"),
		"certs.domain":                    same("example.com"),
		"certs.hosts":                     {"a.example.com,b.example.com:8443", "a.example.com, b.example.com:8443"},
		"certs.address":                   {"127.0.0.1:443,[::1]:443", "127.0.0.1:443, [::1]:443"},
		"certs.ca":                        same("/etc/ssl/own.pem"),
		"certs.via":                       same("host"),
		"certs.service":                   same("acme"),
		"certs.nginx_service":             same("web"),
		"certs.dir":                       same("/srv/letsencrypt"),
		"certs.timeout":                   same("5m"),
		"certs.warn_days":                 same("21"),
		"certs.critical_days":             same("7"),
		"certs.webhook":                   {"https://hooks.example.com/x/marker-s3cr3t", "https://hooks.example.com (sha256:"},
		"redis.url":                       {"rediss://:marker-s3cr3t@cache:6380", "rediss://:xxxxx@cache:6380"},
		"alertmanager.url":                same("https://alerts.example.com"),
		"alertmanager.watchdog":           same("DeadMansSwitch"),
		"prometheus.url":                  same("http://127.0.0.1:9999"),
		"shift_check.shift":               same("12h"),
		"shift_check.ignore_services":     {"backup,certbot", "backup, certbot"},
		"grafana.url":                     same("off"),
		"grafana.user":                    same("ops"),
		"shift_check.skip":                {"grafana,disk", "grafana, disk"},
		"shift_check.timeout":             same("2s"),
		"grafana.admin_password":          {" marker-s3cr3t ", "sha256:"},
		"horizon.url":                     same("https://horizon.stellar.org"),
		"redis.via":                       same("container"),
		"redis.service":                   same("cache"),
		"perf.sources":                    {"database,redis", "database, redis"},
		"perf.urls":                       {"https://a.example.com/x,http://b:4000/", "https://a.example.com/x, http://b:4000/"},
		"perf.requests":                   same("5"),
		"perf.disks":                      {"/data,/srv", "/data, /srv"},
		"perf.indexer":                    same("worker"),
		"indexer.events_table":            same("public.events"),
		"indexer.events_column":           same("indexed_at"),
		"api.url":                         same("https://api.example.com"),
		"keys.service":                    same("gateway"),
		"keys.api_path":                   same("/api/trades"),
		"keys.admin_path":                 same("/admin"),
		"keys.header":                     same("Authorization: Bearer {key}"),
		"keys.timeout":                    same("5m"),
		"journal.mirror":                  same("true"),
		"shift_check.backup_max_age":      same("30h"),
		"shift_check.dr_test_max_age":     same("8d"),
		"shift_check.verify_max_age":      same("3d"),
		"shift_check.full_within":         same("12h"),
		"shift_check.start_within":        same("5m"),
		"shift_check.deliver_within":      {"90s", "1m30s"},
		"incident.dir":                    same("/srv/reviews"),
	}
	// Between the runbook's two limits, so that either may be set alone.
	for _, th := range configurable() {
		value := showLimit(th.Unit, (th.Warning+th.Critical)/2)
		if th.Warning == th.Critical {
			value = showLimit(th.Unit, th.Warning)
		}
		out["thresholds."+th.ID+".warning"], out["thresholds."+th.ID+".critical"] = same(value), same(value)
	}
	return out
}

// Each key through each of its variables, through a flag and through the file.
func TestEveryKeyFromEverySource(t *testing.T) {
	values := sample(t)
	for _, k := range keys() {
		value, ok := values[k.name]
		if !ok {
			t.Errorf("no sample for %s", k.name)
		}
		if value[0] == "" {
			continue
		}
		check := func(opts Options, text, origin string) {
			t.Helper()
			l := mustLoad(t, text, opts)
			i := slices.IndexFunc(l.Entries(), func(e Entry) bool { return e.Key == k.name })
			if e := l.Entries()[i]; !strings.HasPrefix(e.Value, value[1]) || strings.Contains(e.Value, "s3cr3t") || !strings.HasSuffix(e.Origin.String(), origin) {
				t.Errorf("%s shows as %q from %s, want %q from %s", k.name, e.Value, e.Origin, value[1], origin)
			}
		}
		for _, name := range k.envNames() {
			check(Options{Environ: []string{name + "=" + value[0]}}, "", "env "+name)
		}
		check(Options{Flags: map[string]string{k.name: value[0]}}, "", "flag --"+k.flagName())
		check(Options{Flags: map[string]string{k.name: value[0]}, FlagNames: map[string]string{k.name: "--x"}}, "", "flag --x")
		check(Options{}, nested(k.name, value[0]), fmt.Sprintf("%s:%d", FileName, 1+strings.Count(k.name, ".")))
	}
}

// nested writes one key as YAML.
func nested(name, value string) string {
	var b strings.Builder
	parts := strings.Split(name, ".")
	for i, part := range parts {
		fmt.Fprintf(&b, "%s%s:", strings.Repeat("  ", i), part)
		if i < len(parts)-1 {
			b.WriteByte('\n')
		}
	}
	return b.String() + fmt.Sprintf(" %q\n", value)
}

// The variables already in use on the platform (with the AWS SDK's).
func TestPlatformVariables(t *testing.T) {
	want := map[string]string{
		"DATABASE_URL": "database.url", "S3_BUCKET": "s3.bucket", "BACKUP_DIR": "backup.dir", "RETENTION_DAYS": "backup.retention.days",
		"BACKUP_ALERT_WEBHOOK": "report.webhook", "API_BASE_URL": "report.api_base_url", "CERT_DOMAIN": "certs.domain",
		"CERT_ALERT_WEBHOOK": "certs.webhook", "REDIS_URL": "redis.url", "GRAFANA_ADMIN_PASSWORD": "grafana.admin_password",
		"HORIZON_URL": "horizon.url", "AWS_REGION": "s3.region", "AWS_ENDPOINT_URL_S3": "s3.endpoint", "ESCROWCTL_STATE_DIR": "state.dir",
		"ESCROWCTL_BACKUP_RETENTION_DAYS": "backup.retention.days",
	}
	got := make(map[string]string)
	for _, k := range keys() {
		for _, name := range k.envNames() {
			got[name] = k.name
		}
	}
	for name, key := range want {
		if got[name] != key {
			t.Errorf("%s sets %q, want %s", name, got[name], key)
		}
	}
}

func TestPrecedence(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "project.env"), []byte("RETENTION_DAYS=3\nexport POSTGRES_PASSWORD=\"x y\" # comment\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := "backup: {retention: {days: 2}}\n"
	fileWithEnv := file + "compose:\n  dir: " + dir + "\n  env_file: project.env\n"
	own, plain := "ESCROWCTL_BACKUP_RETENTION_DAYS=5", "RETENTION_DAYS=4"
	flags := map[string]string{"backup.retention.days": "6"}
	tests := []struct {
		name, text string
		environ    []string
		flags      map[string]string
		want       int
		origin     string
	}{
		{"default", "", nil, nil, 30, "default"},
		{"file", file, nil, nil, 2, "file escrowctl.yaml:1"},
		{"env file over file", fileWithEnv, nil, nil, 3, "env file project.env:RETENTION_DAYS"},
		{"environment over env file", fileWithEnv, []string{plain}, nil, 4, "env RETENTION_DAYS"},
		{"own variable over the common one", fileWithEnv, []string{own, plain}, nil, 5, "env ESCROWCTL_BACKUP_RETENTION_DAYS"},
		{"flag over all", fileWithEnv, []string{own, plain}, flags, 6, "flag --backup-retention-days"},
		{"empty variable is unset", file, []string{"RETENTION_DAYS="}, nil, 2, "file escrowctl.yaml:1"},
		{"blank variable is unset", file, []string{"RETENTION_DAYS= \t"}, nil, 2, "file escrowctl.yaml:1"},
		{"of a variable given twice the last counts", "", []string{"RETENTION_DAYS=1", "RETENTION_DAYS=8"}, nil, 8, "env RETENTION_DAYS"},
		{"key without a value is unset", "backup:\n  retention:\n    days:\n", nil, nil, 30, "default"},
		{"section without keys", "backup:\ns3: {}\n", nil, nil, 30, "default"},
		{"empty file", "# nothing\n", nil, nil, 30, "default"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := mustLoad(t, tt.text, Options{Environ: tt.environ, Flags: tt.flags})
			origin := l.Origin("backup.retention.days")
			origin.Name = filepath.Base(origin.Name)
			if l.Backup.Retention.Days != tt.want || origin.String() != tt.origin {
				t.Errorf("%d from %s, want %d from %s", l.Backup.Retention.Days, origin, tt.want, tt.origin)
			}
		})
	}
}

func TestEmptyValues(t *testing.T) {
	l := mustLoad(t, "s3: {storage_class: \"\", bucket: s3://from-file}\ncompose: {files: []}\n", Options{Flags: map[string]string{"s3.bucket": "", "backup.recipients": ""}})
	if l.S3.StorageClass != "" || l.S3.Bucket != "" {
		t.Errorf("an empty text does not clear: %+v", l.S3)
	}
	_, err := load(t, "backup: {dir: \"\"}", Options{})
	if got := faultsOf(t, err); len(got) != 1 || !strings.Contains(got[0], "empty: write a value, or leave it out for the default, /var/backups/stellarescrow") {
		t.Errorf("got %q", got)
	}
}

func TestFileSearch(t *testing.T) {
	dir := t.TempDir()
	put := func(name, project string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("compose: {project: "+project+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	work := filepath.Join(dir, "work")
	system, local := put("system.yaml", "system"), put("work/escrowctl.yaml", "local")
	variable, named := put("variable.yaml", "variable"), put("work/named.yaml", "named")

	opts := Options{Path: "named.yaml", Environ: []string{"ESCROWCTL_CONFIG=" + variable}, Dir: work, SystemFile: system}
	check := func(file, project string) {
		t.Helper()
		if l := mustLoad(t, "", opts); l.File != file || l.Compose.Project != project {
			t.Errorf("got %s with %s, want %s with %s", l.File, l.Compose.Project, file, project)
		}
	}
	check(named, "named")
	opts.Path = ""
	check(variable, "variable")
	opts.Environ = []string{"ESCROWCTL_CONFIG="}
	check(local, "local")
	if err := os.Remove(local); err != nil {
		t.Fatal(err)
	}
	check(system, "system")
	if err := os.Remove(system); err != nil {
		t.Fatal(err)
	}
	check("", "")

	for _, tt := range []struct {
		opts Options
		want string
	}{
		{Options{Path: "/nowhere/x.yaml"}, `"/nowhere/x.yaml" (flag --config): no such file: write the file, or name another`},
		{Options{Environ: []string{"ESCROWCTL_CONFIG=/nowhere/x.yaml"}}, `"/nowhere/x.yaml" (env ESCROWCTL_CONFIG): no such file: write the file, or name another`},
		{Options{Path: dir}, fmt.Sprintf("%q (flag --config): a directory: name the file in it", dir)},
	} {
		l, err := loadHermetic(t, tt.opts)
		if got := faultsOf(t, err); len(got) != 1 || got[0] != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
		if l == nil || len(l.Entries()) == 0 {
			t.Error("nothing to show with the error")
		}
	}
}

func TestRelativePaths(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "etc", "project"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"etc/c.yaml":       "backup: {dir: backups, identity_file: key}\ncompose: {dir: project, files: [a.yml, /b.yml], env_file: .env}\ndump: {pg_dump: bin/pg_dump}\n",
		"etc/project/.env": "ESCROWCTL_REPORT_TEXTFILE_DIR=textfiles\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := mustLoad(t, "", Options{Path: "etc/c.yaml", Dir: dir, Environ: []string{"ESCROWCTL_STATE_DIR=state"}, Flags: map[string]string{"backup.identity_file": "mine"}})
	got := []string{l.Backup.Dir, l.Backup.IdentityFile, l.Compose.Dir, l.Compose.EnvFile, l.Dump.PgDump, l.Report.TextfileDir, l.State.Dir}
	got = append(got, l.Compose.Files...)
	for i, p := range got {
		got[i], _ = strings.CutPrefix(p, dir)
	}
	want := []string{"/etc/backups", "/mine", "/etc/project", "/etc/project/.env", "/etc/bin/pg_dump", "/etc/project/textfiles", "/state", "/etc/project/a.yml", "/b.yml"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestStateDir(t *testing.T) {
	for _, tt := range []struct {
		uid     int
		environ []string
		want    string
	}{
		{0, []string{"XDG_STATE_HOME=/x", "HOME=/root"}, "/var/lib/escrowctl"},
		{1000, []string{"XDG_STATE_HOME=/x", "HOME=/home/u"}, "/x/escrowctl"},
		{1000, []string{"XDG_STATE_HOME=relative", "HOME=/home/u"}, "/home/u/.local/state/escrowctl"},
		{1000, nil, ""},
	} {
		got, err := stateDir(tt.uid, variables(tt.environ))
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("uid %d, %q: %q, %v, want %q", tt.uid, tt.environ, got, err, tt.want)
		}
	}
	l := mustLoad(t, "", Options{Environ: []string{"ESCROWCTL_STATE_DIR=/srv/state"}})
	if got, err := l.StateDir(); got != "/srv/state" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAgeRecipients(t *testing.T) {
	pub := sample(t)["backup.recipients"][0]
	l := mustLoad(t, "", Options{Environ: []string{"ESCROWCTL_BACKUP_RECIPIENTS=" + pub}})
	if got, err := l.Backup.AgeRecipients(); err != nil || len(got) != 2 {
		t.Errorf("%d recipients, %v", len(got), err)
	}
	if got, err := (Backup{}).AgeRecipients(); err != nil || got != nil {
		t.Errorf("without recipients: %v, %v", got, err)
	}
}

func TestSandboxConfiguration(t *testing.T) {
	l, err := loadHermetic(t, Options{Path: filepath.Join("..", "..", "deploy", "sandbox", FileName), Dir: "."})
	if err != nil {
		t.Error(err)
	}
	if l.Env != Staging {
		t.Errorf("env = %s", l.Env)
	}
}

// A configuration that has every key at once must load, in any order.
func TestWholeFile(t *testing.T) {
	values := sample(t)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if values[name][0] != "" {
			fmt.Fprintf(&b, "%s: %q\n", name, values[name][0])
		}
	}
	if l := mustLoad(t, b.String(), Options{}); l.Env != Staging || l.S3.Concurrency != 8 {
		t.Errorf("%+v", l.Config)
	}
}
