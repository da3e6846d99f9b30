package perf

import "time"

// SnapshotVersion is the version of a snapshot's form. A snapshot of another
// version is not compared with.
const SnapshotVersion = 1

// Snapshot is what the sources said at one time. Counters are as the servers
// have them, since their last reset.
type Snapshot struct {
	SchemaVersion int         `json:"schema_version"`
	TakenAt       time.Time   `json:"taken_at"`
	Sources       []Source    `json:"sources"`
	Database      *Database   `json:"database,omitempty"`
	API           *API        `json:"api,omitempty"`
	Endpoints     []Endpoint  `json:"endpoints,omitempty"`
	Containers    []Container `json:"containers,omitempty"`
	Redis         *Redis      `json:"redis,omitempty"`
	Disks         []Disk      `json:"disks,omitempty"`
}

// The states of a source.
const (
	Read    = "read"    // all that was asked for
	Partial = "partial" // some of it
	Failed  = "failed"
	Skipped = "skipped" // not asked for, or not configured
)

// The sources.
const (
	SourceDatabase   = "database"
	SourceStatements = "statements"
	SourceAPI        = "api"
	SourceContainers = "containers"
	SourceRedis      = "redis"
	SourceDisk       = "disk"
)

// Source says how the reading of one source went.
type Source struct {
	Name    string  `json:"name"`
	State   string  `json:"state"`
	Reason  string  `json:"reason,omitempty"` // of what is missing
	Remedy  string  `json:"remedy,omitempty"`
	Seconds float64 `json:"took_seconds"`
	// Full says that the server had no connection left for us.
	Full bool `json:"full,omitempty"`
}

// Database is what PostgreSQL said.
type Database struct {
	Address     string            `json:"address"` // host:port/database, no secrets
	Server      Server            `json:"server"`
	Settings    map[string]string `json:"settings,omitempty"` // sizes in bytes, times in milliseconds
	Sessions    []Session         `json:"sessions,omitempty"` // without ours
	Statements  *Statements       `json:"statements,omitempty"`
	Tables      []Table           `json:"tables,omitempty"`
	Columns     []Column          `json:"-"` // of the larger tables; not kept
	Indexes     []Index           `json:"indexes,omitempty"`
	ForeignKeys []ForeignKey      `json:"foreign_keys,omitempty"`
	// MemoryBytes is that of the machine or container that the server runs in; 0
	// if that is not known.
	MemoryBytes int64 `json:"memory_bytes,omitempty"`
	Cost        Cost  `json:"cost"`
}

// Cost is what the analysis cost the database.
type Cost struct {
	Queries  int     `json:"queries"`
	Seconds  float64 `json:"seconds"` // from sending to the last byte, summed
	Bytes    int64   `json:"bytes"`   // of the answers
	Slowest  string  `json:"slowest,omitempty"`
	SlowestS float64 `json:"slowest_seconds,omitempty"`
}

// Server is the server and the database as a whole.
type Server struct {
	VersionNum int       `json:"version_num"` // 150008
	Version    string    `json:"version"`
	Database   string    `json:"database"`
	OID        int64     `json:"database_oid"`
	Role       string    `json:"role"`
	Superuser  bool      `json:"superuser"`
	SeesAll    bool      `json:"sees_all"` // pg_read_all_stats
	Standby    bool      `json:"standby"`
	At         time.Time `json:"at"` // by the server's clock
	StartedAt  time.Time `json:"started_at"`
	StatsReset time.Time `json:"stats_reset,omitzero"` // of the database's counters
	SizeBytes  int64     `json:"size_bytes"`
	WALBytes   int64     `json:"wal_position_bytes"` // bytes of WAL written since the cluster began

	XIDAge       int64 `json:"xid_age"`
	MultixactAge int64 `json:"multixact_age"`

	Commits    int64 `json:"commits"`
	Rollbacks  int64 `json:"rollbacks"`
	BlocksRead int64 `json:"blocks_read"`
	BlocksHit  int64 `json:"blocks_hit"`
	TempFiles  int64 `json:"temp_files"`
	TempBytes  int64 `json:"temp_bytes"`
	Deadlocks  int64 `json:"deadlocks"`

	CheckpointsTimed     int64     `json:"checkpoints_timed"`
	CheckpointsRequested int64     `json:"checkpoints_requested"`
	CheckpointsReset     time.Time `json:"checkpoints_reset,omitzero"`
}

