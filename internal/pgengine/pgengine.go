// Package pgengine starts throwaway PostgreSQL servers that nobody else can
// reach, for restoring a backup into and then forgetting it. Its two ways are in
// docker (a container without a network) and local (the host's own PostgreSQL
// on a unix socket in a temporary directory).
//
// A server goes with whoever started it: at Close; when the process dies, by
// itself; and what is left even so, by the next Reap.
package pgengine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stellarescrow/escrowctl/internal/postgres"
)

// The address and role of every server, as seen from where it runs.
const (
	Port = 5432
	User = "postgres" // superuser
)

// What callers choose by; the errors say more.
var (
	// ErrNoEngine: there is nothing to start a server with.
	ErrNoEngine = errors.New("no engine to restore with")
	// ErrNoImage: the image is not there and cannot be had.
	ErrNoImage = errors.New("the image cannot be had")
)

// Storage says where the server's data lie.
type Storage string

// The kinds of storage.
const (
	Auto   Storage = "auto"   // in memory if there is plenty of it
	Memory Storage = "memory" // gone with the server, even on a power cut
	Disk   Storage = "disk"
)

// Spec is the server that is wanted.
type Spec struct {
	Run string // names what is made; letters, digits and dashes
	// Owner identifies the process that the server goes with, for Reap.
	Owner   string
	Expires time.Time // from when anybody may remove it
	Keep    bool      // it stays after Close and after this process, until it expires
	Major   int       // PostgreSQL's major version, 0 for any
	Image   string    // of engine docker; "" is postgres:MAJOR
	SQL     int64     // bytes of SQL to be loaded, 0 if unknown
	Storage Storage
	Memory  int64   // limit in bytes; 0 is by what there is
	CPUs    float64 // limit; 0 is all
	Log     func(format string, args ...any)
	Pull    func(done, total int64) // bytes of an image being fetched
}

// Info is what a started server is.
type Info struct {
	Engine  string  // docker or local
	Name    string  // of the container or directory
	Image   string  // of engine docker
	Storage Storage // Memory or Disk
	Memory  int64   // limit in bytes, 0 for none
}

// Instance is a running server.
type Instance interface {
	Info() Info
	// Connect opens a session as superuser.
	Connect(ctx context.Context, database string) (*pgconn.PgConn, error)
	// Psql is the command line by which a person connects.
	Psql(database string) string
	// Died says why the server is gone, "" while it lives.
	Died() string
	// Close removes everything, unless the server is kept. It may be called
	// again, and with a context that is over.
	Close(ctx context.Context) error
}

// Setting is one of the server's own.
type Setting struct{ Name, Value string }

// Settings are those of a server that nobody will keep and that loads as fast as
// it can (FACTS: a restore in 23 s instead of 37), with memory in bytes for its
// use and the number of processors.
func Settings(memory int64, cpus int) []Setting {
	const mib = 1 << 20
	megabytes := func(share, low, high int64) string {
		return strconv.FormatInt(min(max(memory/share/mib, low), high), 10) + "MB"
	}
	workers := strconv.Itoa(max(cpus, 1))
	// With as many connections as processors, each building an index, workers
	// only help where an index is left to be built alone.
	builders := strconv.Itoa(cpus / 4)
	return []Setting{
		{"fsync", "off"}, {"full_page_writes", "off"}, {"synchronous_commit", "off"},
		// With both, what is loaded in the transaction that made or emptied its
		// table needs no WAL.
		{"wal_level", "minimal"}, {"max_wal_senders", "0"},
		// What writes WAL all the same, a table loaded by several connections, must
		// fit beside the data in Footprint.
		{"max_wal_size", "1GB"}, {"wal_init_zero", "off"}, {"wal_recycle", "off"}, {"checkpoint_warning", "0"},
		{"checkpoint_timeout", "1d"}, {"wal_buffers", "16MB"},
		{"autovacuum", "off"}, {"bgwriter_lru_maxpages", "0"},
		// Rows and btrees are written past it, and each page of it costs every
		// process a fault: the kernel's cache is the larger one's better place.
		{"shared_buffers", megabytes(16, 32, 128)},
		// Sorts of rows that fit the processor's cache, and their merge from files in
		// memory, cost less than one sort of them all (docs/decisions/0010).
		{"maintenance_work_mem", "8MB"},
		{"work_mem", megabytes(64, 4, 64)},
		{"max_connections", "50"},
		{"max_worker_processes", "16"}, {"max_parallel_workers", workers},
		{"max_parallel_workers_per_gather", workers}, {"max_parallel_maintenance_workers", builders},
		{"jit", "off"}, {"track_activities", "on"}, {"update_process_title", "off"}, {"lc_messages", "C"}, {"timezone", "UTC"}, {"log_timezone", "UTC"},
		{"logging_collector", "off"}, {"log_destination", "stderr"},
		// The log must hold no data of the backup: no failed statements.
		{"log_min_messages", "log"}, {"log_min_error_statement", "panic"},
	}
}

// Environment is that of a server that loads as fast as it can: the memory in
// which indexes are sorted comes in huge pages, where the C library is glibc from
// 2.35 on. Others do not look at it.
func Environment() []string { return []string{"GLIBC_TUNABLES=glibc.malloc.hugetlb=1"} }

// Footprint is the room in bytes that a database takes which is loaded from so
// much SQL: rows, indexes, what is sorted for those that are being built, and
// what the server keeps besides. The database of the benchmark takes 1.5 times
// its SQL.
func Footprint(sql int64) int64 { return 2*sql + sql/4 + 512<<20 }

// Connect opens a session with a server through dial.
func Connect(ctx context.Context, host, database string, dial func(ctx context.Context, network, addr string) (net.Conn, error)) (*pgconn.PgConn, error) {
	t, err := postgres.Parse(fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable password=none connect_timeout=60", host, Port, User, quote(database)))
	if err != nil {
		return nil, err
	}
	if dial != nil {
		t = t.WithDial(dial)
	}
	conn, err := postgres.Connect(ctx, t, "escrowctl dr-test")
	if err != nil {
		return nil, err
	}
	return conn.PgConn(), nil
}

// quote writes a value for libpq's keyword form.
func quote(s string) string {
	out := []byte{'\''}
	for i := range len(s) {
		if s[i] == '\'' || s[i] == '\\' {
			out = append(out, '\\')
		}
		out = append(out, s[i])
	}
	return string(append(out, '\''))
}
