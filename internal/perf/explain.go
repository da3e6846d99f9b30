package perf

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Explainer is a session that shows plans. Rows runs statements one after the
// other in one read-only transaction, which it rolls back, and returns the rows
// of the last one, which has one column. Each must be one statement only: what
// a text brings along behind it, the server must refuse.
type Explainer interface {
	Querier
	Rows(ctx context.Context, statements ...string) ([]string, error)
}

// Plan is how the server would run a statement whose parameters it does not
// know. Nothing of the statement is run for it.
type Plan struct {
	ID   string `json:"id"`
	Text string `json:"text"`
	// Lines are those of EXPLAIN, with texts of the statement as "?"; none where
	// Missing says why.
	Lines   []string `json:"lines,omitempty"`
	Missing string   `json:"missing,omitempty"`
}

// explainLimit is the time for all plans together.
const explainLimit = 30 * time.Second

// Explain adds the plans of the statements to a report that got slower, that
// are slowest, and that take most time. A statement that cannot be planned says
// why. The error is that no statement could be.
func Explain(ctx context.Context, e Explainer, r *Report, now func() time.Time) error {
	if r.Queries == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, explainLimit)
	defer cancel()
	m := &meter{q: e, now: now}
	plans := plansOf(r.Queries.top)
	texts, err := m.texts(ctx, plans)
	if err != nil {
		return err
	}
	for i := range plans {
		m.plan(ctx, e, i, texts[plans[i].ID], &plans[i])
	}
	r.Plans = plans
	if r.Cost != nil {
		r.Cost.Queries += m.cost.Queries
		r.Cost.Seconds += m.cost.Seconds
		r.Cost.Bytes += m.cost.Bytes
	}
	return nil
}

// plansOf is an empty plan for each of the statements.
func plansOf(top []Query) []Plan {
	var plans []Plan
	seen := map[string]bool{}
	for _, q := range top {
		if !seen[q.ID] {
			seen[q.ID] = true
			plans = append(plans, Plan{ID: q.ID, Text: q.Text})
		}
	}
	return plans
}

// texts reads the statements as the server recorded them.
func (m *meter) texts(ctx context.Context, plans []Plan) (map[string]string, error) {
	ext, err := m.extension(ctx)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(plans))
	for i, p := range plans {
		ids[i] = p.ID
	}
	query := `coalesce(json_object_agg(t.id, t.text), '{}') FROM (SELECT s.queryid::text AS id, min(s.query) AS text
		FROM ` + quoteName(ext.Schema) + `.pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database()
		WHERE s.queryid = ANY (string_to_array($1, ',')::bigint[]) GROUP BY s.queryid) t`
	texts := map[string]string{}
	err = m.read(ctx, "texts of statements", query, &texts, strings.Join(ids, ","))
	return texts, err
}

func (m *meter) plan(ctx context.Context, e Explainer, n int, text string, p *Plan) {
	statements, reason := explaining(text, n)
	if reason != "" {
		p.Missing = reason
		return
	}
	start := m.now()
	lines, err := e.Rows(ctx, statements...)
	m.cost.Queries++
	m.cost.Seconds += m.now().Sub(start).Seconds()
	if err != nil {
		p.Missing = whyNoPlan(ctx, err)
		return
	}
	plan := strings.Join(lines, "\n") // a string may go over lines
	m.cost.Bytes += int64(len(plan))
	p.Lines = strings.Split(hideTexts(plan), "\n")
}

func whyNoPlan(ctx context.Context, err error) string {
	switch sqlState(err) {
	case "42501":
		return err.Error() + ": it was run by a role that has more rights"
	case "42P01", "3F000", "42883":
		return err.Error() + ": it is gone, or in a schema that is not in search_path here"
	case "42P18", "42725":
		return err.Error() + ": the record does not say what its parameters are"
	case "42601":
		return err.Error() + ": the record of it is no statement"
	}
	if ctx.Err() != nil {
		return fmt.Sprintf("the %s for all plans are over", explainLimit)
	}
	return err.Error()
}

// explaining returns what shows the plan of a recorded statement, or why nothing
// does. n names it in the session.
//
// EXPLAIN (GENERIC_PLAN), new in version 16, would show the same. But a statement
// with parameters it takes by the simple protocol only, in which a second
// statement that the text brings along would be run.
func explaining(text string, n int) (statements []string, reason string) {
	switch {
	case text == "":
		return nil, "pg_stat_statements does not have it any more"
	case text == "<insufficient privilege>":
		return nil, "its text is hidden from this role"
	case !queries(text):
		return nil, "a utility statement has no plan"
	}
	text = castParameters(text)
	params := 0
	for _, t := range tokens(text) {
		if t.text == ";" {
			return nil, "the record holds more than one statement"
		}
		if t.kind == param {
			at, _ := strconv.Atoi(t.raw[1:]) // digits
			params = max(params, at)
		}
	}
	switch {
	case params == 0:
		return []string{"EXPLAIN " + text}, ""
	case params > maxParameters:
		return nil, "it has too many parameters"
	}
	// The plan is made without looking at the values. The executor would look at
	// them for leaving out partitions, and NULL leaves out all.
	name := "escrowctl_" + strconv.Itoa(n)
	nulls := strings.TrimSuffix(strings.Repeat("NULL, ", params), ", ")
	return []string{
		"SET LOCAL plan_cache_mode = force_generic_plan", "SET LOCAL enable_partition_pruning = off",
		"PREPARE " + name + " AS " + text, "EXPLAIN EXECUTE " + name + "(" + nulls + ")",
	}, ""
}

// maxParameters is how many parameters a statement of the protocol can have.
const maxParameters = 65535

// castParameters mends what the server's record breaks: of interval '1 day' it
// keeps interval $1, which only means something as a cast.
func castParameters(text string) string {
	all := tokens(text)
	var b strings.Builder
	mended := false
	for i := 0; i < len(all); i++ {
		t := all[i]
		if t.space && i > 0 {
			b.WriteByte('\n') // also what parts strings that are one
		}
		if t.kind == word && literalType(t.text) && i+1 < len(all) && all[i+1].kind == param && (i == 0 || all[i-1].text != ".") {
			b.WriteString("CAST(" + all[i+1].raw + " AS " + t.raw + ")")
			mended = true
			i++
			continue
		}
		b.WriteString(t.raw)
	}
	if !mended {
		return text // with its comments: hints stand there
	}
	return b.String()
}

// literalType says whether SQL writes literals of the type as type 'text'.
func literalType(w string) bool {
	switch w {
	case "interval", "date", "time", "timestamp", "timestamptz", "timetz":
		return true
	}
	return false
}

// hideTexts shows strings in a plan as "?", as in statements.
func hideTexts(plan string) string {
	var b strings.Builder
	for i := 0; i < len(plan); {
		switch plan[i] {
		case '\'':
			i += stringEnd(plan[i:], 0, false)
			b.WriteByte('?')
		case '"': // an apostrophe in a name begins no string
			n := through(plan[i:], `"`, 1)
			b.WriteString(plan[i : i+n])
			i += n
		default:
			b.WriteByte(plan[i])
			i++
		}
	}
	return b.String()
}
