#!/usr/bin/env bash
# Measures escrowctl beside other ways, all on one server and in turn, and
# writes bench/results/SHAPE-SIZE.txt row by row and, after each round, of all of
# these, bench/RESULTS.md. A run that is cut short leaves the rows it has.
#
#   SHAPES      platform (default): the sandbox's schema with more rows; or
#               dominant, json, middling, small, random: see data/
#   SIZES       megabytes of SQL, about (1240); platform needs 111 at least
#   RUNS        rounds (5)
#   CONTENDERS  of contenders.sh, in order; later ones need what earlier ones
#               wrote. Without it those that others are compared with; OPTIONS
#               for escrowctl's own settings and the ways to and from a bucket,
#               FLOOR for a backup's and a verification's only
#   MORE        1: add rounds to the results that are there, in place of new ones
#   WORK        directory, kept with its database for the next run (default: a
#               temporary one); needs 5 GB for each of SQL
#   PORT        of the server; the two below it are taken too (5999)
#   RESULTS     directory of the results (bench/results)
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. bench/lib.sh

SHAPES=${SHAPES:-platform} SIZES=${SIZES:-1240} RUNS=${RUNS:-5} MORE=${MORE:-} RESULTS=${RESULTS:-bench/results}
readonly FLOOR="floor copy script-backup pigz zstd pg_dump-Fc pg_dump-Fd-j2 escrowctl-backup gzip-t escrowctl-verify"
readonly RESTORES="script-restore pg_restore-j4 escrowctl-restore script-dr-test escrowctl-dr-test pg_restore-j4-kept"
readonly OPTIONS="escrowctl-backup escrowctl-backup-jobs1 escrowctl-backup-jobs2 escrowctl-backup-jobs4 escrowctl-backup-gzip1 escrowctl-backup-gzip6
	escrowctl-backup-gzip9 escrowctl-backup-zstd1 escrowctl-backup-zstd3 escrowctl-verify-s3 escrowctl-upload
	escrowctl-restore-jobs1 escrowctl-restore-jobs2 escrowctl-restore-jobs4 escrowctl-restore-s3
	escrowctl-dr-test-jobs1 escrowctl-dr-test-jobs4 escrowctl-dr-test-s3"
case ${CONTENDERS:-} in
'') CONTENDERS="$FLOOR $RESTORES" ;;
FLOOR) CONTENDERS=$FLOOR ;;
OPTIONS) CONTENDERS=$OPTIONS ;;
esac
work=${WORK:-$(mktemp -d)}
mkdir -p "$work" "$RESULTS"
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
readonly PORT=${PORT:-5999}
readonly S3PORT=$((PORT - 1))
# Those that dr-test gives its servers, for 2 GiB of memory.
readonly SETTINGS="-c fsync=off -c full_page_writes=off -c wal_level=minimal -c max_wal_senders=0 -c autovacuum=off -c shared_buffers=1GB -c maintenance_work_mem=512MB -c max_wal_size=16GB"
export DRPORT=$((PORT - 2)) IMAGE=$POSTGRES_IMAGE FILES=$work/files

as_postgres() { if [ "$(id -u)" = 0 ]; then su postgres -s /bin/sh -c "$*"; else sh -c "$*"; fi; }

cleanup() {
	local stop=immediate
	[ -z "${WORK:-}" ] || stop=fast # its data are needed again
	[ -z "${kept:-}" ] || docker rm -f -v "$kept" >/dev/null
	as_postgres "$bin/pg_ctl -D $work/pg -m $stop stop" >/dev/null 2>&1 || true
	[ -z "${s3pid:-}" ] || kill "$s3pid" 2>/dev/null || true
	[ -n "${WORK:-}" ] || rm -rf "$work"
}
trap cleanup EXIT

