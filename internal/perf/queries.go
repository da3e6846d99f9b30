package perf

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

type statementKey struct {
	id     int64
	user   string
	nested bool
}

func (s Statement) key() statementKey { return statementKey{s.ID, s.User, s.Nested} }

func (s Statement) figures() Figures {
	return Figures{
		Calls: s.Calls, Mean: share(s.TotalMS, float64(s.Calls)) / 1000, Total: s.TotalMS / 1000, Rows: s.Rows,
		Hit: s.Hit, Read: s.Read, Temp: s.Temp, IO: s.IOMS / 1000,
	}
}

// restarted says whether its counting began anew since before: by a reset, or
// because the server had to forget the statement for a while. From version 1.11
// on it says so itself; before that, what can only grow has become less.
func (s Statement) restarted(before Statement) bool {
	if !s.Since.IsZero() && !before.Since.IsZero() {
		return !s.Since.Equal(before.Since)
	}
	return s.Calls < before.Calls || s.TotalMS < before.TotalMS || s.MaxMS < before.MaxMS || s.Rows < before.Rows ||
		s.Hit < before.Hit || s.Read < before.Read || s.Temp < before.Temp
}

// minus is the statement since before; the whole of it if it was reset.
func (s Statement) minus(before Statement) Statement {
	if s.restarted(before) {
		return s
	}
	d := s
	d.Calls -= before.Calls
	d.TotalMS -= before.TotalMS
	d.Rows -= before.Rows
	d.Hit, d.Read, d.Temp = s.Hit-before.Hit, s.Read-before.Read, s.Temp-before.Temp
	d.IOMS = max(0, s.IOMS-before.IOMS)
	return d
}

// queries compares the statements and judges them.
func (a *analysis) queries(now, before *Statements) []Query {
	compared := before != nil
	reset := compared && a.statementsReset(now, before)
	known := map[statementKey]Statement{}
	if compared {
		for _, s := range before.List {
			known[s.key()] = s
		}
	}
	var all []Query
	var totalTime, judgedTime float64
	for _, s := range now.List {
		q := Query{ID: strconv.FormatInt(s.ID, 10), User: s.User, Text: s.Text, Nested: s.Nested, Total: s.figures()}
		judged := s
		if p, found := known[s.key()]; found && compared {
			if !reset {
				judged = s.minus(p)
			}
			q.compare(judged, p, a.opt.Limits)
		} else if compared && now.Evicted == before.Evicted {
			q.New = true
		}
		q.Judged = judged.figures()
		q.basis = q.Judged
		if a.short() && q.Judged.Calls < a.opt.Limits.MinCalls {
			q.basis = q.Total
		}
		totalTime, judgedTime = totalTime+q.Total.Total, judgedTime+q.Judged.Total
		all = append(all, q)
	}
	for i := range all {
		all[i].Total.TimeOf = share(all[i].Total.Total, totalTime)
		all[i].Judged.TimeOf = share(all[i].Judged.Total, judgedTime)
		all[i].basis.TimeOf = all[i].Judged.TimeOf
		if all[i].basis.Calls != all[i].Judged.Calls {
			all[i].basis.TimeOf = all[i].Total.TimeOf
		}
	}
	a.queryLists(now, all, compared)
	return all
}

// compare fills in how the mean changed, where there were calls enough before
// and since.
func (q *Query) compare(judged, before Statement, limits Limits) {
	if before.Calls < limits.MinCalls || judged.Calls < limits.MinCalls || before.TotalMS <= 0 {
		return
	}
	old := before.TotalMS / float64(before.Calls) / 1000
	factor := judged.TotalMS / float64(judged.Calls) / 1000 / old
	q.Before, q.Factor = &old, &factor
}

func (a *analysis) statementsReset(now, before *Statements) bool {
	reset := now.resetSince(before)
	switch {
	case reset && !now.Reset.IsZero():
		a.note("pg_stat_statements was reset at %s: its figures are since then", now.Reset.UTC().Format(time.RFC3339))
	case reset:
		a.note("pg_stat_statements was reset since the last analysis: its figures are since then")
	}
	return reset
}

