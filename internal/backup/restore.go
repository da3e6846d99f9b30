package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5/pgconn" //nolint:depguard // the connection type that sqlload takes
	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"github.com/stellarescrow/escrowctl/internal/sqlload"
	"github.com/stellarescrow/escrowctl/internal/store"
)

// Connector connects to a database of the target server by name.
type Connector func(ctx context.Context, database string) (*pgconn.PgConn, error)

// RestoreOptions say what to restore and where to.
type RestoreOptions struct {
	Store      store.Reader
	Name       string
	Naming     Naming
	Identities []age.Identity
	Connect    Connector
	Database   string   // target; made if it does not exist
	Tables     []string // only these, as SQL names them; nil for all
	Jobs       int
	Clean      bool // empty a database that is not
	Swap       bool // restore beside, then exchange the names
	Terminate  bool // with Swap: end the sessions of the old database
	NoRoles    bool // do not create missing roles
	Now        func() time.Time
	Log        func(format string, args ...any)
	Verified   func(*Report)           // is told the outcome of the check before
	Checking   func(done, total int64) // bytes; may be nil
	Loading    func(rows, of int64)    // may be nil; called concurrently
}

// Restored says what a restore did.
type Restored struct {
	Database string
	OldName  string // with Swap: what the old database is called now
	Rows     []TableRows
	Total    int64
	Fetched  int64 // bytes read from the store to load
	Spared   int64 // bytes of the dump that were not needed
	Created  []string
	Warnings []string // what the restored database lacks beside its contents
	Check    *Report
	Load     *sqlload.Result
	Duration time.Duration
	// SchemaObjects is how many objects the schema was found equal in; 0 if
	// there was nothing to compare it with.
	SchemaObjects int
}

// TableRows compares one table with the manifest.
type TableRows struct {
	Table string
	Rows  int64
	Want  int64 // -1 where nothing says
}

// Errors that callers choose by.
var (
	// ErrNotVerified: the backup failed its check, so the target was not touched.
	ErrNotVerified = errors.New("the backup failed its verification: the target was not touched")
	// ErrNotEmpty: the target holds tables.
	ErrNotEmpty = errors.New("the target database is not empty")
	// ErrRowsDiffer: the restored rows are not the manifest's.
	ErrRowsDiffer = errors.New("the restored rows are not the manifest's")
	// ErrNoTable: the backup has no such table.
	ErrNoTable = errors.New("the backup has no such table")
	// ErrInUse: sessions use the database to be exchanged.
	ErrInUse = errors.New("the database is in use")
)

// Restore verifies a backup, then loads it. Nothing on the target is touched
// before every byte has been found to be what was written, and the SQL around
// the rows to be whole; that the rows are as many as the manifest says, and their
// table's, is looked at while they are loaded.
func Restore(ctx context.Context, o RestoreOptions) (*Restored, error) {
	start := o.Now()
	r := &restore{RestoreOptions: o, res: &Restored{Database: o.Database}}
	if err := r.verify(ctx); err != nil {
		return r.res, err
	}
	if err := r.load(ctx); err != nil {
		return r.res, err
	}
	err := r.count()
	if err == nil {
		err = r.compareSchema(ctx)
	}
	if err == nil && o.Swap {
		err = r.exchange(ctx)
	}
	r.res.Duration = o.Now().Sub(start)
	return r.res, err
}

type restore struct {
	RestoreOptions
	res      *Restored
	opened   *Opened
	manifest *Manifest // nil for a plain backup
	rowsOnly bool
	target   string // the database loaded into
	fetched  atomic.Int64
}

func (r *restore) verify(ctx context.Context) error {
	rep, err := Verify(ctx, VerifyOptions{Store: r.Store, Name: r.Name, Identities: r.Identities, BytesOnly: true, Jobs: r.Jobs, Now: r.Now, Progress: r.Checking})
	if err != nil {
		return err
	}
	r.res.Check = rep
	if r.Verified != nil {
		r.Verified(rep)
	}
	whole := rep.Verdict == Pass || rep.Verdict == CouldNot && (rep.Kind == Unfinished || len(rep.Tables) == 0)
	if !whole {
		return fmt.Errorf("%w: %s", ErrNotVerified, explain(rep))
	}
	if r.opened, err = Open(ctx, r.Store, r.Name, r.Identities); err != nil {
		return err
	}
	r.manifest = r.opened.Manifest
	return r.checkTables(rep)
}

