package backup

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"filippo.io/age"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"github.com/stellarescrow/escrowctl/internal/store"
)

// Verdict is what a verification came to.
type Verdict string

// The verdicts. A check that could not be made is never a pass.
const (
	Pass       Verdict = "pass"
	Fail       Verdict = "fail"
	CouldNot   Verdict = "could not verify"
	maxMessage         = 20
)

// VerifyOptions say what to verify.
type VerifyOptions struct {
	Store      store.Reader
	Name       string
	Identities []age.Identity // for an encrypted backup
	Deep       bool
	BytesOnly  bool // go by the checksums of the rows, which are loaded next
	Jobs       int
	Now        func() time.Time
	Progress   func(done, total int64) // compressed bytes; may be nil
}

// Report is the outcome of a verification.
type Report struct {
	Name     string
	Where    string
	Verdict  Verdict
	Kind     Kind
	Size     int64 // bytes read
	SQLSize  int64
	Rows     int64
	Tables   []sqldump.Table
	Faults   []error // what is wrong
	Notes    []string
	Duration time.Duration
}

// Verify reads a backup once, from where it lies, and checks it: against its
// manifest or, for an old plain one, that it is a whole dump. The error is for
// a store that cannot be read; what is wrong with the backup is in the report.
func Verify(ctx context.Context, o VerifyOptions) (*Report, error) {
	start := o.Now()
	rep := &Report{Name: o.Name, Where: o.Store.Location(), Kind: Indexed}
	obj, err := o.Store.Stat(ctx, o.Name)
	if err != nil {
		return nil, err
	}
	rep.Size = obj.Size
	m, err := loadManifest(ctx, o.Store, o.Name, obj.Size)
	switch {
	case err == nil:
		err = o.indexed(ctx, m, rep)
	case errors.Is(err, store.ErrNotExist):
		err = o.plain(ctx, rep)
	case errors.Is(err, ErrBadManifest):
		rep.Faults = append(rep.Faults, err)
		err = nil
	}
	if err != nil {
		return nil, err
	}
	switch {
	case len(rep.Faults) > 0:
		rep.Verdict = Fail
	case rep.Verdict == "" && len(rep.Tables) == 0:
		rep.Verdict = CouldNot
		rep.Notes = append(rep.Notes, "the dump holds no tables: that it is whole proves nothing about your data")
	case rep.Verdict == "":
		rep.Verdict = Pass
	}
	rep.Duration = o.Now().Sub(start)
	return rep, ctx.Err()
}

// indexed checks a backup against its manifest.
func (o VerifyOptions) indexed(ctx context.Context, m *Manifest, rep *Report) error {
	rep.SQLSize, rep.Rows, rep.Tables = m.SQLSize, m.Rows, m.Index.Tables
	whole := &fileHash{h: sha256.New()}
	if m.Encrypted && len(o.Identities) == 0 {
		rep.Verdict = CouldNot
		rep.Notes = append(rep.Notes, "the backup is encrypted: name an identity (backup.identity_file or --identity) to check its contents")
		return o.checksumOnly(ctx, m, whole, rep)
	}
	if !m.Encrypted {
		o.Identities = nil // they are for other backups
	}
	faults, err := m.Index.Check(ctx, o.ranger(whole), sqldump.CheckOptions{Jobs: o.Jobs, Deep: o.Deep, BytesOnly: o.BytesOnly, Progress: func(n int64) {
		if o.Progress != nil {
			o.Progress(n, m.Index.Size)
		}
	}})
	var notFor *age.NoIdentityMatchError
	switch {
	case errors.As(err, &notFor):
		rep.Verdict = CouldNot
		rep.Notes = append(rep.Notes, "none of the identities given can decrypt this backup")
		return nil
	case isDamage(err):
		rep.Faults = append(rep.Faults, err)
	case err != nil:
		return err
	}
	for i, f := range faults {
		if i == maxMessage {
			rep.Faults = append(rep.Faults, fmt.Errorf("and %d more", len(faults)-i))
			break
		}
		rep.Faults = append(rep.Faults, f)
	}
	switch {
	case whole.eof || whole.n == m.Size:
		rep.Faults = append(rep.Faults, whole.compare(m)...)
	case len(rep.Faults) == 0:
		return fmt.Errorf("%s was not read to its end: %d of %d bytes", o.Name, whole.n, m.Size)
	}
	if m.Globals != nil {
		rep.Faults = append(rep.Faults, o.sidecar(ctx, *m.Globals)...)
	}
	if _, err := m.SourceSchema(o.Identities); err != nil {
		rep.Faults = append(rep.Faults, err)
	}
	return nil
}

// isDamage tells a fault of the file from one of the way to it.
func isDamage(err error) bool {
	return errors.Is(err, sqldump.ErrDamaged) || errors.Is(err, sqldump.ErrTruncated) || errors.Is(err, sqldump.ErrNotDump) || errors.Is(err, errDecrypt)
}

