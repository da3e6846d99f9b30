#!/usr/bin/env bash
# Measures escrowctl beside the shell script's way, on one server, alternating,
# and writes bench/RESULTS.md. RUNS (3) runs of each; the 5 GB case takes
# BIG=1. Needs about 20 GB of free disk in WORK (a temporary directory).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

RUNS=${RUNS:-3} BIG=${BIG:-1}
work=${WORK:-$(mktemp -d)}
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
readonly PORT=5999 S3PORT=5998 DRPORT=5997
readonly TUNED="-c fsync=off -c full_page_writes=off -c wal_level=minimal -c max_wal_senders=0 -c autovacuum=off -c shared_buffers=1GB -c maintenance_work_mem=512MB -c max_wal_size=16GB"

as_postgres() { if [ "$(id -u)" = 0 ]; then su postgres -s /bin/sh -c "$*"; else sh -c "$*"; fi; }

cleanup() {
	as_postgres "$bin/pg_ctl -D $work/pg -m immediate stop" >/dev/null 2>&1 || true
	[ -z "${s3pid:-}" ] || kill "$s3pid" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

start_servers() {
	chmod 755 "$work"
	mkdir -p "$work/pg" "$work/s3/bench-bucket" "$work/files"
	[ "$(id -u)" != 0 ] || chown postgres "$work/pg"
	as_postgres "$bin/initdb -D $work/pg -A trust -U postgres" >/dev/null
	as_postgres "$bin/pg_ctl -D $work/pg -w -l $work/pg/log -o '-p $PORT -k /tmp -c listen_addresses=127.0.0.1 $TUNED' start" >/dev/null
	gateway=$(tool_path versitygw)
	ROOT_ACCESS_KEY=bench ROOT_SECRET_KEY=bench-secret "$gateway" --port 127.0.0.1:$S3PORT posix "$work/s3" >"$work/s3.log" 2>&1 &
	s3pid=$!
	export PGHOST=/tmp PGPORT=$PORT PGUSER=postgres
	export AWS_ACCESS_KEY_ID=bench AWS_SECRET_ACCESS_KEY=bench-secret AWS_REGION=us-east-1 AWS_ENDPOINT_URL_S3=http://127.0.0.1:$S3PORT
	export ESCROWCTL_CONFIG=$work/escrowctl.yaml ESCROWCTL_STATE_DIR=$work/state BACKUP_DIR=$work/backups S3_BUCKET=s3://bench-bucket
	printf 'env: staging\ns3: {storage_class: ""}\nreport: {api_metrics: off}\n' >"$ESCROWCTL_CONFIG"
	chmod 600 "$ESCROWCTL_CONFIG"
}

# make_db NAME: dumps to about 1.1 GB of SQL.
make_db() {
	createdb "$1"
	psql -qX -v ON_ERROR_STOP=1 "$1" <bench/data.sql
}

# timed NAME COMMAND...: appends "NAME SECONDS KB" to the measurements.
timed() {
	local name=$1
	shift
	python3 - "$name" "$work/times" "$@" <<-'PY'
		import resource, subprocess, sys, time
		name, out, cmd = sys.argv[1], sys.argv[2], sys.argv[3:]
		start = time.monotonic()
		code = subprocess.call(cmd, stdout=subprocess.DEVNULL)
		took = time.monotonic() - start
		if code != 0:
		    sys.exit(f"{name}: exit {code}")
		rss = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
		open(out, "a").write(f"{name} {took:.2f} {rss}\n")
		print(f"  {name}: {took:.2f} s", file=sys.stderr)
	PY
}

measure() {
	export DATABASE_URL="postgres://postgres@127.0.0.1:$PORT/src?sslmode=disable"
	for _ in $(seq "$RUNS"); do
		timed floor sh -c 'pg_dump src >/dev/null'
		timed script-backup sh -c "pg_dump src | gzip >$work/files/script.sql.gz && curl -sf -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' --aws-sigv4 aws:amz:us-east-1:s3 --user bench:bench-secret -T $work/files/script.sql.gz $AWS_ENDPOINT_URL_S3/bench-bucket/script.sql.gz"
		timed escrowctl-backup bin/escrowctl -q backup
		timed gzip-t gzip -t "$work/files/script.sql.gz"
		timed escrowctl-verify bin/escrowctl -q backup verify latest
		createdb r1
		timed script-restore sh -c "gunzip -c $work/files/script.sql.gz | psql -qX -v ON_ERROR_STOP=1 r1"
		dropdb r1
		createdb r2
		timed escrowctl-restore bin/escrowctl -q backup restore latest --to r2
		dropdb r2
		timed script-dr-test bench/script-dr-test.sh "$POSTGRES_IMAGE" "$work/files/script.sql.gz" $DRPORT
		timed escrowctl-dr-test bin/escrowctl -q dr-test latest --from local --engine docker --image "$POSTGRES_IMAGE"
	done
	stat -c 'script %s' "$work/files/script.sql.gz" >"$work/sizes"
	stat -c 'escrowctl %s' "$(ls "$work"/backups/*.sql.gz | tail -1)" >>"$work/sizes"
	if [ "$BIG" = 1 ]; then
		rm -rf "$work/backups" "$work"/s3/bench-bucket/* "$work/files"
		for i in 1 2 3 4 5; do psql -qX -d src -c "CREATE TABLE events_$i AS TABLE events"; done
		timed escrowctl-backup-5GB bin/escrowctl -q backup
	fi
}

need_docker
make -s build
scripts/images.sh postgres
start_servers
say "making the database"
make_db src
say "measuring, $RUNS runs of each"
measure
python3 bench/results.py "$work/times" "$work/sizes" "$(psql -AtX -d postgres -c 'SHOW server_version')" >bench/RESULTS.md
cat bench/RESULTS.md
