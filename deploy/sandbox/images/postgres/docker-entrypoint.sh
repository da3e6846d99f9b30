#!/bin/bash
# The official image's entrypoint in miniature. It understands POSTGRES_USER,
# POSTGRES_PASSWORD, POSTGRES_DB, POSTGRES_INITDB_ARGS, PGDATA and
# /docker-entrypoint-initdb.d (*.sql, *.sql.gz, *.sh). As there, the first
# start runs a temporary server that listens on the socket only.
set -euo pipefail

if [ "${1:-}" != postgres ]; then
	exec "$@"
fi
if [ "$(id -u)" -eq 0 ]; then
	install -d -o postgres -g postgres -m 0700 "$PGDATA"
	find "$PGDATA" \! -user postgres -exec chown postgres:postgres {} +
	exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

user=${POSTGRES_USER:-postgres}
db=${POSTGRES_DB:-$user}

create_cluster() {
	: "${POSTGRES_PASSWORD:?must be set for the first start}"
	# shellcheck disable=SC2086 # several arguments in one variable, as in the official image
	initdb --username="$user" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") \
		--auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 \
		${POSTGRES_INITDB_ARGS:-} >/dev/null
	printf "listen_addresses = '*'\n" >>"$PGDATA/postgresql.conf"
	printf 'host all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
}

run_sql() { psql -X -q -v ON_ERROR_STOP=1 --username "$user" --no-password "$@"; }

run_init_scripts() {
	local file
	for file in /docker-entrypoint-initdb.d/*; do
		[ -e "$file" ] && echo "running $file"
		case $file in
		*.sql) run_sql --dbname "$db" -f "$file" ;;
		*.sql.gz) gunzip -c "$file" | run_sql --dbname "$db" ;;
		*.sh) . "$file" ;;
		esac
	done
}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
	create_cluster
	pg_ctl -D "$PGDATA" -w start -o "-c listen_addresses='' ${*:2}" >/dev/null
	if [ "$db" != postgres ]; then
		run_sql --dbname postgres --set db="$db" <<<'CREATE DATABASE :"db";'
	fi
	run_init_scripts
	pg_ctl -D "$PGDATA" -m fast -w stop >/dev/null
	echo "first start done"
fi
exec "$@"
