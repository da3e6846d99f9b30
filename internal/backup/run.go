package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"filippo.io/age"
	"github.com/stellarescrow/escrowctl/internal/schema"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"github.com/stellarescrow/escrowctl/internal/store"
)

// Dumper dumps the database and its roles.
type Dumper interface {
	// Dump writes pg_dump's plain output to w. An error means that the dump
	// must not be used, whatever was written.
	Dump(ctx context.Context, w io.Writer) error
	// Globals writes the cluster's roles, without passwords, to w.
	Globals(ctx context.Context, w io.Writer) error
}

// Options are a run's. Local, Dumper, Naming, Database, Now and Log are needed.
type Options struct {
	Naming   Naming
	Local    *store.Dir
	Remote   store.Store // nil for local backups only
	Dumper   Dumper
	Database string // its name, for the manifest
	Host     string
	Version  string // escrowctl's

	Codec      sqldump.Codec
	Level      int
	Jobs       int
	Recipients []age.Recipient // encrypt to these
	Globals    bool            // keep the roles too
	// Schema reads the schema of the database, for the manifest; nil if it is
	// not to be recorded. It is called just before the dump and just after it.
	Schema func(context.Context) (*schema.Schema, error)

	// ShrinkRatio: a backup with less than this share of the last one's SQL or
	// rows is suspicious.
	ShrinkRatio float64
	Retention   Retention // local
	RemoteKeep  Retention // in the bucket
	Held        bool      // an earlier backup's loss is not acknowledged: prune nothing
	// Hold notes what shrank or vanished; may be nil. It is called before the
	// backup counts: the next one is compared with this one and finds nothing
	// amiss, so a loss that is not noted by then would never be told.
	Hold     func(name string, losses []string) error
	Verified Verifications

	Now      func() time.Time
	Log      func(format string, args ...any)
	Progress func(sqlBytes, bytes, rows int64) // may be nil
}

// Result is what a run did.
type Result struct {
	Name      string
	Path      string // of the local copy
	Manifest  *Manifest
	Duration  time.Duration
	Last      *Summary      // the backup before; nil for the first
	Losses    []string      // what shrank or vanished since
	Receipt   store.Receipt // of the upload
	Uploaded  bool
	UploadErr error    // the local copy is good, the bucket's is missing
	CaughtUp  []string // earlier backups sent to the bucket
	Stuck     []Stuck  // earlier backups that cannot be sent: warnings too
	Pruned    []string
	Swept     []string
	Warnings  []string
}

// ErrNoBackup says that a run ended without a backup.
var ErrNoBackup = errors.New("no backup was taken")

// Run takes a backup. A fault of the bucket does not fail it: it is told in
// Result.UploadErr, and the local copy is whole; so does a time limit that is over
// once the backup lies here. With an error there is no new backup, or the run was
// interrupted.
func Run(ctx context.Context, o Options) (*Result, error) {
	r := &run{Options: o, res: &Result{}, started: o.Now().UTC()}
	r.file, _ = o.Naming.Parse(o.Naming.File(r.started, o.Codec, len(o.Recipients) > 0))
	if r.file.Name == "" {
		return nil, fmt.Errorf("%w: %q is no name for backups", ErrNoBackup, o.Naming.Base)
	}
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	if err := r.take(ctx); err != nil {
		return r.res, fmt.Errorf("%w: %w", ErrNoBackup, err)
	}
	r.after(ctx)
	r.res.Duration = o.Now().Sub(r.started)
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return r.res, ctx.Err()
	}
	if r.res.UploadErr == nil {
		r.warn("not all was done that comes after a backup: %v", context.Cause(ctx))
	}
	return r.res, nil
}

type run struct {
	Options
	res     *Result
	started time.Time
	file    File
	globals *globals
	lastIn  store.Reader // where the last backup lies
}

type globals struct {
	name string
	body []byte
}

