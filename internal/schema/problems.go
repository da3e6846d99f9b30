package schema

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Problem is something that does not work as its definition promises.
type Problem struct {
	Kind   ProblemKind `json:"kind"`
	Object string      `json:"object"` // "index public.trades_status"
	Detail string      `json:"detail"`
	// Fails: an INSERT will, as the column must be unique. Of a sequence.
	Fails bool `json:"fails,omitempty"`
}

// ProblemKind says which of the checks found a problem.
type ProblemKind string

// The checks.
const (
	InvalidIndex          ProblemKind = "invalid index"
	UnvalidatedConstraint ProblemKind = "constraint not validated"
	SequenceBehind        ProblemKind = "sequence behind its column"
	Unpopulated           ProblemKind = "materialized view not populated"
)

func (p Problem) String() string { return p.Object + ": " + p.Detail }

const stateSQL = `SELECT 'invalid index', format('index %I.%I', n.nspname, ic.relname), format('of %I.%I', n.nspname, c.relname),
  CASE WHEN i.indisready THEN 'it is not valid: the server does not use it' ELSE 'it is not ready: its build broke off' END
FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT (i.indisvalid AND i.indisready) AND n.nspname !~ '^pg_(temp|toast_temp)';
SELECT 'constraint not validated', format('constraint %I.%I.%I', n.nspname, c.relname, k.conname), '', 'rows from before it may break it: ' || pg_get_constraintdef(k.oid)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT k.convalidated;
SELECT 'materialized view not populated', format('materialized view %I.%I', n.nspname, c.relname), '', 'it cannot be read before a REFRESH'
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND NOT c.relispopulated;
`

// fedSQL lists the sequences that feed a column: those that it owns, by serial
// or identity, and those that its default asks.
const fedSQL = `SELECT format('%I.%I', sn.nspname, sc.relname), format('%I.%I', tn.nspname, tc.relname), format('%I', a.attname), s.seqincrement::text,
  EXISTS (SELECT FROM pg_index i WHERE i.indrelid = f.rel AND i.indisunique AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = f.num)
FROM (
  SELECT objid AS seq, refobjid AS rel, refobjsubid AS num FROM pg_depend WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i') AND refobjsubid > 0
  UNION SELECT d.refobjid, ad.adrelid, ad.adnum FROM pg_depend d JOIN pg_attrdef ad ON d.classid = 'pg_attrdef'::regclass AND ad.oid = d.objid 
    JOIN pg_class c ON c.oid = ad.adrelid WHERE d.refclassid = 'pg_class'::regclass AND NOT c.relispartition -- its parent tells of it
) f
JOIN pg_sequence s ON s.seqrelid = f.seq JOIN pg_class sc ON sc.oid = f.seq JOIN pg_namespace sn ON sn.oid = sc.relnamespace
JOIN pg_class tc ON tc.oid = f.rel JOIN pg_namespace tn ON tn.oid = tc.relnamespace
JOIN pg_attribute a ON a.attrelid = f.rel AND a.attnum = f.num JOIN pg_type t ON t.oid = a.atttypid
WHERE NOT s.seqcycle AND coalesce(nullif(t.typbasetype, 0), t.oid) IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)
  AND tc.relkind IN ('r', 'p') AND tn.nspname !~ '^pg_'
ORDER BY 1, 2, 3;
`

// AsBefore says whether a problem is none of the copy's: its source had it.
func (p Problem) AsBefore(source *Schema) bool {
	if source == nil {
		return false
	}
	object, _, _ := strings.Cut(p.Object, " of ")
	for _, o := range source.Objects {
		if o.ID() != object {
			continue
		}
		switch p.Kind {
		case InvalidIndex:
			return o.Fields["valid"] == "no"
		case UnvalidatedConstraint:
			return strings.HasSuffix(o.Fields["definition"], " NOT VALID")
		case Unpopulated:
			return o.Fields["populated"] == "no"
		}
	}
	return false
}

