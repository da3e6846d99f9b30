#!/usr/bin/env bash
# Measures what bench/model.py models, small and with cores and bandwidth
# limited, and writes bench/results/model.txt, row by row, and the generated part
# of docs/scale.md. About six minutes on two cores that have nothing else to do.
#
#   SIZE     megabytes of SQL, about (250)
#   RUNS     of each case; the median counts (3)
#   PORT     of the bucket; the next one is its limiter's (5990)
#   RESULTS  where the rows go (bench/results/model.txt)
#   DOC      what is written from them (docs/scale.md)
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. bench/lib.sh

SIZE=${SIZE:-250} RUNS=${RUNS:-3} RESULTS=${RESULTS:-bench/results/model.txt} DOC=${DOC:-docs/scale.md}
work=$(mktemp -d)
readonly S3PORT=${PORT:-5990}
export IMAGE=$POSTGRES_IMAGE FILES=$work/files WORK=$work SIZE RUNS S3PORT
mkdir -p "$FILES" bench/results

cleanup() {
	[ -z "${kept:-}" ] || docker rm -f -v "$kept" >/dev/null
	[ -z "${source:-}" ] || docker rm -f -v "$source" >/dev/null
	[ -z "${s3pid:-}" ] || kill "$s3pid" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

# start_source starts the server that is dumped, in a container, so that its cores
# can be limited.
start_source() {
	source=$(docker run -d --label escrowctl.bench=model -e POSTGRES_PASSWORD=bench -e POSTGRES_DB=src "$IMAGE" \
		postgres -c fsync=off -c autovacuum=off -c shared_buffers=512MB -c maintenance_work_mem=256MB -c max_wal_size=8GB)
	export PGHOST PGUSER=postgres PGPASSWORD=bench SOURCE=$source
	PGHOST=$(docker inspect -f '{{.NetworkSettings.IPAddress}}' "$source")
	for _ in $(seq 100); do
		# The first start listens on its socket only.
		if pg_isready -q; then return; fi
		sleep 0.3
	done
	die "the server in $source does not answer"
}

need_docker
make -s build
docker image inspect "$POSTGRES_IMAGE" >/dev/null 2>&1 || scripts/images.sh postgres
start_source
start_bucket
for db in src tiny; do
	[ "$db" = src ] || createdb tiny
	mb=$SIZE
	[ "$db" = src ] || mb=1
	say "making the database $db of $mb MB"
	psql -qX -v ON_ERROR_STOP=1 -v mb="$mb" "$db" <bench/data/dominant.sql >/dev/null
	psql -qX "$db" -c CHECKPOINT
done
printf '# %s cores, %s GiB of memory; PostgreSQL %s; %s; the shape dominant\n' "$(nproc)" "$(awk '/MemTotal/ { printf "%.0f", $2 / 2^20 }' /proc/meminfo)" \
	"$(psql -AtX src -c 'SHOW server_version')" "$(go env GOVERSION)" >"$RESULTS"
python3 bench/modelrun.py dump "$RESULTS"
pg_dump -Fd -j2 -f "$FILES/fd" src
kept=
keep_server
docker stop -t 5 "$source" >/dev/null # restores have the machine to themselves
unset PGPASSWORD
PGHOST=$KEPT PGPORT=5432 python3 bench/modelrun.py restore "$RESULTS"
python3 bench/model.py "$RESULTS" "$DOC"
say "wrote $RESULTS and $DOC"