// prepare sweeps what a killed run left, and finds the last backup. The caller
// holds the locks, so that whatever is unfinished now is dead.
func (r *run) prepare(ctx context.Context) error {
	copies, err := Copies(ctx, r.Local, r.Naming)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoBackup, err)
	}
	for _, c := range copies {
		if c.Good() {
			r.res.Last, r.lastIn = c.Summary, r.Local
		}
		if c.Time.Equal(r.file.Time) {
			// Names have whole seconds: better told now than after the dump.
			return fmt.Errorf("%w: %s is there already, taken in this very second: run it again", ErrNoBackup, c.Name)
		}
	}
	if r.Remote != nil {
		r.prepareRemote(ctx, copies)
	}
	// Temporary files last: they alone tell whose an unfinished upload is, also to
	// the next run if this one is killed here.
	swept, err := r.Local.Sweep(ctx, r.started, r.Naming.Owns)
	r.res.Swept = append(r.res.Swept, swept...)
	if err != nil {
		r.warn("temporary files: %v", err)
	}
	return nil
}

// prepareRemote sweeps in the bucket. A fault of it never costs the local backup.
func (r *run) prepareRemote(ctx context.Context, copies []Copy) {
	if err := r.Remote.CheckWritable(ctx); err != nil {
		r.res.UploadErr = err
		return
	}
	r.sweepUploads(ctx, copies)
	if r.res.Last == nil {
		r.lastRemote(ctx)
	}
}

// lastRemote looks for the last backup in the bucket, for a host that has none.
func (r *run) lastRemote(ctx context.Context) {
	copies, err := Copies(ctx, r.Remote, r.Naming)
	if err != nil {
		r.warn("earlier backups: %v", err)
	}
	for _, c := range copies {
		if c.Good() {
			r.res.Last, r.lastIn = c.Summary, r.Remote
		}
	}
}

func (r *run) warn(format string, args ...any) {
	r.res.Warnings = append(r.res.Warnings, fmt.Sprintf(format, args...))
}

// take dumps into a temporary file, which the upload follows, and commits: the
// file's name, the roles, the manifest, and then the same in the bucket.
func (r *run) take(ctx context.Context) error {
	temp, err := r.Local.Create(r.file.Name)
	if err != nil {
		return err
	}
	defer temp.Discard()
	grow := store.NewGrowing(temp.File)
	upload := r.follow(ctx, grow)

	m, err := r.dump(ctx, grow)
	if err == nil {
		r.compare(ctx, m)
		err = temp.Commit()
	}
	grow.Finish(err)
	if err == nil {
		err = r.commitLocal(ctx, m)
	}
	if err != nil {
		return errors.Join(err, r.undo(upload()))
	}
	r.res.Name, r.res.Path, r.res.Manifest = r.file.Name, r.Local.Path(r.file.Name), m
	up := upload()
	if up.err == nil && up.begun {
		up.err = r.commitRemote(ctx, m)
	}
	if up.err != nil {
		r.res.UploadErr = up.err
	}
	r.res.Receipt, r.res.Uploaded = up.receipt, up.begun && up.err == nil
	return nil
}

type uploaded struct {
	begun   bool
	receipt store.Receipt
	err     error
}

// follow begins the upload beside the dump and returns a function that waits
// for it.
func (r *run) follow(ctx context.Context, src store.Source) func() uploaded {
	if r.Remote == nil || r.res.UploadErr != nil {
		return func() uploaded { return uploaded{} }
	}
	ended := make(chan uploaded, 1)
	go func() {
		receipt, err := r.Remote.Upload(ctx, r.file.Name, src)
		ended <- uploaded{begun: true, receipt: receipt, err: err}
	}()
	return func() uploaded { return <-ended }
}

// undo removes an object that was completed for a backup that failed.
func (r *run) undo(up uploaded) error {
	if !up.begun || up.err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return r.Remote.Delete(ctx, r.file.Name)
}

