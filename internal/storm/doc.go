// Package storm attacks escrowctl as a whole: the real binary, on real servers,
// under faults of everything that it touches. What a cell demands, whatever the
// fault: the right exit code, a message that names cause and remedy, an end in
// time, earlier backups still there and sound, nothing left behind, and a clean
// run once the fault is gone.
//
// The tools are in the package kit. `make storm` writes the figures of
// docs/reliability.md.
package storm