// Session is one client's session.
type Session struct {
	PID            int      `json:"pid"`
	User           string   `json:"user,omitempty"`
	Database       string   `json:"database,omitempty"`
	Application    string   `json:"application,omitempty"`
	Client         string   `json:"client,omitempty"`
	State          string   `json:"state,omitempty"` // empty where we may not see it
	WaitType       string   `json:"wait_type,omitempty"`
	WaitEvent      string   `json:"wait_event,omitempty"`
	XactSeconds    *float64 `json:"transaction_seconds,omitempty"`
	StateSeconds   *float64 `json:"state_seconds,omitempty"`
	QuerySeconds   *float64 `json:"query_seconds,omitempty"`
	BlockedBy      []int    `json:"blocked_by,omitempty"`
	Query          string   `json:"query,omitempty"` // normalised
	SuperuserLogin bool     `json:"superuser,omitempty"`
}

// Statements is what pg_stat_statements has of this database.
type Statements struct {
	Version   string      `json:"extension_version"`
	Reset     time.Time   `json:"reset,omitzero"` // known since version 1.9
	Evicted   int64       `json:"evicted"`        // since version 1.9
	Hidden    int         `json:"hidden"`         // those whose text we may not see
	Max       int         `json:"max,omitempty"`
	Tracked   int         `json:"tracked"` // of all databases
	IOTimed   bool        `json:"io_timed"`
	List      []Statement `json:"list"`
	Forgotten int         `json:"left_out"` // utility statements and our own
	Outsiders []Outsider  `json:"left_out_roles,omitempty"`
}

// Outsider is a role that has no rights on any table of this database, such as
// that of a metrics exporter. Its statements are counted, not judged.
type Outsider struct {
	Name       string  `json:"name"` // empty for roles that are dropped
	Statements int     `json:"statements"`
	Total      float64 `json:"total_seconds"`
}

// Statement is the record of one normalised statement. Times are in
// milliseconds, as the server counts them.
type Statement struct {
	ID       int64     `json:"id,string"` // queryid: 64 bits, more than JSON's numbers hold
	User     string    `json:"user,omitempty"`
	Nested   bool      `json:"nested,omitempty"` // called from a function
	Calls    int64     `json:"calls"`
	TotalMS  float64   `json:"total_ms"`
	MaxMS    float64   `json:"max_ms,omitempty"`
	StddevMS float64   `json:"stddev_ms,omitempty"`
	Rows     int64     `json:"rows,omitempty"`
	Hit      int64     `json:"blocks_hit,omitempty"`
	Read     int64     `json:"blocks_read,omitempty"`
	Temp     int64     `json:"blocks_temp,omitempty"` // read and written
	IOMS     float64   `json:"io_ms,omitempty"`       // 0 without track_io_timing
	Since    time.Time `json:"since,omitzero"`        // since version 1.11
	Text     string    `json:"text,omitempty"`
}

