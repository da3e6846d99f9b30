package perf

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// ReportVersion is the version of the report's JSON (docs/perf.schema.json).
const ReportVersion = 1

// Report is what an analysis found.
type Report struct {
	SchemaVersion int          `json:"schema_version"`
	TakenAt       time.Time    `json:"taken_at"`
	Status        check.Status `json:"status"`
	// Since is when the snapshot that this one is compared with was taken; nil
	// without one.
	Since    *time.Time `json:"since,omitempty"`
	Interval float64    `json:"interval_seconds,omitempty"`
	Notes    []string   `json:"notes"`
	Findings []Finding  `json:"findings"`
	Sources  []Source   `json:"sources"`

	Database   *DatabaseReport   `json:"database,omitempty"`
	Queries    *Queries          `json:"queries,omitempty"`
	Tables     []TableReport     `json:"tables,omitempty"`
	Indexes    []IndexReport     `json:"indexes,omitempty"`
	API        *API              `json:"api,omitempty"`
	Endpoints  []Endpoint        `json:"endpoints,omitempty"`
	Containers []ContainerReport `json:"containers,omitempty"`
	Redis      *RedisReport      `json:"redis,omitempty"`
	Disks      []Disk            `json:"disks,omitempty"`
	Plans      []Plan            `json:"plans,omitempty"` // of the top statements, where asked for

	TookSeconds float64 `json:"took_seconds"`
	Cost        *Cost   `json:"database_cost,omitempty"`
}

// Whole says whether every source that was asked for could be read. Findings are
// what an analysis is for, and no failure of it.
func (r *Report) Whole() bool {
	return !slices.ContainsFunc(r.Sources, func(s Source) bool { return s.State == Failed || s.State == Partial })
}

// Finding is one thing that is not as it should be.
type Finding struct {
	check.Result
	// Object is what it is about: a table, an index, a query's ID, a URL.
	Object string `json:"object,omitempty"`
	// SQL is what could be run. Nothing of it is ever run by the analysis.
	SQL []string `json:"sql,omitempty"`

	first  bool    // what changed since the last analysis comes first
	weight float64 // among those of one status
}

// DatabaseReport is the server's part.
type DatabaseReport struct {
	Address          string   `json:"address"`
	Version          string   `json:"version"`
	Database         string   `json:"database"`
	SizeBytes        int64    `json:"size_bytes"`
	GrowthBytes      *int64   `json:"growth_bytes,omitempty"`
	Connections      int      `json:"connections"` // without ours
	MaxConnections   int64    `json:"max_connections"`
	Idle             int      `json:"idle_in_transaction"`
	Waiting          int      `json:"waiting_for_lock"`
	CacheHit         *float64 `json:"cache_hit_ratio,omitempty"`
	CacheHitTotal    *float64 `json:"cache_hit_total_ratio,omitempty"`
	TransactionsRate *float64 `json:"transactions_per_second,omitempty"`
	WALRate          *float64 `json:"wal_bytes_per_second,omitempty"`
	TempBytes        *int64   `json:"temp_bytes,omitempty"`
	Deadlocks        *int64   `json:"deadlocks,omitempty"`
	XIDShare         float64  `json:"xid_used_ratio"`
	UptimeSeconds    float64  `json:"uptime_seconds"`
}

// ShortVersion is the server's version without the packager's own.
func (r *DatabaseReport) ShortVersion() string {
	version, _, _ := strings.Cut(r.Version, " (")
	return version
}

// Figures are those of a statement over some time.
type Figures struct {
	Calls  int64   `json:"calls"`
	Mean   float64 `json:"mean_seconds"`
	Total  float64 `json:"total_seconds"`
	Rows   int64   `json:"rows"`
	Hit    int64   `json:"blocks_hit"`
	Read   int64   `json:"blocks_read"`
	Temp   int64   `json:"blocks_temp"`
	IO     float64 `json:"io_seconds"`
	TimeOf float64 `json:"time_ratio"` // of all statements together
}

// Query is a statement in the report.
type Query struct {
	ID   string `json:"id"`
	User string `json:"user,omitempty"`
	Text string `json:"text"`
	// Judged are the figures since the last analysis, or without one those since
	// the last reset.
	Judged Figures `json:"since_last"`
	Total  Figures `json:"cumulative"`
	// Before is the mean up to the last analysis, and Factor how much that since
	// then is of it; nil where there is nothing to compare.
	Before *float64 `json:"before_mean_seconds,omitempty"`
	Factor *float64 `json:"factor,omitempty"`
	New    bool     `json:"new,omitempty"`
	Nested bool     `json:"nested,omitempty"`

	// basis is what findings go by: Judged, unless that is too little, and too
	// short a time, to judge.
	basis Figures
}

