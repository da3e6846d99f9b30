// Package config loads escrowctl's configuration: defaults, then the file, the
// .env of the compose project, the environment and the flags, each over the one
// before. Every value knows where it came from, every fault is named at once,
// and no secret is ever shown.
package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/stellarescrow/escrowctl/internal/secret"
)

// The environments.
const (
	Production  = "production"
	Staging     = "staging"
	Development = "development"
)

// The ways to run pg_dump and certbot.
const (
	ViaAuto      = "auto"
	ViaHost      = "host"
	ViaContainer = "container"
)

// The engines of the recovery test.
const (
	EngineDocker = "docker"
	EngineLocal  = "local"
)

// The values of settings that may be left to escrowctl.
const (
	Auto = "auto"
	On   = "on"
	Off  = "off"
)

// Config is the whole configuration. It can be marshalled: secrets show their
// fingerprints.
type Config struct {
	Env      string   `yaml:"env"`
	Database Database `yaml:"database"`
	Dump     Dump     `yaml:"dump"`
	Backup   Backup   `yaml:"backup"`
	DRTest   DRTest   `yaml:"dr_test"`
	S3       S3       `yaml:"s3"`
	Compose  Compose  `yaml:"compose"`
	Report   Report   `yaml:"report"`
	State    State    `yaml:"state"`
	Certs    Certs    `yaml:"certs"`
	Redis    Redis    `yaml:"redis"`
	Perf     Perf     `yaml:"perf"`
	Grafana  Grafana  `yaml:"grafana"`
	Horizon  Horizon  `yaml:"horizon"`
	Keys     Keys     `yaml:"keys"`
	Journal  Journal  `yaml:"journal"`
	Incident Incident `yaml:"incident"`
	Indexer  Indexer  `yaml:"indexer"`
	API      API      `yaml:"api"`

	Alertmanager Alertmanager `yaml:"alertmanager"`
	Prometheus   Prometheus   `yaml:"prometheus"`
	ShiftCheck   ShiftCheck   `yaml:"shift_check"`
	// Thresholds are the limits of the runbook's figures by their IDs.
	Thresholds map[string]*Limits `yaml:"thresholds"`
}

// Database is the database that is backed up.
type Database struct {
	URL secret.Value `yaml:"url"`
}

// Dump says how pg_dump is run.
type Dump struct {
	Via         string        `yaml:"via"`     // auto, host or container
	PgDump      string        `yaml:"pg_dump"` // a path or a name; empty: search
	Service     string        `yaml:"service"` // compose service of the database
	LockTimeout time.Duration `yaml:"lock_timeout"`
	Globals     bool          `yaml:"globals"` // keep the roles too
}

// Backup says what a backup is made of and how long it is kept.
type Backup struct {
	Dir             string        `yaml:"dir"`
	Name            string        `yaml:"name"`        // what file names begin with
	Compression     string        `yaml:"compression"` // gzip or zstd
	Level           int           `yaml:"level"`       // 1 (fastest) to 9; 0: the compression's own
	Jobs            int           `yaml:"jobs"`        // 0: one for each core
	Recipients      []string      `yaml:"recipients"`  // age public keys; none: not encrypted
	IdentityFile    string        `yaml:"identity_file"`
	ShrinkWarnRatio float64       `yaml:"shrink_warn_ratio"` // of the last backup; 0: never
	Timeout         time.Duration `yaml:"timeout"`           // of the whole run
	Retention       Retention     `yaml:"retention"`         // in Dir
	BucketRetention Retention     `yaml:"bucket_retention"`
}

// DRTest says how the recovery test is made, and what it must find.
type DRTest struct {
	Engine     string        `yaml:"engine"`  // auto, docker or local
	Image      string        `yaml:"image"`   // of engine docker; empty: postgres:MAJOR
	Storage    string        `yaml:"storage"` // auto, memory or disk
	Memory     Size          `yaml:"memory"`  // limit of the server; 0: by what there is
	CPUs       int           `yaml:"cpus"`    // limit of the server; 0: all
	Jobs       int           `yaml:"jobs"`    // 0: one for each core
	Timeout    time.Duration `yaml:"timeout"` // of the whole test
	KeepFor    time.Duration `yaml:"keep_for"`
	MinTables  int           `yaml:"min_tables"`
	Tables     []string      `yaml:"tables"`     // in which there must be rows
	RPO        time.Duration `yaml:"rpo"`        // 0: none
	RTO        time.Duration `yaml:"rto"`        // 0: none
	NewestRow  string        `yaml:"newest_row"` // table.column; empty: not looked at
	Assertions []Assertion   `yaml:"assertions"`
}

// Assertion is a query and what it must answer.
type Assertion struct {
	Name   string `yaml:"name" json:"name"`
	Query  string `yaml:"query" json:"query"`
	Expect string `yaml:"expect" json:"expect"`
}

// Retention says how many backups are kept. All zero keeps everything.
type Retention struct {
	Days    int `yaml:"days"`
	Daily   int `yaml:"daily"`
	Weekly  int `yaml:"weekly"`
	Monthly int `yaml:"monthly"`
}

