// Package drtest proves that a backup would save us: it restores it into a
// throwaway server that nobody else can reach, and compares what came back with
// what was backed up.
//
// There are three verdicts. A backup fails where it was seen to be at fault. If
// the test could not be made (no engine, no memory, a bucket that does not
// answer), nothing is proven, which is never a pass.
package drtest

import (
	"context"
	"errors"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/pgengine"
	"github.com/stellarescrow/escrowctl/internal/schema"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
)

// Verdict is what a test came to.
type Verdict string

// The verdicts.
const (
	Pass     Verdict = "pass"
	Fail     Verdict = "fail"
	CouldNot Verdict = "could not verify"
)

// VerdictOf is the verdict that a status makes. A warning is a pass with
// something to look at.
func VerdictOf(s check.Status) Verdict {
	switch s {
	case check.OK, check.Warning:
		return Pass
	case check.Critical:
		return Fail
	default:
		return CouldNot
	}
}

// Engine starts servers.
type Engine interface {
	Name() string
	Start(ctx context.Context, s pgengine.Spec) (pgengine.Instance, error)
}

// Backup is the backup under test.
type Backup struct {
	Name     string
	Where    string    // the store it is read from
	Kind     string    // indexed, plain or unfinished
	Taken    time.Time // zero if nothing says
	Chosen   bool      // by a person: its age proves nothing
	Unfit    []string  // newer ones that are no backups to restore, each with why
	Size     int64     // bytes of the file
	Database string    // that was dumped, "" if nothing says
	Server   string    // version of the server that was dumped: "15.8 (Debian ...)"
	Roles    []byte    // SQL of the roles kept beside it, or nil
	Lacks    []string  // files that belong to it and are missing
	// Index is what an indexed backup is compared with; nil for a plain one.
	Index *sqldump.Index
	// Schema is that of the database when it was dumped; nil if nothing says.
	Schema *schema.Schema
	// Source opens the dump for loading.
	Source func(ctx context.Context) (Source, error)
	// Damage tells a fault of the backup from one of the way to it.
	Damage func(err error) bool
	// Fetched are the bytes read so far and the time that took, of all streams
	// together.
	Fetched func() (bytes int64, waited time.Duration)
}

// Source is a dump that is being read.
type Source struct {
	sqldump.Source
	// Rest reads a plain dump to its end after a load that broke off and returns
	// what is wrong with the file, if anything. nil for an indexed one.
	Rest  func(ctx context.Context) error
	Close func()
}

// Assertion is a query of one's own and what it must answer.
type Assertion struct {
	Name   string `json:"name"`
	Query  string `json:"query"`
	Expect string `json:"expect"` // a text, or a comparison such as "> 0"
}

// Options say what to test and against what.
type Options struct {
	Run        string // names what is made
	Owner      string // the process that the server goes with
	Open       func(ctx context.Context) (*Backup, error)
	Engine     Engine
	Spec       pgengine.Spec // Run, Owner, Expires, Keep, Major, SQL are filled in
	Keep       bool
	KeepFor    time.Duration
	Jobs       int           // connections that load at once; 0 is one a core
	Limit      time.Duration // of the whole test
	MinTables  int
	Tables     []string // in which there must be rows
	Database   string   // that must have been dumped; "" for any
	Assertions []Assertion
	Newest     string        // table.column of the newest row; "" for none
	RPO, RTO   time.Duration // 0 for none
	History    []Past        // earlier tests, newest first
	Now        func() time.Time
	Log        func(format string, args ...any)
	Stage      func(name string)
	Loading    func(rows, of int64) // of is 0 if unknown; called concurrently
}

// Stages is where the time went. Fetch and Decompress run beside the server's
// work and are sums over all streams: they are within Load.
type Stages struct {
	Open, Start, Fetch, Decompress, Load, Index, Verify time.Duration
}

// Rows compares one table.
type Rows struct {
	Table string
	Rows  int64 // counted in the restored database
	Want  int64 // in the dump
}

// Report is the outcome of a test.
type Report struct {
	Verdict  Verdict
	Status   check.Status
	Backup   Backup
	Instance *pgengine.Info // nil if none was started
	Server   string         // version of the restoring server
	Checks   []check.Result
	Notes    []string // what could not be compared, and what was made up for
	Rows     []Rows
	Total    int64 // rows restored
	Counts   map[string]int64
	Stages   Stages
	Restore  time.Duration // from the start of the server until the last index
	Duration time.Duration
	Fetched  int64     // bytes
	Psql     string    // how to connect to a server that was kept
	Reaped   time.Time // when a kept one will be removed
	Trend    *Trend
}

// errLimit is the cause of a context whose time is up.
var errLimit = errors.New("the time limit is reached")

// The IDs of the checks; those of the schema are in schema.go.
const (
	idRestore    = "restore"
	Integrity    = "integrity" // of the file
	idNewer      = "newer-backups"
	idComplete   = "complete"
	idDatabase   = "database"
	idServer     = "server"
	idMinTables  = "min-tables"
	idTables     = "tables"
	idRows       = "rows"
	idAssertions = "assertions"
	idBackupAge  = "rpo-backup-age"
	idNewestRow  = "rpo-newest-row"
	idRTO        = "rto"
	idTrend      = "rto-trend"
	idCleanup    = "cleanup"
)

func (r *Report) add(c check.Result) { r.Checks = append(r.Checks, c) }
