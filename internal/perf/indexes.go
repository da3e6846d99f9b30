package perf

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

func (x Index) fullName() string  { return qualified(x.Schema, x.Name) }
func (x Index) tableName() string { return qualified(x.Schema, x.TableName) }

// keep says that an index is there for more than speed.
func (x Index) keep() bool {
	return x.Unique || x.Primary || x.Exclusion || x.Identity || x.Constraint != ""
}

// indexes judges the indexes, and lists the largest.
func (a *analysis) indexes(db *Database) {
	tables := map[int64]Table{}
	for _, t := range db.Tables {
		tables[t.OID] = t
	}
	redundant := a.duplicates(db)
	for _, x := range db.Indexes {
		switch {
		case x.Building:
		case x.Invalid:
			f := Finding{Object: x.fullName(), weight: float64(x.Bytes)}
			f.ID, f.Status = "index.invalid", check.Warning
			f.Summary = fmt.Sprintf("index %s is invalid: no query uses it, every write pays for it (%s)", x.fullName(), ui.Bytes(x.Bytes))
			f.Action = "escrowctl perf maintain --reindex, or drop it"
			f.SQL = []string{fmt.Sprintf("REINDEX INDEX CONCURRENTLY %s;", x.fullName()), dropIndex(x)}
			a.add(f)
		case redundant[x.OID]:
		default:
			a.unused(db, x, tables[x.Table])
			a.indexBloated(x)
		}
	}
	a.unindexedKeys(db, tables)
	rows := make([]IndexReport, 0, len(db.Indexes))
	for _, x := range db.Indexes {
		rows = append(rows, IndexReport{
			Name: x.fullName(), Table: x.tableName(), Columns: x.Columns, Bytes: x.Bytes, Scans: x.Scans,
			BloatBytes: x.BloatBytes, Unique: x.Unique, Invalid: x.Invalid,
		})
	}
	a.out.Indexes = largest(rows, 2*a.opt.Top, func(x IndexReport) float64 { return float64(x.Bytes) })
}

func dropIndex(x Index) string { return fmt.Sprintf("DROP INDEX CONCURRENTLY %s;", x.fullName()) }

// unused finds indexes that no query has used while their table was in use.
func (a *analysis) unused(db *Database, x Index, t Table) {
	age := db.Server.At.Sub(db.statsSince())
	if x.Scans > 0 || x.keep() || x.Bytes < a.opt.Limits.UnusedBytes || age < a.opt.Limits.UnusedAfter {
		return
	}
	if t.SeqScans+t.IndexScans < a.opt.Limits.UnusedReads {
		return // hardly anybody reads the table either: no evidence against the index
	}
	f := Finding{Object: x.fullName(), weight: float64(x.Bytes)}
	f.ID, f.Status = "index.unused", check.Warning
	f.Summary = fmt.Sprintf("index %s (%s) on %s has not been used for %s", x.fullName(), ui.Bytes(x.Bytes), x.tableName(), ui.Duration(age))
	f.Detail = []string{fmt.Sprintf("(%s); the table was read %d times and written %d times meanwhile", strings.Join(x.Columns, ", "), t.SeqScans+t.IndexScans, t.Inserted+t.Updated+t.Deleted)}
	f.Action = "drop it, once you are sure that no replica and no monthly job uses it"
	f.SQL = []string{dropIndex(x)}
	a.add(f)
}

func (a *analysis) indexBloated(x Index) {
	l := a.opt.Limits
	if x.BloatBytes == nil {
		return
	}
	bloat := *x.BloatBytes
	if part := share(float64(bloat), float64(x.Bytes)); bloat >= l.BloatBytes && part >= l.BloatShare {
		f := Finding{Object: x.fullName(), weight: float64(bloat)}
		f.ID, f.Status = "index.bloat", check.Warning
		f.Summary = fmt.Sprintf("index %s is bloated: about %s of %s (%s)", x.fullName(), ui.Bytes(bloat), ui.Bytes(x.Bytes), percent(part))
		f.Action = "escrowctl perf maintain --reindex"
		f.SQL = []string{fmt.Sprintf("REINDEX INDEX CONCURRENTLY %s;", x.fullName())}
		a.add(f)
	}
}

// duplicates finds indexes that another one on the same table makes needless,
// and returns them: first those that are the same, then those that another
// begins with.
func (a *analysis) duplicates(db *Database) map[int64]bool {
	redundant := map[int64]bool{}
	byTable := map[int64][]Index{}
	for _, x := range db.Indexes {
		if !x.Invalid && !x.Building {
			byTable[x.Table] = append(byTable[x.Table], x)
		}
	}
	for _, replaces := range []func(other, x Index) bool{duplicate, overlaps} {
		for _, list := range byTable {
			for _, x := range list {
				i := slices.IndexFunc(list, func(other Index) bool {
					return x.OID != other.OID && !redundant[x.OID] && !redundant[other.OID] && replaces(other, x)
				})
				if i >= 0 {
					redundant[x.OID] = true
					a.needless(x, list[i])
				}
			}
		}
	}
	return redundant
}

