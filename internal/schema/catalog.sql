-- What is read of the catalogs. Each statement gives kind, name, table, and an
-- object of fields; a field that is null is left out, and so is what is usual.
--
--   $15(NEW{OLD})         NEW for PostgreSQL 15 and later, OLD before
--   $user                 schema n is not one of the server's own
--   $ours(CLASS, OID)     the object is not one that an extension made
--   $rights(ACL, T, OWNER) the rights, if they are not those that T has anyway
--
-- What pg_dump leaves out is left out here too, or every restored copy would differ.

SELECT 'schema', format('%I', n.nspname), '', jsonb_strip_nulls(jsonb_build_object(
  'owner', pg_get_userbyid(n.nspowner), 'rights', $rights(n.nspacl, n, n.nspowner)))
FROM pg_namespace n WHERE $user AND $ours(pg_namespace, n.oid);

SELECT 'extension', format('%I', e.extname), '', jsonb_build_object('schema', e.extnamespace::regnamespace::text, 'version', e.extversion)
FROM pg_extension e;

SELECT 'type', format('%I.%I', n.nspname, t.typname), '', jsonb_strip_nulls(jsonb_build_object('form', 'enum',
  'labels', (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
  'owner', pg_get_userbyid(t.typowner), 'rights', $rights(t.typacl, T, t.typowner)))
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype = 'e' AND $user AND $ours(pg_type, t.oid);

SELECT 'domain', format('%I.%I', n.nspname, t.typname), '', jsonb_strip_nulls(jsonb_build_object(
  'type', format_type(t.typbasetype, t.typtypmod), 'not null', CASE WHEN t.typnotnull THEN 'yes' END,
  'default', coalesce(pg_get_expr(t.typdefaultbin, 'pg_type'::regclass), t.typdefault),
  'collation', (SELECT format('%I.%I', ln.nspname, l.collname) FROM pg_collation l JOIN pg_namespace ln ON ln.oid = l.collnamespace, pg_type b
    WHERE l.oid = t.typcollation AND b.oid = t.typbasetype AND b.typcollation <> t.typcollation),
  'owner', pg_get_userbyid(t.typowner), 'rights', $rights(t.typacl, T, t.typowner)))
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype = 'd' AND $user AND $ours(pg_type, t.oid);

SELECT 'type', format('%I.%I', n.nspname, t.typname), '', jsonb_strip_nulls(jsonb_build_object('form', 'range',
  'subtype', format_type(r.rngsubtype, NULL), 'canonical', nullif(r.rngcanonical::oid, 0)::regprocedure::text,
  'subtype diff', nullif(r.rngsubdiff::oid, 0)::regprocedure::text, 'owner', pg_get_userbyid(t.typowner), 'rights', $rights(t.typacl, T, t.typowner)))
FROM pg_range r JOIN pg_type t ON t.oid = r.rngtypid JOIN pg_namespace n ON n.oid = t.typnamespace WHERE $user AND $ours(pg_type, t.oid);

SELECT 'type', format('%I.%I', n.nspname, t.typname), '', jsonb_strip_nulls(jsonb_build_object('form', 'base',
  'input', t.typinput::regprocedure::text, 'output', t.typoutput::regprocedure::text, 'length', t.typlen::text,
  'owner', pg_get_userbyid(t.typowner), 'rights', $rights(t.typacl, T, t.typowner)))
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype = 'b' AND $user AND $ours(pg_type, t.oid) AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid);