// Problems looks for what is there but does not work: indexes that are not
// valid, constraints that are not validated, sequences that would give out
// values which their columns have already, and materialized views that hold
// nothing. A column without an index is read whole for it. The connection must
// not be in a transaction.
func Problems(ctx context.Context, conn *pgconn.PgConn) ([]Problem, error) {
	var found []Problem
	err := eachRow(ctx, conn, begin+settings+stateSQL+"COMMIT", func(row [][]byte) error {
		found = append(found, Problem{Kind: ProblemKind(row[0]), Object: strings.TrimSpace(string(row[1]) + " " + string(row[2])), Detail: string(row[3])})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for invalid indexes, constraints and views: %w", err)
	}
	behind, err := sequencesBehind(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("compare the sequences with their columns: %w", err)
	}
	return append(found, behind...), nil
}

// fed is a column and the sequence that feeds it.
type fed struct {
	sequence, table, column string
	increment               int64
	unique                  bool
}

func sequencesBehind(ctx context.Context, conn *pgconn.PgConn) ([]Problem, error) {
	var all []fed
	err := eachRow(ctx, conn, begin+settings+fedSQL+"COMMIT", func(row [][]byte) error {
		f := fed{sequence: string(row[0]), table: string(row[1]), column: string(row[2]), unique: string(row[4]) == "t"}
		_, err := fmt.Sscan(string(row[3]), &f.increment)
		all = append(all, f)
		return err
	})
	if err != nil || len(all) == 0 {
		return nil, err
	}
	var sql strings.Builder
	for _, f := range all {
		extreme := "max"
		if f.increment < 0 {
			extreme = "min"
		}
		fmt.Fprintf(&sql, "SELECT last_value + CASE WHEN is_called THEN %d ELSE 0 END::numeric, (SELECT %s(%s) FROM %s) FROM %s;\n", f.increment, extreme, f.column, f.table, f.sequence)
	}
	var found []Problem
	i := 0
	err = eachRow(ctx, conn, begin+searchPath+sql.String()+"COMMIT", func(row [][]byte) error {
		f := all[i]
		i++
		if row[1] == nil {
			return nil // no rows
		}
		next, ok := new(big.Float).SetString(string(row[0]))
		last, ok2 := new(big.Float).SetString(string(row[1]))
		if !ok || !ok2 {
			return fmt.Errorf("%s: %s and %s are no numbers", f.sequence, row[0], row[1])
		}
		word, order := "largest", next.Cmp(last)
		if f.increment < 0 {
			word, order = "smallest", -order
		}
		if order <= 0 {
			found = append(found, Problem{Kind: SequenceBehind, Object: "sequence " + f.sequence, Fails: f.unique,
				Detail: fmt.Sprintf("its next value is %s, but the %s %s.%s is %s", row[0], word, f.table, f.column, row[1])})
		}
		return nil
	})
	return found, err
}

// Lacking tells which of the roles and extensions that a schema names a server
// does not have, before anything is restored into it.
func Lacking(ctx context.Context, conn *pgconn.PgConn, s *Schema) (roles, extensions []string, err error) {
	have := map[string]bool{}
	sql := "SELECT 'r' || rolname FROM pg_catalog.pg_roles; SELECT 'e' || name FROM pg_catalog.pg_available_extensions"
	if err := eachRow(ctx, conn, sql, func(row [][]byte) error {
		have[string(row[0])] = true
		return nil
	}); err != nil {
		return nil, nil, fmt.Errorf("list the server's roles and extensions: %w", err)
	}
	for _, role := range s.Roles() {
		if !have["r"+role] {
			roles = append(roles, role)
		}
	}
	for _, o := range s.Objects {
		if name := strings.ReplaceAll(strings.Trim(o.Name, `"`), `""`, `"`); o.Kind == "extension" && !have["e"+name] {
			extensions = append(extensions, name)
		}
	}
	slices.Sort(extensions)
	return roles, extensions, nil
}