start_servers() {
	chmod 755 "$work"
	mkdir -p "$work/pg" "$FILES"
	[ "$(id -u)" != 0 ] || chown postgres "$work/pg"
	[ -e "$work/pg/PG_VERSION" ] || as_postgres "$bin/initdb -D $work/pg -A trust -U postgres -E UTF8 --locale=C.UTF-8" >/dev/null
	as_postgres "$bin/pg_ctl -D $work/pg -w -l $work/pg/log -o '-p $PORT -k /tmp -c listen_addresses=127.0.0.1 $SETTINGS' start" >/dev/null
	start_bucket
	export PGHOST=/tmp PGPORT=$PORT PGUSER=postgres DATABASE_URL="postgres://postgres@127.0.0.1:$PORT/src?sslmode=disable"
}

# SEED_MB is what the sandbox's seed makes, in megabytes of SQL.
readonly SEED_MB=111

# fill writes the SQL that makes the data.
fill() {
	if [ "$SHAPE" != platform ]; then
		cat "bench/data/$SHAPE.sql"
		return
	fi
	cat deploy/sandbox/initdb/10-schema.sql
	awk -v size="$SIZE" -v seed=$SEED_MB '/^\\set (users|trades|events) / { $3 = int($3 * size / seed) } { print }' deploy/sandbox/initdb/20-seed.sql
}

# measured runs one contender, with an empty target where it needs one.
measured() {
	local name=$1 target=
	case $name in
	pg_restore-j4-kept) keep_server && target="$KEPT 5432" ;;
	*restore*) target="/tmp $PORT" ;;
	escrowctl-backup) rm -rf "$work/backups" "$work"/s3/bench-bucket/* ;;
	escrowctl-backup-*) rm -rf "${FILES:?}/$name" "$work/s3/bench-bucket/$name" ;;
	escrowctl-upload) rm -rf "$work"/s3/bench-bucket/* ;;
	esac
	[ -z "$target" ] || createdb -h "${target% *}" -p "${target#* }" target
	python3 bench/measure.py "$name" "$results"
	[ -z "$target" ] || dropdb -h "${target% *}" -p "${target#* }" target
}

# make_database makes the data, unless an earlier run with this WORK has.
make_database() {
	local made
	made=$(psql -AtX -d postgres -c "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'src'")
	dropdb --if-exists target 2>/dev/null # of a run that was cut short
	[ "$made" != "$SHAPE-$SIZE" ] || return 0
	say "making the database $SHAPE of $SIZE MB"
	dropdb --if-exists src 2>/dev/null
	rm -rf "${FILES:?}"/* "$work/backups" "$work"/s3/bench-bucket/*
	createdb src
	fill | psql -qX -v ON_ERROR_STOP=1 -v mb="$SIZE" src >/dev/null
	psql -qX src -c CHECKPOINT -c "COMMENT ON DATABASE src IS '$SHAPE-$SIZE'"
}

# head_row says what was measured on.
head_row() {
	printf '# %s cores, %s GiB of memory; PostgreSQL %s with the settings of a server for a restore; %s\n' "$(nproc)" \
		"$(awk '/MemTotal/ { printf "%.0f", $2 / 2^20 }' /proc/meminfo)" "$(psql -AtX -d postgres -c 'SHOW server_version')" "$(go env GOVERSION)"
}

# bench_one measures one database.
bench_one() {
	make_database
	results=$RESULTS/$SHAPE-$SIZE.txt
	if [ -n "$MORE" ] && [ -s "$results" ]; then
		[ "$(head -n 1 "$results")" = "$(head_row)" ] || die "$results was measured on something else: $(head -n 1 "$results")"
	else
		head_row >"$results"
		echo '# name, seconds, CPU seconds of the machine, of the client, peak RSS in KB, bytes written' >>"$results"
	fi
	for round in $(seq "$RUNS"); do
		say "$SHAPE of $SIZE MB, round $round of $RUNS"
		for name in $CONTENDERS; do measured "$name"; done
		[ "$RESULTS" != bench/results ] || python3 bench/report.py bench/results/*-*.txt >bench/RESULTS.md
	done
	[ -z "${kept:-}" ] || docker rm -f -v "$kept" >/dev/null
	kept=
}

need_docker
make -s build
docker image inspect "$POSTGRES_IMAGE" >/dev/null 2>&1 || scripts/images.sh postgres
start_servers
for SIZE in $SIZES; do
	for SHAPE in $SHAPES; do bench_one; done
done
say "wrote $RESULTS"