func (o VerifyOptions) checksumOnly(ctx context.Context, m *Manifest, whole *fileHash, rep *Report) error {
	rc, err := o.Store.Open(ctx, o.Name, 0, -1)
	if err != nil {
		return err
	}
	defer func() { _ = rc.Close() }()
	whole.r = rc
	if err := whole.drain(); err != nil {
		return err
	}
	rep.Faults = append(rep.Faults, whole.compare(m)...)
	return nil
}

// ranger opens the compressed stream. Read from its start to its end it also
// fills whole, if not nil, with the file's checksum.
func (o VerifyOptions) ranger(whole *fileHash) sqldump.Ranger {
	f := fileRanger{store: o.Store, name: o.Name, identities: o.Identities, whole: whole}
	return f.open
}

func (o VerifyOptions) sidecar(ctx context.Context, s Sidecar) []error {
	body, err := readAll(ctx, o.Store, s.Name)
	if err != nil {
		return []error{fmt.Errorf("roles: %w", err)}
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != s.SHA256 {
		return []error{fmt.Errorf("roles: %s: %w: its SHA-256 is not the manifest's", s.Name, sqldump.ErrDamaged)}
	}
	return nil
}

// maxGlobals bounds the roles read into memory.
const maxGlobals = 64 << 20

func readAll(ctx context.Context, r store.Reader, name string) ([]byte, error) {
	return readRange(ctx, r, name, maxGlobals)
}

// plain checks a dump that has no manifest.
func (o VerifyOptions) plain(ctx context.Context, rep *Report) error {
	rep.Kind = Plain
	rc, err := o.Store.Open(ctx, o.Name, 0, -1)
	if err != nil {
		return err
	}
	defer func() { _ = rc.Close() }()
	in := io.Reader(&progressReader{r: rc, total: rep.Size, report: o.Progress})
	text, ours, err := openPlain(in, o.Identities)
	if err == nil {
		if ours {
			rep.Kind = Unfinished
		}
		defer func() { _ = text.Close() }()
		var sum *sqldump.Summary
		if sum, err = sqldump.Scan(ctx, text); sum != nil {
			rep.SQLSize, rep.Rows, rep.Tables = sum.SQLSize, sum.Rows, sum.Tables
		}
	}
	switch {
	case isDamage(err):
		rep.Faults = append(rep.Faults, err)
		return nil
	case err != nil:
		return err
	case rep.Kind == Unfinished:
		rep.Verdict = CouldNot
		rep.Notes = append(rep.Notes, "the dump is whole, but its manifest is missing: the run that wrote it did not finish")
	default:
		rep.Notes = append(rep.Notes, "no manifest: the rows found are counted, but nothing says how many there should be")
	}
	return nil
}

// openPlain returns the SQL text of a dump file, decrypted and decompressed.
func openPlain(r io.Reader, identities []age.Identity) (text io.ReadCloser, ours bool, err error) {
	src := &rawReader{r: r}
	in := bufio.NewReaderSize(src, 1<<20)
	if head, _ := in.Peek(len(ageHeader)); string(head) == ageHeader && len(identities) > 0 {
		dec, err := age.Decrypt(in, identities...)
		if err != nil {
			return nil, false, src.or(decryptError(err))
		}
		in = bufio.NewReaderSize(decrypting{dec, src}, 1<<20)
	}
	codec, ours, err := sqldump.Sniff(in)
	if err != nil {
		return nil, false, err
	}
	text, err = sqldump.Decompress(in, codec)
	return text, ours, err
}

const ageHeader = "age-encryption.org/"

type progressReader struct {
	r      io.Reader
	n      int64
	total  int64
	report func(done, total int64)
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n += int64(n)
	if p.report != nil {
		p.report(p.n, p.total)
	}
	return n, err
}

// fileHash hashes a file as it is read.
type fileHash struct {
	r io.Reader
	h hash.Hash
	n int64

	eof bool // the end has been seen
}

func (f *fileHash) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	f.h.Write(p[:n])
	f.n += int64(n)
	f.eof = f.eof || errors.Is(err, io.EOF)
	return n, err
}

// drain reads what nobody has read.
func (f *fileHash) drain() error {
	if f.r == nil {
		return io.ErrUnexpectedEOF
	}
	_, err := io.Copy(io.Discard, struct{ io.Reader }{f})
	return err
}

func (f *fileHash) compare(m *Manifest) []error {
	if f.n != m.Size {
		return []error{fmt.Errorf("the file has %d bytes, its manifest says %d: %w", f.n, m.Size, sqldump.ErrDamaged)}
	}
	if hex.EncodeToString(f.h.Sum(nil)) != m.SHA256 {
		return []error{fmt.Errorf("the file's SHA-256 is not the manifest's: %w", sqldump.ErrDamaged)}
	}
	return nil
}
