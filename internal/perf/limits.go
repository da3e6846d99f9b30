package perf

import (
	"time"

	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// Limits are the figures above which something is a finding. Those that the
// package runbook has (query mean, TTFB, hit rate, memory of indexer and Redis,
// disk, connections, error rate, transactions, wraparound) are not here; these
// are the others, chosen so that a healthy system has no finding at all.
type Limits struct {
	// MinCalls is how often a statement must have been called in the time judged
	// for its mean to mean something: the runbook's limit is for hot paths.
	MinCalls int64
	// RegressionFactor and RegressionFloor: a mean has become worse if it grew by
	// this factor and by at least so much.
	RegressionFactor float64
	RegressionFloor  time.Duration

	// A table is read sequentially too much if that happens so often, more than
	// so often a day (a nightly dump is one), and each time over so many rows.
	SeqScans, SeqScansPerDay, SeqRows float64
	// UnusedAfter is how old the counters must be, UnusedBytes how large an index
	// and UnusedReads how often its table must have been read, for the index's
	// never having been used to mean something.
	UnusedAfter              time.Duration
	UnusedBytes, UnusedReads int64
	// ForeignKeyRows is the size of a table from which a foreign key wants an index.
	ForeignKeyRows float64

	// BloatBytes and BloatShare must both be passed; beyond the second pair it
	// is critical.
	BloatBytes, BloatCriticalBytes int64
	BloatShare, BloatCriticalShare float64
	// DeadRows and DeadShare must both be passed, and the number at which
	// autovacuum comes.
	DeadRows  int64
	DeadShare float64

	IdleWarning, IdleCritical time.Duration // idle in transaction
	LockWarning, LockCritical time.Duration // waiting for a lock
	// CacheHit is judged once so many blocks have been asked for.
	CacheHit       float64
	CacheBlocks    int64
	TempPerHour    int64 // bytes
	DeadlocksDaily float64
	// ForcedCheckpoints is how many checkpoints that WAL forced there must be, and
	// more than those by time.
	ForcedCheckpoints int64

	RedisLookups   int64 // from which a hit rate means something
	Fragmentation  float64
	FragmentBytes  int64   // from which fragmentation matters
	MemoryOfLimit  float64 // of a container
	Throttled      float64 // share of the periods
	IndexerService string
}

// DefaultLimits returns the limits as documented in docs/perf.md.
func DefaultLimits() Limits {
	return Limits{
		MinCalls: 50, RegressionFactor: 2, RegressionFloor: time.Millisecond,
		SeqScans: 50, SeqScansPerDay: 24, SeqRows: 10_000,
		UnusedAfter: 7 * runbook.Day, UnusedBytes: 1 << 20, UnusedReads: 100, ForeignKeyRows: 10_000,
		BloatBytes: 10 << 20, BloatCriticalBytes: 1 << 30, BloatShare: 0.4, BloatCriticalShare: 0.6,
		DeadRows: 10_000, DeadShare: 0.3,
		IdleWarning: 5 * time.Minute, IdleCritical: time.Hour,
		LockWarning: 5 * time.Second, LockCritical: time.Minute,
		CacheHit: 0.95, CacheBlocks: 1_000_000, TempPerHour: 1 << 30, DeadlocksDaily: 5, ForcedCheckpoints: 10,
		RedisLookups: 1_000, Fragmentation: 1.5, FragmentBytes: 100 << 20,
		MemoryOfLimit: 0.9, Throttled: 0.25, IndexerService: "indexer",
	}
}