// Queries are the top statements in several orders.
type Queries struct {
	Extension string  `json:"extension_version"`
	Compared  bool    `json:"compared"` // since_last is an interval
	Tracked   int     `json:"tracked"`
	Evicted   int64   `json:"evicted"`
	Regressed []Query `json:"regressed"`
	New       []Query `json:"new"`
	ByMean    []Query `json:"by_mean"`
	ByTotal   []Query `json:"by_total"`
	ByCalls   []Query `json:"by_calls"`
	ByIO      []Query `json:"by_io"`
	// Outsiders are the roles whose statements are left out.
	Outsiders []Outsider `json:"left_out_roles,omitempty"`

	// top are those that got slower, that are slowest, and that take most time, by
	// what findings go by; some more than once.
	top []Query
}

// TableReport is a table in the report.
type TableReport struct {
	Name        string     `json:"name"`
	Rows        int64      `json:"rows"`
	DeadRows    int64      `json:"dead_rows"`
	HeapBytes   int64      `json:"heap_bytes"`
	TotalBytes  int64      `json:"total_bytes"`
	GrowthBytes *int64     `json:"growth_bytes,omitempty"`
	BloatBytes  *int64     `json:"bloat_bytes,omitempty"`
	SeqScans    int64      `json:"seq_scans"`   // since the last analysis
	SeqRows     int64      `json:"seq_rows"`    // the same
	IndexScans  int64      `json:"index_scans"` // the same
	Vacuumed    *time.Time `json:"last_vacuum,omitempty"`
	Analyzed    *time.Time `json:"last_analyze,omitempty"`
	XIDAge      int64      `json:"xid_age"`
}

// IndexReport is an index in the report.
type IndexReport struct {
	Name       string   `json:"name"`
	Table      string   `json:"table"`
	Columns    []string `json:"columns"`
	Bytes      int64    `json:"bytes"`
	Scans      int64    `json:"scans"` // since the last reset
	BloatBytes *int64   `json:"bloat_bytes,omitempty"`
	Unique     bool     `json:"unique,omitempty"`
	Invalid    bool     `json:"invalid,omitempty"`
}

// ContainerReport is a container in the report.
type ContainerReport struct {
	Name        string  `json:"name"`
	Service     string  `json:"service"`
	CPUShare    float64 `json:"cpu_ratio"`
	MemoryBytes int64   `json:"memory_bytes"`
	LimitBytes  int64   `json:"memory_limit_bytes,omitempty"`
	CPULimit    float64 `json:"cpu_limit_cores,omitempty"`
	Throttled   float64 `json:"throttled_ratio"` // of the periods since the last analysis
	OOMKilled   bool    `json:"oom_killed"`
	Restarts    int     `json:"restarts"`
}

// RedisReport is Redis in the report.
type RedisReport struct {
	Redis
	HitRate      *float64 `json:"hit_ratio,omitempty"` // since the last analysis
	HitRateTotal *float64 `json:"hit_total_ratio,omitempty"`
	Lookups      int64    `json:"lookups"`
	EvictedSince int64    `json:"evicted_since_last"`
}

// rank orders the findings: the gravest first, of those what changed since the
// last analysis, then by kind, then by weight.
func rank(findings []Finding) {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		if c := cmp.Compare(b.Status, a.Status); c != 0 {
			return c
		}
		if a.first != b.first {
			if a.first {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.kind(), b.kind()), cmp.Compare(b.weight, a.weight), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Object, b.Object))
	})
}

// kind is the place of a finding's kind: what hurts now comes before what costs
// a little all the time.
func (f Finding) kind() int {
	word, _, _ := strings.Cut(f.ID, ".")
	at := slices.Index([]string{"server", "source", "session", "query", "endpoint", "api", "disk", "container", "redis", "setting", "table", "index"}, word)
	return at
}

// judge holds a value against a row of the runbook, with its limits as they are
// configured.
func (a *analysis) judge(id string, value float64) (check.Status, runbook.Threshold) {
	limit, ok := a.opt.Threshold(id)
	if !ok {
		return check.Unknown, limit
	}
	level, ok := limit.Judge(value)
	switch {
	case !ok:
		return check.Unknown, limit
	case level == runbook.Critical:
		return check.Critical, limit
	case level == runbook.Warning:
		return check.Warning, limit
	}
	return check.OK, limit
}

func figure(name string, value float64, limit runbook.Threshold) check.Figure {
	return check.Figure{Name: name, Unit: limit.Unit, Value: value, Warning: &limit.Warning, Critical: &limit.Critical}
}
