#!/bin/sh
# entrypoint.sh daily HH:MM COMMAND...  run escrowctl COMMAND every day at that
#                                       time, UTC, until the container stops
# entrypoint.sh healthy                 the container's health
# entrypoint.sh COMMAND...              escrowctl COMMAND
#
# Not a loop that swallows arguments: docker compose run --rm backup backup list
# lists.
set -u

daily() {
	at=$1
	shift
	case $at in
	[01][0-9]:[0-5][0-9] | 2[0-3]:[0-5][0-9]) ;;
	*)
		echo "entrypoint.sh: $at is no time: write HH:MM, UTC" >&2
		exit 3
		;;
	esac
	child=
	trap 'trap - TERM INT; [ -z "$child" ] || { kill -TERM "$child"; wait "$child"; }; exit 143' TERM INT
	while :; do
		now=$(date -u +%s)
		next=$(date -u -d "$at" +%s)
		[ "$next" -gt "$now" ] || next=$((next + 86400))
		echo "next: escrowctl $* at $(date -u -d "@$next" +%Y-%m-%dT%H:%M:%SZ)" >&2
		sleep $((next - now)) &
		child=$!
		wait "$child"
		escrowctl "$@" &
		child=$!
		wait "$child" || echo "escrowctl $* ended with exit code $?" >&2
		child=
	done
}

healthy() {
	escrowctl --quiet shift-check --only backup
	# A warning is no reason to restart anything.
	[ $? -le 1 ]
}

case ${1:-} in
daily)
	[ $# -ge 3 ] || {
		echo "usage: entrypoint.sh daily HH:MM COMMAND..." >&2
		exit 3
	}
	shift
	daily "$@"
	;;
healthy) healthy ;;
*) exec escrowctl "$@" ;;
esac