func explain(rep *Report) string {
	var all []string
	for _, f := range rep.Faults {
		all = append(all, f.Error())
	}
	return strings.Join(append(all, rep.Notes...), "; ")
}

// checkTables finds the tables asked for, before anything is done.
func (r *restore) checkTables(rep *Report) error {
	for i, want := range r.Tables {
		pattern, err := sqldump.ParseName(want)
		if err != nil {
			return err
		}
		at := slices.IndexFunc(rep.Tables, func(t sqldump.Table) bool {
			name, err := sqldump.ParseName(t.Table)
			return err == nil && name.Match(pattern)
		})
		if at < 0 {
			return fmt.Errorf("%w: %s: it has %s", ErrNoTable, want, tableList(rep.Tables))
		}
		r.Tables[i] = rep.Tables[at].Table
	}
	return nil
}

func tableList(tables []sqldump.Table) string {
	var names []string
	for i, t := range tables {
		if i == 10 {
			names = append(names, fmt.Sprintf("and %d more", len(tables)-i))
			break
		}
		names = append(names, t.Table)
	}
	return strings.Join(names, ", ")
}

func (r *restore) only() func(string) bool {
	if r.Tables == nil {
		return nil
	}
	return func(table string) bool { return slices.Contains(r.Tables, table) }
}

// load prepares the target and loads the dump into it.
func (r *restore) load(ctx context.Context) error {
	r.target = r.Database
	if r.Swap {
		r.target = fmt.Sprintf("%s_restore_%s", r.Database, r.Now().UTC().Format("20060102150405"))
	}
	if err := r.prepareTarget(ctx); err != nil {
		return err
	}
	if !r.NoRoles {
		if err := r.roles(ctx); err != nil {
			return err
		}
	}
	src, err := r.opened.Source(ctx, &Meter{Bytes: &r.fetched})
	if err != nil {
		return err
	}
	defer src.Close()
	total := r.wantRows()
	r.res.Load, err = sqlload.Load(ctx, src.Source, sqlload.Options{
		Connect: func(ctx context.Context) (*pgconn.PgConn, error) { return r.Connect(ctx, r.target) },
		Jobs:    r.Jobs, Only: r.only(), RowsOnly: r.rowsOnly, Now: r.Now,
		Progress: func(rows int64) {
			if r.Loading != nil {
				r.Loading(rows, total)
			}
		},
	})
	r.res.Fetched = r.fetched.Load()
	if err != nil {
		return fmt.Errorf("restore into %s: %w: it holds a part of the backup now: to begin again, add --clean --yes", r.target, err)
	}
	if r.manifest != nil && r.Tables != nil {
		r.res.Spared = r.manifest.Size - r.res.Fetched
	}
	return nil
}

func (r *restore) wantRows() int64 {
	n := int64(0)
	for _, t := range r.res.Check.Tables {
		if only := r.only(); only == nil || only(t.Table) {
			n += t.Rows
		}
	}
	return n
}

// count compares what the server took with what the check had counted.
func (r *restore) count() error {
	var wrong []string
	only := r.only()
	for _, t := range r.res.Check.Tables {
		if only != nil && !only(t.Table) {
			continue
		}
		row := TableRows{Table: t.Table, Rows: r.res.Load.Rows[t.Table], Want: t.Rows}
		r.res.Rows = append(r.res.Rows, row)
		r.res.Total += row.Rows
		if row.Rows != row.Want {
			wrong = append(wrong, fmt.Sprintf("%s has %d, not %d", row.Table, row.Rows, row.Want))
		}
	}
	if wrong != nil {
		return fmt.Errorf("%w: %s", ErrRowsDiffer, strings.Join(wrong, ", "))
	}
	return nil
}

// roles creates those roles of the backup that the target lacks.
func (r *restore) roles(ctx context.Context) error {
	body, err := r.opened.Globals(ctx)
	if err != nil || body == nil {
		return err
	}
	conn, err := r.Connect(ctx, r.target)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	r.res.Created, err = sqlload.CreateRoles(ctx, conn, body)
	if err != nil {
		return fmt.Errorf("create the backup's roles: %w: create them yourself and add --no-roles", err)
	}
	if len(r.res.Created) > 0 {
		r.Log("created roles %s (without passwords)", strings.Join(r.res.Created, ", "))
	}
	return nil
}
