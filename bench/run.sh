#!/usr/bin/env bash
# Measures escrowctl beside other ways, all on one server and in turn, and
# writes bench/results/SHAPE-SIZE.txt and, of all of these, bench/RESULTS.md.
#
#   SHAPE       platform (default): the sandbox's schema with more rows; or
#               dominant, json, middling, small, random: see data/
#   SIZE        megabytes of SQL, about (1240); platform needs 111 at least
#   RUNS        rounds (5)
#   CONTENDERS  of contenders.sh, in order (all); later ones need what earlier
#               ones wrote
#   WORK        directory (a temporary one); needs 5 GB for each of SQL
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

SHAPE=${SHAPE:-platform} SIZE=${SIZE:-1240} RUNS=${RUNS:-5}
CONTENDERS=${CONTENDERS:-floor copy script-backup pigz zstd pg_dump-Fc pg_dump-Fd-j2 escrowctl-backup gzip-t escrowctl-verify
	script-restore pg_restore-j4 escrowctl-restore script-dr-test escrowctl-dr-test pg_restore-j4-kept}
work=${WORK:-$(mktemp -d)}
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
readonly PORT=5999 S3PORT=5998
# Those that dr-test gives its servers, for 2 GiB of memory.
readonly SETTINGS="-c fsync=off -c full_page_writes=off -c wal_level=minimal -c max_wal_senders=0 -c autovacuum=off -c shared_buffers=1GB -c maintenance_work_mem=512MB -c max_wal_size=16GB"
export DRPORT=5997 IMAGE=$POSTGRES_IMAGE FILES=$work/files

as_postgres() { if [ "$(id -u)" = 0 ]; then su postgres -s /bin/sh -c "$*"; else sh -c "$*"; fi; }

cleanup() {
	[ -z "${kept:-}" ] || docker rm -f -v "$kept" >/dev/null
	as_postgres "$bin/pg_ctl -D $work/pg -m immediate stop" >/dev/null 2>&1 || true
	[ -z "${s3pid:-}" ] || kill "$s3pid" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

start_servers() {
	chmod 755 "$work"
	mkdir -p "$work/pg" "$work/s3/bench-bucket" "$FILES"
	[ "$(id -u)" != 0 ] || chown postgres "$work/pg"
	as_postgres "$bin/initdb -D $work/pg -A trust -U postgres -E UTF8 --locale=C.UTF-8" >/dev/null
	as_postgres "$bin/pg_ctl -D $work/pg -w -l $work/pg/log -o '-p $PORT -k /tmp -c listen_addresses=127.0.0.1 $SETTINGS' start" >/dev/null
	ROOT_ACCESS_KEY=bench ROOT_SECRET_KEY=bench-secret "$(tool_path versitygw)" --port 127.0.0.1:$S3PORT posix "$work/s3" >"$work/s3.log" 2>&1 &
	s3pid=$!
	export PGHOST=/tmp PGPORT=$PORT PGUSER=postgres DATABASE_URL="postgres://postgres@127.0.0.1:$PORT/src?sslmode=disable"
	export AWS_ACCESS_KEY_ID=bench AWS_SECRET_ACCESS_KEY=bench-secret AWS_REGION=us-east-1 AWS_ENDPOINT_URL_S3=http://127.0.0.1:$S3PORT
	export ESCROWCTL_CONFIG=$work/escrowctl.yaml ESCROWCTL_STATE_DIR=$work/state BACKUP_DIR=$work/backups S3_BUCKET=s3://bench-bucket
	printf 'env: staging\ns3: {storage_class: ""}\nreport: {api_metrics: off}\n' >"$ESCROWCTL_CONFIG"
	chmod 600 "$ESCROWCTL_CONFIG"
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

# keep_server leaves a server of dr-test's, for pg_restore to be measured in.
keep_server() {
	[ -z "${kept:-}" ] || return 0
	kept=$(bin/escrowctl -q --json dr-test latest --from local --engine docker --image "$IMAGE" --keep | python3 -c 'import json, re, sys; print(re.search(r"escrowctl-dr-test-\S+", json.load(sys.stdin)["psql"])[0])')
	KEPT=/proc/$(docker inspect -f '{{.State.Pid}}' "$kept")/root/escrowctl
	export KEPT
	PGHOST=$KEPT PGPORT=5432 dropdb restored
}

# measured runs one contender, with an empty target where it needs one.
measured() {
	local name=$1 target=
	case $name in
	pg_restore-j4-kept) keep_server && target="$KEPT 5432" ;;
	*restore*) target="/tmp $PORT" ;;
	escrowctl-backup) rm -rf "$work/backups" "$work"/s3/bench-bucket/* ;;
	esac
	[ -z "$target" ] || createdb -h "${target% *}" -p "${target#* }" target
	python3 bench/measure.py "$name" "$results"
	[ -z "$target" ] || dropdb -h "${target% *}" -p "${target#* }" target
}

need_docker
make -s build
scripts/images.sh postgres
start_servers
say "making the database $SHAPE of $SIZE MB"
createdb src
fill | psql -qX -v ON_ERROR_STOP=1 -v mb="$SIZE" src >/dev/null
psql -qX src -c CHECKPOINT
mkdir -p bench/results
results=bench/results/$SHAPE-$SIZE.txt
cat >"$results" <<-END
	# $(nproc) cores, $(awk '/MemTotal/ { printf "%.0f", $2 / 2^20 }' /proc/meminfo) GiB of memory; PostgreSQL $(psql -AtX -d postgres -c 'SHOW server_version') with the settings of a server for a restore; $(go env GOVERSION)
	# name, seconds, CPU seconds of the machine, of the client, peak RSS in KB, bytes written
END
for round in $(seq "$RUNS"); do
	say "round $round of $RUNS"
	for name in $CONTENDERS; do measured "$name"; done
done
python3 bench/report.py bench/results/*.txt >bench/RESULTS.md
say "wrote $results and bench/RESULTS.md"
