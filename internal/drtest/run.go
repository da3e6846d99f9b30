package drtest

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn" //nolint:depguard // the connection type that sqlload takes
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/pgengine"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"github.com/stellarescrow/escrowctl/internal/sqlload"
)

// target is the database restored into.
const target = "restored"

// closeLimit bounds the removal of the server.
const closeLimit = time.Minute

// run is one test.
type run struct {
	Options
	rep   *Report
	began time.Time
	in    pgengine.Instance
	load  *sqlload.Result

	mu    sync.Mutex
	stage string
	roles []string // made because the dump names them
}

// Run makes the test. The report tells all that was found; the error is for a
// test that was interrupted from outside, and the server is gone even then.
func Run(parent context.Context, o Options) (*Report, error) {
	r := &run{Options: o, rep: &Report{Counts: map[string]int64{}}, began: o.Now()}
	ctx, cancel := context.WithTimeoutCause(parent, o.Limit, errLimit)
	defer cancel()
	err := r.test(ctx)
	if err != nil && parent.Err() == nil {
		r.rep.add(r.failure(ctx, err))
	}
	r.end(parent, err)
	r.rep.Duration = o.Now().Sub(r.began)
	r.rep.Status = check.WorstOf(r.rep.Checks)
	r.rep.Verdict = VerdictOf(r.rep.Status)
	if parent.Err() != nil {
		return r.rep, context.Cause(parent)
	}
	return r.rep, nil
}

// test does the work; its error is what ended it early.
func (r *run) test(ctx context.Context) error {
	r.enter("opening the backup")
	b, err := r.Open(ctx)
	if b != nil {
		r.rep.Backup = *b
	}
	r.rep.Stages.Open = r.since(r.began)
	if err != nil {
		return err
	}
	r.newer(b)
	r.complete(b)
	r.identity(b)
	r.enter("starting the server")
	if err := r.start(ctx, b); err != nil {
		return err
	}
	if err := r.restore(ctx, b); err != nil {
		return err
	}
	began := r.Now()
	r.rep.Restore = began.Sub(r.began) - r.rep.Stages.Open
	r.enter("verifying")
	err = r.verify(ctx, b)
	r.rep.Stages.Verify = r.since(began)
	return err
}

func (r *run) since(t time.Time) time.Duration { return r.Now().Sub(t) }

// enter notes the stage, for the message of a time limit.
func (r *run) enter(stage string) {
	r.mu.Lock()
	r.stage = stage
	r.mu.Unlock()
	if r.Stage != nil {
		r.Stage(stage)
	}
}

// newer tells of newer files that are no backups.
func (r *run) newer(b *Backup) {
	if len(b.Unfit) > 0 {
		r.rep.add(check.Result{ID: idNewer, Status: check.Warning, Summary: fmt.Sprintf("%d newer ones cannot be restored", len(b.Unfit)),
			Detail: b.Unfit, Action: "see escrowctl backup list, and take a new one: escrowctl backup"})
	}
}

// complete tells of files that are missing and without which it can be restored.
func (r *run) complete(b *Backup) {
	if len(b.Lacks) > 0 {
		r.rep.add(check.Result{ID: idComplete, Status: check.Warning, Summary: "missing beside it: " + strings.Join(b.Lacks, ", "), Action: "copy it there too"})
	}
}

// identity holds the database that was dumped against the one that is ours.
func (r *run) identity(b *Backup) {
	if r.Database == "" || b.Database == "" {
		return
	}
	c := check.Result{ID: idDatabase, Summary: "it is of database " + b.Database}
	if b.Database != r.Database {
		c.Status = check.Critical
		c.Summary = fmt.Sprintf("it is a dump of database %s, not of %s", b.Database, r.Database)
		c.Action = "find out what wrote it: see database.url and backup.name"
	}
	r.rep.add(c)
}

var leadingNumber = regexp.MustCompile(`^(\d+)(?:\.(\d+))?`)

// majorOf is the major version in "15.8 (Debian ...)" or "9.6.24", 0 if there
// is none.
func majorOf(version string) int {
	m := leadingNumber.FindStringSubmatch(version)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1]) // digits by the pattern
	return n
}

// sqlSize is how much SQL the backup holds, estimated where nothing says: COPY
// text shrinks to a third or so, and to a tenth at best.
func sqlSize(b *Backup) int64 {
	if b.Index != nil {
		return b.Index.SQLSize
	}
	return b.Size * 6
}

func (r *run) start(ctx context.Context, b *Backup) error {
	s := r.Spec
	s.Run, s.Owner, s.Keep, s.Log = r.Run, r.Owner, r.Keep, r.Log
	s.Major, s.SQL = majorOf(b.Server), sqlSize(b)
	s.Expires = r.Now().Add(r.Limit + closeLimit)
	if r.Keep {
		s.Expires = r.Now().Add(r.Limit + r.KeepFor)
	}
	began := r.Now()
	in, err := r.Engine.Start(ctx, s)
	r.rep.Stages.Start = r.since(began)
	if err != nil {
		return err
	}
	r.in = in
	info := in.Info()
	r.rep.Instance = &info
	if r.Keep {
		r.rep.Psql, r.rep.Reaped = in.Psql(target), s.Expires
	}
	return nil
}