// Table is a table or materialised view.
type Table struct {
	OID        int64      `json:"oid"`
	Schema     string     `json:"schema"`
	Name       string     `json:"name"`
	Pages      int64      `json:"pages"` // as of the last vacuum or analyze
	Rows       float64    `json:"rows"`  // the same; -1 if never counted
	LiveRows   int64      `json:"live_rows"`
	DeadRows   int64      `json:"dead_rows"`
	Modified   int64      `json:"modified_since_analyze"`
	HeapBytes  int64      `json:"heap_bytes"`
	TotalBytes int64      `json:"total_bytes"` // with indexes and TOAST
	Estimated  bool       `json:"size_estimated,omitempty"`
	SeqScans   int64      `json:"seq_scans"`
	SeqRows    int64      `json:"seq_rows"`
	IndexScans int64      `json:"index_scans"`
	Inserted   int64      `json:"inserted"`
	Updated    int64      `json:"updated"`
	Deleted    int64      `json:"deleted"`
	HotUpdated int64      `json:"hot_updated"`
	Vacuumed   *time.Time `json:"last_vacuum,omitempty"` // by hand or autovacuum, the later
	Analyzed   *time.Time `json:"last_analyze,omitempty"`
	XIDAge     int64      `json:"xid_age"`
	FillFactor int        `json:"fillfactor"`
	NoVacuum   bool       `json:"autovacuum_off,omitempty"`
	// VacuumAt is the number of dead rows at which autovacuum comes.
	VacuumAt float64 `json:"autovacuum_threshold"`
	// BloatBytes is an estimate; nil where there is nothing to estimate from.
	BloatBytes *int64 `json:"bloat_bytes,omitempty"`
}

// Column is a column of a table with the statistics that ANALYZE made.
type Column struct {
	Table     int64    `json:"table_oid"`
	Number    int      `json:"number"`
	Name      string   `json:"name"`
	Length    int      `json:"length"` // -1 variable, -2 C string
	Align     string   `json:"align"`  // c, s, i or d
	Width     *float64 `json:"width"`  // average in bytes, without statistics nil
	NullShare *float64 `json:"null_share"`
	Distinct  *float64 `json:"distinct"` // negative: as a share of the rows
}

// Index is one index.
type Index struct {
	OID         int64    `json:"oid"`
	Table       int64    `json:"table_oid"`
	Schema      string   `json:"schema"`
	TableName   string   `json:"table"`
	Name        string   `json:"name"`
	Method      string   `json:"method"`
	Unique      bool     `json:"unique,omitempty"`
	Primary     bool     `json:"primary,omitempty"`
	Exclusion   bool     `json:"exclusion,omitempty"`
	Identity    bool     `json:"replica_identity,omitempty"`
	Invalid     bool     `json:"invalid,omitempty"`
	Building    bool     `json:"building,omitempty"` // being built right now
	Constraint  string   `json:"constraint,omitempty"`
	KeyCount    int      `json:"key_count"` // columns after it are only included
	Keys        []int    `json:"keys"`      // attribute numbers; 0 for an expression
	Columns     []string `json:"columns"`
	Classes     string   `json:"classes"` // operator classes, collations, order
	Collations  string   `json:"collations"`
	Options     string   `json:"options"`
	Predicate   string   `json:"predicate,omitempty"`
	Expressions string   `json:"expressions,omitempty"`
	Bytes       int64    `json:"bytes"`
	Pages       int64    `json:"pages"`
	Rows        float64  `json:"rows"`
	FillFactor  int      `json:"fillfactor"`
	Scans       int64    `json:"scans"`
	BloatBytes  *int64   `json:"bloat_bytes,omitempty"`
}

// ForeignKey is a foreign key.
type ForeignKey struct {
	Name       string   `json:"name"`
	Table      int64    `json:"table_oid"`
	Schema     string   `json:"schema"`
	TableName  string   `json:"table"`
	Keys       []int    `json:"keys"`
	Columns    []string `json:"columns"`
	References string   `json:"references"`
	Parent     int64    `json:"references_oid"`
}

// API is what /health/metrics said.
type API struct {
	URL               string   `json:"url"`
	RequestsTotal     int64    `json:"requests_total"`
	RequestsPerMinute float64  `json:"requests_per_minute"`
	AvgMS             float64  `json:"avg_response_ms"`
	P95MS             float64  `json:"p95_response_ms"`
	ErrorRate         float64  `json:"error_ratio"`
	UptimeSeconds     float64  `json:"uptime_seconds"`
	Missing           []string `json:"missing,omitempty"` // keys that the answer lacks
}

