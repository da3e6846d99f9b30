package drtest

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn" //nolint:depguard // the connection type that sqlload takes
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/schema"
)

// The IDs of the checks that look at definitions.
const (
	idSchema      = "schema"
	idIndexes     = "indexes"
	idConstraints = "constraints"
	idSequences   = "sequences"
	idViews       = "materialized-views"
)

// definitions are what the restored database is made of.
type definitions struct {
	schema   *schema.Schema
	problems []schema.Problem
}

// define reads the definitions and looks whether what is there works. It must
// run before anything that could change the database.
func define(ctx context.Context, conn *pgconn.PgConn) (*definitions, error) {
	restored, err := schema.Capture(ctx, conn)
	if err != nil {
		return nil, err
	}
	problems, err := schema.Problems(ctx, conn)
	return &definitions{restored, problems}, err
}

// judgeDefinitions compares the schema with the one that was recorded when it
// was dumped, and tells what does not work.
func (r *run) judgeDefinitions(d *definitions, source *schema.Schema) {
	if source != nil {
		r.compareSchema(source, d.schema)
	}
	for _, k := range []struct {
		id, good, bad string
		kind          schema.ProblemKind
	}{
		{idIndexes, "all indexes are valid", "not valid", schema.InvalidIndex},
		{idConstraints, "all constraints are validated", "not validated", schema.UnvalidatedConstraint},
		{idSequences, "no sequence is behind its column", "behind their columns", schema.SequenceBehind},
		{idViews, "all materialized views are populated", "not populated", schema.Unpopulated},
	} {
		r.rep.add(judge(k.id, k.good, k.bad, k.kind, d.problems, source))
	}
}

// compareSchema makes the check of the schema.
func (r *run) compareSchema(source, restored *schema.Schema) {
	c := check.Result{ID: idSchema, Figures: []check.Figure{{Name: "objects", Unit: "count", Value: float64(len(source.Objects))}}}
	found := schema.Compare(source, restored)
	for _, d := range found {
		if d.Note != "" {
			r.rep.Notes = append(r.rep.Notes, d.String())
		} else {
			c.Detail = append(c.Detail, d.String())
		}
	}
	switch n := len(c.Detail); {
	case n > 0:
		c.Status = check.Critical
		c.Summary = fmt.Sprintf("it is not the schema that was dumped: %d of %d objects differ; %s", n, len(source.Objects), c.Detail[0])
		c.Action = "find out what the dump lacks, and take a new one: escrowctl backup"
	case source.Unsettled != "" && len(found) > 0:
		c.Status = check.Warning
		c.Summary = fmt.Sprintf("%d objects differ, and %s", len(found), source.Unsettled)
	default:
		c.Summary = fmt.Sprintf("all %d objects are as they were when it was dumped", len(source.Objects))
	}
	r.rep.add(c)
}

// judge makes a check of the problems of one kind. What the source had too is
// none of the backup's.
func judge(id, good, bad string, kind schema.ProblemKind, problems []schema.Problem, source *schema.Schema) check.Result {
	c := check.Result{ID: id, Summary: good}
	old := 0
	for _, p := range problems {
		switch {
		case p.Kind != kind:
			continue
		case p.AsBefore(source):
			old++
			continue
		}
		c.Detail = append(c.Detail, p.String())
		status := check.Critical
		// Where no value must be unique, or a dump has no manifest to say that it
		// was otherwise, it may be as it should.
		if kind == schema.SequenceBehind && !p.Fails || source == nil && (kind == schema.UnvalidatedConstraint || kind == schema.Unpopulated) {
			status = check.Warning
		}
		c.Status = check.Worst(c.Status, status)
	}
	switch {
	case len(c.Detail) > 0:
		c.Summary = fmt.Sprintf("%d %s: %s", len(c.Detail), bad, c.Detail[0])
		c.Action = map[string]string{
			idSequences: "set it at the source with setval, or the first INSERT after a restore fails",
			idIndexes:   "REINDEX it at the source", idConstraints: "VALIDATE CONSTRAINT at the source", idViews: "REFRESH it at the source",
		}[id]
	case old > 0:
		c.Summary = fmt.Sprintf("%d %s, as it was when it was dumped", old, bad)
	}
	return c
}
