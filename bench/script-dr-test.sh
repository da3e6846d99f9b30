#!/usr/bin/env bash
# The old script's recovery test, without its faults that cost others: a
# container with default settings, gunzip into psql, three queries.
#
#   script-dr-test.sh IMAGE FILE PORT
set -euo pipefail
image=$1 file=$2 port=$3
id=$(docker run -d --rm -p "127.0.0.1:$port:5432" -e POSTGRES_PASSWORD=testpass -e POSTGRES_DB=test "$image")
trap 'docker rm -f -v "$id" >/dev/null' EXIT
export PGHOST=127.0.0.1 PGPORT=$port PGUSER=postgres PGPASSWORD=testpass PGDATABASE=test
# The image's first server listens on its socket only.
until pg_isready -q; do sleep 1; done
gunzip -c "$file" | psql -qX >/dev/null
psql -qXAt -c 'SELECT count(*) FROM trades'
psql -qXAt -c 'SELECT count(*) FROM events'
psql -qXAt -c "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
