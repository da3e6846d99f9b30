#!/usr/bin/env bash
# Shows escrowctl at work on the sandbox, the platform in small: PostgreSQL and
# Redis in containers that publish no port, a real S3 bucket, Prometheus with
# Alertmanager, and stand-ins of the platform's own services. `make demo` runs it
# after it has built what it needs. It may be run again and again; `make demo-down`
# removes everything.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/sandbox.sh

readonly RESTORED=stellar_escrow_restored

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
	bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
else
	bold='' dim='' plain=''
fi

step=0
heading() {
	step=$((step + 1))
	printf '\n%s== %d. %s%s\n' "$bold" "$step" "$*" "$plain"
}

# show prints a command as one would type it and runs it; it goes on after a
# warning and ends the demo after a failure. The password of a
# URL is shown as the variable that holds it.
show() {
	local line="escrowctl $*"
	printf '%s$ %s%s\n' "$dim" "${line//$POSTGRES_PASSWORD/\$POSTGRES_PASSWORD}" "$plain"
	local code=0
	bin/escrowctl "$@" || code=$?
	# 1 is a warning: worth reading, and no reason to stop.
	[ "$code" -le 1 ] || die "escrowctl ended with exit code $code"
}

# counts lists the exact rows of every table, partitions by themselves.
counts() {
	sandbox_sql "$1" <<-'SQL'
		SELECT format('SELECT %L, count(*) FROM ONLY %s', c.oid::regclass, c.oid::regclass)
		FROM pg_class c
		WHERE c.relkind IN ('r', 'm') AND c.relnamespace = 'public'::regnamespace
		ORDER BY c.oid::regclass::text \gexec
	SQL
}

# note_rotations notes that the sandbox's secrets were made when its .env was.
note_rotations() {
	local name
	for name in POSTGRES_PASSWORD REDIS_PASSWORD API_KEYS ADMIN_KEYS GRAFANA_ADMIN_PASSWORD; do
		bin/escrowctl rotate-keys record "$name" --on "$(date -u -r "$SANDBOX_ENV" +%F)" >/dev/null
	done
}

start_sandbox() {
	start_services
	note_rotations
	printf 'database stellar_escrow: %s rows in %s tables\n' \
		"$(counts stellar_escrow | awk -F'|' '{ n += $2 } END { print n }')" \
		"$(counts stellar_escrow | wc -l)"
}

demo_backup() {
	heading 'Back up the database into the bucket'
	show backup
	heading 'List what there is'
	show backup list
	heading 'Verify the newest backup where it lies, in the bucket'
	show backup verify latest --s3
	heading 'Restore it into a second database'
	sandbox_sql postgres -c 'SET client_min_messages = warning' -c "DROP DATABASE IF EXISTS $RESTORED" -c "CREATE DATABASE $RESTORED"
	show backup restore latest --to "$RESTORED"
}

# flip changes one bit in the middle of a file.
flip() {
	python3 - "$1" <<-'PY'
		import sys
		with open(sys.argv[1], "r+b") as f:
		    f.seek(0, 2)
		    middle = f.tell() // 2
		    f.seek(middle)
		    byte = f.read(1)[0]
		    f.seek(middle)
		    f.write(bytes([byte ^ 4]))
	PY
}

demo_dr_test() {
	heading 'Prove it: restore the newest backup, straight from the bucket, into a throwaway container without a network'
	show dr-test
	heading 'One flipped bit in a copy: the test must fail'
	local newest
	newest=$(find "$BACKUP_DIR" -name '*.sql.gz' | sort | tail -1)
	cp "${newest%.sql.gz}".* "$work"
	flip "$work/${newest##*/}"
	local code=0
	printf '%s$ escrowctl dr-test damaged/%s%s\n' "$dim" "${newest##*/}" "$plain"
	# Its failure is no news of this platform: kept apart from the shift check.
	ESCROWCTL_STATE_DIR=$work/state bin/escrowctl dr-test "$work/${newest##*/}" || code=$?
	[ "$code" -eq 2 ] || die "a damaged backup ended with exit code $code, not 2"
}

compare() {
	heading 'Compare the two, row counts of every table'
	counts stellar_escrow >"$work/source"
	counts "$RESTORED" >"$work/restored"
	if ! diff -u --label source --label restored "$work/source" "$work/restored"; then
		die 'the restored database differs from its source'
	fi
	awk -F'|' '{ printf "  %-24s %8d\n", $1, $2 }' "$work/restored"
	printf 'all %d tables are equal\n' "$(wc -l <"$work/source")"
}

demo_shift_check() {
	heading 'Look at it all, as at the start of a shift'
	show shift-check
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
need_docker
started=$SECONDS

heading 'Start the sandbox: the platform in small'
start_sandbox
demo_backup
compare
demo_dr_test
# The sections of further commands go here, each a function like demo_backup.
demo_shift_check

printf '\n%sdone in %d s.%s The sandbox keeps running. To go on by hand:\n' "$bold" $((SECONDS - started)) "$plain"
printf '  set -a; . %s; set +a; bin/escrowctl backup list\n' "$SANDBOX_ENV"
printf 'To remove it: make demo-down\n'
