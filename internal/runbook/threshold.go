package runbook

import (
	"fmt"
	"math"
)

// Level is what a threshold says of a value.
type Level uint8

// The levels, in order of weight.
const (
	Within Level = iota
	Warning
	Critical
)

// String returns within, warning or critical.
func (l Level) String() string {
	switch l {
	case Within:
		return "within"
	case Warning:
		return "warning"
	case Critical:
		return "critical"
	default:
		return fmt.Sprintf("level(%d)", uint8(l))
	}
}

// Threshold is a row of the table of thresholds (section 4.1), or a limit given
// elsewhere on the page.
type Threshold struct {
	// ID is stable over releases.
	ID    string `json:"id"`
	Title string `json:"title"`
	// Unit is seconds, bytes, ratio (0 to 1), days or count, of the value and of
	// both limits.
	Unit string `json:"unit"`
	// Below says that small values are the bad ones.
	Below bool `json:"below,omitempty"`
	// Warning and Critical are the limits; a value equal to a limit is still
	// good. Where the page gives one limit only, they are the same.
	Warning  float64 `json:"warning"`
	Critical float64 `json:"critical"`
	// Action is what the page demands at the critical level.
	Action  string `json:"action"`
	Section string `json:"section"`
}

// Judge says on which level value is. It is not ok for NaN, which is no value:
// what was not measured is not within the limits.
func (t Threshold) Judge(value float64) (level Level, ok bool) {
	if math.IsNaN(value) {
		return Within, false
	}
	past := func(limit float64) bool {
		if t.Below {
			return value < limit
		}
		return value > limit
	}
	switch {
	case past(t.Critical):
		return Critical, true
	case past(t.Warning):
		return Warning, true
	default:
		return Within, true
	}
}

// The IDs of the thresholds.
const (
	TTFB                = "ttfb"
	DBQueryMean         = "db_query_mean"
	RedisHitRate        = "redis_hit_rate"
	IndexerMemory       = "indexer_memory"
	DiskUsage           = "disk_usage"
	PostgresConnections = "postgres_connections"
	IndexerLag          = "indexer_lag"
	CertificateLifetime = "certificate_lifetime"
	APIErrorRate        = "api_error_rate"
	DBTransaction       = "db_transaction"
	DBSlotWAL           = "db_slot_wal"
	DBWraparound        = "db_wraparound"
	RedisMemory         = "redis_memory"
	ClockOffset         = "clock_offset"
)

// Thresholds returns the limits of section 4.1, and those of sections 3.1 and
// 5.2 that are limits too. The page's 8 and 9 of 10 PostgreSQL connections are
// given as shares of max_connections, so that they hold for any maximum; its MB
// are 10^6 bytes.
func Thresholds() []Threshold {
	const mb = 1e6
	return []Threshold{
		{ID: TTFB, Title: "TTFB", Unit: "seconds", Warning: 0.4, Critical: 0.8,
			Action: "scale or optimize", Section: "4.1"},
		{ID: DBQueryMean, Title: "DB query mean (hot paths)", Unit: "seconds", Warning: 0.02, Critical: 0.05,
			Action: "add index or optimize query", Section: "4.1"},
		{ID: RedisHitRate, Title: "Redis hit rate", Unit: "ratio", Below: true, Warning: 0.70, Critical: 0.60,
			Action: "review TTL config or memory", Section: "4.1"},
		{ID: IndexerMemory, Title: "Indexer memory", Unit: "bytes", Warning: 200 * mb, Critical: 400 * mb,
			Action: "investigate leak, restart if needed", Section: "4.1"},
		{ID: DiskUsage, Title: "Disk usage", Unit: "ratio", Warning: 0.70, Critical: 0.85,
			Action: "expand disk or prune volumes", Section: "4.1"},
		{ID: PostgresConnections, Title: "PostgreSQL connections", Unit: "ratio", Warning: 0.8, Critical: 0.9,
			Action: "increase max_connections or scale", Section: "4.1"},
		{ID: IndexerLag, Title: "Indexer lag", Unit: "seconds", Warning: 300, Critical: 300,
			Action: "follow RB-002", Section: "5.2"},
		{ID: CertificateLifetime, Title: "TLS certificate lifetime left", Unit: "days", Below: true, Warning: CertDueDays, Critical: CertAlertDays,
			Action: "renew the certificate, follow RB-004", Section: "3.1 and 5.2"},
		// The page gives no limits for the following.
		//
		// A hundredth is the whole error budget of a service that promises 99 %.
		{ID: APIErrorRate, Title: "API error rate", Unit: "ratio", Warning: 0.01, Critical: 0.05,
			Action: "follow RB-003", Section: NoSection},
		// The platform's transactions take milliseconds; one that stays open keeps
		// VACUUM from its work and may hold locks.
		{ID: DBTransaction, Title: "Longest transaction", Unit: "seconds", Warning: 900, Critical: 3600,
			Action: "end the session, or find out what it waits for", Section: NoSection},
		// A server keeps max_wal_size, 1 GB by default, in any case.
		{ID: DBSlotWAL, Title: "WAL kept for a replication slot", Unit: "bytes", Warning: 1000 * mb, Critical: 10000 * mb,
			Action: "bring the slot's consumer back, or drop the slot", Section: NoSection},
		// At 2^31 the server stops. AWS advises alarms at these ages for RDS; VACUUM
		// to prevent it begins at 200 million.
		{ID: DBWraparound, Title: "Oldest transaction ID", Unit: "count", Warning: 500e6, Critical: 1000e6,
			Action: "find out what holds VACUUM back, then VACUUM FREEZE", Section: NoSection},
		// Counts only where Redis may not evict: there writes fail when it is full.
		{ID: RedisMemory, Title: "Redis memory", Unit: "ratio", Warning: 0.80, Critical: 0.95,
			Action: "review TTL config or raise maxmemory", Section: NoSection},
		// Every age that is shown is wrong by as much, and S3 refuses requests from
		// 15 minutes on.
		{ID: ClockOffset, Title: "This host's clock", Unit: "seconds", Warning: 5, Critical: 60,
			Action: "let chrony or systemd-timesyncd set it", Section: NoSection},
	}
}

// NoSection is the section of what the runbook does not say.
const NoSection = "none"

// ThresholdFor returns the threshold with that ID.
func ThresholdFor(id string) (Threshold, bool) {
	for _, t := range Thresholds() {
		if t.ID == id {
			return t, true
		}
	}
	return Threshold{}, false
}