// Endpoint is what was measured from here on one URL.
type Endpoint struct {
	URL      string         `json:"url"`
	Requests int            `json:"requests"`
	Failed   int            `json:"failed"` // no answer
	Errors   int            `json:"errors"` // status 500 and above
	Statuses map[string]int `json:"statuses,omitempty"`
	Problem  string         `json:"problem,omitempty"` // the last failure
	DNS      Quantiles      `json:"dns_seconds"`
	Connect  Quantiles      `json:"connect_seconds"`
	TLS      Quantiles      `json:"tls_seconds"`
	TTFB     Quantiles      `json:"ttfb_seconds"`              // from the start of the request, all of the above included
	Samples  []float64      `json:"samples_seconds,omitempty"` // time to first byte of each, sorted
}

// Quantiles of some measurements; all 0 without any.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

// Container is a running container of the compose project.
type Container struct {
	Name         string    `json:"name"`
	Service      string    `json:"service"`
	ID           string    `json:"id"`
	CPUShare     float64   `json:"cpu_ratio"` // 1 is one whole core
	MemoryBytes  int64     `json:"memory_bytes"`
	LimitBytes   int64     `json:"memory_limit_bytes,omitempty"` // 0: none
	CPULimit     float64   `json:"cpu_limit,omitempty"`          // cores; 0: none
	Periods      int64     `json:"cpu_periods,omitempty"`
	Throttled    int64     `json:"cpu_throttled_periods,omitempty"`
	ThrottledSec float64   `json:"cpu_throttled_seconds,omitempty"`
	OOMKilled    bool      `json:"oom_killed,omitempty"`
	LimitHits    int64     `json:"memory_limit_hits,omitempty"`
	Restarts     int       `json:"restarts,omitempty"`
	StartedAt    time.Time `json:"started_at,omitzero"`
	PIDs         int64     `json:"pids,omitempty"`
	State        string    `json:"state,omitempty"`
}

// Redis is what INFO, SLOWLOG and SCAN said.
type Redis struct {
	Address       string     `json:"address"`
	Version       string     `json:"version"`
	RunID         string     `json:"run_id"`
	Uptime        float64    `json:"uptime_seconds"`
	Hits          int64      `json:"hits"`
	Misses        int64      `json:"misses"`
	Evicted       int64      `json:"evicted"`
	Expired       int64      `json:"expired"`
	UsedBytes     int64      `json:"used_bytes"`
	RSSBytes      int64      `json:"rss_bytes"`
	MaxBytes      int64      `json:"max_bytes"` // 0: no limit
	Policy        string     `json:"policy,omitempty"`
	Fragmentation float64    `json:"fragmentation_ratio"`
	Clients       int64      `json:"clients"`
	Blocked       int64      `json:"blocked_clients"`
	Rejected      int64      `json:"rejected_connections"`
	Keys          int64      `json:"keys"`
	Slow          []SlowCall `json:"slow,omitempty"`
	Biggest       []Key      `json:"biggest_keys,omitempty"`
	Scanned       int64      `json:"scanned_keys,omitempty"`
}

// SlowCall is an entry of the slow log, without arguments: they hold data.
type SlowCall struct {
	At      time.Time `json:"at"`
	Seconds float64   `json:"seconds"`
	Command string    `json:"command"`
}

// Key is a key with the memory that it takes.
type Key struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Bytes int64  `json:"bytes"`
}

// Disk is a filesystem.
type Disk struct {
	Path        string  `json:"path"`
	For         string  `json:"for"` // what lies there
	TotalBytes  uint64  `json:"total_bytes"`
	FreeBytes   uint64  `json:"free_bytes"`
	Used        float64 `json:"used_ratio"`
	InodesTotal uint64  `json:"inodes_total,omitempty"`
	InodesUsed  float64 `json:"inodes_used_ratio,omitempty"`
}
