package perf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Querier is a session on the database. JSON runs a query that returns one
// value, a JSON document, in a read-only transaction of its own, so that one
// that fails does not take others with it.
type Querier interface {
	JSON(ctx context.Context, query string, args ...any) ([]byte, error)
}

// stamp marks our own statements in pg_stat_statements, so that the next
// analysis leaves them out.
const stamp = "/* escrowctl */"

// meter runs queries and keeps count of what they cost.
type meter struct {
	q    Querier
	now  func() time.Time
	cost Cost
}

// read runs "SELECT "+query, which must return one JSON value, into v.
func (m *meter) read(ctx context.Context, name, query string, v any, args ...any) error {
	start := m.now()
	doc, err := m.q.JSON(ctx, "SELECT "+stamp+" "+query, args...)
	took := m.now().Sub(start).Seconds()
	m.cost.Queries++
	m.cost.Seconds += took
	m.cost.Bytes += int64(len(doc))
	if took > m.cost.SlowestS {
		m.cost.Slowest, m.cost.SlowestS = name, took
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(doc) == 0 {
		doc = []byte("null")
	}
	if err := json.Unmarshal(doc, v); err != nil {
		return fmt.Errorf("%s: the server's answer: %w", name, err)
	}
	return nil
}

// list wraps a query of several rows for read.
func list(query string) string {
	return "coalesce(json_agg(t), '[]'::json) FROM (" + query + ") t"
}

// sqlState returns PostgreSQL's error code, "" if err has none.
func sqlState(err error) string {
	var coded interface{ SQLState() string }
	if errors.As(err, &coded) {
		return coded.SQLState()
	}
	return ""
}

// Collector reads one source into a snapshot. It has its own part of the
// snapshot to itself.
type Collector struct {
	Name  string
	Limit time.Duration // 0 is DefaultLimit
	// Run reads the source. What it returns is kept even beside an error.
	Run func(ctx context.Context, into *Snapshot) []Source
}

// DefaultLimit is the time limit of a collector that sets none.
const DefaultLimit = 30 * time.Second

// Collect runs all collectors at once. Each fills a snapshot of its own, and
// only those that return in time are merged: one that hangs is one line.
func Collect(ctx context.Context, now func() time.Time, collectors []Collector) *Snapshot {
	out := &Snapshot{SchemaVersion: SnapshotVersion, TakenAt: now().UTC().Truncate(time.Second)}
	type answer struct {
		part    *Snapshot
		sources []Source
	}
	answers := make([]answer, len(collectors))
	var wg sync.WaitGroup
	for i, c := range collectors {
		wg.Go(func() {
			start := now()
			part, sources := runCollector(ctx, c)
			for j := range sources {
				if sources[j].Seconds == 0 {
					sources[j].Seconds = now().Sub(start).Seconds()
				}
			}
			answers[i] = answer{part, sources}
		})
	}
	wg.Wait()
	for _, a := range answers {
		out.Sources = append(out.Sources, a.sources...)
		if a.part != nil {
			out.merge(a.part)
		}
	}
	return out
}

func (s *Snapshot) merge(p *Snapshot) {
	if p.Database != nil {
		s.Database = p.Database
	}
	if p.API != nil {
		s.API = p.API
	}
	if p.Redis != nil {
		s.Redis = p.Redis
	}
	s.Endpoints = append(s.Endpoints, p.Endpoints...)
	s.Containers = append(s.Containers, p.Containers...)
	s.Disks = append(s.Disks, p.Disks...)
}

// runCollector gives a collector up that does not heed its limit.
func runCollector(parent context.Context, c Collector) (*Snapshot, []Source) {
	limit := c.Limit
	if limit <= 0 {
		limit = DefaultLimit
	}
	ctx, cancel := context.WithTimeout(parent, limit)
	defer cancel()
	type result struct {
		part    *Snapshot
		sources []Source
	}
	done := make(chan result, 1)
	go func() {
		part := new(Snapshot)
		defer func() {
			if cause := recover(); cause != nil {
				done <- result{nil, []Source{{Name: c.Name, State: Failed, Reason: fmt.Sprintf("the collector itself failed: %v", cause)}}}
			}
		}()
		sources := c.Run(ctx, part)
		done <- result{part, sources}
	}()
	grace := time.NewTimer(limit + 2*time.Second)
	defer grace.Stop()
	select {
	case r := <-done:
		return r.part, r.sources
	case <-parent.Done():
	case <-grace.C:
	}
	reason := fmt.Sprintf("no answer within %s", limit)
	if parent.Err() != nil {
		reason = "interrupted"
	}
	return nil, []Source{{Name: c.Name, State: Failed, Reason: reason}}
}