SELECT CASE c.relkind WHEN 'f' THEN 'foreign table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'c' THEN 'type' ELSE 'table' END,
  format('%I.%I', n.nspname, c.relname), '', jsonb_strip_nulls(jsonb_build_object(
  'form', CASE c.relkind WHEN 'c' THEN 'composite' END,
  'definition', CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END,
  'populated', CASE WHEN c.relkind = 'm' AND NOT c.relispopulated THEN 'no' END,
  'persistence', CASE c.relpersistence WHEN 'u' THEN 'unlogged' END,
  'partition by', CASE c.relkind WHEN 'p' THEN pg_get_partkeydef(c.oid) END,
  'partition for', pg_get_expr(c.relpartbound, c.oid),
  'inherits', (SELECT string_agg(format('%I.%I', pn.nspname, p.relname), ', ' ORDER BY i.inhseqno)
    FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace WHERE i.inhrelid = c.oid),
  'of type', nullif(c.reloftype, 0)::regtype::text,
  'access method', (SELECT a.amname FROM pg_am a WHERE a.oid = c.relam AND a.amname <> 'heap'),
  'options', (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(c.reloptions) o),
  'toast options', (SELECT string_agg(o, ', ' ORDER BY o) FROM pg_class s, unnest(s.reloptions) o WHERE s.oid = c.reltoastrelid),
  'row security', CASE WHEN c.relforcerowsecurity AND c.relrowsecurity THEN 'forced' WHEN c.relrowsecurity THEN 'on' WHEN c.relforcerowsecurity THEN 'forced, but off' END,
  'replica identity', CASE c.relreplident WHEN 'n' THEN CASE WHEN c.relkind IN ('r', 'p') THEN 'nothing' END WHEN 'f' THEN 'full'
    WHEN 'i' THEN (SELECT ic.relname FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid WHERE i.indrelid = c.oid AND i.indisreplident) END,
  'clustered on', (SELECT ic.relname FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid WHERE i.indrelid = c.oid AND i.indisclustered),
  'server', (SELECT s.srvname FROM pg_foreign_table f JOIN pg_foreign_server s ON s.oid = f.ftserver WHERE f.ftrelid = c.oid),
  'foreign options', (SELECT array_to_string(f.ftoptions, ', ') FROM pg_foreign_table f WHERE f.ftrelid = c.oid),
  'owner', pg_get_userbyid(c.relowner), 'rights', $rights(c.relacl, r, c.relowner)))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c') AND $user AND $ours(pg_class, c.oid)
  AND NOT (c.relkind = 'c' AND EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_type'::regclass AND x.objid = c.reltype AND x.deptype = 'e'));

-- Inheritance, other than of partitions, changes the order of columns on restore.
SELECT 'column', format('%I.%I.%I', n.nspname, c.relname, a.attname), format('%I.%I', n.nspname, c.relname), jsonb_strip_nulls(jsonb_build_object(
  'type', format_type(a.atttypid, a.atttypmod),
  'position', CASE WHEN c.relispartition OR NOT c.inherits THEN a.position::text END,
  'not null', CASE WHEN a.attnotnull THEN 'yes' END,
  'default', CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
  'generated', CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END,
  'generated how', CASE a.attgenerated WHEN 'v' THEN 'virtual' END,
  'identity', CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END,
  'collation', (SELECT format('%I.%I', ln.nspname, l.collname) FROM pg_collation l JOIN pg_namespace ln ON ln.oid = l.collnamespace
    WHERE l.oid = a.attcollation AND a.attcollation <> t.typcollation),
  'storage', CASE WHEN a.attstorage <> t.typstorage THEN a.attstorage::text END,
  'compression', $14(CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END{NULL}),
  'statistics', CASE WHEN a.attstattarget >= 0 THEN a.attstattarget::text END,
  -- 15.20 and its like keep a number of their own here, new for each table.
  'options', (SELECT string_agg(o, ', ') FROM unnest(a.attoptions) o WHERE o NOT LIKE 'pg_attver=%'), 'foreign options', array_to_string(a.attfdwoptions, ', '),
  'rights', $rights(a.attacl, c, c.relowner)))
FROM (SELECT c.*, EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid) AS inherits FROM pg_class c) c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN (SELECT a.*, row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum) AS position FROM pg_attribute a WHERE a.attnum > 0 AND NOT a.attisdropped) a
  ON a.attrelid = c.oid
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c') AND $user AND $ours(pg_class, c.oid)
  AND NOT (c.relkind = 'c' AND EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_type'::regclass AND x.objid = c.reltype AND x.deptype = 'e'));

-- NOT NULL is told of the column. What a foreign key has for each partition follows from it.
SELECT 'constraint', format('%I.%I.%I', n.nspname, c.relname, k.conname), format('%I.%I', n.nspname, c.relname),
  jsonb_build_object('definition', pg_get_constraintdef(k.oid))
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND NOT (k.contype = 'f' AND k.conparentid <> 0) AND $user AND $ours(pg_class, c.oid);

SELECT 'constraint', format('%I.%I.%I', n.nspname, t.typname, k.conname), format('%I.%I', n.nspname, t.typname),
  jsonb_build_object('definition', pg_get_constraintdef(k.oid))
FROM pg_constraint k JOIN pg_type t ON t.oid = k.contypid JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE k.contype = 'c' AND $user AND $ours(pg_type, t.oid);

-- pg_dump leaves invalid indexes out; those of constraints are told there.
SELECT 'index', format('%I.%I', n.nspname, ic.relname), format('%I.%I', n.nspname, c.relname), jsonb_strip_nulls(jsonb_build_object(
  'definition', pg_get_indexdef(i.indexrelid), 'valid', CASE WHEN NOT i.indisvalid THEN 'no' END,
  'part of', (SELECT format('%I.%I', pn.nspname, p.relname) FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace WHERE h.inhrelid = i.indexrelid),
  'statistics', (SELECT string_agg(a.attnum || ': ' || a.attstattarget, ', ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = i.indexrelid AND a.attstattarget >= 0)))
FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (i.indisvalid OR c.relkind = 'p') AND i.indisready AND $user AND $ours(pg_class, c.oid)
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x'));

SELECT 'sequence', format('%I.%I', n.nspname, c.relname), coalesce(o.of, ''), jsonb_strip_nulls(jsonb_build_object(
  'type', format_type(s.seqtypid, NULL), 'start', s.seqstart::text, 'increment', s.seqincrement::text, 'minimum', s.seqmin::text, 'maximum', s.seqmax::text,
  'cache', s.seqcache::text, 'cycle', CASE WHEN s.seqcycle THEN 'yes' END, 'persistence', CASE c.relpersistence WHEN 'u' THEN 'unlogged' END,
  'owned by', CASE o.deptype WHEN 'a' THEN o.col END, 'identity of', CASE o.deptype WHEN 'i' THEN o.col END,
  'owner', pg_get_userbyid(c.relowner), 'rights', $rights(c.relacl, s, c.relowner)))
FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN (SELECT d.objid, d.deptype, format('%I.%I', tn.nspname, t.relname) AS of, format('%I.%I.%I', tn.nspname, t.relname, a.attname) AS col
  FROM pg_depend d JOIN pg_class t ON t.oid = d.refobjid JOIN pg_namespace tn ON tn.oid = t.relnamespace JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
  WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')) o ON o.objid = c.oid
WHERE $user AND $ours(pg_class, c.oid);

-- The body of a function is compared to the byte, what is around it is the server's wording.
SELECT CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END,
  format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), '', jsonb_strip_nulls(jsonb_build_object(
  'definition', CASE WHEN p.prosrc = '' THEN pg_get_functiondef(p.oid) ELSE replace(pg_get_functiondef(p.oid), '$' || p.prosrc || '$', '$$') END,
  'body', nullif(p.prosrc, ''), 'owner', pg_get_userbyid(p.proowner), 'rights', $rights(p.proacl, f, p.proowner)))
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.prokind IN ('f', 'p', 'w') AND $user AND $ours(pg_proc, p.oid);

SELECT 'aggregate', format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), '', jsonb_strip_nulls(jsonb_build_object(
  'arguments', pg_get_function_arguments(p.oid), 'result', pg_get_function_result(p.oid), 'kind', g.aggkind::text,
  'state function', g.aggtransfn::regprocedure::text, 'state type', format_type(g.aggtranstype, NULL), 'initial', g.agginitval,
  'final function', nullif(g.aggfinalfn::oid, 0)::regprocedure::text, 'combine function', nullif(g.aggcombinefn::oid, 0)::regprocedure::text,
  'moving', nullif(concat_ws(' ', nullif(g.aggmtransfn::oid, 0)::regprocedure, nullif(g.aggminvtransfn::oid, 0)::regprocedure, nullif(g.aggmfinalfn::oid, 0)::regprocedure, g.aggminitval), ''),
  'serial', nullif(concat_ws(' ', nullif(g.aggserialfn::oid, 0)::regprocedure, nullif(g.aggdeserialfn::oid, 0)::regprocedure), ''),
  'sort operator', nullif(g.aggsortop, 0)::regoperator::text, 'parallel', p.proparallel::text,
  'owner', pg_get_userbyid(p.proowner), 'rights', $rights(p.proacl, f, p.proowner)))
FROM pg_aggregate g JOIN pg_proc p ON p.oid = g.aggfnoid JOIN pg_namespace n ON n.oid = p.pronamespace WHERE $user AND $ours(pg_proc, p.oid);

SELECT 'trigger', format('%I.%I.%I', n.nspname, c.relname, t.tgname), format('%I.%I', n.nspname, c.relname), jsonb_strip_nulls(jsonb_build_object(
  'definition', pg_get_triggerdef(t.oid),
  'enabled', CASE t.tgenabled WHEN 'D' THEN 'no' WHEN 'R' THEN 'on a replica' WHEN 'A' THEN 'always' END))
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT t.tgisinternal AND $user AND $ours(pg_class, c.oid);

SELECT 'rule', format('%I.%I.%I', n.nspname, c.relname, r.rulename), format('%I.%I', n.nspname, c.relname), jsonb_strip_nulls(jsonb_build_object(
  'definition', pg_get_ruledef(r.oid), 'enabled', CASE r.ev_enabled WHEN 'D' THEN 'no' WHEN 'R' THEN 'on a replica' WHEN 'A' THEN 'always' END))
FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE r.rulename <> '_RETURN' AND $user AND $ours(pg_class, c.oid);

SELECT 'policy', format('%I.%I.%I', n.nspname, c.relname, p.polname), format('%I.%I', n.nspname, c.relname), jsonb_strip_nulls(jsonb_build_object(
  'for', CASE p.polcmd WHEN 'r' THEN 'select' WHEN 'a' THEN 'insert' WHEN 'w' THEN 'update' WHEN 'd' THEN 'delete' ELSE 'all' END,
  'restrictive', CASE WHEN NOT p.polpermissive THEN 'yes' END,
  'roles', (SELECT string_agg(CASE r WHEN 0 THEN 'public' ELSE pg_get_userbyid(r)::text END, E'\n' ORDER BY pg_get_userbyid(r)) FROM unnest(p.polroles) r),
  'using', pg_get_expr(p.polqual, p.polrelid), 'with check', pg_get_expr(p.polwithcheck, p.polrelid)))
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE $user AND $ours(pg_class, c.oid);

SELECT 'event trigger', format('%I', e.evtname), '', jsonb_strip_nulls(jsonb_build_object(
  'event', e.evtevent::text, 'function', e.evtfoid::regprocedure::text, 'tags', array_to_string(e.evttags, ', '),
  'enabled', CASE e.evtenabled WHEN 'D' THEN 'no' WHEN 'R' THEN 'on a replica' WHEN 'A' THEN 'always' END, 'owner', pg_get_userbyid(e.evtowner)))
FROM pg_event_trigger e WHERE $ours(pg_event_trigger, e.oid);

SELECT 'publication', format('%I', p.pubname), '', jsonb_strip_nulls(jsonb_build_object(
  'publishes', concat_ws(', ', CASE WHEN p.puballtables THEN 'all tables' END, CASE WHEN p.pubinsert THEN 'insert' END, CASE WHEN p.pubupdate THEN 'update' END,
    CASE WHEN p.pubdelete THEN 'delete' END, CASE WHEN p.pubtruncate THEN 'truncate' END $13(, CASE WHEN p.pubviaroot THEN 'by root' END{})),
  'schemas', $15((SELECT string_agg(format('%I', n.nspname), ', ' ORDER BY n.nspname) FROM pg_publication_namespace s JOIN pg_namespace n ON n.oid = s.pnnspid WHERE s.pnpubid = p.oid){NULL}),
  'owner', pg_get_userbyid(p.pubowner)))
FROM pg_publication p;

SELECT 'published table', format('%I.%I in %I', n.nspname, c.relname, p.pubname), format('%I.%I', n.nspname, c.relname), jsonb_strip_nulls(jsonb_build_object(
  'columns', $15((SELECT string_agg(format('%I', a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[])){NULL}),
  'where', $15(pg_get_expr(r.prqual, r.prrelid){NULL})))
FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace;

SELECT 'statistics', format('%I.%I', n.nspname, s.stxname), format('%I.%I', cn.nspname, c.relname), jsonb_strip_nulls(jsonb_build_object(
  'kinds', array_to_string(s.stxkind, ', '),
  'columns', (SELECT string_agg(format('%I', a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = s.stxrelid AND a.attnum = ANY (s.stxkeys::int2[])),
  'expressions', $14(array_to_string(pg_get_statisticsobjdef_expressions(s.oid), ', '){NULL}), 'owner', pg_get_userbyid(s.stxowner)))
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace JOIN pg_class c ON c.oid = s.stxrelid JOIN pg_namespace cn ON cn.oid = c.relnamespace
WHERE $user AND $ours(pg_statistic_ext, s.oid);

SELECT 'collation', format('%I.%I', n.nspname, c.collname), '', jsonb_strip_nulls(jsonb_build_object(
  'provider', c.collprovider::text, 'collate', c.collcollate, 'ctype', c.collctype, 'locale', coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale'),
  'deterministic', CASE WHEN NOT c.collisdeterministic THEN 'no' END, 'owner', pg_get_userbyid(c.collowner)))
FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace WHERE $user AND $ours(pg_collation, c.oid);

SELECT 'cast', format('(%s AS %s)', format_type(k.castsource, NULL), format_type(k.casttarget, NULL)), '', jsonb_strip_nulls(jsonb_build_object(
  'function', nullif(k.castfunc, 0)::regprocedure::text, 'method', k.castmethod::text, 'context', k.castcontext::text))
FROM pg_cast k WHERE k.oid >= 16384 AND $ours(pg_cast, k.oid);

SELECT 'operator', format('%I.%s(%s, %s)', n.nspname, o.oprname, format_type(nullif(o.oprleft, 0), NULL), format_type(nullif(o.oprright, 0), NULL)), '', jsonb_strip_nulls(jsonb_build_object(
  'function', nullif(o.oprcode::oid, 0)::regprocedure::text, 'result', format_type(nullif(o.oprresult, 0), NULL), 'commutator', nullif(o.oprcom, 0)::regoperator::text,
  'negator', nullif(o.oprnegate, 0)::regoperator::text, 'restrict', nullif(o.oprrest::oid, 0)::regproc::text, 'join', nullif(o.oprjoin::oid, 0)::regproc::text,
  'hashes', CASE WHEN o.oprcanhash THEN 'yes' END, 'merges', CASE WHEN o.oprcanmerge THEN 'yes' END, 'owner', pg_get_userbyid(o.oprowner)))
FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE $user AND $ours(pg_operator, o.oid);

SELECT 'operator class', format('%I.%I using %s', n.nspname, o.opcname, m.amname), '', jsonb_strip_nulls(jsonb_build_object(
  'type', format_type(o.opcintype, NULL), 'family', (SELECT format('%I.%I', fn.nspname, f.opfname) FROM pg_opfamily f JOIN pg_namespace fn ON fn.oid = f.opfnamespace WHERE f.oid = o.opcfamily),
  'default', CASE WHEN o.opcdefault THEN 'yes' END, 'owner', pg_get_userbyid(o.opcowner)))
FROM pg_opclass o JOIN pg_namespace n ON n.oid = o.opcnamespace JOIN pg_am m ON m.oid = o.opcmethod WHERE $user AND $ours(pg_opclass, o.oid);

SELECT 'operator family', format('%I.%I using %s', n.nspname, f.opfname, m.amname), '', jsonb_strip_nulls(jsonb_build_object(
  'operators', (SELECT string_agg(a.amopstrategy || ' ' || a.amopopr::regoperator, ', ' ORDER BY a.amopstrategy, a.amopopr::regoperator::text COLLATE "C") FROM pg_amop a WHERE a.amopfamily = f.oid),
  'functions', (SELECT string_agg(a.amprocnum || ' ' || a.amproc::oid::regprocedure, ', ' ORDER BY a.amprocnum, a.amproc::oid::regprocedure::text COLLATE "C") FROM pg_amproc a WHERE a.amprocfamily = f.oid),
  'owner', pg_get_userbyid(f.opfowner)))
FROM pg_opfamily f JOIN pg_namespace n ON n.oid = f.opfnamespace JOIN pg_am m ON m.oid = f.opfmethod WHERE $user AND $ours(pg_opfamily, f.oid);

SELECT 'text search configuration', format('%I.%I', n.nspname, c.cfgname), '', jsonb_strip_nulls(jsonb_build_object(
  'parser', (SELECT p.prsname FROM pg_ts_parser p WHERE p.oid = c.cfgparser),
  'mapping', (SELECT string_agg(m.maptokentype || ' ' || m.mapdict::regdictionary, ', ' ORDER BY m.maptokentype, m.mapseqno) FROM pg_ts_config_map m WHERE m.mapcfg = c.oid),
  'owner', pg_get_userbyid(c.cfgowner)))
FROM pg_ts_config c JOIN pg_namespace n ON n.oid = c.cfgnamespace WHERE $user AND $ours(pg_ts_config, c.oid);

SELECT 'text search dictionary', format('%I.%I', n.nspname, d.dictname), '', jsonb_strip_nulls(jsonb_build_object(
  'template', (SELECT t.tmplname FROM pg_ts_template t WHERE t.oid = d.dicttemplate), 'options', d.dictinitoption, 'owner', pg_get_userbyid(d.dictowner)))
FROM pg_ts_dict d JOIN pg_namespace n ON n.oid = d.dictnamespace WHERE $user AND $ours(pg_ts_dict, d.oid);

SELECT 'default rights', concat(pg_get_userbyid(d.defaclrole), ' on ', d.defaclobjtype, CASE WHEN d.defaclnamespace <> 0 THEN ' in ' || d.defaclnamespace::regnamespace END), '',
  jsonb_build_object('owner', pg_get_userbyid(d.defaclrole), 'rights', (SELECT coalesce(string_agg(i::text, E'\n' ORDER BY i::text COLLATE "C"), 'nobody') FROM unnest(d.defaclacl) i))
FROM pg_default_acl d;

SELECT 'foreign-data wrapper', format('%I', w.fdwname), '', jsonb_strip_nulls(jsonb_build_object('handler', nullif(w.fdwhandler, 0)::regprocedure::text,
  'validator', nullif(w.fdwvalidator, 0)::regprocedure::text, 'options', array_to_string(w.fdwoptions, ', '), 'owner', pg_get_userbyid(w.fdwowner)))
FROM pg_foreign_data_wrapper w WHERE $ours(pg_foreign_data_wrapper, w.oid);

SELECT 'foreign server', format('%I', s.srvname), '', jsonb_strip_nulls(jsonb_build_object('wrapper', (SELECT w.fdwname FROM pg_foreign_data_wrapper w WHERE w.oid = s.srvfdw),
  'type', s.srvtype, 'version', s.srvversion, 'options', array_to_string(s.srvoptions, ', '), 'owner', pg_get_userbyid(s.srvowner), 'rights', $rights(s.srvacl, S, s.srvowner)))
FROM pg_foreign_server s WHERE $ours(pg_foreign_server, s.oid);

SELECT 'user mapping', format('%s on %I', m.usename, m.srvname), '', '{}'::jsonb FROM pg_user_mappings m;

SELECT 'language', format('%I', l.lanname), '', jsonb_strip_nulls(jsonb_build_object('trusted', CASE WHEN l.lanpltrusted THEN 'yes' END,
  'handler', nullif(l.lanplcallfoid, 0)::regprocedure::text, 'owner', pg_get_userbyid(l.lanowner), 'rights', $rights(l.lanacl, l, l.lanowner)))
FROM pg_language l WHERE l.lanispl AND $ours(pg_language, l.oid);

SELECT 'comment', 'on ' || i.type || ' ' || i.identity, '', jsonb_build_object('text', d.description)
FROM pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) i
WHERE d.objoid >= 16384 AND i.identity IS NOT NULL
  AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = d.classoid AND x.objid = d.objoid AND x.deptype = 'e')
  AND NOT EXISTS (SELECT FROM pg_index x WHERE x.indexrelid = d.objoid AND d.classoid = 'pg_class'::regclass AND NOT x.indisvalid);
