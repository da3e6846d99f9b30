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
	p := &pool{l: l, waiting: map[string]int{}}
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
	loads   []load         // to be done, the largest first, so that none is left to run alone at the end
	waiting map[string]int // loads that a table's indexes wait for
	jobs    []*job
	running []*job
	failed  bool
}

// load is the rows of a table, or a part of them.
type load struct {
	sqldump.Rows
	part bool
}

// slowFactor is how many times longer than a btree an index of another kind
// takes for the same rows: a GIN index of the platform's descriptions 6.4 s
// beside 0.3 to 0.8 s for each btree (docs/decisions/0010). Kinds that are fast
// (brin, hash) are only begun too early by it.
const slowFactor = 8

// weigh puts the builds of indexes in the order in which they are best begun:
// what takes longest first, with what waits for it, so that no long one is left
// to run alone at the end. Those that lock each other out keep the dump's order.
func weigh(jobs []*job, sizes map[string]int64) {
	type waiting struct{ any, exclusive int64 } // the most weight behind it, by table
	behind := map[string]waiting{}
	for _, j := range slices.Backward(jobs) {
		table := j.tables[0]
		b := behind[table]
		cost := sizes[table] + 1
		if j.slow {
			cost *= slowFactor
		}
		if j.shared {
			j.weight = cost + b.exclusive
		} else {
			j.weight = cost + b.any
			b.exclusive = max(b.exclusive, j.weight)
		}
		b.any = max(b.any, j.weight)
		behind[table] = b
	}
	slices.SortStableFunc(jobs, func(a, b *job) int { return cmp.Compare(b.weight, a.weight) })
}

// leastMembers is how many members, of some MiB each, are worth a connection of
// their own.
const leastMembers = 4

// leastJobs is how many connections there must be for a table to be worth
// parting: with two, one large table and the others keep both cores busy, and
// the WAL that the parts cost is lost time (docs/decisions/0010).
const leastJobs = 4

// plan lists what is to be loaded, the largest first.
func (l *loader) plan(src *sqldump.Indexed) []load {
	tables := slices.DeleteFunc(src.Tables(), func(r sqldump.Rows) bool { return l.opt.Only != nil && !l.opt.Only(r.Table) })
	total := int64(0)
	for _, t := range tables {
		total += t.Size
	}
	share := max(total/int64(l.opt.Jobs), 1)
	var loads []load
	for _, t := range tables {
		n := min(int((t.Size+share-1)/share), t.Members()/leastMembers)
		if !l.opt.AnyOrder || l.opt.Jobs < leastJobs || n < 2 {
			loads = append(loads, load{Rows: t})
			continue
		}
		for _, part := range src.Split(t, n) {
			loads = append(loads, load{Rows: part, part: true})
		}
	}
	slices.SortStableFunc(loads, func(a, b load) int { return cmp.Compare(b.Size, a.Size) })
	return loads
}

// rows loads the tables, and meanwhile builds what can be built.
func (l *loader) rows(ctx context.Context, src *sqldump.Indexed) error {
	p, err := l.hoist(ctx, src)
	if err != nil {
		return err
	}
	p.src = src
	p.loads = l.plan(src)
	sizes := map[string]int64{}
	for _, t := range p.loads {
		p.waiting[t.Table]++
		sizes[t.Table] += t.Size
	}
	weigh(p.jobs, sizes)
	l.post.sizes = sizes
	g, ctx := errgroup.WithContext(ctx)
	for range min(l.opt.Jobs, len(p.loads)+len(p.jobs)) {
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
		rows, j := p.next()
		switch {
		case rows != nil:
			if err := p.l.copyTable(ctx, s, p.src, *rows); err != nil {
				return err
			}
			p.loaded(rows.Table)
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
func (p *pool) next() (*load, *job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if p.failed {
			return nil, nil
		}
		if len(p.loads) > 0 {
			t := p.loads[0]
			p.loads = p.loads[1:]
			return &t, nil
		}
		if len(p.jobs) == 0 {
			return nil, nil
		}
		for i, j := range p.jobs {
			if p.waiting[j.tables[0]] == 0 && !slices.ContainsFunc(p.running, func(r *job) bool { return r.blocks(j) }) &&
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
	if p.waiting[table]--; p.waiting[table] == 0 {
		delete(p.waiting, table)
	}
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
