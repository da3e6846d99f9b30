package sqlload

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
)

// kind is how a statement behind the rows may run beside others.
type kind uint8

const (
	alone      kind = iota // nothing beside it: the dump's order decides
	buildIndex             // CREATE INDEX, PRIMARY KEY, UNIQUE
	foreignKey
	validation // of a foreign key that was made without looking at the rows
	comment    // on anything: nothing depends on it, so it waits for the next "alone"
)

// group is the kind beside which it may run: a foreign key and a validation
// hold their tables only against each other.
func (k kind) group() kind {
	if k == validation {
		return foreignKey
	}
	return k
}

// job is one statement behind the rows.
type job struct {
	kind     kind
	shared   bool     // holds its table only against writers: CREATE INDEX
	slow     bool     // an index of another kind than btree
	tables   []string // that it locks
	sql      string
	at       Error
	validate string // of a foreign key: what looks at the rows, if that can be done by itself
	settings int    // how many SETs among these statements came before it
	// weight is about what it costs, and what waits for it after that; in bytes of
	// compressed rows.
	weight int64
}

// classify tells what a statement locks. What it doesn't know runs alone.
func classify(stmt []byte) job {
	for _, prefix := range []string{"CREATE INDEX ", "CREATE UNIQUE INDEX "} {
		if _, rest := sqldump.NameAfter(stmt, prefix); len(rest) < len(stmt) {
			// That of a partitioned table ("ON ONLY") is made without its parts';
			// a later statement attaches them.
			for _, on := range []string{" ON ONLY ", " ON "} {
				if table, rest := sqldump.NameAfter(rest, on); table != "" {
					return job{kind: buildIndex, shared: true, tables: []string{table}, slow: !bytes.HasPrefix(rest, []byte(" USING btree "))}
				}
			}
			return job{}
		}
	}
	if bytes.HasPrefix(stmt, []byte("COMMENT ON ")) {
		return job{kind: comment}
	}
	table, rest := sqldump.NameAfter(stmt, "ALTER TABLE ONLY ")
	parted := table == "" // or no ALTER TABLE at all
	if parted {
		table, rest = sqldump.NameAfter(stmt, "ALTER TABLE ")
	}
	name, rest := sqldump.NameAfter(rest, "\n    ADD CONSTRAINT ")
	switch {
	case table == "", parted && !bytes.HasPrefix(rest, []byte(" FOREIGN KEY (")):
	case bytes.HasPrefix(rest, []byte(" PRIMARY KEY (")), bytes.HasPrefix(rest, []byte(" UNIQUE (")),
		bytes.HasPrefix(rest, []byte(" UNIQUE NULLS NOT DISTINCT (")), bytes.HasPrefix(rest, []byte(" EXCLUDE USING ")):
		return job{kind: buildIndex, tables: []string{table}}
	case bytes.HasPrefix(rest, []byte(" FOREIGN KEY (")):
		if i := bytes.Index(rest, []byte(") REFERENCES ")); i >= 0 {
			other, _ := sqldump.NameAfter(rest[i:], ") REFERENCES ")
			j := job{kind: foreignKey, tables: []string{table, other}}
			if !parted && !bytes.Contains(rest[i:], []byte(" NOT VALID")) && !bytes.Contains(rest[i:], []byte(" NOT ENFORCED")) {
				j.validate = "ALTER TABLE ONLY " + table + " VALIDATE CONSTRAINT " + name
			}
			return j
		}
	}
	return job{}
}

// blocks reports whether j must end before later begins.
func (j *job) blocks(later *job) bool {
	if j.kind == alone || later.kind == alone || j.kind.group() != later.kind.group() {
		return true
	}
	if j.shared && later.shared {
		return false
	}
	return slices.ContainsFunc(j.tables, func(t string) bool { return slices.Contains(later.tables, t) })
}

// scheduler runs jobs on several sessions at once, in the dump's order where
// one locks what another needs.
type scheduler struct {
	jobs     int
	connect  func(ctx context.Context) (*session, error)
	sizes    map[string]int64 // compressed bytes of each table's rows, as far as known
	parted   map[string]bool  // tables that have their rows in parts
	pending  []*job
	comments []*job
	settings []string
}