// resetSince says whether all statements were forgotten since before.
func (s *Statements) resetSince(before *Statements) bool {
	if !s.Reset.IsZero() && !before.Reset.IsZero() {
		return !s.Reset.Equal(before.Reset)
	}
	// Before version 1.9 nobody tells, so that one statement's figures must do.
	known := map[statementKey]Statement{}
	for _, st := range before.List {
		known[st.key()] = st
	}
	return slices.ContainsFunc(s.List, func(st Statement) bool { return st.restarted(known[st.key()]) })
}

func (a *analysis) queryLists(st *Statements, all []Query, compared bool) {
	top := a.opt.Top
	by := func(f func(Query) float64) []Query { return largest(all, top, f) }
	a.out.Queries = &Queries{
		Extension: st.Version, Compared: compared, Tracked: st.Tracked, Evicted: st.Evicted, Outsiders: st.Outsiders,
		ByMean: by(func(q Query) float64 {
			if q.Judged.Calls == 0 {
				return 0
			}
			return q.Judged.Mean
		}),
		ByTotal: by(func(q Query) float64 { return q.Judged.Total }),
		ByCalls: by(func(q Query) float64 { return float64(q.Judged.Calls) }),
		ByIO:    by(func(q Query) float64 { return q.Judged.IO*1e6 + float64(q.Judged.Read+q.Judged.Temp) }),
		New: by(func(q Query) float64 {
			if !q.New {
				return 0
			}
			return q.Judged.Total
		}),
		Regressed: by(func(q Query) float64 {
			if !q.regressed(a.opt.Limits) {
				return 0
			}
			return (q.Judged.Mean - *q.Before) * float64(q.Judged.Calls)
		}),
	}
	a.out.Queries.top = slices.Concat(a.out.Queries.Regressed,
		by(func(q Query) float64 { return q.basis.Mean }), by(func(q Query) float64 { return q.basis.Total }))
}

func (q Query) regressed(l Limits) bool {
	return q.Factor != nil && *q.Factor >= l.RegressionFactor && q.Judged.Mean-*q.Before >= l.RegressionFloor.Seconds()
}

// judgeQueries makes one finding of each statement that is slow or got slower.
func (a *analysis) judgeQueries(all []Query, db *Database) {
	for _, q := range all {
		if q.basis.Calls < a.opt.Limits.MinCalls {
			continue
		}
		status, limit := a.judge(runbook.DBQueryMean, q.basis.Mean)
		regressed := q.regressed(a.opt.Limits)
		if status == check.OK && !regressed {
			continue
		}
		f := Finding{Object: q.ID, weight: q.basis.Total, first: regressed || q.New}
		f.Status = check.Worst(status, check.Warning)
		f.Action = limit.Action
		if status == check.Critical {
			f.Alert = "DBQueryLatency"
		}
		f.Figures = []check.Figure{figure("mean", q.basis.Mean, limit)}
		f.ID, f.Summary = "query.slow", fmt.Sprintf("a query takes %s a call, over %s", millis(q.basis.Mean), passed(status, limit))
		switch {
		case regressed:
			f.ID = "query.regressed"
			f.Summary = fmt.Sprintf("a query became %.1f times slower: %s a call, before %s", *q.Factor, millis(q.basis.Mean), millis(*q.Before))
			f.Action = "find what changed: a deployment, the plan (EXPLAIN), the table's size or statistics"
		case q.New:
			f.ID, f.Summary = "query.new", "new: "+f.Summary
		}
		f.Detail = []string{cut(q.Text, 400),
			fmt.Sprintf("%d calls, %s in all, %s of all query time; id %s", q.basis.Calls, millis(q.basis.Total), percent(q.basis.TimeOf), q.ID)}
		if s := a.suggest(q.Text, db, 0); s != "" {
			f.SQL = append(f.SQL, s)
		}
		a.add(f)
	}
}

// passed is the limit that was passed, as a text.
func passed(status check.Status, limit runbook.Threshold) string {
	return millis(limitPassed(status, limit))
}