func (a *analysis) needless(x, other Index) {
	if x.Bytes < minDuplicate {
		return
	}
	f := Finding{Object: x.fullName(), weight: float64(x.Bytes)}
	f.ID, f.Status = "index.overlapping", check.Warning
	f.Summary = fmt.Sprintf("index %s (%s) is needless: %s begins with the same columns", x.fullName(), ui.Bytes(x.Bytes), other.fullName())
	if same(x, other) {
		f.ID = "index.duplicate"
		f.Summary = fmt.Sprintf("index %s (%s) is a duplicate of %s", x.fullName(), ui.Bytes(x.Bytes), other.fullName())
	}
	f.Detail = []string{fmt.Sprintf("(%s) and (%s) on %s", strings.Join(x.Columns, ", "), strings.Join(other.Columns, ", "), x.tableName())}
	f.Action = "drop it"
	f.SQL = []string{dropIndex(x)}
	a.add(f)
}

// minDuplicate is the size from which a needless index matters.
const minDuplicate = 64 << 10

// spare says that x is there for speed alone, and of the same kind as other.
func spare(other, x Index) bool {
	return x.Method == other.Method && x.Predicate == other.Predicate && !x.Exclusion && !other.Exclusion && x.Constraint == "" && !x.Identity
}

// duplicate says whether other is the same index as x, and x the one to go: of
// two equal ones the newer.
func duplicate(other, x Index) bool {
	if !spare(other, x) || !same(x, other) {
		return false
	}
	if x.Unique != other.Unique {
		return other.Unique
	}
	return other.Constraint != "" || other.OID < x.OID
}

// overlaps says whether other begins with the columns of x, and so serves every
// query that x does. That is so in a B-tree; a unique one demands more than
// speed.
func overlaps(other, x Index) bool {
	return spare(other, x) && x.Method == "btree" && !x.Unique && x.Expressions == "" && other.Expressions == "" &&
		len(x.Keys) == x.KeyCount && len(x.Keys) < other.KeyCount &&
		prefix(x.Keys, other.Keys) && prefix(strings.Fields(x.Classes), strings.Fields(other.Classes)) &&
		prefix(strings.Fields(x.Collations), strings.Fields(other.Collations)) && prefix(strings.Fields(x.Options), strings.Fields(other.Options))
}

func same(x, y Index) bool {
	return slices.Equal(x.Keys, y.Keys) && x.KeyCount == y.KeyCount && x.Classes == y.Classes && x.Collations == y.Collations &&
		x.Options == y.Options && x.Expressions == y.Expressions && x.Predicate == y.Predicate
}

func prefix[T comparable](short, long []T) bool {
	return len(short) <= len(long) && slices.Equal(short, long[:len(short)])
}

// unindexedKeys finds foreign keys whose columns no index begins with: each row
// deleted from the table referred to reads the whole table that refers.
func (a *analysis) unindexedKeys(db *Database, tables map[int64]Table) {
	for _, k := range db.ForeignKeys {
		t := tables[k.Table]
		if float64(t.count()) < a.opt.Limits.ForeignKeyRows || indexed(db, k) {
			continue
		}
		f := Finding{Object: qualified(k.Schema, k.TableName) + " " + k.Name, weight: float64(t.TotalBytes)}
		f.ID, f.Status = "index.foreign_key", check.Warning
		f.Summary = fmt.Sprintf("foreign key %s of %s has no index: deleting from %s reads all %d rows", k.Name, t.fullName(), k.References, t.count())
		names := make([]string, len(k.Columns))
		for i, c := range k.Columns {
			names[i] = quoteName(c)
		}
		f.Action = "consider the index if rows of " + k.References + " are deleted or joined by it"
		sql := fmt.Sprintf("CREATE INDEX CONCURRENTLY ON %s (%s);", t.fullName(), strings.Join(names, ", "))
		f.SQL = []string{sql}
		a.add(f)
	}
}

func indexed(db *Database, k ForeignKey) bool {
	return slices.ContainsFunc(db.Indexes, func(x Index) bool {
		if x.Table != k.Table || x.Invalid || x.Predicate != "" || x.KeyCount < len(k.Keys) {
			return false
		}
		head := slices.Clone(x.Keys[:len(k.Keys)])
		want := slices.Clone(k.Keys)
		slices.Sort(head)
		slices.Sort(want)
		return slices.Equal(head, want)
	})
}
