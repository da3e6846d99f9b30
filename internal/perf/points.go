package perf

import "time"

// Point is what one snapshot adds to the history of each figure; nil where it
// was not read. Rates are those since the snapshot before.
type Point struct {
	ID          string    `json:"id"`
	At          time.Time `json:"taken_at"`
	SizeBytes   *float64  `json:"database_size_bytes,omitempty"`
	Connections *float64  `json:"connections,omitempty"`
	CacheHit    *float64  `json:"cache_hit_ratio,omitempty"`
	QueryMean   *float64  `json:"query_mean_seconds,omitempty"` // over all statements
	RedisHit    *float64  `json:"redis_hit_ratio,omitempty"`
	TTFB        *float64  `json:"ttfb_p95_seconds,omitempty"` // of the slowest URL
	Indexer     *float64  `json:"indexer_memory_bytes,omitempty"`
}

// History returns a point for each snapshot that is kept, oldest first, the last
// limit of them (0: all). A snapshot that cannot be read is left out.
func (a Archive) History(limit int, indexer string) ([]Point, error) {
	ids, err := a.IDs()
	if err != nil {
		return nil, err
	}
	if limit > 0 && len(ids) > limit {
		ids = ids[len(ids)-limit:]
	}
	points := []Point{}
	var before *Snapshot
	for _, id := range ids {
		s, err := a.Load(id)
		if err != nil {
			continue // the next analysis says so
		}
		points = append(points, pointOf(s, before, indexer))
		before = s
	}
	return points, nil
}

func pointOf(s, before *Snapshot, indexer string) Point {
	p := Point{ID: s.ID(), At: s.TakenAt}
	report := Analyse(s, before, Options{Limits: DefaultLimits()})
	if db := report.Database; db != nil {
		size, connections := float64(db.SizeBytes), float64(db.Connections)
		p.SizeBytes, p.Connections, p.CacheHit = &size, &connections, db.CacheHit
	}
	if report.Queries != nil {
		p.QueryMean = meanOf(s.Database.Statements, before)
	}
	if report.Redis != nil {
		p.RedisHit = report.Redis.HitRate
	}
	for _, e := range s.Endpoints {
		if e.Requests > e.Failed && (p.TTFB == nil || e.TTFB.P95 > *p.TTFB) {
			p.TTFB = &e.TTFB.P95
		}
	}
	for _, c := range s.Containers {
		if memory := float64(c.MemoryBytes); c.Service == indexer && (p.Indexer == nil || memory > *p.Indexer) {
			p.Indexer = &memory
		}
	}
	return p
}

func meanOf(now *Statements, before *Snapshot) *float64 {
	known := map[statementKey]Statement{}
	if before != nil && before.Database != nil && before.Database.Statements != nil && !now.resetSince(before.Database.Statements) {
		for _, s := range before.Database.Statements.List {
			known[s.key()] = s
		}
	}
	var calls int64
	var total float64
	for _, s := range now.List {
		d := s.minus(known[s.key()])
		calls, total = calls+d.Calls, total+d.TotalMS
	}
	if calls == 0 {
		return nil
	}
	mean := total / float64(calls) / 1000
	return &mean
}