// dump runs pg_dump into dst and returns the manifest of what it wrote.
func (r *run) dump(ctx context.Context, dst io.Writer) (*Manifest, error) {
	if r.Globals {
		g, err := r.dumpGlobals(ctx)
		if err != nil {
			r.warn("roles are not backed up: %v", err)
		}
		r.globals = g
	}
	var before *schema.Schema
	if r.Schema != nil {
		var err error
		if before, err = r.Schema(ctx); err != nil {
			r.warn("the schema is not recorded, so a test of this backup cannot compare it: %v", err)
		}
	}
	whole := &fileHash{h: sha256.New()}
	sink := &hashWriter{w: dst, hash: whole}
	index, err := r.pipe(ctx, sink)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Index: *index, Summary: Summary{
		SchemaVersion: ManifestVersion, Kind: manifestKind, Name: r.file.Name, Size: whole.n, SHA256: hex.EncodeToString(whole.h.Sum(nil)),
		Encrypted: r.file.Encrypted, Database: r.Database, StartedAt: r.started, EndedAt: r.Now().UTC(), Host: r.Host, Version: r.Version,
		Rows: index.Rows, TableCount: len(index.Tables), SQLSize: index.SQLSize,
	}}
	m.Schema = r.recordSchema(ctx, before)
	if r.globals != nil {
		sum := sha256.Sum256(r.globals.body)
		m.Globals = &Sidecar{Name: r.globals.name, Size: int64(len(r.globals.body)), SHA256: hex.EncodeToString(sum[:])}
	}
	return m, nil
}

// pipe connects pg_dump to the writer of the indexed dump. An operating
// system's pipe lets a local pg_dump write into it without a copy between.
func (r *run) pipe(ctx context.Context, sink io.Writer) (*sqldump.Index, error) {
	out, closeOut, err := r.encrypted(sink)
	if err != nil {
		return nil, err
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = pr.Close() }()
	widen(pw)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// A dumper that is slow to stop must not hold the reader up.
	defer context.AfterFunc(ctx, func() { _ = pr.SetReadDeadline(time.Unix(1, 0)) })()
	dumped := make(chan error, 1)
	go func() {
		err := r.Dumper.Dump(ctx, pw)
		_ = pw.Close()
		dumped <- err
	}()
	index, err := sqldump.Write(ctx, out, pr, sqldump.Options{Codec: r.Codec, Level: r.Level, Jobs: r.Jobs, Progress: r.Progress})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = context.Cause(ctx) // the deadline was only how the reader learnt of it
	}
	if err != nil {
		cancel() // or pg_dump would wait for its reader
		_ = pr.Close()
	}
	// pg_dump's own words explain a dump that broke off better than the break.
	if dumpErr := <-dumped; dumpErr != nil && (err == nil || errors.Is(err, sqldump.ErrTruncated)) {
		return nil, dumpErr
	}
	if err != nil {
		return nil, err
	}
	return index, closeOut()
}

func (r *run) encrypted(w io.Writer) (io.Writer, func() error, error) {
	if len(r.Recipients) == 0 {
		return w, func() error { return nil }, nil
	}
	enc, err := age.Encrypt(w, r.Recipients...)
	if err != nil {
		return nil, nil, fmt.Errorf("encrypt: %w", err)
	}
	return enc, enc.Close, nil
}

type hashWriter struct {
	w    io.Writer
	hash *fileHash
}

func (h *hashWriter) Write(p []byte) (int, error) {
	n, err := h.w.Write(p)
	h.hash.h.Write(p[:n])
	h.hash.n += int64(n)
	return n, err
}

func (r *run) dumpGlobals(ctx context.Context) (*globals, error) {
	var body limitedBuffer
	out, closeOut, err := r.encrypted(&body)
	if err != nil {
		return nil, err
	}
	if err := r.Dumper.Globals(ctx, out); err != nil {
		return nil, err
	}
	if err := closeOut(); err != nil {
		return nil, err
	}
	return &globals{name: r.Naming.globalsName(r.file), body: body.Bytes()}, nil
}
