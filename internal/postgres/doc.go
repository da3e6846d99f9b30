// Package postgres connects to the server, asks it what a backup must know, and
// runs pg_dump and pg_dumpall for it, on the host or inside a container.
//
// The password travels in the environment of child processes, never in their
// arguments, and is in no error.
package postgres
