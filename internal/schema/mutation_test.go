package schema

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// mutations are changes to testdata/expressions.sql, each with the words that a
// line of the comparison must have.
func mutations() [][2]string {
	return [][2]string{
		{"ALTER TABLE public.kid DROP COLUMN own", "column public.kid.own is missing"},
		{"ALTER TABLE public.log ADD COLUMN more int", "column public.log.more is not in the source"},
		{"ALTER TABLE public.pe_1 ALTER i SET NOT NULL", "column public.pe_1.i: not null is yes, was none"},
		{"ALTER TABLE public.kid ALTER own TYPE varchar(9)", "column public.kid.own: type is character varying(9), was text"},
		{"ALTER TABLE public.e ALTER n SET DEFAULT -1.51", "column public.e.n: default is '-1.51'::numeric, was '-1.50'::numeric"},
		{"ALTER TABLE public.e ALTER s DROP DEFAULT", "column public.e.s: default is gone, was 3"},
		{"ALTER TABLE public.e ALTER v DROP NOT NULL", "column public.e.v: not null is gone, was yes"},
		{"ALTER TABLE public.e ALTER id DROP IDENTITY", "column public.e.id: identity is gone, was by default"},
		{"ALTER TABLE public.e ALTER id SET GENERATED ALWAYS", "column public.e.id: identity is always, was by default"},
		{"ALTER TABLE public.e ALTER g2 DROP EXPRESSION", "column public.e.g2: generated is gone, was ((i + s) * (- b))"},
		{"ALTER TABLE public.e DROP CONSTRAINT c01", "constraint public.e.c01 is missing"},
		{"ALTER TABLE public.e DROP CONSTRAINT c01, ADD CONSTRAINT c01 CHECK (v IN ('a', 'b', 'C'))", "constraint public.e.c01: definition is"},
		{"ALTER TABLE public.e DROP CONSTRAINT c01, ADD CONSTRAINT c01 CHECK (v IN ('a', 'b'))", "constraint public.e.c01: definition is"},
		{"ALTER TABLE public.e DROP CONSTRAINT c01, ADD CONSTRAINT c01 CHECK (v::text IN ('a', 'b', 'c'))", "constraint public.e.c01: definition is"},
		{"ALTER TABLE public.e DROP CONSTRAINT c03, ADD CONSTRAINT c03 CHECK (i BETWEEN 1 AND 6 AND s > 0)", "constraint public.e.c03: definition is"},
		{"ALTER TABLE public.e DROP CONSTRAINT c03, ADD CONSTRAINT c03 CHECK (i BETWEEN 1 AND 5 OR s > 0)", "constraint public.e.c03: definition is"},
		{"ALTER TABLE public.e DROP CONSTRAINT c30, ADD CONSTRAINT c30 CHECK (NOT (i = 1 AND (s = 2 OR b = 3) AND n = 4))", "constraint public.e.c30: definition is"},
		{"ALTER TABLE public.e DROP CONSTRAINT c18, ADD CONSTRAINT c18 CHECK (tarr <> ARRAY['']::text[])", "constraint public.e.c18: definition is"},
		{"ALTER TABLE public.e DROP CONSTRAINT c39, ADD CONSTRAINT c39 CHECK (v IN ('a,  b', '(c)', 'AND', 'x]::text[]', '\"'))", "constraint public.e.c39: definition is"},
		{"ALTER TABLE public.e DROP CONSTRAINT c12, ADD CONSTRAINT c12 CHECK (t IN ('a', 'b')) NO INHERIT", "constraint public.e.c12: definition is"},
		{"ALTER TABLE public.e DROP CONSTRAINT c12, ADD CONSTRAINT c12 CHECK (t IN ('a', 'b')) NOT VALID", "constraint public.e.c12: definition is"},
		{"ALTER TABLE public.e DROP CONSTRAINT e_pkey", "constraint public.e.e_pkey is missing"},
		{"ALTER TABLE public.e RENAME CONSTRAINT ex TO exx", "constraint public.e.exx is not in the source"},
		{"DROP INDEX public.e1", "index public.e1 is missing"},
		{"DROP INDEX public.e2; CREATE INDEX e2 ON public.e (v varchar_pattern_ops, coalesce(w, 'none')) WITH (fillfactor = 70) WHERE NOT (v NOT IN ('a', 'b') OR w IS NULL)", "index public.e2: definition is"},
		{"DROP INDEX public.e5; CREATE INDEX e5 ON public.e USING brin (ts) WITH (pages_per_range = 32) WHERE (v IN ('a', 'b') OR v IN ('c', 'd')) AND (w IN ('e', 'f') AND i > 1)", "index public.e5: definition is"},
		{"DROP INDEX public.m1_v; CREATE INDEX m1_v ON public.m1 (v DESC) WHERE v IN ('a', 'b')", "index public.m1_v: definition is"},
		{"CREATE INDEX more ON public.log (i)", "index public.more is not in the source"},
		{"CREATE OR REPLACE FUNCTION public.tf() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.v IN ('a', 'b') THEN NEW.i := 2; END IF; RETURN NEW; END $$", "function public.tf(): body is"},
		{"CREATE OR REPLACE FUNCTION public.tf() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.v IN ('a', 'b')  THEN NEW.i := 1; END IF; RETURN NEW; END $$", "function public.tf(): body is"},
		{"ALTER FUNCTION public.f1 VOLATILE", "function public.f1(a character varying, VARIADIC b integer[], OUT c text, OUT d integer): definition, line 4, is"},
		{"ALTER PROCEDURE public.pr SECURITY INVOKER", "procedure public.pr(INOUT n integer): definition, line 3, is"},
		{"DROP FUNCTION public.f4", "function public.f4(x boolean) is missing"},
		{"CREATE OR REPLACE FUNCTION public.f2(v varchar, i int) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT RETURN v IN ('a', 'b') AND i BETWEEN 1 AND 3", "function public.f2(v character varying, i integer): definition, line 5, is ... ((i >= 1) AND (i <= 3)))"},
		{"DROP TRIGGER t1 ON public.e", "trigger public.e.t1 is missing"},
		{"ALTER TABLE public.e DISABLE TRIGGER t1", "trigger public.e.t1: enabled is no, was none"},
		{"DROP TRIGGER t1 ON public.e; CREATE TRIGGER t1 BEFORE UPDATE OF v, i ON public.e FOR EACH ROW WHEN (NEW.v IN ('a', 'b') AND OLD.i BETWEEN 1 AND 9) EXECUTE FUNCTION public.tf()", "trigger public.e.t1: definition is"},
		{"CREATE OR REPLACE VIEW public.v4 (one, two) WITH (security_barrier) AS VALUES (1, 'a'), (2, 'c')", "view public.v4: definition, line 3, is"},
		{"ALTER VIEW public.v4 RESET (security_barrier)", "view public.v4: options is gone, was security_barrier=true"},
		{"DROP VIEW public.v6", "view public.v6 is missing"},
		{"REFRESH MATERIALIZED VIEW public.m1 WITH NO DATA", "materialized view public.m1: populated is no, was none"},
		{"ALTER TYPE public.level ADD VALUE 'middle' BEFORE 'high'", "type public.level: labels is 'low', 'middle', 'high', was 'low', 'high'"},
		{"ALTER TYPE public.level RENAME VALUE 'low' TO 'lower'", "type public.level: labels is 'lower', 'high', was 'low', 'high'"},
		{"ALTER DOMAIN public.code DROP CONSTRAINT code_check", "constraint public.code.code_check is missing"},
		{"ALTER DOMAIN public.code SET DEFAULT 'y'", "domain public.code: default is 'y'::character varying, was 'x'::character varying"},
		{"DROP TABLE public.pl_def", "table public.pl_def is missing"},
		{"CREATE TABLE public.other (a int PRIMARY KEY, b text)", "table public.other is not in the source"},
		{"ALTER TABLE public.pl DETACH PARTITION public.pl_late", "table public.pl_late: partition for is gone, was FOR VALUES IN ('z')"},
		{"ALTER TABLE public.e NO FORCE ROW LEVEL SECURITY", "table public.e: row security is on, was forced"},
		{"ALTER POLICY p1 ON public.e USING (v IN ('a', 'b') AND i BETWEEN 1 AND 3)", "policy public.e.p1: using is"},
		{"ALTER POLICY p1 ON public.e TO expr_app", "policy public.e.p1: roles is expr_app, was public"},
		{"DROP RULE r1 ON public.e", "rule public.e.r1 is missing"},
		{"ALTER SEQUENCE public.e_id_seq INCREMENT 2", "sequence public.e_id_seq: increment is 2, was 1"},
		{"ALTER TABLE public.log OWNER TO expr_app", `table public.log: owner is expr_app, was Expr "Owner`},
		{"REVOKE UPDATE ON public.e FROM expr_app CASCADE", "table public.e: rights is"},
		{"REVOKE INSERT (v) ON public.e FROM expr_app CASCADE", "column public.e.v: rights is gone"},
		{"GRANT EXECUTE ON FUNCTION public.f1 TO PUBLIC", "function public.f1(a character varying, VARIADIC b integer[], OUT c text, OUT d integer): rights is"},
		{"DROP STATISTICS public.st", "statistics public.st is missing"},
		{"ALTER PUBLICATION p DROP TABLE public.e", "published table public.e in p is missing"},
		{"COMMENT ON FUNCTION public.f1 IS 'other'", "comment on function public.f1(character varying,integer[]): text is other, was function"},
		{"CREATE EXTENSION pg_trgm", "extension pg_trgm is not in the source"},
		{"CREATE SCHEMA more", "schema more is not in the source"},
		{"ALTER TABLE public.e ALTER t SET STORAGE main", "column public.e.t: storage is m, was e"},
		{"ALTER TABLE public.e REPLICA IDENTITY DEFAULT", "table public.e: replica identity is gone, was full"},
		{"ALTER TABLE public.pe_1 SET UNLOGGED", "table public.pe_1: persistence is unlogged, was none"},
	}
}

