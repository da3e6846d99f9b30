// Package perf finds what is slow on the platform, what got slower since the
// last look, and what to do about it.
//
// Collectors read one source each (the database, the API, containers, Redis,
// disks) into a Snapshot, each with its own time limit; one that is dead costs
// one line. Analyse holds a snapshot against the one before and against the
// limits: it is pure. Counters of servers run since their last reset, so that a
// bad week drowns in a good year: what can be is judged on the interval between
// the two snapshots.
package perf
