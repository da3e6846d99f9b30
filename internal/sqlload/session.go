package sqlload

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
)

// session is one connection and the settings it has.
type session struct {
	conn    *pgconn.PgConn
	decoder *sqldump.Decoder // for SQL without rows
	buf     []byte
	mend    func(ctx context.Context, conn *pgconn.PgConn, err error) bool
	applied int // how many statements of the preamble it has run
}

func (l *loader) session(ctx context.Context) (*session, error) {
	conn, err := l.opt.Connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the target: %w", err)
	}
	s := &session{conn: conn, mend: l.opt.Mend}
	if s.decoder, err = l.decoder(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// decoder returns a decoder for the source's parts; nil for plain ones.
func (l *loader) decoder() (*sqldump.Decoder, error) {
	if l.src.Codec() == sqldump.None {
		return nil, nil //nolint:nilnil // there is nothing to decode
	}
	if d, ok := l.decoders.Get().(*sqldump.Decoder); ok && d != nil {
		return d, nil
	}
	return sqldump.NewDecoder(l.src.Codec())
}

// text returns the SQL of a part with rows, and what gives its memory back. The
// compressed bytes are given back at once: nobody needs them any more.
func (l *loader) text(p *sqldump.Part, ended <-chan struct{}) (sql []byte, release func(), err error) {
	if l.src.Codec() == sqldump.None {
		sql, err = l.sql(p, nil, nil)
		return sql, p.Release, err
	}
	defer p.Release()
	d, err := l.decoder()
	if err != nil {
		return nil, p.Release, err
	}
	defer l.decoders.Put(d)
	buf, from, err := l.room(p.Large(), ended)
	if err != nil {
		return nil, p.Release, err
	}
	sql, err = l.sql(p, d, buf)
	release = func() {
		select {
		case from <- sql:
		default:
		}
	}
	return sql, release, err
}

// room is memory for a part, and where it goes when the part is sent. For a large
// one there is one room, which is waited for.
func (l *loader) room(large bool, ended <-chan struct{}) (buf []byte, from chan<- []byte, err error) {
	if large {
		select {
		case buf = <-l.turn:
			return buf, l.turn, nil
		case <-ended:
			return nil, nil, errServer
		}
	}
	select {
	case buf = <-l.spare:
	default:
	}
	return buf, l.spare, nil
}

// prepared returns a session with the dump's settings so far.
func (l *loader) prepared(ctx context.Context) (*session, error) {
	s, err := l.session(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.apply(ctx, l.preamble, len(l.preamble)); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// apply runs the settings up to number n that the session has not run.
func (s *session) apply(ctx context.Context, preamble []string, n int) error {
	for ; s.applied < n; s.applied++ {
		if err := s.exec(ctx, preamble[s.applied], Error{Statement: preamble[s.applied]}); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = s.conn.Close(ctx)
	if s.decoder != nil {
		s.decoder.Close()
	}
}

// idle is a connection's status outside of transactions.
const idle = 'I'

// exec runs SQL by the simple protocol, as psql does.
func (s *session) exec(ctx context.Context, sql string, at Error) error {
	err := s.conn.Exec(ctx, sql).Close()
	for try := 0; err != nil && s.mend != nil && try < maxMends && s.mend(ctx, s.conn, err); try++ {
		err = s.conn.Exec(ctx, sql).Close()
	}
	if err != nil {
		at.Err = err
		return &at
	}
	return nil
}

// maxMends is how often one statement is tried again: a GRANT can name many
// roles that are missing.
const maxMends = 100

// counts sums rows by table.
type counts struct {
	mu    sync.Mutex
	rows  map[string]int64
	total int64
}

func (c *counts) add(table string, n int64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rows == nil {
		c.rows = map[string]int64{}
	}
	c.rows[table] += n
	c.total += n
	return c.total
}

func (c *counts) all() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]int64{}
	maps.Copy(out, c.rows)
	return out
}