// TestMutationsAreFound: every single change of a restored copy is told, by the
// name of what changed, and little else is told.
func TestMutationsAreFound(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	fill(t, pg, "source", "testdata/expressions.sql")
	copyDB(t, pg, "source", "restored")
	source := read(t, pg, "source")
	if n := len(Compare(source, read(t, pg, "restored"))); n != 0 {
		t.Fatalf("%d differences before any change", n)
	}
	conn, err := pgconn.Connect(t.Context(), pg.URL("restored"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, m := range mutations() {
		mutant := &Schema{Version: Version}
		if err := eachRow(t.Context(), conn, "BEGIN;"+m[0]+";"+settings+versionSQL+queries(source.Major())+"ROLLBACK", mutant.add); err != nil {
			t.Errorf("%s: %v", m[0], err)
			continue
		}
		mutant.sort()
		found := Real(Compare(source, mutant))
		lines := make([]string, len(found))
		hit := false
		for i, d := range found {
			lines[i] = d.String()
			hit = hit || strings.HasPrefix(lines[i], m[1])
		}
		if !hit || len(found) > 4 {
			t.Errorf("%s\n  want %s\n  found %d:\n    %s", m[0], m[1], len(found), strings.Join(lines, "\n    "))
		}
		if mutant.Fingerprint() == source.Fingerprint() {
			t.Errorf("%s: the fingerprint is the source's", m[0])
		}
	}
}