// add takes a job in. Jobs of one kind are collected and run together when the
// next of another kind comes.
func (s *scheduler) add(ctx context.Context, j *job) error {
	if j.kind == comment {
		s.comments = append(s.comments, j)
		return nil
	}
	if isSetting([]byte(j.sql)) {
		s.settings = append(s.settings, j.sql)
		return nil
	}
	if len(s.pending) > 0 && (s.pending[0].kind.group() != j.kind.group() || j.kind == alone && len(s.pending) >= 1000) {
		if err := s.run(ctx); err != nil {
			return err
		}
	}
	j.settings = len(s.settings)
	s.pending = append(s.pending, j)
	if j.kind == foreignKey {
		s.key(j)
	}
	return nil
}

// key makes two of a foreign key: its making, which locks the table that it
// points to against all other keys, takes no time then, and the look at the
// rows locks only its own table. Keys from and to a partitioned table stay whole:
// the one can't be had without the look, of the other PostgreSQL 15 would
// leave the parts' keys not validated.
func (s *scheduler) key(j *job) {
	table, other := j.tables[0], j.tables[1]
	j.weight = s.sizes[table]
	if s.parted[table] {
		j.weight = unknownWeight
	}
	if j.validate == "" || s.parted[table] || s.parted[other] {
		return
	}
	later := *j
	later.kind, later.tables, later.sql = validation, j.tables[:1], j.validate
	j.sql = strings.TrimSuffix(strings.TrimRight(j.sql, " \n"), ";") + " NOT VALID"
	j.weight = math.MaxInt64 // all of them first
	s.pending = append(s.pending, &later)
}

// unknownWeight is that of what may take longest.
const unknownWeight = math.MaxInt64 - 1

// flush runs what is left.
func (s *scheduler) flush(ctx context.Context) error {
	if err := s.run(ctx); err != nil {
		return err
	}
	s.pending = s.comments
	s.comments = nil
	return s.run(ctx)
}

// done is a job that has ended on a session.
type done struct {
	s   *session
	j   *job
	err error
}

// run runs all pending jobs, which are of one kind.
func (s *scheduler) run(ctx context.Context) error {
	if len(s.pending) > 0 && s.pending[0].kind == foreignKey {
		slices.SortStableFunc(s.pending, func(a, b *job) int { return cmp.Compare(b.weight, a.weight) })
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	width := s.jobs
	if len(s.pending) > 0 && (s.pending[0].kind == alone || s.pending[0].kind == comment) {
		width = 1
	}
	width = min(width, len(s.pending))
	ended := make(chan done, width)
	var idle, open []*session
	defer func() {
		for _, c := range open {
			c.close()
		}
	}()
	var running []*job
	var firstErr error
	for len(s.pending) > 0 && firstErr == nil || len(running) > 0 {
		if i := s.next(running); i >= 0 && len(running) < width && firstErr == nil {
			j := s.pending[i]
			s.pending = slices.Delete(s.pending, i, i+1)
			if len(idle) == 0 {
				c, err := s.connect(ctx)
				if err != nil {
					firstErr = err
					continue
				}
				c.applied = 0 // of s.settings, from here on
				idle, open = append(idle, c), append(open, c)
			}
			c := idle[len(idle)-1]
			idle = idle[:len(idle)-1]
			running = append(running, j)
			go func() { ended <- done{c, j, s.do(ctx, c, j)} }()
			continue
		}
		d := <-ended
		idle = append(idle, d.s)
		running = slices.DeleteFunc(running, func(j *job) bool { return j == d.j })
		if d.err != nil && firstErr == nil {
			firstErr = d.err
			cancel()
		}
	}
	return firstErr
}

// next returns the first pending job that may begin now, or -1.
func (s *scheduler) next(running []*job) int {
	for i, j := range s.pending {
		free := !slices.ContainsFunc(running, func(r *job) bool { return r.blocks(j) }) &&
			!slices.ContainsFunc(s.pending[:i], func(p *job) bool { return p.blocks(j) })
		if free {
			return i
		}
		if i >= 64 {
			break // looking further would cost more than it finds
		}
	}
	return -1
}

// do runs one job. Foreign keys to and from partitioned tables can lock each
// other out, which the server ends by failing one: that one is tried again.
func (s *scheduler) do(ctx context.Context, c *session, j *job) error {
	if err := c.apply(ctx, s.settings, j.settings); err != nil {
		return err
	}
	const deadlockDetected = "40P01"
	for try := 1; ; try++ {
		err := c.exec(ctx, j.sql, j.at)
		var pg *pgconn.PgError
		if try < 5 && errors.As(err, &pg) && pg.Code == deadlockDetected {
			continue
		}
		if err == nil && c.conn.TxStatus() != idle {
			// The next one may run on another session.
			j.at.Err = ErrOpenTransaction
			err = &j.at
		}
		return err
	}
}