// S3 is the bucket.
type S3 struct {
	Bucket       string `yaml:"bucket"` // s3://bucket[/prefix] or file:///directory; empty: local only
	Region       string `yaml:"region"`
	Endpoint     string `yaml:"endpoint"`      // empty: AWS
	PathStyle    string `yaml:"path_style"`    // auto, on or off
	StorageClass string `yaml:"storage_class"` // empty: the bucket's default
	Checksum     string `yaml:"checksum"`      // auto, sha256 or none
	PartSize     Size   `yaml:"part_size"`     // of the first parts of an upload
	Concurrency  int    `yaml:"concurrency"`   // parts sent at once
}

// Compose is the compose project. An empty Project and Dir mean that there is
// none, or that it is found by its containers.
type Compose struct {
	Project    string   `yaml:"project"`
	Dir        string   `yaml:"dir"`
	Files      []string `yaml:"files"`
	EnvFile    string   `yaml:"env_file"`
	DockerHost string   `yaml:"docker_host"`
}

// Report says who is told of a run.
type Report struct {
	APIBaseURL  string        `yaml:"api_base_url"`
	APIMetrics  string        `yaml:"api_metrics"` // auto, on or off
	Webhook     secret.Value  `yaml:"webhook"`
	TextfileDir string        `yaml:"textfile_dir"`
	Pushgateway secret.Value  `yaml:"pushgateway"` // may hold user:password@
	Timeout     time.Duration `yaml:"timeout"`     // of each destination
}

// State is where run records and locks are kept.
type State struct {
	Dir string `yaml:"dir"` // empty: see Loaded.StateDir
}

// Certs are the certificates that are watched and renewed.
type Certs struct {
	Domain       string        `yaml:"domain"`
	Hosts        []string      `yaml:"hosts"`   // HOST[:PORT] that are checked besides
	Address      []string      `yaml:"address"` // ADDRESS[:PORT] to connect to, in place of the domain's own
	CA           string        `yaml:"ca"`      // roots besides the system's, PEM
	Via          string        `yaml:"via"`     // how certbot is run: auto, container or host
	Service      string        `yaml:"service"` // compose service of certbot
	NginxService string        `yaml:"nginx_service"`
	Dir          string        `yaml:"dir"`     // certbot's, where certbot runs
	Timeout      time.Duration `yaml:"timeout"` // of certbot
	WarnDays     int           `yaml:"warn_days"`
	CriticalDays int           `yaml:"critical_days"` // 0 of both: by the lifetime
	Webhook      secret.Value  `yaml:"webhook"`       // empty: report.webhook
}

// Perf says what the performance analysis looks at.
type Perf struct {
	Sources  []string `yaml:"sources"`  // empty: all
	URLs     []string `yaml:"urls"`     // to measure; empty: /health of report.api_base_url
	Requests int      `yaml:"requests"` // to each of them
	Disks    []string `yaml:"disks"`    // besides those of the platform's own directories
	Indexer  string   `yaml:"indexer"`  // compose service whose memory the runbook limits
}

// Redis is the platform's cache.
type Redis struct {
	URL     secret.Value `yaml:"url"`
	Via     string       `yaml:"via"`     // auto, host or container
	Service string       `yaml:"service"` // compose service
}

// Horizon is the Stellar network's API.
type Horizon struct {
	URL string `yaml:"url"`
}

// Indexer is the platform's indexer; its address is Report.APIBaseURL.
type Indexer struct {
	EventsTable  string `yaml:"events_table"`
	EventsColumn string `yaml:"events_column"` // a row's time
}

// API is the platform's API gateway.
type API struct {
	URL string `yaml:"url"` // off: it is not checked
}

// Keys says how the rotation of the API's keys is proven.
type Keys struct {
	Service   string        `yaml:"service"`    // compose service that reads API_KEYS and ADMIN_KEYS
	APIPath   string        `yaml:"api_path"`   // below api.url: needs an API key
	AdminPath string        `yaml:"admin_path"` // below api.url: needs an admin key
	Header    string        `yaml:"header"`     // how a key is sent; {key} stands for it
	Timeout   time.Duration `yaml:"timeout"`    // until a service is ready again
}

// Journal is the change management log.
type Journal struct {
	Mirror bool `yaml:"mirror"` // each entry also goes to the bucket
}

// Incident says where the post-incident reviews are.
type Incident struct {
	Dir string `yaml:"dir"` // empty: reviews in the state directory
}

// AgeRecipients returns the parsed recipients; none without encryption.
func (b Backup) AgeRecipients() ([]age.Recipient, error) {
	if len(b.Recipients) == 0 {
		return nil, nil
	}
	recipients, err := age.ParseRecipients(strings.NewReader(strings.Join(b.Recipients, "\n")))
	if err != nil {
		return nil, fmt.Errorf("backup.recipients: %w", err)
	}
	return recipients, nil
}

// Size is a number of bytes.
type Size int64

// Powers of 1024.
const (
	KiB Size = 1 << (10 * (iota + 1))
	MiB
	GiB
	TiB
)

// String writes the size with the largest unit that leaves a whole number.
func (s Size) String() string {
	for _, u := range []struct {
		unit Size
		name string
	}{{TiB, "TiB"}, {GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		if s != 0 && s%u.unit == 0 {
			return strconv.FormatInt(int64(s/u.unit), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// MarshalText writes the size as the file has it.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
