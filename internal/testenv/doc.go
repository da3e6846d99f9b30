// Package testenv starts the real servers that tests run against: PostgreSQL,
// an S3 server, Redis, an HTTP sink for what escrowctl reports, and containers.
//
// Every server listens on a free port of 127.0.0.1, keeps its files in a
// temporary directory of its own, and ends with the test that asked for it.
// A watchdog process does the same when the test process dies without running
// its clean-up (a panic, a time limit, SIGKILL), so nothing is left behind.
//
// The parts come from Debian packages and from the tools cache, which
// `make deps tools images` fills. What is missing skips the test loudly on a
// developer's machine, and fails it where CI=true.
//
// Only tests may import this package.
package testenv
