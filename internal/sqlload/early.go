package sqlload

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"golang.org/x/sync/errgroup"
)

// errStop ends the reading of statements.
var errStop = errors.New("enough")

// hoist collects the index builds with which the post-data section begins: they
// depend on nothing but their table's rows, and so can be run when those are
// there, beside the loading of others. From the first statement of another kind
// on the dump's order decides.
func (l *loader) hoist(ctx context.Context, src *sqldump.Indexed) (*pool, error) {
	p := &pool{l: l, waiting: map[string]bool{}}
	p.cond.L = &p.mu
	if l.opt.RowsOnly || l.opt.Only != nil {
		return p, nil
	}
	number := 0
	err := src.EachSQL(ctx, sqldump.PostData, func(part *sqldump.Part) error {
		defer part.Release()
		sql, err := l.sql(part, l.main.decoder, l.main.buf)
		if err != nil {
			return err
		}
		return sqldump.EachStatement(sql, src.EscapeStrings(), func(s sqldump.Statement) error {
			number++
			text := string(s.Text)
			if isSetting(s.Text) {
				p.settings = append(p.settings, text)
				return nil
			}
			j := classify(s.Text)
			switch {
			case s.Meta, j.kind != buildIndex && j.kind != comment:
				return errStop
			case j.kind == comment:
				return nil
			}
			j.sql, j.settings = text, len(p.settings)
			j.at = Error{Line: part.Line + s.Line, Statement: firstLine(text)}
			p.jobs = append(p.jobs, &j)
			l.early[number] = true
			return nil
		})
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return p, err
}

// pool loads tables and builds the indexes of those that are loaded, on several
// connections at once.
type pool struct {
	l        *loader
	src      *sqldump.Indexed
	settings []string

	mu      sync.Mutex
	cond    sync.Cond
	tables  []sqldump.Rows  // to be loaded, the largest first, so that none is left to run alone at the end
	waiting map[string]bool // for the rows of these
	jobs    []*job
	running []*job
	failed  bool
}

// rows loads the tables, and meanwhile builds what can be built.
func (l *loader) rows(ctx context.Context, src *sqldump.Indexed) error {
	p, err := l.hoist(ctx, src)
	if err != nil {
		return err
	}
	p.src = src
	p.tables = slices.DeleteFunc(src.Tables(), func(r sqldump.Rows) bool { return l.opt.Only != nil && !l.opt.Only(r.Table) })
	slices.SortStableFunc(p.tables, func(a, b sqldump.Rows) int { return cmp.Compare(b.Size, a.Size) })
	for _, t := range p.tables {
		p.waiting[t.Table] = true
	}
	g, ctx := errgroup.WithContext(ctx)
	for range min(l.opt.Jobs, len(p.tables)+len(p.jobs)) {
		g.Go(func() error {
			err := p.work(ctx)
			if err != nil {
				p.mu.Lock()
				p.failed = true
				p.mu.Unlock()
				p.cond.Broadcast()
			}
			return err
		})
	}
	return g.Wait()
}

// work does what there is to do on one connection. Tables come first: after its
// first index it loads none, for by then none is left.
func (p *pool) work(ctx context.Context) error {
	s, err := p.l.prepared(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	building := false
	for {
		table, j := p.next()
		switch {
		case table != nil:
			if err := p.l.copyTable(ctx, s, p.src, *table); err != nil {
				return err
			}
			p.loaded(table.Table)
		case j != nil:
			if !building {
				building, s.applied = true, 0 // of p.settings, from here on
			}
			if err := s.apply(ctx, p.settings, j.settings); err != nil {
				return err
			}
			if err := s.exec(ctx, j.sql, j.at); err != nil {
				return err
			}
			p.ended(j)
		default:
			return nil
		}
	}
}

// next waits until there is something to do and returns it; nothing when there
// never will be.
func (p *pool) next() (*sqldump.Rows, *job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if p.failed {
			return nil, nil
		}
		if len(p.tables) > 0 {
			t := p.tables[0]
			p.tables = p.tables[1:]
			return &t, nil
		}
		if len(p.jobs) == 0 {
			return nil, nil
		}
		for i, j := range p.jobs {
			if !p.waiting[j.tables[0]] && !slices.ContainsFunc(p.running, func(r *job) bool { return r.blocks(j) }) &&
				!slices.ContainsFunc(p.jobs[:i], func(e *job) bool { return e.blocks(j) }) {
				p.jobs = slices.Delete(p.jobs, i, i+1)
				p.running = append(p.running, j)
				return nil, j
			}
		}
		p.cond.Wait()
	}
}

func (p *pool) loaded(table string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, table)
	if len(p.waiting) == 0 {
		p.l.enter(sqldump.PostData)
	}
	p.cond.Broadcast()
}

func (p *pool) ended(j *job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = slices.DeleteFunc(p.running, func(r *job) bool { return r == j })
	p.cond.Broadcast()
}
