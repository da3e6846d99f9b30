package backup

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"filippo.io/age"
	"github.com/stellarescrow/escrowctl/internal/schema"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"github.com/stellarescrow/escrowctl/internal/store"
)

// Opened is a backup that can be loaded from where it lies, without a copy.
type Opened struct {
	Store      store.Reader
	Name       string
	Size       int64 // bytes, as the store has it
	Kind       Kind  // Indexed, Plain or Unfinished
	ModTime    time.Time
	Manifest   *Manifest    // of an indexed one
	Info       sqldump.Info // of the others: what the head says
	identities []age.Identity
}

// ErrEncrypted says that a backup is encrypted and no identity was given.
var ErrEncrypted = errors.New("the backup is encrypted: name an identity (backup.identity_file or --identity)")

// IsDamage tells a fault of the backup from one of the way to it.
func IsDamage(err error) bool {
	return isDamage(err) || errors.Is(err, ErrBadManifest) || errors.Is(err, schema.ErrBadSchema)
}

// Open finds out what a backup is. A manifest that is not the file's is
// ErrBadManifest; a file that is no dump is sqldump.ErrNotDump.
func Open(ctx context.Context, r store.Reader, name string, identities []age.Identity) (*Opened, error) {
	obj, err := r.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	o := &Opened{Store: r, Name: name, Size: obj.Size, ModTime: obj.ModTime, Kind: Indexed, identities: identities}
	o.Manifest, err = loadManifest(ctx, r, name, o.Size)
	switch {
	case errors.Is(err, store.ErrNotExist):
		return o, o.head(ctx)
	case err != nil:
		return o, err
	case o.Manifest.Encrypted && len(identities) == 0:
		return o, ErrEncrypted
	case o.Manifest.Size != o.Size:
		return o, o.wrongSize()
	}
	if !o.Manifest.Encrypted {
		o.identities = nil
	}
	return o, nil
}

// wrongSize says where a file ends that should be longer.
func (o *Opened) wrongSize() error {
	err := fmt.Errorf("the file has %d bytes, its manifest says %d: %w", o.Size, o.Manifest.Size, sqldump.ErrDamaged)
	if o.Manifest.Encrypted || o.Size > o.Manifest.Size {
		return err
	}
	x := &o.Manifest.Index
	for i, m := range x.Members {
		if have := o.Size - m.Offset; have < m.Size {
			return fmt.Errorf("%w: %w", err, &sqldump.EarlyEndError{Number: i, Member: m, Have: max(have, 0), Err: io.ErrUnexpectedEOF})
		}
	}
	return err
}

// maxHead bounds what is read of a plain dump to learn where it is from: the
// versions stand in its first lines.
const maxHead = 64 << 10

// head reads what the first lines of a plain dump say.
func (o *Opened) head(ctx context.Context) error {
	o.Kind = Plain
	rc, err := o.Store.Open(ctx, o.Name, 0, -1)
	if err != nil {
		return err
	}
	defer func() { _ = rc.Close() }()
	src := bufio.NewReaderSize(rc, maxHead)
	if head, _ := src.Peek(len(ageHeader)); string(head) == ageHeader && len(o.identities) == 0 {
		return ErrEncrypted
	}
	text, ours, err := openPlain(src, o.identities)
	if err != nil {
		return err
	}
	defer func() { _ = text.Close() }()
	if ours {
		o.Kind = Unfinished
	}
	b, err := io.ReadAll(io.LimitReader(text, maxHead))
	if len(b) == 0 && err != nil {
		return err // damage behind the head is found when it is loaded
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return fmt.Errorf("%w: there is no SQL in it", sqldump.ErrNotDump)
	}
	if at := bytes.LastIndexByte(b, '\n'); at >= 0 {
		b = b[:at+1]
	}
	sp := sqldump.NewSplitter(bytes.NewReader(b), 0)
	for err = nil; err == nil; { // the end is cut off, so it ends with an error
		_, err = sp.Next()
	}
	o.Info = sp.Info()
	return nil
}

// ServerVersion is that of the server which was dumped, "" if nothing says.
func (o *Opened) ServerVersion() string {
	if o.Manifest != nil {
		return o.Manifest.Index.ServerVersion
	}
	return o.Info.ServerVersion
}

// Meter measures the reading of a backup. Its fields may be nil.
type Meter struct {
	Bytes   *atomic.Int64 // fetched
	Waiting *atomic.Int64 // nanoseconds spent fetching them, of all streams together
	Now     func() time.Time
}

// reader measures r.
func (m *Meter) reader(r io.Reader) io.Reader {
	if m == nil || m.Bytes == nil {
		return r
	}
	return &metered{r, m}
}

type metered struct {
	r io.Reader
	m *Meter
}

func (r *metered) Read(p []byte) (int, error) {
	var start time.Time
	if r.m.Waiting != nil {
		start = r.m.Now()
	}
	n, err := r.r.Read(p)
	r.m.Bytes.Add(int64(n))
	if r.m.Waiting != nil {
		r.m.Waiting.Add(int64(r.m.Now().Sub(start)))
	}
	return n, err
}

// Loadable is a source to load from; close it afterwards.
type Loadable struct {
	sqldump.Source
	// Rest reads a plain dump to its end after a load that broke off, and
	// returns what is wrong with the file, if anything: a damaged file fails
	// somewhere in its SQL first. It is nil for an indexed one.
	Rest  func(ctx context.Context) error
	close func()
}

// Close ends the reading.
func (l *Loadable) Close() { l.close() }

// Source opens the dump for loading.
func (o *Opened) Source(ctx context.Context, m *Meter) (*Loadable, error) {
	if o.Manifest != nil {
		f := fileRanger{store: o.Store, name: o.Name, meter: m, identities: o.identities}
		return &Loadable{Source: sqldump.IndexedSource(&o.Manifest.Index, f.open), close: func() {}}, nil
	}
	rc, err := o.Store.Open(ctx, o.Name, 0, -1)
	if err != nil {
		return nil, err
	}
	text, _, err := openPlain(m.reader(rc), o.identities)
	if err != nil {
		return nil, errors.Join(err, rc.Close())
	}
	rest := func(ctx context.Context) error {
		buf := make([]byte, 1<<20)
		for ctx.Err() == nil {
			if _, err := text.Read(buf); errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
		return context.Cause(ctx)
	}
	return &Loadable{Source: sqldump.PlainSource(text), Rest: rest, close: func() { _, _ = text.Close(), rc.Close() }}, nil
}

// Globals returns the SQL of the roles kept beside the dump; nil if there are
// none.
func (o *Opened) Globals(ctx context.Context) ([]byte, error) {
	if o.Manifest == nil || o.Manifest.Globals == nil {
		return nil, nil
	}
	name := o.Manifest.Globals.Name
	body, err := readAll(ctx, o.Store, name)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != o.Manifest.Globals.SHA256 {
		return nil, fmt.Errorf("roles: %s: %w: its SHA-256 is not the manifest's", name, sqldump.ErrDamaged)
	}
	if !o.Manifest.Encrypted {
		return body, nil
	}
	dec, err := age.Decrypt(bytes.NewReader(body), o.identities...)
	if err != nil {
		return nil, decryptError(err)
	}
	if body, err = io.ReadAll(dec); err != nil {
		return nil, decryptError(err)
	}
	return body, nil
}
