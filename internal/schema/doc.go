// Package schema describes a database's schema as the server's catalogs have
// it, and compares two such descriptions: that of a database when it was
// dumped, and that of what the dump restored to.
//
// The server rewrites expressions each time they are dumped and restored (a
// CHECK (status IN ('a', 'b')) over a varchar column does not come back as the
// text that it was), so expressions are compared in a canonical form. See
// Canonical for what it takes to be equal.
//
// What is captured: schemas, extensions, tables and their columns, partitions,
// inheritance, indexes, constraints, triggers, rules and policies, views,
// materialized views, sequences, functions, types, domains, operators and
// operator classes, casts, collations, text search, statistics, event triggers,
// publications, foreign servers, languages, comments, owners and rights. What is not: rows,
// sequence values, large objects, subscriptions, security labels, tablespaces,
// conversions, transforms, and what belongs to the cluster, as roles do.
package schema
