#!/usr/bin/env bash
# Makes RUNS (200) shift checks of the healthy sandbox, one after the other: each
# must end with 0. Prints how long they took. `make quiet` runs it; the sandbox
# must be up (`make demo`).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/sandbox.sh

runs=${RUNS:-200}
[ -f "$SANDBOX_ENV" ] || die 'no sandbox: make demo'
set -a
. "$SANDBOX_ENV"
set +a
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A state directory of its own: the sandbox's history stays short.
cp -r "$ESCROWCTL_STATE_DIR" "$work/state"
export ESCROWCTL_STATE_DIR=$work/state

bad=0
for run in $(seq "$runs"); do
	begun=$EPOCHREALTIME
	code=0
	bin/escrowctl shift-check >"$work/out" 2>"$work/err" || code=$?
	awk -v from="$begun" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.3f\n", to - from }' >>"$work/seconds"
	if [ "$code" -ne 0 ]; then
		bad=$((bad + 1))
		say "run $run ended with $code:"
		cat "$work/out" "$work/err" >&2
		[ "$bad" -lt 3 ] || break # what they are is known
	fi
done
sort -n "$work/seconds" | awk -v bad="$bad" '{ s[NR] = $1 } END {
	printf "%d shift checks, %d false alarms; seconds: least %.3f, median %.3f, 95th percentile %.3f, most %.3f\n",
		NR, bad, s[1], s[int((NR + 1) / 2)], s[int(NR * 0.95 + 0.5)], s[NR] }'
[ "$bad" -eq 0 ]
