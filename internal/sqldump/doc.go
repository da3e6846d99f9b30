// Package sqldump reads and writes the indexed dump: pg_dump's plain SQL as
// many compressed members laid end to end, with an index of what each holds.
//
// The file is an ordinary .sql.gz (or .sql.zst): `gunzip -c FILE | psql`
// restores it anywhere. What the index adds is that every member is whole
// statements: long COPY blocks are cut at row borders by closing the block
// (`\.`) and opening it again with the same COPY statement. So members can be
// compressed, checked and loaded on all cores, one table can be fetched by its
// byte ranges, and the rows of each table are known to the row without asking
// the database a second time.
//
// The package is pure: it knows readers and writers, no files, no network and
// no database.
package sqldump