// restore makes the database and loads the dump into it.
func (r *run) restore(ctx context.Context, b *Backup) error {
	conn, err := r.in.Connect(ctx, "postgres")
	if err != nil {
		return err
	}
	defer closeConn(conn)
	if err := r.fits(conn, b); err != nil {
		return err
	}
	sql := "CREATE DATABASE " + target + " TEMPLATE template0"
	if b.Index != nil && b.Index.Encoding != "" {
		sql += " ENCODING " + literal(b.Index.Encoding)
	}
	if _, err := conn.Exec(ctx, sql).ReadAll(); err != nil {
		return fmt.Errorf("create the database: %w", err)
	}
	if b.Roles != nil {
		if _, err := sqlload.CreateRoles(ctx, conn, b.Roles); err != nil {
			return fmt.Errorf("create the backup's roles: %w", err)
		}
	}
	src, err := b.Source(ctx)
	if err != nil {
		return err
	}
	defer src.Close()
	r.load, err = sqlload.Load(ctx, src.Source, sqlload.Options{
		Connect:  func(ctx context.Context) (*pgconn.PgConn, error) { return r.in.Connect(ctx, target) },
		Jobs:     r.Jobs,
		Freeze:   true, // nobody else looks
		AnyOrder: true, // nor asks in which order the rows lie
		Mend:     r.mend,
		Now:      r.Now,
		Progress: r.progress(b),
		Entering: func(s sqldump.Section) { r.enter(loading(s)) },
	})
	r.loaded(b)
	if err != nil {
		return r.brokenOff(ctx, b, src, err)
	}
	r.rep.add(check.Result{ID: idRestore, Summary: fmt.Sprintf("%d rows of %d tables without an error", r.rep.Total, len(r.load.Rows))})
	r.rep.add(integrity(b))
	return nil
}

// loading words what a load does in a section.
func loading(s sqldump.Section) string {
	switch s {
	case sqldump.PreData:
		return "creating tables"
	case sqldump.Data:
		return "loading rows"
	default:
		return "building indexes and constraints"
	}
}

func (r *run) progress(b *Backup) func(rows int64) {
	if r.Loading == nil {
		return nil
	}
	of := int64(0)
	if b.Index != nil {
		of = b.Index.Rows
	}
	return func(rows int64) { r.Loading(rows, of) }
}

// loaded takes over what a load did, whole or not.
func (r *run) loaded(b *Backup) {
	s := &r.rep.Stages
	if r.load != nil {
		s.Load, s.Index, s.Decompress = r.load.Schema+r.load.Load, r.load.Index, r.load.Decompress
		for _, n := range r.load.Rows {
			r.rep.Total += n
		}
	}
	r.rep.Fetched, s.Fetch = b.Fetched()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.roles) > 0 {
		r.rep.Notes = append(r.rep.Notes, "roles that the dump names and does not hold were made for it: "+strings.Join(r.roles, ", "))
	}
}

// fits refuses a server that is older than the one that was dumped: SQL of a
// newer one need not mean the same to it, if it is understood at all.
func (r *run) fits(conn *pgconn.PgConn, b *Backup) error {
	r.rep.Server = conn.ParameterStatus("server_version")
	dumped, here := majorOf(b.Server), majorOf(r.rep.Server)
	if dumped == 0 || here >= dumped {
		return nil
	}
	way := "name an image of version %d or later (--image, dr_test.image)"
	if r.rep.Instance.Engine == "local" {
		way = "install postgresql-%d, or use --engine docker"
	}
	return &found{check.Result{ID: idServer, Status: check.Critical,
		Summary: fmt.Sprintf("the dump is from PostgreSQL %s and cannot be restored on %s", firstWord(b.Server), firstWord(r.rep.Server)),
		Action:  fmt.Sprintf(way, dumped)}}
}

func firstWord(s string) string {
	word, _, _ := strings.Cut(s, " ")
	return word
}

// found is an error that is a check's result already.
type found struct{ check.Result }

func (f *found) Error() string { return f.Summary }

var missingRole = regexp.MustCompile(`^role "(.+)" does not exist$`)

// mend creates a role that a statement names and that is not there: dumps name
// owners and grantees, and do not hold them.
func (r *run) mend(ctx context.Context, conn *pgconn.PgConn, err error) bool {
	const undefinedObject = "42704"
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != undefinedObject || conn.TxStatus() != 'I' {
		return false
	}
	m := missingRole.FindStringSubmatch(pg.Message)
	if m == nil {
		return false
	}
	if _, err := conn.Exec(ctx, "CREATE ROLE "+quoteIdent(m[1])).ReadAll(); err != nil {
		var again *pgconn.PgError
		const duplicateObject = "42710"
		return errors.As(err, &again) && again.Code == duplicateObject // another session was quicker
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.roles = append(r.roles, m[1])
	return true
}

// integrity says what the load has proven of the file, every byte of which it
// has read.
func integrity(b *Backup) check.Result {
	c := check.Result{ID: Integrity}
	switch {
	case b.Index != nil:
		c.Summary = fmt.Sprintf("all %d members have the SHA-256 of the manifest", len(b.Index.Members))
	case b.Kind == "unfinished":
		c.Status = check.Unknown
		c.Summary = "it is whole, but its manifest is missing: the run that wrote it did not finish, and nothing says what it should hold"
		c.Action = "test a finished backup: see escrowctl backup list"
	default:
		c.Summary = "it decompresses whole, to pg_dump's end mark"
	}
	return c
}

// end removes the server, whatever became of the test.
func (r *run) end(parent context.Context, err error) {
	if r.in == nil {
		return
	}
	if r.Keep && parent.Err() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(parent), closeLimit)
	defer cancel()
	if cerr := r.in.Close(ctx); cerr != nil {
		r.rep.add(check.Result{ID: idCleanup, Status: check.Warning, Summary: "the server is not removed: " + cerr.Error(), Action: "escrowctl dr-test --reap"})
	}
	if r.Keep && err != nil {
		r.rep.Psql = ""
	}
}

func closeConn(c *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = c.Close(ctx)
}

func quoteIdent(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
