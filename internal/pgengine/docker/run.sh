# Makes a cluster and runs its server, as long as the caller's connection to
# this script's standard input stands and its time is not up.
#
#   sh -c run.sh NAME DATA SECONDS KEEP HOME RUN SETTING...
data=$1 seconds=$2 keep=$3 home=$4
printf '%s\n' "$5" >"$home/run"
shift 5
for dir in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin; do
	[ -x "$dir/initdb" ] && PATH=$dir:$PATH
done
command -v initdb >/dev/null || {
	echo "no initdb in this image: it is not one of PostgreSQL's" >&2
	exit 69
}
make() {
	mkdir -p "$data" && chmod 700 "$data" &&
		initdb -D "$data" -U postgres -A trust -E UTF8 --locale="$1" --lc-collate=C --no-sync >"$home/initdb.out" 2>&1
}
make C.UTF-8 || { rm -rf "$data"; make C; } || {
	cat "$home/initdb.out" >&2
	exit 70
}
exec 3<&0 </dev/null
postgres -D "$data" -k "$home" "$@" 3<&- &
server=$!
# Process 1 has no default action for signals.
trap 'kill -QUIT "$server"' TERM INT QUIT
(
	sleep "$seconds"
	kill -QUIT "$server"
) 3<&- >/dev/null 2>&1 &
if [ -z "$keep" ]; then
	(
		# Nobody writes to it: read returns when the caller is gone.
		read -r _ <&3
		kill -QUIT "$server"
	) >/dev/null 2>&1 &
fi
exec 3<&-
wait "$server"
code=$?
# A trapped signal ends wait too.
kill -0 "$server" 2>/dev/null && wait "$server"
exit "$code"
