// Package ui is how escrowctl speaks to people and to the programs that read
// it. The rules, for every command:
//
//   - Results go to stdout; progress, log, warnings and errors to stderr. With
//     -o json stdout holds one JSON document and nothing else.
//   - Messages begin in lower case and have no final full stop. An error says
//     what was tried, what came back and what to do. The root prints it, once,
//     as "escrowctl: ...".
//   - On a terminal there is colour and one animated line of progress. NO_COLOR,
//     --no-color and TERM=dumb switch colour off; TERM=dumb the animation too.
//   - Without a terminal, as under cron, nothing moves: each line on stderr that
//     tells of a run begins with the time in RFC 3339 UTC, progress is a line at
//     the start, at most one every 30 s, and one at the end, and the last line is
//     the verdict.
//   - Text from outside (object names, messages of servers and tools) goes
//     through Clean before a person sees it; Table, Log, Warn and JSON do so
//     themselves.
//   - Tables are laid out for 80 columns, or a terminal's own width. On a
//     terminal long text ends in "…", numbers never do. Into a pipe or a file
//     nothing is cut, so that grep finds what is there: a row with a long cell
//     is longer.
//   - Sizes are in powers of 1024 (KiB, MiB), times in UTC. JSON has plain
//     numbers with the unit in the key: _bytes, _seconds, _ratio.
package ui
